//! Who may ask for what: the token of a request, and the names by which it has reached us.
//!
//! A web page in the browser of this machine can send requests to a loopback address, also under
//! its own name, if that name is made to lead here. So each request is looked at: its Host has to
//! be an address or one of our names, and its Origin, if it has one, has to be the same.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, PoisonError},
};

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::{
    problem::Problem,
    tokens::{Bearer, Role, Tokens},
};

/// What requests have to show.
#[derive(Debug)]
pub(super) struct Gate {
    is_loopback: bool,
    /// In lower case.
    hosts: Vec<String>,
    tokens: Lock<Option<Arc<Tokens>>>,
}

impl Gate {
    pub(super) fn new(address: SocketAddr, hosts: Vec<String>, tokens: Option<Tokens>) -> Gate {
        let tokens = Lock::new(tokens.map(Arc::new));
        Gate { is_loopback: address.ip().is_loopback(), hosts, tokens }
    }

    pub(super) fn renew(&self, tokens: Option<Tokens>) {
        *self.tokens.lock().unwrap_or_else(PoisonError::into_inner) = tokens.map(Arc::new);
    }

    /// Lets a request in, and says whose token it has shown.
    pub(super) fn admit(
        &self,
        method: &Method,
        path: &str,
        fields: &HeaderMap,
    ) -> Result<Option<Bearer>, Problem> {
        self.check_names(fields)?;
        let bearer = self.bearer(fields)?;
        let wanted = if is_look(method) { Role::Reader } else { Role::Admin };
        let is_free = is_look(method) && (self.is_loopback || FREE.contains(&path));
        match bearer {
            Some(Bearer { role, .. }) if role < wanted => Err(forbidden()),
            None if !is_free => Err(unauthorized(wanted)),
            bearer => Ok(bearer),
        }
    }

    fn bearer(&self, fields: &HeaderMap) -> Result<Option<Bearer>, Problem> {
        let Some(shown) = fields.get(header::AUTHORIZATION) else { return Ok(None) };
        let token = shown.as_bytes().split_at_checked(BEARER.len());
        let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(BEARER));
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let bearer = token.zip(tokens).and_then(|((_, token), tokens)| tokens.bearer(token));
        let wrong = "the token is not one of --http-token-file: send `Authorization: Bearer TOKEN`";
        bearer.map(Some).ok_or_else(|| Problem::new(StatusCode::UNAUTHORIZED, wrong))
    }

    fn check_names(&self, fields: &HeaderMap) -> Result<(), Problem> {
        let mut hosts = fields.get_all(header::HOST).into_iter();
        let (Some(Ok(host)), None) = (hosts.next().map(|host| host.to_str()), hosts.next()) else {
            return Err(Problem::bad_request("the request needs one Host"));
        };
        if !self.is_ours(name_of(host)) {
            let detail = "the Host is not a name of this broker: see --http-host";
            return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail));
        }
        let site = fields.get("sec-fetch-site").map(HeaderValue::as_bytes);
        let is_of_other_site = site.is_some_and(|site| site == b"cross-site");
        let origins = fields.get_all(header::ORIGIN).into_iter();
        let are_same = origins.map(|origin| origin.to_str()).all(|origin| {
            let origin = origin.ok().and_then(|origin| origin.split_once("://"));
            origin.is_some_and(|(_, at)| at.eq_ignore_ascii_case(host))
        });
        if is_of_other_site || !are_same {
            let detail = "requests of other web pages are refused: the Origin is not this Host";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        Ok(())
    }

    fn is_ours(&self, name: &str) -> bool {
        let is_given = self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name));
        let takes_all = self.hosts.is_empty() && !self.is_loopback;
        let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let is_address = bare.unwrap_or(name).parse::<IpAddr>().is_ok();
        is_given || takes_all || is_address || name.eq_ignore_ascii_case("localhost")
    }
}

/// The Host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_look(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

fn forbidden() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "this token is of a reader: a change needs one of an admin")
}

fn unauthorized(wanted: Role) -> Problem {
    let detail = match wanted {
        Role::Reader => "send `Authorization: Bearer TOKEN` with a token of --http-token-file",
        Role::Admin => {
            "a change needs `Authorization: Bearer TOKEN` with the token of an admin in \
             --http-token-file"
        }
    };
    Problem::new(StatusCode::UNAUTHORIZED, detail)
}

