//! Received bytes of an incomplete packet.

use std::os::fd::OwnedFd;

use super::fault::Fault;
use crate::machine::network;

/// The front of a packet whose rest has not come.
#[derive(Debug, Default)]
pub struct Inbox(Vec<u8>);

impl Inbox {
    /// Reads once into `buffer`, behind what was kept, and says how many bytes these are together.
    /// `None`: nothing has come.
    pub fn fill(&mut self, socket: &OwnedFd, buffer: &mut [u8]) -> Result<Option<usize>, Fault> {
        let kept = self.0.len();
        if kept >= buffer.len() {
            return Err(Fault::Unexpected("a packet larger than any that was sent"));
        }
        buffer[..kept].copy_from_slice(&self.0);
        match network::receive(socket, &mut buffer[kept..])? {
            None => Ok(None),
            Some(0) => Err(Fault::Closed),
            Some(len) => {
                self.0.clear();
                Ok(Some(kept + len))
            }
        }
    }

    /// Keeps what is not a whole packet yet.
    pub fn keep(&mut self, rest: &[u8]) {
        self.0.extend_from_slice(rest);
    }

    pub fn kept_len(&self) -> usize {
        self.0.len()
    }
}
