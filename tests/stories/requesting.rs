//! Request and response: the topic tree in which a client waits for answers.

use std::num::NonZeroU32;

use ringmq::{
    mqtt::{
        ApplicationProperties, Connect, ConnectProperties, Delivery, Packet, Publish,
        PublishProperties, QoS, Version,
    },
    topic::TopicName,
};

use crate::{
    everywhere, join_as,
    packets::{at, bytes, connect, publish as packet, subscribe},
    publish, subscriber,
    world::World,
};

const V5: Version = Version::V5;

fn world(shards: usize) -> World {
    World::told(shards, |rules| rules.offer.response_prefix = Some("reply".into()))
}

fn asking(client_id: &str) -> Connect<'_> {
    let properties =
        ConnectProperties { request_response_information: true, ..ConnectProperties::default() };
    Connect { properties, ..connect(V5, client_id) }
}

/// A client that connects, and the Response Information that it is given.
fn ask(world: &mut World, connect: &Connect<'_>) -> (usize, Option<String>) {
    let client = world.open(connect.version);
    world.send(client, &bytes(&Packet::Connect(*connect), connect.version));
    let mut given = None;
    world.look(client, |packet| {
        let Ok(Packet::Connack(connack)) = packet else { return };
        given = connack.properties.response_information.map(str::to_owned);
    });
    assert!(!world.is_closed(client));
    (client, given)
}

/// [MQTT-3.1.2-28]
#[test]
fn response_information_is_given_to_those_who_ask() {
    everywhere(|shards, version| {
        let mut world = world(shards);
        let silent = connect(version, "silent");
        assert_eq!(ask(&mut world, &silent).1, None);
        assert_eq!(ask(&mut world, &asking("one")).1.as_deref(), Some("reply/one"));
        let (_, assigned) = ask(&mut world, &asking(""));
        assert!(assigned.is_some_and(|root| root.starts_with("reply/ringmq-")));
        assert_eq!(ask(&mut World::new(shards), &asking("one")).1, None);
    });
}

#[test]
fn whatever_its_client_identifier_a_client_has_a_tree_of_its_own() {
    for shards in crate::SHARDS {
        let mut world = world(shards);
        let names = ["a/b", "a%2Fb", "a%b", "a+", "a#", "+", "#", "/", "//", "a", "ä", "$SYS/a"];
        let mut roots: Vec<String> = Vec::new();
        for name in names {
            let (_, root) = ask(&mut world, &asking(name));
            roots.extend(root);
        }
        assert_eq!(roots.len(), names.len());
        for root in &roots {
            assert_eq!(TopicName::parse(root).map(TopicName::level_count), Ok(2), "{root}");
        }
        roots.sort();
        roots.dedup();
        assert_eq!(roots.len(), names.len());
    }
}

#[test]
fn a_request_is_answered_in_the_tree_of_who_asked() {
    for shards in crate::SHARDS {
        let mut world = world(shards);
        let (client, root) = ask(&mut world, &asking("a/b"));
        let root = root.expect("it has asked");
        let other = subscriber(&mut world, V5, "other", "reply/a/b/#", QoS::AtMostOnce);
        let filter = format!("{root}/#");
        world.send(client, &subscribe(V5, 1, &[(&filter, at(QoS::AtMostOnce))]));
        world.received(client);
        let server = subscriber(&mut world, V5, "server", "question", QoS::AtMostOnce);
        let response_topic = format!("{root}/1");
        let application = ApplicationProperties {
            response_topic: Some(&response_topic),
            ..ApplicationProperties::default()
        };
        let properties = PublishProperties { application, ..PublishProperties::default() };
        let question = Publish { properties, ..packet("question", Delivery::AtMostOnce, "?") };
        world.send(client, &bytes(&Packet::Publish(question), V5));
        let mut answer_to = None;
        world.look(server, |packet| {
            let Ok(Packet::Publish(publish)) = packet else { return };
            answer_to = publish.properties.application.response_topic.map(str::to_owned);
        });
        let answer_to = answer_to.expect("the question says it");
        publish(&mut world, server, V5, &answer_to, Delivery::AtMostOnce, "!");
        assert_eq!(world.received(client), ["PUBLISH reply/a%2Fb/1 '!'"]);
        assert_eq!(world.received(other), [""; 0]);
        join_as(&mut world, V5, "last");
    }
}

/// [MQTT-3.1.2-24]
#[test]
fn response_information_is_left_out_where_it_does_not_fit() {
    for shards in crate::SHARDS {
        let mut world = world(shards);
        for (size, expected) in [(400, true), (200, false)] {
            let name = "x".repeat(300);
            let mut connect = asking(&name);
            connect.properties.maximum_packet_size = NonZeroU32::new(size);
            assert_eq!(ask(&mut world, &connect).1.is_some(), expected);
        }
        // Nobody could write a Topic Name with a level of its own behind this.
        let name = "/".repeat(20_000);
        assert_eq!(ask(&mut world, &asking(&name)).1, None);
    }
}
