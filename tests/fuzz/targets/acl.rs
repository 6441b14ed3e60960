//! The ACL file: any text is taken or refused by line, and means what a list of its rules means.

use ringmq::{
    access::{
        Acl,
        acl::{AclFileError, Ways},
    },
    topic::TopicName,
};

use super::rights::may;

pub(super) fn check(input: &[u8]) {
    let parsed = Acl::parse(input);
    if let Err(AclFileError::Malformed { line, .. }) = parsed {
        let lines = input.split(|&byte| byte == b'\n').count();
        assert!((1..=lines).contains(&line), "{input:?}");
        return;
    }
    let acl = parsed.expect("no file was read");
    let text = std::str::from_utf8(input).expect("text is taken only");
    // The twin does not know how blanks are skipped.
    let is_plain = |line: &str| !line.contains("  ") && line.trim() == line;
    if !text.split('\n').all(is_plain) || text.starts_with('\u{feff}') {
        return;
    }
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("user ")).collect();
    let users = names.iter().map(|&name| Some(name)).chain([None, Some("ada")]);
    for (user, client_id) in users.flat_map(|user| [(user, "one"), (user, "a/b"), (user, "+")]) {
        let rights = acl.rights_of(user, client_id);
        for topic in topics(text, user.unwrap_or_default(), client_id) {
            let Ok(name) = TopicName::parse(&topic) else { continue };
            let permits = rights.permits(name);
            let [read, write] =
                ["read", "write"].map(|wanted| may(text, (user, client_id), wanted, &topic));
            let found = (permits.any(Ways::READ), permits.any(Ways::WRITE));
            assert_eq!(found, (read, write), "{text:?} {topic:?}");
        }
    }
}

/// Names that some rules may match.
fn topics(text: &str, user: &str, client_id: &str) -> Vec<String> {
    let filters = text.lines().filter_map(|line| line.rsplit(' ').next());
    let filled = filters.map(|filter| filter.replace("%c", client_id).replace("%u", user));
    filled
        .flat_map(|filter| {
            let name = filter.replace('+', "x");
            [name.replace('#', "y/z"), name.replace("/#", "")]
        })
        .collect()
}
