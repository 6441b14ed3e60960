//! Share groups: one member of each gets the message, and inherits it from a member that ends.
//!
//! The publisher's shard chooses a shard and that shard chooses the member, both by the group's
//! strategy. What a session leaves behind takes the same way again, a bounded number a turn.

use super::{
    Shard,
    deliver::{Fanout, Means, Origin, Share},
    granted::Granted,
    letter::{Address, GroupKeys},
    orphans::ORPHANS_PER_TURN,
    ports::Ports,
};
use crate::{
    base::ids::ShardId,
    routing::{GroupId, Selector},
    session::{Session, message::MessageView, queue::QueuedMessage},
};

impl Shard {
    /// Brings a message to one member of each matching share group: to those here, and by letter
    /// to those that another shard is to choose.
    pub(super) fn deliver_to_groups(&mut self, view: &MessageView<'_>, ports: &mut impl Ports) {
        for at in 0..self.interest.matched() {
            for nth in 0..self.interest.groups(at).len() {
                let group = self.interest.groups(at)[nth];
                self.deliver_to_group(view, group, ports);
            }
        }
    }

    fn deliver_to_group(&mut self, view: &MessageView<'_>, group: GroupId, ports: &mut impl Ports) {
        let selector = self.interest.selector(view, group, ports);
        match self.interest.choose_shard(group, selector) {
            Some(shard) if shard == self.settings.shard => {
                self.deliver_to_member(view, group, selector, Origin::Publisher, ports);
            }
            Some(shard) => {
                let keys = &mut self.routes.group_keys[shard.index()];
                self.interest.write_key(group, keys);
                self.routes.group_shards.insert(shard);
            }
            None => self.counters.dropped_no_member += 1,
        }
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
        let Shard { interest, sessions, rules, buffers, pressure, counters, .. } = self;
        let load = |member| sessions.get(member).map_or(usize::MAX, Session::load);
        let Some(entry) = interest.choose_member(group, selector, load) else {
            counters.dropped_no_member += 1;
            return;
        };
        let session = sessions.get_mut(entry.subscriber).expect("a member of a group is a session");
        let id = [entry.subscription_id];
        let ids = if entry.subscription_id == 0 { &[][..] } else { &id };
        let means = Means { now: self.now, limits: &rules.limits, buffers, pressure, counters };
        Fanout::new(view, means, ports).by(Share { group: interest.name(group), origin }).deliver(
            entry.subscriber,
            session,
            Granted::unpack(entry.options).options,
            ids,
        );
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
        let selector = self.interest.selector(view, group, ports);
        let Some(shard) = self.interest.choose_shard(group, selector) else {
            self.counters.dropped_no_member += 1;
            return None;
        };
        if shard == self.settings.shard {
            self.deliver_to_member(view, group, selector, Origin::Orphaned, ports);
            return None;
        }
        let mut keys = String::new();
        self.interest.write_key(group, &mut keys);
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

    /// Brings some of what is left behind to those who inherit it.
    pub(super) fn redistribute(&mut self, ports: &mut impl Ports) {
        for _ in 0..ORPHANS_PER_TURN {
            let Some(queued) = self.orphans.next() else { break };
            let written_to = self.pass_on(&queued, ports);
            if written_to.is_some_and(|shard| ports.letters(shard).is_crowded()) {
                break;
            }
        }
        // No publisher is held back for what it has not caused.
        self.hold_for_crowded(None, ports);
    }

    fn pass_on(&mut self, queued: &QueuedMessage, ports: &mut impl Ports) -> Option<ShardId> {
        if queued.message.has_expired(self.now) {
            self.counters.dropped_expired += 1;
            return None;
        }
        let name = queued.group.as_ref()?;
        let Some(group) = self.interest.find_group(name.as_shared()) else {
            self.counters.dropped_no_member += 1;
            return None;
        };
        self.pass_to_group(&queued.message.view(), group, 1, ports)
    }
}
