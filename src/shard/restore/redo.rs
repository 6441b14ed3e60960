//! What shards of the former process were asked for and had not done when it ended.
//!
//! A message that one shard had for another one was written down by the first. If the second one
//! has not written down that it took the message, it is matched again here: against the
//! subscriptions that were at home there.

use std::collections::BTreeSet;

use crate::{
    base::{hash::Seed, ids::ShardId, time::WallTime},
    mqtt::{QoS, SubscriptionOptions},
    shard::letter::GroupKeys,
    storage::{
        Intent, Kept, List, MessageId, MessageRecord, Record, RecordBatch, RefRecord, Restored,
        RestoredSession,
    },
    topic::{SharedFilter, Subscription, TopicName},
};

/// Gives the messages that were on their way between shards to the sessions that they were for.
/// Returns the records with which a process of `shards` shards begins. It must be on disk before
/// any other record of that process.
pub fn redo(restored: &mut Restored, shards: u8, seed: Seed, now: WallTime) -> RecordBatch {
    let mut batch = RecordBatch::default();
    let intents = std::mem::take(&mut restored.intents);
    let messages = std::mem::take(&mut restored.messages);
    let mut given = Given::of(restored);
    for intent in intents {
        let place = messages.binary_search_by_key(&intent.message, id_of);
        let Some(kept) = place.ok().map(|place| &messages[place]) else { continue };
        let Record::Message(message) = kept.record() else { continue };
        if message.expires_at.is_none_or(|at| at > now) {
            let old = Old { shards: restored.shards.max(1), seed };
            give(&mut restored.sessions, &message, intent, old, &mut given, &mut batch);
        }
    }
    restored.messages = messages;
    restored.epoch += 1;
    batch.push(&Record::Epoch { number: restored.epoch, shards });
    batch
}

fn id_of(kept: &Kept) -> MessageId {
    match kept.record() {
        Record::Message(message) => message.id,
        _ => MessageId::default(),
    }
}

/// The homes of clients in the former process.
#[derive(Clone, Copy)]
struct Old {
    shards: u8,
    seed: Seed,
}

impl Old {
    fn is_home(self, client_id: &str, shard: ShardId) -> bool {
        self.seed.hash(client_id) % u64::from(self.shards) == shard.index() as u64
    }
}

/// Which messages sessions and share groups have.
struct Given {
    sessions: BTreeSet<(u64, MessageId)>,
    groups: BTreeSet<(Box<str>, MessageId)>,
}

impl Given {
    fn of(restored: &Restored) -> Given {
        let mut given = Given { sessions: BTreeSet::new(), groups: BTreeSet::new() };
        if restored.intents.is_empty() && restored.sessions.is_empty() {
            return given;
        }
        for session in &restored.sessions {
            for kept in &session.refs {
                let Record::Ref(reference) = kept.record() else { continue };
                given.note(&reference);
            }
        }
        given
    }

    fn note(&mut self, reference: &RefRecord<'_>) {
        match reference.group {
            Some(group) => self.groups.insert((group.into(), reference.message)),
            None => self.sessions.insert((reference.session.0, reference.message)),
        };
    }
}

/// Gives one message to those who should have got it.
fn give(
    sessions: &mut [RestoredSession],
    message: &MessageRecord<'_>,
    intent: Intent,
    old: Old,
    given: &mut Given,
    batch: &mut RecordBatch,
) {
    // In the row of a shard to itself stands what is for everyone.
    let is_for_all = intent.from == intent.to;
    let target = message.targets.iter().find(|it| (it.shard, it.n) == (intent.to, intent.n));
    let to_subscribers = is_for_all || target.is_none_or(|it| it.to_subscribers);
    let is_there = |session: &RestoredSession| {
        let Record::Session(terms) = session.terms.record() else { return false };
        is_for_all || old.is_home(terms.client_id, intent.to)
    };
    let there: Vec<usize> = (0..sessions.len()).filter(|&at| is_there(&sessions[at])).collect();
    let mut groups = groups_for(message.groups, intent.to);
    for &at in &there {
        let matched = Matched::of(&sessions[at], message);
        if to_subscribers && matched.is_any {
            give_to(&mut sessions[at], message, &matched, None, given, batch);
        }
        if is_for_all {
            groups.extend(matched.groups);
        }
    }
    groups.sort();
    groups.dedup();
    for group in groups {
        give_to_group(sessions, &there, message, &group, given, batch);
    }
}

