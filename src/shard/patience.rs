//! Patience with the subscribers of one account: how long publishers wait for them.
//!
//! ```text
//!   earned    the account has a lead: its subscribers take enough of what they are sent
//!   granted   `--patience`; what was spent of it comes back over a minute
//! ```
//! The lead grows with what subscribers take while they are behind, and shrinks with the time that
//! any of them is, however many these are. A subscriber that presses is behind, and has been since
//! its outbox or its queue was empty. The lead is never more than `--patience`, nor less than that
//! below zero. A publisher waits for subscribers with earned patience without a limit of its own,
//! and for those with granted patience as long as its own allowance lasts: see [`super::waits`].
//!
//! Knows accounts by their hash. Does not know subscribers or publishers.

use super::rules::Limits;
use crate::base::{
    hash::{Map, Seed},
    time::{Moment, Span},
};

/// Which patience publishers have with a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// The account reads fast.
    Earned,
    /// The account does not, or it has not been seen to.
    Granted,
}

/// How publishers see a subscriber that presses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// They wait for it.
    Waited(Patience),
    /// They do not, although it takes what it is sent now and then.
    Ignored,
    /// They do not, and it takes nothing. The time that passes is not its account's.
    Stalled,
}

/// How much patience an account is granted, and what it must take to earn more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) granted: Span,
    bytes_per_milli: u64,
    messages_per_milli: u64,
}

/// What a subscriber has taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Bytes of its outbox.
    pub(super) bytes: u64,
    /// Messages of its queue.
    pub(super) messages: u64,
}

/// An account is fast if it takes so many bytes or so many messages in a millisecond; where the
/// limits are narrow, a quarter of an outbox or of a queue in fifty milliseconds.
const BYTES_PER_MILLI: u64 = 4 << 10;
const MESSAGES_PER_MILLI: u64 = 32;
const NARROW_PART: u64 = 200;

/// The time in which granted patience comes back, and in which a lead is forgotten.
const REFILL_SPAN: Span = Span::from_secs(60);
/// With less granted patience nobody begins to wait: the time would be over at once.
const GRANTED_MIN: Span = Span::from_millis(10);
/// How many accounts are remembered. Beyond it, all are forgotten for which nobody waits.
const ACCOUNTS_MAX: usize = 4096;

impl Terms {
    pub(super) fn of(limits: &Limits) -> Terms {
        let narrow = |limit: usize, most: u64| (limit as u64 / NARROW_PART).clamp(1, most);
        Terms {
            granted: limits.patience,
            bytes_per_milli: narrow(limits.outbox_bytes_max, BYTES_PER_MILLI),
            messages_per_milli: narrow(limits.queue.messages_max, MESSAGES_PER_MILLI),
        }
    }

    /// The patience that so much earns.
    fn earned_by(&self, taken: Taken) -> Span {
        let by_bytes = taken.bytes.saturating_mul(NANOS_PER_MILLI) / self.bytes_per_milli;
        let by_messages = taken.messages.saturating_mul(NANOS_PER_MILLI) / self.messages_per_milli;
        Span::from_nanos(by_bytes.saturating_add(by_messages))
    }
}

const NANOS_PER_MILLI: u64 = 1_000_000;

/// The patience with all accounts of which a subscriber has pressed lately.
#[derive(Debug)]
pub(super) struct Accounts(Map<u64, AccountPatience>);

#[derive(Debug, Default)]
struct AccountPatience {
    /// Nanoseconds by which it is ahead of the time, or behind it.
    lead: i64,
    /// What is missing of the granted patience.
    spent: Span,
    /// Up to when the time has been counted, and up to when it was taken from the lead.
    counted: Moment,
    charged: Moment,
    /// How many subscribers press, by their standing. Those that stall do not count.
    pressing: [u32; 3],
}

impl Standing {
    pub(super) fn patience(self) -> Option<Patience> {
        match self {
            Standing::Waited(patience) => Some(patience),
            Standing::Ignored | Standing::Stalled => None,
        }
    }

    fn place(self) -> Option<usize> {
        match self {
            Standing::Waited(patience) => Some(patience as usize),
            Standing::Ignored => Some(IGNORED),
            Standing::Stalled => None,
        }
    }
}

const IGNORED: usize = 2;

impl Accounts {
    pub(super) fn new(seed: Seed) -> Accounts {
        Accounts(Map::with_hasher(seed))
    }

