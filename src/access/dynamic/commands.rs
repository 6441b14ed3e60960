//! The commands by which a document is changed and asked. What they say is what mosquitto says.
//!
//! A command is done as a whole or not at all.

mod clients;
mod groups;
mod roles;

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    document::{Document, PRIORITY_DEFAULT, RANKING_MAX, Ranking, Texts},
    execution::Kicks,
    json::{Json, Members, Missing},
};
use crate::{access::Salt, base::text};

/// What a command works with.
pub(super) struct Work<'a> {
    pub(super) document: &'a mut Document,
    pub(super) kicks: Kicks,
    /// Gives unpredictable bytes.
    pub(super) salt: &'a mut dyn FnMut() -> Salt,
}

/// What a command has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// It has changed the document.
    Changed,
    /// It has said this.
    Said(Json),
}

type Outcome = Result<Done, &'static str>;

pub(super) type Run = fn(&mut Work<'_>, Members<'_>) -> Outcome;

/// The command with this name, in any case.
pub(super) fn find(name: &str) -> Option<(&'static str, Run)> {
    COMMANDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).copied()
}

const COMMANDS: &[(&str, Run)] = &[
    ("setDefaultACLAccess", set_defaults),
    ("getDefaultACLAccess", get_defaults),
    ("createClient", clients::create),
    ("deleteClient", clients::delete),
    ("enableClient", clients::enable),
    ("disableClient", clients::disable),
    ("getClient", clients::get),
    ("listClients", clients::list),
    ("modifyClient", clients::modify),
    ("setClientId", clients::set_id),
    ("setClientPassword", clients::set_password),
    ("addClientRole", clients::add_role),
    ("removeClientRole", clients::remove_role),
    ("createGroup", groups::create),
    ("deleteGroup", groups::delete),
    ("getGroup", groups::get),
    ("listGroups", groups::list),
    ("modifyGroup", groups::modify),
    ("addGroupClient", groups::add_client),
    ("removeGroupClient", groups::remove_client),
    ("addGroupRole", groups::add_role),
    ("removeGroupRole", groups::remove_role),
    ("setAnonymousGroup", groups::set_anonymous),
    ("getAnonymousGroup", groups::get_anonymous),
    ("createRole", roles::create),
    ("deleteRole", roles::delete),
    ("getRole", roles::get),
    ("listRoles", roles::list),
    ("modifyRole", roles::modify),
    ("addRoleACL", roles::add_acl),
    ("removeRoleACL", roles::remove_acl),
];

impl Work<'_> {
    fn kick(&mut self, user: &str) {
        self.kicks.users.insert(user.into());
    }

    /// Everybody whose rights come from a group.
    fn kick_group(&mut self, name: &str) {
        let group = self.document.groups.get(name);
        self.kicks.users.extend(group.iter().flat_map(|group| group.clients.keys().cloned()));
        self.kicks.anonymous |= self.document.anonymous_group.as_deref() == Some(name);
    }

    /// Everybody whose rights come from a role.
    fn kick_role(&mut self, name: &str) {
        let clients = self.document.clients.iter().filter(|(_, client)| client.roles.has(name));
        self.kicks.users.extend(clients.map(|(user, _)| user.clone()));
        let groups = self.document.groups.iter().filter(|(_, group)| group.roles.has(name));
        let groups: Vec<Box<str>> = groups.map(|(name, _)| name.clone()).collect();
        for group in &groups {
            self.kick_group(group);
        }
    }

    /// The roles that a command lists, if it does.
    fn roles(
        &self,
        command: Members<'_>,
        wrong: &'static str,
    ) -> Result<Option<Ranking>, &'static str> {
        let Some(value) = command.get("roles") else { return Ok(None) };
        let mut roles = Ranking::default();
        for entry in value.as_array().ok_or(wrong)? {
            let entry = Members::of(entry).ok_or(wrong)?;
            let name = entry.text("rolename").map_err(|_| wrong)?;
            if !self.document.roles.contains_key(name) {
                return Err(ROLE_MISSING);
            }
            roles.add(name, entry.number("priority", PRIORITY_DEFAULT));
        }
        is_short(&roles).then_some(Some(roles)).ok_or(TOO_MANY_ROLES)
    }
}

/// A name that a command has to have.
fn name<'a>(
    command: Members<'a>,
    key: &str,
    (missing, invalid): (&'static str, &'static str),
) -> Result<&'a str, &'static str> {
    let name = command.text(key).map_err(|_| missing)?;
    if is_name(name) { Ok(name) } else { Err(invalid) }
}

