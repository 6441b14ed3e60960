//! The commands about roles.

use std::sync::Arc;

use super::{
    Done, Members, Outcome, ROLE_MISSING, Work, change_texts, is_name, listing, rolename, said,
    texts,
};
use crate::{
    access::{
        acl::{AclType, RoleRules, is_too_deep},
        dynamic::document::{ROLES_MAX, RULES_MAX, Role, rule_of},
    },
    topic::TopicFilter,
};

impl Work<'_> {
    fn role(&mut self, name: &str) -> Result<&mut Role, &'static str> {
        self.document.roles.get_mut(name).ok_or(ROLE_MISSING)
    }
}

pub(super) fn create(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let name = rolename(command)?;
    let texts = texts(command)?;
    if work.document.roles.contains_key(name) {
        return Err("Role already exists");
    }
    if work.document.roles.len() >= ROLES_MAX {
        return Err("Too many roles");
    }
    let rules = Arc::new(rules_of(command)?.unwrap_or_default());
    work.document.roles.insert(name.into(), Role { texts, rules, ..Role::default() });
    Ok(Done::Changed)
}

/// The rules that a command lists, if it does. As in mosquitto, what is no rule is passed over.
fn rules_of(command: Members<'_>) -> Result<Option<RoleRules>, &'static str> {
    let Some(list) = command.list("acls") else { return Ok(None) };
    let mut rules = RoleRules::default();
    for acl in list.iter().filter_map(Members::of) {
        let kind = acl.text("acltype").ok().and_then(AclType::from_name);
        let (Some(kind), Ok(topic)) = (kind, acl.text("topic")) else { continue };
        if !is_name(topic) || is_too_deep(topic) {
            return Err(TOPIC_WRONG);
        }
        rules.add(kind, rule_of(acl, topic));
    }
    if rules.len() > RULES_MAX { Err(TOO_MANY) } else { Ok(Some(rules)) }
}

pub(super) fn delete(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let name = rolename(command)?;
    work.role(name)?;
    work.kick_role(name);
    for client in work.document.clients.values_mut() {
        client.roles.remove(name);
    }
    for group in work.document.groups.values_mut() {
        group.roles.remove(name);
    }
    work.document.roles.remove(name);
    Ok(Done::Changed)
}

pub(super) fn get(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let name = rolename(command)?;
    let role = work.role(name)?;
    Ok(said("role", role.json(name)))
}

#[expect(clippy::unnecessary_wraps, reason = "all commands have one type")]
pub(super) fn list(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    Ok(listing(command, "roles", &work.document.roles, |name, role| role.json(name)))
}

pub(super) fn modify(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let name = rolename(command)?;
    work.role(name).map_err(|_| "Role does not exist")?;
    let rules = rules_of(command)?;
    let role = work.role(name)?;
    change_texts(&mut role.texts, command);
    if let Some(rules) = rules {
        role.rules = Arc::new(rules);
        work.kick_role(name);
    }
    Ok(Done::Changed)
}

pub(super) fn add_acl(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let name = rolename(command)?;
    let role = work.role(name)?;
    let (kind, topic) = acl_of(command)?;
    if role.rules.of(kind).iter().any(|rule| *rule.topic == *topic) {
        return Err("ACL with this topic already exists");
    }
    if role.rules.len() >= RULES_MAX {
        return Err(TOO_MANY);
    }
    Arc::make_mut(&mut role.rules).add(kind, rule_of(command, topic));
    work.kick_role(name);
    Ok(Done::Changed)
}

pub(super) fn remove_acl(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let name = rolename(command)?;
    let role = work.role(name)?;
    let (kind, topic) = acl_of(command)?;
    if !Arc::make_mut(&mut role.rules).remove(kind, topic) {
        return Err("ACL not found");
    }
    work.kick_role(name);
    Ok(Done::Changed)
}

/// What the rule of a command is about, and its topic.
fn acl_of(command: Members<'_>) -> Result<(AclType, &str), &'static str> {
    let kind = command.text("acltype").map_err(|_| "Invalid/missing acltype")?;
    let kind = AclType::from_name(kind).ok_or("Unknown acltype")?;
    let topic = command.text("topic").map_err(|_| "Invalid/missing topic")?;
    if !is_name(topic) {
        return Err("Topic not valid UTF-8");
    }
    if TopicFilter::parse(topic).is_err() || is_too_deep(topic) {
        return Err(TOPIC_WRONG);
    }
    Ok((kind, topic))
}

const TOPIC_WRONG: &str = "Invalid ACL topic";
const TOO_MANY: &str = "Too many ACLs";
