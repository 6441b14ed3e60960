//! Bytes to bytes, before they are MQTT.
//!
//! Pure: received bytes come in, MQTT bytes and what the transport has to say go out. Knows no
//! packets and no sockets.

#![forbid(unsafe_code)]

pub mod listener;
pub mod websocket;

pub use self::listener::{Listener, Protocol};
