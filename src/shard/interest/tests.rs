use super::{super::ports::fake::FakePorts, *};
use crate::routing::{Options, Strategies};

const ONE: SubscriberId = SubscriberId(1);
const OTHER: SubscriberId = SubscriberId(2);

fn shard(index: usize) -> ShardId {
    ShardId::new(index).unwrap()
}

/// The interest of the first of three shards.
fn interest() -> (Interest, FakePorts) {
    let interest = Interest::of_shard(shard(0), 3, Seed::new(1), Strategies::default());
    (interest, FakePorts::new(3))
}

fn entry(subscriber: SubscriberId) -> Entry {
    Entry { subscriber, options: Options(0), subscription_id: 0 }
}

fn parsed(text: &str) -> Subscription<'_> {
    Subscription::parse(text).unwrap()
}

fn name(text: &str) -> TopicName<'_> {
    TopicName::parse(text).unwrap()
}

/// How many letters wait for the second shard and the third.
fn letters(ports: &FakePorts) -> [usize; 2] {
    [1, 2].map(|peer| ports.letters[peer].iter().count())
}

#[test]
fn others_are_told_of_the_first_subscriber_of_a_filter_and_of_the_last() {
    let (mut interest, mut ports) = interest();
    assert_eq!(interest.subscribe(parsed("a"), entry(ONE), &mut ports), 1);
    assert_eq!(interest.subscribe(parsed("a"), entry(OTHER), &mut ports), 1);
    assert_eq!(letters(&ports), [1, 1]);
    interest.unsubscribe(parsed("a"), ONE, &mut ports);
    assert_eq!(letters(&ports), [1, 1]);
    interest.unsubscribe(parsed("a"), OTHER, &mut ports);
    assert_eq!(letters(&ports), [2, 2]);
}

#[test]
fn an_interest_is_applied_everywhere_when_every_other_shard_has_said_so() {
    let (mut interest, mut ports) = interest();
    let number = interest.subscribe(parsed("a"), entry(ONE), &mut ports);
    assert!(!interest.hear_applied(shard(1), number));
    assert!(interest.applied_everywhere() < number);
    assert!(interest.hear_applied(shard(2), number));
    assert_eq!(interest.applied_everywhere(), number);
}

#[test]
fn what_is_heard_is_confirmed_once() {
    let (mut interest, mut ports) = interest();
    interest.confirm(shard(1), &mut ports);
    assert_eq!(letters(&ports), [0, 0]);
    let Subscription::Plain(filter) = parsed("a") else { panic!("no share group") };
    interest.hear_filter(shard(1), filter, true);
    interest.hear_filter(shard(1), filter, false);
    interest.confirm(shard(1), &mut ports);
    interest.confirm(shard(1), &mut ports);
    assert_eq!(letters(&ports), [1, 0]);
    let letter = ports.letters[1].iter().next();
    assert!(matches!(letter, Some(Letter::InterestApplied { upto: 2 })));
}

#[test]
fn a_message_is_for_those_here_and_for_the_shards_that_have_said_so() {
    let (mut interest, mut ports) = interest();
    let Subscription::Plain(filter) = parsed("a/+") else { panic!("no share group") };
    interest.subscribe(parsed("a/b"), entry(ONE), &mut ports);
    interest.hear_filter(shard(2), filter, true);
    interest.find(name("a/b"), usize::MAX);
    assert_eq!((interest.matched(), interest.subscribers(0)), (1, &[entry(ONE)][..]));
    assert!(interest.shards().iter().eq([shard(2)]));
    interest.find(name("b"), usize::MAX);
    assert!(!interest.is_wanted());
}

#[test]
fn the_members_of_a_group_are_told_when_they_connect_and_disconnect() {
    let (mut interest, mut ports) = interest();
    let Subscription::Shared(shared) = parsed("$share/g/a") else { panic!("a share group") };
    interest.subscribe(parsed("$share/g/a"), entry(ONE), &mut ports);
    interest.set_online(shared, ONE, true, &mut ports);
    assert_eq!(letters(&ports), [1, 1]);
    interest.set_online(shared, ONE, false, &mut ports);
    assert_eq!(letters(&ports), [2, 2]);
    assert_eq!(interest.members(shared).first().map(|(_, counts)| counts.all), Some(1));
    interest.unsubscribe(parsed("$share/g/a"), ONE, &mut ports);
    assert_eq!((interest.group_count(), interest.members(shared)), (0, Vec::new()));
}
