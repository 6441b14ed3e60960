//! A connection waits until the bytes that came on an earlier one have been handed in, as in
//! `src/runtime/precede.rs`.

use ringmq::base::{
    ids::ConnectionId,
    time::{Moment, Span},
};

use crate::{
    broker::{Broker, Verdict},
    link::Link,
    planted::Fault,
    ports::{Effect, SimulatedPorts},
};

/// That a link waits for an earlier one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Follow {
    earlier: usize,
    until: Moment,
}

impl SimulatedPorts<'_> {
    /// Whether `later` may go on at once. False: it waits from now on.
    pub(crate) fn may_follow(&mut self, earlier: ConnectionId, later: ConnectionId) -> bool {
        if self.planted.is(Fault::OvertakeBytes) {
            return true;
        }
        let Some(earlier) = self.place.find(earlier) else { return true };
        // The runtime does not know in the middle of a turn whether the ring has further bytes.
        let is_unsure = self.place.random.chance(UNSURE_PERCENT);
        if !is_unsure && !self.links[earlier].has_waiting_bytes() {
            return true;
        }
        let until = self.now + FOLLOW_WITHIN;
        let Some((index, link)) = self.open(later).filter(|(_, link)| !link.may_follow) else {
            return true;
        };
        link.follows = Some(Follow { earlier, until });
        self.effects.list.push(Effect::Follows { link: index });
        false
    }
}

impl Link {
    /// Whether bytes have arrived that the shard has not been handed.
    fn has_waiting_bytes(&self) -> bool {
        let is_held = self.paused || self.throttled || self.follows.is_some();
        self.is_open() && !self.reset && !self.unread.is_empty() && (self.feedable || is_held)
    }
}

impl Broker {
    /// Whether a link has waited for long enough.
    pub(crate) fn can_release(&self, index: usize) -> bool {
        let link = &self.links[index];
        link.is_open()
            && link.follows.is_some_and(|follow| {
                follow.until <= self.now || !self.links[follow.earlier].has_waiting_bytes()
            })
    }

    /// Hands the bytes of a link that has waited in again.
    pub(crate) fn release(&mut self, index: usize) -> Verdict {
        let link = &mut self.links[index];
        link.follows = None;
        link.may_follow = true;
        link.feedable = true;
        self.feed(index)
    }

    /// When the first link that waits goes on in any case.
    pub(crate) fn next_release(&self) -> Option<Moment> {
        let waiting = self.links.iter().filter(|link| link.is_open());
        waiting.filter_map(|link| link.follows).map(|follow| follow.until).min()
    }
}

/// How long a link waits at the most, as in the runtime.
pub(crate) const FOLLOW_WITHIN: Span = Span::from_secs(1);
/// How often a link waits although all bytes have been handed in.
const UNSURE_PERCENT: usize = 20;
