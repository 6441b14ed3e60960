//! The lines of the log about clients: one line for each client that connects, is refused or
//! disconnects.
//!
//! Texts that a client has chosen are fields, so that the log escapes them.

use tracing::{debug, field::display, info, warn};

use super::{
    end::{Cause, Leaves, Oversize},
    kept_connect::KeptConnect,
    notices::QUIET_SPAN,
    reason::Reason,
};
use crate::{
    access::Principal,
    base::{local::Peer, time::Moment},
    mqtt::{Connect, Version},
    session::terms::Terms,
    transport::Address,
};

/// Logs that a client has connected.
pub(super) fn connected(
    principal: &Principal,
    listener: &Address,
    (version, keep_alive): (Version, u16),
    session_present: bool,
) {
    info!(
        client = principal.client_id(),
        user = principal.user_name(),
        peer = %Peer(principal.peer()),
        %listener,
        version = version.words(),
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
    /// The Protocol Version, if it is not supported.
    level: Option<u8>,
}

impl<'a> Claim<'a> {
    pub(super) fn of(connect: &'a KeptConnect) -> Claim<'a> {
        let (client, user) = (Some(&*connect.client_id), connect.user_name.as_deref());
        Claim { terms: connect.terms, client, user, level: None }
    }

    pub(super) fn of_packet(connect: &Connect<'a>, terms: Terms) -> Claim<'a> {
        Claim { terms, client: Some(connect.client_id), user: connect.user_name, level: None }
    }

    /// Its Client Identifier and its User Name, as far as they could be read.
    pub(super) fn names(self) -> (Option<&'a str>, Option<&'a str>) {
        (self.client, self.user)
    }

    /// Of a packet that could not be read. `level` is its Protocol Version, if it is not supported.
    pub(super) fn unread(version: Version, level: Option<u8>) -> Claim<'a> {
        Claim { terms: Terms::plain(version), client: None, user: None, level }
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
    listener: &Address,
    (reason, flag): (Reason, Option<&'static str>),
    (refusals, now): (&mut Refusals, Moment),
) {
    let is_frequent =
        matches!(reason, Reason::TooManyFailures | Reason::PasswordChecksFull | Reason::Banned);
    let count = is_frequent.then(|| refusals.note(now));
    if count == Some(None) {
        return;
    }
    let count = count.flatten();
    info!(
        count,
        client = claim.client.map(beginning),
        user = claim.user.map(beginning),
        peer = %Peer(principal.peer()),
        %listener,
        version = claim.client.map(|_| claim.terms.version().words()),
        protocol_level = claim.level,
        reason = reason.text(),
        flag,
        "client refused"
    );
}

/// Logs that a connection has ended. Before CONNECT was accepted, its client is unknown.
pub(super) fn ended(
    principal: &Principal,
    listener: &Address,
    cause: Cause,
    leaves: Option<Leaves>,
) {
    let (client, user, peer) =
        (principal.client_id(), principal.user_name(), Peer(principal.peer()));
    let (reason, flag, oversize) = (cause.text(), cause.flag(), cause.oversize());
    let (packet, size) = (oversize.map(Oversize::packet), oversize.map(|it| it.size));
    if let Some(leaves) = leaves {
        info!(
            client,
            user,
            %peer,
            %listener,
            reason,
            flag,
            packet,
            size,
            new_peer = cause.new_peer().map(|peer| display(Peer(peer))),
            session = leaves.session(),
            will = leaves.will(),
            "client disconnected"
        );
    } else if cause.is_of_the_client() {
        debug!(%peer, %listener, reason, "connection ended before CONNECT");
    } else {
        info!(%peer, %listener, reason, flag, packet, size, "connection ended before CONNECT");
    }
}

/// How often something has happened, and to whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tally<'a> {
    pub(super) count: u64,
    /// Within how many seconds; `None` for what has just happened.
    pub(super) seconds: Option<u64>,
    /// The client; of several, the one to which it happened last.
    pub(super) principal: &'a Principal,
    /// It happened to clients that are not counted one by one.
    pub(super) is_of_others: bool,
}

/// Writes a line with a count.
macro_rules! counted {
    ($level:ident, $tally:expr, $text:literal $(, $field:ident)*) => {{
        let Tally { count, seconds, principal, is_of_others } = $tally;
        let name = Some(principal.client_id()).filter(|name| !name.is_empty());
        let user = principal.user_name();
        let (one, several) = (!is_of_others, is_of_others);
        $level!(
            count,
            seconds,
            client = name.filter(|_| one),
            user = user.filter(|_| one),
            clients = several.then_some("others"),
            last_client = name.filter(|_| several),
            last_user = user.filter(|_| several),
            $($field,)*
            $text
        );
    }};
}

pub(super) fn outbox_full(tally: Tally<'_>) {
    counted!(
        warn,
        tally,
        "messages at QoS 0 dropped: the client reads too slowly (--outbox-bytes)"
    );
}

pub(super) fn queue_full(tally: Tally<'_>) {
    counted!(
        warn,
        tally,
        "messages dropped: the queue of the session is full (--max-queued, --max-queued-bytes)"
    );
}

pub(super) fn too_large(tally: Tally<'_>) {
    counted!(warn, tally, "messages dropped: the client takes none so large");
}

pub(super) fn patience_over(tally: Tally<'_>) {
    counted!(
        info,
        tally,
        "publishers no longer wait for a client that cannot keep up (--patience)"
    );
}

/// With the account of the last one.
pub(super) fn evicted(tally: Tally<'_>) {
    let account = display(tally.principal.account().name());
    counted!(
        info,
        tally,
        "absent sessions ended: --max-sessions or --max-memory is reached",
        account
    );
}

/// With the account of the last one.
pub(super) fn connection_refused(tally: Tally<'_>) {
    let account = display(tally.principal.account().name());
    counted!(info, tally, "connections refused: the account has its share", account);
}

/// With the address of the last one.
pub(super) fn address_banned(tally: Tally<'_>) {
    let peer = display(Peer(tally.principal.peer()));
    counted!(info, tally, "connections refused: the address is banned", peer);
}

/// With the listener of the last one.
pub(super) fn too_many_connections(tally: Tally<'_>, listener: &str) {
    let listener = display(listener);
    counted!(info, tally, "connections refused: too many come to the listener", listener);
}

/// With the account of the last one.
pub(super) fn memory_full(tally: Tally<'_>) {
    let account = display(tally.principal.account().name());
    counted!(
        info,
        tally,
        "messages dropped: --max-memory is reached, and much waits for the client",
        account
    );
}

/// With the topic and the reason of the last one.
pub(super) fn publish_refused(tally: Tally<'_>, topic: &str, reason: Option<Reason>) {
    let (reason, flag) = (reason.map(Reason::text), reason.and_then(Reason::flag));
    counted!(info, tally, "messages of a client refused", topic, reason, flag);
}

/// With the filter and the reason of the last one.
pub(super) fn subscription_refused(tally: Tally<'_>, filter: &str, reason: Option<Reason>) {
    let (reason, flag) = (reason.map(Reason::text), reason.and_then(Reason::flag));
    counted!(info, tally, "subscriptions of a client refused", filter, reason, flag);
}

/// The beginning of a text, as much as a line has room for.
pub(super) fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// Bytes that are logged of a text that a client has chosen.
const TEXT_BYTES_MAX: usize = 256;
