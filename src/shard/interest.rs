//! Interest: which messages this shard's own subscribers, the members of share groups and the other
//! shards want.
//!
//! A shard tells the others each change of its own interest by letter. Each change has a number. A
//! SUBACK waits until all shards have applied the number of its filter. So a message that is
//! published after the SUBACK arrives, through whichever shard it is published.

use std::rc::Rc;

use super::{
    letter::{GroupKeys, Letter},
    ports::Ports,
    settings::Settings,
    unfinished::Steps,
};
use crate::{
    base::{
        hash::Seed,
        ids::{ShardId, ShardSet, SubscriberId},
    },
    routing::{
        Counts, Entry, GroupId, GroupPlace, Groups, InterestAcks, Matches, Selector, Sizes,
        Strategies, Strategy, TargetId, Trie, Walk,
    },
    session::message::MessageView,
    topic::{GroupName, SharedFilter, Subscription, TopicFilter, TopicName},
};

/// The interest of all clients, as this shard knows it.
#[derive(Debug)]
pub(super) struct Interest {
    here: ShardId,
    shards: usize,
    seed: Seed,
    trie: Trie,
    groups: Groups,
    acks: InterestAcks,
    /// How many changes of each other shard were applied here, and how many were confirmed to it.
    heard: Vec<Heard>,
    /// The filters that match the message that is being routed.
    matches: Matches,
}

/// A filter that a walk has found, and who wants it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    pub(super) target: TargetId,
    /// The subscribers here.
    pub(super) entries: &'a [Entry],
    pub(super) groups: &'a [GroupPlace],
    /// The other shards that have subscribers, without those of [`Interest::others_of`].
    pub(super) shards: ShardSet,
}

#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    applied: u64,
    confirmed: u64,
}

impl Interest {
    pub(super) fn new(settings: &Settings, strategies: Strategies) -> Interest {
        let Settings { seed, shard, shards, .. } = *settings;
        Interest::of_shard(shard, shards, seed, strategies)
    }

    fn of_shard(here: ShardId, shards: usize, seed: Seed, strategies: Strategies) -> Interest {
        Interest {
            here,
            shards,
            seed,
            trie: Trie::new(seed),
            groups: Groups::new(seed, here, strategies),
            acks: InterestAcks::new(here, shards),
            heard: vec![Heard::default(); shards],
            matches: Matches::default(),
        }
    }

    /// Sets the strategies for groups that begin from now on. Existing groups keep theirs.
    pub(super) fn set_strategies(&mut self, strategies: Strategies) {
        self.groups.set_strategies(strategies);
    }

    /// Adds or replaces a subscription. Returns the number that its SUBACK waits for.
    /// [MQTT-3.8.4-3]
    pub(super) fn subscribe(
        &mut self,
        subscription: Subscription<'_>,
        entry: Entry,
        ports: &mut impl Ports,
    ) -> u64 {
        match subscription {
            Subscription::Plain(filter) => self.subscribe_plain(filter, entry, ports),
            Subscription::Shared(shared) => self.join_group(shared, entry, ports),
        }
    }

    fn subscribe_plain(
        &mut self,
        filter: TopicFilter<'_>,
        entry: Entry,
        ports: &mut impl Ports,
    ) -> u64 {
        if self.trie.subscribe(filter, entry).first {
            let number = self.tell_filter(filter, true, ports);
            self.trie.set_told_at(filter, number);
        }
        self.trie.told_at(filter)
    }

    fn join_group(
        &mut self,
        shared: SharedFilter<'_>,
        entry: Entry,
        ports: &mut impl Ports,
    ) -> u64 {
        let joined = self.groups.join(&mut self.trie, shared, entry, true);
        if joined.changed {
            self.tell_members(shared, joined.group, ports);
        }
        // The other shards may not have applied an earlier subscription of this member yet.
        self.groups.told_at(joined.group)
    }

