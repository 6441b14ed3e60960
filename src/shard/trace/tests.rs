//! What a trace says, and what it never says.

use std::{cell::RefCell, num::NonZeroU16, rc::Rc};

use super::*;
use crate::mqtt::{
    Ack, Auth, Connect, Delivery, PacketId, Publish, PublishProperties, QoS, ReasonCode, Suback,
    Subscribe, SubscribeFilters, SubscriptionOptions,
};

/// Takes so many lines.
#[derive(Clone, Default)]
struct Paper(Rc<RefCell<(Vec<Line>, usize)>>, Rc<RefCell<[u64; TRACES_MAX]>>);

impl Paper {
    /// The lines since the last call, without their times.
    fn lines(&self) -> Vec<String> {
        let lines = std::mem::take(&mut self.0.borrow_mut().0);
        lines.into_iter().map(|line| line.text.split_once(' ').unwrap().1.to_owned()).collect()
    }
}

impl Lines for Paper {
    fn has_room(&self) -> bool {
        let paper = self.0.borrow();
        paper.0.len() < paper.1
    }

    fn tell(&self, line: Line) -> bool {
        let has_room = self.has_room();
        if has_room {
            self.0.borrow_mut().0.push(line);
        }
        has_room
    }

    fn note_lost(&self, slot: usize) {
        self.1.borrow_mut()[slot] += 1;
    }
}

const ID: ConnectionId = ConnectionId { slot: 3, generation: 1 };
const NOW: Moment = Moment::from_nanos(5_000_000);

fn order(slot: usize, subject: Subject) -> TraceOrder {
    let until = WallTime::from_nanos(1_000_000_000);
    TraceOrder { id: slot as u64 + 10, slot, subject, payload_bytes: 0, until }
}

fn client(name: &str) -> Subject {
    Subject::Client(name.into())
}

fn topic(filter: &str) -> Subject {
    Subject::Topic(crate::topic::TopicFilter::parse(filter).unwrap().into())
}

fn tap(orders: &[TraceOrder]) -> (Tap, Paper) {
    let paper = Paper::default();
    paper.0.borrow_mut().1 = 100;
    let mut tap = Tap::new(Box::new(paper.clone()));
    let clock = WallClock::new(Moment::default(), WallTime::default());
    tap.adopt(orders.into(), clock);
    (tap, paper)
}

fn known(client_id: &str) -> Known<'_> {
    let peer = ([192, 0, 2, 7], 4711).into();
    Known { client_id: Some(client_id), peer, version: Version::V5 }
}

fn watch(tap: &mut Tap, client_id: &str) -> bool {
    tap.watch(ID, known(client_id), std::iter::empty())
}

fn encoded(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(Version::V5, &mut bytes);
    bytes
}

fn receive(tap: &mut Tap, packet: &Packet<'_>) {
    let bytes = encoded(packet);
    let frame = frame::split(&bytes, usize::MAX).unwrap().unwrap();
    tap.note_received((ID, NOW), frame, None, "0.0.0.0:1883");
    tap.end_received();
}

fn send(tap: &mut Tap, packet: &Packet<'_>) {
    assert!(tap.note_sent((ID, NOW), &encoded(packet), None));
}

fn publish<'a>(topic: &'a str, payload: &'a [u8]) -> Publish<'a> {
    let delivery = Delivery::AtLeastOnce(PacketId::new(5).unwrap());
    let properties = PublishProperties::default();
    Publish { dup: false, retain: true, delivery, topic, properties, payload }
}

