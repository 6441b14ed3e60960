//! The naive list that judges the trie and the groups.

use proptest::prelude::*;

use super::{Counts, Entry, Groups, Matches, Options, Strategies, Trie};
use crate::{
    base::{
        hash::Seed,
        ids::{ShardId, ShardSet, SubscriberId},
    },
    topic::{ShareName, SharedFilter, TopicFilter, TopicName, twin},
};

/// All filters in use, in a list, with everyone who uses them.
#[derive(Default)]
struct List {
    subscriptions: Vec<(String, Entry)>,
    interest: Vec<(String, ShardId)>,
    members: Vec<Member>,
    remote: Vec<(&'static str, String, ShardId, Counts)>,
}

struct Member {
    share: &'static str,
    filter: String,
    entry: Entry,
    online: bool,
}

/// Who gets a message, in an order that does not depend on who says it.
#[derive(Debug, Default, PartialEq)]
struct Audience {
    subscribers: Vec<Entry>,
    groups: Vec<(String, String)>,
    shards: Vec<ShardId>,
}

/// The clever structures, side by side with nothing hidden between them.
struct NaiveRoutes {
    trie: Trie,
    groups: Groups,
    matches: Matches,
}

impl Default for NaiveRoutes {
    fn default() -> NaiveRoutes {
        NaiveRoutes {
            trie: Trie::new(SEED),
            groups: Groups::new(SEED, shard(HERE), Strategies::default()),
            matches: Matches::default(),
        }
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Subscribe(usize, Entry),
    Unsubscribe(usize, u32),
    AddInterest(usize, usize),
    RemoveInterest(usize, usize),
    Join(usize, usize, Entry, bool),
    Leave(usize, usize, u32),
    SetOnline(usize, usize, u32, bool),
    SetRemote(usize, usize, usize, Counts),
    Publish(usize),
}

impl List {
    fn subscribe(&mut self, filter: &str, entry: Entry) -> (Option<Entry>, bool) {
        let first = !self.subscriptions.iter().any(|(other, _)| other == filter);
        let replaced = self.unsubscribe(filter, entry.subscriber.0).map(|(entry, _)| entry);
        self.subscriptions.push((filter.to_owned(), entry));
        (replaced, first)
    }

    fn unsubscribe(&mut self, filter: &str, subscriber: u32) -> Option<(Entry, bool)> {
        let place = self
            .subscriptions
            .iter()
            .position(|(other, entry)| other == filter && entry.subscriber.0 == subscriber)?;
        let (_, entry) = self.subscriptions.remove(place);
        Some((entry, !self.subscriptions.iter().any(|(other, _)| other == filter)))
    }

    fn remove_interest(&mut self, filter: &str, shard: ShardId) -> bool {
        let before = self.interest.len();
        self.interest.retain(|(other, known)| other != filter || *known != shard);
        self.interest.len() < before
    }

    fn add_interest(&mut self, filter: &str, shard: ShardId) -> bool {
        let news = !self.remove_interest(filter, shard);
        self.interest.push((filter.to_owned(), shard));
        news
    }

    fn leave(&mut self, share: &str, filter: &str, subscriber: u32) -> Option<Entry> {
        let place = self.members.iter().position(|member| {
            (member.share, member.filter.as_str()) == (share, filter)
                && member.entry.subscriber.0 == subscriber
        })?;
        Some(self.members.remove(place).entry)
    }

    fn set_online(&mut self, share: &str, filter: &str, subscriber: u32, online: bool) {
        for member in &mut self.members {
            let named = (member.share, member.filter.as_str()) == (share, filter);
            if named && member.entry.subscriber.0 == subscriber {
                member.online = online;
            }
        }
    }

    fn set_remote(&mut self, share: &'static str, filter: &str, at: ShardId, counts: Counts) {
        self.remote.retain(|(s, f, shard, _)| (*s, f.as_str(), *shard) != (share, filter, at));
        if counts.all > 0 {
            self.remote.push((share, filter.to_owned(), at, counts));
        }
    }

    fn counts(&self, share: &str, filter: &str) -> Counts {
        let named = |member: &&Member| (member.share, member.filter.as_str()) == (share, filter);
        let members: Vec<&Member> = self.members.iter().filter(named).collect();
        let online = members.iter().filter(|member| member.online).count();
        Counts { online: narrow(online), all: narrow(members.len()), ..Counts::default() }
    }

