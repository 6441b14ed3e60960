//! Which message of each topic may be retained.

use ringmq::{
    base::{time::Moment, wheel::TICK},
    mqtt::Publish,
    shard::inventory::RetainedInventory,
};

use super::{Witness, named, number_of};
use crate::{
    oracle::Seen,
    violation::{Violation, ensure},
};

/// A change of the retained message of a topic.
#[derive(Debug)]
pub(super) struct Change {
    /// `None`: the message is removed.
    number: Option<u64>,
    expires: bool,
    process: u64,
    shard: usize,
    step: u64,
    now: Moment,
    acknowledged: bool,
    /// Who has sent it at QoS 2.
    by: Option<(usize, u16)>,
}

impl Change {
    /// Whether the other change surely takes the place of this one.
    fn precedes(&self, other: &Change) -> bool {
        let is_here = (self.process, self.shard) == (other.process, other.shard);
        self.process < other.process
            || (is_here && self.step < other.step)
            || self.now + TICK <= other.now
    }
}

impl Witness {
    /// A shard has taken a message that is to be retained. Returns its topic, and the change that
    /// is made when it is acknowledged.
    pub(super) fn take_change(
        &mut self,
        seen: &Seen<'_>,
        link: usize,
        publish: &Publish<'_>,
    ) -> (String, usize) {
        let client = self.links[link].client;
        let is_steady = self.clients[client].steady;
        let by = named(publish.delivery).filter(|(_, exactly_once)| *exactly_once);
        let by = by.map(|(packet_id, _)| (client, packet_id));
        let change = Change {
            number: number_of(publish.payload),
            expires: publish.properties.message_expiry_interval.is_some(),
            process: self.process,
            shard: seen.shard,
            step: self.step,
            now: seen.now,
            acknowledged: false,
            by,
        };
        let changes = self.changes.entry(publish.topic.to_owned()).or_default();
        let is_same = |it: &&Change| by.is_some() && it.by == by && it.number == change.number;
        let earlier = changes.iter().position(|it| publish.dup && is_same(&it));
        // What is sent again at QoS 2 is not done again, unless a crash has taken it back.
        let mut here = changes.iter().filter(|it| it.process == change.process);
        let is_known = earlier.is_some() && is_steady && here.any(|it| is_same(&it));
        if !is_known {
            changes.push(change);
        }
        (publish.topic.to_owned(), earlier.unwrap_or(changes.len() - 1))
    }

    pub(super) fn acknowledge_change(&mut self, topic: &str, change: usize) {
        if let Some(changes) = self.changes.get_mut(topic) {
            changes[change].acknowledged = true;
        }
    }

    /// The retained messages of a shard are those that may be there.
    pub(super) fn check_retained(
        &self,
        at: usize,
        retained: &[RetainedInventory],
    ) -> Result<(), Violation> {
        // Of messages that take several turns it is not known which one came last.
        if self.splits {
            return Ok(());
        }
        for (topic, changes) in &self.changes {
            let kept = retained.iter().find(|kept| kept.topic == *topic && !kept.expired);
            let value = kept.and_then(|kept| number_of(kept.payload.as_deref()?));
            let is_superseded =
                |it: &Change| changes.iter().any(|by| by.acknowledged && it.precedes(by));
            let mut possible = changes.iter().filter(|it| !is_superseded(it));
            let told = || format!("shard {at}: {topic} has {value:?}, {changes:?}");
            let Some(number) = value else {
                let never = changes.iter().all(|it| !it.acknowledged);
                let may_be = never || possible.any(|it| it.number.is_none() || it.expires);
                ensure(may_be, "a retained message that was acknowledged is there", told)?;
                continue;
            };
            let may_be = possible.any(|it| it.number == Some(number));
            ensure(may_be, "what was removed or replaced does not come back", told)?;
        }
        let known = |kept: &&RetainedInventory| self.changes.contains_key(&kept.topic);
        let stray = retained.iter().find(|kept| !known(kept));
        ensure(stray.is_none(), "what is retained was published", || format!("{stray:?}"))
    }
}
