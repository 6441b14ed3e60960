//! Which rights by topic are in force on a shard, and what they say about the latest topics.
//!
//! The rights of a session are renewed when it is next asked about them, so new rights hold at
//! once. Does not know how a client is told.

use std::{rc::Rc, sync::Arc};

use super::reason::Reason;
use crate::{
    access::{
        Acl, Grant, Policy, Principal, Rights,
        acl::{Permits, Ways},
        topics::Subscribable,
    },
    mqtt::QoS,
    session::{
        Session,
        message::{Message, Source},
    },
    topic::{TopicFilter, TopicName},
};

/// The rights in force. Without an ACL, every client may read and write everything, unless its
/// token says something else.
#[derive(Debug, Default)]
pub(super) struct InForce {
    acl: Option<Arc<Acl>>,
    /// Some token has said so, since the shard began.
    has_claims: bool,
    /// The rights of some client are limited.
    are_limited: bool,
    /// Rights have changed since some subscriptions were granted or messages were queued, so that
    /// each message is checked.
    checks_all: bool,
    recent: Recent,
}

impl InForce {
    pub(super) fn new(policy: &Policy) -> InForce {
        let are_limited = policy.acl.is_some();
        InForce { acl: policy.acl.clone(), are_limited, ..InForce::default() }
    }

    /// Keeps to the rights of this policy from now on.
    pub(super) fn adopt(&mut self, policy: &Policy) {
        let number = |acl: &Option<Arc<Acl>>| acl.as_ref().map(|acl| acl.number());
        if number(&self.acl) != number(&policy.acl) {
            self.acl.clone_from(&policy.acl);
            self.checks_all = true;
            self.are_limited = self.acl.is_some() || self.has_claims;
        }
    }

    /// The same principal with the rights in force.
    pub(super) fn endow(&mut self, principal: Principal) -> Principal {
        let has_claims = principal.grant().is_some_and(|grant| grant.rules.is_some());
        self.has_claims |= has_claims;
        self.are_limited |= has_claims;
        let rights = self.rights_of(&principal);
        principal.with_rights(rights)
    }

    /// The rights of a client; `None` if it may do everything.
    fn rights_of(&self, principal: &Principal) -> Option<Arc<Rights>> {
        let (user_name, client_id) = (principal.user_name(), principal.client_id());
        if principal.grant().is_some_and(|grant| grant.is_superuser) {
            return self.acl.as_ref().map(|acl| Arc::new(Rights::everything(acl.number())));
        }
        match principal.grant().and_then(|grant| grant.rules.as_ref()) {
            Some(rules) => {
                let rights = rules.rights_of(user_name, client_id, self.acl.as_deref());
                Some(Arc::new(rights))
            }
            None => self.acl.as_ref().map(|acl| acl.rights_of(user_name, client_id)),
        }
    }

    /// Another user has taken a session over, whose subscriptions were granted by other rights.
    pub(super) fn note_taken_over(&mut self, before: &Principal, now: &Principal) {
        let is_same = match (before.rights(), now.rights()) {
            (Some(before), Some(now)) => before.are_same_as(now),
            (None, None) => true,
            _ => false,
        };
        self.checks_all |= !is_same;
    }

    /// Sessions were read from a store: what waits for them was queued by other rights, perhaps.
    pub(super) fn note_restored(&mut self) {
        self.checks_all |= self.acl.is_some();
    }

    /// Who a client is, to be kept with a message that it has published; `None` if it does not
    /// matter, or if a token that is not kept has let it publish.
    pub(super) fn source_of(&self, principal: &Principal, policy: &Policy) -> Option<Arc<Source>> {
        let acl = self.acl.as_ref().filter(|_| !policy.ignores_retain_source)?;
        if principal.grant().is_some_and(|grant| grant.has_rights()) {
            return None;
        }
        Some(Arc::new(Source {
            user_name: principal.user_name().map(Box::from),
            client_id: principal.client_id().into(),
            acl: acl.number(),
        }))
    }

    /// Whether the publisher of a message may still publish it. What was allowed by the rules in
    /// force is not judged again.
    pub(super) fn lets_stand(&mut self, message: &Message) -> bool {
        let (Some(acl), Some(source)) = (&self.acl, message.source()) else { return true };
        if acl.number() == source.acl {
            return true;
        }
        let rights = acl.rights_of(source.user_name.as_deref(), &source.client_id);
        self.recent.permits(&rights, message.view().topic).any(Ways::WRITE)
    }

