//! The trie against a list of subscriptions, and section 4.7.

use std::collections::{BTreeMap, BTreeSet};

use ringmq::{
    base::{
        hash::Seed,
        ids::{ShardId, SubscriberId},
    },
    routing::{Entry, Matches, Options, Trie},
    topic::{TopicFilter, TopicName},
};

use super::{matching::matches, script::Script};

struct Twins {
    trie: Trie,
    matches: Matches,
    subscriptions: BTreeMap<(String, u32), Entry>,
    interest: BTreeSet<(String, usize)>,
}

pub(super) fn check(input: &[u8]) {
    let mut script = Script::new(input);
    let mut twins = Twins {
        trie: Trie::new(SEED),
        matches: Matches::default(),
        subscriptions: BTreeMap::new(),
        interest: BTreeSet::new(),
    };
    while let Some(operation) = script.operation(5) {
        let filter = topic(&mut script, &FILTER_LEVELS);
        let number = script.choice(40);
        match operation {
            0 => twins.subscribe(&filter, number, script.byte()),
            1 => twins.unsubscribe(&filter, number),
            2 => twins.add_interest(&filter, number),
            3 => twins.remove_interest(&filter, number),
            _ => twins.publish(&topic(&mut script, &NAME_LEVELS)),
        }
    }
    twins.empty();
}

/// Up to four levels. A filter that is none is made one by leaving the rest out.
fn topic(script: &mut Script<'_>, levels: &[&'static str]) -> String {
    let mut text = String::from(script.pick(levels));
    for _ in 0..script.choice(4) {
        if text.ends_with('#') {
            break;
        }
        text.push('/');
        text.push_str(script.pick(levels));
    }
    if text.is_empty() { "a".to_owned() } else { text }
}

fn parsed(filter: &str) -> TopicFilter<'_> {
    TopicFilter::parse(filter).expect("it is made as one")
}

fn shard(number: u8) -> ShardId {
    ShardId::new(usize::from(number)).expect("few shards")
}

impl Twins {
    fn subscribe(&mut self, filter: &str, subscriber: u8, options: u8) {
        let entry = Entry {
            subscriber: SubscriberId(u32::from(subscriber)),
            options: Options(options),
            subscription_id: u32::from(options / 2),
        };
        let first = !self.subscriptions.keys().any(|(other, _)| other == filter);
        let replaced = self.subscriptions.insert((filter.to_owned(), entry.subscriber.0), entry);
        let subscribed = self.trie.subscribe(parsed(filter), entry);
        assert_eq!((subscribed.first, subscribed.replaced), (first, replaced));
    }

    fn unsubscribe(&mut self, filter: &str, subscriber: u8) {
        let subscriber = SubscriberId(u32::from(subscriber));
        let entry = self.subscriptions.remove(&(filter.to_owned(), subscriber.0));
        let last = !self.subscriptions.keys().any(|(other, _)| other == filter);
        let removed = self.trie.unsubscribe(parsed(filter), subscriber);
        let known = entry.map(|entry| (entry, last));
        assert_eq!(removed.map(|removed| (removed.entry, removed.last)), known);
    }

    fn add_interest(&mut self, filter: &str, number: u8) {
        // A shard tells the others once.
        if self.interest.insert((filter.to_owned(), usize::from(number))) {
            self.trie.add_interest(parsed(filter), shard(number));
        }
    }

    fn remove_interest(&mut self, filter: &str, number: u8) {
        let news = self.interest.remove(&(filter.to_owned(), usize::from(number)));
        assert_eq!(self.trie.remove_interest(parsed(filter), shard(number)), news);
    }

    fn publish(&mut self, name: &str) {
        let parsed = TopicName::parse(name).expect("it is made as one");
        self.trie.matches(parsed, &mut self.matches);
        let targets = self.matches.targets().iter();
        let entries = targets.flat_map(|&target| self.trie.subscribers(target));
        let mut found: Vec<_> = entries.map(key).collect();
        let naive = self.subscriptions.iter().filter(|((filter, _), _)| matches(filter, name));
        let mut expected: Vec<_> = naive.map(|(_, entry)| key(entry)).collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{name}");
        let wanting = self.interest.iter().filter(|(filter, _)| matches(filter, name));
        let wanting: BTreeSet<usize> = wanting.map(|&(_, shard)| shard).collect();
        let shards: Vec<usize> = self.matches.shards().iter().map(ShardId::index).collect();
        assert!(shards.into_iter().eq(wanting), "{name}");
    }

    /// Nothing is left of a trie that has been emptied.
    fn empty(mut self) {
        for (filter, subscriber) in self.subscriptions.into_keys() {
            self.trie.unsubscribe(parsed(&filter), SubscriberId(subscriber)).expect("it is there");
        }
        for (filter, index) in self.interest {
            assert!(self.trie.remove_interest(parsed(&filter), ShardId::new(index).expect("few")));
        }
        assert_eq!(self.trie.sizes(), Trie::new(SEED).sizes());
    }
}

fn key(entry: &Entry) -> (u32, u8, u32) {
    (entry.subscriber.0, entry.options.0, entry.subscription_id)
}

const SEED: Seed = Seed::new(11);
const FILTER_LEVELS: [&str; 7] = ["a", "b", "+", "#", "", "$x", "longer than all others"];
const NAME_LEVELS: [&str; 5] = ["a", "b", "", "$x", "longer than all others"];
