//! What every part of a shard is told, and where each leaves what it has to say.
//!
//! No part asks another one for these. They are lent to whoever needs them, each with an interface
//! of its own; nothing here knows of connections, sessions or messages.

use std::rc::Rc;

use super::{rules::Rules, settings::Settings, stats::Counters, timers::Timers};
use crate::base::time::Moment;
#[cfg(test)]
use crate::base::{
    hash::Seed,
    ids::ShardId,
    shared_count::SharedCount,
    time::{WallClock, WallTime},
};

/// The place of a shard, what it keeps to, and what its parts note.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) settings: Settings,
    /// What every shard keeps to now.
    pub(super) rules: Rc<Rules>,
    /// The moment of the current call.
    pub(super) now: Moment,
    pub(super) counters: Counters,
    /// What the shard is to be reminded of.
    pub(super) timers: Timers,
    /// The broker is stopping.
    pub(super) stopping: bool,
}

impl Context {
    pub(super) fn new(settings: Settings, rules: &Rules) -> Context {
        let now = settings.started_at;
        Context {
            rules: Rc::new(rules.clone()),
            now,
            counters: Counters::default(),
            timers: Timers::new(now),
            stopping: false,
            settings,
        }
    }
}

#[cfg(test)]
impl Context {
    /// That of the first of so many shards, for tests of its parts.
    pub(super) fn of_shard(shards: usize) -> Context {
        let settings = Settings {
            shard: ShardId::FIRST,
            shards,
            seed: Seed::new(1),
            started_at: Moment::default(),
            wall_clock: WallClock::new(Moment::default(), WallTime::default()),
            sessions: SharedCount::default(),
            listeners: Vec::new(),
        };
        Context::new(settings, &super::rules::tests::rules())
    }
}
