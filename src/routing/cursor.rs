//! Reading retained messages a few at a time, as fast as the subscriber takes them.
//!
//! The store may change in any way between two steps, because a cursor remembers a Topic Name and
//! not a place in the tree. It skips messages that were stored after it was opened, except those
//! that the subscriber has [`Missed`].

use super::{
    missed::Missed,
    retained::{Kept, Retainable, RetainedStore},
};
use crate::topic::{OwnedTopicFilter, TopicFilter, TopicName};

/// One subscription's way through the store.
#[derive(Debug)]
pub struct Cursor {
    filter: OwnedTopicFilter,
    progress: Progress,
    /// The last name looked at.
    position: String,
    /// The store's sequence when the cursor was opened.
    started_at: u64,
    /// Updates up to this one are left out if the subscriber has made them itself.
    not_own_until: u64,
}

/// The result of a step of a [`Cursor`].
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a, M> {
    /// The next message that matches, with its Topic Name.
    Found(TopicName<'a>, &'a M),
    /// The budget is spent; there may be more.
    Pause,
    /// All has been read.
    End,
}

/// ```text
///   Unread --first name--> Scanning --last name--> Ended
///      '-------- a filter without wildcards -------^
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Unread,
    Scanning,
    Ended,
}

impl<M: Retainable> RetainedStore<M> {
    /// The next message that the cursor's filter matches. `missed` are the updates that the
    /// subscriber has not got. Looks at no more than `budget` entries, and subtracts their number
    /// from it.
    pub fn next(&self, cursor: &mut Cursor, missed: &Missed, budget: &mut usize) -> Step<'_, M> {
        if cursor.progress == Progress::Unread {
            if !spend(budget) {
                return Step::Pause;
            }
            if let Some(found) = self.read_first(cursor, missed) {
                return found;
            }
        }
        match cursor.progress {
            Progress::Ended => Step::End,
            _ => self.scan(cursor, missed, budget),
        }
    }

    /// Looks at the one name outside of the range: the filter itself if it has no wildcard,
    /// otherwise the parent level, which `#` matches too.
    fn read_first(&self, cursor: &mut Cursor, missed: &Missed) -> Option<Step<'_, M>> {
        let filter = cursor.filter.as_filter();
        let prefix = filter.literal_prefix();
        let (first, progress) = if filter.has_wildcard() {
            (prefix.strip_suffix('/').unwrap_or(prefix), Progress::Scanning)
        } else {
            (prefix, Progress::Ended)
        };
        cursor.position.push_str(first);
        cursor.progress = progress;
        let place = self.kept.find(|kept| kept.name().cmp(first)).ok()?;
        let kept = self.kept.at(place);
        let message = cursor.choose(kept, missed)?;
        Some(Step::Found(kept.change.topic(), message))
    }

    fn scan(&self, cursor: &mut Cursor, missed: &Missed, budget: &mut usize) -> Step<'_, M> {
        let mut last = None;
        let (from, is_read) = cursor.bound();
        let from = self.kept.find(|kept| kept.name().cmp(from));
        let skipped = usize::from(is_read && from.is_ok());
        let (Ok(from) | Err(from)) = from;
        for kept in self.kept.from(from).skip(skipped) {
            let name = kept.change.topic();
            if !name.as_str().starts_with(cursor.filter().literal_prefix()) {
                break;
            }
            if !spend(budget) {
                cursor.move_to(last);
                return Step::Pause;
            }
            if let Some(message) = cursor.choose(kept, missed) {
                cursor.move_to(Some(name));
                return Step::Found(name, message);
            }
            last = Some(name);
        }
        cursor.progress = Progress::Ended;
        Step::End
    }
}

impl Cursor {
    pub(super) fn new(filter: TopicFilter<'_>, started_at: u64) -> Cursor {
        let position = String::new();
        Cursor {
            filter: filter.into(),
            progress: Progress::Unread,
            position,
            started_at,
            not_own_until: 0,
        }
    }