#[test]
fn packets_of_a_client_are_told_both_ways() {
    let (mut tap, paper) = tap(&[order(0, client("sensor"))]);
    assert!(watch(&mut tap, "sensor"));
    receive(&mut tap, &Packet::Publish(publish("room/t", b"20.5")));
    let id = PacketId::new(5).unwrap();
    send(&mut tap, &Packet::Puback(Ack::with_reason(id, ReasonCode::NoMatchingSubscribers)));
    receive(&mut tap, &Packet::Pingreq);
    let filters = [
        (
            "a/#",
            SubscriptionOptions {
                no_local: true,
                ..SubscriptionOptions::with_qos(QoS::ExactlyOnce)
            },
        ),
        ("b c", SubscriptionOptions::with_qos(QoS::AtMostOnce)),
    ];
    receive(
        &mut tap,
        &Packet::Subscribe(Subscribe {
            packet_id: id,
            subscription_identifier: None,
            user_properties: crate::mqtt::UserProperties::default(),
            filters: SubscribeFilters::List(&filters),
        }),
    );
    let reason_codes = &[2, 0x87];
    let properties = crate::mqtt::ReasonProperties::default();
    send(&mut tap, &Packet::Suback(Suback { packet_id: id, properties, reason_codes }));
    tap.note_aside((ID, NOW), "ended: why");
    let expected = [
        "sensor → PUBLISH room/t qos 1 retain id 5 4 bytes",
        "sensor ← PUBACK id 5 reason 0x10 No matching subscribers",
        "sensor → PINGREQ",
        "sensor → SUBSCRIBE id 5 a/# qos 2 no-local, \"b c\" qos 0",
        "sensor ← SUBACK id 5 qos 2, 0x87 Not authorized",
        "sensor * ended: why",
    ];
    assert_eq!(paper.lines(), expected);
}

#[test]
fn what_is_secret_is_never_told() {
    let (mut tap, paper) = tap(&[order(0, Subject::Address("192.0.2.0/24".parse().unwrap()))]);
    assert!(tap.watch(ID, Known { client_id: None, ..known("") }, std::iter::empty()));
    let mut connect = Connect::new(Version::V5, "sensor");
    connect.user_name = Some("alice");
    connect.password = Some(b"open sesame");
    connect.properties.authentication_method = Some("SCRAM-SHA-256");
    connect.properties.authentication_data = Some(b"sesame");
    receive(&mut tap, &Packet::Connect(connect));
    let auth = Auth {
        reason_code: ReasonCode::ContinueAuthentication,
        method: Some("SCRAM-SHA-256"),
        data: Some(b"sesame"),
        properties: crate::mqtt::ReasonProperties::default(),
    };
    send(&mut tap, &Packet::Auth(auth));
    receive(&mut tap, &Packet::Publish(publish("t", b"sesame")));
    let lines = paper.lines();
    assert_eq!(
        lines[0],
        "sensor → CONNECT 5.0 clean-start keep-alive 0 s user alice password \
        (hidden) method SCRAM-SHA-256 data (hidden) from 192.0.2.7:4711 at 0.0.0.0:1883"
    );
    assert!(lines[1].ends_with("method SCRAM-SHA-256 data (hidden)"), "{lines:?}");
    assert!(lines.iter().all(|line| !line.contains("sesame")), "{lines:?}");
}

#[test]
fn a_payload_is_shown_as_far_as_was_asked_for() {
    let shown = TraceOrder { payload_bytes: 4, ..order(0, client("c")) };
    let (mut tap, paper) = tap(&[shown]);
    watch(&mut tap, "c");
    receive(&mut tap, &Packet::Publish(publish("t", b"\x1b[2\n3")));
    receive(&mut tap, &Packet::Publish(publish("t", b"ab")));
    let head = encoded(&Packet::Publish(publish("t", b"")));
    let payload = Bytes::from_static(b"shared");
    // The length in the header is that of the whole packet.
    let mut head = head;
    head[1] += 6;
    assert!(tap.note_sent((ID, NOW), &head, Some(&payload)));
    let expected = [
        "c → PUBLISH t qos 1 retain id 5 5 bytes payload \"\\x1b[2\\n\"…",
        "c → PUBLISH t qos 1 retain id 5 2 bytes payload \"ab\"",
        "c ← PUBLISH t qos 1 retain id 5 6 bytes payload \"shar\"…",
    ];
    assert_eq!(paper.lines(), expected);
}

#[test]
fn whatever_a_client_sends_a_line_is_one_line_and_names_are_no_other_part() {
    let (mut tap, paper) = tap(&[order(0, topic("#"))]);
    let hostile = "a\n2026 admin → DISCONNECT \u{1b}[2J\u{202e}\u{9b}\"";
    watch(&mut tap, hostile);
    receive(&mut tap, &Packet::Publish(publish("x y\u{202e}", b"")));
    let line = paper.lines().remove(0);
    assert!(line.chars().all(|letter| !letter.is_control() && letter != '\u{202e}'), "{line}");
    assert!(line.starts_with("\"a\\n2026 admin → DISCONNECT \\u{1b}[2J"), "{line}");
    assert!(line.ends_with(" → PUBLISH \"x y\\u{202e}\" qos 1 retain id 5 0 bytes"), "{line}");
    let long = "x".repeat(60_000);
    receive(&mut tap, &Packet::Publish(publish(&long, b"")));
    assert!(paper.lines()[0].len() < 2_000);
}

