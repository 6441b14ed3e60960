//! The lines of the log about clients: one line for each client that connects, is refused or
//! disconnects. Events that are too frequent for one line each are logged as a line with a count.
//!
//! Texts that a client has chosen are fields, so that the log escapes them.

use std::{net::SocketAddr, rc::Rc};

use tracing::{debug, info, warn};

use super::{Shard, end::Cause, kept_connect::KeptConnect, reason::Reason};
use crate::{
    access::Principal,
    base::{
        ids::ConnectionId,
        time::{Moment, Span},
    },
    mqtt::{Connect, Version},
    session::terms::Terms,
};

/// Logs that a client has connected.
pub(super) fn connected(
    principal: &Principal,
    listener: SocketAddr,
    (version, keep_alive): (Version, u16),
    session_present: bool,
) {
    info!(
        client = principal.client_id(),
        user = principal.user_name(),
        peer = %principal.peer(),
        %listener,
        version = words_of_version(version),
        keep_alive,
        session = if session_present { "resumed" } else { "new" },
        "client connected"
    );
}

/// Who a client claims to be in a CONNECT that is refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim<'a> {
    pub(super) terms: Terms,
    /// The Client Identifier, if the packet could be read.
    client: Option<&'a str>,
    user: Option<&'a str>,
}

impl<'a> Claim<'a> {
    pub(super) fn of(connect: &'a KeptConnect) -> Claim<'a> {
        let (client, user) = (Some(&*connect.client_id), connect.user_name.as_deref());
        Claim { terms: connect.terms, client, user }
    }

    pub(super) fn of_packet(connect: &Connect<'a>, terms: Terms) -> Claim<'a> {
        Claim { terms, client: Some(connect.client_id), user: connect.user_name }
    }

    /// Of a packet that could not be read.
    pub(super) fn unread(version: Version) -> Claim<'a> {
        Claim { terms: Terms::plain(version), client: None, user: None }
    }
}

/// Refusals that can happen thousands of times in a second, because no password is checked for
/// them. They share one line in [`QUIET_SPAN`].
#[derive(Debug, Default)]
pub(super) struct Refusals {
    quiet_until: Option<Moment>,
    /// Refusals since the last line.
    count: u64,
}

impl Refusals {
    /// Counts a refusal. Returns how many there were since the last line; `None` if this one gets
    /// no line.
    fn note(&mut self, now: Moment) -> Option<u64> {
        self.count += 1;
        if self.quiet_until.is_some_and(|until| now < until) {
            return None;
        }
        self.quiet_until = Some(now + QUIET_SPAN);
        Some(std::mem::take(&mut self.count))
    }
}

/// Logs that a CONNECT was refused. Without a claim, the CONNECT could not be read.
pub(super) fn refused(
    principal: &Principal,
    claim: Claim<'_>,
    listener: SocketAddr,
    reason: Reason,
    (refusals, now): (&mut Refusals, Moment),
) {
    let is_frequent = matches!(reason, Reason::TooManyFailures | Reason::PasswordChecksFull);
    let count = is_frequent.then(|| refusals.note(now));
    if count == Some(None) {
        return;
    }
    let count = count.flatten();
    info!(
        count,
        client = claim.client.map(beginning),
        user = claim.user.map(beginning),
        peer = %principal.peer(),
        %listener,
        version = claim.client.map(|_| words_of_version(claim.terms.version())),
        reason = reason.text(),
        "client refused"
    );
}

/// Logs that a connection has ended. Before CONNECT was accepted, its client is unknown.
pub(super) fn ended(principal: &Principal, listener: SocketAddr, cause: Cause) {
    let (client, user, peer) = (principal.client_id(), principal.user_name(), principal.peer());
    let reason = cause.text();
    if !client.is_empty() {
        info!(client, user, %peer, %listener, reason, "client disconnected");
    } else if cause.is_of_the_client() {
        debug!(%peer, %listener, reason, "connection ended before CONNECT");
    } else {
        info!(%peer, %listener, reason, "connection ended before CONNECT");
    }
}

/// The beginning of a text, as much as a line has room for.
fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

fn words_of_version(version: Version) -> &'static str {
    match version {
        Version::V31 => "3.1",
        Version::V311 => "3.1.1",
        Version::V5 => "5.0",
    }
}

