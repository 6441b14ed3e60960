//! The session of one client: the state that outlives its connections.
//!
//! It has one pure state machine for each direction: [`inbound`] for messages from the client,
//! [`outbound`] for messages to it. [`topic_aliases`], [`client_aliases`] and [`terms`] are state
//! of one connection only. Knows packets and time; knows no sockets, no trie and no other session.

#![forbid(unsafe_code)]

pub mod absent;
pub mod client_aliases;
pub mod filters;
pub mod inbound;
pub mod message;
pub mod ordinals;
pub mod outbound;
mod pace;
mod patterns;
pub mod queue;
pub mod sessions;
pub mod terms;
pub mod topic_aliases;
pub mod will;

use std::{mem, num::NonZeroU64, rc::Rc, sync::Arc};

use self::{
    filters::{Filters, FiltersFull, FiltersMax},
    inbound::Inbound,
    outbound::Outbound,
    patterns::Patterns,
    terms::Terms,
    topic_aliases::TopicAliases,
    will::Will,
};
use crate::{
    access::{Kind, Principal, Rights},
    base::{
        hash::Seed,
        ids::ConnectionId,
        time::{Moment, Span},
    },
    mqtt::ProtocolError,
    topic::Subscription,
};

/// One client's session.
#[derive(Debug)]
pub struct Session {
    /// Who the client was at its last CONNECT.
    principal: Rc<Principal>,
    /// A hash of the Client Identifier, the same on all shards.
    client_hash: u32,
    /// How many sessions the shard had begun when this one began, this one included.
    number: u64,
    /// The connection of the session; `None` while the client is not connected.
    link: Option<Link>,
    /// The Topic Aliases to the client on that connection, once a topic was sent. [MQTT-3.3.2-7]
    topic_aliases: Option<Box<TopicAliases>>,
    inbound: Inbound,
    outbound: Outbound,
    filters: Filters,
    patterns: Patterns,
    /// How many of the filters belong to shared subscriptions.
    shared_filters: u32,
    /// Seconds that the session outlives its connection; `u32::MAX` never expires.
    /// [MQTT-3.1.2-23]
    expiry_interval: u32,
    /// When the session ends, while the client is not connected.
    ends_at: Option<Moment>,
    /// When the next reminder to check the session comes, while the client is not connected;
    /// [`NEVER`] if none does.
    look_at: Moment,
    will: Option<Box<Will>>,
}

/// No reminder comes.
const NEVER: Moment = Moment::from_nanos(u64::MAX);

/// Its account has one session fewer.
impl Drop for Session {
    fn drop(&mut self) {
        self.principal.account().subtract(Kind::Sessions, 1);
    }
}

/// What delivery must know of a session's connection.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub connection: ConnectionId,
    pub terms: Terms,
}

impl Session {
    fn new(principal: Rc<Principal>, hash: u64, number: u64) -> Session {
        principal.account().add(Kind::Sessions, 1);
        Session {
            principal,
            // The other half of the hash decides the home of the client.
            client_hash: (hash >> 32) as u32,
            number,
            link: None,
            topic_aliases: None,
            inbound: Inbound::default(),
            outbound: Outbound::default(),
            filters: Filters::default(),
            patterns: Patterns::default(),
            shared_filters: 0,
            expiry_interval: 0,
            ends_at: None,
            look_at: NEVER,
            will: None,
        }
    }

    pub fn client_id(&self) -> &str {
        self.principal.client_id()
    }

    /// Who the client was at its last CONNECT.
    #[inline]
    pub fn principal(&self) -> &Rc<Principal> {
        &self.principal
    }

    /// The client has these rights from now on.
    pub fn set_rights(&mut self, rights: Option<Arc<Rights>>) {
        self.set_principal((*self.principal).clone().with_rights(rights));
    }

    /// The client is the same user still, with another token or other rights.
    pub fn set_principal(&mut self, principal: Principal) {
        self.principal = Rc::new(principal);
    }

    /// A hash of the Client Identifier, the same on all shards.
    #[inline]
    pub fn client_hash(&self) -> u32 {
        self.client_hash
    }

    /// How many sessions the shard had begun when this one began, this one included.
    #[inline]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its number in the store, if it survives a restart.
    #[inline]
    pub fn stored(&self) -> Option<NonZeroU64> {
        self.outbound.stored()
    }

