use std::rc::Rc;

use super::{
    super::{
        connections::Connections,
        ports::fake::{Done, FakePorts},
        pressure::Publisher,
    },
    *,
};
use crate::{
    access::{Accounts, Principal},
    base::{
        ids::{ConnectionId, ShardId},
        time::Span,
    },
    mqtt::{QoS, SubscriptionOptions, Version},
    session::{Link, message::tests::view, terms::Terms},
    topic::{Subscription, TopicName},
};

const CONNECTION: ConnectionId = ConnectionId { slot: 0, generation: 0 };
const PUBLISHER: ConnectionId = ConnectionId { slot: 9, generation: 0 };
const ROOM: usize = 64 << 10;

/// The messages of a shard with one connected client that has these subscriptions.
pub(in crate::shard) struct World {
    pub(in crate::shard) deliveries: Deliveries,
    pub(in crate::shard) interest: Interest,
    pub(in crate::shard) sessions: Sessions,
    pub(in crate::shard) connections: Connections,
    pub(in crate::shard) context: Context,
    pub(in crate::shard) ports: FakePorts,
    pub(in crate::shard) subscriber: SubscriberId,
}

/// Begins the session of a client that is connected.
pub(in crate::shard) fn connect(
    sessions: &mut Sessions,
    client_id: &str,
    connection: ConnectionId,
) -> SubscriberId {
    let (peer, accounts) = ("127.0.0.1:1".parse().unwrap(), &Accounts::default());
    let principal = Principal::stranger(0, peer, accounts).named(client_id, None, accounts);
    let principal = Rc::new(principal);
    let subscriber = sessions.create(Rc::clone(&principal));
    let link = Link { connection, terms: Terms::plain(Version::V311) };
    sessions.of_connected_mut(subscriber).connect(principal, link, 1, 0, None);
    subscriber
}

impl World {
    pub(in crate::shard) fn new(filters: &[(&str, QoS)]) -> World {
        let context = Context::of_shard(2);
        let mut sessions = Sessions::new(Seed::new(1));
        let subscriber = connect(&mut sessions, "client", CONNECTION);
        let mut world = World {
            deliveries: Deliveries::new(Seed::new(1)),
            interest: Interest::new(&context.settings, context.rules.strategies.clone()),
            sessions,
            connections: Connections::new(2),
            context,
            ports: FakePorts { room: ROOM, ..FakePorts::new(2) },
            subscriber,
        };
        for &(filter, qos) in filters {
            world.subscribe(subscriber, filter, qos);
        }
        world
    }

    pub(in crate::shard) fn subscribe(&mut self, subscriber: SubscriberId, filter: &str, qos: QoS) {
        let options = Granted::new(SubscriptionOptions::with_qos(qos), false).pack();
        let entry = Entry { subscriber, options, subscription_id: 0 };
        let subscription = Subscription::parse(filter).unwrap();
        self.interest.subscribe(subscription, entry, &mut self.ports);
    }

    pub(in crate::shard) fn deliver(&mut self, topic: &str, qos: QoS) {
        let World { deliveries, interest, sessions, context, ports, .. } = self;
        interest.find(TopicName::parse(topic).unwrap(), usize::MAX);
        let view = view(topic, b"", qos);
        deliveries.deliver_matches(&view, None, (interest, sessions), context, ports);
    }

    /// The publisher on the other shard has caused what was delivered last.
    fn hold(&mut self) {
        let shard = ShardId::new(1).unwrap();
        let publisher = Some(Publisher { shard, connection: PUBLISHER });
        let World { deliveries, sessions, connections, context, ports, .. } = self;
        deliveries.hold_for_crowded(publisher, (sessions, connections), context, ports);
    }

    fn pump(&mut self) -> Option<bool> {
        let World { deliveries, sessions, context, ports, subscriber, .. } = self;
        let retained = Retained::new(ShardId::FIRST, context.now);
        deliveries.pump(*subscriber, sessions, &retained, context, ports)
    }

