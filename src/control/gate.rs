//! Who may ask for what: the token of a request, and the names by which it has reached us.
//!
//! A web page in the browser of this machine can send requests to a loopback address, also under
//! its own name, if that name is made to lead here. So each request is looked at: its Host has to
//! be an address or one of our names, and its Origin, if it has one, has to be the same.

use std::{
    net::IpAddr,
    sync::{Arc, PoisonError},
};

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
};
use tracing::info;

use super::{
    Options,
    counts::Refusal,
    dashboard,
    problem::Problem,
    sockets::{Peer, Way},
    tokens::{Bearer, Role, Tokens},
};
use crate::{
    access::{AccountName, Admission, Failures},
    base::time::{Moment, Span},
};

/// What requests have to show.
#[derive(Debug)]
pub(super) struct Gate {
    /// In lower case.
    hosts: Vec<String>,
    tokens: Lock<Option<Arc<Tokens>>>,
    failures: Failures,
}

/// A request that is not let in.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) reason: Refusal,
    pub(super) problem: Problem,
}

impl Gate {
    pub(super) fn new(options: Options) -> Gate {
        let Options { hosts, tokens, failures, .. } = options;
        let tokens = Lock::new(tokens.map(Arc::new));
        Gate { hosts, tokens, failures }
    }

    pub(super) fn renew(&self, tokens: Option<Tokens>) {
        *self.tokens.lock().unwrap_or_else(PoisonError::into_inner) = tokens.map(Arc::new);
    }

    /// Lets a request in, and says whose token it has shown.
    pub(super) fn admit(&self, request: &Request, now: Moment) -> Result<Option<Bearer>, Refused> {
        let peer = Peer::of(request);
        let is_look = matches!(*request.method(), Method::GET | Method::HEAD);
        // A link on another page may lead to the dashboard, which shows nothing by itself.
        let may_be_linked = is_look && request.uri().path() == dashboard::PAGE;
        self.check_names(request.headers(), peer.way, may_be_linked)?;
        let bearer = self.bearer(request.headers(), peer, now)?;
        let wanted = if is_look { Role::Reader } else { Role::Admin };
        let is_free = match peer.way {
            Way::Network => is_look && is_public(request.uri().path()),
            Way::Machine => is_look,
            Way::Owner => true,
        };
        match bearer {
            Some(Bearer { role, .. }) if role < wanted => Err(forbidden()),
            None if !is_free => Err(unauthorized(wanted)),
            bearer => Ok(bearer),
        }
    }

    /// Whose token it is, if one is shown. After many wrong ones from an address no further one is
    /// looked at for a while, but those that were right there before.
    fn bearer(
        &self,
        fields: &HeaderMap,
        peer: Peer,
        now: Moment,
    ) -> Result<Option<Bearer>, Refused> {
        let Some(shown) = fields.get(header::AUTHORIZATION) else { return Ok(None) };
        let (shown, ip) = (shown.as_bytes(), peer.address.ip());
        let (address, name) = (AccountName::of_address(ip), String::from_utf8_lossy(shown));
        if self.failures.admit(&address, &name, now, Span::ZERO) == Admission::Refused {
            let earliest = self.failures.earliest(&address, &name, now);
            return Err(too_many_failures(earliest.since(now)));
        }
        let bearer = self.bearer_of(shown);
        if bearer.is_some() {
            self.failures.note_success(&address, &name, now);
            return Ok(bearer);
        }
        self.failures.note_failure(&address, &name, now);
        info!(%peer, "a wrong token was shown over HTTP");
        Err(wrong_token())
    }

    fn bearer_of(&self, shown: &[u8]) -> Option<Bearer> {
        let token = shown.split_at_checked(BEARER.len());
        let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(BEARER));
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).clone();
        token.zip(tokens).and_then(|((_, token), tokens)| tokens.bearer(token))
    }

    fn check_names(
        &self,
        fields: &HeaderMap,
        way: Way,
        may_be_linked: bool,
    ) -> Result<(), Refused> {
        let mut hosts = fields.get_all(header::HOST).into_iter();
        let (Some(Ok(host)), None) = (hosts.next().map(|host| host.to_str()), hosts.next()) else {
            let problem = Problem::bad_request("the request needs one Host");
            return Err(Refused { reason: Refusal::Host, problem });
        };
        if !self.is_ours(name_of(host), way) {
            let detail = "the Host is not a name of this broker: see --http-host";
            return Err(refused(Refusal::Host, StatusCode::MISDIRECTED_REQUEST, detail));
        }
        let site = fields.get("sec-fetch-site").map(HeaderValue::as_bytes);
        let is_of_other_site = site.is_some_and(|site| site == b"cross-site")
            && !(may_be_linked && follows_link(fields));
        let origins = fields.get_all(header::ORIGIN).into_iter();
        let are_same = origins.map(|origin| origin.to_str()).all(|origin| {
            let origin = origin.ok().and_then(|origin| origin.split_once("://"));
            origin.is_some_and(|(_, at)| at.eq_ignore_ascii_case(host))
        });
        if is_of_other_site || !are_same {
            let detail = "requests of other web pages are refused: the Origin is not this Host";
            return Err(refused(Refusal::Origin, StatusCode::FORBIDDEN, detail));
        }
        Ok(())
    }

    fn is_ours(&self, name: &str, way: Way) -> bool {
        let is_given = self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name));
        let takes_all = self.hosts.is_empty() && way == Way::Network;
        let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let is_address = bare.unwrap_or(name).parse::<IpAddr>().is_ok();
        is_given || takes_all || is_address || name.eq_ignore_ascii_case("localhost")
    }
}

