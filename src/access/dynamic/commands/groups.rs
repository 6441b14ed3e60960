//! The commands about groups.

use std::collections::BTreeMap;

use super::{
    CLIENT_MISSING, Done, GROUP_MISSING, INTERNAL, Json, Members, Outcome, RANKING_MAX,
    ROLE_MISSING, ROLES_WRONG, TOO_MANY_ROLES, Work, change_texts, groupname, is_short, listing,
    priority, rolename, said, texts, username,
};
use crate::access::dynamic::document::{GROUPS_MAX, Group};

impl Work<'_> {
    fn group(&mut self, name: &str) -> Result<&mut Group, &'static str> {
        self.document.groups.get_mut(name).ok_or(GROUP_MISSING)
    }

    /// A group and a role, both of which are there.
    fn group_and_role<'a>(
        &mut self,
        command: Members<'a>,
    ) -> Result<(&'a str, &'a str), &'static str> {
        let (group, role) = (groupname(command)?, rolename(command)?);
        self.group(group)?;
        if !self.document.roles.contains_key(role) {
            return Err(ROLE_MISSING);
        }
        Ok((group, role))
    }

    /// Takes all clients out of a group.
    fn empty_group(&mut self, name: &str) {
        let group = self.document.groups.get_mut(name);
        let clients = group.map(|group| std::mem::take(&mut group.clients)).unwrap_or_default();
        for client in clients.keys() {
            if let Some(client) = self.document.clients.get_mut(client) {
                client.groups.remove(name);
            }
        }
    }
}

pub(super) fn create(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let name = groupname(command)?;
    let texts = texts(command)?;
    if work.document.groups.contains_key(name) {
        return Err("Group already exists");
    }
    if work.document.groups.len() >= GROUPS_MAX {
        return Err("Too many groups");
    }
    let roles = work.roles(command, INTERNAL)?.unwrap_or_default();
    let group = Group { texts, roles, ..Group::default() };
    work.document.groups.insert(name.into(), group);
    Ok(Done::Changed)
}

pub(super) fn delete(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let name = groupname(command)?;
    work.group(name)?;
    if work.document.anonymous_group.as_deref() == Some(name) {
        return Err("Deleting the anonymous group is forbidden");
    }
    work.kick_group(name);
    work.empty_group(name);
    work.document.groups.remove(name);
    Ok(Done::Changed)
}

pub(super) fn get(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let name = groupname(command)?;
    let group = work.group(name)?;
    Ok(said("group", whole(name, group)))
}

#[expect(clippy::unnecessary_wraps, reason = "all commands have one type")]
pub(super) fn list(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    Ok(listing(command, "groups", &work.document.groups, whole))
}

fn whole(name: &str, group: &Group) -> Json {
    let mut object = group.texts.under("groupname", name);
    let names = group.clients.keys().map(|name| Json::from(&**name));
    let clients = names.map(|name| Json::Object(vec![("username", name)]));
    object.push(("clients", Json::List(clients.collect())));
    object.push(("roles", group.roles.json("rolename")));
    Json::Object(object)
}

pub(super) fn modify(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let name = groupname(command)?;
    let mut group = work.group(name)?.clone();
    change_texts(&mut group.texts, command);
    if let Some(roles) = work.roles(command, ROLES_WRONG)? {
        group.roles = roles;
    }
    let clients = clients_of(work, (name, command))?;
    work.kick_group(name);
    *work.group(name)? = group;
    if let Some(clients) = clients {
        work.empty_group(name);
        for (user, priority) in clients {
            put_in(work, (user, name), priority)?;
        }
        work.kick_group(name);
    }
    Ok(Done::Changed)
}

/// The clients that a command lists, if it does: all of them are there.
fn clients_of<'a>(
    work: &Work<'_>,
    (name, command): (&str, Members<'a>),
) -> Result<Option<BTreeMap<&'a str, i32>>, &'static str> {
    let Some(list) = command.list("clients") else { return Ok(None) };
    let mut clients = BTreeMap::new();
    for entry in list.iter().filter_map(Members::of) {
        let user = entry
            .text("username")
            .map_err(|_| "'clients' contains an object with an invalid 'username'")?;
        let client = work.document.clients.get(user);
        let client =
            client.ok_or("'clients' contains an object with a 'username' that does not exist")?;
        if client.groups.len() >= RANKING_MAX && !client.groups.has(name) {
            return Err(TOO_MANY_ROLES);
        }
        clients.entry(user).or_insert_with(|| priority(entry));
    }
    Ok(Some(clients))
}

/// Puts a client into a group.
fn put_in(
    work: &mut Work<'_>,
    (user, name): (&str, &str),
    priority: i32,
) -> Result<(), &'static str> {
    let client = work.document.clients.get_mut(user).ok_or(CLIENT_MISSING)?;
    let group = work.document.groups.get_mut(name).ok_or(GROUP_MISSING)?;
    if group.clients.contains_key(user) {
        return Err("Client is already in this group");
    }
    client.groups.add(name, priority);
    if !is_short(&client.groups) {
        client.groups.remove(name);
        return Err(TOO_MANY_ROLES);
    }
    group.clients.insert(user.into(), priority);
    Ok(())
}

pub(super) fn add_client(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let (user, name) = (username(command)?, groupname(command)?);
    put_in(work, (user, name), priority(command))?;
    work.kick(user);
    Ok(Done::Changed)
}

pub(super) fn remove_client(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let (user, name) = (username(command)?, groupname(command)?);
    let client = work.document.clients.get_mut(user).ok_or(CLIENT_MISSING)?;
    let group = work.document.groups.get_mut(name).ok_or(GROUP_MISSING)?;
    client.groups.remove(name);
    group.clients.remove(user);
    work.kick(user);
    Ok(Done::Changed)
}

pub(super) fn add_role(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let (name, role) = work.group_and_role(command)?;
    let group = work.group(name)?;
    if !group.roles.add(role, priority(command)) {
        return Err("Group is already in this role");
    }
    if !is_short(&group.roles) {
        group.roles.remove(role);
        return Err(TOO_MANY_ROLES);
    }
    work.kick_group(name);
    Ok(Done::Changed)
}

pub(super) fn remove_role(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let (name, role) = work.group_and_role(command)?;
    work.group(name)?.roles.remove(role);
    work.kick_group(name);
    Ok(Done::Changed)
}

pub(super) fn set_anonymous(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let name = groupname(command)?;
    work.group(name)?;
    work.document.anonymous_group = Some(name.into());
    work.kicks.anonymous = true;
    Ok(Done::Changed)
}

#[expect(clippy::unnecessary_wraps, reason = "all commands have one type")]
pub(super) fn get_anonymous(work: &mut Work<'_>, _: Members<'_>) -> Outcome {
    let name = work.document.anonymous_group.as_deref().unwrap_or_default();
    Ok(said("group", Json::Object(vec![("groupname", Json::from(name))])))
}