fn username(command: Members<'_>) -> Result<&str, &'static str> {
    name(command, "username", ("Invalid/missing username", "Username not valid UTF-8"))
}

fn groupname(command: Members<'_>) -> Result<&str, &'static str> {
    name(command, "groupname", ("Invalid/missing groupname", "Group name not valid UTF-8"))
}

fn rolename(command: Members<'_>) -> Result<&str, &'static str> {
    name(command, "rolename", ("Invalid/missing rolename", "Role name not valid UTF-8"))
}

/// Whether MQTT could carry it.
fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX && !text::has_disallowed(name)
}

/// What people call something new.
fn texts(command: Members<'_>) -> Result<Texts, &'static str> {
    let text = |key, wrong| {
        let text: Result<_, Missing> = command.text_if_any(key);
        text.map(|text| text.map(Box::from)).map_err(|_| wrong)
    };
    Ok(Texts {
        name: text("textname", "Invalid/missing textname")?,
        description: text("textdescription", "Invalid/missing textdescription")?,
    })
}

/// Changes what people call something, as far as the command says so.
fn change_texts(texts: &mut Texts, command: Members<'_>) {
    if let Ok(name) = command.text("textname") {
        texts.name = Some(name.into());
    }
    if let Ok(description) = command.text("textdescription") {
        texts.description = Some(description.into());
    }
}

fn priority(command: Members<'_>) -> i32 {
    command.number("priority", PRIORITY_DEFAULT)
}

/// Whether there are not too many roles or groups.
fn is_short(ranking: &Ranking) -> bool {
    ranking.len() <= RANKING_MAX
}

/// A part of a list of all, as the command asks for it.
fn listing<T>(
    command: Members<'_>,
    key: &'static str,
    all: &BTreeMap<Box<str>, T>,
    whole: impl Fn(&str, &T) -> Json,
) -> Done {
    let is_verbose = command.flag("verbose", false);
    let offset = usize::try_from(command.number("offset", 0)).unwrap_or(0);
    // As in mosquitto, a negative count is all of them, and 0 is one.
    let count = usize::try_from(command.number("count", -1)).map_or(usize::MAX, |it| it.max(1));
    let some = all.iter().skip(offset).take(count);
    let total = i64::try_from(all.len()).unwrap_or(i64::MAX);
    let list =
        some.map(|(name, value)| if is_verbose { whole(name, value) } else { Json::from(&**name) });
    let list = Json::List(list.collect());
    Done::Said(Json::Object(vec![("totalCount", Json::Number(total)), (key, list)]))
}

/// The answer about one thing.
fn said(key: &'static str, what: Json) -> Done {
    Done::Said(Json::Object(vec![(key, what)]))
}

fn set_defaults(work: &mut Work<'_>, command: Members<'_>) -> Outcome {
    let actions = command.list("acls").ok_or("Missing/invalid actions array")?;
    for action in actions.iter().filter_map(Members::of) {
        let (Ok(kind), Some(allow)) =
            (action.text("acltype"), action.get("allow").and_then(Value::as_bool))
        else {
            continue;
        };
        let defaults = &mut work.document.defaults;
        let fields = [
            ("publishClientSend", &mut defaults.send),
            ("publishClientReceive", &mut defaults.receive),
            ("subscribe", &mut defaults.subscribe),
            ("unsubscribe", &mut defaults.unsubscribe),
        ];
        let field = fields.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(kind));
        if let Some((_, field)) = field {
            *field = allow;
        }
    }
    Ok(Done::Changed)
}

#[expect(clippy::unnecessary_wraps, reason = "all commands have one type")]
fn get_defaults(work: &mut Work<'_>, _: Members<'_>) -> Outcome {
    let defaults = work.document.defaults;
    let entry = |(kind, allow): (&str, bool)| {
        Json::Object(vec![("acltype", Json::from(kind)), ("allow", Json::Flag(allow))])
    };
    let all = [
        ("publishClientSend", defaults.send),
        ("publishClientReceive", defaults.receive),
        ("subscribe", defaults.subscribe),
        ("unsubscribe", defaults.unsubscribe),
    ];
    Ok(said("acls", Json::List(all.into_iter().map(entry).collect())))
}

const CLIENT_MISSING: &str = "Client not found";
const GROUP_MISSING: &str = "Group not found";
const ROLE_MISSING: &str = "Role not found";
const ROLES_WRONG: &str = "'roles' not an array or missing/invalid rolename";
/// What mosquitto says where it does not know better.
const INTERNAL: &str = "Internal error";
const TOO_MANY_ROLES: &str = "Too many roles or groups";

/// Bytes of a name: as many as a string of MQTT may have.
const NAME_BYTES_MAX: usize = u16::MAX as usize;
