//! What matches what, as section 4.7 tells it, without any cleverness.

/// Whether a Topic Name matches a Topic Filter. [Section 4.7]
pub(crate) fn matches(filter: &str, name: &str) -> bool {
    // [MQTT-4.7.2-1]
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut name = name.split('/');
    for level in filter.split('/') {
        match (level, name.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(part)) if level == part => {}
            _ => return false,
        }
    }
    name.next().is_none()
}
