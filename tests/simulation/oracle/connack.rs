//! CONNACK: what a client is told must be what holds.

use std::num::{NonZeroU16, NonZeroU32};

use ringmq::mqtt::{self, ConnackProperties, Connect, Packet, ReasonCode, Version};

use super::{Oracle, Seen, packets};
use crate::violation::{Violation, ensure};

/// A CONNACK, as far as it decides what follows.
pub(super) struct Answer {
    pub(super) reason_code: ReasonCode,
    pub(super) present: bool,
    pub(super) assigned: Option<String>,
}

impl Oracle {
    /// What CONNACK says, if there is one.
    pub(super) fn connack_of(
        &self,
        seen: &Seen<'_>,
        link: usize,
        connect: &Connect<'_>,
    ) -> Result<Option<Answer>, Violation> {
        let mut answer = None;
        for (_, bytes) in seen.effects.sent().filter(|(to, _)| *to == link) {
            packets(bytes, connect.version, |packet, len| {
                let Ok(Packet::Connack(connack)) = packet else { return Ok(()) };
                if connack.reason_code == ReasonCode::Success {
                    self.check_terms(connect, &connack.properties)?;
                }
                let most = connect.properties.maximum_packet_size.map_or(u32::MAX, NonZeroU32::get);
                ensure(len <= most as usize, "no packet is larger than the client takes", || {
                    format!("link {link}: {connack:?}")
                })?;
                let mqtt::Connack { reason_code, session_present: present, .. } = connack;
                let assigned = connack.properties.assigned_client_identifier.map(str::to_owned);
                answer.get_or_insert(Answer { reason_code, present, assigned });
                Ok(())
            })?;
        }
        Ok(answer)
    }

    fn check_terms(
        &self,
        connect: &Connect<'_>,
        told: &ConnackProperties<'_>,
    ) -> Result<(), Violation> {
        if connect.version < Version::V5 {
            return Ok(());
        }
        let (limits, offer) = (&self.limits, &self.offer);
        let asked = connect.properties.session_expiry_interval.unwrap_or(0);
        let expiry = asked.min(limits.session_expiry_max);
        let keep_alive = self.keep_alive(connect);
        let client_id = told.assigned_client_identifier.unwrap_or(connect.client_id);
        let response = offer.response_prefix.as_ref().map(|root| format!("{root}/{client_id}"));
        let wanted = connect.properties.request_response_information;
        let mut terms = ConnackProperties {
            session_expiry_interval: (expiry != asked).then_some(expiry),
            receive_maximum: NonZeroU16::new(limits.receive_maximum),
            maximum_qos: offer.maximum_qos,
            retain_available: offer.retain,
            maximum_packet_size: u32::try_from(limits.packet_size_max)
                .ok()
                .and_then(NonZeroU32::new),
            assigned_client_identifier: told
                .assigned_client_identifier
                .filter(|_| connect.client_id.is_empty()),
            topic_alias_maximum: limits.topic_alias_maximum,
            wildcard_subscription_available: offer.wildcard_subscriptions,
            subscription_identifiers_available: offer.subscription_identifiers,
            shared_subscription_available: offer.shared_subscriptions,
            server_keep_alive: (keep_alive != connect.keep_alive).then_some(keep_alive),
            response_information: response.as_deref().filter(|_| wanted),
            ..ConnackProperties::default()
        };
        if connect.properties.maximum_packet_size.is_some_and(|it| it.get() < ROOMY) {
            terms.response_information = told.response_information;
        }
        ensure(*told == terms, "CONNACK says what holds", || format!("{told:?}, not {terms:?}"))
    }

    /// The Keep Alive that a client is held to. [MQTT-3.2.2-21]
    pub(super) fn keep_alive(&self, connect: &Connect<'_>) -> u16 {
        let asked = connect.keep_alive;
        let most = self.offer.keep_alive_max.filter(|_| connect.version == Version::V5);
        most.map_or(asked, |most| if asked == 0 { most.get() } else { asked.min(most.get()) })
    }
}

/// A Maximum Packet Size with which the Response Information is certainly sent.
const ROOMY: u32 = 200;
