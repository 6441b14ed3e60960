//! The file of mosquitto's dynamic security: its clients, groups and roles, read and written.
//!
//! A file is taken as a whole or not at all. What mosquitto would skip in silence is named.

use std::{collections::BTreeMap, fs, io, path::Path, sync::Arc};

use serde_json::Value;
use thiserror::Error;

use super::{
    Users,
    json::{Json, Members, Object},
};
use crate::access::{
    Acl, Passwords,
    acl::{AclType, Defaults, RoleRule, RoleRules, RoleUser, is_too_deep},
    hash::PasswordHash,
};

/// Everything in one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    pub(super) defaults: Defaults,
    pub(super) clients: BTreeMap<Box<str>, Client>,
    pub(super) groups: BTreeMap<Box<str>, Group>,
    pub(super) roles: BTreeMap<Box<str>, Role>,
    pub(super) anonymous_group: Option<Box<str>>,
}

/// What people call something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Texts {
    pub(super) name: Option<Box<str>>,
    pub(super) description: Option<Box<str>>,
}

#[expect(clippy::struct_field_names, reason = "a Client Identifier is called so")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) client_id: Option<Box<str>>,
    pub(super) texts: Texts,
    pub(super) is_disabled: bool,
    pub(super) password: Option<Arc<PasswordHash>>,
    pub(super) roles: Ranking,
    /// As the groups have it.
    pub(super) groups: Ranking,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) texts: Texts,
    pub(super) roles: Ranking,
    /// Its clients, with their priorities.
    pub(super) clients: BTreeMap<Box<str>, i32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Role {
    pub(super) texts: Texts,
    /// Kept for later versions of mosquitto, and without effect.
    pub(super) allow_wildcard_subs: Option<bool>,
    pub(super) rules: Arc<RoleRules>,
}

/// Names with priorities: the highest first, and those of one priority by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranking(Vec<(i32, Box<str>)>);

impl Ranking {
    /// False: the name is there already.
    pub(super) fn add(&mut self, name: &str, priority: i32) -> bool {
        if self.has(name) {
            return false;
        }
        let is_before = |(other, known): &(i32, Box<str>)| {
            *other > priority || (*other == priority && **known < *name)
        };
        let place = self.0.partition_point(is_before);
        self.0.insert(place, (priority, name.into()));
        true
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(_, known)| **known != *name);
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(_, known)| **known == *name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(_, name)| &**name)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn json(&self, key: &'static str) -> Json {
        let entry = |(priority, name): &(i32, Box<str>)| ranked(key, name, *priority);
        Json::List(self.0.iter().map(entry).collect())
    }
}

/// A name with its priority, which is left out if nobody has chosen it.
fn ranked(key: &'static str, name: &str, priority: i32) -> Json {
    let mut object = vec![(key, Json::from(name))];
    if priority != PRIORITY_DEFAULT {
        object.push(("priority", Json::Number(priority.into())));
    }
    Json::Object(object)
}

/// Clients, groups and roles of a file.
pub(super) const CLIENTS_MAX: usize = 1 << 16;
pub(super) const GROUPS_MAX: usize = 1 << 12;
pub(super) const ROLES_MAX: usize = 1 << 12;
/// ACLs of a role.
pub(super) const RULES_MAX: usize = 1 << 12;
/// Roles of a client or a group, and groups of a client.
pub(super) const RANKING_MAX: usize = 256;

/// The priority of a role or a group that names none.
pub(super) const PRIORITY_DEFAULT: i32 = -1;

/// Why a file is refused.
#[derive(Debug, Error)]
pub enum DocumentError {
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    #[error("the file is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error("{place}: {problem}")]
    Wrong { place: String, problem: String },
}

fn wrong(place: impl Into<String>, problem: impl Into<String>) -> DocumentError {
    DocumentError::Wrong { place: place.into(), problem: problem.into() }
}

