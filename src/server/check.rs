//! `ringmq check`: reads all that a start reads, and says what would be served.
//!
//! Binds no address and starts no thread.

use std::fmt::{self, Write};

use anyhow::Error;

use super::{
    acl, control, dynamic, hook, keys, listeners, passwords, scram_users, tokens, words_of,
};
use crate::{
    access::{Acl, Passwords, Tokens, dynamic::Document, scram::ScramUsers},
    config::Config,
    transport::Listener,
};

/// What would be served, in lines; or all that is wrong with the files.
pub fn check(config: &Config) -> Result<String, Vec<Error>> {
    let (listeners, acl, http) = (listeners(config), acl(config), control::tokens(config));
    let tokens = keys::address(config).and_then(|_| tokens(config));
    let users = (passwords(config), scram_users(config), tokens, dynamic::document(config));
    match (listeners, users, hook::settings(config), acl, http) {
        (
            Ok(listeners),
            (Ok(passwords), Ok(scram), Ok(tokens), Ok(document)),
            Ok(_),
            Ok(acl),
            Ok(_),
        ) => {
            let files = Files { listeners, passwords, scram, tokens, document, acl };
            let mut lines = String::new();
            tell(&mut lines, config, &files).expect("a String takes all that is written to it");
            Ok(lines)
        }
        (listeners, (passwords, scram, tokens, document), hook, acl, http) => {
            let users = [passwords.err(), scram.err(), tokens.err(), document.err(), hook.err()];
            let errors = [listeners.err()].into_iter().chain(users).chain([acl.err(), http.err()]);
            Err(errors.flatten().collect())
        }
    }
}

/// What was read.
struct Files {
    listeners: Vec<Listener>,
    passwords: Option<Passwords>,
    scram: Option<ScramUsers>,
    tokens: Option<Tokens>,
    document: Option<Document>,
    acl: Option<Acl>,
}

fn tell(out: &mut String, config: &Config, files: &Files) -> fmt::Result {
    writeln!(out, "ringmq {}: the configuration is valid", env!("CARGO_PKG_VERSION"))?;
    for listener in &files.listeners {
        let by_rule = config.anonymous.is_let_in(listener.is_loopback());
        let anonymous = words_for(listener.anonymous.unwrap_or(by_rule));
        let proxies = if listener.proxies.is_some() { " for proxies" } else { "" };
        writeln!(out, "would listen on {}{proxies}, {anonymous}", words_of(listener))?;
    }
    for address in config.control.iter().flat_map(|control| &control.addresses) {
        writeln!(out, "would listen on http://{address}")?;
    }
    if let Some(path) = config.control.as_ref().and_then(|control| control.own_socket.as_ref()) {
        writeln!(out, "would listen on http://unix:{}", path.display())?;
    }
    if let Some(passwords) = &files.passwords {
        writeln!(out, "users in the password file: {}", passwords.len())?;
    }
    if let Some(scram) = &files.scram {
        writeln!(out, "verifiers in the SCRAM file: {}", scram.len())?;
    }
    if let Some(tokens) = &files.tokens {
        writeln!(out, "keys for tokens: {}", tokens.key_count())?;
    }
    if let Some(jwks) = &config.jwks {
        writeln!(out, "would fetch keys for tokens from {}", jwks.url)?;
    }
    if let Some(hook) = &config.hook {
        writeln!(out, "would ask {} about clients", hook.url)?;
    }
    if let Some(document) = &files.document {
        let (clients, roles) = (document.clients(), document.roles());
        writeln!(out, "clients in the dynamic security file: {clients}, with {roles} roles")?;
    }
    if let Some(acl) = &files.acl {
        writeln!(out, "rules in the ACL file: {}", acl.len())?;
        for pattern in acl.general_patterns() {
            writeln!(out, "the ACL pattern `{pattern}` has neither %c nor %u: it is for everyone")?;
        }
    }
    let (shards, connections) = (config.shards(), config.connections_max);
    write!(out, "shards: {shards}, connections: up to {connections}")
}

fn words_for(let_in: bool) -> &'static str {
    if let_in { "anonymous clients are let in" } else { "anonymous clients are refused" }
}
