//! Messages that take several turns: what a session gets of them depends on the moment, and a
//! message that comes live may look like one that is replayed.

use super::{
    Oracle, Seen,
    model::{Emission, Expected, Publication, Subscription, Ticket},
    sent::Sight,
};
use crate::matching::matches;

impl Oracle {
    /// Whether what a session has got is a message that took several turns, which it gets once.
    pub(super) fn find_split(&mut self, sight: &Sight<'_>) -> bool {
        let Some(number) = self.number_of_split(sight) else { return false };
        let session = &mut self.sessions[sight.session];
        // With RETAIN it may be a replayed message, and the live one still comes.
        session.expected.retain(|it| it.emission != number || sight.publish.retain);
        let expected = session.expected.iter_mut().filter(|it| it.emission == number);
        expected.for_each(|it| it.certain = false);
        let tickets = session.tickets.iter_mut().filter(|it| it.emission == number);
        tickets.for_each(|it| it.certain = false);
        session.got.insert(number);
        self.settle_split(sight, number);
        self.note_order(sight, number);
        true
    }

    /// A message that took several turns, and came as the subscriptions of the session said at some
    /// time since it was published. Whoever has subscribed since then gets a message of another
    /// shard only, because its letter came later. Of messages that look alike, nobody knows which
    /// one came.
    fn number_of_split(&self, sight: &Sight<'_>) -> Option<usize> {
        let session = &self.sessions[sight.session];
        // With RETAIN, a replayed message may have been taken for the live one.
        let is_swapped = |number: usize| {
            session.got.contains(&number)
                && (session.tickets.iter().any(|it| it.emission == number && it.until.is_none())
                    || session.expected.iter().any(|it| it.emission == number))
        };
        let may_be = |&number: &usize| {
            let Emission { publication, shard, step, again, .. } = &self.emissions[number];
            let expected = session.expected.iter().any(|it| it.emission == number);
            let late = *again
                || ((*shard != session.home
                    || self.has_lifted_no_local(sight, publication, *step))
                    && !session.got.contains(&number));
            // Of two changes on different shards, nobody knows which one was told later.
            let replayed = sight.publish.retain && self.shards > 1;
            publication.topic == sight.topic
                && publication.payload == sight.publish.payload
                && publication.is_said_by(sight.publish, self.conns[sight.link].version)
                && (publication.retain || !sight.publish.retain)
                && (expected || late || replayed || is_swapped(number))
                && (replayed || is_swapped(number) || self.keeps_order(sight, number))
                && self.has_asked_so(sight, publication, *step)
        };
        (0..self.emissions.len()).filter(|_| self.splits()).find(may_be)
    }

    /// Whether the session has subscribed again, without No Local, to a filter that kept its own
    /// message from it when that was published.
    fn has_lifted_no_local(
        &self,
        sight: &Sight<'_>,
        publication: &Publication,
        since: u64,
    ) -> bool {
        let session = &self.sessions[sight.session];
        let subscriptions = || session.subscriptions.iter().filter(|it| it.share().is_none());
        let mut kept = subscriptions().filter(|it| {
            it.options.no_local
                && it.until.is_some_and(|until| until >= since)
                && matches(&it.text, &sight.topic)
        });
        publication.publisher == session.client_id
            && kept.any(|it| {
                subscriptions().any(|other| !other.options.no_local && other.text == it.text)
            })
    }

    /// Whether subscriptions that the session has had since a step ask for the QoS and all of the
    /// identifiers that a message came with.
    fn has_asked_so(&self, sight: &Sight<'_>, publication: &Publication, since: u64) -> bool {
        let session = &self.sessions[sight.session];
        // No Local is about live messages: a replay brings the client's own, too.
        let own = publication.publisher == session.client_id && !sight.publish.retain;
        let asks = |it: &&Subscription| {
            it.share().is_none()
                && it.until.is_none_or(|until| until >= since)
                && !(own && it.options.no_local)
                && matches(&it.text, &sight.topic)
        };
        let asking = || session.subscriptions.iter().filter(asks);
        let has = |identifier: &u32| asking().any(|it| it.identifier == *identifier);
        asking().any(|it| it.options.qos.min(publication.qos) == sight.qos)
            && sight.identifiers.iter().all(has)
    }

    /// A message that took several turns may have come live as a later subscription says: then it
    /// looks like the replayed one that was taken for it, which still comes.
    pub(super) fn doubt_live(&mut self, sight: &Sight<'_>, ticket: Ticket) {
        let number = ticket.emission;
        let Emission { publication, step, .. } = &self.emissions[number];
        let may_be_live =
            self.splits() && publication.retain && self.has_asked_so(sight, publication, *step);
        let session = &mut self.sessions[sight.session];
        let mut expected = session.expected.iter_mut().filter(|it| it.emission == number);
        if may_be_live && let Some(expected) = expected.next() {
            expected.certain = false;
            session.tickets.push(Ticket { certain: false, ..ticket });
        }
    }

    /// The other way round: a replayed message may have been taken for the live one, which still
    /// comes.
    pub(super) fn doubt_replay(&mut self, seen: &Seen<'_>, sight: &Sight<'_>, expected: Expected) {
        let tickets: Vec<usize> = self.find_tickets(seen, sight, true).collect();
        let splits = self.splits();
        let session = &mut self.sessions[sight.session];
        let is_alike =
            |place: &&usize| splits && session.tickets[**place].emission == expected.emission;
        let alike: Vec<usize> = tickets.iter().filter(is_alike).copied().collect();
        for &place in &alike {
            session.tickets[place].certain = false;
        }
        if !alike.is_empty() {
            session.expected.push(Expected { certain: false, ..expected });
        }
    }

    /// A session has got a message live that took several turns, so it has not missed it. With
    /// RETAIN it may be a replayed one.
    pub(super) fn settle_split(&mut self, sight: &Sight<'_>, emission: usize) {
        if self.splits() && !sight.publish.retain {
            let tickets = &mut self.sessions[sight.session].tickets;
            tickets.retain(|ticket| ticket.live.is_none() || ticket.emission != emission);
        }
    }
}
