//! Rights by roles, as mosquitto's dynamic security has them: the first rule that matches decides.
//!
//! A user has roles in an order, and each role has rules in an order. What no rule matches is as
//! the defaults say. Topics under `$CONTROL` are never left to the defaults.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use super::{
    Rights,
    parse::LEVELS_MAX,
    tree::{Marks, RULES_MAX, Tree, TreeBuilder, Ways},
};
use crate::topic::TopicFilter;

/// What a rule of a role is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclType {
    PublishClientSend,
    PublishClientReceive,
    SubscribeLiteral,
    SubscribePattern,
    UnsubscribeLiteral,
    UnsubscribePattern,
}

impl AclType {
    pub const ALL: [AclType; 6] = [
        AclType::PublishClientSend,
        AclType::PublishClientReceive,
        AclType::SubscribeLiteral,
        AclType::SubscribePattern,
        AclType::UnsubscribeLiteral,
        AclType::UnsubscribePattern,
    ];

    pub fn name(self) -> &'static str {
        match self {
            AclType::PublishClientSend => "publishClientSend",
            AclType::PublishClientReceive => "publishClientReceive",
            AclType::SubscribeLiteral => "subscribeLiteral",
            AclType::SubscribePattern => "subscribePattern",
            AclType::UnsubscribeLiteral => "unsubscribeLiteral",
            AclType::UnsubscribePattern => "unsubscribePattern",
        }
    }

    /// Upper and lower case are the same.
    pub fn from_name(name: &str) -> Option<AclType> {
        AclType::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name))
    }
}

/// One rule of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleRule {
    /// Meant as a Topic Filter. What is none matches nothing.
    pub topic: Box<str>,
    pub priority: i32,
    pub allow: bool,
}

/// The rules of one role, by what they are about, each list in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleRules([Vec<RoleRule>; AclType::ALL.len()]);

impl RoleRules {
    pub fn of(&self, kind: AclType) -> &[RoleRule] {
        &self.0[kind as usize]
    }

    /// Adds a rule behind those of the same priority.
    pub fn add(&mut self, kind: AclType, rule: RoleRule) {
        let rules = &mut self.0[kind as usize];
        let place = rules.iter().position(|other| other.priority < rule.priority);
        rules.insert(place.unwrap_or(rules.len()), rule);
    }

    /// Removes the first rule with this topic. False: there is none.
    pub fn remove(&mut self, kind: AclType, topic: &str) -> bool {
        let rules = &mut self.0[kind as usize];
        let place = rules.iter().position(|rule| *rule.topic == *topic);
        place.map(|place| rules.remove(place)).is_some()
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the role says about a subscription; `None` if nothing.
    fn judge(&self, filter: &str, literal: AclType, pattern: AclType) -> Option<bool> {
        let same = self.of(literal).iter().find(|rule| *rule.topic == *filter);
        let mut patterns = self.of(pattern).iter();
        let rule = same.or_else(|| patterns.find(|rule| covers(&rule.topic, filter)));
        rule.map(|rule| rule.allow)
    }
}

/// Whether all that matches `filter` matches `pattern`. As in mosquitto, `#` also covers filters
/// that begin with `$`: what may be read is asked for each message.
fn covers(pattern: &str, filter: &str) -> bool {
    let (mut wanted, mut levels) = (pattern.split('/'), filter.split('/'));
    loop {
        match (wanted.next(), levels.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(text), Some(level)) if text == level => {}
            _ => return false,
        }
    }
}

/// What holds where no rule matches.
#[expect(clippy::struct_excessive_bools, reason = "they are four independent answers")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    pub send: bool,
    pub receive: bool,
    pub subscribe: bool,
    pub unsubscribe: bool,
}

impl Defaults {
    fn ways(self) -> Ways {
        let ways = |grants, ways| if grants { ways } else { Ways::NONE };
        ways(self.send, Ways::WRITE).and(ways(self.receive, Ways::READ))
    }
}

/// What a client may subscribe to, and which subscriptions it may end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FilterRules {
    roles: Vec<Arc<RoleRules>>,
    defaults: Defaults,
}

impl FilterRules {
    pub(super) fn may_subscribe(&self, filter: &str) -> bool {
        let kinds = (AclType::SubscribeLiteral, AclType::SubscribePattern);
        self.judge(filter, kinds, self.defaults.subscribe)
    }

    pub(super) fn may_unsubscribe(&self, filter: &str) -> bool {
        let kinds = (AclType::UnsubscribeLiteral, AclType::UnsubscribePattern);
        self.judge(filter, kinds, self.defaults.unsubscribe)
    }

    fn judge(&self, filter: &str, (literal, pattern): (AclType, AclType), default: bool) -> bool {
        let first = self.roles.iter().find_map(|role| role.judge(filter, literal, pattern));
        first.unwrap_or_else(|| default && !filter.starts_with(CONTROL))
    }
}

/// What topics begin with that are never left to the defaults.
pub(super) const CONTROL: &str = "$CONTROL";

