//! mosquitto's dynamic security: clients, groups and roles in a file, which clients with the right
//! to may change by commands.
//!
//! A command turns one document into the next, and says what to answer and whom to disconnect.
//! Knows neither packets nor shards, and does not write the file.

mod commands;
mod document;
mod execution;
mod json;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use super::{Acl, Passwords};

pub use self::{
    document::{Document, DocumentError},
    execution::{Execution, Kicks},
};

/// The users of a document, as shards look at them.
#[derive(Clone, Debug)]
pub struct Users {
    pub passwords: Arc<Passwords>,
    pub acl: Arc<Acl>,
}

impl Users {
    /// The same, with the former rights if they are the same: then no client looks at its own
    /// again.
    #[must_use]
    pub fn after(self, former: &Users) -> Users {
        let is_same = self.acl.is_same_as(&former.acl);
        if is_same { Users { acl: Arc::clone(&former.acl), ..self } } else { self }
    }
}

/// Where clients publish commands to.
pub const COMMANDS_TOPIC: &str = "$CONTROL/dynamic-security/v1";
/// Where the answers come from.
pub const ANSWERS_TOPIC: &str = "$CONTROL/dynamic-security/v1/response";
/// Bytes of the commands in one message.
pub const COMMAND_BYTES_MAX: usize = 256 << 10;

/// Commands that a client has published.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    pub client_id: Box<str>,
    pub user_name: Option<Box<str>>,
    /// The home shard of the client, by its number.
    pub home: usize,
    pub payload: Box<[u8]>,
}

/// Without the commands, which may have passwords in them.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request { client_id, user_name, home, payload } = self;
        write!(f, "{} bytes of {client_id:?}, user {user_name:?}, shard {home}", payload.len())
    }
}

/// Takes commands from shards. It never waits.
pub trait Desk: fmt::Debug + Send + Sync {
    /// False: too many commands wait.
    fn submit(&self, request: Request) -> bool;
}
