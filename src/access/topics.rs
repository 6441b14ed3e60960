//! Which topics are the broker's own, so that no client may write to them, whatever its rights are.

use super::Principal;
use crate::topic::TopicName;

/// How many of the messages that match a Topic Filter a client may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribable {
    /// All of them: there is no check at delivery.
    Whole,
    /// Some of them: the rights are asked for each message.
    Partly,
    No,
    /// The rules do not let the client subscribe, whatever it may read.
    Forbidden,
}

/// Whether any rights could let a client publish this payload to this Topic Name.
///
/// Only the broker publishes under `$SYS`. One exception: a bridge publishes whether it is
/// connected, as mosquitto's bridges do.
#[inline]
pub fn may_publish(principal: &Principal, topic: TopicName<'_>, payload: &[u8]) -> bool {
    // Topic Names that begin with `$` are rare.
    !topic.is_reserved() || may_publish_reserved(principal, topic, payload)
}

#[cold]
fn may_publish_reserved(principal: &Principal, topic: TopicName<'_>, payload: &[u8]) -> bool {
    !is_control(topic) && (!is_brokers_own(topic) || is_bridge_state(principal, topic, payload))
}

/// Whether this Topic Name is for commands to the broker. What is published to it is for no client.
#[inline]
pub fn is_control(topic: TopicName<'_>) -> bool {
    topic.is_reserved() && matches!(topic.levels().next(), Some("$CONTROL"))
}

/// Whether only the broker publishes to this Topic Name. Names under `$share` are among them,
/// because no subscription could match them.
#[inline]
pub fn is_brokers_own(topic: TopicName<'_>) -> bool {
    topic.is_reserved() && matches!(topic.levels().next(), Some("$SYS" | "$share"))
}

/// Whether the broker itself has published this Topic Name. Such messages count against no limit
/// and in no counter of clients' messages. The states of bridges do count.
#[inline]
pub fn is_of_the_broker(topic: TopicName<'_>) -> bool {
    topic.is_reserved() && is_reserved_for_the_broker(topic)
}

#[inline(never)]
fn is_reserved_for_the_broker(topic: TopicName<'_>) -> bool {
    is_brokers_own(topic) && !topic.as_str().starts_with(BRIDGES)
}

/// Whether a client publishes its own state as a bridge: connected (1) or not (0).
fn is_bridge_state(principal: &Principal, topic: TopicName<'_>, payload: &[u8]) -> bool {
    let rest = topic.as_str().strip_prefix(BRIDGES);
    let bridge = rest.and_then(|rest| rest.strip_suffix("/state"));
    bridge == Some(principal.client_id()) && matches!(payload, b"0" | b"1")
}

/// The topics under which bridges publish whether they are connected.
const BRIDGES: &str = "$SYS/broker/connection/";

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::{super::Accounts, *};

    fn may(client_id: &str, topic: &str, payload: &[u8]) -> bool {
        let accounts = Accounts::default();
        let stranger = Principal::stranger(0, SocketAddr::from(([127, 0, 0, 1], 1)), &accounts);
        let topic = TopicName::parse(topic).unwrap();
        may_publish(&stranger.named(client_id, None, &accounts), topic, payload)
    }

    #[test]
    fn the_brokers_own_topics_are_read_only() {
        for topic in
            ["$SYS", "$SYS/", "$SYS/broker/uptime", "$share", "$share/group/a", "$CONTROL/a"]
        {
            assert!(!may("a", topic, b"1"), "{topic}");
        }
        for topic in ["a", "/", "a/$SYS", "/$SYS", "$SYSTEM/a", "$sys", "$shared/a", "$aws/things"]
        {
            assert!(may("a", topic, b"1"), "{topic}");
        }
    }

    #[test]
    fn what_bridges_say_is_not_of_the_broker() {
        let is_of_the_broker = |topic| is_of_the_broker(TopicName::parse(topic).unwrap());
        assert!(is_of_the_broker("$SYS/broker/uptime"));
        assert!(!is_of_the_broker("$SYS/broker/connection/a/state") && !is_of_the_broker("a"));
    }

    #[test]
    fn a_bridge_says_of_itself_whether_it_is_connected() {
        for client_id in ["a", "host.bridge", "a/b"] {
            let state = format!("$SYS/broker/connection/{client_id}/state");
            assert!(may(client_id, &state, b"0") && may(client_id, &state, b"1"));
            for payload in [&b""[..], b"2", b"11", b"x"] {
                assert!(!may(client_id, &state, payload), "{payload:?}");
            }
            assert!(!may("other", &state, b"1"));
        }
        for topic in ["$SYS/broker/connection/a", "$SYS/broker/connection/a/state/x"] {
            assert!(!may("a", topic, b"1"), "{topic}");
        }
    }
}
