//! SUBACK and UNSUBACK: a Reason Code for each Topic Filter, and one Reason String for all.

use super::reason::Reason;
use crate::mqtt::{Packet, PacketId, ReasonCode, ReasonProperties, Suback, Unsuback, Version};

/// The answer to a SUBSCRIBE or UNSUBSCRIBE, filter by filter.
#[derive(Debug)]
pub(super) struct FilterAnswers {
    version: Version,
    reason_codes: Vec<u8>,
    /// The reason of the first refusal: there is one Reason String for all filters.
    reason: Option<Reason>,
}

impl FilterAnswers {
    /// No answers yet, with memory for `filters` of them.
    pub(super) fn new(version: Version, filters: usize) -> FilterAnswers {
        FilterAnswers { version, reason_codes: Vec::with_capacity(filters), reason: None }
    }

    /// Adds the answer for the next filter.
    pub(super) fn push(&mut self, outcome: Result<ReasonCode, Reason>) {
        self.reason = self.reason.or_else(|| outcome.err());
        let reason_code = outcome.unwrap_or_else(Reason::code);
        // Before 5.0 there is one failure only. [MQTT-3.9.3-2@3.1.1]
        let is_plain = reason_code.is_error() && self.version < Version::V5;
        self.reason_codes.push(if is_plain { 0x80 } else { reason_code.value() });
    }

    pub(super) fn reason(&self) -> Option<Reason> {
        self.reason
    }

    pub(super) fn suback(&self, packet_id: PacketId) -> Packet<'_> {
        let (properties, reason_codes) = (ReasonProperties::default(), &self.reason_codes[..]);
        Packet::Suback(Suback { packet_id, properties, reason_codes })
    }

    pub(super) fn unsuback(&self, packet_id: PacketId) -> Packet<'_> {
        let (properties, reason_codes) = (ReasonProperties::default(), &self.reason_codes[..]);
        Packet::Unsuback(Unsuback { packet_id, properties, reason_codes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(version: Version) -> (Vec<u8>, Option<Reason>) {
        let mut answers = FilterAnswers::new(version, 3);
        answers.push(Ok(ReasonCode::GrantedQos1));
        answers.push(Err(Reason::FilterTooDeep));
        answers.push(Err(Reason::SubscriptionsFull));
        let Packet::Suback(suback) = answers.suback(PacketId::MIN) else { panic!("a SUBACK") };
        (suback.reason_codes.to_vec(), answers.reason())
    }

    #[test]
    fn each_filter_has_its_code_and_the_first_refusal_its_words() {
        let reason = Some(Reason::FilterTooDeep);
        assert_eq!(codes(Version::V5), (vec![1, 0x8F, 0x97], reason));
        assert_eq!(codes(Version::V311), (vec![1, 0x80, 0x80], reason));
    }
}
