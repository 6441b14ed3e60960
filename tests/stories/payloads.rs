//! Payloads that are said to be text.

use ringmq::mqtt::{
    ApplicationProperties, Connect, Delivery, Packet, Publish, PublishProperties, QoS, Version,
    Will, WillProperties,
};

use crate::{
    join_as,
    packets::{ack, bytes, connect, id, publish as packet, will},
    statements::{knock, send_publish},
    subscriber,
    world::World,
};

const V5: Version = Version::V5;
/// Cut in the middle of a character.
const BROKEN: &[u8] = b"20 \xC2";

/// A broker that looks into payloads, or not.
fn world(shards: usize, validates: bool) -> World {
    World::told(shards, |rules| rules.offer.validates_payload_format = validates)
}

fn said_to_be(indicator: Option<u8>) -> ApplicationProperties<'static> {
    ApplicationProperties {
        payload_format_indicator: indicator,
        ..ApplicationProperties::default()
    }
}

fn message(delivery: Delivery, indicator: Option<u8>, payload: &[u8]) -> Publish<'_> {
    let application = said_to_be(indicator);
    let properties = PublishProperties { application, ..PublishProperties::default() };
    Publish { properties, payload, ..packet("t", delivery, "") }
}

#[test]
fn a_payload_that_is_not_the_text_it_is_said_to_be_is_refused() {
    for shards in crate::SHARDS {
        let mut world = world(shards, true);
        let reader = subscriber(&mut world, V5, "reader", "t", QoS::AtMostOnce);
        let writer = join_as(&mut world, V5, "writer");
        send_publish(&mut world, writer, message(Delivery::AtLeastOnce(id(1)), Some(1), BROKEN));
        send_publish(&mut world, writer, message(Delivery::ExactlyOnce(id(2)), Some(1), BROKEN));
        let refused = ["PUBACK 1 PayloadFormatInvalid", "PUBREC 2 PayloadFormatInvalid"];
        assert_eq!(world.received(writer), refused);
        // The Packet Identifier is free again.
        let text = "20 °C".as_bytes();
        send_publish(&mut world, writer, message(Delivery::ExactlyOnce(id(2)), Some(1), text));
        world.send(writer, &bytes(&Packet::Pubrel(ack(2)), V5));
        assert_eq!(world.received(writer), ["PUBREC 2", "PUBCOMP 2"]);
        send_publish(&mut world, writer, message(Delivery::AtMostOnce, Some(1), BROKEN));
        assert_eq!(world.received(writer), ["DISCONNECT PayloadFormatInvalid"]);
        assert!(world.is_closed(writer));
        assert_eq!(world.received(reader), ["PUBLISH t '20 °C'"]);
        let sum = world.counters();
        assert_eq!((sum.refused_payload_format, sum.refused_publish, sum.ended_refused), (3, 3, 1));
    }
}

#[test]
fn a_payload_that_is_not_said_to_be_text_is_nobodys_business() {
    for shards in crate::SHARDS {
        for (validates, indicator) in [(true, None), (true, Some(0)), (false, Some(1))] {
            let mut world = world(shards, validates);
            let writer = join_as(&mut world, V5, "writer");
            let delivery = Delivery::AtLeastOnce(id(1));
            send_publish(&mut world, writer, message(delivery, indicator, BROKEN));
            assert_eq!(world.received(writer), ["PUBACK 1 NoMatchingSubscribers"]);
        }
    }
}

#[test]
fn a_will_that_is_not_the_text_it_is_said_to_be_is_refused_with_its_connection() {
    for shards in crate::SHARDS {
        let mut world = world(shards, true);
        let application = said_to_be(Some(1));
        let properties = WillProperties { application, ..WillProperties::default() };
        for (payload, answer) in
            [(BROKEN, "CONNACK PayloadFormatInvalid"), (b"x", "CONNACK Success")]
        {
            let will = Will { properties, ..will("t", payload) };
            let (client, received) =
                knock(&mut world, &Connect { will: Some(will), ..connect(V5, "client") });
            assert_eq!(received, [answer]);
            assert_eq!(world.is_closed(client), payload == BROKEN);
        }
        assert_eq!(world.counters().refused_payload_format, 1);
    }
}
