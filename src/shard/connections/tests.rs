use std::{num::NonZeroU32, rc::Rc};

use super::{
    super::{
        end::Cause,
        kept_connect::KeptConnect,
        ports::{
            Arrival,
            fake::{Done, FakePorts},
        },
        referral::Referral,
        rules::tests::rules,
    },
    *,
};
use crate::{
    access::Accounts,
    base::{byte_count::ByteCount, ids::SubscriberId},
    mqtt::{Ack, Connack, Connect, Delivery, Packet, PacketId, ReasonCode, Version},
    session::terms::Terms,
};

const ONE: ConnectionId = ConnectionId { slot: 0, generation: 1 };
const EARLIER: ConnectionId = ConnectionId { slot: 0, generation: 0 };
const NOW: Moment = Moment::from_nanos(1_000);

fn connection() -> MqttConnection {
    let peer = "127.0.0.1:1".parse().unwrap();
    let (surplus, connections_max) = (false, 10_000);
    let arrival = Arrival { listener: 0, peer, surplus, connections_max, handed_over: false };
    MqttConnection::new(arrival, &Accounts::default(), Moment::default(), Rc::new(rules()))
}

/// One connection, and a world with one shard.
fn connections() -> (Connections, FakePorts) {
    let mut connections = Connections::new(1);
    connections.insert(ONE, connection());
    (connections, FakePorts::new(1))
}

#[test]
fn a_connection_is_known_until_it_is_removed_and_not_by_an_earlier_identity() {
    let (mut connections, _) = connections();
    assert!(connections.get(ONE).is_some() && connections.get(EARLIER).is_none());
    assert_eq!((connections.len(), connections.ids()), (1, vec![ONE]));
    assert!(connections.remove(EARLIER).is_none() && connections.remove(ONE).is_some());
    assert_eq!(connections.len(), 0);
}

#[test]
fn a_connection_is_read_again_once_it_has_been_given_what_it_was_owed() {
    let (mut connections, mut ports) = connections();
    let answer = (Condition::Applied(1), Answer::Packets(b"answer".to_vec()));
    connections.owe(ONE, answer, &mut ports);
    assert!(connections.next_due().is_none());
    connections.read_on(ONE, NOW, &mut ports);
    connections.note_applied(1);
    assert!(matches!(connections.next_due(), Some((ONE, Answer::Packets(_), _))));
    connections.read_on(ONE, NOW, &mut ports);
    assert_eq!(ports.done, [Done::Paused(ONE), Done::Resumed(ONE)]);
}

#[test]
fn a_connection_that_has_gone_is_owed_nothing() {
    let (mut connections, mut ports) = connections();
    let answer = || (Condition::Applied(1), Answer::ReadOn);
    connections.owe(EARLIER, answer(), &mut ports);
    assert!(ports.done.is_empty() && connections.waiting_for_applied() == 0);
    connections.owe(ONE, answer(), &mut ports);
    connections.remove(ONE);
    connections.note_applied(1);
    assert!(connections.next_due().is_none() && connections.waiting_for_applied() == 0);
}

#[test]
fn a_publisher_that_is_eased_gets_its_acknowledgements() {
    let (mut connections, mut ports) = connections();
    let mut context = Context::of_shard(1);
    connections.press(ONE, Patience::Earned, &mut context);
    assert!(connections.connected_mut(ONE).keeps_back(b"1"));
    assert_eq!((ports.done.len(), connections.held_back_and_aliases().0), (0, 1));
    connections.ease(ONE, Patience::Earned, NOW, &mut ports);
    assert_eq!(ports.done, [Done::Sent(ONE, b"1".to_vec())]);
    assert!(!connections.connected_mut(ONE).keeps_back(b"2"));
}

/// A connection whose client has been let in with this CONNECT, and what the shard keeps to.
fn let_in(connect: &Connect<'_>) -> (Connections, Context, FakePorts) {
    let (mut connections, ports) = connections();
    let kept = KeptConnect::keep(connect, Terms::of(connect, 0), &ByteCount::default());
    let connection = connections.connected_mut(ONE);
    let known = (SubscriberId(0), Rc::clone(connection.principal()));
    connection.connect(known, &kept, Rc::new(rules()));
    (connections, Context::of_shard(1), ports)
}

#[test]
fn an_answer_that_the_client_does_not_take_ends_the_connection() {
    let mut connect = Connect::new(Version::V5, "client");
    connect.properties.maximum_packet_size = NonZeroU32::new(3);
    let (mut connections, _, mut ports) = let_in(&connect);
    let mut answer = |packet| connections.answer(ONE, &packet, None, &mut ports);
    assert_eq!(answer(Packet::Pingresp), Ok(()));
    let connack = Connack::refusal(ReasonCode::QuotaExceeded);
    assert_eq!(answer(Packet::Connack(connack)), Err(Cause::ConnackTooLarge));
    let pubrel = Ack::success(PacketId::MIN);
    assert_eq!(answer(Packet::Pubrel(pubrel)), Err(Cause::AnswerTooLarge));
    assert_eq!(ports.done, [Done::Sent(ONE, b"\xD0\0".to_vec())]);
}

#[test]
fn acknowledgements_wait_while_the_publisher_is_pressed() {
    let (mut connections, mut context, mut ports) = let_in(&Connect::new(Version::V311, "client"));
    let mut acknowledge = |connections: &mut Connections, delivery| {
        connections.acknowledge(ONE, (delivery, 0), ReasonCode::Success, &mut ports);
        std::mem::take(&mut ports.done)
    };
    let delivery = Delivery::AtLeastOnce(PacketId::MIN);
    let puback = Done::Sent(ONE, b"\x40\x02\0\x01".to_vec());
    assert!(acknowledge(&mut connections, Delivery::AtMostOnce).is_empty());
    assert_eq!(acknowledge(&mut connections, delivery), [puback]);
    connections.press(ONE, Patience::Earned, &mut context);
    assert!(acknowledge(&mut connections, delivery).is_empty());
}

#[test]
fn a_5_0_client_hears_why_its_connection_ends_and_where_else_it_may_go() {
    let (mut connections, mut context, mut ports) = let_in(&Connect::new(Version::V5, "client"));
    let rules = Rc::make_mut(&mut context.rules);
    rules.referral = Referral::Temporary("elsewhere".into());
    assert!(connections.end(ONE, (Cause::ShuttingDown, None), &mut context, &mut ports).is_some());
    assert!(connections.end(ONE, (Cause::ShuttingDown, None), &mut context, &mut ports).is_none());
    let [Done::Sent(ONE, farewell), Done::Closed(ONE)] = &ports.done[..] else {
        panic!("{:?}", ports.done)
    };
    assert_eq!(farewell[0], 0xE0);
    assert_eq!(farewell[2], ReasonCode::UseAnotherServer.value());
    assert!(farewell.windows(9).any(|part| part == b"elsewhere"));
    assert_eq!(context.counters.redirected, 1);
}