    /// The groups with any member anywhere, each once.
    fn groups(&self) -> Vec<(String, String)> {
        let here = self.members.iter().map(|member| (member.share, member.filter.clone()));
        let there = self.remote.iter().map(|(share, filter, _, _)| (*share, filter.clone()));
        let all = here.chain(there).map(|(share, filter)| (share.to_owned(), filter));
        let mut groups: Vec<_> = all.collect();
        groups.sort();
        groups.dedup();
        groups
    }

    fn audience(&self, name: &str) -> Audience {
        let wanted = |filter: &str| twin::matches(filter, name);
        let subscribers = self.subscriptions.iter().filter(|(filter, _)| wanted(filter));
        let mut shards = ShardSet::EMPTY;
        for (_, shard) in self.interest.iter().filter(|(filter, _)| wanted(filter)) {
            shards.insert(*shard);
        }
        Audience {
            subscribers: subscribers.map(|(_, entry)| *entry).collect(),
            groups: self.groups().into_iter().filter(|(_, filter)| wanted(filter)).collect(),
            shards: shards.iter().collect(),
        }
        .sorted()
    }
}

impl Audience {
    fn sorted(mut self) -> Audience {
        self.subscribers.sort_by_key(|e| (e.subscriber, e.subscription_id, e.options.0));
        self.groups.sort();
        self
    }
}

impl NaiveRoutes {
    fn audience(&mut self, name: &str) -> Audience {
        self.trie.matches(TopicName::parse(name).unwrap(), &mut self.matches);
        let mut audience = Audience::default();
        for &target in self.matches.targets() {
            audience.subscribers.extend(self.trie.subscribers(target));
            let places = self.trie.groups(target).iter();
            let keys = places.filter_map(|place| Some(self.groups.key(place.group?)));
            audience.groups.extend(keys.map(|(share, filter)| (share.into(), filter.into())));
        }
        audience.shards = self.matches.shards().iter().collect();
        audience.sorted()
    }
}

/// Does the same to both and compares what they say of it.
fn perform(operation: &Operation, routes: &mut NaiveRoutes, list: &mut List, filters: &[String]) {
    let NaiveRoutes { trie, groups, .. } = routes;
    match *operation {
        Operation::Subscribe(at, entry) => {
            let done = trie.subscribe(filter(&filters[at]), entry);
            assert_eq!((done.replaced, done.first), list.subscribe(&filters[at], entry));
        }
        Operation::Unsubscribe(at, subscriber) => {
            let done = trie.unsubscribe(filter(&filters[at]), SubscriberId(subscriber));
            let expected = list.unsubscribe(&filters[at], subscriber);
            assert_eq!(done.map(|done| (done.entry, done.last)), expected);
        }
        Operation::AddInterest(at, peer) => {
            // A shard tells the others once.
            if list.add_interest(&filters[at], shard(peer)) {
                trie.add_interest(filter(&filters[at]), shard(peer));
            }
        }
        Operation::RemoveInterest(at, peer) => {
            let news = trie.remove_interest(filter(&filters[at]), shard(peer));
            assert_eq!(news, list.remove_interest(&filters[at], shard(peer)));
        }
        Operation::Join(share, at, entry, online) => {
            let joined = groups.join(trie, shared(share, &filters[at]), entry, online);
            let before = list.counts(SHARES[share], &filters[at]);
            let replaced = list.leave(SHARES[share], &filters[at], entry.subscriber.0);
            let filter = filters[at].clone();
            list.members.push(Member { share: SHARES[share], filter, entry, online });
            let changed = list.counts(SHARES[share], &filters[at]) != before;
            assert_eq!((joined.replaced, joined.changed), (replaced, changed));
        }
        Operation::Leave(share, at, subscriber) => {
            let left = groups.leave(trie, shared(share, &filters[at]), SubscriberId(subscriber));
            let entry = list.leave(SHARES[share], &filters[at], subscriber);
            let counts = list.counts(SHARES[share], &filters[at]);
            let left = left.map(|left| (left.entry, unranked(left.counts)));
            assert_eq!(left, entry.map(|entry| (entry, counts)));
        }
        Operation::SetOnline(share, at, subscriber, online) => {
            let before = list.counts(SHARES[share], &filters[at]);
            list.set_online(SHARES[share], &filters[at], subscriber, online);
            let after = list.counts(SHARES[share], &filters[at]);
            if let Some(group) = groups.find(shared(share, &filters[at])) {
                let changed = groups.set_online(group, SubscriberId(subscriber), online);
                assert_eq!((changed, unranked(groups.counts(group))), (before != after, after));
            }
        }
        Operation::SetRemote(share, at, peer, counts) => {
            groups.set_remote(trie, shared(share, &filters[at]), shard(peer), counts);
            list.set_remote(SHARES[share], &filters[at], shard(peer), counts);
        }
        Operation::Publish(at) => {
            let name = &twin::names()[at];
            assert_eq!(routes.audience(name), list.audience(name), "{name}");
        }
    }
}

/// Ends everything that the list still knows of.
fn tear_down(routes: &mut NaiveRoutes, list: &List) {
    for (text, entry) in &list.subscriptions {
        assert!(routes.trie.unsubscribe(filter(text), entry.subscriber).is_some());
    }
    for (text, peer) in &list.interest {
        assert!(routes.trie.remove_interest(filter(text), *peer));
    }
    for Member { share, filter, entry, .. } in &list.members {
        let shared = named(share, filter);
        assert!(routes.groups.leave(&mut routes.trie, shared, entry.subscriber).is_some());
    }
    for (share, filter, peer, _) in &list.remote {
        let none = Counts::default();
        routes.groups.set_remote(&mut routes.trie, named(share, filter), *peer, none);
    }
}

fn assert_empty(routes: &NaiveRoutes) {
    let sizes = routes.trie.sizes();
    assert_eq!((sizes.subscriptions, sizes.targets, sizes.levels, sizes.nodes), (0, 0, 0, 0));
    assert_eq!(routes.groups.len(), 0);
}

fn filter(text: &str) -> TopicFilter<'_> {
    TopicFilter::parse(text).unwrap()
}

fn named<'a>(share: &'a str, text: &'a str) -> SharedFilter<'a> {
    SharedFilter { share: ShareName::parse(share).unwrap(), filter: filter(text) }
}

fn shared(share: usize, text: &str) -> SharedFilter<'_> {
    named(SHARES[share], text)
}

