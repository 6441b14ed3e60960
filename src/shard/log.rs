//! What the log says of clients: one line for each that comes, is refused or goes, and what happens
//! too often for a line each as a line with a count.
//!
//! Whatever a client has chosen is a field of text, which the log escapes.

use std::{net::SocketAddr, rc::Rc};

use tracing::{debug, info, warn};

use super::{Shard, end::Cause, kept_connect::KeptConnect, reason::Reason};
use crate::{
    access::Principal,
    base::{
        ids::ConnectionId,
        time::{Moment, Span},
    },
    mqtt::Version,
};

/// A client has been let in.
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
    pub(super) client: &'a str,
    pub(super) user: Option<&'a str>,
}

impl<'a> Claim<'a> {
    pub(super) fn of(connect: &'a KeptConnect) -> Claim<'a> {
        Claim { client: &connect.client_id, user: connect.user_name.as_deref() }
    }
}

/// A CONNECT has been refused. There is no claim when it cannot be read.
pub(super) fn refused(
    principal: &Principal,
    claim: Option<(Claim<'_>, Version)>,
    listener: SocketAddr,
    reason: Reason,
) {
    info!(
        client = claim.map(|(claim, _)| beginning(claim.client)),
        user = claim.and_then(|(claim, _)| claim.user).map(beginning),
        peer = %principal.peer(),
        %listener,
        version = claim.map(|(_, version)| words_of_version(version)),
        reason = reason.text(),
        "client refused"
    );
}

/// A connection has ended; before CONNECT was taken it is nobody's yet.
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

/// So much of a text as a line has room for.
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

/// What may happen thousands of times in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    OutboxFull,
    QueueFull,
    TooLarge,
    PublishRefused,
    SubscriptionRefused,
}

const NOTICES: usize = 5;

impl Notice {
    const ALL: [Notice; NOTICES] = [
        Notice::OutboxFull,
        Notice::QueueFull,
        Notice::TooLarge,
        Notice::PublishRefused,
        Notice::SubscriptionRefused,
    ];

    /// Says how often it happened, and to whom last.
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
                warn!(count, client, user, "messages dropped: the queue of the session is full");
            }
            Notice::TooLarge => {
                warn!(count, client, user, "messages dropped: the client takes none so large");
            }
            Notice::PublishRefused => info!(count, client, user, "messages of a client refused"),
            Notice::SubscriptionRefused => {
                info!(count, client, user, "subscriptions of a client refused");
            }
        }
    }
}

/// Counts what happens often, and says each kind of it once in [`QUIET_SPAN`].
#[derive(Debug, Default)]
pub(super) struct Notices([Pending; NOTICES]);

#[derive(Debug, Default)]
struct Pending {
    /// Until when nothing more is said; `None` when nothing was said lately.
    quiet_until: Option<Moment>,
    count: u64,
    /// Who it happened to last.
    latest: Option<Rc<Principal>>,
}

impl Notices {
    /// It has happened, to this client.
    pub(super) fn note(&mut self, notice: Notice, principal: &Rc<Principal>, now: Moment) {
        let pending = &mut self.0[notice as usize];
        if pending.is_quiet(now) {
            pending.count += 1;
            pending.latest = Some(Rc::clone(principal));
        } else {
            pending.quiet_until = Some(now + QUIET_SPAN);
            notice.log(1, principal);
        }
    }

    /// Says what has happened since it was last said. To be called every few seconds.
    pub(super) fn report(&mut self, now: Moment) {
        for (notice, pending) in Notice::ALL.into_iter().zip(&mut self.0) {
            if pending.is_quiet(now) {
                continue;
            }
            pending.quiet_until = None;
            if let Some(principal) = pending.latest.take() {
                pending.quiet_until = Some(now + QUIET_SPAN);
                notice.log(std::mem::take(&mut pending.count), &principal);
            }
        }
    }
}

impl Shard {
    /// Something that happens often has happened to this client.
    pub(super) fn note(&mut self, id: ConnectionId, notice: Notice) {
        if let Some(connection) = self.connections.get(id) {
            let principal = Rc::clone(connection.principal());
            self.deliveries.notices_mut().note(notice, &principal, self.context.now);
        }
    }
}

impl Pending {
    fn is_quiet(&self, now: Moment) -> bool {
        self.quiet_until.is_some_and(|until| now < until)
    }
}

/// Of a Client Identifier or User Name that a client only claims.
const TEXT_BYTES_MAX: usize = 256;
/// How long one kind of notice is only counted after a line.
const QUIET_SPAN: Span = Span::from_secs(10);
