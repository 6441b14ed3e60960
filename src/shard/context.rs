//! What every part of a shard needs: settings, rules, the moment, counters and timers.
//!
//! The shard lends them to its parts with each call. Knows nothing of connections, sessions or
//! messages.

use std::{rc::Rc, sync::Arc};

use super::{
    log::Refusals,
    memory::{Memory, subscription_bytes},
    ports::Ports,
    recorder::Recorder,
    retained::RetainedMax,
    rights::InForce,
    rules::Rules,
    settings::Settings,
    stats::Counters,
    timers::Timers,
};
#[cfg(test)]
use crate::{
    access::{Accounts, Failures},
    base::{hash::Seed, shared_count::SharedCount, time::WallClock},
    shard::memory::MemoryBudget,
};
use crate::{
    access::{Bans, Principal},
    base::{
        ids::ShardId,
        time::{Moment, Span, WallTime},
    },
    session::Session,
};

/// Settings, rules and the moment of a shard, and the counters and timers that its parts change.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) settings: Settings,
    /// The rules that hold now, the same on every shard.
    pub(super) rules: Rc<Rules>,
    /// The rights by topic that hold now.
    pub(super) rights: InForce,
    /// Who is not let in.
    pub(super) bans: Arc<Bans>,
    /// The moment of the current call.
    pub(super) now: Moment,
    pub(super) counters: Counters,
    pub(super) memory: Memory,
    /// The reminders of the shard.
    pub(super) timers: Timers,
    /// What survives a restart is written down here.
    pub(super) recorder: Recorder,
    /// Refused clients that the log has only counted.
    pub(super) refusals: Refusals,
    /// The broker is stopping.
    pub(super) stopping: bool,
    /// The broker is stopping, or the store has no room: not every PUBLISH is taken.
    pub(super) is_restrained: bool,
}

impl Context {
    pub(super) fn new(settings: Settings, rules: &Rules) -> Context {
        let now = settings.started_at;
        Context {
            rules: Rc::new(rules.clone()),
            rights: InForce::new(&rules.policy),
            bans: Arc::default(),
            now,
            counters: Counters::default(),
            memory: Memory::new(settings.memory.clone(), settings.shards),
            timers: Timers::new(now),
            recorder: Recorder::new(&settings),
            refusals: Refusals::default(),
            stopping: false,
            is_restrained: false,
            settings,
        }
    }

    /// Looks how scarce memory is once in a while within a turn.
    #[inline]
    pub(super) fn watch_memory(&mut self, ports: &mut impl Ports) {
        let sent = self.counters.publishes_sent;
        if self.memory.is_look_due(sent) {
            self.memory.look(ports.held(), sent);
        }
    }

    /// The broker stops.
    pub(super) fn begin_stop(&mut self) {
        (self.stopping, self.is_restrained) = (true, true);
    }

    /// The store has room for messages, or has none.
    pub(super) fn note_store_room(&mut self, has_room: bool) {
        self.recorder.note_room(has_room);
        self.is_restrained = self.stopping || !has_room;
    }

    /// The present time of the wall clock.
    pub(super) fn wall_now(&self) -> WallTime {
        self.settings.wall_clock.time_of(self.now)
    }

    /// Whether the token of a client ended a while ago: it leaves no Will any more. One that is
    /// published because the connection ends with the token is in time.
    pub(super) fn has_lost_token(&self, principal: &Principal) -> bool {
        let since = Moment::from_nanos(self.now.as_nanos().saturating_sub(GRACE.as_nanos()));
        let since = self.settings.wall_clock.time_of(since);
        principal.grant().is_some_and(|grant| grant.has_ended(since))
    }

    /// How many messages may be retained now. When memory or the store is full, no more are stored.
    #[inline]
    pub(super) fn retained_max(&self) -> RetainedMax {
        if self.memory.scarcity().is_full() || self.recorder.is_full() {
            return RetainedMax { messages: 0, bytes: 0 };
        }
        let RetainedMax { messages, bytes } = self.rules.limits.retained();
        RetainedMax { messages, bytes: bytes.min(self.memory.retained_max()) }
    }

    /// The terms of a connected session that survives a restart have changed.
    pub(super) fn note_terms(&mut self, session: &mut Session, ports: &mut impl Ports) {
        let principal = Rc::clone(session.principal());
        let will = session.will().cloned();
        let terms = (&*principal, session.expiry_interval(), will.as_ref());
        self.recorder.note_session(session, terms, self.now, ports);
    }

    /// A session has subscribed to one more filter.
    pub(super) fn count_subscription(&mut self, text: &str) {
        self.counters.subscriptions += 1;
        self.memory.subscriptions.add(subscription_bytes(text.len()));
    }

    /// A subscription to this filter has ended.
    pub(super) fn discount_subscription(&mut self, text: &str) {
        self.counters.subscriptions -= 1;
        self.memory.subscriptions.subtract(subscription_bytes(text.len()));
    }

    /// A shard for which as many letters wait as should.
    pub(super) fn crowded_peer(&self, ports: &mut impl Ports) -> Option<ShardId> {
        self.settings.peers().find(|&peer| ports.letters(peer).is_crowded())
    }
}

/// In this time the rights of a token that has expired end everywhere.
const GRACE: Span = Span::from_secs(1);

#[cfg(test)]
impl Context {
    /// The context of the first of `shards` shards, for tests of its parts.
    pub(super) fn of_shard(shards: usize) -> Context {
        let settings = Settings {
            shard: ShardId::FIRST,
            shards,
            seed: Seed::new(1),
            started_at: Moment::default(),
            wall_clock: WallClock::new(Moment::default(), WallTime::default()),
            failures: Failures::new(Seed::new(1)),
            sessions: SharedCount::default(),
            accounts: Accounts::default(),
            memory: MemoryBudget::new(usize::MAX),
            store: None,
        };
        Context::new(settings, &super::rules::tests::rules())
    }
}