    pub fn filter(&self) -> TopicFilter<'_> {
        self.filter.as_filter()
    }

    /// Goes on behind this name, to which an earlier cursor of the same filter has come.
    pub fn go_on_after(&mut self, name: &str) {
        name.clone_into(&mut self.position);
        let has_wildcard = self.filter().has_wildcard();
        self.progress = if has_wildcard { Progress::Scanning } else { Progress::Ended };
    }

    /// The last name looked at.
    pub fn position(&self) -> &str {
        &self.position
    }

    /// The subscription has No Local, or has it no longer. `latest` is the number of the store's
    /// latest update.
    pub fn set_no_local(&mut self, no_local: bool, latest: u64) {
        self.not_own_until = if no_local { u64::MAX } else { self.not_own_until.min(latest) };
    }

    /// The message, unless the cursor has to skip it.
    fn choose<'a, M>(&self, kept: &'a Kept<M>, missed: &Missed) -> Option<&'a M> {
        let not_own = kept.sequence <= self.not_own_until;
        let timely = kept.sequence <= self.started_at || missed.contains(kept.sequence, not_own);
        let change = &kept.change;
        change.message().filter(|_| timely && self.filter().matches(change.topic()))
    }

    /// The name where to continue in the range of names, and whether it has been read.
    fn bound(&self) -> (&str, bool) {
        let prefix = self.filter().literal_prefix();
        let position = self.position.as_str();
        if position < prefix { (prefix, false) } else { (position, true) }
    }

    fn move_to(&mut self, name: Option<TopicName<'_>>) {
        if let Some(name) = name {
            self.position.clear();
            self.position.push_str(name.as_str());
        }
    }
}

