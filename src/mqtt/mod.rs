//! The wire: bytes to packets and back, for MQTT 3.1, 3.1.1 and 5.0, in both directions.
//!
//! Decoding borrows from the received bytes and allocates nothing. A decoded packet is valid in all
//! that can be checked without other packets. Knows nothing of sessions, of the order of packets,
//! of the syntax of Topic Filters, nor of sockets.

#![forbid(unsafe_code)]

pub mod ack;
pub mod application;
pub mod auth;
pub mod connack;
pub mod connect;
pub mod delivery;
pub mod disconnect;
pub mod error;
pub mod frame;
pub mod packet;
pub mod ping;
pub mod properties;
pub mod publish;
pub mod reason_code;
pub mod suback;
pub mod subscribe;
pub mod unsuback;
pub mod unsubscribe;
pub mod version;
pub mod will;

mod primitive;
mod property;
#[cfg(test)]
mod tests;

pub use self::{
    ack::Ack,
    application::ApplicationProperties,
    auth::Auth,
    connack::{Connack, ConnackProperties},
    connect::{Connect, ConnectProperties},
    delivery::{Delivery, PacketId, QoS},
    disconnect::Disconnect,
    error::{DecodeError, Malformed, ProtocolError},
    frame::{Frame, PacketType},
    packet::Packet,
    properties::{ReasonProperties, SubscriptionIdentifiers, UserProperties},
    publish::{Blanks, Publish, PublishHead, PublishProperties},
    reason_code::ReasonCode,
    suback::Suback,
    subscribe::{RetainHandling, Subscribe, SubscribeFilters, SubscriptionOptions},
    unsuback::Unsuback,
    unsubscribe::{Unsubscribe, UnsubscribeFilters},
    version::Version,
    will::{Will, WillProperties},
};