    /// Removes a subscription. [MQTT-3.10.4-1] [MQTT-3.10.4-2]
    pub(super) fn unsubscribe(
        &mut self,
        subscription: Subscription<'_>,
        subscriber: SubscriberId,
        ports: &mut impl Ports,
    ) {
        match subscription {
            Subscription::Plain(filter) => {
                let ended = self.trie.unsubscribe(filter, subscriber);
                if ended.is_some_and(|ended| ended.last) {
                    self.tell_filter(filter, false, ports);
                }
            }
            Subscription::Shared(shared) => {
                if let Some(left) = self.groups.leave(&mut self.trie, shared, subscriber) {
                    self.tell_group(shared, left.counts, ports);
                }
            }
        }
    }

    /// A member of a share group has connected or disconnected. True: the group did not know.
    pub(super) fn set_online(
        &mut self,
        shared: SharedFilter<'_>,
        subscriber: SubscriberId,
        online: bool,
        ports: &mut impl Ports,
    ) -> bool {
        let group = self.groups.find(shared).expect("a group lasts as long as its members");
        let is_news = self.groups.set_online(group, subscriber, online);
        if is_news {
            self.tell_members(shared, group, ports);
        }
        is_news
    }

    /// A member of a share group has room again.
    pub(super) fn set_room(&mut self, shared: SharedFilter<'_>, ports: &mut impl Ports) {
        let group = self.groups.find(shared).expect("a group lasts as long as its members");
        self.set_full(group, false, ports);
    }

    /// Notes whether all members here are behind or have no room.
    #[inline]
    pub(super) fn set_full(&mut self, group: GroupId, full: bool, ports: &mut impl Ports) {
        if self.groups.set_full(group, full) {
            let name = Rc::clone(self.groups.name(group));
            self.tell_members(name.as_shared(), group, ports);
        }
    }

    /// Whether another shard has a connected member and, as far as this shard knows, room.
    pub(super) fn others_take(&self, group: GroupId) -> bool {
        self.groups.others_take(group)
    }

    /// Whether any member of the group may get any message.
    pub(super) fn spreads(&self, group: GroupId) -> bool {
        self.groups.strategy(group).spreads()
    }

    /// Whether a member here is connected.
    pub(super) fn has_online(&self, group: GroupId) -> bool {
        self.groups.counts(group).online > 0
    }

    /// The next other shard with members of the group, in the order of shards, if there is one.
    pub(super) fn next_shard(&self, group: GroupId) -> Option<ShardId> {
        self.groups.next_shard(group)
    }

    /// The other members here, those that are connected and those that are not.
    pub(super) fn others(
        &self,
        group: GroupId,
        subscriber: SubscriberId,
    ) -> [impl Iterator<Item = Entry>; 2] {
        self.groups.others(group, subscriber)
    }

    /// Tells all other shards how many members a group has here, and notes the number of this
    /// update.
    fn tell_members(&mut self, shared: SharedFilter<'_>, group: GroupId, ports: &mut impl Ports) {
        let number = self.tell_group(shared, self.groups.counts(group), ports);
        self.groups.set_told_at(group, number);
    }

    /// Tells all other shards that a filter has its first subscriber here, or has lost its last.
    fn tell_filter(
        &mut self,
        filter: TopicFilter<'_>,
        wanted: bool,
        ports: &mut impl Ports,
    ) -> u64 {
        for peer in self.peers() {
            ports.letters(peer).push_interest(filter, wanted);
        }
        self.acks.told()
    }

    /// Tells all other shards how many members a group has here: none if it has ended.
    fn tell_group(
        &mut self,
        shared: SharedFilter<'_>,
        counts: Counts,
        ports: &mut impl Ports,
    ) -> u64 {
        for peer in self.peers() {
            ports.letters(peer).push_group(shared, counts);
        }
        self.acks.told()
    }

    fn peers(&self) -> impl Iterator<Item = ShardId> + use<> {
        let here = self.here;
        ShardId::all(self.shards).filter(move |&shard| shard != here)
    }

    /// The number up to which all other shards have applied what they were told.
    pub(super) fn applied_everywhere(&self) -> u64 {
        self.acks.applied_everywhere()
    }

    /// Whether all other shards have applied all that they were told.
    pub(super) fn is_applied_everywhere(&self) -> bool {
        self.acks.is_applied_everywhere()
    }

    /// Another shard has its first subscriber of a filter, or has lost its last.
    pub(super) fn hear_filter(&mut self, from: ShardId, filter: TopicFilter<'_>, wanted: bool) {
        self.heard[from.index()].applied += 1;
        if wanted {
            self.trie.add_interest(filter, from);
        } else {
            self.trie.remove_interest(filter, from);
        }
    }