fn shard(index: usize) -> ShardId {
    ShardId::new(index).unwrap()
}

/// The list knows nothing of who came first.
fn unranked(counts: Counts) -> Counts {
    Counts { rank: 0, ..counts }
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap()
}

fn entry(subscriber: u32, subscription_id: u32) -> Entry {
    Entry { subscriber: SubscriberId(subscriber), options: Options(0), subscription_id }
}

fn arb_entry() -> impl Strategy<Value = Entry> {
    (0..SUBSCRIBERS, 0..3u8, 0..3u32).prop_map(|(subscriber, options, subscription_id)| Entry {
        subscriber: SubscriberId(subscriber),
        options: Options(options),
        subscription_id,
    })
}

fn arb_counts() -> impl Strategy<Value = Counts> {
    (0..3u32, 0..3u32).prop_map(|(online, offline)| Counts {
        full: false,
        online,
        all: online + offline,
        rank: 0,
    })
}

fn arb_operation(filters: usize, names: usize) -> impl Strategy<Value = Operation> {
    let (at, share) = (0..filters, 0..SHARES.len());
    let (peer, subscriber) = (1..5usize, 0..SUBSCRIBERS);
    prop_oneof![
        4 => (at.clone(), arb_entry()).prop_map(|(at, entry)| Operation::Subscribe(at, entry)),
        3 => (at.clone(), subscriber.clone())
            .prop_map(|(at, subscriber)| Operation::Unsubscribe(at, subscriber)),
        2 => (at.clone(), peer.clone()).prop_map(|(at, peer)| Operation::AddInterest(at, peer)),
        1 => (at.clone(), peer.clone()).prop_map(|(at, peer)| Operation::RemoveInterest(at, peer)),
        2 => (share.clone(), at.clone(), arb_entry(), any::<bool>())
            .prop_map(|(share, at, entry, online)| Operation::Join(share, at, entry, online)),
        2 => (share.clone(), at.clone(), subscriber.clone())
            .prop_map(|(share, at, subscriber)| Operation::Leave(share, at, subscriber)),
        1 => (share.clone(), at.clone(), subscriber, any::<bool>())
            .prop_map(|(share, at, who, online)| Operation::SetOnline(share, at, who, online)),
        1 => (share, at, peer, arb_counts())
            .prop_map(|(share, at, peer, counts)| Operation::SetRemote(share, at, peer, counts)),
        4 => (0..names).prop_map(Operation::Publish),
    ]
}

const SEED: Seed = Seed::new(42);
const HERE: usize = 0;
const SHARES: [&str; 2] = ["one", "two"];
const SUBSCRIBERS: u32 = 4;

