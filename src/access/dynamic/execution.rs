//! What comes of the commands in one message.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    commands::{self, Done, Work},
    document::Document,
    json::{Json, Members},
};
use crate::access::Salt;

/// Whom a change concerns, so that they are disconnected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kicks {
    pub users: BTreeSet<Box<str>>,
    /// All clients without a user.
    pub anonymous: bool,
}

impl Kicks {
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && !self.anonymous
    }
}

/// The outcome of the commands in one message.
#[derive(Debug, Default)]
pub struct Execution {
    responses: Vec<Response>,
    pub kicks: Kicks,
}

#[derive(Debug)]
struct Response {
    command: String,
    outcome: Result<Done, &'static str>,
    correlation: Option<String>,
}

impl Response {
    fn error(command: &str, error: &'static str) -> Response {
        Response { command: command.to_owned(), outcome: Err(error), correlation: None }
    }

    /// Why nothing was done. `is_kept`: what has changed was written down.
    fn fault(&self, is_kept: bool) -> Option<&'static str> {
        match &self.outcome {
            Ok(Done::Changed) if !is_kept => Some(NOT_KEPT),
            Ok(_) => None,
            Err(error) => Some(error),
        }
    }

    fn json(&self, is_kept: bool) -> Json {
        let mut object = vec![("command", Json::from(&*self.command))];
        if let Ok(Done::Said(data)) = &self.outcome {
            object.push(("data", data.clone()));
        }
        object.extend(self.fault(is_kept).map(|error| ("error", Json::from(error))));
        let correlation = self.correlation.as_deref();
        object.extend(correlation.map(|text| ("correlationData", Json::from(text))));
        Json::Object(object)
    }
}

impl Execution {
    /// Whether anything has changed.
    pub fn has_changed(&self) -> bool {
        self.responses.iter().any(|it| matches!(it.outcome, Ok(Done::Changed)))
    }

    /// The commands with their errors, for the log. `is_kept` is as for the answer.
    pub fn commands(&self, is_kept: bool) -> impl Iterator<Item = (&str, Option<&'static str>)> {
        self.responses.iter().map(move |it| (&*it.command, it.fault(is_kept)))
    }

    /// The payload of the answer. `is_kept`: what has changed was written down. If not, nothing
    /// has changed.
    pub fn answer(&self, is_kept: bool) -> String {
        let responses = self.responses.iter().map(|response| response.json(is_kept)).collect();
        Json::Object(vec![("responses", Json::List(responses))]).compact()
    }
}

impl Document {
    /// Does what a message says, command by command. `salt` gives unpredictable bytes.
    pub fn execute(&mut self, payload: &[u8], salt: &mut dyn FnMut() -> Salt) -> Execution {
        let refused = |error| Execution {
            responses: vec![Response::error(UNKNOWN, error)],
            kicks: Kicks::default(),
        };
        let Ok(value) = serde_json::from_slice::<Value>(payload) else {
            return refused("Payload not valid JSON");
        };
        let Some(commands) = Members::of(&value).and_then(|it| it.list("commands")) else {
            return refused("Invalid/missing commands");
        };
        if commands.len() > COMMANDS_MAX {
            return refused("Too many commands");
        }
        let mut execution = Execution::default();
        let mut work = Work { document: self, kicks: Kicks::default(), salt };
        let mut bytes = 0;
        for command in commands {
            let (response, goes_on) = respond(command, &mut work, bytes > ANSWER_BYTES_MAX);
            bytes += response.json(true).compact().len();
            execution.responses.push(response);
            if !goes_on {
                break;
            }
        }
        execution.kicks = work.kicks;
        execution
    }
}

/// The response to one command, and whether the next one is looked at.
fn respond(command: &Value, work: &mut Work<'_>, is_full: bool) -> (Response, bool) {
    let Some(members) = Members::of(command) else {
        return (Response::error(UNKNOWN, "Command not an object"), true);
    };
    let Ok(name) = members.text("command") else {
        return (Response::error(UNKNOWN, "Missing command"), true);
    };
    let Ok(correlation) = members.text_if_any("correlationData") else {
        return (Response::error(name, "Invalid correlationData data type."), false);
    };
    let correlation = correlation.map(str::to_owned);
    let found = commands::find(name);
    let command = found.map_or(name, |(name, _)| name).to_owned();
    let outcome = match found {
        None => Err("Unknown command"),
        Some(_) if is_full => Err("Response too large"),
        Some((_, run)) => run(work, members),
    };
    (Response { command, outcome, correlation }, true)
}

const UNKNOWN: &str = "Unknown command";
const NOT_KEPT: &str = "Internal error: the file cannot be written";
/// Commands in one message.
const COMMANDS_MAX: usize = 1000;
/// When an answer is larger, no more commands are done.
const ANSWER_BYTES_MAX: usize = 16 << 20;