/// Events that can happen thousands of times in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    OutboxFull,
    QueueFull,
    TooLarge,
    PatienceOver,
    PublishRefused(Reason),
    SubscriptionRefused(Reason),
    /// An absent session had to go for another one.
    Evicted,
    /// A connection was closed at once, or refused: its account has its share.
    ConnectionRefused,
}

const NOTICES: usize = 8;

impl Notice {
    /// Its place in [`Notices`]. Refusals of one kind share a place, whatever their reasons are.
    fn place(self) -> usize {
        match self {
            Notice::OutboxFull => 0,
            Notice::QueueFull => 1,
            Notice::TooLarge => 2,
            Notice::PublishRefused(_) => 3,
            Notice::SubscriptionRefused(_) => 4,
            Notice::Evicted => 5,
            Notice::PatienceOver => 6,
            Notice::ConnectionRefused => 7,
        }
    }

    /// Logs how often the event happened, to which client last, and for which reason last.
    fn log(self, count: u64, principal: &Principal) {
        let (client, user) = (principal.client_id(), principal.user_name());
        match self {
            Notice::OutboxFull => {
                warn!(
                    count,
                    client, user, "messages at QoS 0 dropped: the client reads too slowly"
                );
            }
            Notice::QueueFull => {
                warn!(
                    count,
                    client,
                    user,
                    "messages dropped: the queue of the session is full (--max-queued, \
                     --max-queued-bytes)"
                );
            }
            Notice::TooLarge => {
                warn!(count, client, user, "messages dropped: the client takes none so large");
            }
            Notice::PatienceOver => {
                info!(
                    count,
                    client,
                    user,
                    "publishers no longer wait for a client that cannot keep up (--patience)"
                );
            }
            Notice::PublishRefused(reason) => {
                let reason = reason.text();
                info!(count, client, user, reason, "messages of a client refused");
            }
            Notice::SubscriptionRefused(reason) => {
                let reason = reason.text();
                info!(count, client, user, reason, "subscriptions of a client refused");
            }
            Notice::Evicted => {
                let account = principal.account().name();
                let text = "absent sessions ended: --max-sessions is reached";
                info!(count, client, user, %account, "{text}");
            }
            Notice::ConnectionRefused => {
                let account = principal.account().name();
                info!(count, %account, "connections refused: the account has its share");
            }
        }
    }
}

/// Counts frequent events, and logs each kind of them at most once in [`QUIET_SPAN`].
#[derive(Debug, Default)]
pub(super) struct Notices([Pending; NOTICES]);

#[derive(Debug, Default)]
struct Pending {
    /// Until when events are only counted; `None` if none was logged lately.
    quiet_until: Option<Moment>,
    count: u64,
    /// The last event, and the client that it happened to.
    latest: Option<(Notice, Rc<Principal>)>,
}

impl Notices {
    /// Notes that the event has happened to this client.
    pub(super) fn note(&mut self, notice: Notice, principal: &Rc<Principal>, now: Moment) {
        let pending = &mut self.0[notice.place()];
        if pending.is_quiet(now) {
            pending.count += 1;
            pending.latest = Some((notice, Rc::clone(principal)));
        } else {
            pending.quiet_until = Some(now + QUIET_SPAN);
            notice.log(1, principal);
        }
    }

    /// Logs the events that were counted since the last line. Called every few seconds.
    pub(super) fn report(&mut self, now: Moment) {
        for pending in &mut self.0 {
            if pending.is_quiet(now) {
                continue;
            }
            pending.quiet_until = None;
            if let Some((notice, principal)) = pending.latest.take() {
                pending.quiet_until = Some(now + QUIET_SPAN);
                notice.log(std::mem::take(&mut pending.count), &principal);
            }
        }
    }
}

impl Shard {
    /// Notes that a frequent event has happened to this client.
    pub(super) fn note(&mut self, id: ConnectionId, notice: Notice) {
        if let Some(connection) = self.connections.get(id) {
            let principal = Rc::clone(connection.principal());
            self.router.note(notice, &principal, self.context.now);
        }
    }
}

impl Pending {
    fn is_quiet(&self, now: Moment) -> bool {
        self.quiet_until.is_some_and(|until| now < until)
    }
}

/// Bytes that are logged of a Client Identifier or User Name that a client only claims.
const TEXT_BYTES_MAX: usize = 256;
/// How long events of one kind are only counted after a line.
const QUIET_SPAN: Span = Span::from_secs(10);