#[test]
fn a_topic_is_followed_through_its_aliases() {
    let (mut tap, paper) = tap(&[order(0, topic("room/+"))]);
    let aliases = [(1, "room/one"), (2, "hall/two")];
    assert!(tap.watch(ID, known("c"), aliases.into_iter()));
    let by = |topic, alias| {
        let mut publish = publish(topic, b"");
        publish.properties.topic_alias = NonZeroU16::new(alias);
        Packet::Publish(publish)
    };
    for packet in [by("", 1), by("", 2), by("room/three", 2), by("", 2), by("", 9), by("hall/x", 2)]
    {
        send(&mut tap, &packet);
    }
    send(&mut tap, &Packet::Pingresp);
    let lines = paper.lines();
    let named: Vec<&str> = lines.iter().map(|line| line.split(' ').nth(3).unwrap()).collect();
    assert_eq!(named, ["room/one", "room/three", "room/three"]);
}

#[test]
fn a_trace_has_its_own_lines_until_its_time_is_over() {
    let orders = [order(0, client("a")), order(1, client("b")), order(2, topic("t"))];
    let (mut tap, paper) = tap(&orders);
    watch(&mut tap, "b");
    receive(&mut tap, &Packet::Publish(publish("t", b"")));
    receive(&mut tap, &Packet::Pingreq);
    let traces: Vec<u64> = paper.0.borrow().0.iter().map(|line| line.trace).collect();
    assert_eq!(traces, [11, 12, 11]);
    paper.lines();
    let late = Moment::from_nanos(1_000_000_000);
    assert!(tap.note_sent((ID, late), &encoded(&Packet::Pingresp), None));
    assert_eq!(paper.lines(), [""; 0]);
    tap.adopt([order(0, client("a"))].into(), tap.clock);
    assert!(!watch(&mut tap, "b"), "nobody asks for it any more");
    assert!(!tap.note_sent((ID, NOW), &encoded(&Packet::Pingresp), None));
}

#[test]
fn what_has_no_room_is_counted_and_not_kept() {
    let (mut tap, paper) = tap(&[order(4, client("a"))]);
    watch(&mut tap, "a");
    paper.0.borrow_mut().1 = 2;
    for _ in 0..5 {
        receive(&mut tap, &Packet::Pingreq);
        send(&mut tap, &Packet::Pingresp);
    }
    assert_eq!(paper.lines(), ["a → PINGREQ", "a ← PINGRESP"]);
    assert_eq!(paper.1.borrow()[4], 8);
}

#[test]
fn a_packet_that_will_be_handed_in_again_is_told_once() {
    let (mut tap, paper) = tap(&[order(0, client("a"))]);
    watch(&mut tap, "a");
    let bytes = encoded(&Packet::Pingreq);
    let frame = frame::split(&bytes, usize::MAX).unwrap().unwrap();
    for _ in 0..2 {
        tap.note_received((ID, NOW), frame, None, "");
        tap.forget_received();
    }
    tap.note_received((ID, NOW), frame, None, "");
    tap.end_received();
    assert_eq!(paper.lines(), ["a → PINGREQ"]);
}

#[test]
fn what_is_remembered_is_bounded() {
    let (mut tap, _) = tap(&[order(0, topic("#"))]);
    let long = "x".repeat(60_000);
    for slot in 0..u32::try_from(CONNECTIONS_MAX).unwrap() + 7 {
        let id = ConnectionId { slot, generation: 0 };
        let aliases = (slot < 100).then_some((1, long.as_str()));
        let is_watched = tap.watch(id, known("c"), aliases.into_iter());
        assert_eq!(is_watched, (slot as usize) < CONNECTIONS_MAX);
    }
    assert_eq!((tap.left_out(), tap.connections.len()), (7, CONNECTIONS_MAX));
    assert!(tap.alias_bytes <= ALIAS_BYTES_MAX && tap.alias_bytes > 0, "{}", tap.alias_bytes);
    for slot in 0..100 {
        tap.forget(ConnectionId { slot, generation: 0 });
    }
    assert_eq!(tap.alias_bytes, 0);
}
