//! Retained messages that subscriptions have asked for.

use ringmq::mqtt::QoS;

use super::{
    Oracle, Seen,
    model::{Emission, Publication, Session, Subscription, Ticket},
};
use crate::matching::matches;

impl Session {
    /// The subscription has ended, and its replay with it.
    pub(super) fn end_tickets(&mut self, step: u64, filter: &str) {
        for ticket in self.tickets.iter_mut().filter(|ticket| ticket.filter == filter) {
            ticket.until.get_or_insert(step);
        }
    }

    /// Another subscription has taken the place of one with the same filter: what that had asked
    /// for comes as the new one says, unless that asks for it anew.
    pub(super) fn replace_tickets(&mut self, step: u64, by: &Subscription, asks: bool) {
        if asks {
            return self.end_tickets(step, &by.text);
        }
        let (qos, identifier) = (by.options.qos, by.identifier);
        let mut earlier = Vec::new();
        for ticket in &mut self.tickets {
            let changes = (ticket.qos, ticket.identifier) != (qos, identifier);
            if ticket.filter == by.text && ticket.until.is_none() && changes {
                earlier.push(Ticket { until: Some(step), ..ticket.clone() });
                (ticket.qos, ticket.identifier) = (qos, identifier);
            }
        }
        // Replays go on in the order of their beginning, and so do tickets.
        self.tickets.extend(earlier);
    }

    /// A retained message has come as a subscription had asked for it that was replaced in the same
    /// call. Which of those that look alike has come, nobody knows.
    pub(super) fn use_up(&mut self, used: &Ticket) {
        if used.until.is_some() {
            for other in self.tickets.iter_mut().filter(|it| it.emission == used.emission) {
                other.certain = false;
            }
        }
    }
}

impl Oracle {
    /// A retained message has come to a shard: sessions there that miss it may get it by a replay
    /// that has not come to its topic.
    pub(super) fn note_possible_misses(&mut self, seen: &Seen<'_>, emission: usize) {
        let Emission { publication, retention, .. } = &self.emissions[emission];
        if retention.is_none() {
            return;
        }
        for session in self.sessions.iter_mut().filter(|it| it.home == seen.shard) {
            let own = publication.publisher == session.client_id;
            let asking = session.subscriptions.iter().filter(|it| {
                it.has_asked
                    && it.is_current()
                    && !(own && it.options.no_local)
                    && matches(&it.text, &publication.topic)
            });
            let live_qos = session
                .subscriptions
                .iter()
                .filter(|it| it.share().is_none() && it.is_current())
                .filter(|it| !(own && it.options.no_local))
                .filter(|it| matches(&it.text, &publication.topic))
                .map(|it| it.options.qos.min(publication.qos))
                .max();
            let tickets = asking.map(|it| Ticket {
                emission,
                qos: it.options.qos,
                identifier: it.identifier,
                filter: it.text.clone(),
                certain: false,
                since: seen.step,
                until: None,
                missed_at: live_qos,
            });
            let tickets: Vec<Ticket> = tickets.collect();
            session.tickets.extend(tickets);
        }
    }

    /// After the call: who has got the message live, or has it in its queue, has not missed it.
    pub(super) fn settle_misses(&mut self, seen: &Seen<'_>) {
        let (before, after) = seen.counters;
        let drops = after.dropped_queue_full + after.dropped_too_large
            > before.dropped_queue_full + before.dropped_too_large;
        for session in self.sessions.iter_mut().filter(|it| it.home == seen.shard) {
            let got = &session.got;
            session.tickets.retain(|ticket| {
                let kept = ticket.missed_at.is_some_and(|qos| qos > QoS::AtMostOnce) && !drops;
                let is_new = ticket.missed_at.is_some() && ticket.since == seen.step;
                !is_new || !(kept || got.contains(&ticket.emission))
            });
        }
    }

    /// Topics of which a session has got neither the message of its subscription's moment nor a
    /// later one, though its replay has come to its end.
    pub(super) fn left_out_at(&self, at: usize, now: ringmq::base::time::Moment) -> Vec<String> {
        let mut left_out = Vec::new();
        let sane = self.alive_at(at).filter(|session| !session.hostile);
        for session in sane.filter(|session| session.link.is_some()) {
            let tickets = session.tickets.iter().filter(|it| it.certain && it.until.is_none());
            for ticket in tickets {
                let Publication { topic, expires_at, .. } =
                    &self.emissions[ticket.emission].publication;
                // It may have expired before another took its place.
                if expires_at.is_some() {
                    continue;
                }
                let Some(latest) = self.retained[at].message(topic) else { continue };
                let publication = &self.emissions[latest].publication;
                let alive = publication.expires_at.is_none_or(|expires_at| expires_at > now);
                let own = publication.publisher == session.client_id;
                if alive && !own && !self.has_later(session, ticket, at) {
                    left_out.push(format!("{topic} for {}", session.client_id));
                }
            }
        }
        left_out
    }

    /// Whether a session has got a retained message of the topic that was there at the moment of
    /// the subscription or came later.
    fn has_later(&self, session: &Session, ticket: &Ticket, at: usize) -> bool {
        let topic = &self.emissions[ticket.emission].publication.topic;
        let counts = |number: usize| {
            let emission = &self.emissions[number];
            emission.publication.topic == *topic
                && emission.retention.is_some()
                && !self.retained[at].was_superseded_before(number, ticket.since)
        };
        // Of those that look alike, any may have come.
        let alike = |number: usize| {
            let Emission { publication, again, .. } = &self.emissions[number];
            *again
                && (0..self.emissions.len()).any(|other| {
                    counts(other)
                        && self.emissions[other].publication.payload == publication.payload
                })
        };
        session.got.iter().any(|&number| counts(number) || alike(number))
    }
}
