//! The HTTP server that is asked about clients, in the form in which EMQX asks it.
//!
//! ```text
//!   shard --> the queue --> a connection without a question: POST, and the answer --> the shard
//! ```
//! One thread with an executor of its own. Nobody waits for it: a question without an answer in
//! time lets nobody in. Logs why there was no answer, and never what was sent.

use std::{
    cell::{Cell, RefCell},
    fmt, io,
    rc::Rc,
    sync::Arc,
    thread,
    time::Duration,
};

use axum::body::Body;
use hyper::{
    HeaderMap, Request, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;
use tokio::{
    runtime,
    sync::{
        Semaphore,
        mpsc::{self, Receiver, Sender},
    },
    task::{LocalSet, spawn_local},
    time::{Instant, timeout_at},
};
use tracing::warn;

use super::client::{Client, Endpoint, Silence};
use crate::{
    access::{AuthHook, Bearer, Finding, Grant, HookReply, HookSettings, Inquiry, jwt},
    base::time::{Span, WallTime},
};

/// The way to one HTTP server.
pub struct HttpHook {
    settings: HookSettings,
    queue: Sender<Asked>,
}

/// Why there is none.
#[derive(Debug, Error)]
pub enum HookFault {
    #[error("{0}")]
    Url(String),
    #[error("the header field {0:?} cannot be sent")]
    Header(String),
    #[error("cannot start its thread: {0}")]
    Thread(#[from] io::Error),
}

/// A question that waits.
struct Asked {
    inquiry: Inquiry,
    reply: HookReply,
    until: Instant,
}

impl HttpHook {
    /// Starts the thread, which ends when nobody can ask any more.
    pub fn start(settings: HookSettings) -> Result<HttpHook, HookFault> {
        let server = Server::new(&settings)?;
        let executor = runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(settings.connections)
            .build()?;
        let (queue, asked) = mpsc::channel(QUEUE_MAX);
        let connections = settings.connections;
        let work =
            move || LocalSet::new().block_on(&executor, answer_all(server, connections, asked));
        thread::Builder::new().name("ringmq-auth".to_owned()).spawn(work)?;
        Ok(HttpHook { settings, queue })
    }

    /// Whether there could be one.
    pub fn check(settings: &HookSettings) -> Result<(), HookFault> {
        Server::new(settings).map(drop)
    }
}

impl AuthHook for HttpHook {
    fn ask(&self, inquiry: Inquiry, reply: HookReply) {
        let until = Instant::now() + duration(self.settings.timeout);
        // The reply of a question that finds no room is dropped, and says so.
        drop(self.queue.try_send(Asked { inquiry, reply, until }));
    }

    fn settings(&self) -> &HookSettings {
        &self.settings
    }
}

impl fmt::Debug for HttpHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpHook").field("settings", &self.settings).finish_non_exhaustive()
    }
}

fn duration(span: Span) -> Duration {
    Duration::from_nanos(span.as_nanos())
}

/// Who is asked.
#[derive(Debug)]
struct Server {
    endpoint: Endpoint,
    headers: HeaderMap,
}

impl Server {
    fn new(settings: &HookSettings) -> Result<Server, HookFault> {
        let endpoint = Endpoint::new(&settings.url, &settings.authorities);
        let endpoint = endpoint.map_err(|fault| HookFault::Url(fault.to_string()))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        for (name, value) in &settings.headers {
            let fault = || HookFault::Header(name.clone());
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| fault())?;
            let mut value = HeaderValue::from_str(value).map_err(|_| fault())?;
            if OWN_HEADERS.contains(&name) {
                return Err(fault());
            }
            value.set_sensitive(true);
            headers.append(name, value);
        }
        Ok(Server { endpoint, headers })
    }

    fn request(&self, question: &[u8]) -> Request<Body> {
        let request = self.endpoint.request().method("POST");
        let mut request =
            request.body(Body::from(question.to_vec())).expect("the URL was parsed before");
        request.headers_mut().extend(self.headers.clone());
        request
    }
}

