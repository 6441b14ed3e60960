//! What all routes of the API share: JSON in and out, pages, and who asks.

use std::{fmt, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::{
        FromRequestParts, Path, Query,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time;

use super::{
    problem::Problem,
    sockets::{Peer, Way},
    tokens::{Bearer, Role},
};

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

/// The body of a request, which is JSON.
pub(super) async fn body<T: DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let too_large = "the body is larger than 1 MiB, or did not come as a whole";
    let too_slow = "the body did not come within 5 seconds";
    let bytes = time::timeout(BODY_TIME_MAX, to_bytes(body, BODY_BYTES_MAX)).await;
    let bytes = bytes.map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, too_slow))?;
    let bytes = bytes.map_err(|_| Problem::new(StatusCode::PAYLOAD_TOO_LARGE, too_large))?;
    let wrong = |error| Problem::bad_request(format!("the body is wrong: {error}"));
    serde_json::from_slice(&bytes).map_err(wrong)
}

/// How many entries a page has.
pub(super) fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    let limit = asked.unwrap_or(LIMIT_DEFAULT);
    let wrong = || Problem::bad_request(format!("`limit` is a number from 1 to {LIMIT_MAX}"));
    (1..=LIMIT_MAX).contains(&limit).then_some(limit).ok_or_else(wrong)
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Actor {
    bearer: Option<Bearer>,
    peer: Option<Peer>,
}

impl Actor {
    /// The role of the token that was shown.
    pub(super) fn role(self) -> Option<Role> {
        self.bearer.map(|bearer| bearer.role)
    }

    /// Whether a change is allowed.
    pub(super) fn may_change(self) -> bool {
        let owns = self.peer.is_some_and(|peer| peer.way == Way::Owner);
        self.role().map_or(owns, |role| role == Role::Admin)
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Bearer { line, .. }) = self.bearer {
            write!(f, "the token in line {line} from ")?;
        }
        self.peer.map_or(Ok(()), |peer| peer.fmt(f))
    }
}

impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Actor, Problem> {
        let bearer = parts.extensions.get::<Option<Bearer>>().copied().flatten();
        Ok(Actor { bearer, peer: parts.extensions.get::<Peer>().copied() })
    }
}

const BODY_BYTES_MAX: usize = 1 << 20;
const BODY_TIME_MAX: Duration = Duration::from_secs(5);
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;