impl Document {
    pub fn read(path: &Path) -> Result<Document, DocumentError> {
        Document::parse(&fs::read(path)?)
    }

    pub fn parse(text: &[u8]) -> Result<Document, DocumentError> {
        let value: Value = serde_json::from_slice(text)?;
        let root = members(&value, "the file", ROOT)?;
        let mut document = Document::default();
        if let Some(defaults) = root.get("defaultACLAccess") {
            document.defaults = parse_defaults(defaults)?;
        }
        for value in list(root, "roles", "the file")? {
            let (name, role) = parse_role(value)?;
            insert(&mut document.roles, name, role, "role")?;
        }
        for value in list(root, "clients", "the file")? {
            let (name, client) = document.parse_client(value)?;
            insert(&mut document.clients, name, client, "client")?;
        }
        for value in list(root, "groups", "the file")? {
            let (name, group) = document.parse_group(value)?;
            insert(&mut document.groups, name, group, "group")?;
        }
        document.link_groups();
        document.check_numbers()?;
        if let Ok(Some(name)) = root.text_if_any("anonymousGroup") {
            if !document.groups.contains_key(name) {
                return Err(wrong("anonymousGroup", format!("there is no group {name:?}")));
            }
            document.anonymous_group = Some(name.into());
        }
        Ok(document)
    }

    fn parse_client(&self, value: &Value) -> Result<(Box<str>, Client), DocumentError> {
        let place = place_of(value, "client", "username");
        let client = members(value, &place, CLIENT)?;
        let name = client.text("username").map_err(|_| wrong("a client", "it has no username"))?;
        let text = |key| text_of(client, key, &place);
        let parsed = Client {
            client_id: text("clientid")?,
            texts: texts_of(client, &place)?,
            is_disabled: client.flag("disabled", false),
            password: parse_password(client, &place)?,
            roles: self.parse_roles(client, &place)?,
            groups: Ranking::default(),
        };
        Ok((name.into(), parsed))
    }

    fn parse_group(&self, value: &Value) -> Result<(Box<str>, Group), DocumentError> {
        let place = place_of(value, "group", "groupname");
        let group = members(value, &place, GROUP)?;
        let name = group.text("groupname").map_err(|_| wrong("a group", "it has no groupname"))?;
        let mut clients = BTreeMap::new();
        for value in list(group, "clients", &place)? {
            let (user, priority) = parse_ranked(value, "username", &place)?;
            // mosquitto 2.0.11 leaves members of groups behind whose clients were never made.
            if self.clients.contains_key(user) {
                clients.insert(user.into(), priority);
            }
        }
        let (texts, roles) = (texts_of(group, &place)?, self.parse_roles(group, &place)?);
        Ok((name.into(), Group { texts, roles, clients }))
    }

    fn parse_roles(&self, of: Members<'_>, place: &str) -> Result<Ranking, DocumentError> {
        let mut roles = Ranking::default();
        for value in list(of, "roles", place)? {
            let (name, priority) = parse_ranked(value, "rolename", place)?;
            if !self.roles.contains_key(name) {
                return Err(wrong(place, format!("there is no role {name:?}")));
            }
            roles.add(name, priority);
        }
        Ok(roles)
    }

    /// What holds for commands holds for a file, too.
    fn check_numbers(&self) -> Result<(), DocumentError> {
        let counts = [
            ("clients", self.clients.len(), CLIENTS_MAX),
            ("groups", self.groups.len(), GROUPS_MAX),
            ("roles", self.roles.len(), ROLES_MAX),
        ];
        let many = |place: &str, most| wrong(place, format!("there are more than {most}"));
        if let Some((place, _, most)) = counts.into_iter().find(|&(_, count, most)| count > most) {
            return Err(many(place, most));
        }
        let of_clients =
            self.clients.iter().map(|(name, it)| (name, it.roles.len().max(it.groups.len())));
        let of_groups = self.groups.iter().map(|(name, it)| (name, it.roles.len()));
        if let Some((name, _)) = of_clients.chain(of_groups).find(|&(_, count)| count > RANKING_MAX)
        {
            return Err(many(&format!("the roles or groups of {name:?}"), RANKING_MAX));
        }
        match self.roles.iter().find(|(_, role)| role.rules.len() > RULES_MAX) {
            Some((name, _)) => Err(many(&format!("the ACLs of {name:?}"), RULES_MAX)),
            None => Ok(()),
        }
    }