/// The share groups that a shard was to serve, as SUBSCRIBE names them.
fn groups_for(text: &str, shard: ShardId) -> Vec<String> {
    let mut groups = Vec::new();
    let mut rest = text;
    while let Some((own, after)) = rest.split_once(' ')
        && let Some((length, names)) = after.split_once(' ')
        && let Ok(length) = length.parse::<usize>()
        && let Some((keys, after)) = names.split_at_checked(length)
    {
        if own.parse() == Ok(shard.index()) {
            groups.extend(GroupKeys::from_text(keys).iter().map(name_of));
        }
        rest = after;
    }
    groups
}

fn name_of(shared: SharedFilter<'_>) -> String {
    format!("$share/{}/{}", shared.share.as_str(), shared.filter.as_str())
}

/// What the subscriptions of a session say of a message.
#[derive(Default)]
struct Matched {
    is_any: bool,
    qos: Option<QoS>,
    retain_as_published: bool,
    ids: Vec<u32>,
    /// The matching share groups, as SUBSCRIBE names them.
    groups: Vec<String>,
}

impl Matched {
    fn of(session: &RestoredSession, message: &MessageRecord<'_>) -> Matched {
        let mut matched = Matched::default();
        for kept in &session.subscriptions {
            let Record::Subscription { filter, options, subscription_id, .. } = kept.record()
            else {
                continue;
            };
            let Ok(subscription) = Subscription::parse(filter) else { continue };
            if !subscription.filter().matches(TopicName::from_valid(message.topic)) {
                continue;
            }
            let Ok(options) = SubscriptionOptions::from_bits(options) else { continue };
            match subscription {
                Subscription::Plain(_) => matched.join(options, subscription_id),
                Subscription::Shared(_) => matched.groups.push(filter.to_owned()),
            }
        }
        matched
    }

    /// [MQTT-3.3.4-2] [MQTT-3.3.4-3]
    fn join(&mut self, options: SubscriptionOptions, subscription_id: Option<u32>) {
        self.is_any = true;
        self.qos = self.qos.max(Some(options.qos));
        self.retain_as_published |= options.retain_as_published;
        self.ids.extend(subscription_id);
    }
}

/// Gives the message to the member with the fewest messages, unless one of the group has it.
fn give_to_group(
    sessions: &mut [RestoredSession],
    there: &[usize],
    message: &MessageRecord<'_>,
    group: &str,
    given: &mut Given,
    batch: &mut RecordBatch,
) {
    let name = group.strip_prefix("$share/").unwrap_or(group);
    if given.groups.contains(&(name.into(), message.id)) {
        return;
    }
    let options_of = |session: &RestoredSession| {
        session.subscriptions.iter().find_map(|kept| match kept.record() {
            Record::Subscription { filter, options, subscription_id, .. } if filter == group => {
                Some((SubscriptionOptions::from_bits(options).ok()?, subscription_id))
            }
            _ => None,
        })
    };
    // All members may have moved since: then one of another shard takes it.
    let is_member = |&at: &usize| options_of(&sessions[at]).is_some();
    let load = |&at: &usize| sessions[at].refs.len();
    let chosen = there.iter().copied().filter(is_member).min_by_key(load);
    let chosen = chosen.or_else(|| (0..sessions.len()).filter(is_member).min_by_key(load));
    let Some(at) = chosen else { return };
    let Some((options, subscription_id)) = options_of(&sessions[at]) else { return };
    let mut matched = Matched::default();
    matched.join(options, subscription_id);
    give_to(&mut sessions[at], message, &matched, Some(name), given, batch);
}

fn give_to(
    session: &mut RestoredSession,
    message: &MessageRecord<'_>,
    matched: &Matched,
    group: Option<&str>,
    given: &mut Given,
    batch: &mut RecordBatch,
) {
    let qos = message.qos.min(matched.qos.unwrap_or(QoS::AtMostOnce));
    let has_it = group.is_none() && given.sessions.contains(&(session.number.0, message.id));
    if qos == QoS::AtMostOnce || has_it {
        return;
    }
    let ordinal = session.next_ordinal.max(FIRST_ORDINAL);
    let reference = RefRecord {
        session: session.number,
        ordinal,
        message: message.id,
        qos,
        retain: message.retain && matched.retain_as_published,
        subscription_ids: List::Slice(&matched.ids),
        group,
    };
    given.note(&reference);
    let record = Record::Ref(reference);
    // It names no targets any more, and stays because of the reference.
    let body = MessageRecord { targets: List::default(), groups: "", ..*message };
    batch.push(&Record::Message(body));
    batch.push(&record);
    session.refs.push(Kept::new(&record));
    session.next_ordinal = ordinal + 1;
}

const FIRST_ORDINAL: u64 = crate::session::ordinals::Ordinal::FIRST;
