//! How evenly each strategy shares messages out to the members of a group.
//!
//! `cargo test --release --test stories fairness -- --nocapture` prints the table.

use std::thread;

use ringmq::{
    mqtt::{Ack, Delivery, Packet, QoS, Version},
    routing::{Strategies, Strategy},
};

use crate::{
    join_as,
    packets::{ack, bytes, connect, disconnect, id, publish},
    sharing::STRATEGIES,
    subscriber,
    world::World,
};

const MEMBERS: usize = 8;
/// Messages between two looks at what the members have received.
const BATCH: usize = 500;
const WRITERS: usize = 20;

/// One group's members, each with how many messages it has received.
type Counts = [usize; MEMBERS];

#[derive(Clone, Copy)]
struct Trial {
    shards: usize,
    groups: usize,
    messages: usize,
}

struct Group {
    members: [usize; MEMBERS],
    got: Counts,
}

impl Group {
    fn join(world: &mut World, name: usize) -> Group {
        let members = std::array::from_fn(|n| {
            let (client_id, share) =
                (format!("member {name} {n}"), format!("$share/{name}/jobs/#"));
            subscriber(world, Version::V5, &client_id, &share, QoS::AtLeastOnce)
        });
        Group { members, got: [0; MEMBERS] }
    }

    /// Every member acknowledges what it has received, until there is no more.
    fn take(&mut self, world: &mut World) {
        for (&member, got) in self.members.iter().zip(&mut self.got) {
            loop {
                let ids = world.received_ids(member);
                if ids.is_empty() {
                    break;
                }
                *got += ids.len();
                for packet_id in ids {
                    let puback = Packet::Puback(Ack { packet_id, ..ack(1) });
                    world.push(member, &bytes(&puback, Version::V5));
                }
                world.run();
            }
        }
    }
}

/// A client of its own publishes one message and leaves.
fn pass_by(world: &mut World, n: usize) {
    let client = world.open(Version::V5);
    let client_id = format!("publisher {n}");
    let message = publish("jobs/1", Delivery::AtLeastOnce(id(1)), "");
    let mut all = bytes(&Packet::Connect(connect(Version::V5, &client_id)), Version::V5);
    all.extend(bytes(&Packet::Publish(message), Version::V5));
    all.extend(disconnect(Version::V5));
    world.push(client, &all);
}

/// One of a few clients publishes a message to a topic of its own.
fn write(world: &mut World, writer: usize, n: usize) {
    let topic = format!("jobs/{n}");
    let message = publish(&topic, Delivery::AtLeastOnce(id(1)), "");
    world.push(writer, &bytes(&Packet::Publish(message), Version::V5));
}

/// Publishes all messages, and says what each member of each group has got.
fn share_out(strategy: Strategy, trial: Trial) -> Vec<Counts> {
    let Trial { shards, groups, messages } = trial;
    let strategies = Strategies { default: strategy, ..Strategies::default() };
    let mut world = World::sharing(shards, &strategies);
    let mut groups: Vec<Group> = (0..groups).map(|name| Group::join(&mut world, name)).collect();
    let names = (0..WRITERS).map(|n| format!("writer {n}"));
    let writers: Vec<usize> = names.map(|it| join_as(&mut world, Version::V5, &it)).collect();
    for n in 0..messages {
        if strategy == Strategy::HashClient {
            pass_by(&mut world, n);
        } else {
            write(&mut world, writers[n % WRITERS], n);
        }
        if n % BATCH == BATCH - 1 {
            world.run();
            for group in &mut groups {
                group.take(&mut world);
            }
        }
    }
    assert_eq!(world.counters().dropped_no_member, 0);
    groups.iter().map(|group| group.got).collect()
}

/// How far the member that is farthest from its fair share is from it, in percent.
fn deviation(got: &Counts) -> f64 {
    let precise = |count: usize| f64::from(u32::try_from(count).expect("few messages"));
    let fair = precise(got.iter().sum()) / precise(MEMBERS);
    let far = got.map(|count| precise(count) - fair);
    far.map(f64::abs).into_iter().fold(0.0, f64::max) / fair * 100.0
}

fn check(strategy: Strategy, trial: Trial, shares: &[Counts]) {
    let Trial { shards, messages, .. } = trial;
    for (group, got) in shares.iter().enumerate() {
        let what = format!("{strategy:?} on {shards} shards, group {group}: {got:?}");
        assert_eq!(got.iter().sum::<usize>(), messages, "{what}");
        if strategy == Strategy::Sticky {
            assert!(got.contains(&messages), "{what}");
        } else {
            assert!(deviation(got) <= 5.0, "{what}");
        }
    }
}

fn tell(strategy: Strategy, shares: &[Counts]) {
    for (group, got) in shares.iter().enumerate() {
        let counts = got.map(|count| format!("{count:>6}")).join(" ");
        let far = match strategy {
            Strategy::Sticky => "all to one".to_owned(),
            _ => format!("{:>6.2} %", deviation(got)),
        };
        let strategy = format!("{strategy:?}");
        println!("{strategy:<14} {group:>5}  {counts}  {far}");
    }
}

/// Tries each strategy in a thread of its own.
fn of_each(trial: Trial) -> Vec<(Strategy, Vec<Counts>)> {
    thread::scope(|scope| {
        let running =
            STRATEGIES.map(|strategy| (strategy, scope.spawn(move || share_out(strategy, trial))));
        running
            .into_iter()
            .map(|(strategy, it)| (strategy, it.join().expect("its own trial ran")))
            .collect()
    })
}

#[test]
fn three_groups_on_four_shards_share_fairly_by_each_strategy() {
    println!("strategy       group  messages of each of 8 members on 4 shards, and the farthest");
    let trial = Trial { shards: 4, groups: 3, messages: 100_000 };
    for (strategy, shares) in of_each(trial) {
        tell(strategy, &shares);
        check(strategy, trial, &shares);
    }
}

#[test]
fn a_group_on_one_or_two_shards_shares_fairly_by_each_strategy() {
    for shards in [1, 2] {
        let trial = Trial { shards, groups: 1, messages: 40_000 };
        for (strategy, shares) in of_each(trial) {
            check(strategy, trial, &shares);
        }
    }
}