    /// Takes the number of members that another shard has of a share group.
    pub(super) fn hear_group(&mut self, from: ShardId, shared: SharedFilter<'_>, counts: Counts) {
        self.heard[from.index()].applied += 1;
        self.groups.set_remote(&mut self.trie, shared, from, counts);
    }

    /// Another shard has applied what it was told up to a number. True:
    /// [`Self::applied_everywhere`] has grown.
    pub(super) fn hear_applied(&mut self, from: ShardId, upto: u64) -> bool {
        self.acks.acknowledged(from, upto)
    }

    /// Confirms to another shard which of its changes are applied here, if it does not know yet.
    pub(super) fn confirm(&mut self, to: ShardId, ports: &mut impl Ports) {
        let heard = &mut self.heard[to.index()];
        if heard.confirmed != heard.applied {
            heard.confirmed = heard.applied;
            ports.letters(to).push(Letter::InterestApplied { upto: heard.applied });
        }
    }

    /// Matches a Topic Name. The functions below return parts of the result. Gives up beyond so
    /// many nodes. Returns the steps that this takes, and that it will take to join the subscribers
    /// of all filters: none for a few.
    #[inline]
    pub(super) fn find(&mut self, name: TopicName<'_>, nodes_max: usize) -> u64 {
        if !self.trie.matches_within(name, nodes_max, &mut self.matches) {
            return 0;
        }
        let filters = self.matches.targets().len();
        (self.matches.reached() / NODES_PER_STEP + filters / FILTERS_PER_STEP) as u64
    }

    /// What it takes to bring the message to all who want it here.
    #[inline]
    pub(super) fn weight(&self) -> Weight {
        let (mut entries, mut groups) = (0, 0);
        for &target in self.matches.targets() {
            let (of_sessions, of_groups) = self.trie.lens(target);
            entries += of_sessions;
            groups += of_groups;
        }
        let steps = entries * Steps::RECEIVER + groups * Steps::LONG_GROUP;
        Weight { steps: if self.matches.is_cut() { usize::MAX } else { steps }, groups }
    }