fn spend(budget: &mut usize) -> bool {
    let enough = *budget > 0;
    *budget = budget.saturating_sub(1);
    enough
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{base::ids::ShardId, routing::retained::Stamp, topic::twin};

    fn name(text: &str) -> TopicName<'_> {
        TopicName::parse(text).unwrap()
    }

    fn stamp(time: u64) -> Stamp {
        Stamp { time, shard: ShardId::new(0).unwrap() }
    }

    /// A store that holds every small name, each with its number.
    fn store(names: &[String]) -> RetainedStore<u32> {
        let mut store = RetainedStore::default();
        for (number, text) in (0u32..).zip(names) {
            store.change(name(text), Some(number), stamp(1));
        }
        store
    }

    fn read(store: &RetainedStore<u32>, cursor: &mut Cursor, step: usize) -> Vec<String> {
        let (mut found, mut budget) = (Vec::new(), step);
        loop {
            match store.next(cursor, &Missed::default(), &mut budget) {
                Step::Found(name, _) => found.push(name.as_str().to_owned()),
                Step::Pause => budget = step,
                Step::End => return found,
            }
        }
    }

    /// A list is read in pages, by a new cursor for each.
    #[test]
    fn a_new_cursor_goes_on_where_another_one_stopped() {
        let mut names = twin::names();
        names.sort();
        let store = store(&names);
        for filter in twin::filters() {
            let matching = names.iter().filter(|name| twin::matches(&filter, name));
            let expected: Vec<String> = matching.cloned().collect();
            let (mut found, mut after) = (Vec::new(), None::<String>);
            loop {
                let mut cursor = store.open(TopicFilter::parse(&filter).unwrap());
                if let Some(after) = &after {
                    cursor.go_on_after(after);
                }
                match store.next(&mut cursor, &Missed::default(), &mut 2) {
                    Step::Found(name, _) => found.push(name.as_str().to_owned()),
                    Step::Pause => {}
                    Step::End => break,
                }
                after = Some(cursor.position().to_owned());
            }
            assert_eq!(found, expected, "{filter}");
        }
    }

    /// [MQTT-3.3.1-9]
    #[test]
    fn every_small_filter_finds_what_it_matches_in_order_and_in_any_pace() {
        let mut names = twin::names();
        names.extend(["a!", "a0", "ab/x"].map(str::to_owned));
        names.sort();
        let store = store(&names);
        for filter in twin::filters() {
            let matching = names.iter().filter(|name| twin::matches(&filter, name));
            let expected: Vec<&String> = matching.collect();
            for step in [1, 3, 1_000] {
                let mut cursor = store.open(TopicFilter::parse(&filter).unwrap());
                assert_eq!(read(&store, &mut cursor, step).iter().collect::<Vec<_>>(), expected);
            }
        }
    }

    #[test]
    fn a_filter_without_wildcards_looks_at_one_entry() {
        let names = twin::names();
        let store = store(&names);
        let mut cursor = store.open(TopicFilter::parse("a/b").unwrap());
        let (none, mut budget) = (Missed::default(), 10);
        assert!(matches!(store.next(&mut cursor, &none, &mut budget), Step::Found(_, _)));
        assert_eq!(store.next(&mut cursor, &none, &mut budget), Step::End);
        assert_eq!(budget, 9);
    }

    /// A subscriber has got live what was stored after it subscribed, unless it has missed it.
    #[test]
    fn a_cursor_finds_what_was_there_when_it_was_opened_and_is_there_still() {
        let names = ["a", "b", "c", "d"].map(str::to_owned);
        let mut store = store(&names);
        let mut cursor = store.open(TopicFilter::parse("#").unwrap());
        let mut missed = Missed::default();
        assert_eq!(store.next(&mut cursor, &missed, &mut 2), Step::Found(name("a"), &0));
        store.change(name("b"), None, stamp(2));
        store.change(name("c"), Some(9), stamp(2));
        store.change(name("bb"), Some(9), stamp(2));
        store.change(name("a"), None, stamp(2));
        store.change(name("e"), Some(9), stamp(2));
        missed.note(store.sequence(), false, false);
        let mut rest = std::iter::from_fn(|| match store.next(&mut cursor, &missed, &mut 100) {
            Step::Found(name, &message) => Some((name.as_str().to_owned(), message)),
            Step::Pause | Step::End => None,
        });
        assert_eq!(rest.next(), Some(("d".to_owned(), 3)));
        assert_eq!(rest.next(), Some(("e".to_owned(), 9)));
        assert_eq!(rest.next(), None);
    }

    #[derive(Clone, Debug)]
    enum Operation {
        Store(usize),
        Remove(usize),
        Expire(usize),
        Read(usize),
    }

    fn arb_operation(names: usize) -> impl Strategy<Value = Operation> {
        prop_oneof![
            2 => (0..names).prop_map(Operation::Store),
            1 => (0..names).prop_map(Operation::Remove),
            1 => (0..names).prop_map(Operation::Expire),
            4 => (1..8usize).prop_map(Operation::Read),
        ]
    }

    /// Stores every second name, so that there is something to come and something to go.
    fn half_full(names: &[String]) -> RetainedStore<u32> {
        let mut store = RetainedStore::default();
        for text in names.iter().step_by(2) {
            store.change(name(text), Some(0), stamp(1));
        }
        store
    }

    fn change(store: &mut RetainedStore<u32>, operation: &Operation, names: &[String], now: u64) {
        match *operation {
            Operation::Store(at) => {
                store.change(name(&names[at]), Some(1), stamp(now));
            }
            Operation::Remove(at) => {
                store.change(name(&names[at]), None, stamp(now));
            }
            Operation::Expire(at) => {
                // As an expiry does: by the stamp of the message.
                store.expire_now(name(&names[at]));
            }
            Operation::Read(_) => {}
        }
    }

    proptest! {
        /// Each name that the filter matches is found once, unless its first message has gone
        /// before the cursor came by; and nothing else is found.
        #[test]
        fn reading_and_changing_may_mix_in_any_way(
            filter in prop::sample::select(twin::filters()),
            operations in prop::collection::vec(arb_operation(twin::names().len()), 0..60),
        ) {
            let mut names = twin::names();
            names.sort();
            let mut store = half_full(&names);
            let none = Missed::default();
            let mut owed: Vec<&String> = names.iter().step_by(2).collect();
            owed.retain(|name| twin::matches(&filter, name));
            let mut cursor = store.open(TopicFilter::parse(&filter).unwrap());
            let reads = std::iter::once(Operation::Read(usize::MAX));
            for (operation, now) in operations.into_iter().chain(reads).zip(2..) {
                change(&mut store, &operation, &names, now);
                if let Operation::Read(mut budget) = operation {
                    while let Step::Found(name, message) =
                        store.next(&mut cursor, &none, &mut budget)
                    {
                        let first = owed.remove(0);
                        prop_assert_eq!((first.as_str(), *message), (name.as_str(), 0));
                    }
                } else {
                    let first = |text: &&String| store.get(name(text)) == Some(&0);
                    owed.retain(first);
                }
            }
            prop_assert!(owed.is_empty(), "{:?} not found", owed);
        }
    }
}
