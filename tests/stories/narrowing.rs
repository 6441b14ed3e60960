//! Parts of MQTT that the broker was told not to offer.

use std::num::NonZeroU16;

use ringmq::{
    base::time::Span,
    mqtt::{
        Connect, Delivery, Packet, Publish, QoS, Subscribe, SubscribeFilters, UserProperties,
        Version, Will,
    },
    shard::offer::Offer,
};

use crate::{
    everywhere, join_as,
    packets::{ack, at, bytes, connect, id, publish as packet, subscribe, will},
    publish, retain,
    statements::knock,
    subscriber,
    world::World,
};

const V5: Version = Version::V5;

/// A broker that offers only this.
fn offering(shards: usize, offer: &Offer) -> World {
    World::told(shards, |rules| rules.offer = offer.clone())
}

fn up_to(maximum_qos: QoS) -> Offer {
    Offer { maximum_qos, ..Offer::default() }
}

fn nothing_much() -> Offer {
    Offer {
        maximum_qos: QoS::AtMostOnce,
        retain: false,
        wildcard_subscriptions: false,
        subscription_identifiers: false,
        shared_subscriptions: false,
        ..Offer::default()
    }
}

/// What a client is sent before its connection ends, if its version lets the broker say more.
fn refusal(version: Version, reason: &str) -> Vec<String> {
    if version == V5 { vec![format!("DISCONNECT {reason}")] } else { Vec::new() }
}

/// [MQTT-3.2.2-9]
#[test]
fn what_is_not_offered_is_announced() {
    let partly = Offer { wildcard_subscriptions: false, ..up_to(QoS::AtLeastOnce) };
    for offer in [Offer::default(), partly, nothing_much()] {
        let mut world = offering(2, &offer);
        let client = world.open(V5);
        world.send(client, &bytes(&Packet::Connect(connect(V5, "client")), V5));
        let mut announced = None;
        world.look(client, |packet| {
            let Ok(Packet::Connack(connack)) = packet else { return };
            let properties = connack.properties;
            announced = Some(Offer {
                maximum_qos: properties.maximum_qos,
                retain: properties.retain_available,
                wildcard_subscriptions: properties.wildcard_subscription_available,
                subscription_identifiers: properties.subscription_identifiers_available,
                shared_subscriptions: properties.shared_subscription_available,
                ..Offer::default()
            });
        });
        assert_eq!(announced, Some(offer));
    }
}

#[test]
fn a_publish_above_the_maximum_qos_ends_the_connection_and_reaches_nobody() {
    everywhere(|shards, version| {
        for (maximum_qos, delivery) in [
            (QoS::AtMostOnce, Delivery::AtLeastOnce(id(1))),
            (QoS::AtMostOnce, Delivery::ExactlyOnce(id(1))),
            (QoS::AtLeastOnce, Delivery::ExactlyOnce(id(1))),
        ] {
            let mut world = offering(shards, &up_to(maximum_qos));
            let reader = subscriber(&mut world, version, "reader", "t", QoS::AtMostOnce);
            let writer = join_as(&mut world, version, "writer");
            publish(&mut world, writer, version, "t", delivery, "x");
            assert_eq!(world.received(writer), refusal(version, "QosNotSupported"));
            assert!(world.is_closed(writer));
            assert_eq!(world.received(reader), [""; 0]);
            assert_eq!(world.counters().ended_protocol_error, 1);
        }
    });
}

#[test]
fn a_publish_at_the_maximum_qos_is_as_good_as_any() {
    everywhere(|shards, version| {
        let mut world = offering(shards, &up_to(QoS::AtLeastOnce));
        let reader = subscriber(&mut world, version, "reader", "t", QoS::AtLeastOnce);
        let writer = join_as(&mut world, version, "writer");
        publish(&mut world, writer, version, "t", Delivery::AtLeastOnce(id(1)), "x");
        assert_eq!(world.received(writer), ["PUBACK 1"]);
        assert_eq!(world.received(reader), ["PUBLISH t qos1 #1 'x'"]);
    });
}