    /// Tells each client which groups it is in.
    fn link_groups(&mut self) {
        for (name, group) in &self.groups {
            for (user, &priority) in &group.clients {
                let client = self.clients.get_mut(user).expect("the client was found before");
                client.groups.add(name, priority);
            }
        }
    }

    /// The text of the file, as mosquitto writes it.
    pub fn text(&self) -> String {
        let Defaults { send, receive, subscribe, unsubscribe } = self.defaults;
        let defaults = vec![
            ("publishClientSend", Json::Flag(send)),
            ("publishClientReceive", Json::Flag(receive)),
            ("subscribe", Json::Flag(subscribe)),
            ("unsubscribe", Json::Flag(unsubscribe)),
        ];
        let clients = self.clients.iter().map(|(name, client)| {
            let mut object = client.head(name);
            object.push(("roles", client.roles.json("rolename")));
            if let Some((password, salt, iterations)) =
                client.password.as_ref().and_then(|hash| hash.pbkdf2_parts())
            {
                object.push(("password", Json::Text(password)));
                object.push(("salt", Json::Text(salt)));
                object.push(("iterations", Json::Number(iterations.into())));
            }
            Json::Object(object)
        });
        let groups = self.groups.iter().map(|(name, group)| {
            let mut object = group.texts.under("groupname", name);
            object.push(("roles", group.roles.json("rolename")));
            let clients = group.clients.iter();
            let clients = clients.map(|(name, &priority)| ranked("username", name, priority));
            object.push(("clients", Json::List(clients.collect())));
            Json::Object(object)
        });
        let roles = self.roles.iter().map(|(name, role)| role.json(name));
        let mut root = vec![
            ("defaultACLAccess", Json::Object(defaults)),
            ("clients", Json::List(clients.collect())),
            ("groups", Json::List(groups.collect())),
        ];
        root.extend(
            self.anonymous_group.as_ref().map(|name| ("anonymousGroup", Json::from(&**name))),
        );
        root.push(("roles", Json::List(roles.collect())));
        Json::Object(root).pretty()
    }

    /// How many clients there are.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// How many roles there are.
    pub fn roles(&self) -> usize {
        self.roles.len()
    }

    /// The users as shards look at them.
    pub fn users(&self) -> Users {
        let hashes = self.clients.iter().filter_map(|(name, client)| {
            Some((name.as_ref().to_owned(), (**client.password.as_ref()?).clone()))
        });
        let passwords = Passwords::of_hashes(hashes);
        Users { passwords: Arc::new(passwords), acl: Arc::new(self.acl()) }
    }

    fn acl(&self) -> Acl {
        let numbers = self.roles.keys().zip(0u16..);
        let places: BTreeMap<&str, u16> = numbers.map(|(name, place)| (&**name, place)).collect();
        let order = |own: &Ranking, groups: &Ranking| {
            let groups = groups.names().filter_map(|name| self.groups.get(name));
            let of_groups = groups.flat_map(|group| group.roles.names());
            own.names().chain(of_groups).filter_map(|name| places.get(name).copied()).collect()
        };
        let users = self.clients.iter().map(|(name, client)| {
            let roles = order(&client.roles, &client.groups);
            let (client_id, is_disabled) = (client.client_id.clone(), client.is_disabled);
            (name.clone(), RoleUser { roles, client_id, is_disabled })
        });
        let users = users.collect();
        let mut anonymous = Ranking::default();
        if let Some(name) = &self.anonymous_group {
            anonymous.add(name, PRIORITY_DEFAULT);
        }
        let roles = self.roles.values().map(|role| Arc::clone(&role.rules)).collect();
        Acl::by_roles(self.defaults, roles, users, order(&Ranking::default(), &anonymous))
    }
}

