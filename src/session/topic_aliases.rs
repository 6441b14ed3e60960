//! The Topic Aliases that the broker has given to topics on one connection.
//!
//! A topic gets an alias when it comes for the second time within a while. When all aliases are in
//! use, an alias that was not used lately is reassigned. So frequent topics keep their aliases,
//! even if there are more topics than aliases. Knows no packets and no outbox: the sender calls
//! [`TopicAliases::set`] when a PUBLISH with a new alias is on its way, and only then is it set.

use std::num::NonZeroU16;

use hashbrown::HashTable;

/// The aliases of one connection, with their topics. [MQTT-3.3.2-7]
#[derive(Debug)]
pub struct TopicAliases {
    /// As many as client and broker both allow, at least one.
    maximum: NonZeroU16,
    /// The topics by their aliases, counted from one. [MQTT-3.3.2-8]
    topics: Vec<Topic>,
    /// Places in `topics`, by the hash of the topic.
    places: HashTable<u16>,
    /// The hand of the CLOCK scan: the place that is checked next when an alias is reassigned.
    hand: u16,
    /// Bytes of all topics.
    bytes: usize,
    /// Topics that were lately sent in full, by a part of their hash. The rest of the hash picks
    /// the set; the latest topic of a set is first.
    lately: Box<[[u16; 4]]>,
}

#[derive(Debug)]
struct Topic {
    name: String,
    hash: u64,
    /// Whether the topic has come since the hand was here last. A new topic counts as used.
    /// Otherwise more topics than aliases, coming in turn, would take them from each other.
    is_used: bool,
}

/// How a PUBLISH names its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    InFull,
    /// In full, together with the alias that is set by this PUBLISH.
    WithAlias(NonZeroU16),
    /// By its alias only.
    ByAlias(NonZeroU16),
}

impl TopicAliases {
    pub fn new(maximum: NonZeroU16) -> TopicAliases {
        let sets = usize::from(maximum.get()).next_power_of_two().clamp(SETS_MIN, SETS_MAX);
        TopicAliases {
            maximum,
            topics: Vec::new(),
            places: HashTable::new(),
            hand: 0,
            bytes: 0,
            lately: vec![[0; 4]; sets].into_boxed_slice(),
        }
    }

    /// Whether an alias saves bytes for this topic.
    pub fn are_worth(topic: &str) -> bool {
        (TOPIC_BYTES_MIN..=BYTES_MAX).contains(&topic.len())
    }

    /// The aliases that are set, with their topics.
    pub fn topics(&self) -> impl Iterator<Item = (u16, &str)> {
        (1..).zip(self.topics.iter().map(|topic| topic.name.as_str()))
    }

    /// How the next PUBLISH to this topic is to name it.
    pub fn name(&mut self, topic: &str, hash: u64) -> Naming {
        let topics = &mut self.topics;
        let found = self.places.find(hash, |&place| topics[usize::from(place)].is(topic, hash));
        if let Some(&place) = found {
            topics[usize::from(place)].is_used = true;
            return Naming::ByAlias(alias_at(place));
        }
        if !TopicAliases::are_worth(topic) || !self.comes_again(hash) {
            return Naming::InFull;
        }
        self.free_place(topic.len()).map_or(Naming::InFull, Naming::WithAlias)
    }

    /// A PUBLISH with this topic and this alias is on its way to the client.
    pub fn set(&mut self, alias: NonZeroU16, topic: &str, hash: u64) {
        let place = alias.get() - 1;
        if let Some(earlier) = self.topics.get_mut(usize::from(place)) {
            let is_it = |&other: &u16| other == place;
            if let Ok(found) = self.places.find_entry(earlier.hash, is_it) {
                found.remove();
            }
            self.bytes -= earlier.name.len();
            earlier.name.clear();
            earlier.name.shrink_to(topic.len());
            earlier.name.push_str(topic);
            (earlier.hash, earlier.is_used) = (hash, true);
            self.hand = (place + 1) % self.maximum;
        } else {
            self.topics.push(Topic { name: topic.to_owned(), hash, is_used: true });
        }
        self.bytes += topic.len();
        let topics = &self.topics;
        self.places.insert_unique(hash, place, |&place| topics[usize::from(place)].hash);
    }

    /// Whether a topic without alias has been sent lately. Notes that it is sent now.
    fn comes_again(&mut self, hash: u64) -> bool {
        let [low, _, a, b, ..] = hash.to_le_bytes();
        let at = usize::from(low) & (self.lately.len() - 1);
        let set = &mut self.lately[at];
        // Zero marks an empty place, so no part of a hash may be zero.
        let part = u16::from_le_bytes([a | 1, b]);
        if !set.contains(&part) {
            set.rotate_right(1);
            set[0] = part;
            return false;
        }
        true
    }

    /// An alias for a topic of `len` bytes: a free one, or that of the topic at the hand unless it
    /// was used since the hand was there last. [MQTT-3.3.2-11]
    fn free_place(&mut self, len: usize) -> Option<NonZeroU16> {
        let count = self.topics.len();
        if count < usize::from(self.maximum.get()) && self.bytes + len <= BYTES_MAX {
            return u16::try_from(count).ok().map(alias_at);
        }
        let place = if usize::from(self.hand) < count { self.hand } else { 0 };
        let oldest = self.topics.get_mut(usize::from(place))?;
        let is_used = std::mem::take(&mut oldest.is_used);
        if is_used || self.bytes - oldest.name.len() + len > BYTES_MAX {
            self.hand = place + 1;
            return None;
        }
        Some(alias_at(place))
    }
}

impl Topic {
    fn is(&self, name: &str, hash: u64) -> bool {
        self.hash == hash && self.name == name
    }
}

