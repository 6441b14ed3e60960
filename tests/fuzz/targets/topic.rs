//! Topics: what is one, and what matches what, against section 4.7 written down naively.

use ringmq::topic::{Subscription, TOPIC_BYTES_MAX, TopicFilter, TopicName};

use super::matching::matches;

/// A filter and a name, one line each.
pub(super) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (filter, name) = text.split_once('\n').unwrap_or((text, text));
    let parsed = (TopicFilter::parse(filter), TopicName::parse(name));
    assert_eq!(parsed.0.is_ok(), is_filter(filter), "{filter:?}");
    assert_eq!(parsed.1.is_ok(), is_text(name) && !name.contains(['+', '#']), "{name:?}");
    check_subscription(filter);
    let (Ok(filter), Ok(name)) = parsed else { return };
    assert_eq!(filter.matches(name), matches(filter.as_str(), name.as_str()), "{text:?}");
    assert!(filter.levels().eq(filter.as_str().split('/')));
    assert!(name.levels().eq(name.as_str().split('/')));
    assert_eq!(name.level_count(), name.levels().count());
    assert_eq!(filter.has_wildcard(), filter.as_str().contains(['+', '#']));
    assert!(filter.as_str().starts_with(filter.literal_prefix()));
}

fn check_subscription(text: &str) {
    let naive = match text.strip_prefix("$share/").map(|rest| rest.split_once('/')) {
        None => is_filter(text),
        Some(Some((share, filter))) => {
            let named = !share.is_empty() && !share.contains(['+', '#']);
            is_text(text) && named && is_filter(filter)
        }
        Some(None) => false,
    };
    let parsed = Subscription::parse(text);
    assert_eq!(parsed.is_ok(), naive, "{text:?}");
    if let Ok(Subscription::Shared(shared)) = parsed {
        let (share, filter) = (shared.share.as_str(), shared.filter.as_str());
        assert_eq!(format!("$share/{share}/{filter}"), text);
    }
}

fn is_text(text: &str) -> bool {
    let disallowed = |it: char| it.is_control() || is_noncharacter(u32::from(it));
    (1..=TOPIC_BYTES_MAX).contains(&text.len()) && !text.contains(disallowed)
}

fn is_noncharacter(point: u32) -> bool {
    point % 0x1_0000 >= 0xFFFE || (0xFDD0..=0xFDEF).contains(&point)
}

fn is_filter(text: &str) -> bool {
    let levels: Vec<&str> = text.split('/').collect();
    let last = levels.len() - 1;
    let fits = |(at, level): (usize, &&str)| {
        (*level == "#" && at == last) || *level == "+" || !level.contains(['+', '#'])
    };
    is_text(text) && levels.iter().enumerate().all(fits)
}
