//! Handles the letters of other shards.

use super::{
    Shard,
    letter::{Arrived, Letter, LetterBatch, PublishLetter},
    ports::Ports,
    pressure::Publisher,
    retained::Retention,
};
use crate::base::ids::ShardId;

impl Shard {
    pub(super) fn read_letters(
        &mut self,
        from: ShardId,
        letters: &LetterBatch,
        ports: &mut impl Ports,
    ) {
        for letter in letters.iter() {
            match letter {
                Letter::Publish(publish) => {
                    self.read_publish(from, publish, letters.open(publish), ports);
                }
                Letter::Interest { filter, wanted } => {
                    self.interest.hear_filter(from, letters.filter(*filter), *wanted);
                }
                Letter::InterestApplied { upto } => {
                    if self.interest.hear_applied(from, *upto) {
                        self.connections.note_applied(self.interest.applied_everywhere());
                    }
                }
                Letter::Group { share, filter, counts } => {
                    self.interest.hear_group(from, letters.group(*share, *filter), *counts);
                }
                // A publisher that has gone meanwhile is ignored.
                Letter::Press { publisher } => self.connections.press(*publisher),
                Letter::Ease { publisher } => {
                    self.connections.ease(*publisher, self.context.now, ports);
                }
                Letter::AskCounters => self.tell_counters(ports),
                Letter::Counters(counters) => {
                    if self.sys.hear(from, (**counters).clone()) {
                        self.publish_sums(ports);
                    }
                }
            }
        }
        self.interest.confirm(from, ports);
    }

    fn read_publish(
        &mut self,
        from: ShardId,
        letter: &PublishLetter,
        arrived: Arrived<'_>,
        ports: &mut impl Ports,
    ) {
        let update = letter.retained_at.and_then(|time| {
            let retention = Retention { time, removes: letter.removes_retained };
            let applied = self.retained.apply(&arrived.view, retention, from);
            applied.then(|| self.retained.sequence())
        });
        if letter.to_subscribers {
            self.interest.find(arrived.view.topic);
            self.deliver_matches(&arrived.view, update, ports);
        }
        for group in arrived.groups.iter() {
            self.groups().serve_group(&arrived.view, group, letter.hops, ports);
        }
        let publisher = arrived.publisher.map(|connection| Publisher { shard: from, connection });
        self.hold_for_crowded(publisher, ports);
    }
}