fn alias_at(place: u16) -> NonZeroU16 {
    NonZeroU16::MIN.saturating_add(place)
}

/// For a shorter topic an alias saves next to nothing, because the alias takes three bytes.
const TOPIC_BYTES_MIN: usize = 8;
/// Bytes of all topics of one connection, at most.
const BYTES_MAX: usize = 4 << 10;
/// The smallest and the largest number of sets of topics that were sent lately: powers of two.
const SETS_MIN: usize = 8;
const SETS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::Seed;

    /// The two sides of a connection: what the client makes of what it is sent is always right.
    struct Link {
        aliases: TopicAliases,
        client: Vec<Option<String>>,
        sent_in_full: usize,
        bytes: usize,
    }

    impl Link {
        fn new(maximum: u16) -> Link {
            Link {
                aliases: TopicAliases::new(NonZeroU16::new(maximum).unwrap()),
                client: vec![None; usize::from(maximum)],
                sent_in_full: 0,
                bytes: 0,
            }
        }

        fn send(&mut self, topic: &str) -> Naming {
            self.send_if(topic, true)
        }

        fn send_if(&mut self, topic: &str, there_is_room: bool) -> Naming {
            let hash = Seed::new(3).hash(topic);
            let naming = self.aliases.name(topic, hash);
            if !there_is_room {
                return naming;
            }
            match naming {
                Naming::ByAlias(alias) => {
                    let known = self.client[usize::from(alias.get()) - 1].as_deref();
                    assert_eq!(known, Some(topic));
                }
                Naming::WithAlias(alias) => {
                    self.aliases.set(alias, topic, hash);
                    self.client[usize::from(alias.get()) - 1] = Some(topic.to_owned());
                }
                Naming::InFull => {}
            }
            if !matches!(naming, Naming::ByAlias(_)) {
                self.sent_in_full += 1;
                self.bytes += topic.len();
            }
            let held: usize = self.aliases.topics.iter().map(|topic| topic.name.capacity()).sum();
            assert!(held <= 2 * BYTES_MAX && self.aliases.bytes <= BYTES_MAX, "{held}");
            assert_eq!(self.aliases.places.len(), self.aliases.topics.len());
            naming
        }
    }

    fn alias(value: u16) -> NonZeroU16 {
        NonZeroU16::new(value).unwrap()
    }

    #[test]
    fn a_topic_gets_an_alias_when_it_comes_again() {
        let mut link = Link::new(2);
        assert_eq!(link.send("a/long/topic"), Naming::InFull);
        assert_eq!(link.send("a/long/topic"), Naming::WithAlias(alias(1)));
        for _ in 0..3 {
            assert_eq!(link.send("a/long/topic"), Naming::ByAlias(alias(1)));
        }
        assert_eq!(link.send("short"), Naming::InFull);
        assert_eq!(link.send("short"), Naming::InFull);
    }

    #[test]
    fn an_alias_that_was_not_sent_stands_for_nothing() {
        let mut link = Link::new(1);
        link.send("a/long/topic");
        for _ in 0..3 {
            assert_eq!(link.send_if("a/long/topic", false), Naming::WithAlias(alias(1)));
        }
        assert_eq!(link.send("a/long/topic"), Naming::WithAlias(alias(1)));
        assert_eq!(link.send("a/long/topic"), Naming::ByAlias(alias(1)));
    }

    #[test]
    fn an_alias_out_of_use_is_given_away_and_one_in_use_is_not() {
        let mut link = Link::new(2);
        for topic in ["the first", "the second"] {
            link.send(topic);
            link.send(topic);
        }
        // The first is used between all others.
        let mut namings = Vec::new();
        for _ in 0..6 {
            assert_eq!(link.send("the first"), Naming::ByAlias(alias(1)));
            namings.push(link.send("the third"));
        }
        let (given, used) = (Naming::WithAlias(alias(2)), Naming::ByAlias(alias(2)));
        let in_full = Naming::InFull;
        assert_eq!(namings, [in_full, in_full, in_full, in_full, given, used]);
        assert_eq!(link.send("the first"), Naming::ByAlias(alias(1)));
        assert_eq!(link.send("the second"), Naming::InFull);
    }

    #[test]
    fn more_topics_in_turn_than_aliases_do_not_take_them_from_each_other() {
        let mut link = Link::new(32);
        let topics: Vec<String> = (0..48).map(|n| format!("building/7/sensor/{n}")).collect();
        for _ in 0..20 {
            for topic in &topics {
                link.send(topic);
            }
        }
        link.sent_in_full = 0;
        for _ in 0..100 {
            for topic in &topics {
                link.send(topic);
            }
        }
        assert!(link.sent_in_full <= 1_700, "16 of 48 have none: {}", link.sent_in_full);
    }

    #[test]
    fn topics_take_no_more_bytes_than_they_may() {
        let mut link = Link::new(100);
        for n in 0..10_000_u64 {
            let length = 8 + (n * 7_919 % 1_500) as usize;
            let topic = format!("{:x<length$}", n % 37);
            link.send(&topic);
            link.send(&topic);
        }
        let huge = "x".repeat(BYTES_MAX + 1);
        for _ in 0..500 {
            assert_eq!(link.send(&huge), Naming::InFull);
        }
    }

    #[test]
    fn whatever_comes_in_whatever_order_the_client_understands() {
        let mut link = Link::new(5);
        let mut random = 1_u64;
        for _ in 0..50_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let [which, whether] = [random >> 40 & 15, random >> 60];
            link.send_if(&format!("topic number {}", which * which / 8), whether > 2);
        }
        assert!(link.sent_in_full < 40_000);
    }
}
