//! The Will: a message that is published when a connection ends without a normal DISCONNECT.

use std::rc::Rc;

use super::message::CountedMessage;
use crate::base::time::{Moment, Span};

/// A Will Message as CONNECT gave it.
#[derive(Clone, Debug)]
pub struct Will {
    pub message: Rc<CountedMessage>,
    /// How long after the connection's end it is published. [MQTT-3.1.3-9]
    pub delay: Span,
    /// The Message Expiry Interval, which begins when the Will is published.
    pub message_expiry: Option<Span>,
    /// When it is published; set when the client has disconnected.
    pub due_at: Option<Moment>,
}
