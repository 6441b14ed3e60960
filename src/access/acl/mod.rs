//! Rights by topic: mosquitto's `acl_file`, compiled, and the rules that a client brings along.
//!
//! A file is compiled once, for each user that it names. What depends on the Client Identifier is
//! compiled when a client connects. Knows neither packets nor sessions.
//!
//! The order of judgement is mosquitto's. A denial of the user comes first, then a grant of the
//! user, then a denial by a pattern, then a grant by a pattern. What no rule grants is denied.

mod claim;
mod coverage;
mod parse;
mod rights;
mod roles;
#[cfg(test)]
mod tests;
mod tree;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

pub use self::claim::{ClaimProblem, ClaimedRules};
pub use self::parse::{AclFileError, AclProblem};
pub use self::rights::{Permits, Rights};
pub(in crate::access) use self::roles::is_too_deep;
pub use self::roles::{AclType, Defaults, RoleRule, RoleRules, RoleUser};
pub use self::tree::Ways;
use self::{
    parse::{Rule, Rules},
    roles::RoleAcl,
    tree::{Marks, Tree, TreeBuilder},
};

/// The rights of all clients, as one file gives them.
#[derive(Debug)]
pub struct Acl {
    number: u64,
    source: Source,
}

/// What the rights come from.
#[derive(Debug)]
enum Source {
    File(Box<FileAcl>),
    Roles(Box<RoleAcl>),
}

/// The rights of mosquitto's `acl_file`.
#[derive(Debug)]
struct FileAcl {
    number: u64,
    rules: Rules,
    /// What is the same for all clients of a user, for anonymous clients, and for users that the
    /// file does not name. The last is missing if it depends on the User Name.
    users: BTreeMap<Box<str>, Arc<Rights>>,
    anonymous: Arc<Rights>,
    unnamed: Option<Arc<Rights>>,
}

impl Acl {
    pub fn read(path: &Path) -> Result<Acl, AclFileError> {
        Acl::parse(&fs::read(path)?)
    }

    /// Parses the text of a file. A byte order mark at the beginning is ignored.
    pub fn parse(text: &[u8]) -> Result<Acl, AclFileError> {
        let number = next_number();
        let file = FileAcl::new(Rules::parse(text)?, number);
        Ok(Acl { number, source: Source::File(Box::new(file)) })
    }

    /// Rights by roles. A user names its roles by their places; `anonymous` are the roles of
    /// anonymous clients.
    pub fn by_roles(
        defaults: Defaults,
        roles: Vec<Arc<RoleRules>>,
        users: BTreeMap<Box<str>, RoleUser>,
        anonymous: Box<[u16]>,
    ) -> Acl {
        let number = next_number();
        let acl = RoleAcl::new(defaults, roles, users, anonymous, number);
        Acl { number, source: Source::Roles(Box::new(acl)) }
    }

    /// A number that no other file that was read has.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many rules the file has.
    pub fn len(&self) -> usize {
        match &self.source {
            Source::File(file) => file.len(),
            Source::Roles(roles) => roles.len(),
        }
    }

    /// Whether it has none, so that nobody may do anything but by the defaults.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether both files give the same rights to everyone.
    pub fn is_same_as(&self, other: &Acl) -> bool {
        match (&self.source, &other.source) {
            (Source::File(file), Source::File(other)) => file.rules == other.rules,
            (Source::Roles(roles), Source::Roles(other)) => roles.is_same_as(other),
            _ => false,
        }
    }

    /// The patterns without `%c` and `%u`: they are rules for everyone, which may be a mistake.
    pub fn general_patterns(&self) -> impl Iterator<Item = &str> {
        let patterns = match &self.source {
            Source::File(file) => &file.rules.patterns[..],
            Source::Roles(_) => &[],
        };
        let general = patterns.iter().filter(|rule| !rule.names_user() && !rule.names_client());
        general.map(Rule::filter)
    }

    /// Whether a user that has proven who it is may come with this Client Identifier.
    pub fn admits(&self, user_name: Option<&str>, client_id: &str) -> bool {
        match (&self.source, user_name) {
            (Source::Roles(roles), Some(user_name)) => roles.admits(user_name, client_id),
            _ => true,
        }
    }

    /// The rights of a client. `user_name` is `None` for an anonymous one.
    ///
    /// Clients with the same rights share them, unless patterns name the client.
    pub fn rights_of(&self, user_name: Option<&str>, client_id: &str) -> Arc<Rights> {
        match &self.source {
            Source::File(file) => file.rights_of(user_name, client_id),
            Source::Roles(roles) => roles.rights_of(user_name),
        }
    }

