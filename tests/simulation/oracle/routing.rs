//! Where messages go: to every session with a subscription that matches, and into the retained
//! messages of every shard.

use std::collections::BTreeMap;

use ringmq::{
    base::time::{Moment, Span},
    mqtt::QoS,
    session::message::MessageView,
    shard::letter::{Letter, LetterBatch},
};

use super::{
    Event, Oracle, Seen,
    model::{Emission, Expected, Publication, Session, Subscription},
    sessions::has_struck,
};
use crate::matching::matches;
use crate::plan::START;
use crate::violation::{Violation, ensure};

/// The retained messages of one shard: time, shard and message of the change that decides.
#[derive(Debug, Default)]
pub(super) struct Replica {
    pub(super) topics: BTreeMap<String, (u64, usize, Option<usize>)>,
    /// The time of the latest change made or seen here.
    time: u64,
    swept_at: Option<Moment>,
    /// The step in which a message was replaced, removed or swept away.
    superseded: BTreeMap<usize, u64>,
}

impl Replica {
    pub(super) fn message(&self, topic: &str) -> Option<usize> {
        self.topics.get(topic)?.2
    }

    /// How many messages there are, those that have expired left out.
    pub(super) fn count(&self, emissions: &[Emission], now: Moment) -> usize {
        let messages = self.topics.values().filter_map(|(_, _, message)| *message);
        messages.filter(|&message| !emissions[message].publication.has_expired(now)).count()
    }

    /// Whether another message has taken the place of this one before a step.
    pub(super) fn was_superseded_before(&self, emission: usize, step: u64) -> bool {
        self.superseded.get(&emission).is_some_and(|&at| at < step)
    }

    fn apply(&mut self, topic: &str, change: (u64, usize, Option<usize>), step: u64) {
        self.time = self.time.max(change.0);
        let known = self.topics.get(topic).map(|known| (known.0, known.1));
        if known.is_none_or(|known| known < (change.0, change.1)) {
            let former = self.topics.insert(topic.to_owned(), change);
            if let Some((_, _, Some(former))) = former {
                self.superseded.insert(former, step);
            }
        }
    }
}

impl Oracle {
    /// A message enters the broker on this shard.
    pub(super) fn route(&mut self, seen: &Seen<'_>, publication: Publication) {
        let retention = if publication.retain { self.retention(seen, &publication) } else { None };
        let emission = self.emissions.len();
        let again = self.emissions.iter_mut().filter(|it| {
            !publication.payload.is_empty() && it.publication.payload == publication.payload
        });
        // Messages without a payload cannot be told apart either.
        let again = again.map(|it| it.again = true).count() > 0 || publication.payload.is_empty();
        let (shard, step) = (seen.shard, seen.step);
        self.emissions.push(Emission { publication, shard, step, retention, again });
        self.note_debts(emission);
        self.arrive(seen, emission);
        for to in (0..self.shards).filter(|&to| to != shard) {
            self.underway[shard][to].push_back(emission);
        }
    }

    /// What the message changes of the retained ones.
    fn retention(&self, seen: &Seen<'_>, publication: &Publication) -> Option<(u64, bool)> {
        let replica = &self.retained[seen.shard];
        let former = replica.message(&publication.topic);
        let mut removes = publication.payload.is_empty();
        let former = former.filter(|&it| !self.emissions[it].publication.has_expired(seen.now));
        let full = replica.count(&self.emissions, seen.now) >= self.limits.retained_max;
        if !removes && former.is_none() && full {
            former?;
            removes = true;
        }
        Some((seen.now.as_nanos().max(replica.time + 1), removes))
    }

    /// Everything that another shard has said up to this step has arrived. Only of a message that
    /// takes several turns, and changes the retained ones, the letter may still come.
    pub(super) fn take_letters(&mut self, seen: &Seen<'_>, from: usize, upto: u64) {
        let splits = self.splits();
        let may_come = |emission: &Emission| splits && emission.retention.is_some();
        let emissions = &self.emissions;
        let underway = &mut self.underway[from][seen.shard];
        let said = underway.partition_point(|&it| emissions[it].step <= upto);
        let rest = underway.split_off(said);
        let (arrived, late): (Vec<usize>, _) =
            underway.iter().partition(|&&it| !may_come(&emissions[it]));
        *underway = late.into_iter().chain(rest).collect();
        for emission in arrived {
            self.arrive(seen, emission);
        }
    }

