//! Which topics a client may write to and read from.
//!
//! Every question names the [`Principal`] that asks, so that rights per topic attach here: they are
//! one more answer in each of these functions. Today all clients have the same rights.

use super::Principal;
use crate::topic::{TopicFilter, TopicName};

/// How much a client may read of what matches a Topic Filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribable {
    /// Everything: nobody asks again when a message is delivered.
    Whole,
    /// Some of it: [`may_read`] is asked for each message.
    Partly,
    No,
}

/// Whether a client may publish this to this Topic Name, now or as its Will.
///
/// What stands under `$SYS` is the broker's word about itself, so no client may forge it. A bridge
/// says there whether it is connected, as mosquitto's do.
#[inline]
pub fn may_publish(principal: &Principal, topic: TopicName<'_>, payload: &[u8]) -> bool {
    // Hardly any message is published to such a topic.
    !topic.is_reserved() || may_publish_reserved(principal, topic, payload)
}

#[cold]
fn may_publish_reserved(principal: &Principal, topic: TopicName<'_>, payload: &[u8]) -> bool {
    !is_brokers_own(topic) || is_bridge_state(principal, topic, payload)
}

/// How much a client may read of what matches this Topic Filter: all of it, `$SYS` included.
pub const fn may_subscribe(_principal: &Principal, _filter: TopicFilter<'_>) -> Subscribable {
    Subscribable::Whole
}

/// Whether a client may read what is published to this Topic Name. It is asked for subscriptions
/// that are [`Subscribable::Partly`], and there are none today.
pub const fn may_read(_principal: &Principal, _topic: TopicName<'_>) -> bool {
    true
}

/// Whether the broker alone publishes to this Topic Name. `$share` begins a filter: no Subscription
/// could match a name that begins like one.
#[inline]
pub fn is_brokers_own(topic: TopicName<'_>) -> bool {
    topic.is_reserved() && matches!(topic.levels().next(), Some("$SYS" | "$share"))
}

/// Whether only the broker tells what is published to this Topic Name: it counts in no limit and in
/// no sum of what clients do. What bridges say of themselves does.
#[inline]
pub fn is_of_the_broker(topic: TopicName<'_>) -> bool {
    is_brokers_own(topic) && !topic.as_str().starts_with(BRIDGES)
}

/// Whether a client says of itself, and of nobody else, that it is connected (1) or not (0).
fn is_bridge_state(principal: &Principal, topic: TopicName<'_>, payload: &[u8]) -> bool {
    let rest = topic.as_str().strip_prefix(BRIDGES);
    let bridge = rest.and_then(|rest| rest.strip_suffix("/state"));
    bridge == Some(principal.client_id()) && matches!(payload, b"0" | b"1")
}

/// Where bridges say of themselves whether they are connected.
const BRIDGES: &str = "$SYS/broker/connection/";

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn may(client_id: &str, topic: &str, payload: &[u8]) -> bool {
        let stranger = Principal::stranger(0, SocketAddr::from(([127, 0, 0, 1], 1)));
        let topic = TopicName::parse(topic).unwrap();
        may_publish(&stranger.named(client_id, None), topic, payload)
    }

    #[test]
    fn the_brokers_own_topics_are_read_only() {
        for topic in ["$SYS", "$SYS/", "$SYS/broker/uptime", "$share", "$share/group/a"] {
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
