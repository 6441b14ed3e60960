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
    topic::{ShareName, SharedFilter, TopicFilter, TopicName},
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
                    self.read_interest(from, letters.text(*filter), *wanted);
                }
                Letter::InterestApplied { upto } => self.read_applied(from, *upto, ports),
                Letter::Group { share, filter, counts } => {
                    self.read_group(from, letters.text(*share), letters.text(*filter), *counts);
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
        let Ok(name) = TopicName::parse(arrived.view.topic) else { return };
        if let Some(time) = letter.retained_at {
            let retention = Retention { time, removes: letter.removes_retained };
            self.retain(name, &arrived.view, retention, from);
        }
        if letter.to_subscribers {
            self.trie.matches(name, &mut self.routes.matches);
            self.deliver_matches(&arrived.view, ports);
        }
        for (share, filter) in arrived.groups.iter() {
            self.serve_group(&arrived.view, (share, filter), letter.hops, ports);
        }
        let publisher = arrived.publisher.map(|connection| Publisher { shard: from, connection });
        self.hold_for_crowded(publisher, ports);
    }

    /// Gives a message to a member of one group; passes it on when there is none here any more
    /// and another shard has one.
    fn serve_group(
        &mut self,
        view: &MessageView<'_>,
        (share, filter): (&str, &str),
        hops: u8,
        ports: &mut impl Ports,
    ) {
        let group = shared_filter(share, filter).and_then(|shared| self.groups.find(shared));
        let Some(group) = group else {
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

    fn read_interest(&mut self, from: ShardId, filter: &str, wanted: bool) {
        self.interest_heard[from.index()] += 1;
        let Ok(filter) = TopicFilter::parse(filter) else { return };
        if wanted {
            self.trie.add_interest(filter, from);
        } else {
            self.trie.remove_interest(filter, from);
        }
    }

    fn read_group(&mut self, from: ShardId, share: &str, filter: &str, counts: Counts) {
        self.interest_heard[from.index()] += 1;
        if let Some(shared) = shared_filter(share, filter) {
            self.groups.set_remote(&mut self.trie, shared, from, counts);
        }
    }

    fn read_applied(&mut self, from: ShardId, upto: u64, ports: &mut impl Ports) {
        if self.interest_acks.acknowledged(from, upto) {
            self.send_pending_subacks(ports);
        }
    }
}

fn shared_filter<'a>(share: &'a str, filter: &'a str) -> Option<SharedFilter<'a>> {
    let share = ShareName::parse(share).ok()?;
    Some(SharedFilter { share, filter: TopicFilter::parse(filter).ok()? })
}