    /// Whether each message is checked, also for subscriptions that were granted as a whole.
    #[inline]
    pub(super) fn checks_all(&self) -> bool {
        self.checks_all
    }

    /// Judges a message by the rights of the client that publishes it. `way` is asked for if it
    /// matters.
    #[inline]
    pub(super) fn judge_publish(
        &mut self,
        session: &mut Session,
        topic: TopicName<'_>,
        way: impl FnOnce() -> (QoS, bool),
    ) -> Result<(), Reason> {
        if !self.are_limited {
            return Ok(());
        }
        let (qos, retain) = way();
        self.judge_by_rules(session, topic, Ways::write(qos as u8, retain))
    }

    #[inline(never)]
    fn judge_by_rules(
        &mut self,
        session: &mut Session,
        topic: TopicName<'_>,
        way: Ways,
    ) -> Result<(), Reason> {
        let permits = self.permits(session, topic);
        if permits.any(way) { Ok(()) } else { Err(Reason::PublishDenied) }
    }

    /// Whether the client of a session may read messages with this topic.
    #[cold]
    #[inline(never)]
    pub(super) fn may_read(&mut self, session: &mut Session, topic: TopicName<'_>) -> bool {
        self.permits(session, topic).any(Ways::READ)
    }

    /// The client of a session if each message has to be checked, with the rights in force.
    pub(super) fn checked(&self, session: &mut Session) -> Option<Rc<Principal>> {
        self.checks_all.then(|| {
            self.renew(session);
            Rc::clone(session.principal())
        })
    }

    /// Whether a client with the rights in force may read messages with this topic.
    pub(super) fn let_read(&mut self, principal: &Principal, topic: TopicName<'_>) -> bool {
        let may_read = |rights| self.recent.permits(rights, topic).any(Ways::READ);
        principal.rights().is_none_or(may_read)
    }

    /// How many of the messages that match this filter the client of a session may read at a QoS.
    /// `text` is that of the SUBSCRIBE.
    pub(super) fn coverage(
        &self,
        session: &mut Session,
        (text, filter): (&str, TopicFilter<'_>),
        qos: QoS,
    ) -> Subscribable {
        self.renew(session);
        let Some(rights) = session.principal().rights() else { return Subscribable::Whole };
        match rights.may_subscribe(text) {
            Some(false) => return Subscribable::Forbidden,
            // Other rights than these may let it read something later.
            Some(true) if rights.coverage(filter, qos as u8) == Subscribable::No => {
                return Subscribable::Partly;
            }
            _ => {}
        }
        let will_end = session.principal().grant().is_some_and(|grant| grant.outlasts_rights());
        match rights.coverage(filter, qos as u8) {
            // From then on each message has to be checked.
            Subscribable::Whole if will_end => Subscribable::Partly,
            readable => readable,
        }
    }

    /// Whether the client of a session may end this subscription.
    pub(super) fn may_unsubscribe(&self, session: &mut Session, text: &str) -> bool {
        self.renew(session);
        session.principal().rights().is_none_or(|rights| rights.may_unsubscribe(text))
    }

    /// The rights that a token gave a client have ended, and its connection goes on.
    pub(super) fn end_claims(&mut self, session: &mut Session) {
        let spent = Some(Arc::new(Grant::spent()));
        let principal = (**session.principal()).clone().with_grant(spent);
        session.set_principal(self.endow(principal));
    }

    #[inline]
    fn permits(&mut self, session: &mut Session, topic: TopicName<'_>) -> Permits {
        self.renew(session);
        match session.principal().rights() {
            Some(rights) => self.recent.permits(rights, topic),
            None => Permits::ALL,
        }
    }

    /// Gives a session the rights in force, if it has others.
    #[inline]
    fn renew(&self, session: &mut Session) {
        let now = self.acl.as_ref().map_or(0, |acl| acl.number());
        let has = session.principal().rights().map_or(0, Rights::acl);
        if now != has {
            self.replace(session);
        }
    }

    #[cold]
    #[inline(never)]
    fn replace(&self, session: &mut Session) {
        let rights = self.rights_of(session.principal());
        session.set_rights(rights);
    }
}

/// A cache of what the latest topics were permitted: devices publish to the same few names.
#[derive(Debug, Default)]
struct Recent {
    /// [`PLACES`] of them; none until the first topic is kept.
    places: Box<[Place]>,
}

/// What one topic is permitted by some rights.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The number of the rights; 0 if the place is free.
    rights: u64,
    permits: Permits,
    topic_len: u8,
    topic: [u8; TOPIC_BYTES_MAX],
}

