use std::{rc::Rc, sync::Arc};

use super::{
    super::{
        deliveries::tests::connect,
        granted::Granted,
        letter::{Address, GroupKeys, Letter, LetterBatch},
        ports::fake::{Done, FakePorts},
    },
    *,
};
use crate::{
    base::hash::Seed,
    mqtt::{QoS, SubscriptionOptions},
    routing::{Change, Stamp},
    session::message::{Message, tests::view},
    topic::TopicFilter,
};

const CONNECTION: ConnectionId = ConnectionId { slot: 0, generation: 0 };

/// The router of the first of two shards, with one connected client.
struct World {
    router: Router,
    sessions: Sessions,
    connections: Connections,
    context: Context,
    ports: FakePorts,
    subscriber: SubscriberId,
}

impl World {
    fn new() -> World {
        let context = Context::of_shard(2);
        let mut sessions = Sessions::new(Seed::new(1));
        let subscriber = connect(&mut sessions, "client", CONNECTION);
        World {
            router: Router::new(&context),
            sessions,
            connections: Connections::new(2),
            context,
            ports: FakePorts { room: 1 << 16, ..FakePorts::new(2) },
            subscriber,
        }
    }

    fn subscribe(&mut self, filter: &str) -> Result<u64, Reason> {
        let World { router, sessions, context, ports, subscriber, .. } = self;
        let options = SubscriptionOptions::with_qos(QoS::AtLeastOnce);
        let options = Granted::new(options, false).pack();
        let entry = Entry { subscriber: *subscriber, options, subscription_id: 0 };
        let subscription = Subscription::parse(filter).unwrap();
        router.subscribe((filter, subscription), entry, sessions, context, ports)
    }

    fn unsubscribe(&mut self, filter: &str) -> Result<(), Reason> {
        let World { router, sessions, context, ports, subscriber, .. } = self;
        let filter = (filter, Subscription::parse(filter).unwrap());
        router.unsubscribe(filter, *subscriber, sessions, context, ports)
    }

    /// Whether anyone wants the message, how often it is sent here, and how many letters it makes.
    fn route(&mut self, topic: &str, retain: bool) -> (bool, usize, usize) {
        let letters = self.letters();
        let World { router, sessions, connections, context, ports, .. } = self;
        let view = MessageView { retain, ..view(topic, b"1", QoS::AtMostOnce) };
        let matched = router.route(&view, None, (sessions, connections), context, ports);
        let sent = std::mem::take(&mut ports.done);
        let sent = sent.iter().filter(|done| matches!(done, Done::Sent(..))).count();
        (matched, sent, self.letters() - letters)
    }

    fn letters(&self) -> usize {
        self.ports.letters[1].iter().count()
    }
}

#[test]
fn a_message_comes_to_sessions_here_and_to_shards_that_want_it() {
    let mut world = World::new();
    assert_eq!(world.route("a", false), (false, 0, 0));
    assert_eq!(world.subscribe("a"), Ok(1));
    assert_eq!(world.route("a", false), (true, 1, 0));
    let peer = ShardId::new(1).unwrap();
    let filter = TopicFilter::parse("+").unwrap();
    world.router.interest_mut().hear_filter(peer, filter, true);
    assert_eq!(world.route("a", false), (true, 1, 1));
    assert_eq!((world.unsubscribe("a"), world.unsubscribe("a").is_err()), (Ok(()), true));
    assert_eq!(world.route("a", false), (true, 0, 1));
}

/// Two filters of this shard may look alike to another one.
#[test]
fn a_message_that_nobody_wants_here_is_counted() {
    let mut world = World::new();
    world.subscribe("a").unwrap();
    let mut letters = LetterBatch::default();
    for (topic, retain) in [("a", false), ("b", false), ("c", true)] {
        let view = MessageView { retain, ..view(topic, b"1", QoS::AtMostOnce) };
        let stamp = Stamp { time: 1, shard: ShardId::FIRST };
        let change = Arc::new(Change::new(view.topic, Some(Message::keep(&view)), stamp));
        let address = Address {
            to_subscribers: true,
            groups: GroupKeys::default(),
            retention: retain.then_some(&change),
            publisher: None,
            hops: 0,
            recorded: None,
        };
        letters.push_publish(&view, &address);
    }
    let World { router, sessions, connections, context, ports, .. } = &mut world;
    for letter in letters.iter() {
        let Letter::Publish(publish) = letter else { panic!("a message") };
        let message = (ShardId::FIRST, publish, &letters.open(publish));
        router.read_publish(message, (sessions, connections), context, ports);
    }
    assert_eq!((ports.done.len(), context.counters.letters_in_vain), (1, 1));
}

#[test]
fn a_retained_message_is_told_to_all_shards_and_is_there_for_later_subscriptions() {
    let mut world = World::new();
    assert_eq!(world.route("a", true), (false, 0, 1));
    assert_eq!(world.router.retained().limited().messages, 1);
    assert_eq!(world.subscribe("a"), Ok(1));
    let World { router, sessions, connections, context, ports, subscriber } = &mut world;
    router.pump(*subscriber, (sessions, connections), context, ports);
    assert!(matches!(ports.done[..], [Done::Sent(CONNECTION, _)]));
}

#[test]
fn a_session_that_has_ended_has_no_subscriptions_any_more() {
    let mut world = World::new();
    world.subscribe("a").unwrap();
    let World { router, sessions, connections, context, ports, subscriber } = &mut world;
    sessions.of_connected_mut(*subscriber).disconnect(context.now, false);
    router.note_disconnected(*subscriber, (sessions, connections), context, ports);
    let session = sessions.remove(*subscriber).unwrap();
    router.end_session(*subscriber, session, sessions, context, ports);
    assert_eq!((context.counters.subscriptions, router.waiting()), (0, (0, 0)));
    assert_eq!(world.route("a", false), (false, 0, 0));
}

#[test]
fn what_the_limits_forbid_is_not_subscribed_to() {
    let mut world = World::new();
    Rc::make_mut(&mut world.context.rules).limits.subscriptions_max = 1;
    assert_eq!(world.subscribe("1/2/3/4/5/6/7/8/9"), Err(Reason::FilterTooDeep));
    assert_eq!(world.subscribe("a"), Ok(1));
    assert_eq!(world.subscribe("b"), Err(Reason::SubscriptionsFull));
}