/// What needs no token on any address: it says nothing but yes or no.
const FREE: [&str; 2] = ["/healthz", "/readyz"];
const BEARER: &[u8] = b"Bearer ";

#[expect(clippy::disallowed_types, reason = "taken by a request or a reload, never by a shard")]
type Lock<T> = std::sync::Mutex<T>;

#[cfg(test)]
mod tests {
    use super::*;

    const ADMIN: &str = "Bearer bbbbbbbbbbbbbbbb";
    const READER: &str = "bearer aaaaaaaaaaaaaaaa";

    fn gate(address: &str, hosts: &[&str]) -> Gate {
        let hosts = hosts.iter().map(|&host| host.to_owned()).collect();
        let tokens = Tokens::of("reader aaaaaaaaaaaaaaaa\nadmin bbbbbbbbbbbbbbbb\n");
        Gate::new(address.parse().unwrap(), hosts, Some(tokens))
    }

    /// The status that a request with these fields is answered with; 200 if it is let in.
    fn status(gate: &Gate, request: &str, fields: &[(&'static str, &str)]) -> u16 {
        let (method, path) = request.split_once(' ').unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let admitted = gate.admit(&method.parse().unwrap(), path, &map);
        admitted.map_or_else(|problem| problem.status().as_u16(), |_| 200)
    }

    #[test]
    fn a_look_is_free_on_loopback_and_a_change_nowhere() {
        let here = gate("127.0.0.1:1", &[]);
        let there = gate("192.0.2.1:1", &[]);
        let with = |gate: &Gate, request: &str, token: &str| {
            let fields = [("host", "localhost:1"), ("authorization", token)];
            status(gate, request, if token.is_empty() { &fields[..1] } else { &fields })
        };
        for (request, token, on_loopback, elsewhere) in [
            ("GET /metrics", "", 200, 401),
            ("GET /healthz", "", 200, 200),
            ("POST /healthz", "", 401, 401),
            ("GET /metrics", READER, 200, 200),
            ("GET /metrics", ADMIN, 200, 200),
            ("GET /metrics", "Bearer wrong", 401, 401),
            ("GET /metrics", "Basic bbbbbbbbbbbbbbbb", 401, 401),
            ("GET /metrics", "Bearer", 401, 401),
            ("DELETE /api/v1/clients/a", "", 401, 401),
            ("DELETE /api/v1/clients/a", READER, 403, 403),
            ("DELETE /api/v1/clients/a", ADMIN, 200, 200),
        ] {
            assert_eq!(with(&here, request, token), on_loopback, "{request} {token}");
            assert_eq!(with(&there, request, token), elsewhere, "{request} {token}");
        }
        here.renew(None);
        assert_eq!(with(&here, "GET /metrics", ADMIN), 401);
    }

    #[test]
    fn other_names_and_other_pages_are_refused() {
        let (here, there) = (gate("127.0.0.1:1", &[]), gate("192.0.2.1:1", &[]));
        let named = gate("127.0.0.1:1", &["broker.example"]);
        let host = |gate: &Gate, host: &str| status(gate, "GET /healthz", &[("host", host)]);
        for (name, codes) in [
            ("127.0.0.1:9883", [200, 200, 200]),
            ("[::1]:9883", [200, 200, 200]),
            ("LocalHost", [200, 200, 200]),
            ("evil.example:9883", [421, 200, 421]),
            ("Broker.example:80", [421, 200, 200]),
            ("localhost.evil.example", [421, 200, 421]),
            ("", [421, 200, 421]),
        ] {
            let found = [&here, &there, &named].map(|gate| host(gate, name));
            assert_eq!(found, codes, "{name}");
        }
        assert_eq!(status(&here, "GET /healthz", &[]), 400);
        let twice = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(status(&here, "GET /healthz", &twice), 400);
        for (field, value, code) in [
            ("origin", "http://localhost:1", 200),
            ("origin", "http://localhost:2", 403),
            ("origin", "https://evil.example", 403),
            ("origin", "null", 403),
            ("sec-fetch-site", "cross-site", 403),
            ("sec-fetch-site", "same-origin", 200),
        ] {
            let fields = [("host", "localhost:1"), (field, value)];
            assert_eq!(status(&here, "GET /healthz", &fields), code, "{value}");
        }
    }
}