/// [MQTT-3.2.2-10]
#[test]
fn any_qos_may_be_asked_for_and_the_maximum_is_granted() {
    everywhere(|shards, version| {
        for maximum_qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let mut world = offering(shards, &up_to(maximum_qos));
            let reader = join_as(&mut world, version, "reader");
            let filters = [
                ("t/0", at(QoS::AtMostOnce)),
                ("t/1", at(QoS::AtLeastOnce)),
                ("t/2", at(QoS::ExactlyOnce)),
            ];
            world.send(reader, &subscribe(version, 1, &filters));
            let granted = maximum_qos as u8;
            let suback = format!("SUBACK 1 [00, {granted:02x}, {granted:02x}]");
            assert_eq!(world.received(reader), [suback]);
            let writer = join_as(&mut world, version, "writer");
            let delivery = match maximum_qos {
                QoS::AtMostOnce => Delivery::AtMostOnce,
                _ => Delivery::AtLeastOnce(id(7)),
            };
            publish(&mut world, writer, version, "t/2", delivery, "x");
            let qos = if granted == 0 { "" } else { " qos1 #1" };
            assert_eq!(world.received(reader), [format!("PUBLISH t/2{qos} 'x'")]);
            world.send(reader, &bytes(&Packet::Puback(ack(1)), version));
        }
    });
}

#[test]
fn nothing_is_retained_where_that_is_not_offered() {
    everywhere(|shards, version| {
        let offer = Offer { retain: false, ..Offer::default() };
        let mut world = offering(shards, &offer);
        let reader = subscriber(&mut world, version, "reader", "t", QoS::AtMostOnce);
        for payload in ["x", ""] {
            let writer = join_as(&mut world, version, "writer");
            retain(&mut world, writer, version, "t", payload);
            assert_eq!(world.received(writer), refusal(version, "RetainNotSupported"));
            assert!(world.is_closed(writer));
        }
        assert_eq!(world.received(reader), [""; 0]);
        let late = subscriber(&mut world, version, "late", "t", QoS::AtMostOnce);
        assert_eq!(world.received(late), [""; 0]);
    });
}

#[test]
fn what_the_broker_says_of_itself_is_not_retained_either() {
    for retain in [true, false] {
        let mut world = World::told(2, |rules| {
            rules.offer.retain = retain;
            rules.sys_interval = Some(Span::from_secs(1));
        });
        world.pass(Span::from_millis(2_500));
        let filter = "$SYS/broker/shards";
        let reader = join_as(&mut world, V5, "reader");
        world.send(reader, &subscribe(V5, 1, &[(filter, at(QoS::AtMostOnce))]));
        let expected = ["SUBACK 1 [00]".to_owned(), format!("PUBLISH {filter} retain '2'")];
        assert_eq!(world.received(reader), expected[..=usize::from(retain)]);
        world.pass(Span::from_secs(1));
        assert_eq!(world.received(reader), [format!("PUBLISH {filter} '2'")]);
    }
}

/// [MQTT-3.2.2-12] [MQTT-3.2.2-13]
#[test]
fn a_will_that_asks_for_more_than_is_offered_is_refused_with_its_connection() {
    everywhere(|shards, version| {
        let without_retain = Offer { retain: false, ..Offer::default() };
        let retained = Will { retain: true, ..will("t", b"x") };
        for (offer, will, reason) in [
            (up_to(QoS::AtMostOnce), will("t", b"x"), "QosNotSupported"),
            (without_retain, retained, "RetainNotSupported"),
        ] {
            let mut world = offering(shards, &offer);
            let connect = Connect { will: Some(will), ..connect(version, "client") };
            let (client, received) = knock(&mut world, &connect);
            let reason = if version == V5 { reason } else { "ServerUnavailable" };
            assert_eq!(received, [format!("CONNACK {reason}")]);
            assert!(world.is_closed(client));
            assert_eq!((world.counters().refused_connect, world.counters().clients_total), (1, 0));
        }
        let mut world = offering(shards, &up_to(QoS::AtLeastOnce));
        let connect = Connect { will: Some(will("t", b"x")), ..connect(version, "client") };
        assert_eq!(knock(&mut world, &connect).1, ["CONNACK Success"]);
    });
}