/// Whether the browser is to show the answer as a page of its own.
fn follows_link(fields: &HeaderMap) -> bool {
    let is = |name: &str, value: &str| fields.get(name).is_some_and(|found| found == value);
    is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document")
}

/// What needs no token on any address: it says nothing but yes or no, or asks for a token.
fn is_public(path: &str) -> bool {
    ["/healthz", "/readyz"].contains(&path) || dashboard::has(path)
}

/// The Host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn refused(reason: Refusal, status: StatusCode, detail: &str) -> Refused {
    Refused { reason, problem: Problem::new(status, detail) }
}

fn forbidden() -> Refused {
    let detail = "this token is of a reader: a change needs one of an admin";
    refused(Refusal::Role, StatusCode::FORBIDDEN, detail)
}

fn wrong_token() -> Refused {
    let detail = "the token is not one of --http-token-file: send `Authorization: Bearer TOKEN`";
    refused(Refusal::WrongToken, StatusCode::UNAUTHORIZED, detail)
}

fn too_many_failures(wait: Span) -> Refused {
    let detail = "too many tokens from this address were wrong: try again later";
    Refused { reason: Refusal::TooManyFailures, problem: Problem::too_early(wait, detail) }
}

fn unauthorized(wanted: Role) -> Refused {
    let detail = match wanted {
        Role::Reader => "send `Authorization: Bearer TOKEN` with a token of --http-token-file",
        Role::Admin => {
            "a change needs `Authorization: Bearer TOKEN` with the token of an admin in \
             --http-token-file"
        }
    };
    refused(Refusal::NoToken, StatusCode::UNAUTHORIZED, detail)
}

const BEARER: &[u8] = b"Bearer ";

