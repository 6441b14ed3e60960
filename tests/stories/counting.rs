//! What `$SYS` says: each thing counted, once, and the broker's own messages not at all.

use std::collections::BTreeMap;

use ringmq::{
    base::time::Span,
    mqtt::{Connect, Delivery, Packet, QoS, Version},
    shard::{
        ports::End,
        rules::{Rules, WhenQueueFull},
        stats::Counters,
    },
    transport::{proxy::ProxyFailure, tls::TlsFailure},
};

use super::{
    SHARDS, everywhere, join, join_as,
    packets::{ack, at, bytes, connect, disconnect, id, publish, resume, subscribe, will},
    retain, subscriber,
    world::World,
};

/// A broker that publishes `$SYS` every second.
fn telling(shards: usize) -> World {
    World::told(shards, |rules| rules.sys_interval = Some(Span::from_secs(1)))
}

/// The latest payload of each topic below `$SYS/broker/` that a client has received.
fn sys(world: &mut World, watcher: usize) -> BTreeMap<String, String> {
    world.pass(Span::from_secs(1));
    let mut values = BTreeMap::new();
    world.look(watcher, |packet| {
        let Ok(Packet::Publish(publish)) = packet else { return };
        let Some(name) = publish.topic.strip_prefix("$SYS/broker/") else { return };
        let value = String::from_utf8_lossy(publish.payload).into_owned();
        values.insert(name.to_owned(), value);
    });
    values
}

#[test]
fn the_brokers_own_messages_count_in_no_limit_and_in_no_sum() {
    for shards in SHARDS {
        let mut world = World::told(shards, |rules| {
            rules.sys_interval = Some(Span::from_secs(1));
            rules.limits.retained_max = 1;
            rules.limits.retained_bytes_max = 1_000;
        });
        let watcher = subscriber(&mut world, Version::V5, "w", "$SYS/#", QoS::AtMostOnce);
        let values = sys(&mut world, watcher);
        assert_eq!((&*values["retained/count"], &*values["retained/bytes"]), ("0", "0"));
        retain(&mut world, watcher, Version::V5, "a", "1");
        retain(&mut world, watcher, Version::V5, "beyond", "1");
        let values = sys(&mut world, watcher);
        assert_eq!((&*values["retained/count"], &*values["retained/refused"]), ("1", "1"));
        assert!(values["retained/bytes"].parse::<usize>().unwrap() > 0);
        // They are retained all the same.
        let late = join_as(&mut world, Version::V5, "late");
        world.send(late, &subscribe(Version::V5, 1, &[("$SYS/#", at(QoS::AtMostOnce))]));
        assert!(world.received(late).iter().any(|line| line.contains("$SYS/broker/uptime retain")));
    }
}

#[test]
fn a_retained_message_that_was_deleted_is_counted_no_more() {
    everywhere(|shards, version| {
        let mut world = telling(shards);
        let watcher = subscriber(&mut world, version, "w", "$SYS/#", QoS::AtMostOnce);
        let writer = join_as(&mut world, version, "writer");
        for topic in 0..100 {
            retain(&mut world, writer, version, &format!("a/{topic}"), "1");
        }
        assert_eq!(sys(&mut world, watcher)["retained/count"], "100");
        for topic in 0..100 {
            retain(&mut world, writer, version, &format!("a/{topic}"), "");
        }
        let values = sys(&mut world, watcher);
        assert_eq!((&*values["retained/count"], &*values["retained/bytes"]), ("0", "0"));
    });
}

/// What ends one connection.
type Act = fn(&mut World, Version);
/// The way to end that it counts as.
type Way = fn(&Counters) -> u64;

/// Sends this as the first packet of a connection.
fn knock(world: &mut World, version: Version, first: &[u8]) -> usize {
    let client = world.open(version);
    world.send(client, first);
    client
}

fn send_from(world: &mut World, version: Version, packet: &[u8]) {
    let client = join_as(world, version, "a");
    world.send(client, packet);
}

