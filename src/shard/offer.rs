//! The optional features of MQTT that the broker offers. CONNACK tells a 5.0 client which ones are
//! missing; no client may use these.

use std::num::NonZeroU16;

use crate::{
    mqtt::{ConnackProperties, ProtocolError, QoS, Version},
    topic::{Subscription, TOPIC_BYTES_MAX},
};

/// The parts of MQTT that a server may leave out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the specification has that many yes and no")]
pub struct Offer {
    /// The highest QoS at which clients may publish, and at which subscriptions are granted.
    pub maximum_qos: QoS,
    pub retain: bool,
    pub wildcard_subscriptions: bool,
    pub subscription_identifiers: bool,
    pub shared_subscriptions: bool,
    /// The longest Keep Alive, in seconds; `None` for no limit.
    pub keep_alive_max: Option<NonZeroU16>,
    /// The Topic Name under which each client has a topic tree for responses, if it asks for one.
    pub response_prefix: Option<Box<str>>,
    /// Whether a payload that is declared as text is checked to be UTF-8.
    pub validates_payload_format: bool,
}

impl Default for Offer {
    /// All features.
    fn default() -> Offer {
        Offer {
            maximum_qos: QoS::ExactlyOnce,
            retain: true,
            wildcard_subscriptions: true,
            subscription_identifiers: true,
            shared_subscriptions: true,
            keep_alive_max: None,
            response_prefix: None,
            validates_payload_format: false,
        }
    }
}

impl Offer {
    /// Tells a client which features are missing. [MQTT-3.2.2-9]
    pub(super) fn announce(&self, properties: &mut ConnackProperties<'_>) {
        properties.maximum_qos = self.maximum_qos;
        properties.retain_available = self.retain;
        properties.wildcard_subscription_available = self.wildcard_subscriptions;
        properties.subscription_identifiers_available = self.subscription_identifiers;
        properties.shared_subscription_available = self.shared_subscriptions;
    }

    /// The Keep Alive that a client is held to, in seconds; 0 is none. A client before 5.0 keeps
    /// its own, because no packet can tell it another one. [MQTT-3.2.2-21] [MQTT-3.2.2-22]
    pub(super) fn keep_alive(&self, version: Version, asked: u16) -> u16 {
        match self.keep_alive_max.map(NonZeroU16::get) {
            Some(max) if version == Version::V5 && (asked == 0 || asked > max) => max,
            _ => asked,
        }
    }

    /// The Response Information for a client that asks for it: the root of a topic tree that no
    /// other Client Identifier has. [MQTT-3.1.2-28]
    pub(super) fn response_information(&self, client_id: &str) -> Option<String> {
        let prefix = self.response_prefix.as_deref()?;
        let mut root = String::with_capacity(prefix.len() + 1 + client_id.len());
        root.push_str(prefix);
        root.push('/');
        push_level(client_id, &mut root);
        // Leave room for topic levels that the client adds.
        Some(root).filter(|root| root.len() <= TOPIC_BYTES_MAX / 2)
    }

    /// Whether a client may publish like this, or leave such a Will. [MQTT-3.2.2-12]
    /// [MQTT-3.2.2-13]
    #[inline]
    pub(super) fn check_message(&self, qos: QoS, retain: bool) -> Result<(), ProtocolError> {
        if qos > self.maximum_qos {
            return Err(ProtocolError::QosNotSupported);
        }
        if retain && !self.retain {
            return Err(ProtocolError::RetainNotSupported);
        }
        Ok(())
    }

    /// Whether a client may subscribe like this, at any QoS. [MQTT-3.8.3-2@3.1.1]
    pub(super) fn check_subscription(
        &self,
        subscription: Subscription<'_>,
        has_identifier: bool,
    ) -> Result<(), ProtocolError> {
        if has_identifier && !self.subscription_identifiers {
            return Err(ProtocolError::SubscriptionIdentifiersNotSupported);
        }
        if matches!(subscription, Subscription::Shared(_)) && !self.shared_subscriptions {
            return Err(ProtocolError::SharedSubscriptionsNotSupported);
        }
        if !self.wildcard_subscriptions && subscription.filter().has_wildcard() {
            return Err(ProtocolError::WildcardSubscriptionsNotSupported);
        }
        Ok(())
    }
}

/// Writes a text as one topic level, so that different texts give different levels. Characters
/// with a meaning in a Topic Filter are escaped as in a URL.
pub(super) fn push_level(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '/' => out.push_str("%2F"),
            '+' => out.push_str("%2B"),
            '#' => out.push_str("%23"),
            '%' => out.push_str("%25"),
            other => out.push(other),
        }
    }
}
