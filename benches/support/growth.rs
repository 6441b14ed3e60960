//! A broker of many shards in one thread, without sockets: what a message costs as they are added.
//!
//! In a round each shard takes one turn with one message of each of its publishers, and one turn
//! with the letters that have come. Every shard sleeps before a round. scripts/growth.sh counts the
//! instructions of two runs that differ by their rounds alone.

use ringmq::base::ids::ConnectionId;

use crate::broker::{self, Broker, Counts};

/// Publishers of each shard, subscribers of each shard, and those of one topic.
const EACH: usize = 16;
/// Subscribers of all shards together, where their number is constant.
const TOTAL: usize = 512;

/// Who subscribes to what, and who publishes it.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// How many publishers there are.
    publishers: fn(shards: usize) -> usize,
    /// How many subscribers there are.
    subscribers: fn(shards: usize) -> usize,
    /// The Topic Filters of a subscriber.
    filters: fn(subscriber: usize, shards: usize) -> Vec<String>,
    /// The Topic Name of a publisher in a round.
    topic: fn(publisher: usize, round: usize, shards: usize) -> String,
    /// Whether the first shard is home to all subscribers.
    is_skewed: bool,
}

impl Workload {
    /// How many publishers it has on so many shards.
    pub(crate) fn publishers(&self, shards: usize) -> usize {
        (self.publishers)(shards)
    }
}

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "pairs",
        publishers: each,
        subscribers: each,
        filters: |subscriber, _| vec![format!("pairs/{subscriber}")],
        topic: |publisher, _, _| format!("pairs/{publisher}"),
        is_skewed: false,
    },
    Workload {
        name: "fan-in",
        publishers: each,
        subscribers: each,
        filters: |subscriber, _| vec![format!("in/{subscriber}/+")],
        topic: |publisher, round, shards| {
            let subscriber = (publisher + round % EACH * (EACH + 1)) % each(shards);
            format!("in/{subscriber}/{publisher}")
        },
        is_skewed: false,
    },
    Workload {
        name: "fan-out",
        publishers: each,
        subscribers: each,
        filters: |subscriber, shards| vec![format!("out/{}", subscriber % shards)],
        topic: |publisher, _, shards| format!("out/{}", publisher % shards),
        is_skewed: false,
    },
    Workload {
        name: "share",
        publishers: each,
        subscribers: each,
        filters: |subscriber, shards| vec![format!("$share/g/work/{}", subscriber % shards)],
        topic: |publisher, _, shards| format!("work/{}", publisher % shards),
        is_skewed: false,
    },
    Workload {
        name: "fan-out to 512",
        publishers: |_| 1,
        subscribers: |_| TOTAL,
        filters: |_, _| vec!["all".to_owned()],
        topic: |_, _, _| "all".to_owned(),
        is_skewed: false,
    },
    Workload {
        name: "hot topic",
        publishers: each,
        subscribers: |_| EACH,
        filters: |_, _| vec!["hot".to_owned()],
        topic: |_, _, _| "hot".to_owned(),
        is_skewed: false,
    },
    Workload {
        name: "skewed pairs",
        publishers: each,
        subscribers: each,
        filters: |subscriber, _| vec![format!("pairs/{subscriber}")],
        topic: |publisher, _, _| format!("pairs/{publisher}"),
        is_skewed: true,
    },
];

fn each(shards: usize) -> usize {
    EACH * shards
}

/// What all rounds have counted.
pub(crate) fn run(workload: &Workload, shards: usize, rounds: usize) -> Counts {
    let mut broker = Broker::new(shards);
    let homes = homes((workload.subscribers)(shards), shards, workload.is_skewed);
    for (subscriber, &home) in homes.iter().enumerate() {
        broker.subscribe(home, &(workload.filters)(subscriber, shards));
    }
    let publishers: Vec<Publisher> = (0..workload.publishers(shards))
        .map(|publisher| Publisher::new(workload, publisher, &mut broker))
        .collect();
    broker.forget_counts();
    for round in 0..rounds {
        broker.sleep();
        for Publisher { home, connection, packets } in &publishers {
            broker.publish(*home, *connection, &packets[round % EACH]);
        }
        broker.post();
        broker.receive();
    }
    broker.counts()
}

struct Publisher {
    home: usize,
    connection: ConnectionId,
    /// One for each round; after the last one comes the first.
    packets: Vec<Vec<u8>>,
}

impl Publisher {
    fn new(workload: &Workload, number: usize, broker: &mut Broker) -> Publisher {
        let shards = broker.shards();
        let home = number % shards;
        let packet = |round| broker::publish(&(workload.topic)(number, round, shards));
        Publisher {
            home,
            packets: (0..EACH).map(packet).collect(),
            connection: broker.client(home),
        }
    }
}

/// The shard of each subscriber: each shard as often, in an order that has nothing to do with the
/// publishers.
fn homes(subscribers: usize, shards: usize, is_skewed: bool) -> Vec<usize> {
    let spread = if is_skewed { 1 } else { shards };
    let mut homes: Vec<usize> = (0..subscribers).map(|subscriber| subscriber % spread).collect();
    let mut state = 1_u64;
    for last in (1..homes.len()).rev() {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let other = usize::try_from(state >> 33).expect("31 bits") % (last + 1);
        homes.swap(last, other);
    }
    homes
}
