//! What other threads ask of the running shards.
//!
//! Knows neither questions nor answers: the brain does. A question travels in the lane of the
//! renewals, so that a turn has nothing more to look at. The shard answers in its turn, on its own
//! thread, by calling the reply.

use std::{fmt, time::Duration};

use super::{
    events::EventLane,
    lane::{LaneSender, NotSent},
    reload::Renewal,
    stop::Stop,
    traces::TraceLane,
};
use crate::{
    base::ids::ShardId,
    shard::ask::{Answer, Question},
};

/// Takes the answer, on the thread of the shard: it may neither wait nor work. It is dropped if the
/// shard ends before it answers.
pub type Reply = Box<dyn FnOnce(Answer) + Send>;

/// A question on its way.
pub(super) struct Asked {
    pub(super) question: Question,
    pub(super) reply: Reply,
}

/// The running shards, as another thread reaches them.
#[derive(Clone)]
pub struct Shards {
    lanes: Vec<LaneSender<Renewal>>,
    stop: Stop,
    events: EventLane,
    traces: TraceLane,
}

/// Why a question was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unasked {
    /// So many questions wait for the shard already.
    Busy,
    /// The shard has ended.
    Ended,
}

impl fmt::Debug for Shards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shards").field("count", &self.lanes.len()).finish_non_exhaustive()
    }
}

impl Shards {
    pub(super) fn new(
        lanes: Vec<LaneSender<Renewal>>,
        stop: Stop,
        (events, traces): (EventLane, TraceLane),
    ) -> Shards {
        Shards { lanes, stop, events, traces }
    }

    pub fn all(&self) -> impl Iterator<Item = ShardId> + use<> {
        ShardId::all(self.lanes.len())
    }

    /// Has a shard answer in one of its next turns. Returns at once.
    pub fn ask(&self, shard: ShardId, question: Question, reply: Reply) -> Result<(), Unasked> {
        let asked = Renewal::Asked(Asked { question, reply });
        self.lanes[shard.index()].try_send(asked).map_err(|error| match error {
            NotSent::Full(_) => Unasked::Busy,
            NotSent::Ended => Unasked::Ended,
        })
    }

    /// As [`Shards::ask`], but waits for room for up to `patience`. Not for shards.
    pub fn ask_within(
        &self,
        shard: ShardId,
        question: Question,
        reply: Reply,
        patience: Duration,
    ) -> Result<(), Unasked> {
        let asked = Renewal::Asked(Asked { question, reply });
        let sent = self.lanes[shard.index()].send_within(asked, patience);
        sent.map_err(|error| match error {
            NotSent::Full(_) => Unasked::Busy,
            NotSent::Ended => Unasked::Ended,
        })
    }

    /// What they tell of clients that come and go.
    pub fn events(&self) -> EventLane {
        self.events.clone()
    }

    /// The lines of traces.
    pub fn traces(&self) -> TraceLane {
        self.traces.clone()
    }

    /// Whether clients are let in: all shards have begun, and the broker does not stop.
    pub fn are_open(&self) -> bool {
        self.stop.are_ready() && !self.stop.is_asked()
    }
}
