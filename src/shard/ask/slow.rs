//! Questions about subscribers that do not keep up.

use std::net::SocketAddr;

use super::Shard;
use crate::{
    base::{
        ids::SubscriberId,
        time::{Moment, Span},
    },
    session::Session,
    shard::ports::Ports,
};

/// Some subscribers of a shard that do not keep up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlowPage {
    pub subscribers: Vec<SlowReport>,
    /// Where to go on; `None` if there are no more.
    pub next: Option<u32>,
}

/// A subscriber for which something waits, or for which messages were dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowReport {
    pub client_id: String,
    pub user: Option<String>,
    pub peer: SocketAddr,
    pub connected: bool,
    /// How long something has waited for the connected client without a break: in its queue, or
    /// unsent.
    pub delay: Span,
    pub queued: usize,
    pub queued_bytes: usize,
    pub in_flight: usize,
    /// Messages that were dropped since the session began, as far as is remembered.
    pub dropped: u64,
    /// Publishers wait for it.
    pub presses: bool,
}

impl Shard {
    /// Those among the sessions whose numbers are `from` or larger.
    pub(super) fn slow_page(&self, from: u32, count: usize, ports: &impl Ports) -> SlowPage {
        let mut subscribers = Vec::new();
        let places = self.sessions.places();
        let until = places.min(from.saturating_add(LOOKS_MAX));
        for place in from..until {
            if subscribers.len() == count.min(TOLD_MAX) {
                return SlowPage { subscribers, next: Some(place) };
            }
            let subscriber = SubscriberId(place);
            let session = self.sessions.get(subscriber);
            subscribers.extend(session.and_then(|it| self.slow(subscriber, it, ports)));
        }
        SlowPage { subscribers, next: (until < places).then_some(until) }
    }

    fn slow(
        &self,
        subscriber: SubscriberId,
        session: &Session,
        ports: &impl Ports,
    ) -> Option<SlowReport> {
        let (now, outbound) = (self.context.now, session.outbound());
        let since = |link| {
            let unsent: Option<Moment> = ports.unsent_since(link);
            outbound.queue.since().into_iter().chain(unsent).min()
        };
        let since = session.link().and_then(|link| since(link.connection));
        let delay = since.map_or(Span::ZERO, |since| now.since(since));
        let dropped = self.router.deliveries().dropped(subscriber, session);
        if delay < DELAY_MIN && dropped == 0 {
            return None;
        }
        let principal = session.principal();
        Some(SlowReport {
            client_id: session.client_id().to_owned(),
            user: principal.user_name().map(str::to_owned),
            peer: principal.peer(),
            connected: session.link().is_some(),
            delay,
            queued: outbound.queue.len(),
            queued_bytes: outbound.queue.bytes(),
            in_flight: outbound.in_flight(),
            dropped,
            presses: self.router.deliveries().is_pressing(subscriber),
        })
    }
}

/// Sessions that one question looks at.
const LOOKS_MAX: u32 = 512;
/// Subscribers that one answer tells of.
const TOLD_MAX: usize = 64;
/// What waits for less is on its way.
const DELAY_MIN: Span = Span::from_millis(10);