#[expect(clippy::disallowed_types, reason = "taken by a request or a reload, never by a shard")]
type Lock<T> = std::sync::Mutex<T>;

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;
    use crate::base::hash::Seed;

    const WAYS: [Way; 3] = [Way::Network, Way::Machine, Way::Owner];
    const NOW: Moment = Moment::from_nanos(1_000_000_000_000);
    const ADMIN: &str = "Bearer bbbbbbbbbbbbbbbb";
    const READER: &str = "bearer aaaaaaaaaaaaaaaa";

    fn gate(hosts: &[&str]) -> Gate {
        let hosts = hosts.iter().map(|&host| host.to_owned()).collect();
        let tokens = Tokens::of("reader aaaaaaaaaaaaaaaa\nadmin bbbbbbbbbbbbbbbb\n");
        let failures = Failures::new(Seed::new(1));
        Gate::new(Options { addresses: Vec::new(), hosts, tokens: Some(tokens), failures })
    }

    fn from(number: u8, way: Way) -> Peer {
        Peer { address: ([192, 0, 2, number], 1).into(), way }
    }

    fn request(line: &str, peer: Peer, fields: &[(&'static str, &str)]) -> Request {
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(path).extension(peer);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    /// The status that a request with these fields is answered with; 200 if it is let in.
    fn status(gate: &Gate, way: Way, line: &str, fields: &[(&'static str, &str)]) -> u16 {
        let admitted = gate.admit(&request(line, from(1, way), fields), NOW);
        admitted.map_or_else(|refused| refused.problem.status().as_u16(), |_| 200)
    }

    /// The same for a request with this token, with the reason if it is not let in.
    fn try_token(gate: &Gate, peer: u8, token: &str, now: Moment) -> Result<(), Refusal> {
        let fields = [("host", "localhost"), ("authorization", token)];
        let peer = from(peer, Way::Network);
        let admitted = gate.admit(&request("GET /metrics", peer, &fields), now);
        admitted.map(drop).map_err(|refused| refused.reason)
    }

    #[test]
    fn wrong_tokens_of_an_address_are_looked_at_ever_more_rarely() {
        let gate = gate(&[]);
        assert_eq!(try_token(&gate, 1, READER, NOW), Ok(()));
        let mut looked_at = 0;
        for n in 0..60_000 {
            let now = NOW + Span::from_millis(10 * n);
            match try_token(&gate, 1, &format!("Bearer {n:016}"), now) {
                Err(Refusal::WrongToken) => looked_at += 1,
                other => assert_eq!(other, Err(Refusal::TooManyFailures)),
            }
        }
        // Ten for nothing, and then one in 8 seconds.
        assert!((70..100).contains(&looked_at), "{looked_at}");
        let later = NOW + Span::from_secs(600);
        // One that was right here before is taken, and another address has its own count.
        assert_eq!(try_token(&gate, 1, READER, later), Ok(()));
        assert_eq!(try_token(&gate, 2, ADMIN, later), Ok(()));
        let fields = [("host", "localhost"), ("authorization", ADMIN)];
        let refused = gate
            .admit(&request("GET /metrics", from(1, Way::Network), &fields), later)
            .unwrap_err();
        let seconds = refused.problem.retry_after().unwrap();
        assert!((1..=8).contains(&seconds), "{seconds}");
        let then = later + Span::from_secs(seconds);
        assert_eq!(try_token(&gate, 1, ADMIN, then), Ok(()));
        let wrong = "Bearer cccccccccccccccc";
        let much_later = then + Span::from_secs(1800);
        assert_eq!(try_token(&gate, 1, wrong, much_later), Err(Refusal::WrongToken));
    }

    #[test]
    fn a_look_is_free_on_this_machine_and_a_change_to_the_owner_of_a_socket() {
        for (request, token, codes) in [
            ("GET /metrics", "", [401, 200, 200]),
            ("GET /healthz", "", [200, 200, 200]),
            ("GET /", "", [200, 200, 200]),
            ("HEAD /dashboard/app.js", "", [200, 200, 200]),
            ("GET /dashboard", "", [401, 200, 200]),
            ("POST /", "", [401, 401, 200]),
            ("POST /healthz", "", [401, 401, 200]),
            ("GET /metrics", READER, [200, 200, 200]),
            ("GET /metrics", ADMIN, [200, 200, 200]),
            ("GET /metrics", "Bearer wrong", [401, 401, 401]),
            ("GET /metrics", "Basic bbbbbbbbbbbbbbbb", [401, 401, 401]),
            ("GET /metrics", "Bearer", [401, 401, 401]),
            ("DELETE /api/v1/clients/a", "", [401, 401, 200]),
            ("DELETE /api/v1/clients/a", READER, [403, 403, 403]),
            ("DELETE /api/v1/clients/a", ADMIN, [200, 200, 200]),
        ] {
            let gate = gate(&[]);
            let fields = [("host", "localhost:1"), ("authorization", token)];
            let fields = if token.is_empty() { &fields[..1] } else { &fields };
            let found = WAYS.map(|way| status(&gate, way, request, fields));
            assert_eq!(found, codes, "{request} {token}");
            gate.renew(None);
            assert!(token.is_empty() || status(&gate, Way::Owner, request, fields) == 401);
        }
    }

    #[test]
    fn other_names_and_other_pages_are_refused() {
        let (any, named) = (gate(&[]), gate(&["broker.example"]));
        let host =
            |gate: &Gate, way, host: &str| status(gate, way, "GET /healthz", &[("host", host)]);
        for (name, unnamed, with_name) in [
            ("127.0.0.1:9883", [200, 200, 200], 200),
            ("[::1]:9883", [200, 200, 200], 200),
            ("LocalHost", [200, 200, 200], 200),
            ("evil.example:9883", [200, 421, 421], 421),
            ("Broker.example:80", [200, 421, 421], 200),
            ("localhost.evil.example", [200, 421, 421], 421),
            ("", [200, 421, 421], 421),
        ] {
            assert_eq!(WAYS.map(|way| host(&any, way, name)), unnamed, "{name}");
            assert_eq!(WAYS.map(|way| host(&named, way, name)), [with_name; 3], "{name}");
        }
        let here =
            |fields: &[(&'static str, &str)]| status(&any, Way::Machine, "GET /healthz", fields);
        assert_eq!(here(&[]), 400);
        assert_eq!(here(&[("host", "localhost"), ("host", "localhost")]), 400);
        for (field, value, code) in [
            ("origin", "http://localhost:1", 200),
            ("origin", "http://localhost:2", 403),
            ("origin", "https://evil.example", 403),
            ("origin", "null", 403),
            ("sec-fetch-site", "cross-site", 403),
            ("sec-fetch-site", "same-origin", 200),
        ] {
            assert_eq!(here(&[("host", "localhost:1"), (field, value)]), code, "{value}");
        }
    }

    #[test]
    fn a_link_of_another_page_leads_to_the_dashboard_alone() {
        let gate = gate(&[]);
        for (line, mode, dest, code) in [
            ("GET /", "navigate", "document", 200),
            ("GET /", "navigate", "iframe", 403),
            ("GET /", "no-cors", "script", 403),
            ("POST /", "navigate", "document", 403),
            ("GET /metrics", "navigate", "document", 403),
            ("GET /dashboard/app.js", "no-cors", "script", 403),
        ] {
            let fields = [
                ("host", "localhost:1"),
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", mode),
                ("sec-fetch-dest", dest),
            ];
            assert_eq!(status(&gate, Way::Machine, line, &fields), code, "{line} {mode} {dest}");
        }
    }
}
