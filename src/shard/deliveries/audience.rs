//! All sessions of a shard that one message is for, when they are too many for one turn.

use std::rc::Rc;

use super::{
    super::{
        context::Context,
        deliver::{Fanout, Means},
        ports::Ports,
        unfinished::Steps,
    },
    Deliveries,
    receivers::{Receiver, Receivers},
};
use crate::{
    base::hash::Seed,
    routing::Entry,
    session::{
        message::{CountedMessage, MessageView},
        sessions::Sessions,
    },
};

/// The sessions that a message is for.
///
/// ```text
///   add --> entries --several filters: join--> receivers, each session once --> deliver
///                   \--one filter-----------------------------------------/
/// ```
#[derive(Debug)]
pub(in crate::shard) struct Audience {
    entries: Vec<Entry>,
    /// How many filters have subscribers among the entries.
    filters: usize,
    receivers: Receivers,
    /// Later sessions have the number of a subscriber that is not here any more, and get nothing.
    latest_session: u64,
}

/// A message for an audience.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Placed<'a> {
    pub(in crate::shard) message: &'a Rc<CountedMessage>,
    pub(in crate::shard) view: MessageView<'a>,
    /// The number of the update that the message has made of the retained messages, if any.
    pub(in crate::shard) update: Option<u64>,
}

impl Audience {
    /// Nobody yet, of the sessions that have begun until now.
    pub(in crate::shard) fn new(seed: Seed, sessions: &Sessions) -> Audience {
        Audience {
            entries: Vec::new(),
            filters: 0,
            receivers: Receivers::new(seed),
            latest_session: sessions.begun(),
        }
    }

    /// Adds the subscribers of one filter, as far as they are wanted.
    pub(in crate::shard) fn add(&mut self, entries: &[Entry], wanted: impl Fn(&Entry) -> bool) {
        self.filters += usize::from(!entries.is_empty());
        self.entries.extend(entries.iter().copied().filter(wanted));
    }

    /// Nobody gets the message.
    pub(in crate::shard) fn clear(&mut self) {
        self.entries.clear();
        self.receivers.clear();
    }

    /// Makes one receiver of all entries of a session. True: no entry is left.
    fn join(
        &mut self,
        view: &MessageView<'_>,
        sessions: &mut Sessions,
        steps: &mut Steps,
        context: &mut Context,
    ) -> bool {
        while !self.entries.is_empty() && !steps.is_spent() {
            let some = self.entries.len().saturating_sub(ENTRIES_PER_STEP);
            let rights = (&mut context.rights, &mut context.counters);
            self.receivers.join(&self.entries[some..], sessions, view, rights);
            self.entries.truncate(some);
            steps.spend(Steps::LOOK);
        }
        self.entries.is_empty()
    }

    fn next(&mut self) -> Option<Receiver> {
        self.receivers.pop().or_else(|| self.entries.pop().map(Receiver::of_entry))
    }
}

/// Entries that are joined in one step.
const ENTRIES_PER_STEP: usize = 4;

impl Deliveries {
    /// Delivers to some of an audience. True: to all of it.
    pub(in crate::shard) fn deliver_some(
        &mut self,
        placed: Placed<'_>,
        (audience, steps): (&mut Audience, &mut Steps),
        sessions: &mut Sessions,
        context: &mut Context,
        ports: &mut impl Ports,
    ) -> bool {
        let Placed { message, view, update } = placed;
        if audience.filters > 1 && !audience.join(&view, sessions, steps, context) {
            return false;
        }
        let Deliveries { buffers, pressure, replays, .. } = self;
        let means = Means::new(context, buffers, pressure);
        let mut fanout = Fanout::new(&view, means, ports).of_kept(message);
        if let Some(update) = update.filter(|_| !replays.is_empty()) {
            fanout = fanout.of_update(update, replays);
        }
        while !steps.is_spent() {
            let Some(receiver) = audience.next() else { return true };
            steps.spend(Steps::RECEIVER);
            let session = sessions.get_mut(receiver.subscriber);
            if let Some(session) = session.filter(|it| it.number() <= audience.latest_session) {
                fanout.deliver(receiver.subscriber, session, receiver.granted, &receiver.ids);
            }
        }
        false
    }
}
