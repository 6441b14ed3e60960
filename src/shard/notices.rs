//! Events that are too frequent for one line of the log each: they are counted for
//! each client. Does not know what the lines say.

use std::rc::Rc;

use super::{
    Shard,
    log::{self, Tally},
    reason::Reason,
};
use crate::{
    access::Principal,
    base::{
        ids::ConnectionId,
        time::{Moment, Span},
    },
};

/// An event that can happen thousands of times in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice<'a> {
    OutboxFull,
    QueueFull,
    TooLarge,
    /// With the Topic Name.
    PublishRefused(Reason, &'a str),
    /// With the Topic Filter.
    SubscriptionRefused(Reason, &'a str),
    PatienceOver,
    /// An absent session had to go for another one.
    Evicted,
    /// A connection was closed at once, or refused: its account has its share.
    ConnectionRefused,
    /// A connection came from a banned address.
    AddressBanned,
    /// A connection came while too many had come to its listener. With its address.
    TooManyConnections(&'a str),
    /// Much waited for a client, and memory is short.
    MemoryFull,
}

/// What kind of event it is. Refusals are of one kind, whatever their reasons are.
#[derive(Clone, Copy, Debug)]
enum Kind {
    OutboxFull,
    QueueFull,
    TooLarge,
    PublishRefused,
    SubscriptionRefused,
    PatienceOver,
    Evicted,
    ConnectionRefused,
    AddressBanned,
    TooManyConnections,
    MemoryFull,
}

/// All kinds, in order.
const KINDS: [Kind; 11] = [
    Kind::OutboxFull,
    Kind::QueueFull,
    Kind::TooLarge,
    Kind::PublishRefused,
    Kind::SubscriptionRefused,
    Kind::PatienceOver,
    Kind::Evicted,
    Kind::ConnectionRefused,
    Kind::AddressBanned,
    Kind::TooManyConnections,
    Kind::MemoryFull,
];

impl<'a> Notice<'a> {
    /// Its kind, its reason, and the topic that it is about.
    fn parts(self) -> (Kind, Option<Reason>, &'a str) {
        match self {
            Notice::OutboxFull => (Kind::OutboxFull, None, ""),
            Notice::QueueFull => (Kind::QueueFull, None, ""),
            Notice::TooLarge => (Kind::TooLarge, None, ""),
            Notice::PatienceOver => (Kind::PatienceOver, None, ""),
            Notice::Evicted => (Kind::Evicted, None, ""),
            Notice::ConnectionRefused => (Kind::ConnectionRefused, None, ""),
            Notice::AddressBanned => (Kind::AddressBanned, None, ""),
            Notice::TooManyConnections(listener) => (Kind::TooManyConnections, None, listener),
            Notice::MemoryFull => (Kind::MemoryFull, None, ""),
            Notice::PublishRefused(reason, topic) => (Kind::PublishRefused, Some(reason), topic),
            Notice::SubscriptionRefused(reason, filter) => {
                (Kind::SubscriptionRefused, Some(reason), filter)
            }
        }
    }
}

/// Counts frequent events, for each kind of them and each client. A count is logged when its client
/// disconnects, and at most once in [`QUIET_SPAN`] before.
#[derive(Debug, Default)]
pub(super) struct Notices([Counts; KINDS.len()]);

/// The events of one kind.
#[derive(Debug, Default)]
struct Counts {
    /// At most [`CLIENTS_MAX`].
    clients: Vec<Count>,
    /// The events of further clients, counted together.
    others: Option<Count>,
}

/// The events of one client, or of several together.
#[derive(Debug)]
struct Count {
    is_of_others: bool,
    /// Until when events are only counted.
    quiet_until: Moment,
    /// Events that have not been logged, and when the first of them was.
    unlogged: u64,
    since: Moment,
    /// The client of the last event, its reason, and the beginning of the topic that it was about.
    principal: Rc<Principal>,
    reason: Option<Reason>,
    topic: String,
}

impl Notices {
    /// Notes that the event has happened to this client.
    pub(super) fn note(&mut self, notice: Notice<'_>, principal: &Rc<Principal>, now: Moment) {
        let (kind, reason, topic) = notice.parts();
        let count = self.0[kind as usize].of(principal, now);
        count.add(principal, reason, topic, now);
        if count.quiet_until <= now {
            count.log(kind, now);
        }
    }

    /// Logs the counts that have waited for long enough. Called every few seconds.
    pub(super) fn report(&mut self, now: Moment) {
        self.log_those(now, |count| count.quiet_until <= now);
        for counts in &mut self.0 {
            counts.clients.retain(|count| now < count.quiet_until);
            counts.others.take_if(|count| count.quiet_until <= now);
        }
    }

    /// Logs the counts of a client that disconnects.
    pub(super) fn report_client(&mut self, principal: &Principal, now: Moment) {
        let client_id = principal.client_id();
        let is_of_client =
            |count: &Count| !count.is_of_others && count.principal.client_id() == client_id;
        // A connection whose client is unknown ends without a line.
        if !client_id.is_empty() {
            self.log_those(now, is_of_client);
        }
    }

    /// Logs all counts: the broker stops.
    pub(super) fn report_all(&mut self, now: Moment) {
        self.log_those(now, |_| true);
    }

    fn log_those(&mut self, now: Moment, are_due: impl Fn(&Count) -> bool) {
        for (kind, counts) in KINDS.into_iter().zip(&mut self.0) {
            for count in counts.clients.iter_mut().chain(&mut counts.others) {
                if count.unlogged > 0 && are_due(count) {
                    count.log(kind, now);
                }
            }
        }
    }
}

impl Counts {
    /// Where the events of a client are counted.
    fn of(&mut self, principal: &Rc<Principal>, now: Moment) -> &mut Count {
        let is_same = |count: &Count| Rc::ptr_eq(&count.principal, principal);
        let has_its_name = |count: &Count| has_same_name(&count.principal, principal);
        let known = self.clients.iter().position(is_same);
        let known = known.or_else(|| self.clients.iter().position(has_its_name));
        let place = known.or_else(|| self.begin(principal, now));
        match place {
            Some(place) => &mut self.clients[place],
            None => self.others.get_or_insert_with(|| Count::new(principal, true, now)),
        }
    }

    /// A place for the events of one more client, if there is one.
    fn begin(&mut self, principal: &Rc<Principal>, now: Moment) -> Option<usize> {
        let place = self.clients.len();
        (place < CLIENTS_MAX).then(|| {
            self.clients.push(Count::new(principal, false, now));
            place
        })
    }
}

/// Whether two principals are one client; of clients that are not known yet, one account.
fn has_same_name(one: &Principal, other: &Principal) -> bool {
    let is_same_account = || one.account().number() == other.account().number();
    one.client_id() == other.client_id() && (!one.client_id().is_empty() || is_same_account())
}

impl Count {
    fn new(principal: &Rc<Principal>, is_of_others: bool, now: Moment) -> Count {
        Count {
            is_of_others,
            quiet_until: now,
            unlogged: 0,
            since: now,
            principal: Rc::clone(principal),
            reason: None,
            topic: String::new(),
        }
    }

    fn add(&mut self, principal: &Rc<Principal>, reason: Option<Reason>, topic: &str, now: Moment) {
        if self.unlogged == 0 {
            self.since = now;
        }
        self.unlogged += 1;
        self.principal.clone_from(principal);
        self.reason = reason;
        self.topic.clear();
        self.topic.push_str(log::beginning(topic));
    }

    /// Logs what has been counted, and begins anew.
    fn log(&mut self, kind: Kind, now: Moment) {
        self.quiet_until = now + QUIET_SPAN;
        let count = std::mem::take(&mut self.unlogged);
        let waited = now.since(self.since).as_nanos();
        let tally = Tally {
            count,
            seconds: (waited > 0).then(|| waited.div_ceil(Span::from_secs(1).as_nanos())),
            principal: &self.principal,
            is_of_others: self.is_of_others,
        };
        match kind {
            Kind::OutboxFull => log::outbox_full(tally),
            Kind::QueueFull => log::queue_full(tally),
            Kind::TooLarge => log::too_large(tally),
            Kind::PatienceOver => log::patience_over(tally),
            Kind::Evicted => log::evicted(tally),
            Kind::ConnectionRefused => log::connection_refused(tally),
            Kind::AddressBanned => log::address_banned(tally),
            Kind::TooManyConnections => log::too_many_connections(tally, &self.topic),
            Kind::MemoryFull => log::memory_full(tally),
            Kind::PublishRefused => log::publish_refused(tally, &self.topic, self.reason),
            Kind::SubscriptionRefused => log::subscription_refused(tally, &self.topic, self.reason),
        }
    }
}

impl Shard {
    /// Notes that a frequent event has happened to this client.
    pub(super) fn note(&mut self, id: ConnectionId, notice: Notice<'_>) {
        if let Some(connection) = self.connections.get(id) {
            let principal = Rc::clone(connection.principal());
            self.router.notices_mut().note(notice, &principal, self.context.now);
        }
    }
}

/// Clients whose events of one kind are counted one by one.
const CLIENTS_MAX: usize = 8;
/// How long events are only counted after a line.
pub(super) const QUIET_SPAN: Span = Span::from_secs(10);
