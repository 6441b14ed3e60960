use super::{super::rules::tests::rules, *};
use crate::mqtt::Connect;

const NOW: Moment = Moment::from_nanos(1_000);

fn connection() -> MqttConnection {
    let peer = "127.0.0.1:1".parse().unwrap();
    let arrival = Arrival { listener: 0, peer, surplus: false };
    MqttConnection::new(arrival, Moment::default(), Rc::new(rules()))
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
