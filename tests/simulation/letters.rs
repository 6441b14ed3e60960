//! Letters written anew, with one thing changed.

use std::sync::Arc;

use ringmq::{
    base::ids::ShardId,
    mqtt::QoS,
    routing::{Change, Stamp},
    session::message::Message,
    shard::letter::{Address, GroupKeys, Letter, LetterBatch, PublishLetter},
    topic::{ShareName, TopicFilter},
};

use crate::{planted::Fault, random::Random};

/// How many changes of interest a batch tells.
pub(crate) fn told_in(batch: &LetterBatch) -> u64 {
    let tells = |letter: &&Letter| matches!(letter, Letter::Interest { .. } | Letter::Group { .. });
    batch.iter().filter(tells).count() as u64
}

/// A batch that says that everything up to this number has been applied.
pub(crate) fn applied(upto: u64) -> LetterBatch {
    let mut batch = LetterBatch::default();
    batch.push(Letter::InterestApplied { upto });
    batch
}

/// The batch as it is with this fault.
pub(crate) fn altered(batch: &LetterBatch, fault: Fault, random: &mut Random) -> LetterBatch {
    let mut out = LetterBatch::default();
    for letter in batch.iter() {
        let strikes = random.chance(30);
        match letter {
            Letter::Publish(publish) => write_publish(batch, publish, fault, strikes, &mut out),
            Letter::Interest { filter, wanted } => {
                let lost = if *wanted { Fault::LoseInterest } else { Fault::KeepInterest };
                // A letter about something else, so that the count of changes is right.
                let stray = TopicFilter::from_valid("lost");
                let filter = if fault == lost && strikes { stray } else { batch.filter(*filter) };
                out.push_interest(filter, *wanted);
            }
            Letter::Group { share, filter, counts } => {
                let mut group = batch.group(*share, *filter);
                if fault == Fault::LoseGroup && strikes {
                    group.share = ShareName::from_valid("lost");
                }
                let mut counts = *counts;
                if fault == Fault::IgnoreAbsence {
                    counts.online = counts.all;
                }
                out.push_group(group, counts);
            }
            Letter::InterestApplied { upto } => out.push(Letter::InterestApplied { upto: *upto }),
            &Letter::Press { publisher, patience } => {
                out.push(Letter::Press { publisher, patience });
            }
            Letter::Ease { .. } if fault == Fault::LoseEase => {}
            &Letter::Ease { publisher, patience } => out.push(Letter::Ease { publisher, patience }),
            Letter::AskCounters => out.push(Letter::AskCounters),
            &Letter::AskPlace { connection, newcomer, is_lasting } => {
                out.push(Letter::AskPlace { connection, newcomer, is_lasting });
            }
            &Letter::PlaceLookedFor { connection } => {
                out.push(Letter::PlaceLookedFor { connection });
            }
            Letter::Counters(counters) => out.push(Letter::Counters(counters.clone())),
        }
    }
    out
}

fn write_publish(
    batch: &LetterBatch,
    letter: &PublishLetter,
    fault: Fault,
    strikes: bool,
    out: &mut LetterBatch,
) {
    let arrived = batch.open(letter);
    let mut address = Address {
        to_subscribers: letter.to_subscribers,
        groups: arrived.groups,
        retention: arrived.retention,
        publisher: arrived.publisher,
        recorded: arrived.recorded,
        hops: letter.hops,
    };
    let mut view = arrived.view;
    let stores = arrived.retention.is_some_and(|change| change.message().is_some());
    let aged = Stamp { time: 1, shard: ShardId::FIRST };
    let aged = Arc::new(Change::new(view.topic, stores.then(|| Message::keep(&view)), aged));
    match fault {
        Fault::LoseLetter if strikes => return,
        Fault::LoseInherited if letter.hops > 0 => return,
        Fault::LoseShared if view.qos == QoS::AtMostOnce => address.groups = GroupKeys::default(),
        Fault::RepeatLetter if strikes => out.push_publish(&view, &address),
        Fault::RepeatInherited if letter.hops > 0 => out.push_publish(&view, &address),
        Fault::LoseApplication => view.application = &[],
        Fault::SkipTombstone if !stores => address.retention = None,
        Fault::AgeRetained if address.retention.is_some() => address.retention = Some(&aged),
        _ => {}
    }
    out.push_publish(&view, &address);
}