/// A user of a [`RoleAcl`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleUser {
    /// Its roles in their order, by their places among all roles.
    pub roles: Box<[u16]>,
    /// The only Client Identifier that it may have.
    pub client_id: Option<Box<str>>,
    /// It is not let in.
    pub is_disabled: bool,
}

/// The rights of all users by their roles.
#[derive(Debug)]
pub(super) struct RoleAcl {
    defaults: Defaults,
    roles: Vec<Arc<RoleRules>>,
    users: BTreeMap<Box<str>, RoleUser>,
    /// Roles in an order that some user has, or anonymous clients have, with their rights once a
    /// client has needed them.
    orders: BTreeMap<Box<[u16]>, OnceLock<Arc<Rights>>>,
    anonymous: Box<[u16]>,
    /// The rights of a user that is not known.
    nothing: Arc<Rights>,
    number: u64,
}

impl RoleAcl {
    /// `anonymous` are the roles of anonymous clients.
    pub(super) fn new(
        defaults: Defaults,
        roles: Vec<Arc<RoleRules>>,
        users: BTreeMap<Box<str>, RoleUser>,
        anonymous: Box<[u16]>,
        number: u64,
    ) -> RoleAcl {
        let all = users.values().map(|user| user.roles.clone()).chain([anonymous.clone()]);
        let orders = all.map(|roles| (roles, OnceLock::new())).collect();
        let nothing = Arc::new(nothing(number));
        RoleAcl { defaults, roles, users, orders, anonymous, nothing, number }
    }

    pub(super) fn len(&self) -> usize {
        self.roles.iter().map(|role| role.len()).sum()
    }

    pub(super) fn is_same_as(&self, other: &RoleAcl) -> bool {
        self.defaults == other.defaults
            && self.roles == other.roles
            && self.users == other.users
            && self.anonymous == other.anonymous
    }

    /// Whether a user is let in with this Client Identifier. One that is not known has proven who
    /// it is in another way.
    pub(super) fn admits(&self, user_name: &str, client_id: &str) -> bool {
        let user = self.users.get(user_name);
        user.is_none_or(|user| {
            !user.is_disabled && user.client_id.as_deref().is_none_or(|bound| bound == client_id)
        })
    }

    /// Clients whose roles are the same share their rights.
    pub(super) fn rights_of(&self, user_name: Option<&str>) -> Arc<Rights> {
        let roles = match user_name {
            None => &self.anonymous,
            Some(name) => match self.users.get(name) {
                Some(user) if !user.is_disabled => &user.roles,
                Some(_) | None => return Arc::clone(&self.nothing),
            },
        };
        let rights = self.orders.get(roles).expect("the roles of each user are there");
        Arc::clone(rights.get_or_init(|| Arc::new(self.compile(roles))))
    }

    /// The same for a client with rules of its own: the defaults do not hold for it.
    pub(super) fn common(&self, user_name: Option<&str>) -> Arc<Tree> {
        self.rights_of(user_name).common()
    }

    fn compile(&self, roles: &[u16]) -> Rights {
        let roles: Vec<_> =
            roles.iter().map(|&place| Arc::clone(&self.roles[usize::from(place)])).collect();
        let Some(tree) = tree_of(&roles) else { return nothing(self.number) };
        let fallback = self.defaults.ways();
        let filters = FilterRules { roles, defaults: self.defaults };
        Rights::by_roles(self.number, Arc::new(tree), fallback, Arc::new(filters))
    }
}

/// The rules about messages; `None` if there are too many, or one is too deep.
fn tree_of(roles: &[Arc<RoleRules>]) -> Option<Tree> {
    let (mut tree, mut number) = (TreeBuilder::default(), 0);
    let kinds =
        [(AclType::PublishClientSend, Ways::WRITE), (AclType::PublishClientReceive, Ways::READ)];
    for role in roles {
        for (kind, ways) in kinds {
            for rule in role.of(kind).iter().filter(|rule| TopicFilter::parse(&rule.topic).is_ok())
            {
                if number == RULES_MAX || is_too_deep(&rule.topic) {
                    return None;
                }
                tree.add(&rule.topic, Marks::nth(number, ways, rule.allow));
                number += 1;
            }
        }
    }
    Some(tree.build())
}

/// Whether a topic has more levels than a rule may have.
pub(in crate::access) fn is_too_deep(topic: &str) -> bool {
    topic.split('/').count() > LEVELS_MAX
}