/// A 5.0 client was told in CONNACK, so that it is a protocol error; the others are told now.
///
/// [MQTT-3.8.3-2@3.1.1]
#[test]
fn filters_of_a_kind_that_is_not_offered_are_refused() {
    everywhere(|shards, version| {
        let without_wildcards = Offer { wildcard_subscriptions: false, ..Offer::default() };
        let without_sharing = Offer { shared_subscriptions: false, ..Offer::default() };
        for (offer, filter, reason) in [
            (&without_wildcards, "a/#", "WildcardSubscriptionsNotSupported"),
            (&without_wildcards, "+", "WildcardSubscriptionsNotSupported"),
            (&without_wildcards, "$share/g/a/+", "WildcardSubscriptionsNotSupported"),
            (&without_sharing, "$share/g/a", "SharedSubscriptionsNotSupported"),
            (&nothing_much(), "$share/g/#", "SharedSubscriptionsNotSupported"),
        ] {
            let mut world = offering(shards, offer);
            let client = join_as(&mut world, version, "client");
            let filters = [("a", at(QoS::AtMostOnce)), (filter, at(QoS::AtMostOnce))];
            world.send(client, &subscribe(version, 1, &filters));
            if version == V5 {
                assert_eq!(world.received(client), [format!("DISCONNECT {reason}")]);
                assert!(world.is_closed(client));
            } else {
                assert_eq!(world.received(client), ["SUBACK 1 [00, 80]"]);
                assert_eq!(world.counters().subscriptions, 1);
                assert_eq!(world.counters().refused_subscriptions, 1);
            }
        }
    });
}

#[test]
fn other_filters_are_as_good_as_any() {
    everywhere(|shards, version| {
        let mut world = offering(shards, &nothing_much());
        let reader = subscriber(&mut world, version, "reader", "a/b", QoS::AtMostOnce);
        let writer = join_as(&mut world, version, "writer");
        let message = Publish { retain: false, ..packet("a/b", Delivery::AtMostOnce, "x") };
        world.send(writer, &bytes(&Packet::Publish(message), version));
        assert_eq!(world.received(reader), ["PUBLISH a/b 'x'"]);
    });
}

#[test]
fn a_subscription_identifier_is_a_protocol_error_where_there_are_none() {
    for shards in crate::SHARDS {
        let offer = Offer { subscription_identifiers: false, ..Offer::default() };
        let mut world = offering(shards, &offer);
        let client = join_as(&mut world, V5, "client");
        let subscribe = Subscribe {
            packet_id: id(1),
            subscription_identifier: std::num::NonZeroU32::new(7),
            user_properties: UserProperties::default(),
            filters: SubscribeFilters::List(&[("a", at(QoS::AtMostOnce))]),
        };
        world.send(client, &bytes(&Packet::Subscribe(subscribe), V5));
        assert_eq!(world.received(client), ["DISCONNECT SubscriptionIdentifiersNotSupported"]);
        assert!(world.is_closed(client));
    }
}

/// Seconds after which a client that has fallen silent is gone, and the Server Keep Alive that it
/// was told; it is waited for up to ten minutes.
fn silence(shards: usize, connect: &Connect<'_>) -> (Option<u64>, Option<u16>) {
    let offer = Offer { keep_alive_max: NonZeroU16::new(20), ..Offer::default() };
    let mut world = offering(shards, &offer);
    let client = world.open(connect.version);
    world.send(client, &bytes(&Packet::Connect(*connect), connect.version));
    let mut told = None;
    world.look(client, |packet| {
        let Ok(Packet::Connack(connack)) = packet else { return };
        told = connack.properties.server_keep_alive;
    });
    let gone = (1..600).find(|_| {
        world.pass(Span::from_secs(1));
        world.is_closed(client)
    });
    (gone, told)
}

/// [MQTT-3.2.2-21] [MQTT-3.2.2-22]
#[test]
fn a_keep_alive_that_is_too_long_is_replaced_for_those_who_can_be_told() {
    everywhere(|shards, version| {
        for (asked, gone, told) in [
            (0, Some(30), Some(20)),
            (10, Some(15), None),
            (20, Some(30), None),
            (21, Some(30), Some(20)),
            (u16::MAX, Some(30), Some(20)),
        ] {
            let connect = Connect { keep_alive: asked, ..connect(version, "client") };
            let expected = match (version, asked) {
                (Version::V5, _) => (gone, told),
                (_, 0 | u16::MAX) => (None, None),
                _ => (Some(u64::from(asked) * 3 / 2), None),
            };
            let (gone, told) = silence(shards, &connect);
            // The wheel may look up to a second late.
            let late = gone.unwrap_or(0) - expected.0.unwrap_or(0);
            assert!(late <= 1 && gone.is_some() == expected.0.is_some(), "{asked}: {gone:?}");
            assert_eq!(told, expected.1, "{asked}");
        }
    });
}