    /// The same, not shared with anyone. Of rights by roles, what the rules about messages grant:
    /// the defaults are not for a client with rules of its own.
    fn rights_apart(&self, user_name: Option<&str>, client_id: &str) -> Rights {
        match &self.source {
            Source::File(file) => {
                let rights = file.rights_of(user_name, client_id);
                Arc::try_unwrap(rights).unwrap_or_else(|shared| shared.again())
            }
            Source::Roles(roles) => Rights::new(self.number, roles.common(user_name), None),
        }
    }
}

impl FileAcl {
    fn new(rules: Rules, number: u64) -> FileAcl {
        let users = rules.users.keys().map(|user| {
            let rights = Rights::new(number, rules.compile(Some(user)), None);
            (user.clone(), Arc::new(rights))
        });
        let users = users.collect();
        let anonymous = Arc::new(Rights::new(number, rules.compile(None), None));
        let names_users = rules.patterns.iter().any(Rule::names_user);
        let unnamed = (!names_users).then(|| {
            let common = rules.compile_with(&[], None, "");
            Arc::new(Rights::new(number, common, None))
        });
        FileAcl { number, rules, users, anonymous, unnamed }
    }

    fn len(&self) -> usize {
        let Rules { anonymous, users, patterns } = &self.rules;
        anonymous.len() + patterns.len() + users.values().map(Vec::len).sum::<usize>()
    }

    fn rights_of(&self, user_name: Option<&str>, client_id: &str) -> Arc<Rights> {
        let common = self.common(user_name, client_id);
        let patterns = &self.rules.patterns;
        let names_client = patterns.iter().any(Rule::names_client);
        if !names_client || is_dangerous(client_id) || user_name.is_some_and(is_dangerous) {
            return common;
        }
        let mut tree = TreeBuilder::default();
        for rule in patterns.iter().filter(|rule| rule.names_client()) {
            rule.add_for(user_name, client_id, &mut tree);
        }
        Arc::new(Rights::new(self.number, common.common(), Some(tree.build())))
    }

    /// The rights that do not depend on the Client Identifier.
    fn common(&self, user_name: Option<&str>, client_id: &str) -> Arc<Rights> {
        if is_dangerous(client_id) {
            let tree = self.rules.compile_with(self.rules.of(user_name), None, client_id);
            return Arc::new(Rights::new(self.number, tree, None));
        }
        let known = match user_name {
            None => Some(&self.anonymous),
            Some(name) => self
                .users
                .get(name)
                .or_else(|| self.unnamed.as_ref().filter(|_| !is_dangerous(name))),
        };
        let compile = || Arc::new(Rights::new(self.number, self.rules.compile(user_name), None));
        known.map_or_else(compile, Arc::clone)
    }
}

impl Rules {
    /// The rules of a user and the patterns that do not name a client.
    fn compile(&self, user_name: Option<&str>) -> Arc<Tree> {
        self.compile_with(self.of(user_name), user_name, "")
    }

    fn compile_with(&self, own: &[Rule], user_name: Option<&str>, client_id: &str) -> Arc<Tree> {
        let mut tree = TreeBuilder::default();
        for rule in own {
            tree.add(rule.filter(), Marks::own(rule.access));
        }
        if !is_dangerous(client_id) && !user_name.is_some_and(is_dangerous) {
            for rule in self.patterns.iter().filter(|rule| !rule.names_client()) {
                rule.add_for(user_name, "", &mut tree);
            }
        }
        Arc::new(tree.build())
    }
}

impl Rule {
    /// Adds a pattern as it is for one client.
    fn add_for(&self, user_name: Option<&str>, client_id: &str, tree: &mut TreeBuilder) {
        let Some(filter) = self.filter_for(user_name, client_id) else { return };
        // A client does not gain the broker's own topics by its name.
        if !filter.starts_with('$') || self.filter().starts_with('$') {
            tree.add(&filter, Marks::pattern(self.access));
        }
    }
}

/// Whether a name could reach beyond its own place in the topics. Patterns give it nothing.
fn is_dangerous(name: &str) -> bool {
    name.contains(['+', '#', '/'])
}

/// Relaxed: the numbers guard no other memory.
fn next_number() -> u64 {
    static LATEST: AtomicU64 = AtomicU64::new(0);
    LATEST.fetch_add(1, Ordering::Relaxed) + 1
}