    /// So many letters of a batch have arrived, in their order.
    pub(super) fn take_one_by_one(
        &mut self,
        seen: &Seen<'_>,
        from: usize,
        (batch, handled): (&LetterBatch, usize),
    ) {
        for letter in batch.iter().take(handled) {
            match letter {
                Letter::Publish(publish) => self.take_letter(seen, from, &batch.open(publish).view),
                Letter::AskPlace { .. } => self.evict_for_other(seen),
                _ => {}
            }
        }
    }

    fn take_letter(&mut self, seen: &Seen<'_>, from: usize, view: &MessageView<'_>) {
        let is_this = |publication: &Publication| {
            publication.topic == view.topic.as_str()
                && publication.payload == view.payload.as_slice()
        };
        let underway = &self.underway[from][seen.shard];
        let place = underway.iter().position(|&it| is_this(&self.emissions[it].publication));
        if self.splits() {
            let emission = place.and_then(|place| self.underway[from][seen.shard].remove(place));
            return emission.into_iter().for_each(|emission| self.arrive(seen, emission));
        }
        // Others before it were not for this shard.
        for _ in 0..place.map_or(0, |place| place + 1) {
            let emission = self.underway[from][seen.shard].pop_front();
            self.arrive(seen, emission.expect("it has just been found"));
        }
    }

    /// A message has come to a shard: to its retained messages and to its sessions.
    fn arrive(&mut self, seen: &Seen<'_>, number: usize) {
        let emission = &self.emissions[number];
        if let Some((time, removes)) = emission.retention {
            let change = (time, emission.shard, (!removes).then_some(number));
            self.retained[seen.shard].apply(&emission.publication.topic, change, seen.step);
        }
        let reaches = self.surely_reaches(seen, emission);
        let mut additions = Vec::new();
        for (at, session) in self.sessions.iter().enumerate() {
            let gone = session.ended_at.is_some_and(|ended| ended < seen.step);
            if session.home == seen.shard
                && !gone
                && let Some(mut expected) = self.expect(seen, session, number, reaches)
            {
                expected.immediate &= !self.splits();
                additions.push((at, expected));
            }
        }
        for (at, expected) in additions {
            self.sessions[at].expected.push(expected);
        }
        self.note_possible_misses(seen, number);
    }

    /// Whether the publisher's shard must have known that somebody here wants this message.
    fn surely_reaches(&self, seen: &Seen<'_>, emission: &Emission) -> bool {
        if emission.shard == seen.shard || emission.retention.is_some() {
            return true;
        }
        let here = self.sessions.iter().filter(|session| session.home == seen.shard);
        here.flat_map(|session| &session.subscriptions).any(|subscription| {
            subscription.share().is_none()
                && subscription.acknowledged_at.is_some_and(|at| at < emission.step)
                && subscription.until.is_none_or(|until| until > emission.step)
                && matches(&subscription.text, &emission.publication.topic)
        })
    }

    /// Retained messages whose time has passed are swept away now and then.
    pub(super) fn sweep(&mut self, seen: &Seen<'_>) {
        let emissions = &self.emissions;
        let replica = &mut self.retained[seen.shard];
        let first = START + SWEEP_SPAN;
        if !has_struck(replica.swept_at.unwrap_or(first), seen.now) {
            return;
        }
        replica.swept_at = Some(seen.now + SWEEP_SPAN);
        for (_, _, message) in replica.topics.values_mut() {
            let expired = |&mut message: &mut usize| {
                emissions[message].publication.expires_at.is_some_and(|at| at <= seen.now)
            };
            // An earlier message may still come from another shard: it does not take its place.
            if let Some(swept) = message.take_if(expired) {
                replica.superseded.insert(swept, seen.step);
            }
        }
    }