/// Header fields that say how a request is sent.
const OWN_HEADERS: [HeaderName; 7] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::EXPECT,
    header::UPGRADE,
];

/// Gives each question to a client of its own, the one that was used last if it can.
async fn answer_all(server: Server, connections: usize, mut asked: Receiver<Asked>) {
    let endpoint = Rc::new(server.endpoint.clone());
    let shared =
        Rc::new(Shared { server, idle: RefCell::default(), silences: Silences::default() });
    let places = Arc::new(Semaphore::new(connections));
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        let Some(question) = asked.recv().await else { break };
        let idle = shared.idle.borrow_mut().pop();
        let mut client = idle.unwrap_or_else(|| Client::new(Rc::clone(&endpoint)));
        let shared = Rc::clone(&shared);
        spawn_local(async move {
            answer(&mut client, question, &shared).await;
            shared.idle.borrow_mut().push(client);
            drop(place);
        });
    }
    // Those that were asked before have their answers.
    let all = u32::try_from(connections).expect("few connections");
    drop(places.acquire_many(all).await);
}

/// What the questions share.
struct Shared {
    server: Server,
    /// Clients without a question.
    idle: RefCell<Vec<Client>>,
    silences: Silences,
}

async fn answer(client: &mut Client, question: Asked, shared: &Shared) {
    let Asked { inquiry, reply, until } = question;
    let answer = if until <= Instant::now() {
        Err(Silence::Late)
    } else {
        let answer = timeout_at(until, ask(client, &shared.server, &inquiry)).await;
        answer.unwrap_or(Err(Silence::Late))
    };
    match answer {
        Ok(finding) => reply.give(finding),
        Err(silence) => {
            shared.silences.note(&shared.server, &silence);
            reply.give(Finding::Unanswered);
        }
    }
}

async fn ask(client: &mut Client, server: &Server, inquiry: &Inquiry) -> Result<Finding, Silence> {
    let Some(question) = body_of(inquiry) else { return Ok(Finding::Wrong) };
    let is_wanted = |status| {
        let refusals = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
        status == StatusCode::OK || status == StatusCode::NO_CONTENT || refusals.contains(&status)
    };
    let (status, content) = client.send(|| server.request(&question), is_wanted).await?;
    match status {
        StatusCode::NO_CONTENT => Ok(allowed(inquiry, None)),
        StatusCode::OK => understand(&content, inquiry).map_err(Silence::Nonsense),
        _ => Ok(Finding::Wrong),
    }
}

/// What is asked.
#[derive(Serialize)]
struct Posted<'a> {
    clientid: &'a str,
    username: Option<&'a str>,
    password: Option<&'a str>,
    peerhost: String,
    peerport: u16,
    proto_ver: u8,
}

/// `None`: the password is no text, so that nobody can have it.
fn body_of(inquiry: &Inquiry) -> Option<Vec<u8>> {
    let password = inquiry.password.as_deref().map(str::from_utf8).transpose().ok()?;
    let posted = Posted {
        clientid: &inquiry.client_id,
        username: inquiry.user_name.as_deref(),
        password,
        peerhost: inquiry.peer.ip().to_canonical().to_string(),
        peerport: inquiry.peer.port(),
        proto_ver: inquiry.protocol_level,
    };
    Some(serde_json::to_vec(&posted).expect("texts and numbers can be written"))
}

/// What is answered.
#[derive(Deserialize)]
struct Answered {
    result: String,
    #[serde(default)]
    is_superuser: Option<bool>,
    #[serde(default)]
    expire_at: Option<u64>,
    #[serde(default)]
    acl: Option<Value>,
    #[serde(default)]
    client_attrs: Option<Map<String, Value>>,
}