impl Texts {
    /// The beginning of an object: its name, and what people call it.
    pub(super) fn under(&self, key: &'static str, name: &str) -> Object {
        let mut object = vec![(key, Json::from(name))];
        self.push(&mut object);
        object
    }

    fn push(&self, object: &mut Object) {
        let text = |text: &Option<Box<str>>| text.as_deref().map(Json::from);
        object.extend(text(&self.name).map(|text| ("textname", text)));
        object.extend(text(&self.description).map(|text| ("textdescription", text)));
    }
}

impl Client {
    pub(super) fn head(&self, name: &str) -> Object {
        let mut object = vec![("username", Json::from(name))];
        object.extend(self.client_id.as_deref().map(|text| ("clientid", Json::from(text))));
        self.texts.push(&mut object);
        if self.is_disabled {
            object.push(("disabled", Json::Flag(true)));
        }
        object
    }
}

impl Role {
    pub(super) fn json(&self, name: &str) -> Json {
        let mut object = self.texts.under("rolename", name);
        object.extend(self.allow_wildcard_subs.map(|it| ("allowwildcardsubs", Json::Flag(it))));
        let rules = AclType::ALL.into_iter().flat_map(|kind| {
            self.rules.of(kind).iter().map(move |rule| {
                Json::Object(vec![
                    ("acltype", Json::from(kind.name())),
                    ("topic", Json::from(&*rule.topic)),
                    ("priority", Json::Number(rule.priority.into())),
                    ("allow", Json::Flag(rule.allow)),
                ])
            })
        });
        object.push(("acls", Json::List(rules.collect())));
        Json::Object(object)
    }
}

/// The members of an object that may have these keys only.
fn members<'a>(
    value: &'a Value,
    place: &str,
    known: &[&str],
) -> Result<Members<'a>, DocumentError> {
    let members = Members::of(value).ok_or_else(|| wrong(place, "it is no object"))?;
    match members.stranger(known) {
        Some(key) => Err(wrong(place, format!("the key {key:?} is not known"))),
        None => Ok(members),
    }
}

/// What a message calls an object.
fn place_of(value: &Value, what: &str, key: &str) -> String {
    let name = Members::of(value).and_then(|members| members.text(key).ok());
    name.map_or_else(|| format!("a {what}"), |name| format!("{what} {name:?}"))
}

fn list<'a>(of: Members<'a>, key: &str, place: &str) -> Result<&'a [Value], DocumentError> {
    match (of.get(key), of.list(key)) {
        (None, _) => Ok(&[]),
        (_, Some(list)) => Ok(list),
        (Some(_), None) => Err(wrong(place, format!("{key} is no list"))),
    }
}

fn insert<T>(
    into: &mut BTreeMap<Box<str>, T>,
    name: Box<str>,
    value: T,
    what: &str,
) -> Result<(), DocumentError> {
    let place = format!("{what} {name:?}");
    match into.insert(name, value) {
        None => Ok(()),
        Some(_) => Err(wrong(place, "it is there twice")),
    }
}

fn text_of(of: Members<'_>, key: &str, place: &str) -> Result<Option<Box<str>>, DocumentError> {
    let text = of.text_if_any(key).map_err(|_| wrong(place, format!("{key} is no text")))?;
    Ok(text.map(Box::from))
}

fn texts_of(of: Members<'_>, place: &str) -> Result<Texts, DocumentError> {
    let (name, description) =
        (text_of(of, "textname", place)?, text_of(of, "textdescription", place)?);
    Ok(Texts { name, description })
}

