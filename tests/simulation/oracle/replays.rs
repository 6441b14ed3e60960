//! Retained messages that subscriptions have asked for.

use ringmq::mqtt::QoS;

use super::{
    Oracle, Seen,
    model::{Emission, Live, Publication, Session, Subscription, Ticket, UsedTicket},
};
use crate::matching::matches;

impl Session {
    /// The subscription has ended, and its replay with it.
    pub(super) fn end_tickets(&mut self, step: u64, filter: &str) {
        self.doubt_used(filter);
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
        self.doubt_used(&by.text);
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

    /// Whether a message of this QoS was to come at QoS 0 at some time since this filter was
    /// subscribed to first.
    fn has_had_least_qos(&self, ticket: &Ticket, qos: QoS) -> bool {
        let mut options = self.subscriptions.iter().filter(|it| it.text == ticket.filter);
        options.any(|it| it.options.qos.min(qos) == QoS::AtMostOnce)
    }

    /// A retained message has come by the ticket at this place, or by one of those that look alike.
    pub(super) fn use_up(&mut self, place: usize, alike: &[usize]) {
        let others = alike.iter().filter(|&&other| other != place);
        let others = others.map(|&other| self.tickets[other].filter.clone()).collect();
        let used = self.tickets.remove(place);
        for other in self.tickets.iter_mut().filter(|it| it.emission == used.emission) {
            // A subscription that was replaced in the same call had asked for it.
            other.certain &= used.until.is_none();
            // It was missed live: each replay that is open sends it.
            if used.live.is_some() {
                other.live = None;
            }
        }
        self.used.push(UsedTicket { ticket: used, others });
    }

    /// A replay ends or changes. Where a message has come by this replay or another, the other
    /// one's may still come, and neither must.
    fn doubt_used(&mut self, filter: &str) {
        let concerns = |used: &UsedTicket| {
            !used.others.is_empty()
                && (used.ticket.filter == filter || used.others.iter().any(|it| it == filter))
        };
        let (doubted, rest) = std::mem::take(&mut self.used).into_iter().partition(concerns);
        self.used = rest;
        for UsedTicket { ticket, others } in Vec::from_iter(doubted) {
            let is_other =
                |it: &&mut Ticket| it.emission == ticket.emission && others.contains(&it.filter);
            self.tickets.iter_mut().filter(is_other).for_each(|it| it.certain = false);
            self.tickets.push(Ticket { certain: false, ..ticket });
        }
    }

    /// The retained message of a topic has changed, and those that subscriptions have asked for are
    /// gone. Nothing need come in their place if nothing is retained now or soon, or if it is the
    /// session's own and the subscription has No Local.
    fn waive(&mut self, is_lost: bool, is_of_topic: impl Fn(usize) -> bool) {
        let Session { subscriptions, tickets, .. } = self;
        let has_no_local = |filter: &str| {
            subscriptions
                .iter()
                .any(|it| it.is_current() && it.options.no_local && it.text == filter)
        };
        for ticket in tickets.iter_mut().filter(|it| is_of_topic(it.emission)) {
            ticket.waived |= is_lost || has_no_local(&ticket.filter);
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
        let is_kept = self.is_retained(seen.shard, emission);
        let is_lost = self.retained[seen.shard].message(&publication.topic).is_none()
            || (is_kept && publication.expires_at.is_some());
        for session in self.sessions.iter_mut().filter(|it| it.home == seen.shard) {
            let own = publication.publisher == session.client_id;
            let asking = session.subscriptions.iter().filter(|it| {
                it.has_asked
                    && it.is_current()
                    && !(own && it.options.no_local)
                    && matches(&it.text, &publication.topic)
            });
            let live = session
                .subscriptions
                .iter()
                .filter(|it| it.share().is_none() && it.is_current())
                .filter(|it| !(own && it.options.no_local))
                .filter(|it| matches(&it.text, &publication.topic));
            let retain = live.clone().any(|it| it.options.retain_as_published);
            let qos = live.map(|it| it.options.qos.min(publication.qos)).max();
            let tickets = asking.map(|it| Ticket {
                emission,
                qos: it.options.qos,
                identifier: it.identifier,
                filter: it.text.clone(),
                certain: false,
                since: seen.step,
                until: None,
                live: qos.map(|qos| Live { qos, retain }),
                waived: false,
            });
            let tickets: Vec<Ticket> = tickets.collect();
            session.tickets.extend(tickets);
            let is_of_topic = |other: usize| {
                other != emission && self.emissions[other].publication.topic == publication.topic
            };
            if is_lost || (own && is_kept) {
                session.waive(is_lost, is_of_topic);
            }
        }
    }

    /// After the call: who has got the message live, or has it in its queue, has not missed it.
    pub(super) fn settle_misses(&mut self, seen: &Seen<'_>) {
        let (splits, (before, after)) = (self.splits(), seen.counters);
        let kept_drops = after.dropped_queue_full + after.dropped_too_large
            > before.dropped_queue_full + before.dropped_too_large;
        let drops = kept_drops || after.dropped_outbox_full > before.dropped_outbox_full;
        for session in self.sessions.iter_mut().filter(|it| it.home == seen.shard) {
            let got = &session.got;
            session.tickets.retain(|ticket| {
                // A message that takes several turns is got or missed in a later call.
                let Some(live) = ticket.live.filter(|_| ticket.since == seen.step && !splits)
                else {
                    return true;
                };
                let kept = live.qos > QoS::AtMostOnce && !kept_drops;
                // With RETAIN a live message looks like a replayed one.
                let came = got.contains(&ticket.emission) && !(live.retain && drops);
                !kept && !came
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
                let known = !self.is_disputed(topic);
                // What comes live at QoS 0 over several turns misses a client that has gone.
                let known =
                    known && !(self.splits() && session.has_had_least_qos(ticket, publication.qos));
                if alive && known && !ticket.waived && !self.has_later(session, ticket, at) {
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
