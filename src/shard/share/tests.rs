use super::{
    super::{
        deliveries::tests::{World, connect},
        ports::fake::{Done, FakePorts},
    },
    *,
};
use crate::{
    base::ids::ConnectionId, mqtt::QoS, routing::Counts, session::message::tests::view,
    topic::TopicName,
};

const OTHER: ConnectionId = ConnectionId { slot: 1, generation: 0 };
const GROUP: &str = "$share/g/a";

/// Two members of one group on one shard, and what ended members have left.
struct Members {
    world: World,
    orphans: Orphans,
    forwarding: Forwarding,
    other: SubscriberId,
}

impl Members {
    fn new() -> Members {
        let mut world = World::new(&[(GROUP, QoS::AtLeastOnce)]);
        let other = connect(&mut world.sessions, "other", OTHER);
        world.subscribe(other, GROUP, QoS::AtLeastOnce);
        let peer = ShardId::new(1).unwrap();
        let forwarding = Forwarding::new(2, std::iter::once(peer));
        Members { world, orphans: Orphans::default(), forwarding, other }
    }

    fn groups<R>(&mut self, work: impl FnOnce(GroupDelivery<'_>, &mut FakePorts) -> R) -> R {
        let Members { world, orphans, forwarding, .. } = self;
        let World { deliveries, interest, sessions, context, ports, .. } = world;
        let out = (deliveries, forwarding);
        let groups = GroupDelivery::new(orphans, interest, sessions, out, context, false);
        work(groups, ports)
    }

    fn publish(&mut self, qos: QoS) {
        let topic = TopicName::parse("a").unwrap();
        self.world.interest.find(topic, usize::MAX);
        self.groups(|mut groups, ports| groups.deliver_to_groups(0, &view("a", b"", qos), ports));
    }

    fn redistribute(&mut self) -> Option<Span> {
        self.groups(|mut groups, ports| groups.redistribute(ports))
    }

    /// How many messages each of them holds, in flight or queued.
    fn loads(&self) -> [usize; 2] {
        let load = |member| self.world.sessions.get(member).map_or(0, Session::load);
        [load(self.world.subscriber), load(self.other)]
    }

    /// The session of one of them ends.
    fn end(&mut self, member: SubscriberId) {
        let World { interest, sessions, ports, .. } = &mut self.world;
        let session = sessions.remove(member).unwrap();
        interest.unsubscribe(Subscription::parse(GROUP).unwrap(), member, ports);
        assert!(self.orphans.take_from(session.into_outbound()));
    }
}

#[test]
fn members_get_messages_in_turn() {
    let mut members = Members::new();
    for expected in [1, 2] {
        (0..2).for_each(|_| members.publish(QoS::AtLeastOnce));
        assert_eq!(members.loads(), [expected; 2]);
    }
    let sent = members.world.ports.done.iter().filter(|done| matches!(done, Done::Sent(..)));
    assert_eq!(sent.count(), 2, "the window of each is one message");
}

#[test]
fn what_finds_all_members_full_waits_within_a_limit_and_beyond_it_is_dropped_and_counted() {
    let mut members = Members::new();
    let rules = Rc::make_mut(&mut members.world.context.rules);
    rules.limits.queue.messages_max = 1;
    (0..4).for_each(|_| members.publish(QoS::AtLeastOnce));
    assert_eq!((members.loads(), members.world.context.counters.dropped_queue_full), ([2; 2], 0));
    for dropped in [0, 1] {
        members.publish(QoS::AtLeastOnce);
        let counters = &members.world.context.counters;
        assert_eq!((members.loads(), counters.dropped_queue_full), ([2; 2], dropped));
        assert_eq!(members.orphans.len(), 1);
    }
    let rules = Rc::make_mut(&mut members.world.context.rules);
    rules.limits.queue.messages_max = 2;
    assert_eq!(members.redistribute(), None);
    assert_eq!((members.loads(), members.orphans.len()), ([3, 2], 0));
}

#[test]
fn what_an_ended_member_held_comes_to_another_one() {
    let mut members = Members::new();
    (0..4).for_each(|_| members.publish(QoS::AtLeastOnce));
    members.end(members.other);
    assert_eq!(members.redistribute(), None);
    assert_eq!((members.loads(), members.orphans.len()), ([4, 0], 0));
    members.end(members.world.subscriber);
    members.redistribute();
    assert_eq!(members.world.context.counters.dropped_no_member, 4);
}

#[test]
fn another_shard_gets_its_share_by_letter() {
    let mut members = Members::new();
    let peer = ShardId::new(1).unwrap();
    let Ok(Subscription::Shared(shared)) = Subscription::parse(GROUP) else { panic!("shared") };
    members.world.interest.hear_group(
        peer,
        shared,
        Counts { all: 2, online: 2, ..Counts::default() },
    );
    (0..4).for_each(|_| members.publish(QoS::AtLeastOnce));
    assert_eq!(members.loads(), [1; 2]);
}

#[test]
fn a_turn_brings_a_slice_of_what_ended_members_held_to_others() {
    let mut members = Members::new();
    (0..8).for_each(|_| members.publish(QoS::AtLeastOnce));
    members.end(members.other);
    Rc::make_mut(&mut members.world.context.rules).limits.slice_steps = 3 * Steps::GROUP;
    assert!(members.redistribute().is_some());
    assert_eq!((members.loads(), members.orphans.len()), ([7, 0], 1));
    assert_eq!(members.redistribute(), None);
    assert_eq!((members.loads(), members.orphans.len()), ([8, 0], 0));
}
