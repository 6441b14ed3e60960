//! The headers of proxies, with which connections to some listeners begin.

use std::net::IpAddr;

use tracing::debug;

use super::driver::Driver;
use crate::{
    base::ids::ConnectionId,
    shard::ports::{Brain, End},
    transport::{Protocol, proxy::ProxyFailure},
};

impl Driver {
    /// Takes received bytes of a header, and tells the brain who the client is once it is complete.
    /// Returns how many of the bytes belong to it, if there are more for the connection.
    pub(super) fn receive_header(
        &mut self,
        id: ConnectionId,
        bytes: &[u8],
        protocol: &Protocol,
        brain: &mut impl Brain,
    ) -> Option<usize> {
        let connection = self.present(id);
        let state_before = connection.transport.state_bytes();
        let received = connection.transport.receive_header(bytes, protocol);
        let state_now = connection.transport.state_bytes();
        self.transport_bytes = self.transport_bytes - state_before + state_now;
        self.note_kept(id);
        let (header, taken) = match received {
            Ok(received) => received?,
            Err(failure) => {
                self.refuse_header(id, failure, brain);
                return None;
            }
        };
        let connection = self.present(id);
        connection.announced = Some(Box::new(header));
        let peer = connection.peer();
        brain.handle_peer(self.now, id, peer, self);
        let goes_on = self.present(id).keeps_bytes() && taken < bytes.len();
        goes_on.then_some(taken)
    }

    /// Ends a connection from an address that is none of the listener's proxies. A peer that has
    /// gone already has no address: checks of health end like that.
    pub(super) fn refuse_stranger(
        &mut self,
        id: ConnectionId,
        peer: IpAddr,
        brain: &mut impl Brain,
    ) {
        if peer.is_unspecified() {
            self.kill_for(id, End::Broken, brain);
        } else {
            self.refuse_header(id, ProxyFailure::Stranger, brain);
        }
    }

    /// Ends a connection that has no valid header.
    fn refuse_header(&mut self, id: ConnectionId, failure: ProxyFailure, brain: &mut impl Brain) {
        debug!(slot = id.slot, reason = failure.text(), "PROXY header refused");
        self.give_up_on(id, End::ProxyRefused(failure), brain);
    }
}
