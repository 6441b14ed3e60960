//! Why a connection, or the whole run, ended.

use std::io;

use ringmq::mqtt::{DecodeError, ReasonCode};
use thiserror::Error;

/// What the broker or the system did that a healthy run does not see.
#[derive(Debug, Error)]
pub enum Fault {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the broker sent what cannot be read")]
    Decode(#[from] DecodeError),
    #[error("the broker refused the connection: {0:?}")]
    ConnectionRefused(ReasonCode),
    #[error("the broker refused the subscription with {0:#04x}")]
    SubscriptionRefused(u8),
    #[error("the broker grants QoS {0} at most")]
    QosNotGranted(u8),
    #[error("the broker takes packets of {0} bytes at most")]
    PacketTooLarge(u32),
    #[error("the broker refused a message: {0:?}")]
    MessageRefused(ReasonCode),
    #[error("the broker disconnected: {0:?}")]
    Disconnected(ReasonCode),
    #[error("the broker closed the connection")]
    Closed,
    #[error("{0} sessions stay at the broker")]
    SessionsLeft(usize),
    #[error("unexpected: {0}")]
    Unexpected(&'static str),
}

impl From<rustix::io::Errno> for Fault {
    fn from(errno: rustix::io::Errno) -> Fault {
        Fault::Io(errno.into())
    }
}
