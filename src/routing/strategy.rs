//! How a share group chooses among its members: the strategies, and the arithmetic of choices that
//! change as little as possible when members come and go.

use std::collections::BTreeMap;

use crate::base::ids::ShardId;

/// How a group distributes its messages. Connected members are preferred to all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Each member in its turn, wherever it is.
    #[default]
    RoundRobin,
    /// Any member, each as likely as the others.
    Random,
    /// Shards take turns; on the shard whose turn it is, a member that has the least in flight.
    LeastInFlight,
    /// One member for as long as it is connected.
    Sticky,
    /// For each publisher always the same member.
    HashClient,
    /// For each Topic Name always the same member.
    HashTopic,
}

impl Strategy {
    /// Whether any member may get any message. With the other strategies, what belongs together
    /// stays with one member for as long as that one has room.
    pub fn spreads(self) -> bool {
        match self {
            Strategy::RoundRobin | Strategy::Random | Strategy::LeastInFlight => true,
            Strategy::Sticky | Strategy::HashClient | Strategy::HashTopic => false,
        }
    }
}

/// The strategy of every group.
#[derive(Clone, Debug, Default)]
pub struct Strategies {
    /// The strategy of groups that are not in `named`.
    pub default: Strategy,
    /// Strategies by `ShareName`, for any filter.
    pub named: BTreeMap<Box<str>, Strategy>,
}

impl Strategies {
    pub fn of(&self, share: &str) -> Strategy {
        self.named.get(share).copied().unwrap_or(self.default)
    }
}

/// The number that decides a choice. Equal selectors make equal choices on every shard, as long as
/// the members stay the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selector(pub u64);

impl Selector {
    /// A number below `weight`, each equally likely; `None` if `weight` is 0.
    pub(super) fn below(self, weight: u64) -> Option<u64> {
        mix(self.0).checked_rem(weight)
    }

    /// The score of a shard with this weight in weighted rendezvous hashing. The shard with the
    /// highest score is chosen. A change of weight moves selectors to this shard or away from it,
    /// and none between other shards.
    pub(super) fn score(self, shard: ShardId, weight: u32) -> f64 {
        let salt = u64::try_from(shard.index()).expect("few shards");
        let luck = (f64::from(self.draw(!salt)) + 0.5) / DRAWS;
        luck.ln() / f64::from(weight)
    }

    /// One of `places`, each equally likely; `None` if there are none.
    ///
    /// Consistent hashing: a new place at the end takes its share of the selectors, and all others
    /// stay. At a given length, a selector is still at its place with probability
    /// (place + 1) / length.
    pub(super) fn place(self, places: usize) -> Option<usize> {
        let places = u64::try_from(places).expect("a length has at most 64 bits");
        let (mut place, mut next) = (None, 0);
        while next < places {
            place = Some(next);
            next = ((next + 1) << 32) / (u64::from(self.draw(next)) + 1);
        }
        place.map(|place| usize::try_from(place).expect("it is below the length"))
    }

    /// A pseudo-random number from selector and salt.
    fn draw(self, salt: u64) -> u32 {
        (mix(self.0 ^ mix(salt)) >> 32) as u32
    }
}

/// Spreads every bit of a number over all bits. Hashes for tables are not uniform enough: they only
/// tell keys apart.
fn mix(number: u64) -> u64 {
    let mixed = FACTORS.iter().fold(number.wrapping_add(FACTORS[0]), |mixed, &factor| {
        (mixed ^ (mixed >> 31)).wrapping_mul(factor)
    });
    mixed ^ (mixed >> 31)
}

/// Odd numbers with well-mixed bits: digits of pi, e and the golden ratio.
const FACTORS: [u64; 3] = [0x243F_6A88_85A3_08D3, 0xB7E1_5162_8AED_2A6B, 0x9E37_79B9_7F4A_7C15];
/// How many different numbers a draw has.
const DRAWS: f64 = 4_294_967_296.0;

#[cfg(test)]
mod tests {
    use super::*;

    const LOTS: u64 = 40_000;

    fn selectors() -> impl Iterator<Item = Selector> {
        (0..LOTS).map(Selector)
    }

    #[test]
    fn a_named_group_has_its_own_strategy_and_the_others_have_the_default() {
        let named = BTreeMap::from([("jobs".into(), Strategy::Sticky)]);
        let strategies = Strategies { default: Strategy::Random, named };
        assert_eq!(strategies.of("jobs"), Strategy::Sticky);
        assert_eq!(strategies.of("job"), Strategy::Random);
    }

    #[test]
    fn lots_spread_evenly_over_the_places_and_a_new_place_takes_its_part_only() {
        for places in [1, 2, 3, 8, 33] {
            let mut got = vec![0; places + 1];
            for selector in selectors() {
                let (before, after) = (selector.place(places), selector.place(places + 1));
                let after = after.unwrap();
                assert!(Some(after) == before || after == places);
                got[after] += 1;
            }
            let fair = usize::try_from(LOTS).unwrap() / (places + 1);
            let near = fair * 92 / 100..=fair * 108 / 100;
            assert!(got.iter().all(|count| near.contains(count)), "{places}: {got:?}");
        }
        assert_eq!(Selector(1).place(0), None);
    }

    #[test]
    fn shards_win_by_their_weight_and_a_weight_that_changes_moves_nothing_between_others() {
        let winner = |selector: Selector, weights: [u32; 3]| {
            let shards = ShardId::all(3).zip(weights);
            let scored = shards.map(|(shard, weight)| (shard, selector.score(shard, weight)));
            let best = scored.max_by(|a, b| a.1.total_cmp(&b.1));
            best.unwrap().0.index()
        };
        let mut got = [0u64; 3];
        for selector in selectors() {
            let before = winner(selector, [1, 2, 5]);
            let after = winner(selector, [1, 3, 5]);
            assert!(before == after || after == 1);
            got[before] += 1;
        }
        for (weight, count) in [1, 2, 5].into_iter().zip(got) {
            let fair = LOTS * weight / 8;
            assert!((fair * 95 / 100..=fair * 105 / 100).contains(&count), "{got:?}");
        }
    }
}
