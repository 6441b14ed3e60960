//! Stories: what clients see of a broker of one, two and four shards, told packet by packet.
//!
//! Everything runs in one thread on a clock of its own; see [`world`].

mod accounts;
mod aliases;
mod authenticating;
mod bridging;
mod budgets;
mod connecting;
mod counting;
mod exchanges;
mod expiring;
mod fairness;
mod guessing;
mod hazards;
mod hook;
#[path = "../support/jwt.rs"]
mod jwt;
mod limits;
mod log;
mod logging;
mod logins;
mod memory;
mod narrowing;
mod packets;
mod payloads;
mod presence;
mod publishing;
mod rates;
mod reasons;
mod referring;
mod reloading;
mod replaying;
mod requesting;
mod revoking;
mod rights;
mod scram;
mod sessions;
mod sharing;
mod simulated;
mod statements;
mod store_full;
mod story;
mod subscribing;
mod surviving;
mod tokens;
mod wills;
mod world;

use ringmq::mqtt::{Connect, Delivery, Packet, QoS, Version};
use world::World;

pub(crate) const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];
pub(crate) const SHARDS: [usize; 3] = [1, 2, 4];

/// Every pair of a number of shards and a version.
pub(crate) fn everywhere(tell: impl Fn(usize, Version)) {
    for shards in SHARDS {
        for version in VERSIONS {
            tell(shards, version);
        }
    }
}

/// A client that has connected; its CONNACK has been read.
pub(crate) fn join(world: &mut World, connect: &Connect<'_>) -> usize {
    let client = world.open(connect.version);
    world.send(client, &packets::bytes(&Packet::Connect(*connect), connect.version));
    let received = world.received(client);
    assert!(received[0].starts_with("CONNACK Success"), "{received:?}");
    client
}

/// A client that has connected with a clean start.
pub(crate) fn join_as(world: &mut World, version: Version, client_id: &str) -> usize {
    join(world, &packets::connect(version, client_id))
}

/// A client that has subscribed to one filter; its SUBACK has been read.
pub(crate) fn subscriber(
    world: &mut World,
    version: Version,
    name: &str,
    filter: &str,
    qos: QoS,
) -> usize {
    let client = join_as(world, version, name);
    world.send(client, &packets::subscribe(version, 1, &[(filter, packets::at(qos))]));
    let granted = qos as u8;
    assert_eq!(world.received(client), [format!("SUBACK 1 [{granted:02x}]")]);
    client
}

pub(crate) fn publish(
    world: &mut World,
    client: usize,
    version: Version,
    topic: &str,
    delivery: Delivery,
    payload: &str,
) {
    let publish = packets::publish(topic, delivery, payload);
    world.send(client, &packets::bytes(&Packet::Publish(publish), version));
}

/// A retained message at QoS 0.
pub(crate) fn retain(
    world: &mut World,
    client: usize,
    version: Version,
    topic: &str,
    payload: &str,
) {
    let publish = packets::publish(topic, Delivery::AtMostOnce, payload);
    let publish = ringmq::mqtt::Publish { retain: true, ..publish };
    world.send(client, &packets::bytes(&Packet::Publish(publish), version));
}