/// What the content of an answer says, or what is wrong with it.
fn understand(content: &[u8], inquiry: &Inquiry) -> Result<Finding, &'static str> {
    let answered: Answered = serde_json::from_slice(content)
        .map_err(|_| "it is no JSON object with `result`, or has a field of the wrong type")?;
    match answered.result.as_str() {
        "allow" => {}
        "deny" => return Ok(Finding::Wrong),
        "ignore" => return Ok(Finding::Ignored),
        _ => return Err("`result` is neither allow nor deny nor ignore"),
    }
    let ends_at = answered.expire_at.map(|at| WallTime::from_nanos(at.saturating_mul(NANOS)));
    let is_superuser = answered.is_superuser.unwrap_or(false);
    let attributes = answered.client_attrs.unwrap_or_default();
    let rules = answered.acl.map(|mut acl| {
        fill_in(&mut acl, &attributes).map_err(|()| "`acl` has an attribute that is not there")?;
        jwt::rules_of(&acl).map_err(|_| "`acl` is not what EMQX takes")
    });
    let grant = Grant {
        ends_at,
        ends_connection: ends_at.is_some(),
        rules: rules.transpose()?,
        is_superuser,
    };
    if grant.has_ended(inquiry.now) {
        return Ok(Finding::Wrong);
    }
    Ok(allowed(inquiry, Some(grant).filter(|grant| *grant != Grant::default())))
}

fn allowed(inquiry: &Inquiry, grant: Option<Grant>) -> Finding {
    let user_name = inquiry.user_name.clone().unwrap_or_default();
    Finding::Bearer(Box::new(Bearer { user_name, grant: grant.map(Arc::new) }))
}

/// Puts the attributes of the client into the topics of its rights. An error if there is none of
/// that name, or if its value could reach beyond its place.
fn fill_in(acl: &mut Value, attributes: &Map<String, Value>) -> Result<(), ()> {
    match acl {
        Value::String(text) => {
            while let Some((before, rest)) = text.split_once(ATTRIBUTE) {
                let (name, after) = rest.split_once('}').ok_or(())?;
                let value = attributes.get(name).and_then(Value::as_str).ok_or(())?;
                if value.is_empty() || value.contains(['+', '#', '/', '$', '%']) {
                    return Err(());
                }
                // No Topic Filter is longer.
                if before.len() + value.len() + after.len() > usize::from(u16::MAX) {
                    return Err(());
                }
                *text = [before, value, after].concat();
            }
            Ok(())
        }
        Value::Array(values) => values.iter_mut().try_for_each(|it| fill_in(it, attributes)),
        Value::Object(map) => map.values_mut().try_for_each(|it| fill_in(it, attributes)),
        _ => Ok(()),
    }
}

/// How a place for an attribute begins.
const ATTRIBUTE: &str = "${client_attrs.";

/// Questions without an answer, which share lines of the log.
#[derive(Default)]
struct Silences {
    quiet_until: Cell<Option<Instant>>,
    count: Cell<u64>,
}

impl Silences {
    fn note(&self, server: &Server, silence: &Silence) {
        self.count.set(self.count.get() + 1);
        let now = Instant::now();
        if self.quiet_until.get().is_none_or(|until| until <= now) {
            self.quiet_until.set(Some(now + QUIET));
            let (clients, server) = (self.count.take(), server.endpoint.authority());
            warn!(clients, server, "refused, because --auth-http-url is of no help: {silence}");
        }
    }
}