    /// The retained messages of a shard that match a filter.
    pub(super) fn retained_for(&self, shard: usize, filter: &str) -> Vec<usize> {
        let kept = self.retained[shard].topics.iter();
        kept.filter(|(topic, _)| matches(filter, topic))
            .filter_map(|(_, (_, _, message))| *message)
            .collect()
    }

    /// Whether this was the retained message of its topic at some time of this call.
    pub(super) fn was_retained(&self, seen: &Seen<'_>, emission: usize) -> bool {
        let superseded = self.retained[seen.shard].superseded.get(&emission);
        superseded.is_none_or(|&step| step >= seen.step)
    }

    /// Whether the naive broker does not know the retained message of a topic: messages take
    /// several turns, and two shards have changed it.
    pub(super) fn is_disputed(&self, topic: &str) -> bool {
        let changes = || {
            let all = self.emissions.iter().filter(|it| it.retention.is_some());
            all.filter(|it| it.publication.topic == topic).map(|it| it.shard)
        };
        self.splits() && changes().any(|shard| changes().any(|other| other != shard))
    }

    /// Whether this is still the retained message of its topic on a shard.
    pub(super) fn is_retained(&self, shard: usize, emission: usize) -> bool {
        let topic = &self.emissions[emission].publication.topic;
        self.retained[shard].message(topic) == Some(emission)
    }

    /// Messages that nobody keeps were sent at once, or counted.
    pub(super) fn check_immediate(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        let mut missing = Vec::new();
        for session in &mut self.sessions {
            if session.home != seen.shard {
                continue;
            }
            // Whoever goes in the same call may have gone before.
            let lenient = matches!(seen.event, Event::Time | Event::Stop);
            let present = !lenient || session.link.is_some();
            session.expected.retain(|expected| {
                if expected.immediate && expected.certain && present {
                    let publication = &self.emissions[expected.emission].publication;
                    let payload = String::from_utf8_lossy(&publication.payload);
                    missing.push(format!("{} for {}", payload.trim(), session.client_id));
                }
                !expected.immediate
            });
        }
        self.settle_misses(seen);
        let (before, after) = seen.counters;
        let dropped = after.dropped_outbox_full - before.dropped_outbox_full
            + after.dropped_too_large
            - before.dropped_too_large;
        ensure(missing.len() as u64 <= dropped, "a message at QoS 0 is sent or counted", || {
            format!("{missing:?} were not sent, and {dropped} counted")
        })
    }
}

impl Oracle {
    /// What a session is to get of a message, if anything.
    ///
    /// Packets and letters are taken in their order, so that it is known who subscribes to what at
    /// that moment. Timers fire in any order: a session may have ended before or after another's
    /// Will.
    fn expect(
        &self,
        seen: &Seen<'_>,
        session: &Session,
        number: usize,
        reaches: bool,
    ) -> Option<Expected> {
        let emission = &self.emissions[number];
        let publication = &emission.publication;
        let exact = !matches!(seen.event, Event::Time | Event::Stop);
        let own = publication.publisher == session.client_id;
        let counts = |it: &&Subscription| {
            it.is_current() || (!exact && it.until.is_some_and(|until| until >= seen.step))
        };
        let all: Vec<&Subscription> = session
            .subscriptions
            .iter()
            .filter(|it| counts(it) && it.share().is_none())
            .filter(|it| !(own && it.options.no_local) && matches(&it.text, &publication.topic))
            .collect();
        let highest = all.iter().map(|it| publication.qos.min(it.options.qos)).max()?;
        // A client that comes back before its turn is sent a message at QoS 0.
        if highest == QoS::AtMostOnce && session.link.is_none() && !self.splits() {
            return None;
        }
        let mut identifiers: Vec<u32> =
            all.iter().map(|it| it.identifier).filter(|&identifier| identifier > 0).collect();
        identifiers.sort_unstable();
        Some(Expected {
            emission: number,
            certain: reaches && all.iter().all(|it| it.is_current()),
            qos: highest,
            immediate: highest == QoS::AtMostOnce,
            retain: publication.retain && all.iter().any(|it| it.options.retain_as_published),
            identifiers,
            since: seen.step,
        })
    }
}

/// How often a shard looks for retained messages whose time has passed.
const SWEEP_SPAN: Span = Span::from_secs(5);
