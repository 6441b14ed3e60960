//! CONNACK for a client that is let in: it tells the client about its session and the broker.

use std::num::{NonZeroU16, NonZeroU32};

use super::{kept_connect::KeptConnect, rules::Rules};
use crate::mqtt::{Connack, ConnackProperties, Packet, ReasonCode, Version};

/// A client that is let in.
#[derive(Debug)]
pub(super) struct Accepted<'a> {
    rules: &'a Rules,
    connect: &'a KeptConnect,
    session_present: bool,
    /// The Response Information, if the client has asked for it and the broker has any.
    response: Option<String>,
    /// The last data of an enhanced authentication.
    proof: Option<&'a [u8]>,
}

impl<'a> Accepted<'a> {
    pub(super) fn new(
        rules: &'a Rules,
        connect: &'a KeptConnect,
        session_present: bool,
        proof: Option<&'a [u8]>,
    ) -> Accepted<'a> {
        let wants_response = connect.wants_response_information;
        let response = wants_response.then(|| rules.offer.response_information(connect.named()));
        Accepted { rules, connect, session_present, response: response.flatten(), proof }
    }

    /// The CONNACK. It names every value that differs from what the client asked for.
    /// [MQTT-4.12.0-5] [MQTT-4.12.0-6]
    pub(super) fn connack(&self) -> Packet<'_> {
        let Accepted { rules, connect, .. } = *self;
        let limits = &rules.limits;
        let session_expiry = rules.session_expiry(connect);
        let asked_expiry = connect.session_expiry_interval.unwrap_or(0);
        let keep_alive = rules.keep_alive(connect);
        let packet_size_max = u32::try_from(limits.packet_size_max).unwrap_or(u32::MAX);
        let mut connack = Connack {
            session_present: self.session_present,
            reason_code: ReasonCode::Success,
            properties: ConnackProperties {
                session_expiry_interval: Some(session_expiry).filter(|&it| it != asked_expiry),
                receive_maximum: NonZeroU16::new(limits.receive_maximum),
                maximum_packet_size: NonZeroU32::new(packet_size_max),
                assigned_client_identifier: connect.assigned.as_deref(),
                topic_alias_maximum: limits.topic_alias_maximum,
                server_keep_alive: Some(keep_alive).filter(|&it| it != connect.keep_alive),
                response_information: self.response.as_deref(),
                authentication_method: connect.authentication_method.as_deref(),
                authentication_data: self.proof,
                ..ConnackProperties::default()
            },
        };
        rules.offer.announce(&mut connack.properties);
        if self.response.is_some() && !self.is_taken(connack) {
            // With it the packet is larger than the client accepts, and it is optional.
            connack.properties.response_information = None;
        }
        Packet::Connack(connack)
    }

    /// Whether the client accepts a CONNACK as large as this one. Session Present changes nothing
    /// in its size.
    pub(super) fn fits(&self) -> bool {
        let Packet::Connack(connack) = self.connack() else { return true };
        self.is_taken(connack)
    }

    fn is_taken(&self, connack: Connack<'_>) -> bool {
        self.connect.terms.write(&Packet::Connack(connack), None, &mut Vec::new())
    }
}

impl Rules {
    /// The Session Expiry Interval that holds, in seconds. Before 5.0, Clean Session 0 asks for a
    /// session that never expires.
    pub(super) fn session_expiry(&self, connect: &KeptConnect) -> u32 {
        let asked = match connect.terms.version() {
            Version::V5 => connect.session_expiry_interval.unwrap_or(0),
            _ if connect.clean_start => 0,
            _ => u32::MAX,
        };
        asked.min(self.limits.session_expiry_max)
    }

    /// The Keep Alive that the client is held to, in seconds; 0 is none.
    pub(super) fn keep_alive(&self, connect: &KeptConnect) -> u16 {
        self.offer.keep_alive(connect.terms.version(), connect.keep_alive)
    }
}
