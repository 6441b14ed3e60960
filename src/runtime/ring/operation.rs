//! What an operation in the ring is about, as the 64 bits that come back with its completion.

use crate::base::ids::ConnectionId;

/// An operation that the ring was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum Operation {
    /// Accepting connections on a listener, counted from zero.
    Accept(u16),
    Receive(ConnectionId),
    Send(ConnectionId),
    /// Listening to the bell that other threads ring.
    Bell,
    /// The moment has come at which the shard wanted to be awake.
    Alarm,
    /// Another shard has sent something.
    Wake,
    /// Cancelling another operation. Its result is ignored.
    Cancel,
}

impl Operation {
    pub(super) fn encode(self) -> u64 {
        match self {
            Operation::Accept(listener) => ACCEPT | u64::from(listener),
            Operation::Receive(connection) => RECEIVE | encode_connection(connection),
            Operation::Send(connection) => SEND | encode_connection(connection),
            Operation::Bell => BELL,
            Operation::Alarm => ALARM,
            Operation::Wake => WAKE,
            Operation::Cancel => CANCEL,
        }
    }

    pub(super) fn decode(bits: u64) -> Operation {
        match bits & KIND {
            ACCEPT => Operation::Accept((bits & 0xFFFF) as u16),
            RECEIVE => Operation::Receive(decode_connection(bits)),
            SEND => Operation::Send(decode_connection(bits)),
            BELL => Operation::Bell,
            ALARM => Operation::Alarm,
            CANCEL => Operation::Cancel,
            _ => Operation::Wake,
        }
    }
}

fn encode_connection(connection: ConnectionId) -> u64 {
    debug_assert!(connection.slot <= SLOT_MAX);
    u64::from(connection.slot) << 32 | u64::from(connection.generation)
}

fn decode_connection(bits: u64) -> ConnectionId {
    let slot = (bits >> 32) as u32 & SLOT_MAX;
    ConnectionId { slot, generation: (bits & 0xFFFF_FFFF) as u32 }
}

/// A shard holds fewer connections than a process may have descriptors, which is below 2^28.
const SLOT_MAX: u32 = (1 << 28) - 1;

const KIND: u64 = 0xF << 60;
const WAKE: u64 = 0;
const ACCEPT: u64 = 1 << 60;
const RECEIVE: u64 = 2 << 60;
const SEND: u64 = 3 << 60;
const BELL: u64 = 4 << 60;
const ALARM: u64 = 5 << 60;
const CANCEL: u64 = 6 << 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_comes_back_as_it_was() {
        let connection = ConnectionId { slot: SLOT_MAX, generation: u32::MAX };
        for operation in [
            Operation::Accept(u16::MAX),
            Operation::Receive(connection),
            Operation::Send(ConnectionId { slot: 0, generation: 1 }),
            Operation::Bell,
            Operation::Alarm,
            Operation::Wake,
            Operation::Cancel,
        ] {
            assert_eq!(Operation::decode(operation.encode()), operation);
        }
    }
}
