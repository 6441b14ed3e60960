//! Documents and commands without a broker.

use std::collections::BTreeSet;

use super::*;
use crate::{
    access::{Finding, acl::Ways},
    topic::TopicName,
};

/// As `mosquitto_ctrl dynsec init` of mosquitto 2.0.11 writes it; the password is `pw1`.
const INIT: &str = include_str!("init.json");
/// What mosquitto 2.0.11 has made of it, with a client, a group and a role more.
const KEPT: &str = include_str!("kept.json");

fn document(text: &str) -> Document {
    Document::parse(text.as_bytes()).unwrap()
}

/// The answer to these commands, and whom they disconnect.
fn execute(document: &mut Document, commands: &str) -> (String, Kicks) {
    let execution = document.execute(commands.as_bytes(), &mut || [7; 16]);
    (execution.answer(true), execution.kicks)
}

/// The errors of these commands; empty for one that is done.
fn errors(document: &mut Document, commands: &[&str]) -> Vec<&'static str> {
    let payload = format!("{{\"commands\":[{}]}}", commands.join(","));
    let execution = document.execute(payload.as_bytes(), &mut || [7; 16]);
    execution.commands(true).map(|(_, error)| error.unwrap_or_default()).collect()
}

#[test]
fn a_file_of_mosquitto_is_written_as_mosquitto_writes_it() {
    assert_eq!(document(KEPT).text(), KEPT);
    let init = document(INIT);
    assert_eq!((init.clients(), init.roles()), (1, 1));
    assert_eq!(document(&init.text()), init);
}