    /// One more subscriber of the account presses. It has been behind since a while, has taken so
    /// much meanwhile, and was last seen to take anything at the second moment.
    pub(super) fn begin(
        &mut self,
        account: u64,
        (since, moved, taken): (Moment, Moment, Taken),
        terms: &Terms,
        now: Moment,
    ) -> Standing {
        self.make_room(terms, now);
        let account = self.counted(account, terms, now);
        let behind = now.since(since.max(account.charged));
        account.charged = now;
        account.move_lead(signed(terms.earned_by(taken)) - signed(behind), terms);
        let chosen = account.choose((true, now.since(moved)), terms);
        account.enter(chosen);
        chosen
    }

    /// A subscriber that has pressed no longer does.
    pub(super) fn end(&mut self, account: u64, standing: Standing, terms: &Terms, now: Moment) {
        self.counted(account, terms, now).leave(standing);
    }

    /// Chooses the standing of a subscriber that presses anew. One that has taken nothing for a
    /// while does not benefit from what others of its account take.
    pub(super) fn choose(
        &mut self,
        account: u64,
        (standing, idle): (Standing, Span),
        terms: &Terms,
        now: Moment,
    ) -> Standing {
        let account = self.counted(account, terms, now);
        account.leave(standing);
        let chosen = account.choose((standing.patience().is_some(), idle), terms);
        account.enter(chosen);
        chosen
    }

    /// A subscriber of the account that presses has taken so much.
    pub(super) fn earn(&mut self, account: u64, taken: Taken, terms: &Terms, now: Moment) {
        self.counted(account, terms, now).move_lead(signed(terms.earned_by(taken)), terms);
    }

    /// How long the standing lasts if nothing is taken meanwhile.
    pub(super) fn lasts(&self, account: u64, standing: Standing, terms: &Terms) -> Span {
        let account = self.0.get(&account);
        match standing {
            Standing::Waited(Patience::Earned) => account.map_or(Span::ZERO, AccountPatience::lead),
            Standing::Waited(Patience::Granted) => {
                account.map_or(Span::ZERO, |it| it.granted(terms))
            }
            Standing::Ignored | Standing::Stalled => IGNORED_SPAN,
        }
    }

    /// The account, with all time counted.
    fn counted(&mut self, account: u64, terms: &Terms, now: Moment) -> &mut AccountPatience {
        let counted = || AccountPatience { counted: now, ..AccountPatience::default() };
        let account = self.0.entry(account).or_insert_with(counted);
        account.count(terms, now);
        account
    }

    fn make_room(&mut self, terms: &Terms, now: Moment) {
        if self.0.len() < ACCOUNTS_MAX {
            return;
        }
        self.0.retain(|_, account| {
            account.count(terms, now);
            !account.is_like_new()
        });
        if self.0.len() >= ACCOUNTS_MAX {
            self.0.retain(|_, account| account.presses());
        }
    }
}

impl AccountPatience {
    fn enter(&mut self, standing: Standing) {
        if let Some(place) = standing.place() {
            self.pressing[place] += 1;
        }
    }

    fn leave(&mut self, standing: Standing) {
        if let Some(place) = standing.place() {
            let pressing = &mut self.pressing[place];
            *pressing = pressing.checked_sub(1).expect("who leaves a standing has entered it");
        }
    }

    /// Counts the time that has passed.
    fn count(&mut self, terms: &Terms, now: Moment) {
        let elapsed = now.since(self.counted);
        self.counted = now;
        let refilled = share_of(terms.granted, elapsed);
        self.spent = self.spent.saturating_sub(refilled);
        self.lead -= self.lead.signum() * self.lead.abs().min(signed(refilled));
        if self.pressing[Patience::Granted as usize] > 0 {
            self.spent = (self.spent + elapsed).min(terms.granted);
        }
        if self.presses() {
            self.charged = now;
            self.move_lead(-signed(elapsed), terms);
        }
    }

    fn move_lead(&mut self, by: i64, terms: &Terms) {
        let most = signed(terms.granted);
        self.lead = self.lead.saturating_add(by).clamp(-most, most);
    }

    fn choose(&self, (waited, idle): (bool, Span), terms: &Terms) -> Standing {
        let granted_min = GRANTED_MIN.min(terms.granted);
        if self.lead > 0 && idle < IDLE_MAX {
            Standing::Waited(Patience::Earned)
        } else if waited && self.granted(terms) >= granted_min {
            Standing::Waited(Patience::Granted)
        } else if idle >= STALL_SPAN {
            Standing::Stalled
        } else {
            Standing::Ignored
        }
    }

    fn lead(&self) -> Span {
        Span::from_nanos(self.lead.max(0).unsigned_abs())
    }