/// Questions that wait for a connection: more than all shards ask at a time.
const QUEUE_MAX: usize = 4_096;
/// The log says this often why there is no answer.
const QUIET: Duration = Duration::from_secs(10);
const NANOS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn inquiry(password: &[u8]) -> Inquiry {
        Inquiry {
            client_id: "c \"1\"".into(),
            user_name: Some("ada".into()),
            password: Some(password.into()),
            peer: ([192, 0, 2, 1], 7).into(),
            protocol_level: 5,
            now: WallTime::from_nanos(NANOS),
        }
    }

    fn understood(text: &str) -> Result<Finding, &'static str> {
        understand(text.as_bytes(), &inquiry(b""))
    }

    fn settings(headers: &[(&str, &str)]) -> HookSettings {
        HookSettings {
            url: "http://a.example/?key=hidden".to_owned(),
            timeout: Span::from_secs(1),
            connections: 1,
            headers: headers.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
            authorities: Vec::new(),
        }
    }

    #[test]
    fn the_question_has_what_emqx_sends() {
        let body = String::from_utf8(body_of(&inquiry(b"secret")).unwrap()).unwrap();
        let expected = r#"{"clientid":"c \"1\"","username":"ada","password":"secret","#;
        assert!(body.starts_with(expected), "{body}");
        assert!(body.ends_with(r#""peerhost":"192.0.2.1","peerport":7,"proto_ver":5}"#), "{body}");
        assert!(body_of(&inquiry(b"\xFF")).is_none());
        assert!(!format!("{:?}", inquiry(b"secret")).contains("secret"));
    }

    #[test]
    fn header_fields_are_sent_and_not_shown() {
        let settings = settings(&[("Authorization", "Bearer hidden")]);
        let server = Server::new(&settings).unwrap();
        let request = server.request(b"{}");
        assert_eq!(request.headers()["authorization"], "Bearer hidden");
        assert_eq!(request.headers()["content-type"], "application/json");
        assert!(!format!("{settings:?}{request:?}").contains("Bearer hidden"));
        for (name, value) in [("a b", "c"), ("Host", "b"), ("a", "b\r\nc: d"), ("", "b")] {
            let fault = Server::new(&self::settings(&[(name, value)])).unwrap_err();
            assert!(matches!(fault, HookFault::Header(_)), "{name}: {fault}");
        }
    }

    #[test]
    fn an_answer_is_understood_or_lets_nobody_in() {
        assert_eq!(understood(r#"{"result":"deny"}"#), Ok(Finding::Wrong));
        assert_eq!(understood(r#"{"result":"ignore"}"#), Ok(Finding::Ignored));
        assert_eq!(understood(r#"{"result":"allow","expire_at":1}"#), Ok(Finding::Wrong));
        for text in [
            "",
            "yes",
            "[]",
            "{}",
            r#"{"result":true}"#,
            r#"{"result":"perhaps"}"#,
            r#"{"result":"allow","is_superuser":"yes"}"#,
            r#"{"result":"allow","expire_at":-1}"#,
            r#"{"result":"allow","acl":7}"#,
            r#"{"result":"allow","acl":[{"permission":"allow","action":"all"}]}"#,
        ] {
            assert!(understood(text).is_err(), "{text}");
        }
        let text = r#"{"result":"allow","is_superuser":true,"expire_at":2,"acl":null,"x":1}"#;
        let Ok(Finding::Bearer(bearer)) = understood(text) else { panic!("it is allowed") };
        assert_eq!(&*bearer.user_name, "ada");
        let grant = bearer.grant.unwrap();
        assert!(grant.is_superuser && grant.rules.is_none() && grant.ends_connection);
        assert_eq!(grant.ends_at, Some(WallTime::from_nanos(2_000_000_000)));
        let text = r#"{"result":"allow","acl":[{"permission":"deny","action":"all","topic":"a"}]}"#;
        assert!(matches!(understood(text), Ok(Finding::Bearer(it)) if it.grant.is_some()));
        let Ok(Finding::Bearer(bearer)) = understood(r#"{"result":"allow"}"#) else {
            panic!("it is allowed")
        };
        assert_eq!(bearer.grant, None);
    }

    #[test]
    fn attributes_of_the_client_stand_in_its_rights() {
        let filled = |attributes: &str| {
            let mut acl = serde_json::json!({"all": ["a/${client_attrs.room}/b/${clientid}"]});
            let attributes = serde_json::from_str(attributes).unwrap();
            fill_in(&mut acl, &attributes).map(|()| acl["all"][0].as_str().unwrap().to_owned())
        };
        assert_eq!(filled(r#"{"room":"7"}"#), Ok("a/7/b/${clientid}".to_owned()));
        for attributes in [
            "{}",
            r#"{"room":""}"#,
            r#"{"room":7}"#,
            r##"{"room":"#"}"##,
            r#"{"room":"+"}"#,
            r#"{"room":"a/b"}"#,
            r#"{"room":"${client_attrs.room}"}"#,
        ] {
            assert_eq!(filled(attributes), Err(()), "{attributes}");
        }
    }
}