const WAYS: &[(&str, Act, Way)] = &[
    ("DISCONNECT", |world, v| send_from(world, v, &disconnect(v)), |it| it.ended_by_client),
    (
        "a reset",
        |world, v| {
            let client = join_as(world, v, "a");
            world.break_off(client);
        },
        |it| it.ended_abruptly,
    ),
    (
        "an end before CONNECT",
        |world, v| {
            let client = world.open(v);
            world.finish(client);
        },
        |it| it.ended_abruptly,
    ),
    (
        "another connection",
        |world, v| {
            join_as(world, v, "a");
            join_as(world, v, "a");
        },
        |it| it.ended_taken_over,
    ),
    (
        "silence",
        |world, v| {
            let client = knock(
                world,
                v,
                &bytes(&Packet::Connect(Connect { keep_alive: 1, ..connect(v, "a") }), v),
            );
            assert!(!world.is_closed(client));
            world.pass(Span::from_secs(2));
        },
        |it| it.ended_keep_alive,
    ),
    (
        "no CONNECT",
        |world, v| {
            world.open(v);
            world.pass(Span::from_secs(11));
        },
        |it| it.ended_connect_timeout,
    ),
    (
        "a CONNECT cut short",
        |world, v| {
            let mut cut = bytes(&Packet::Connect(connect(v, "abc")), v);
            cut.pop();
            cut[1] -= 1;
            knock(world, v, &cut);
        },
        |it| it.ended_malformed,
    ),
    ("no MQTT", |world, v| send_from(world, v, &[0, 0]), |it| it.ended_malformed),
    (
        "a version that is none",
        |world, v| {
            let mut other = bytes(&Packet::Connect(connect(v, "a")), v);
            let level = if v == Version::V31 { 10 } else { 8 };
            other[level] = 99;
            knock(world, v, &other);
        },
        |it| it.ended_protocol_error,
    ),
    (
        "a second CONNECT",
        |world, v| send_from(world, v, &bytes(&Packet::Connect(connect(v, "a")), v)),
        |it| it.ended_protocol_error,
    ),
    (
        "a large packet",
        |world, v| send_from(world, v, &[0x30, 0xff, 0xff, 0xff, 0x7f]),
        |it| it.ended_too_large,
    ),
    (
        "a large CONNECT",
        |world, v| {
            knock(world, v, &[0x10, 0xff, 0xff, 0xff, 0x7f]);
        },
        |it| it.refused_connect_size,
    ),
    (
        "a forbidden Will",
        |world, v| {
            let forbidden = Connect { will: Some(will("$SYS/x", b"")), ..connect(v, "a") };
            knock(world, v, &bytes(&Packet::Connect(forbidden), v));
        },
        |it| it.refused_connect,
    ),
    (
        "a stranger",
        |world, v| {
            let client = world.open_on(v, 1);
            world.send(client, &bytes(&Packet::Connect(connect(v, "a")), v));
        },
        |it| it.refused_authentication,
    ),
    (
        "a broker with enough sessions",
        |world, v| {
            world.change_rules(|rules| rules.limits.sessions_max = 0);
            knock(world, v, &bytes(&Packet::Connect(connect(v, "a")), v));
        },
        |it| it.refused_sessions,
    ),
    (
        "a broker with enough connections",
        |world, v| {
            world.full = true;
            knock(world, v, &bytes(&Packet::Connect(connect(v, "a")), v));
        },
        |it| it.refused_connections,
    ),
    (
        "a full queue",
        |world, v| {
            world.change_rules(overrun);
            let slow = subscriber(world, v, "slow", "a", QoS::AtLeastOnce);
            world.reads(slow, false);
            let writer = join_as(world, v, "writer");
            for packet_id in 1..=4 {
                let delivery = Delivery::AtLeastOnce(id(packet_id));
                let packet = Packet::Publish(publish("a", delivery, "m"));
                world.send(writer, &bytes(&packet, v));
            }
            assert!(!world.is_closed(writer));
        },
        |it| it.ended_quota,
    ),
    ("no WebSocket", |world, v| end_as(world, v, End::HandshakeRefused), |it| it.refused_handshake),
    (
        "no TLS",
        |world, v| end_as(world, v, End::TlsFailed(TlsFailure::PlainMqtt)),
        |it| it.ended_tls,
    ),
    (
        "no header of a proxy",
        |world, v| end_as(world, v, End::ProxyRefused(ProxyFailure::Missing)),
        |it| it.refused_proxy,
    ),
    ("wrong frames", |world, v| end_as(world, v, End::FramesRefused), |it| it.ended_websocket),
    (
        "too many incomplete packets",
        |world, v| end_as(world, v, End::PartialOverflow),
        |it| it.ended_partial_overflow,
    ),
    ("no reading", |world, v| end_as(world, v, End::Stalled), |it| it.ended_stalled),
    (
        "a packet without an end",
        |world, v| end_as(world, v, End::PacketTimeout),
        |it| it.ended_packet_timeout,
    ),
    (
        "the broker's end, before CONNECT",
        |world, v| {
            world.open(v);
            world.stop();
        },
        |it| it.ended_shutting_down,
    ),
    (
        "the broker's end, before the connection",
        |world, v| {
            world.stop();
            world.open(v);
        },
        |it| it.ended_shutting_down,
    ),
];

