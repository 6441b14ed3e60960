//! The commands about clients.

use std::sync::Arc;

use super::{
    CLIENT_MISSING, Done, GROUP_MISSING, INTERNAL, Json, Members, Outcome, ROLE_MISSING,
    ROLES_WRONG, Ranking, TOO_MANY_ROLES, Work, change_texts, is_name, is_short, listing, priority,
    rolename, said, texts, username,
};
use crate::access::{
    HashKind,
    dynamic::document::{CLIENTS_MAX, Client},
    hash::{PasswordHash, hash_password},
};

impl Work<'_> {
    fn client(&mut self, name: &str) -> Result<&mut Client, &'static str> {
        self.document.clients.get_mut(name).ok_or(CLIENT_MISSING)
    }

    fn hash(&mut self, password: &str) -> Result<Arc<PasswordHash>, &'static str> {
        let kind = HashKind::Pbkdf2 { iterations: ITERATIONS };
        let text = hash_password(kind, password.as_bytes(), (self.salt)());
        PasswordHash::parse(&text).map(Arc::new).map_err(|_| INTERNAL)
    }

    /// Takes a client out of all its groups.
    fn leave_groups(&mut self, name: &str) {
        let client = self.document.clients.get_mut(name);
        let groups = client.map(|client| std::mem::take(&mut client.groups)).unwrap_or_default();
        for group in groups.names() {
            if let Some(group) = self.document.groups.get_mut(group) {
                group.clients.remove(name);
            }
        }
    }

    /// Puts a client that is there into these groups.
    fn enter_groups(&mut self, name: &str, groups: &[(&str, i32)]) {
        for &(group, priority) in groups {
            let known = self.document.groups.get_mut(group);
            if known.map(|group| group.clients.insert(name.into(), priority)).is_some()
                && let Some(client) = self.document.clients.get_mut(name)
            {
                client.groups.add(group, priority);
            }
        }
    }
}

pub(super) fn create(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let name = username(command)?;
    let password = command.text_if_any("password").map_err(|_| "Invalid/missing password")?;
    let client_id = command.text_if_any("clientid").map_err(|_| "Invalid/missing client id")?;
    if !client_id.is_none_or(is_name) {
        return Err("Client ID not valid UTF-8");
    }
    let texts = texts(command)?;
    if work.document.clients.contains_key(name) {
        return Err("Client already exists");
    }
    if work.document.clients.len() >= CLIENTS_MAX {
        return Err("Too many clients");
    }
    let roles = work.roles(command, ROLES_WRONG)?.unwrap_or_default();
    let groups = groups_of(command);
    let mut known = Ranking::default();
    for &(group, priority) in &groups {
        if !work.document.groups.contains_key(group) {
            return Err(GROUP_MISSING);
        }
        if !known.add(group, priority) {
            return Err(INTERNAL);
        }
    }
    if !is_short(&known) {
        return Err(TOO_MANY_ROLES);
    }
    let password = password.filter(|text| !text.is_empty());
    let password = password.map(|password| work.hash(password)).transpose()?;
    let client_id = client_id.filter(|text| !text.is_empty()).map(Box::from);
    let client = Client { client_id, texts, password, roles, ..Client::default() };
    work.document.clients.insert(name.into(), client);
    work.enter_groups(name, &groups);
    Ok(Done::Changed)
}

/// The groups that a command lists. What is no group is passed over.
fn groups_of(command: Members<'_>) -> Vec<(&str, i32)> {
    let groups = command.list("groups").unwrap_or_default().iter().filter_map(Members::of);
    groups.filter_map(|group| Some((group.text("groupname").ok()?, priority(group)))).collect()
}

pub(super) fn delete(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let name = username(command)?;
    work.client(name)?;
    work.leave_groups(name);
    work.document.clients.remove(name);
    work.kick(name);
    Ok(Done::Changed)
}

pub(super) fn enable(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    work.client(username(command)?)?.is_disabled = false;
    Ok(Done::Changed)
}

pub(super) fn disable(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let name = username(command)?;
    work.client(name)?.is_disabled = true;
    work.kick(name);
    Ok(Done::Changed)
}

pub(super) fn get(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let name = username(command)?;
    let client = work.client(name)?;
    Ok(said("client", whole(name, client)))
}

#[expect(clippy::unnecessary_wraps, reason = "all commands have one type")]
pub(super) fn list(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    Ok(listing(command, "clients", &work.document.clients, whole))
}

fn whole(name: &str, client: &Client) -> Json {
    let mut object = client.head(name);
    object.push(("roles", client.roles.json("rolename")));
    object.push(("groups", client.groups.json("groupname")));
    Json::Object(object)
}

pub(super) fn set_id(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let name = username(command)?;
    let client_id = command.text_if_any("clientid").map_err(|_| "Invalid/missing client ID")?;
    if !client_id.is_none_or(is_name) {
        return Err("Client ID not valid UTF-8");
    }
    work.client(name)?.client_id = client_id.filter(|text| !text.is_empty()).map(Box::from);
    work.kick(name);
    Ok(Done::Changed)
}

pub(super) fn set_password(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let name = username(command)?;
    let password = command.text("password").map_err(|_| "Invalid/missing password")?;
    if password.is_empty() {
        return Err("Empty password is not allowed");
    }
    work.client(name)?;
    let hash = work.hash(password)?;
    work.client(name)?.password = Some(hash);
    work.kick(name);
    Ok(Done::Changed)
}

pub(super) fn modify(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let name = username(command)?;
    let mut client = work.client(name)?.clone();
    if let Ok(client_id) = command.text("clientid") {
        if !is_name(client_id) {
            return Err("Client ID not valid UTF-8");
        }
        client.client_id = (!client_id.is_empty()).then(|| client_id.into());
    }
    if let Some(password) = command.text("password").ok().filter(|text| !text.is_empty()) {
        client.password = Some(work.hash(password)?);
    }
    change_texts(&mut client.texts, command);
    if let Some(roles) = work.roles(command, ROLES_WRONG)? {
        client.roles = roles;
    }
    let groups = groups_of(command);
    if groups.len() > super::RANKING_MAX {
        return Err(TOO_MANY_ROLES);
    }
    *work.client(name)? = client;
    if command.list("groups").is_some() {
        work.leave_groups(name);
        work.enter_groups(name, &first_of_each(groups));
    }
    work.kick(name);
    Ok(Done::Changed)
}

/// The same without the repetitions of a group.
fn first_of_each(groups: Vec<(&str, i32)>) -> Vec<(&str, i32)> {
    let mut seen = Ranking::default();
    groups.into_iter().filter(|&(group, priority)| seen.add(group, priority)).collect()
}

pub(super) fn add_role(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let (name, role) = (username(command)?, rolename(command)?);
    let is_role = work.document.roles.contains_key(role);
    let client = work.client(name)?;
    if !is_role {
        return Err(ROLE_MISSING);
    }
    if !client.roles.add(role, priority(command)) {
        return Err(INTERNAL);
    }
    if !is_short(&client.roles) {
        client.roles.remove(role);
        return Err(TOO_MANY_ROLES);
    }
    work.kick(name);
    Ok(Done::Changed)
}

pub(super) fn remove_role(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let (name, role) = (username(command)?, rolename(command)?);
    let is_role = work.document.roles.contains_key(role);
    let client = work.client(name)?;
    if !is_role {
        return Err(ROLE_MISSING);
    }
    client.roles.remove(role);
    work.kick(name);
    Ok(Done::Changed)
}

/// As mosquitto hashes passwords.
const ITERATIONS: u32 = 101;
