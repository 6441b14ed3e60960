//! Share groups: one member of each gets the message, and inherits it from a member that ends.
//!
//! The publisher's shard chooses a shard and that shard chooses the member, both by the group's
//! strategy. What a session leaves behind takes the same way again, a bounded number a turn.

use std::collections::VecDeque;

use super::{
    Shard,
    deliver::{Fanout, Origin, Share},
    letter::{Address, GroupKeys},
    ports::Ports,
    publish::options_of,
    sessions::Session,
    timers::Timer,
};
use crate::{
    base::{ids::ShardId, time::Span},
    routing::{GroupId, Selector, Strategy},
    session::{message::MessageView, outbound::Outbound, queue::QueuedMessage},
};

/// What ended sessions have left to the other members of their groups, oldest first.
pub(super) type Orphans = VecDeque<QueuedMessage>;

/// Messages that one turn brings to those who inherit them.
const ORPHANS_PER_TURN: usize = 1024;
/// The time between two such turns.
const ORPHANS_PAUSE: Span = Span::from_millis(1);

impl Shard {
    /// Brings a message to one member of each matching share group: to those here, and by letter
    /// to those that another shard is to choose.
    pub(super) fn deliver_to_groups(&mut self, view: &MessageView<'_>, ports: &mut impl Ports) {
        for at in 0..self.routes.matches.targets().len() {
            let target = self.routes.matches.targets()[at];
            for nth in 0..self.trie.groups(target).len() {
                let group = self.trie.groups(target)[nth];
                self.deliver_to_group(view, group, ports);
            }
        }
    }

    fn deliver_to_group(&mut self, view: &MessageView<'_>, group: GroupId, ports: &mut impl Ports) {
        let selector = self.selector(view, group, ports);
        match self.groups.choose_shard(group, selector) {
            Some(shard) if shard == self.settings.shard => {
                self.deliver_to_member(view, group, selector, Origin::Publisher, ports);
            }
            Some(shard) => {
                let keys = &mut self.routes.group_keys[shard.index()];
                GroupKeys::write(keys, self.groups.name(group).as_shared());
                self.routes.group_shards.insert(shard);
            }
            None => self.counters.dropped_no_member += 1,
        }
    }

    /// What the choice for this message follows from.
    pub(super) fn selector(
        &self,
        view: &MessageView<'_>,
        group: GroupId,
        ports: &mut impl Ports,
    ) -> Selector {
        Selector(match self.groups.strategy(group) {
            Strategy::RoundRobin | Strategy::LeastInFlight | Strategy::Sticky => 0,
            Strategy::Random => ports.random(),
            Strategy::HashClient => u64::from(view.publisher_hash),
            Strategy::HashTopic => self.settings.seed.hash(view.topic.as_str()),
        })
    }

    /// Delivers to the member of a group on this shard that is to have it. [MQTT-4.8.2-3]
    pub(super) fn deliver_to_member(
        &mut self,
        view: &MessageView<'_>,
        group: GroupId,
        selector: Selector,
        origin: Origin,
        ports: &mut impl Ports,
    ) {
        let Shard { groups, sessions, rules, buffers, counters, .. } = self;
        let load = |member| sessions.get(member).map_or(usize::MAX, Session::load);
        let Some(entry) = groups.choose_member(group, selector, load) else {
            counters.dropped_no_member += 1;
            return;
        };
        let Some(session) = sessions.get_mut(entry.subscriber) else { return };
        let id = [entry.subscription_id];
        let ids = if entry.subscription_id == 0 { &[][..] } else { &id };
        Fanout::new(self.now, view, &rules.limits, buffers, counters, ports)
            .by(Share { group: groups.name(group), origin })
            .deliver(entry.subscriber, session, options_of(entry), ids);
    }

    /// Brings a message to another member after the one that it was for has gone. Says which shard
    /// has been written to, if any.
    pub(super) fn pass_to_group(
        &mut self,
        view: &MessageView<'_>,
        group: GroupId,
        hops: u8,
        ports: &mut impl Ports,
    ) -> Option<ShardId> {
        let selector = self.selector(view, group, ports);
        let Some(shard) = self.groups.choose_shard(group, selector) else {
            self.counters.dropped_no_member += 1;
            return None;
        };
        if shard == self.settings.shard {
            self.deliver_to_member(view, group, selector, Origin::Orphaned, ports);
            return None;
        }
        let mut keys = String::new();
        GroupKeys::write(&mut keys, self.groups.name(group).as_shared());
        let address = Address {
            to_subscribers: false,
            groups: GroupKeys::from_text(&keys),
            retained_at: None,
            removes_retained: false,
            publisher: None,
            hops,
        };
        ports.letters(shard).push_publish(view, &address);
        Some(shard)
    }

    /// Takes what an ended session has left to its share groups.
    pub(super) fn orphan(&mut self, outbound: Outbound) {
        // When the broker stops, those who would inherit go too.
        if self.stopping {
            return;
        }
        let was_empty = self.orphans.is_empty();
        self.orphans.extend(outbound.into_shared());
        if was_empty && !self.orphans.is_empty() {
            self.wheel.insert(self.now, Timer::Orphans);
        }
    }

    /// Brings some of what is left behind to those who inherit it, and comes back for the rest.
    pub(super) fn redistribute(&mut self, ports: &mut impl Ports) {
        for _ in 0..ORPHANS_PER_TURN {
            let Some(queued) = self.orphans.pop_front() else { break };
            let written_to = self.pass_on(&queued, ports);
            if written_to.is_some_and(|shard| ports.letters(shard).is_crowded()) {
                break;
            }
        }
        // No publisher is held back for what it has not caused.
        self.hold_for_crowded(None, ports);
        if self.orphans.is_empty() {
            self.orphans = Orphans::new();
        } else {
            self.wheel.insert(self.now + ORPHANS_PAUSE, Timer::Orphans);
        }
    }

    fn pass_on(&mut self, queued: &QueuedMessage, ports: &mut impl Ports) -> Option<ShardId> {
        if queued.message.has_expired(self.now) {
            self.counters.dropped_expired += 1;
            return None;
        }
        let name = queued.group.as_ref()?;
        let Some(group) = self.groups.find(name.as_shared()) else {
            self.counters.dropped_no_member += 1;
            return None;
        };
        self.pass_to_group(&queued.message.view(), group, 1, ports)
    }
}