    fn granted(&self, terms: &Terms) -> Span {
        terms.granted.saturating_sub(self.spent)
    }

    fn presses(&self) -> bool {
        self.pressing != [0; 3]
    }

    fn is_like_new(&self) -> bool {
        !self.presses() && self.lead == 0 && self.spent.is_zero()
    }
}

fn signed(span: Span) -> i64 {
    i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)
}

/// A subscriber that has taken nothing for so long is not waited for with earned patience.
const IDLE_MAX: Span = Span::from_millis(200);
/// A subscriber that has taken nothing for so long stalls.
const STALL_SPAN: Span = Span::from_secs(1);
/// How often a subscriber is checked that presses, and for which nobody waits.
const IGNORED_SPAN: Span = Span::from_millis(250);

/// How much of `full` comes back in a part of [`REFILL_SPAN`].
fn share_of(full: Span, elapsed: Span) -> Span {
    if elapsed >= REFILL_SPAN {
        return full;
    }
    let elapsed = elapsed.as_nanos() / NANOS_PER_MICRO;
    Span::from_nanos(full.as_nanos() / REFILL_SPAN.as_millis() * elapsed / MICROS_PER_MILLI)
}

const NANOS_PER_MICRO: u64 = 1_000;
const MICROS_PER_MILLI: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        granted: Span::from_millis(500),
        bytes_per_milli: BYTES_PER_MILLI,
        messages_per_milli: MESSAGES_PER_MILLI,
    };
    const ONE: u64 = 1;

    fn accounts() -> Accounts {
        Accounts::new(Seed::new(1))
    }

    fn at(millis: u64) -> Moment {
        Moment::default() + Span::from_millis(millis)
    }

    fn megabytes(bytes: u64) -> Taken {
        Taken { bytes: bytes << 20, messages: 0 }
    }

    /// A subscriber that is behind since now.
    fn nothing(millis: u64) -> (Moment, Moment, Taken) {
        (at(millis), at(millis), Taken::default())
    }

    fn begin(accounts: &mut Accounts, millis: u64) -> Standing {
        accounts.begin(ONE, nothing(millis), &TERMS, at(millis))
    }

    const EARNED: Standing = Standing::Waited(Patience::Earned);
    const GRANTED: Standing = Standing::Waited(Patience::Granted);

    #[test]
    fn granted_patience_is_spent_once_for_all_subscribers_and_comes_back_over_a_minute() {
        let mut accounts = accounts();
        for _ in 0..50 {
            assert_eq!(begin(&mut accounts, 0), GRANTED);
        }
        let choose = |it: &mut Accounts, standing, millis| {
            it.choose(ONE, (standing, Span::ZERO), &TERMS, at(millis))
        };
        assert_eq!(choose(&mut accounts, GRANTED, 400), GRANTED);
        assert_eq!(accounts.lasts(ONE, GRANTED, &TERMS).as_millis(), 100);
        (0..50).for_each(|_| assert_eq!(choose(&mut accounts, GRANTED, 510), Standing::Ignored));
        assert_eq!(begin(&mut accounts, 1_000), Standing::Ignored);
        assert_eq!(choose(&mut accounts, Standing::Ignored, 6_000), Standing::Ignored);
        assert_eq!(begin(&mut accounts, 12_500), GRANTED);
        let left = accounts.lasts(ONE, GRANTED, &TERMS).as_nanos();
        assert_eq!((left + 500_000) / 1_000_000, 100);
        accounts.begin(2, nothing(12_500), &TERMS, at(12_500));
        assert_eq!(accounts.lasts(2, GRANTED, &TERMS), TERMS.granted);
    }

    /// For how many of a hundred seconds publishers wait for a subscriber that always presses, and
    /// takes so many bytes and messages every 10 ms. The first minute is not counted.
    fn waited(bytes: u64, messages: u64) -> (u64, u64) {
        let mut accounts = accounts();
        let mut standing = begin(&mut accounts, 0);
        let (mut earned, mut granted) = (0, 0);
        for millis in (10..160_000).step_by(10) {
            accounts.earn(ONE, Taken { bytes, messages }, &TERMS, at(millis));
            standing = accounts.choose(ONE, (standing, Span::ZERO), &TERMS, at(millis));
            if millis % 500 == 0 {
                accounts.end(ONE, standing, &TERMS, at(millis));
                standing = begin(&mut accounts, millis);
            }
            earned += 10 * u64::from(millis > 60_000 && standing == EARNED);
            granted += 10 * u64::from(millis > 60_000 && standing == GRANTED);
        }
        (earned / 1_000, granted / 1_000)
    }

    #[test]
    fn who_takes_four_kilobytes_or_thirty_two_messages_each_millisecond_is_waited_for_always() {
        // A hundredth more, as a lead is forgotten over a minute.
        assert_eq!(waited(41 << 10, 0), (99, 0));
        assert_eq!(waited(0, 325), (99, 0));
        assert_eq!(waited(21 << 10, 163), (99, 0));
    }

    #[test]
    fn who_takes_less_is_waited_for_as_long_as_patience_is_granted() {
        for (bytes, messages) in [(36 << 10, 0), (0, 280), (1, 0), (0, 0)] {
            assert_eq!(waited(bytes, messages), (0, 0), "{bytes} bytes, {messages} messages");
        }
    }

    #[test]
    fn who_stalls_is_not_waited_for_by_what_others_of_its_account_take() {
        let mut accounts = accounts();
        begin(&mut accounts, 0);
        accounts.earn(ONE, megabytes(1), &TERMS, at(0));
        let choose = |it: &mut Accounts, standing, millis| {
            it.choose(ONE, (standing, Span::from_millis(millis)), &TERMS, at(millis))
        };
        assert_eq!(choose(&mut accounts, GRANTED, 199), EARNED);
        assert_eq!(choose(&mut accounts, EARNED, 200), GRANTED);
        assert_eq!(choose(&mut accounts, GRANTED, 720), Standing::Ignored);
        assert_eq!(choose(&mut accounts, Standing::Ignored, 1_000), Standing::Stalled);
        accounts.earn(ONE, megabytes(10), &TERMS, at(1_000));
        let left = |it: &mut Accounts, millis| {
            assert_eq!(begin(it, millis), EARNED);
            it.end(ONE, EARNED, &TERMS, at(millis));
            it.lasts(ONE, EARNED, &TERMS).as_millis()
        };
        assert_eq!(left(&mut accounts, 1_000), 500);
        assert_eq!(left(&mut accounts, 2_000), 491, "who stalls costs nothing");
    }

    /// Each of fifty accounts is behind for 450 ms, and presses in the last fifty.
    #[test]
    fn what_was_not_taken_before_a_press_counts_as_well() {
        let mut accounts = accounts();
        let taken = Taken { bytes: 256 << 10, messages: 0 };
        for round in 1..20 {
            let (since, until) = (at(450 * round), at(450 * (round + 1)));
            let press = (since, since, Taken::default());
            let begun = Moment::from_nanos(until.as_nanos() - 50_000_000);
            let standing = accounts.begin(ONE, press, &TERMS, begun);
            assert_ne!(standing, EARNED);
            accounts.earn(ONE, taken, &TERMS, until);
            accounts.end(ONE, standing, &TERMS, until);
        }
        let fast = (at(9_450), at(9_455), Taken { bytes: 4 << 20, messages: 0 });
        assert_eq!(accounts.begin(ONE, fast, &TERMS, at(9_455)), EARNED);
    }

    #[test]
    fn a_lead_is_forgotten_after_a_minute_and_with_it_the_account() {
        let mut accounts = accounts();
        begin(&mut accounts, 0);
        accounts.earn(ONE, megabytes(100), &TERMS, at(0));
        accounts.end(ONE, GRANTED, &TERMS, at(0));
        assert_eq!(accounts.lasts(ONE, EARNED, &TERMS), TERMS.granted);
        assert_eq!(begin(&mut accounts, 60_001), GRANTED);
        accounts.end(ONE, GRANTED, &TERMS, at(60_001));
        for other in 2..=ACCOUNTS_MAX as u64 {
            accounts.begin(other, nothing(60_001), &TERMS, at(60_001));
        }
        accounts.begin(0, nothing(60_001), &TERMS, at(60_001));
        assert!(accounts.0.len() == ACCOUNTS_MAX && !accounts.0.contains_key(&ONE));
    }

    #[test]
    fn a_broker_with_narrow_limits_calls_less_fast() {
        let mut limits = super::super::rules::tests::rules().limits;
        (limits.outbox_bytes_max, limits.queue.messages_max) = (1_000, 10);
        let terms = Terms::of(&limits);
        let earned = terms.earned_by(Taken { bytes: 250, messages: 0 });
        assert_eq!(earned, Span::from_millis(50));
        assert_eq!(terms.earned_by(Taken { bytes: 0, messages: 2 }), Span::from_millis(2));
    }
}
