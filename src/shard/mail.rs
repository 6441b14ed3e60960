//! What other shards have to say.

use super::{
    Shard,
    deliver::Origin,
    letter::{Arrived, Letter, LetterBatch, PublishLetter},
    ports::Ports,
    pressure::Publisher,
    retain::Retention,
};
use crate::{
    base::ids::ShardId,
    routing::Counts,
    session::message::MessageView,
    topic::{SharedFilter, TopicFilter},
};

impl Shard {
    pub(super) fn read_letters(
        &mut self,
        from: ShardId,
        letters: &LetterBatch,
        ports: &mut impl Ports,
    ) {
        let heard = self.interest_heard[from.index()];
        for letter in letters.iter() {
            match letter {
                Letter::Publish(publish) => {
                    self.read_publish(from, publish, letters.open(publish), ports);
                }
                Letter::Interest { filter, wanted } => {
                    self.read_interest(from, letters.filter(*filter), *wanted);
                }
                Letter::InterestApplied { upto } => self.read_applied(from, *upto, ports),
                Letter::Group { share, filter, counts } => {
                    self.read_group(from, letters.group(*share, *filter), *counts);
                }
                // One that has gone meanwhile has nothing to wait for.
                Letter::Press { publisher } => self.press(*publisher),
                Letter::Ease { publisher } => self.unpress(*publisher, ports),
                Letter::Counters(counters) => {
                    self.heard_counters[from.index()] = (**counters).clone();
                }
            }
        }
        let upto = self.interest_heard[from.index()];
        if upto != heard {
            ports.letters(from).push(Letter::InterestApplied { upto });
        }
    }

    fn read_publish(
        &mut self,
        from: ShardId,
        letter: &PublishLetter,
        arrived: Arrived<'_>,
        ports: &mut impl Ports,
    ) {
        if let Some(time) = letter.retained_at {
            let retention = Retention { time, removes: letter.removes_retained };
            self.retain(&arrived.view, retention, from);
        }
        if letter.to_subscribers {
            self.trie.matches(arrived.view.topic, &mut self.routes.matches);
            self.deliver_matches(&arrived.view, ports);
        }
        for group in arrived.groups.iter() {
            self.serve_group(&arrived.view, group, letter.hops, ports);
        }
        let publisher = arrived.publisher.map(|connection| Publisher { shard: from, connection });
        self.hold_for_crowded(publisher, ports);
    }

    /// Gives a message to a member of one group; passes it on when there is none here any more
    /// and another shard has one.
    fn serve_group(
        &mut self,
        view: &MessageView<'_>,
        shared: SharedFilter<'_>,
        hops: u8,
        ports: &mut impl Ports,
    ) {
        let Some(group) = self.groups.find(shared) else {
            self.counters.dropped_no_member += 1;
            return;
        };
        if self.groups.may_serve(group) || usize::from(hops) > self.settings.shards {
            let selector = self.selector(view, group, ports);
            self.deliver_to_member(view, group, selector, Origin::of(hops), ports);
        } else {
            self.pass_to_group(view, group, hops + 1, ports);
        }
    }

    fn read_interest(&mut self, from: ShardId, filter: TopicFilter<'_>, wanted: bool) {
        self.interest_heard[from.index()] += 1;
        if wanted {
            self.trie.add_interest(filter, from);
        } else {
            self.trie.remove_interest(filter, from);
        }
    }

    fn read_group(&mut self, from: ShardId, shared: SharedFilter<'_>, counts: Counts) {
        self.interest_heard[from.index()] += 1;
        self.groups.set_remote(&mut self.trie, shared, from, counts);
    }

    fn read_applied(&mut self, from: ShardId, upto: u64, ports: &mut impl Ports) {
        if self.interest_acks.acknowledged(from, upto) {
            self.send_pending_subacks(ports);
        }
    }
}