    /// From now on the session survives a restart, under this number. Its next message has this
    /// ordinal.
    pub fn begin_storing(&mut self, number: NonZeroU64, next_ordinal: u64) {
        self.outbound.begin_ordinals(number, next_ordinal);
    }

    /// The session does not survive a restart any more.
    pub fn end_storing(&mut self) {
        self.outbound.end_ordinals();
    }

    /// Since when the client has no connection, as far as that matters: a session that never
    /// expires says `now`.
    pub fn absent_since(&self, now: Moment) -> Moment {
        let lasts = Span::from_secs(u64::from(self.expiry_interval)).as_nanos();
        let since = self.ends_at.map(|at| Moment::from_nanos(at.as_nanos().saturating_sub(lasts)));
        since.unwrap_or(now)
    }

    /// The session ends at this moment, unless its client connects before.
    pub fn set_absent(&mut self, ends_at: Option<Moment>) {
        self.ends_at = ends_at;
    }

    /// The Session Expiry Interval in seconds.
    pub fn expiry_interval(&self) -> u32 {
        self.expiry_interval
    }

    /// The session of a client that is not connected lasts for so many seconds, and the Will is
    /// this one. Both begin to count when [`Session::disconnect`] says so.
    pub fn set_terms(&mut self, expiry_interval: u32, will: Option<Box<Will>>) {
        self.expiry_interval = expiry_interval;
        self.will = will;
    }

    /// The Will, if it was not published or deleted.
    pub fn will(&self) -> Option<&Will> {
        self.will.as_deref()
    }

    /// The Topic Aliases to the client on its connection, once a topic was sent.
    pub fn topic_aliases(&self) -> Option<&TopicAliases> {
        self.topic_aliases.as_deref()
    }

    /// The connection of the session; `None` while the client is not connected.
    #[inline]
    pub fn link(&self) -> Option<Link> {
        self.link
    }

    /// The client has connected as this principal. `window` is its Receive Maximum,
    /// `expiry_interval` is in seconds. A Will that waits for its delay is not published.
    /// [MQTT-3.1.3-9]
    pub fn connect(
        &mut self,
        principal: Rc<Principal>,
        link: Link,
        window: u16,
        expiry_interval: u32,
        will: Option<Box<Will>>,
    ) {
        debug_assert_eq!(principal.client_id(), self.client_id(), "a session is one client's");
        principal.account().add(Kind::Sessions, 1);
        self.principal.account().subtract(Kind::Sessions, 1);
        self.principal = principal;
        self.link = Some(link);
        self.topic_aliases = None;
        self.inbound.connect();
        self.outbound.connect(window);
        self.expiry_interval = expiry_interval;
        self.ends_at = None;
        self.will = will;
    }

    /// The client has disconnected. With `keeps_will`, its Will is published after its delay or at
    /// the end of the session, whichever comes first. Without, the Will is deleted.
    /// [MQTT-3.1.3-9]
    pub fn disconnect(&mut self, now: Moment, keeps_will: bool) {
        self.link = None;
        self.topic_aliases = None;
        let lasts = Span::from_secs(u64::from(self.expiry_interval));
        self.ends_at = (self.expiry_interval != u32::MAX).then(|| now + lasts);
        self.will = self.will.take().filter(|_| keeps_will);
        if let Some(will) = &mut self.will {
            will.due_at = Some(now + will.delay);
        }
    }

    /// Whether the session goes on when its connection ends.
    pub fn outlasts_connection(&self) -> bool {
        self.expiry_interval > 0
    }

    /// Bytes of memory of its Will.
    pub fn will_bytes(&self) -> usize {
        self.will.as_ref().map_or(0, |will| will.message.size())
    }

    /// The Will Delay Interval of its Will; `None` without a Will.
    pub fn will_delay(&self) -> Option<Span> {
        self.will.as_ref().map(|will| will.delay)
    }

    /// The client changes the Session Expiry Interval in DISCONNECT. This is an error if the
    /// interval in CONNECT was 0 and the new one is not. [MQTT-3.14.2-2]
    pub fn change_expiry(&mut self, seconds: u32, maximum: u32) -> Result<(), ProtocolError> {
        if self.expiry_interval == 0 && seconds > 0 {
            return Err(ProtocolError::SessionExpiryRaised);
        }
        self.expiry_interval = seconds.min(maximum);
        Ok(())
    }