/// Rights that grant nothing at all.
fn nothing(number: u64) -> Rights {
    let filters = FilterRules { roles: Vec::new(), defaults: Defaults::default() };
    Rights::by_roles(number, Arc::default(), Ways::NONE, Arc::new(filters))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{access::Acl, access::topics::Subscribable, topic::TopicName};

    fn role(rules: &[(AclType, &str, i32, bool)]) -> Arc<RoleRules> {
        let mut role = RoleRules::default();
        for &(kind, topic, priority, allow) in rules {
            role.add(kind, RoleRule { topic: topic.into(), priority, allow });
        }
        Arc::new(role)
    }

    fn rights(defaults: Defaults, roles: Vec<Arc<RoleRules>>) -> Arc<Rights> {
        let order = (0..u16::try_from(roles.len()).unwrap()).collect();
        let user = RoleUser { roles: order, client_id: None, is_disabled: false };
        let users = BTreeMap::from([(Box::from("ada"), user)]);
        Acl::by_roles(defaults, roles, users, Box::default()).rights_of(Some("ada"), "one")
    }

    fn may(rights: &Rights, way: Ways, topic: &str) -> bool {
        rights.permits(TopicName::parse(topic).unwrap()).any(way)
    }

    const RECEIVE: AclType = AclType::PublishClientReceive;
    const SEND: AclType = AclType::PublishClientSend;

    #[test]
    fn the_first_rule_by_role_and_priority_decides() {
        let first = role(&[(SEND, "a/#", 0, false), (SEND, "a/b", 5, true)]);
        let second = role(&[(SEND, "#", 9, true), (RECEIVE, "a/b", 0, false)]);
        let rights = rights(Defaults { receive: true, ..Defaults::default() }, vec![first, second]);
        for (topic, write, read) in [
            ("a/b", true, false),
            ("a/c", false, true),
            ("b", true, true),
            ("$x", false, true),
            ("$CONTROL/x", false, false),
        ] {
            assert_eq!(may(&rights, Ways::WRITE, topic), write, "{topic}");
            assert_eq!(may(&rights, Ways::READ, topic), read, "{topic}");
        }
        let coverage = |text| rights.coverage(TopicFilter::parse(text).unwrap(), 0);
        assert_eq!(coverage("a/b"), Subscribable::No);
        assert_eq!((coverage("a/#"), coverage("c/#")), (Subscribable::Partly, Subscribable::Whole));
    }

    #[test]
    fn subscriptions_have_rules_of_their_own() {
        let rules = [
            (AclType::SubscribeLiteral, "a/#", 0, true),
            (AclType::SubscribePattern, "b/+/c", 0, true),
            (AclType::SubscribePattern, "d/#", 1, false),
            (AclType::SubscribePattern, "d/e", 2, true),
            (AclType::SubscribePattern, "$CONTROL/x", 0, true),
            (AclType::UnsubscribePattern, "a/#", 0, false),
        ];
        let defaults = Defaults { subscribe: false, unsubscribe: true, ..Defaults::default() };
        let rights = rights(defaults, vec![role(&rules)]);
        for (filter, expected) in [
            ("a/#", true),
            ("a/b", false),
            ("b/1/c", true),
            ("b/+/c", true),
            ("b/#", false),
            ("d/e", true),
            ("d", false),
            ("$CONTROL/x", true),
            ("$CONTROL/y", false),
        ] {
            assert_eq!(rights.may_subscribe(filter), Some(expected), "{filter}");
        }
        for (filter, expected) in [("a", false), ("a/#", false), ("b", true), ("$CONTROL/x", false)]
        {
            assert_eq!(rights.may_unsubscribe(filter), expected, "{filter}");
        }
    }

    #[test]
    fn a_pattern_covers_what_matches_no_more_than_itself() {
        for (pattern, filter, expected) in [
            ("#", "a/+/#", true),
            ("#", "$SYS/#", true),
            ("c/#", "c", true),
            ("c/#", "c/d/#", true),
            ("c/+", "c/#", false),
            ("c/+", "c/+", true),
            ("c/+", "c", false),
            ("c/d", "c/+", false),
            ("d/+/#", "d/#", false),
            ("d/+/#", "d/1", true),
            ("+", "a/", false),
        ] {
            assert_eq!(covers(pattern, filter), expected, "{pattern} {filter}");
        }
    }

    #[test]
    fn a_user_that_is_not_known_may_do_nothing_and_too_many_rules_grant_nothing() {
        let all = Defaults { send: true, receive: true, subscribe: true, unsubscribe: true };
        let disabled = RoleUser { roles: Box::default(), client_id: None, is_disabled: true };
        let users = BTreeMap::from([("eve".into(), disabled)]);
        let acl = Acl::by_roles(all, Vec::new(), users, Box::default());
        assert!(!may(&acl.rights_of(Some("eve"), "x"), Ways::ALL, "a"), "no rights while disabled");
        let (stranger, anonymous) = (acl.rights_of(Some("bob"), "x"), acl.rights_of(None, "x"));
        assert!(!may(&stranger, Ways::ALL, "a") && stranger.may_subscribe("a") == Some(false));
        assert!(may(&anonymous, Ways::WRITE, "a") && anonymous.may_subscribe("#") == Some(true));
        let mut many = RoleRules::default();
        many.0[0] = vec![RoleRule { topic: "a".into(), priority: 0, allow: true }; RULES_MAX];
        assert!(may(&rights(all, vec![Arc::new(many.clone())]), Ways::WRITE, "a"));
        many.add(SEND, RoleRule { topic: "b".into(), priority: 0, allow: false });
        let none = rights(all, vec![Arc::new(many)]);
        assert!(!may(&none, Ways::ALL, "a") && none.may_subscribe("a") == Some(false));
    }
}
