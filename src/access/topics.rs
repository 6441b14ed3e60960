//! Which topics a client may write to and read from.

/// Whether a client may publish to this Topic Name.
///
/// What stands under `$SYS` is the broker's word about itself, so no client may forge it; and
/// `$share` begins a filter: no Subscription could match a name that begins like one.
pub fn may_publish(topic_name: &str) -> bool {
    !topic_name.starts_with('$') || !matches!(first_level(topic_name), "$SYS" | "$share")
}

/// Whether a client may subscribe to this Topic Filter: to every one, `$SYS` included.
pub const fn may_subscribe(_topic_filter: &str) -> bool {
    true
}

fn first_level(topic: &str) -> &str {
    topic.split_once('/').map_or(topic, |(first, _)| first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brokers_own_topics_are_read_only() {
        for topic in ["$SYS", "$SYS/", "$SYS/broker/uptime", "$share", "$share/group/a"] {
            assert!(!may_publish(topic), "{topic}");
            assert!(may_subscribe(topic), "{topic}");
        }
        for topic in ["a", "/", "a/$SYS", "/$SYS", "$SYSTEM/a", "$sys", "$shared/a", "$aws/things"]
        {
            assert!(may_publish(topic), "{topic}");
        }
    }
}