fn overrun(rules: &mut Rules) {
    rules.limits.when_queue_full = WhenQueueFull::Disconnect;
    rules.limits.queue.messages_max = 1;
    rules.limits.inflight_max = 1;
    rules.limits.patience = Span::ZERO;
}

fn end_as(world: &mut World, version: Version, end: End) {
    let client = world.open(version);
    world.break_off_for(client, end);
}

/// That as many have come as are open and have ended is asserted in every story.
#[test]
fn a_connection_ends_in_one_way() {
    everywhere(|shards, version| {
        for (what, act, way) in WAYS {
            let mut world = World::new(shards);
            act(&mut world, version);
            let counters = world.counters();
            assert_eq!((way(&counters), counters.ended()), (1, 1), "{what}: {counters:?}");
        }
    });
}

#[test]
fn the_sums_are_of_one_moment_on_all_shards() {
    for shards in SHARDS {
        let mut world = telling(shards);
        let watcher = subscriber(&mut world, Version::V5, "w", "$SYS/#", QoS::AtMostOnce);
        let names: Vec<String> = (0..9).map(|number| format!("client {number}")).collect();
        let others: Vec<usize> =
            names.iter().map(|name| join_as(&mut world, Version::V5, name)).collect();
        let values = sys(&mut world, watcher);
        assert_eq!((&*values["connections/open"], &*values["clients/connected"]), ("10", "10"));
        for client in others {
            world.send(client, &disconnect(Version::V5));
        }
        let values = sys(&mut world, watcher);
        assert_eq!((&*values["connections/open"], &*values["clients/connected"]), ("1", "1"));
        assert_eq!(values["connections/ended/disconnect"], "9");
        assert_eq!(values["uptime"], "1 seconds");
    }
}

#[test]
fn packets_are_counted_and_messages_among_them() {
    everywhere(|shards, version| {
        let mut world = telling(shards);
        let watcher = subscriber(&mut world, version, "w", "$SYS/#", QoS::AtMostOnce);
        let reader = subscriber(&mut world, version, "reader", "a", QoS::AtLeastOnce);
        let writer = join_as(&mut world, version, "writer");
        let message = publish("a", Delivery::AtLeastOnce(id(1)), "m");
        world.send(writer, &bytes(&Packet::Publish(message), version));
        world.send(reader, &bytes(&Packet::Puback(ack(1)), version));
        world.send(reader, &bytes(&Packet::Pingreq, version));
        let values = sys(&mut world, watcher);
        let counts = ["messages", "publish/messages"]
            .map(|name| [&*values[&format!("{name}/received")], &*values[&format!("{name}/sent")]]);
        // CONNECT 3, SUBSCRIBE 2, PUBLISH, PUBACK and PINGREQ; CONNACK 3, SUBACK 2, the others.
        assert_eq!(counts, [["8", "8"], ["1", "1"]]);
    });
}

#[test]
fn messages_that_wait_are_counted_while_they_wait() {
    everywhere(|shards, version| {
        let mut world = telling(shards);
        let watcher = subscriber(&mut world, version, "w", "$SYS/#", QoS::AtMostOnce);
        let reader = join(&mut world, &resume(version, "reader"));
        world.send(reader, &subscribe(version, 1, &[("a", at(QoS::AtLeastOnce))]));
        world.break_off(reader);
        let writer = join_as(&mut world, version, "writer");
        for number in 1..=3 {
            let message = publish("a", Delivery::AtLeastOnce(id(number)), "m");
            world.send(writer, &bytes(&Packet::Publish(message), version));
        }
        assert_eq!(sys(&mut world, watcher)["messages/queued"], "3");
        let reader = world.open(version);
        world.send(reader, &bytes(&Packet::Connect(resume(version, "reader")), version));
        assert_eq!(sys(&mut world, watcher)["messages/queued"], "0");
        world.break_off(reader);
        // A session that ends takes what waits along.
        world.send(
            writer,
            &bytes(&Packet::Publish(publish("a", Delivery::AtLeastOnce(id(4)), "m")), version),
        );
        assert_eq!(sys(&mut world, watcher)["messages/queued"], "1");
        join_as(&mut world, version, "reader");
        assert_eq!(sys(&mut world, watcher)["messages/queued"], "0");
    });
}