#[test]
fn what_a_file_has_that_is_not_understood_is_named() {
    for (text, words) in [
        ("[1", "not JSON"),
        ("[]", "the file: it is no object"),
        (r#"{"plugins":[]}"#, "the file: the key \"plugins\" is not known"),
        (r#"{"clients":5}"#, "clients is no list"),
        (r#"{"clients":[{}]}"#, "a client: it has no username"),
        (r#"{"clients":[{"username":"a","x":1}]}"#, "client \"a\": the key \"x\""),
        (r#"{"clients":[{"username":"a"},{"username":"a"}]}"#, "client \"a\": it is there twice"),
        (r#"{"clients":[{"username":"a","roles":[{"rolename":"r"}]}]}"#, "there is no role \"r\""),
        (r#"{"groups":[{"groupname":"g","clients":[{}]}]}"#, "group \"g\": an entry has no user"),
        (r#"{"anonymousGroup":"g"}"#, "there is no group \"g\""),
        (r#"{"roles":[{"rolename":"r","acls":[{"acltype":"x","topic":"a"}]}]}"#, "acltype \"x\""),
        (r#"{"roles":[{"rolename":"r","acls":[{"acltype":"subscribeLiteral"}]}]}"#, "no topic"),
        (r#"{"defaultACLAccess":{"subscribe":1}}"#, "subscribe is no boolean"),
        (r#"{"clients":[{"username":"a","password":"x","salt":"y","iterations":1}]}"#, "salt"),
        (r#"{"clients":[{"username":"a","password":"x","salt":"eHg=","iterations":0}]}"#, "iter"),
    ] {
        let said = Document::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(said.contains(words), "{text}: {said}");
    }
    assert_eq!(document("{}"), Document::default());
}

#[test]
fn a_file_may_have_as_many_roles_as_commands_can_make() {
    let roles = |count| {
        let role = |n: usize| format!(r#"{{"rolename":"r{n}","acls":[]}}"#);
        format!(r#"{{"roles":[{}]}}"#, (0..count).map(role).collect::<Vec<_>>().join(","))
    };
    assert_eq!(document(&roles(4096)).roles(), 4096);
    let refused = Document::parse(roles(4097).as_bytes()).unwrap_err().to_string();
    assert_eq!(refused, "roles: there are more than 4096");
    let half = r#"{"clients":[{"username":"ada","password":"YQ=="}]}"#;
    let refused = Document::parse(half.as_bytes()).unwrap_err().to_string();
    assert!(refused.contains("ada") && refused.contains("without a salt"), "{refused}");
}

#[test]
fn the_users_of_a_file_prove_their_passwords_and_have_their_roles() {
    let users = document(INIT).users();
    let finds =
        |user, password: &[u8]| Passwords::verification(&users.passwords, user, Some(password))();
    assert_eq!((finds("admin", b"pw1"), finds("admin", b"pw2")), (Finding::Right, Finding::Wrong));
    let rights = users.acl.rights_of(Some("admin"), "x");
    let may = |way, topic| rights.permits(TopicName::parse(topic).unwrap()).any(way);
    assert!(may(Ways::WRITE, COMMANDS_TOPIC) && may(Ways::READ, ANSWERS_TOPIC));
    assert!(!may(Ways::WRITE, "a") && may(Ways::READ, "a"));
    assert_eq!(rights.may_subscribe(ANSWERS_TOPIC), Some(true));
}

#[test]
fn a_client_that_is_disabled_or_has_another_identifier_is_not_admitted() {
    let mut document = document(KEPT);
    let admits =
        |document: &Document, user, client_id| document.users().acl.admits(Some(user), client_id);
    assert!(admits(&document, "c1", "cid") && !admits(&document, "c1", "other"));
    assert!(admits(&document, "admin", "any") && admits(&document, "nobody", "any"));
    let done = errors(&mut document, &[r#"{"command":"disableClient","username":"c1"}"#]);
    assert_eq!((done, admits(&document, "c1", "cid")), (vec![""], false));
    errors(&mut document, &[r#"{"command":"ENABLECLIENT","username":"c1"}"#]);
    assert!(admits(&document, "c1", "cid"));
}

#[test]
fn a_change_disconnects_those_whom_it_concerns() {
    let both = ["c1", "c2"];
    for (command, users, anonymous) in [
        (r#""createClient","username":"c3""#, &[][..], false),
        (r#""setDefaultACLAccess","acls":[]"#, &[], false),
        (r#""deleteClient","username":"c1""#, &["c1"], false),
        (r#""setClientPassword","username":"c1","password":"x""#, &["c1"], false),
        (r#""addClientRole","username":"c1","rolename":"admin""#, &["c1"], false),
        (r#""removeGroupClient","username":"c1","groupname":"g1""#, &["c1"], false),
        (r#""addGroupRole","groupname":"g1","rolename":"admin""#, &both, false),
        (r#""deleteGroup","groupname":"g1""#, &both, false),
        (
            r#""modifyGroup","groupname":"g1","clients":[{"username":"admin"}]"#,
            &["admin", "c1", "c2"],
            false,
        ),
        (r#""deleteRole","rolename":"r1""#, &both, true),
        (r#""addRoleACL","rolename":"r1","acltype":"subscribeLiteral","topic":"x""#, &both, true),
        (r#""modifyRole","rolename":"r1","textname":"x""#, &[], false),
        (r#""setAnonymousGroup","groupname":"g2""#, &[], true),
    ] {
        let mut document = document(KEPT);
        let prepared = errors(
            &mut document,
            &[
                r#"{"command":"createClient","username":"c2","groups":[{"groupname":"g1"}]}"#,
                r#"{"command":"createGroup","groupname":"g2","roles":[{"rolename":"r1"}]}"#,
                r#"{"command":"setAnonymousGroup","groupname":"g2"}"#,
            ],
        );
        assert_eq!(prepared, [""; 3]);
        let payload = format!("{{\"commands\":[{{\"command\":{command}}}]}}");
        let (answer, kicks) = execute(&mut document, &payload);
        assert!(!answer.contains("error"), "{answer}");
        let users: BTreeSet<Box<str>> = users.iter().map(|&user| user.into()).collect();
        assert_eq!(kicks, Kicks { users, anonymous }, "{command}");
        // What was changed is read again as it was written.
        assert_eq!(super::tests::document(&document.text()), document, "{command}");
    }
}

#[test]
fn an_error_changes_nothing_and_disconnects_nobody() {
    let before = document(KEPT);
    for command in [
        r#""createClient","username":"c9","roles":[{"rolename":"nope"}]"#,
        r#""createClient","username":"c9","groups":[{"groupname":"g1"},{"groupname":"nope"}]"#,
        r#""modifyClient","username":"c1","textname":"x","roles":[5]"#,
        r#""modifyGroup","groupname":"g1","textname":"x","clients":[{"username":"nope"}]"#,
        r#""addGroupClient","username":"c1","groupname":"g1""#,
        r#""removeRoleACL","rolename":"r1","acltype":"subscribeLiteral","topic":"nope""#,
        r#""createClient","username":"\u0001""#,
        r#""addRoleACL","rolename":"r1","acltype":"subscribeLiteral","topic":"a/#/b""#,
    ] {
        let mut document = before.clone();
        let payload = format!("{{\"commands\":[{{\"command\":{command}}}]}}");
        let (answer, kicks) = execute(&mut document, &payload);
        assert!(answer.contains("error") && kicks.is_empty(), "{command}: {answer}");
        assert!(document == before, "{command}");
    }
}

#[test]
fn hostile_commands_get_an_error() {
    let deep = "[".repeat(100_000);
    let many = format!("{{\"commands\":[{}1]}}", "1,".repeat(1000));
    let not_text = [b'"', 0xFF, b'"'];
    for (payload, words) in [
        (&b""[..], "Payload not valid JSON"),
        (b"{\"commands\":[", "Payload not valid JSON"),
        (&not_text, "Payload not valid JSON"),
        (deep.as_bytes(), "Payload not valid JSON"),
        (b"[]", "Invalid/missing commands"),
        (b"{\"commands\":{}}", "Invalid/missing commands"),
        (b"{\"commands\":[[]]}", "Command not an object"),
        (many.as_bytes(), "Too many commands"),
    ] {
        let mut document = document(KEPT);
        let execution = document.execute(payload, &mut || [7; 16]);
        assert!(execution.answer(true).contains(words) && !execution.has_changed());
        assert_eq!(document, super::tests::document(KEPT));
    }
}

#[test]
fn a_change_that_cannot_be_written_down_is_answered_with_an_error() {
    let mut document = document(KEPT);
    let payload =
        br#"{"commands":[{"command":"createRole","rolename":"x"},{"command":"listRoles"}]}"#;
    let execution = document.execute(payload, &mut || [7; 16]);
    assert!(execution.has_changed());
    let answer = execution.answer(false);
    assert!(answer.contains(r#"{"command":"createRole","error":"Internal error"#), "{answer}");
    assert!(answer.contains(r#""command":"listRoles","data""#), "{answer}");
}

#[test]
fn answers_do_not_grow_without_limit() {
    let mut document = Document::default();
    let name = "x".repeat(60_000);
    let create = format!(r#"{{"command":"createRole","rolename":"{name}"}}"#);
    assert_eq!(errors(&mut document, &[&create]), [""]);
    let list = vec![r#"{"command":"listRoles"}"#; 1000];
    let outcomes = errors(&mut document, &list);
    let refused = outcomes.iter().filter(|error| **error == "Response too large").count();
    assert!((700..750).contains(&refused), "{refused}");
}
