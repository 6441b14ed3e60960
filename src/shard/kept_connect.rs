//! A CONNECT that is kept until it is answered.

use std::{num::NonZeroU16, rc::Rc};

use super::budget::{Budget, BudgetShare};
use crate::{
    access::{Principal, topics},
    base::{byte_count::ByteCount, time::Span},
    mqtt::{self, Connect, DecodeError, Frame, Version, connect::peek_version},
    session::{
        message::{CountedMessage, MessageView, Payload},
        terms::Terms,
        will::Will,
    },
    topic::TopicName,
};

/// What the broker needs of a CONNECT once it has been judged. The password is not kept.
#[derive(Debug)]
pub(super) struct KeptConnect {
    pub(super) terms: Terms,
    /// Empty: the broker is to choose one.
    pub(super) client_id: Box<str>,
    /// The Client Identifier that the broker has chosen.
    pub(super) assigned: Option<Box<str>>,
    pub(super) user_name: Option<Box<str>>,
    pub(super) clean_start: bool,
    pub(super) is_bridge: bool,
    /// In seconds, as the client asked for it; 0 is none.
    pub(super) keep_alive: u16,
    pub(super) will: Option<Box<Will>>,
    pub(super) session_expiry_interval: Option<u32>,
    pub(super) receive_maximum: u16,
    pub(super) wants_response_information: bool,
    pub(super) authentication_method: Option<Box<str>>,
    /// Its share of the memory for CONNECT packets that wait.
    share: Option<BudgetShare>,
}

/// Bytes of the CONNECT packets of one shard that wait for a verdict or for AUTH packets. Beyond it
/// a client is refused with Server busy.
pub(super) const WAITING_BYTES_MAX: usize = 64 << 20;

/// Too many CONNECT packets wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WaitingFull;

impl KeptConnect {
    pub(super) fn keep(connect: &Connect<'_>, terms: Terms, wills: &ByteCount) -> KeptConnect {
        let properties = &connect.properties;
        KeptConnect {
            terms,
            client_id: connect.client_id.into(),
            assigned: None,
            user_name: connect.user_name.map(Box::from),
            clean_start: connect.clean_start,
            is_bridge: connect.is_bridge,
            keep_alive: connect.keep_alive,
            will: connect.will.as_ref().map(|will| Box::new(keep_will(will, wills))),
            session_expiry_interval: properties.session_expiry_interval,
            receive_maximum: properties.receive_maximum.map_or(u16::MAX, NonZeroU16::get),
            wants_response_information: properties.request_response_information,
            authentication_method: properties.authentication_method.map(Box::from),
            share: None,
        }
    }

    /// The Client Identifier by which the client is known.
    pub(super) fn named(&self) -> &str {
        self.assigned.as_deref().unwrap_or(&self.client_id)
    }

    /// Whether the client may have its Will.
    pub(super) fn may_leave_will(&self, principal: &Principal) -> bool {
        self.will.as_ref().is_none_or(|will| {
            let view = will.message.view();
            topics::may_publish(principal, view.topic, view.payload.as_slice())
        })
    }

    /// Marks the CONNECT as waiting. Its bytes, and `more` bytes, count against the memory of all
    /// CONNECT packets that wait, until it is dropped.
    pub(super) fn wait(&mut self, budget: &Budget, more: usize) -> Result<(), WaitingFull> {
        self.share = Some(budget.take(self.bytes() + more).ok_or(WaitingFull)?);
        Ok(())
    }

    /// Gives back what the refusal of the CONNECT does not need.
    pub(super) fn keep_claim_only(&mut self) {
        (self.will, self.share) = (None, None);
    }

    fn bytes(&self) -> usize {
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        let will = self.will.as_ref().map_or(0, |will| size_of::<Will>() + will.message.size());
        size_of::<KeptConnect>()
            + self.client_id.len()
            + text(&self.user_name)
            + text(&self.authentication_method)
            + will
    }
}

/// The version in which to refuse an invalid CONNECT, if its client can be told anything.
/// [MQTT-3.1.2-2@3.1.1] [MQTT-3.1.4-1]
pub(super) fn version_to_refuse(frame: Frame<'_>, error: DecodeError) -> Option<Version> {
    let version = peek_version(frame.body)?;
    let is_told = version == Version::V5 || error == DecodeError::UnsupportedProtocolVersion;
    is_told.then_some(version)
}

/// The Protocol Version of a CONNECT that names an unsupported one.
pub(super) fn level_of(frame: Frame<'_>, error: DecodeError) -> Option<u8> {
    let (length, rest) = frame.body.split_first_chunk::<2>()?;
    let level = rest.get(usize::from(u16::from_be_bytes(*length))).copied();
    level.filter(|_| error == DecodeError::UnsupportedProtocolVersion)
}

/// The Will as it is kept with the session. [MQTT-3.1.2-7]
fn keep_will(will: &mqtt::Will<'_>, wills: &ByteCount) -> Will {
    let mut application = Vec::new();
    will.properties.application.encode(&mut application);
    let view = MessageView {
        topic: TopicName::from_valid(will.topic),
        application: &application,
        payload: Payload::Small(will.payload),
        qos: will.qos,
        retain: will.retain,
        expires_at: None,
        publisher: None,
        publisher_hash: 0,
    };
    let seconds = |seconds: u32| Span::from_secs(u64::from(seconds));
    Will {
        message: Rc::new(CountedMessage::keep(&view, wills)),
        delay: seconds(will.properties.will_delay_interval),
        message_expiry: will.properties.message_expiry_interval.map(seconds),
        due_at: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(client_id: &str) -> KeptConnect {
        let connect = Connect::new(Version::V5, client_id);
        KeptConnect::keep(&connect, Terms::plain(Version::V5), &ByteCount::default())
    }

    #[test]
    fn those_that_wait_share_their_memory_and_give_it_back() {
        let mut first = kept("first");
        let budget = Budget::new(first.bytes() + 100);
        assert_eq!(first.wait(&budget, 50), Ok(()));
        let mut second = kept("");
        assert_eq!(second.wait(&budget, 0), Err(WaitingFull));
        drop(first);
        assert_eq!(second.wait(&budget, 0), Ok(()));
        drop(second);
        assert_eq!(kept("third").wait(&budget, 100), Ok(()));
    }
}