const _: () = assert!(size_of::<Place>() == 64, "a place fills a cache line");

/// The largest topic that is kept. Longer ones are rare.
const TOPIC_BYTES_MAX: usize = 53;
const PLACES: usize = 1024;

impl Recent {
    #[inline]
    fn permits(&mut self, rights: &Rights, topic: TopicName<'_>) -> Permits {
        let bytes = topic.as_str().as_bytes();
        match self.places.get(place(rights.number(), bytes)) {
            Some(place) if place.is_of(rights.number(), bytes) => place.permits,
            _ => self.find_out(rights, topic),
        }
    }

    #[cold]
    #[inline(never)]
    fn find_out(&mut self, rights: &Rights, topic: TopicName<'_>) -> Permits {
        let permits = rights.permits(topic);
        let bytes = topic.as_str().as_bytes();
        let Some(topic_len) =
            u8::try_from(bytes.len()).ok().filter(|_| bytes.len() <= TOPIC_BYTES_MAX)
        else {
            return permits;
        };
        if self.places.is_empty() {
            self.places = vec![Place::FREE; PLACES].into();
        }
        let place = &mut self.places[place(rights.number(), bytes)];
        (place.rights, place.permits, place.topic_len) = (rights.number(), permits, topic_len);
        place.topic[..bytes.len()].copy_from_slice(bytes);
        permits
    }
}

impl Place {
    const FREE: Place =
        Place { rights: 0, permits: Permits::NONE, topic_len: 0, topic: [0; TOPIC_BYTES_MAX] };

    #[inline]
    fn is_of(&self, rights: u64, topic: &[u8]) -> bool {
        self.rights == rights && self.topic.get(..usize::from(self.topic_len)) == Some(topic)
    }
}

/// The place of a topic. Both of its ends count; names that share a place replace each other.
#[inline]
fn place(rights: u64, topic: &[u8]) -> usize {
    let (first, last) = match (topic.first_chunk(), topic.last_chunk()) {
        (Some(&first), Some(&last)) => (u64::from_le_bytes(first), u64::from_le_bytes(last)),
        _ => (topic.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)), 0),
    };
    let mixed = (first ^ last.rotate_left(29) ^ rights.rotate_left(13)).wrapping_mul(MULTIPLIER);
    usize::from((mixed >> 48) as u16) % PLACES
}

/// An odd number whose bits look random.
const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> TopicName<'_> {
        TopicName::parse(text).unwrap()
    }

    #[test]
    fn a_topic_is_remembered_for_its_rights_only() {
        let acl = Acl::parse(b"topic read a/#\nuser ada\ntopic write a/#").unwrap();
        let [anonymous, ada] = [None, Some("ada")].map(|user| acl.rights_of(user, "c"));
        let mut recent = Recent::default();
        for _ in 0..2 {
            for topic in ["a", "a/b", "a/a long topic", &"a/".repeat(27), "b"] {
                let is_granted = topic.starts_with('a');
                let [read, write] = [&anonymous, &ada].map(|it| recent.permits(it, name(topic)));
                let both = |permits: Permits| (permits.any(Ways::READ), permits.any(Ways::WRITE));
                assert_eq!(both(read), (is_granted, false), "{topic}");
                assert_eq!(both(write), (false, is_granted), "{topic}");
            }
        }
        let kept = recent.places.iter().filter(|place| place.rights != 0).count();
        assert_eq!(kept, 8, "long topics are not kept");
    }

    #[test]
    fn topics_that_share_a_place_replace_each_other() {
        let acl = Acl::parse(b"topic read +/x/1").unwrap();
        let rights = acl.rights_of(None, "c");
        let mut recent = Recent::default();
        for round in 0..3 {
            for nth in 0..5_000 {
                let topic = format!("{nth}/x/{}", nth % 2);
                let read = recent.permits(&rights, name(&topic)).any(Ways::READ);
                assert_eq!(read, nth % 2 == 1, "{round} {topic}");
            }
        }
    }
}
