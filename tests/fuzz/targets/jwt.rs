//! Tokens, their claims and the files of their keys: any text is taken or refused, and nobody gets
//! in by a token that was not signed.

use ringmq::{
    access::{
        TokenRules, Tokens,
        acl::{Rights, Ways},
    },
    base::time::WallTime,
    topic::TopicName,
};

const SECRET: &[u8] = b"a secret that nobody guesses, for tests only";
const NOW: WallTime = WallTime::from_nanos(2_000_000_000_000_000_000);

/// The first byte says what the rest is.
pub(super) fn check(input: &[u8]) {
    let Some((kind, text)) = input.split_first() else { return };
    match kind % 3 {
        0 => check_token(text),
        1 => check_claims(text),
        _ => drop(Tokens::with_key(rules(), text)),
    }
}

fn rules() -> TokenRules {
    TokenRules { requires_expiry: false, ..TokenRules::default() }
}

fn tokens() -> Tokens {
    Tokens::with_key(rules(), SECRET).expect("the secret is long enough")
}

fn check_token(text: &[u8]) {
    assert!(tokens().verify(text, None, NOW).is_err(), "{text:?}");
}

fn check_claims(json: &[u8]) {
    let Ok(bearer) = tokens().accept(json, None, NOW) else { return };
    let name = &*bearer.user_name;
    assert!(!name.is_empty() && !name.contains(char::is_control), "{json:?}");
    assert_eq!(tokens().accept(json, Some(name), NOW).as_ref(), Ok(&bearer));
    assert!(tokens().accept(json, Some("somebody else"), NOW).is_err() || name == "somebody else");
    let Some(grant) = bearer.grant else { return };
    assert!(!grant.has_ended(NOW), "{json:?}");
    let Some(rules) = &grant.rules else { return };
    let rights = rules.rights_of(Some(name), "one", None);
    // What was read once is read in the same way again.
    assert!(rights.are_same_as(&rules.rights_of(Some(name), "one", None)));
    let may = |rights: &Rights, topic: &str, way| {
        rights.permits(TopicName::parse(topic).expect("a Topic Name")).any(way)
    };
    // A rule for all ways grants no less than what it is made of.
    for topic in ["a", "a/b", "one", "$SYS/a"] {
        let each = [Ways::read(0), Ways::read(1), Ways::read(2)];
        let reads = each.into_iter().any(|way| may(&rights, topic, way));
        assert_eq!(may(&rights, topic, Ways::READ), reads, "{json:?} {topic}");
    }
}
