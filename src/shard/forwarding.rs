//! Writes a letter for each other shard that a message is for.
//!
//! Knows shards and letters; does not know how the receivers were found.

use super::{
    letter::{Address, GroupKeys},
    ports::Ports,
    recorder::Recorder,
    retained::Retention,
};
use crate::{
    base::ids::{ConnectionId, ShardId, ShardSet},
    session::message::MessageView,
    topic::SharedFilter,
};

/// The share groups of the message that is being routed, by the shards that serve them. The memory
/// is reused.
#[derive(Debug)]
pub(super) struct Forwarding {
    peers: ShardSet,
    group_keys: Vec<String>,
    /// Which shards have any.
    group_shards: ShardSet,
}

impl Forwarding {
    pub(super) fn new(shards: usize, peers: impl Iterator<Item = ShardId>) -> Forwarding {
        let mut others = ShardSet::EMPTY;
        peers.for_each(|peer| others.insert(peer));
        let group_keys = vec![String::new(); shards];
        Forwarding { peers: others, group_keys, group_shards: ShardSet::EMPTY }
    }

    /// Another shard is to give the message to a member of this group.
    pub(super) fn add_group(&mut self, shard: ShardId, group: SharedFilter<'_>) {
        GroupKeys::write(&mut self.group_keys[shard.index()], group);
        self.group_shards.insert(shard);
    }

    /// Whether any other shard is to get a letter, if these are interested.
    #[inline]
    pub(super) fn is_needed(&self, interested: ShardSet) -> bool {
        !interested.union(self.group_shards).is_empty()
    }

    /// Writes a letter for each other shard that the message is for. A message that changes a
    /// retained message is for all of them. Returns the shards whose batches are crowded now.
    #[inline]
    pub(super) fn post(
        &mut self,
        view: &MessageView<'_>,
        (interested, retention): (ShardSet, Option<&Retention>),
        publisher: Option<ConnectionId>,
        recorder: &mut Recorder,
        ports: &mut impl Ports,
    ) -> ShardSet {
        let mut shards = interested.union(self.group_shards);
        if retention.is_some() {
            shards = shards.union(self.peers);
        }
        let mut crowded = ShardSet::EMPTY;
        for shard in shards.iter() {
            let keys = &mut self.group_keys[shard.index()];
            let to_subscribers = retention.is_some() || interested.contains(shard);
            let address = Address {
                to_subscribers,
                groups: GroupKeys::from_text(keys),
                retention,
                publisher,
                hops: 0,
                recorded: recorder.aim(view.qos, (shard, to_subscribers), keys),
            };
            let letters = ports.letters(shard);
            letters.push_publish(view, &address);
            keys.clear();
            if letters.is_crowded() {
                crowded.insert(shard);
            }
        }
        self.group_shards = ShardSet::EMPTY;
        crowded
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        super::{
            context::Context,
            letter::{Letter, LetterBatch},
            ports::fake::FakePorts,
        },
        *,
    };
    use crate::{
        mqtt::QoS,
        routing::{Change, Stamp},
        session::message::tests::view,
        topic::Subscription,
    };

    /// How many letters each of three shards is sent, and for how many share groups.
    fn post(forwarding: &mut Forwarding, retention: Option<&Retention>) -> [(usize, usize); 3] {
        let mut ports = FakePorts::new(3);
        let mut interested = ShardSet::EMPTY;
        interested.insert(ShardId::new(1).unwrap());
        let view = view("a", b"", QoS::AtMostOnce);
        let recorder = &mut Context::of_shard(3).recorder;
        let crowded = forwarding.post(&view, (interested, retention), None, recorder, &mut ports);
        assert_eq!(crowded.iter().count(), 0);
        let groups = |letters: &LetterBatch| {
            let groups = letters.iter().map(|letter| match letter {
                Letter::Publish(publish) => letters.open(publish).groups.iter().count(),
                _ => 0,
            });
            (letters.iter().count(), groups.sum())
        };
        [groups(&ports.letters[0]), groups(&ports.letters[1]), groups(&ports.letters[2])]
    }

    #[test]
    fn each_shard_gets_one_letter_with_its_groups_and_a_change_of_a_retained_message_goes_to_all() {
        let shard = |index| ShardId::new(index).unwrap();
        let mut forwarding = Forwarding::new(3, [shard(1), shard(2)].into_iter());
        let Ok(Subscription::Shared(group)) = Subscription::parse("$share/g/a") else { panic!() };
        assert_eq!(post(&mut forwarding, None), [(0, 0), (1, 0), (0, 0)]);
        (0..2).for_each(|_| forwarding.add_group(shard(2), group));
        assert_eq!(post(&mut forwarding, None), [(0, 0), (1, 0), (1, 2)]);
        let topic = view("a", b"", QoS::AtMostOnce).topic;
        let stamp = Stamp { time: 1, shard: shard(0) };
        let retention = Arc::new(Change::new(topic, None, stamp));
        assert_eq!(post(&mut forwarding, Some(&retention)), [(0, 0), (1, 0), (1, 0)]);
    }
}
