//! What all routes of the API share: JSON in and out, pages, and who asks.

use std::fmt;

use axum::{
    extract::{
        FromRequestParts, Path, Query,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{connections::Peer, problem::Problem, tokens::Bearer};

/// The parameters behind the `?`, or why they cannot be read.
pub(super) type Asked<T> = Result<Query<T>, QueryRejection>;
/// The part of the path, or why it cannot be read.
pub(super) type Named = Result<Path<String>, PathRejection>;
pub(super) type Answered = Result<Response, Problem>;

pub(super) fn asked<T>(asked: Asked<T>) -> Result<T, Problem> {
    asked.map(|Query(asked)| asked).map_err(|fault| Problem::bad_request(fault.body_text()))
}

pub(super) fn named(named: Named) -> Result<String, Problem> {
    named.map(|Path(name)| name).map_err(|fault| Problem::bad_request(fault.body_text()))
}

/// An answer in JSON.
pub(super) fn json(value: &impl Serialize) -> Answered {
    let text = serde_json::to_string(value);
    let wrong = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer is not JSON");
    let mut response = text.map_err(wrong)?.into_response();
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// The answer to a change that was made.
pub(super) fn done() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// How many entries a page has.
pub(super) fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    let limit = asked.unwrap_or(LIMIT_DEFAULT);
    let wrong = || Problem::bad_request(format!("`limit` is a number from 1 to {LIMIT_MAX}"));
    (1..=LIMIT_MAX).contains(&limit).then_some(limit).ok_or_else(wrong)
}

/// Who asks for a change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Actor {
    bearer: Option<Bearer>,
    peer: Option<Peer>,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Bearer { line, .. }) = self.bearer {
            write!(f, "the token in line {line}")?;
        }
        match self.peer {
            Some(Peer(address)) => write!(f, " from {address}"),
            None => Ok(()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Actor, Problem> {
        let bearer = parts.extensions.get::<Option<Bearer>>().copied().flatten();
        Ok(Actor { bearer, peer: parts.extensions.get::<Peer>().copied() })
    }
}

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;
