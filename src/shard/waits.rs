//! For whom one publisher waits, and for how long it does.
//!
//! ```text
//!   subscribers with earned patience    it waits for them until they let it go on
//!   subscribers with granted patience   it waits for them, too, while its allowance lasts: for all
//!                                       of them together at most 100 ms in any 10 s
//! ```
//! Knows how many subscribers press the publisher. Does not know who they are.

use super::patience::Patience;
use crate::base::time::{Moment, Span};

/// The waits of one publisher.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// How many subscribers press, by the patience with them.
    presses: [u32; 2],
    /// Since when the publisher waits for subscribers with granted patience, if it does.
    since: Option<Moment>,
    /// What is missing of the allowance, and up to when the time has been counted.
    used: Span,
    counted: Moment,
}

/// The allowance. A two-hundredth of all time comes back: 50 ms in 10 s. Up to 16 ms may be taken
/// too much, because a reminder is late by up to a tick.
const ALLOWANCE: Span = Span::from_millis(34);
const REFILL_PART: u64 = 200;
/// With less, no wait begins.
const WAIT_MIN: Span = Span::from_millis(10);

impl Waits {
    /// One more subscriber presses. Returns when the wait is over, if one begins that is limited.
    pub(super) fn press(&mut self, patience: Patience, now: Moment) -> Option<Moment> {
        self.presses[patience as usize] += 1;
        if patience == Patience::Earned || self.presses[Patience::Granted as usize] > 1 {
            return None;
        }
        self.count(now);
        let left = ALLOWANCE.saturating_sub(self.used);
        if left < WAIT_MIN {
            return None;
        }
        self.since = Some(now);
        Some(now + left)
    }

    /// One subscriber fewer presses.
    pub(super) fn ease(&mut self, patience: Patience, now: Moment) {
        let presses = &mut self.presses[patience as usize];
        *presses = presses.checked_sub(1).expect("each easing answers one press");
        if self.presses[Patience::Granted as usize] == 0 {
            self.count(now);
            self.since = None;
        }
    }

    /// The publisher waits no longer for subscribers with granted patience, if its allowance is
    /// used up. False: it is not, or it does not wait for any.
    pub(super) fn end_if_over(&mut self, now: Moment) -> bool {
        self.count(now);
        let is_over = self.since.is_some() && self.used >= ALLOWANCE;
        if is_over {
            self.since = None;
        }
        is_over
    }

    /// Whether the publisher has to wait for anyone.
    #[inline]
    pub(super) fn is_waiting(&self) -> bool {
        self.presses[Patience::Earned as usize] > 0 || self.since.is_some()
    }

    /// Whether nothing is left to be remembered.
    pub(super) fn are_forgotten(&self) -> bool {
        self.presses == [0, 0] && self.used.is_zero()
    }

    fn count(&mut self, now: Moment) {
        let elapsed = now.since(self.counted);
        self.counted = now;
        self.used = self.used.saturating_sub(Span::from_nanos(elapsed.as_nanos() / REFILL_PART));
        if self.since.is_some() {
            self.used = self.used + elapsed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Patience::{Earned, Granted};

    fn at(millis: u64) -> Moment {
        Moment::default() + Span::from_secs(100) + Span::from_millis(millis)
    }

    #[test]
    fn a_publisher_waits_for_earned_patience_until_the_last_one_lets_it_go_on() {
        let mut waits = Waits::default();
        assert_eq!(waits.press(Earned, at(0)), None);
        assert_eq!(waits.press(Earned, at(0)), None);
        waits.ease(Earned, at(100_000));
        assert!(waits.is_waiting() && !waits.end_if_over(at(100_000)));
        waits.ease(Earned, at(200_000));
        assert!(!waits.is_waiting() && waits.are_forgotten());
    }

    #[test]
    fn a_publisher_waits_once_for_all_with_granted_patience_and_then_goes_on() {
        let mut waits = Waits::default();
        assert_eq!(waits.press(Granted, at(0)), Some(at(34)));
        assert_eq!(waits.press(Granted, at(20)), None);
        assert!(!waits.end_if_over(at(20)) && waits.is_waiting());
        assert!(waits.end_if_over(at(35)) && !waits.is_waiting());
        assert_eq!(waits.press(Granted, at(36)), None);
        assert!(!waits.is_waiting());
        waits.press(Earned, at(40));
        assert!(waits.is_waiting());
        waits.ease(Earned, at(41));
        (0..3).for_each(|_| waits.ease(Granted, at(50)));
        assert!(!waits.are_forgotten(), "the allowance is missing");
        waits.press(Earned, at(8_000));
        waits.ease(Earned, at(8_000));
        assert!(waits.are_forgotten());
    }

    /// Reminders are late by up to a tick, and presses come at any time.
    #[test]
    fn waits_for_granted_patience_are_at_most_a_hundred_milliseconds_in_any_ten_seconds() {
        let (mut waits, mut over, mut waited) = (Waits::default(), None, Vec::new());
        for millis in 0..60_000 {
            if waits.presses[Granted as usize] == 0 {
                let due = waits.press(Granted, at(millis));
                over =
                    due.map(|due| Moment::from_nanos(due.as_nanos().next_multiple_of(16_000_000)));
            } else if over.is_some_and(|over| over <= at(millis)) {
                assert!(waits.end_if_over(at(millis)));
                over = None;
            } else if over.is_none() && millis % 7 == 0 {
                waits.ease(Granted, at(millis));
            }
            waited.push(u32::from(waits.is_waiting()));
        }
        let most = waited.windows(10_000).map(|window| window.iter().sum::<u32>()).max();
        assert!((60..=100).contains(&most.unwrap()), "{most:?}");
    }
}