    /// Whether the session has ended: its client has been disconnected for as long as it lasts.
    pub fn has_ended(&self, now: Moment) -> bool {
        self.link.is_none() && self.ends_at.is_some_and(|ends_at| ends_at <= now)
    }

    /// Whether the Will is due: its client has been disconnected for as long as the delay.
    pub fn is_will_due(&self, now: Moment) -> bool {
        self.link.is_none() && self.will_due_at().is_some_and(|due_at| due_at <= now)
    }

    /// When the Will is due or the session ends, while the client is not connected.
    pub fn next_change(&self) -> Option<Moment> {
        [self.will_due_at(), self.ends_at].into_iter().flatten().min()
    }

    /// Takes the Will to publish it.
    pub fn take_will(&mut self) -> Option<Box<Will>> {
        self.will.take()
    }

    /// Notes a reminder to check the session. False: an earlier reminder will come.
    pub fn remind(&mut self, look_at: Moment) -> bool {
        let is_sooner = look_at < self.look_at;
        if is_sooner {
            self.look_at = look_at;
        }
        is_sooner
    }

    /// A reminder has come. False: an earlier reminder has replaced it, or it was for an earlier
    /// session with the same number.
    pub fn take_reminder(&mut self, now: Moment) -> bool {
        let is_due = self.look_at <= now;
        if is_due {
            self.look_at = NEVER;
        }
        is_due
    }

    /// Notes a subscription. True: it is new.
    pub fn subscribe(
        &mut self,
        text: &str,
        subscription: Subscription<'_>,
        maximum: FiltersMax,
        seed: Seed,
    ) -> Result<bool, FiltersFull> {
        if self.filters.contains(text) {
            return Ok(false);
        }
        let filter = subscription.filter();
        if !self.patterns.try_add(filter, maximum.patterns, seed) {
            return Err(FiltersFull::Patterns);
        }
        if let Err(full) = self.filters.try_add(text, maximum, seed) {
            self.patterns.remove(filter, seed);
            return Err(full);
        }
        self.shared_filters += u32::from(matches!(subscription, Subscription::Shared(_)));
        Ok(true)
    }

    /// Forgets a subscription. False: there is none with exactly this filter.
    /// [MQTT-3.10.4-1]
    pub fn unsubscribe(&mut self, text: &str, subscription: Subscription<'_>, seed: Seed) -> bool {
        if !self.filters.contains(text) {
            return false;
        }
        self.filters.remove(text);
        self.patterns.remove(subscription.filter(), seed);
        self.shared_filters -= u32::from(matches!(subscription, Subscription::Shared(_)));
        true
    }

    pub fn filters(&self) -> &Filters {
        &self.filters
    }

    pub fn has_shared_filters(&self) -> bool {
        self.shared_filters > 0
    }

    /// The filter at a place of [`Filters`], if it is of a shared subscription.
    pub fn shared_filter_at(&self, place: usize) -> Option<&str> {
        self.filters.shared_at(place)
    }

    /// Forgets all subscriptions, and returns their filters.
    pub fn take_filters(&mut self) -> Vec<Box<str>> {
        self.shared_filters = 0;
        self.filters.take()
    }

    pub fn inbound(&self) -> &Inbound {
        &self.inbound
    }

    #[inline]
    pub fn inbound_mut(&mut self) -> &mut Inbound {
        &mut self.inbound
    }

    #[inline]
    pub fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    #[inline]
    pub fn outbound_mut(&mut self) -> &mut Outbound {
        &mut self.outbound
    }

    /// The parts that change when a message is sent to the client.
    #[inline]
    pub fn sending(&mut self) -> (&mut Outbound, &mut Option<Box<TopicAliases>>) {
        (&mut self.outbound, &mut self.topic_aliases)
    }

    /// The messages to the client, some of which other members of share groups take over.
    pub fn into_outbound(mut self) -> Outbound {
        mem::take(&mut self.outbound)
    }

    /// The number of messages in flight to the client or queued.
    pub fn load(&self) -> usize {
        usize::from(self.outbound.outstanding()) + self.outbound.queue.len()
    }

    fn will_due_at(&self) -> Option<Moment> {
        self.will.as_ref().and_then(|will| will.due_at)
    }
}

#[cfg(test)]
mod tests;