    fn sent(&mut self) -> usize {
        let done = std::mem::take(&mut self.ports.done);
        done.iter().filter(|done| matches!(done, Done::Sent(CONNECTION, _))).count()
    }

    /// Letters that the other shard is to get, those about filters aside.
    fn letters(&self) -> Vec<String> {
        let letters = self.ports.letters[1].iter().map(|letter| format!("{letter:?}"));
        letters.filter(|letter| !letter.contains("filter")).collect()
    }
}

#[test]
fn a_session_gets_a_message_once_at_the_highest_qos_of_its_subscriptions() {
    let mut world = World::new(&[("a/#", QoS::AtMostOnce), ("a/+", QoS::AtLeastOnce)]);
    world.deliver("a/b", QoS::ExactlyOnce);
    assert_eq!(world.sent(), 1);
    let outbound = world.sessions.of_connected_mut(world.subscriber).outbound();
    assert_eq!(outbound.in_flight(), 1);
}

#[test]
fn what_waits_is_sent_when_the_window_opens() {
    let mut world = World::new(&[("a", QoS::AtLeastOnce)]);
    (0..2).for_each(|_| world.deliver("a", QoS::AtLeastOnce));
    assert_eq!((world.sent(), world.pump(), world.sent()), (1, Some(false), 0));
    let session = world.sessions.of_connected_mut(world.subscriber);
    assert!(session.outbound_mut().handle_puback(crate::mqtt::PacketId::MIN));
    assert_eq!((world.pump(), world.sent()), (Some(false), 1));
    let session = world.sessions.of_connected_mut(world.subscriber);
    session.disconnect(world.context.now, false);
    assert_eq!(world.pump(), None);
}

#[test]
fn a_publisher_waits_for_a_crowded_subscriber_until_it_has_caught_up_or_patience_is_over() {
    let mut world = World::new(&[("a", QoS::AtMostOnce)]);
    let hold = |world: &mut World| {
        world.ports.room = ROOM / 4;
        world.deliver("a", QoS::AtMostOnce);
        world.hold();
    };
    hold(&mut world);
    assert!(world.deliveries.is_pressing(world.subscriber));
    let look = |world: &mut World, room| {
        world.ports.room = room;
        let World { deliveries, sessions, connections, context, ports, subscriber, .. } = world;
        deliveries.look_at_patience(*subscriber, (sessions, connections), context, ports);
        world.letters().len()
    };
    assert_eq!((look(&mut world, ROOM / 2), look(&mut world, ROOM)), (1, 2));
    assert!(!world.deliveries.is_pressing(world.subscriber));
    hold(&mut world);
    world.context.now = world.context.now + Span::from_secs(10);
    assert_eq!((look(&mut world, 0), world.context.counters.patience_exhausted), (4, 1));
}

#[test]
fn retained_messages_are_asked_for_as_the_subscription_says() {
    let mut world = World::new(&[]);
    let mut retained = Retained::new(ShardId::FIRST, world.context.now);
    let now = (world.context.now, world.context.settings.wall_clock.time_of(world.context.now));
    let maximum = world.context.rules.limits.retained();
    retained.change(&view("a", b"1", QoS::AtMostOnce), None, now, maximum).1.unwrap();
    for (retain_handling, is_new, is_wanted) in [
        (RetainHandling::SendAtSubscribe, false, true),
        (RetainHandling::SendIfNew, true, true),
        (RetainHandling::SendIfNew, false, false),
        (RetainHandling::DoNotSend, true, false),
    ] {
        let options = SubscriptionOptions {
            retain_handling,
            ..SubscriptionOptions::with_qos(QoS::AtMostOnce)
        };
        let options = Granted::new(options, false).pack();
        let entry = Entry { subscriber: world.subscriber, options, subscription_id: 0 };
        let filter = TopicFilter::parse("a").unwrap();
        world.deliveries.open_replay(filter, entry, is_new, &retained);
        assert_eq!(world.deliveries.has_replays(world.subscriber), is_wanted);
        world.deliveries.end_replay(world.subscriber, "a");
    }
}