proptest! {
    /// A few filters, so that the operations meet each other.
    #[test]
    fn trie_and_groups_say_what_the_list_says(
        filters in prop::sample::subsequence(twin::filters(), 8),
        operations in prop::collection::vec(arb_operation(8, twin::names().len()), 1..120),
    ) {
        let (mut routes, mut list) = (NaiveRoutes::default(), List::default());
        for operation in &operations {
            perform(operation, &mut routes, &mut list, &filters);
        }
        for name in twin::names() {
            prop_assert_eq!(routes.audience(&name), list.audience(&name));
        }
        prop_assert_eq!(routes.trie.sizes().subscriptions, list.subscriptions.len());
        prop_assert_eq!(routes.groups.len(), list.groups().len());
        tear_down(&mut routes, &list);
        assert_empty(&routes);
    }
}

/// More shapes of filters than are kept as digests, and more levels. They come and go in any order,
/// so that a filter may stay in the trie while others of its shape are kept as digests.
#[test]
fn filters_of_any_shape_are_told_to_the_right_shards() {
    let pick = |dice: u64, shift: u32| match (dice >> shift) % 3 {
        0 => "+",
        1 => "a",
        _ => "b",
    };
    let text = |number: u64| {
        let dice = SEED.hash(&number);
        let levels: Vec<&str> = (0..6).map(|level| pick(dice, 8 * level)).collect();
        let end = if number.is_multiple_of(7) { "/a".repeat(16) } else { String::new() };
        format!("{}{end}/#", levels.join("/"))
    };
    let (mut routes, mut list) = (NaiveRoutes::default(), List::default());
    let names: Vec<String> = (0..20).map(|number| text(number).replace(['+', '#'], "b")).collect();
    for number in 0..2_000u64 {
        let (filter, dice) = (text(number % 300), SEED.hash(&!number));
        let peer = usize::from(dice % 2 == 0) + 1;
        let filters = std::slice::from_ref(&filter);
        let known = list.interest.iter().any(|(other, at)| *other == filter && *at == shard(peer));
        let change = if known { Operation::RemoveInterest } else { Operation::AddInterest };
        perform(&change(0, peer), &mut routes, &mut list, filters);
        let known = list.interest.iter().filter(|(other, _)| *other == filter);
        let mut known: Vec<ShardId> = known.map(|(_, at)| *at).collect();
        known.sort_unstable();
        let (_, shards) = routes.trie.interest(TopicFilter::parse(&filter).unwrap());
        assert!(shards.iter().eq(known), "{filter}");
        let name = &names[usize::try_from(number % 20).unwrap()];
        assert_eq!(routes.audience(name), list.audience(name), "{name}");
    }
    assert!(routes.trie.sizes().nodes > 0, "some do not fit into the digests");
    tear_down(&mut routes, &list);
    assert_empty(&routes);
}

/// [MQTT-4.7.2-1] [MQTT-4.7.3-4] [MQTT-4.7.2-1@3.1.1] [MQTT-4.7.3-4@3.1.1]
#[test]
fn all_small_filters_together_match_every_small_name_as_section_4_7_says() {
    let (mut routes, mut list) = (NaiveRoutes::default(), List::default());
    for (number, text) in (0..).zip(twin::filters()) {
        routes.trie.subscribe(filter(&text), entry(number, 0));
        list.subscribe(&text, entry(number, 0));
    }
    for name in twin::names() {
        assert_eq!(routes.audience(&name), list.audience(&name), "{name}");
    }
    tear_down(&mut routes, &list);
    assert_empty(&routes);
}

#[test]
fn every_pair_of_small_filters_matches_small_names_as_section_4_7_says() {
    let (filters, names) = (twin::filters(), twin::names());
    let table: Vec<Vec<bool>> = filters
        .iter()
        .map(|filter| names.iter().map(|name| twin::matches(filter, name)).collect())
        .collect();
    let parsed: Vec<TopicName<'_>> =
        names.iter().map(|name| TopicName::parse(name).unwrap()).collect();
    let mut routes = NaiveRoutes::default();
    for a in 0..filters.len() {
        routes.trie.subscribe(filter(&filters[a]), entry(1, 0));
        for b in 0..a {
            routes.trie.subscribe(filter(&filters[b]), entry(2, 0));
            for (at, &name) in parsed.iter().enumerate() {
                routes.trie.matches(name, &mut routes.matches);
                let matched = routes.matches.targets().len();
                let expected = usize::from(table[a][at]) + usize::from(table[b][at]);
                assert_eq!(matched, expected, "{} {} {name:?}", filters[a], filters[b]);
            }
            routes.trie.unsubscribe(filter(&filters[b]), SubscriberId(2));
        }
        routes.trie.unsubscribe(filter(&filters[a]), SubscriberId(1));
        assert_empty(&routes);
    }
}
