//! What has arrived on a connection is handled before another connection takes its session over.

use std::collections::VecDeque;

use ringmq::{base::time::Moment, mqtt};

use super::{Oracle, Seen};
use crate::{
    precede::FOLLOW_WITHIN,
    violation::{Violation, ensure},
};

/// What has arrived on one connection.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// Bytes that the shard has not taken, and which arrival of the run brought them.
    untaken: VecDeque<(u64, Vec<u8>)>,
    /// The arrival that completed the first packet.
    first_packet: Option<u64>,
    /// Since when the connection waits for an earlier one.
    follows_since: Option<Moment>,
}

impl Arrivals {
    fn add(&mut self, arrival: u64, bytes: &[u8]) {
        self.untaken.push_back((arrival, bytes.to_vec()));
        if self.first_packet.is_none() && self.has_packet_until(arrival) {
            self.first_packet = Some(arrival);
        }
    }

    fn take(&mut self, mut count: usize) {
        while let Some((_, bytes)) = self.untaken.front_mut() {
            let taken = count.min(bytes.len());
            bytes.drain(..taken);
            count -= taken;
            if !bytes.is_empty() {
                return;
            }
            self.untaken.pop_front();
        }
    }

    /// Whether the untaken bytes up to this arrival contain something that a shard handles.
    fn has_packet_until(&self, arrival: u64) -> bool {
        let before = self.untaken.iter().take_while(|(at, _)| *at <= arrival);
        let bytes: Vec<u8> = before.flat_map(|(_, bytes)| bytes).copied().collect();
        !matches!(mqtt::frame::split(&bytes, 1 << 28), Ok(None))
    }
}

impl Oracle {
    /// Bytes of a client have arrived at the broker.
    pub(crate) fn arrived(&mut self, link: usize, bytes: &[u8]) {
        self.arrivals += 1;
        if !self.conns[link].closed {
            self.conns[link].arrivals.add(self.arrivals, bytes);
        }
    }

    /// A client has reset its connection. The network loses what was not taken.
    pub(crate) fn reset(&mut self, link: usize) {
        self.conns[link].arrivals.untaken.clear();
    }

    pub(super) fn note_arrivals(&mut self, seen: &Seen<'_>) {
        if let super::Event::Bytes { link, bytes } = seen.event {
            self.conns[link].arrivals.take(bytes.len());
        }
        for link in seen.effects.follows() {
            self.conns[link].arrivals.follows_since.get_or_insert(seen.now);
        }
    }

    /// What has arrived before the CONNECT that takes a session over is handled before it, unless
    /// the CONNECT has waited for as long as it may. [MQTT-3.14.4-3] [MQTT-3.1.2-10]
    pub(super) fn check_precedence(
        &self,
        seen: &Seen<'_>,
        earlier: usize,
        later: usize,
    ) -> Result<(), Violation> {
        let Arrivals { first_packet, follows_since, .. } = self.conns[later].arrivals;
        let has_waited = follows_since.is_some_and(|since| since + FOLLOW_WITHIN <= seen.now);
        let is_left = first_packet
            .is_some_and(|connect| self.conns[earlier].arrivals.has_packet_until(connect));
        ensure(
            has_waited || !is_left,
            "what has arrived before a takeover is handled before it",
            || format!("link {later} overtakes bytes of link {earlier}"),
        )
    }
}