fn parse_ranked<'a>(
    value: &'a Value,
    key: &str,
    place: &str,
) -> Result<(&'a str, i32), DocumentError> {
    let entry = members(value, place, &[key, "priority"])?;
    let name = entry.text(key).map_err(|_| wrong(place, format!("an entry has no {key}")))?;
    Ok((name, entry.number("priority", PRIORITY_DEFAULT)))
}

fn parse_defaults(value: &Value) -> Result<Defaults, DocumentError> {
    let place = "defaultACLAccess";
    let defaults = members(value, place, DEFAULTS)?;
    let flag = |key| match defaults.get(key) {
        None => Ok(false),
        Some(value) => value.as_bool().ok_or_else(|| wrong(place, format!("{key} is no boolean"))),
    };
    Ok(Defaults {
        send: flag("publishClientSend")?,
        receive: flag("publishClientReceive")?,
        subscribe: flag("subscribe")?,
        unsubscribe: flag("unsubscribe")?,
    })
}

fn parse_password(
    client: Members<'_>,
    place: &str,
) -> Result<Option<Arc<PasswordHash>>, DocumentError> {
    let text = |key| text_of(client, key, place);
    let (password, salt) = (text("password")?, text("salt")?);
    let (password, salt) = match (password, salt) {
        (Some(password), Some(salt)) => (password, salt),
        (None, None) => return Ok(None),
        _ => return Err(wrong(place, "it has a password without a salt, or a salt without one")),
    };
    let iterations = client.number("iterations", 0);
    let parsed = PasswordHash::parse(&format!("$7${iterations}${salt}${password}"));
    parsed.map(|hash| Some(Arc::new(hash))).map_err(|problem| wrong(place, problem.to_string()))
}

fn parse_role(value: &Value) -> Result<(Box<str>, Role), DocumentError> {
    let place = place_of(value, "role", "rolename");
    let role = members(value, &place, ROLE)?;
    let name = role.text("rolename").map_err(|_| wrong("a role", "it has no rolename"))?;
    let mut rules = RoleRules::default();
    for value in list(role, "acls", &place)? {
        let acl = members(value, &place, ACL)?;
        let text = |key| acl.text(key).map_err(|_| wrong(&*place, format!("an ACL has no {key}")));
        let (kind, topic) = (text("acltype")?, text("topic")?);
        let kind = AclType::from_name(kind)
            .ok_or_else(|| wrong(&*place, format!("the acltype {kind:?} is not known")))?;
        if is_too_deep(topic) {
            return Err(wrong(place, format!("the topic {topic:?} has too many levels")));
        }
        rules.add(kind, rule_of(acl, topic));
    }
    let allow_wildcard_subs = role.get("allowwildcardsubs").and_then(Value::as_bool);
    let texts = texts_of(role, &place)?;
    Ok((name.into(), Role { texts, allow_wildcard_subs, rules: Arc::new(rules) }))
}

/// A rule about this topic, with its priority and what it says.
pub(super) fn rule_of(acl: Members<'_>, topic: &str) -> RoleRule {
    let (priority, allow) = (acl.number("priority", 0), acl.flag("allow", false));
    RoleRule { topic: topic.into(), priority, allow }
}

const ROOT: &[&str] = &["defaultACLAccess", "clients", "groups", "roles", "anonymousGroup"];
const DEFAULTS: &[&str] =
    &["publishClientSend", "publishClientReceive", "subscribe", "unsubscribe"];
const CLIENT: &[&str] = &[
    "username",
    "clientid",
    "textname",
    "textdescription",
    "disabled",
    "roles",
    "groups",
    "password",
    "salt",
    "iterations",
];
const GROUP: &[&str] = &["groupname", "textname", "textdescription", "roles", "clients"];
const ROLE: &[&str] = &["rolename", "textname", "textdescription", "allowwildcardsubs", "acls"];
const ACL: &[&str] = &["acltype", "topic", "priority", "allow"];
