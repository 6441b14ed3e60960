//! What the one who asks may do, so that a page need not offer more.

use serde::Serialize;

use super::{
    api::{Actor, Answered, json},
    tokens::Role,
};

#[derive(Debug, Serialize)]
struct Access {
    /// That of the token; `null` if none was shown.
    role: Option<&'static str>,
    may_change: bool,
}

pub(super) async fn get(actor: Actor) -> Answered {
    let role = actor.role().map(|role| match role {
        Role::Reader => "reader",
        Role::Admin => "admin",
    });
    json(&Access { role, may_change: actor.may_change() })
}