    /// Each filter that matched, and who wants it.
    pub(super) fn found(&self) -> impl Iterator<Item = Found<'_>> {
        self.matches.targets().iter().map(|&target| found(&self.trie, target))
    }

    /// The other shards that want messages with this name, as far as no walk is needed to find
    /// them.
    pub(super) fn others_of(&self, name: TopicName<'_>) -> ShardSet {
        self.trie.others_of(name)
    }

    /// Whether it was given up to find who wants the message.
    pub(super) fn is_cut(&self) -> bool {
        self.matches.is_cut()
    }

    /// Goes on with a walk. `collect` takes what it finds, and returns the steps that this takes.
    /// True: the walk has ended.
    pub(super) fn walk_on(
        &self,
        name: TopicName<'_>,
        walk: &mut Walk,
        steps: &mut Steps,
        mut collect: impl FnMut(Found<'_>) -> usize,
    ) -> bool {
        self.trie.walk_on(name, walk, steps.left_mut(), |it| collect(found(&self.trie, it)))
    }

    /// The subscription of a session here that has exactly this filter.
    pub(super) fn subscription(
        &self,
        subscription: Subscription<'_>,
        subscriber: SubscriberId,
    ) -> Option<Entry> {
        match subscription {
            Subscription::Plain(filter) => self.trie.subscription(filter, subscriber),
            Subscription::Shared(shared) => {
                self.groups.member(self.groups.find(shared)?, subscriber)
            }
        }
    }

    /// The number of a filter that somebody uses.
    pub(super) fn target(&self, filter: TopicFilter<'_>) -> Option<TargetId> {
        self.trie.target_of(filter)
    }

    /// The number of the latest share group.
    pub(super) fn latest_group(&self) -> u64 {
        self.groups.latest()
    }

    /// The group that had this place when it was read, unless it has ended since.
    pub(super) fn group_at(&self, place: GroupPlace) -> Option<GroupId> {
        self.groups.at(place)
    }

    /// Whether any client wants the message, on this shard or another.
    #[inline]
    pub(super) fn is_wanted(&self) -> bool {
        !self.matches.is_empty()
    }

    /// The other shards that have subscribers of the message.
    #[inline]
    pub(super) fn shards(&self) -> ShardSet {
        self.matches.shards()
    }

    /// How many matching filters have subscribers or share groups on this shard.
    #[inline]
    pub(super) fn matched(&self) -> usize {
        self.matches.targets().len()
    }

    /// The subscribers on this shard of matching filter number `index`.
    #[inline]
    pub(super) fn subscribers(&self, index: usize) -> &[Entry] {
        self.trie.subscribers(self.matches.targets()[index])
    }

    /// The share groups of matching filter number `index`.
    #[inline]
    pub(super) fn groups(&self, index: usize) -> &[GroupPlace] {
        self.trie.groups(self.matches.targets()[index])
    }

    /// The number that decides which member of a group gets this message.
    pub(super) fn selector(
        &self,
        view: &MessageView<'_>,
        group: GroupId,
        ports: &mut impl Ports,
    ) -> Selector {
        Selector(match self.groups.strategy(group) {
            Strategy::RoundRobin | Strategy::LeastInFlight | Strategy::Sticky => 0,
            Strategy::Random => ports.random(),
            Strategy::HashClient => u64::from(view.publisher_hash),
            Strategy::HashTopic => self.seed.hash(view.topic.as_str()),
        })
    }

    /// The shard that chooses the member; `None` if no shard has any.
    pub(super) fn choose_shard(&mut self, group: GroupId, selector: Selector) -> Option<ShardId> {
        self.groups.choose_shard(group, selector)
    }

    /// The member here that gets the message. `load` returns what a member has in flight and
    /// queued.
    pub(super) fn choose_member(
        &mut self,
        group: GroupId,
        selector: Selector,
        load: impl Fn(SubscriberId) -> usize,
    ) -> Option<Entry> {
        self.groups.choose_member(group, selector, load)
    }

    /// Whether a member here may get a message: a member here is connected, or none is on any
    /// shard.
    pub(super) fn may_serve(&self, group: GroupId) -> bool {
        self.groups.may_serve(group)
    }

    pub(super) fn find_group(&self, shared: SharedFilter<'_>) -> Option<GroupId> {
        self.groups.find(shared)
    }

    /// The name of a group. Messages keep it, and it may outlive the group.
    pub(super) fn name(&self, group: GroupId) -> &Rc<GroupName> {
        self.groups.name(group)
    }

    /// Appends the name of a group to those that a letter carries.
    pub(super) fn write_key(&self, group: GroupId, keys: &mut String) {
        GroupKeys::write(keys, self.groups.name(group).as_shared());
    }

    pub(super) fn sizes(&self) -> Sizes {
        self.trie.sizes()
    }

    pub(super) fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// How many sessions here subscribe to exactly this filter, and which other shards want it.
    pub(super) fn of_filter(&self, filter: TopicFilter<'_>) -> (usize, ShardSet) {
        self.trie.interest(filter)
    }

    /// How many members of a group each shard has, as far as this shard knows.
    pub(super) fn members(&self, shared: SharedFilter<'_>) -> Vec<(ShardId, Counts)> {
        self.groups.find(shared).map_or_else(Vec::new, |group| self.groups.all_counts(group))
    }
}

/// What it takes to bring a message to all who want it on a shard.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weight {
    /// At most so many steps; `usize::MAX` if it was given up to find who wants it.
    pub(super) steps: usize,
    /// Share groups that want it.
    pub(super) groups: usize,
}

impl Weight {
    /// What it takes without the share groups.
    #[inline]
    pub(super) fn of_sessions(self) -> usize {
        self.steps - self.groups * Steps::LONG_GROUP
    }
}

/// A step takes some hundred nanoseconds.
const NODES_PER_STEP: usize = 16;
const FILTERS_PER_STEP: usize = 4;

fn found(trie: &Trie, target: TargetId) -> Found<'_> {
    let (entries, groups) = (trie.subscribers(target), trie.groups(target));
    Found { target, entries, groups, shards: trie.shards(target) }
}

#[cfg(test)]
mod tests;
