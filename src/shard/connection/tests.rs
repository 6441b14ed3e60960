use super::{
    super::{
        ports::fake::{Done, FakePorts},
        rules::tests::rules,
    },
    *,
};
use crate::mqtt::Connect;

const ONE: ConnectionId = ConnectionId { slot: 0, generation: 1 };
const EARLIER: ConnectionId = ConnectionId { slot: 0, generation: 0 };
const NOW: Moment = Moment::from_nanos(1_000);

fn connection() -> MqttConnection {
    let peer = "127.0.0.1:1".parse().unwrap();
    let arrival = Arrival { listener: 0, peer, surplus: false };
    MqttConnection::new(arrival, Moment::default(), Rc::new(rules()))
}

/// One connection, and a world with one shard.
fn connections() -> (Connections, Owed, FakePorts) {
    let mut connections = Connections::default();
    connections.insert(ONE, connection());
    (connections, Owed::new(1), FakePorts::new(1))
}

#[test]
fn a_connection_is_known_until_it_is_removed_and_not_by_an_earlier_identity() {
    let (mut connections, ..) = connections();
    assert!(connections.get(ONE).is_some() && connections.get(EARLIER).is_none());
    assert_eq!((connections.len(), connections.ids()), (1, vec![ONE]));
    assert!(connections.remove(EARLIER).is_none() && connections.remove(ONE).is_some());
    assert_eq!(connections.len(), 0);
}

#[test]
fn a_connection_is_read_again_once_it_has_been_given_what_it_was_owed() {
    let (mut connections, mut owed, mut ports) = connections();
    let answer = (Condition::Applied(1), Answer::Packets(b"answer".to_vec()));
    connections.owe(ONE, &mut owed, answer, &mut ports);
    assert!(connections.next_due(&mut owed).is_none());
    connections.read_on(ONE, NOW, &mut ports);
    owed.note_applied(1);
    assert!(matches!(connections.next_due(&mut owed), Some((ONE, Due::Packets(_)))));
    connections.read_on(ONE, NOW, &mut ports);
    assert_eq!(ports.done, [Done::Paused(ONE), Done::Resumed(ONE)]);
}

#[test]
fn a_connection_that_has_gone_is_owed_nothing() {
    let (mut connections, mut owed, mut ports) = connections();
    let answer = || (Condition::Applied(1), Answer::ReadOn);
    connections.owe(EARLIER, &mut owed, answer(), &mut ports);
    assert!(ports.done.is_empty() && owed.waiting_for_applied() == 0);
    connections.owe(ONE, &mut owed, answer(), &mut ports);
    connections.remove(ONE);
    owed.note_applied(1);
    assert!(connections.next_due(&mut owed).is_none() && owed.waiting_for_applied() == 0);
}

#[test]
fn a_publisher_that_is_eased_gets_its_acknowledgements() {
    let (mut connections, _, mut ports) = connections();
    connections.press(ONE);
    assert!(connections.connected_mut(ONE).keeps_back(b"1"));
    assert_eq!((ports.done.len(), connections.held_back_and_aliases().0), (0, 1));
    connections.ease(ONE, NOW, &mut ports);
    assert_eq!(ports.done, [Done::Sent(ONE, b"1".to_vec())]);
    assert!(!connections.connected_mut(ONE).keeps_back(b"2"));
}

#[test]
fn a_client_is_silent_for_too_long_after_one_and_a_half_times_its_keep_alive() {
    let mut connection = connection();
    assert_eq!(connection.keep_alive_deadline(), None);
    let connect = Connect { keep_alive: 10, ..Connect::new(Version::V5, "client") };
    let connect = KeptConnect::keep(&connect, Terms::plain(Version::V5));
    let principal = Rc::clone(connection.principal());
    connection.connect((SubscriberId(0), principal), &connect, Rc::new(rules()));
    connection.touch(NOW);
    assert_eq!(connection.keep_alive_deadline(), Some(NOW + Span::from_secs(15)));
}
