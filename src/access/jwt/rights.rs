//! The claim `acl` of a token, in the two forms that EMQX reads.
//!
//! An object `{"pub": […], "sub": […], "all": […]}` lists what is allowed, and all else is
//! denied. A list of rules is asked in its order, and what none of them matches is for the ACL
//! file.

use serde_json::{Map, Value};

use super::TokenFault;
use crate::access::acl::{ClaimedRules, Ways};

/// Reads the claim. What is not understood refuses the token, because it could be a restriction.
pub(super) fn parse(claim: &Value) -> Result<ClaimedRules, TokenFault> {
    match claim {
        Value::Object(lists) => parse_lists(lists),
        Value::Array(rules) => parse_rules(rules),
        _ => Err(TokenFault::Rights),
    }
}

fn parse_lists(lists: &Map<String, Value>) -> Result<ClaimedRules, TokenFault> {
    let mut claimed = ClaimedRules::new(false);
    for (name, topics) in lists {
        let ways = match name.as_str() {
            "pub" => Ways::WRITE,
            "sub" => Ways::READ,
            "all" => Ways::ALL,
            _ => return Err(TokenFault::Rights),
        };
        add(&mut claimed, (true, ways), topics)?;
    }
    Ok(claimed)
}

fn parse_rules(rules: &[Value]) -> Result<ClaimedRules, TokenFault> {
    let mut claimed = ClaimedRules::new(true);
    for rule in rules {
        let rule = rule.as_object().ok_or(TokenFault::Rights)?;
        if rule.keys().any(|key| !KEYS.contains(&key.as_str())) {
            return Err(TokenFault::Rights);
        }
        let named = (rule.get("topic"), rule.get("topics"));
        let ((Some(topics), None) | (None, Some(topics))) = named else {
            return Err(TokenFault::Rights);
        };
        add(&mut claimed, (grants(rule)?, ways(rule)?), topics)?;
    }
    Ok(claimed)
}

/// All that a rule can say.
const KEYS: [&str; 6] = ["permission", "action", "topic", "topics", "qos", "retain"];

fn grants(rule: &Map<String, Value>) -> Result<bool, TokenFault> {
    match rule.get("permission").and_then(Value::as_str) {
        Some("allow") => Ok(true),
        Some("deny") => Ok(false),
        _ => Err(TokenFault::Rights),
    }
}

fn ways(rule: &Map<String, Value>) -> Result<Ways, TokenFault> {
    let (reads, writes) = match rule.get("action").and_then(Value::as_str) {
        Some("subscribe" | "sub") => (true, false),
        Some("publish" | "pub") => (false, true),
        Some("all") => (true, true),
        _ => return Err(TokenFault::Rights),
    };
    let (all_qos, retains) = (levels(rule.get("qos"))?, retains(rule.get("retain"))?);
    let mut ways = Ways::NONE;
    for qos in all_qos {
        if reads {
            ways = ways.and(Ways::read(qos));
        }
        for &retain in retains.iter().filter(|_| writes) {
            ways = ways.and(Ways::write(qos, retain));
        }
    }
    Ok(ways)
}

/// A QoS or a list of them; all of them if there is none.
fn levels(value: Option<&Value>) -> Result<Vec<u8>, TokenFault> {
    let level = |value: &Value| {
        let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
        number.and_then(|number| u8::try_from(number).ok()).filter(|qos| *qos <= 2)
    };
    let levels = match value {
        None => return Ok(vec![0, 1, 2]),
        Some(Value::Array(levels)) => levels.iter().map(level).collect(),
        Some(one) => level(one).map(|one| vec![one]),
    };
    levels.ok_or(TokenFault::Rights)
}

fn retains(value: Option<&Value>) -> Result<&'static [bool], TokenFault> {
    match value {
        None => Ok(&[false, true]),
        Some(Value::Bool(true)) => Ok(&[true]),
        Some(Value::Bool(false)) => Ok(&[false]),
        Some(Value::String(text)) if text == "all" => Ok(&[false, true]),
        Some(Value::Number(number)) if number.as_u64() == Some(0) => Ok(&[false]),
        Some(Value::Number(number)) if number.as_u64() == Some(1) => Ok(&[true]),
        Some(_) => Err(TokenFault::Rights),
    }
}

/// Adds a rule for one topic or for a list of them.
fn add(
    claimed: &mut ClaimedRules,
    (grants, ways): (bool, Ways),
    topics: &Value,
) -> Result<(), TokenFault> {
    let topics: Option<Vec<&str>> = match topics {
        Value::String(topic) => Some(vec![topic]),
        Value::Array(topics) => topics.iter().map(Value::as_str).collect(),
        _ => None,
    };
    let topics = topics.ok_or(TokenFault::Rights)?;
    claimed.push(grants, ways, topics).map_err(|_| TokenFault::Rights)
}
