use super::{super::rules::tests::rules, *};
use crate::base::byte_count::ByteCount;
use crate::mqtt::Connect;
use crate::session::client_aliases::TOPIC_BYTES_MAX;

const NOW: Moment = Moment::from_nanos(1_000);

/// A connection that has just come.
pub(in crate::shard) fn connection() -> MqttConnection {
    let peer = "127.0.0.1:1".parse().unwrap();
    let (surplus, connections_max) = (false, 10_000);
    let arrival = Arrival { listener: 0, peer, surplus, connections_max, handed_over: false };
    MqttConnection::new(arrival, &Accounts::default(), Moment::default(), Rc::new(rules()))
}

/// A connection whose client has been let in with this CONNECT, and told these rules.
pub(in crate::shard) fn connected(connect: &Connect<'_>, rules: Rules) -> MqttConnection {
    let mut connection = connection();
    let kept = KeptConnect::keep(
        connect,
        Terms::of(connect, rules.limits.topic_aliases_max),
        &ByteCount::default(),
    );
    let known = (SubscriberId(0), Rc::clone(connection.principal()));
    connection.connect(known, &kept, Rc::new(rules));
    connection
}

#[test]
fn a_client_is_silent_for_too_long_after_one_and_a_half_times_its_keep_alive() {
    assert_eq!(connection().keep_alive_deadline(), None);
    let connect = Connect { keep_alive: 10, ..Connect::new(Version::V5, "client") };
    let mut connection = connected(&connect, rules());
    connection.touch(NOW);
    assert_eq!(connection.keep_alive_deadline(), Some(NOW + Span::from_secs(15)));
}

#[test]
fn an_alias_stands_for_its_topic_within_what_connack_has_told() {
    let mut connection = connected(&Connect::new(Version::V5, "client"), rules());
    let count = ByteCount::default();
    let room = AliasRoom { bytes_max: TOPIC_BYTES_MAX, count: &count };
    let mut resolve = |alias, topic: &str| {
        let mut topic = topic.to_owned();
        connection.resolve_topic(NonZeroU16::new(alias).unwrap(), &mut topic, room).map(|()| topic)
    };
    let wrong = |error: ProtocolError| Err(Cause::Error(error.into()));
    assert_eq!(resolve(10, "a"), Ok("a".to_owned()));
    assert_eq!(resolve(10, ""), Ok("a".to_owned()));
    assert_eq!(resolve(9, ""), wrong(ProtocolError::TopicAliasUnknown));
    assert_eq!(resolve(11, "a"), wrong(ProtocolError::TopicAliasInvalid));
    let long = "a".repeat(40_000);
    assert_eq!(resolve(1, &long), Ok(long.clone()));
    assert_eq!(resolve(2, &long), Err(Cause::Refused(Reason::AliasesFull)));
}
