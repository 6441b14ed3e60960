//! How far one thread's publishers may go in the present phase.

use ringmq::base::time::Moment;

use crate::{
    account::tally::Tally,
    clients::{
        connection::{Connection, Role, Stage},
        publisher::{Publisher, Timing},
    },
    payload::{Phase, SEQUENCES_MAX},
    request::{
        pacing::{Extent, Schedule},
        plan::{Plan, messages_by_round},
    },
};

#[derive(Debug)]
pub struct Publishing {
    phase: Phase,
    extent: Extent,
    /// When publishing ends, if its extent is a time.
    end: Option<Moment>,
    schedule: Option<Schedule>,
    round: u64,
    /// Whose turn is next by the schedule: the index of a publisher, and its message.
    upcoming: (usize, u32),
    /// Messages that all publishers of this thread have to send, if that is known beforehand.
    required: Option<u64>,
    /// Exchanges that cannot end: their connections are gone.
    cut_off: u64,
    /// Nothing more is to be sent.
    stopped: bool,
    /// Nothing more is to be waited for.
    done_waiting: bool,
    reported: bool,
}

impl Publishing {
    pub fn begin(
        plan: &Plan,
        phase: Phase,
        start: Moment,
        connections: &[Connection],
    ) -> Option<Publishing> {
        let extent = plan.extent(phase)?;
        let end = match extent {
            Extent::Messages(_) => None,
            Extent::Time(span) => Some(start + span),
        };
        let mut publishing = Publishing {
            phase,
            extent,
            end,
            schedule: plan.schedule(start, phase),
            round: 1,
            upcoming: (0, 0),
            required: None,
            cut_off: 0,
            stopped: false,
            done_waiting: false,
            reported: false,
        };
        publishing.required =
            alive(connections).map(|publisher| publishing.quota(publisher).map(u64::from)).sum();
        Some(publishing)
    }

    /// Messages that one publisher has to send in this phase, if that is known beforehand. With a
    /// schedule it is: all that are due before the end, even if they are sent late.
    fn quota(&self, publisher: &Publisher) -> Option<u32> {
        match (self.extent, self.schedule, self.end) {
            (Extent::Messages(count), ..) => Some(count),
            (_, Some(schedule), Some(end)) => {
                let last = Moment::from_nanos(end.as_nanos().saturating_sub(1));
                Some(schedule.due_count(publisher.number, last).min(SEQUENCES_MAX))
            }
            _ => None,
        }
    }

    /// Messages that a publisher may have sent by now.
    pub fn allowed(&self, publisher: &Publisher, plan: &Plan, now: Moment) -> u32 {
        if self.stopped {
            return publisher.sent();
        }
        match (self.schedule, self.quota(publisher)) {
            (Some(schedule), Some(quota)) => schedule.due_count(publisher.number, now).min(quota),
            _ => messages_by_round(plan.pacing, self.round, self.extent),
        }
    }

    pub fn timing(&self, now: Moment) -> Timing {
        Timing { phase: self.phase, now, schedule: self.schedule }
    }

    /// True when it is another round than before.
    pub fn enter_round(&mut self, round: u64) -> bool {
        let before = std::mem::replace(&mut self.round, round);
        before != round
    }

    pub fn pass_time(&mut self, now: Moment) {
        if self.required.is_none() && self.end.is_some_and(|end| now >= end) {
            self.stopped = true;
        }
    }

    /// When the next message is due, or the phase ends.
    pub fn next_moment(&self, connections: &[Connection]) -> Option<Moment> {
        if self.stopped || self.reported {
            return None;
        }
        match (self.schedule, publisher(connections, self.upcoming.0)) {
            (Some(schedule), Some(publisher)) => {
                let comes = !self.is_beyond(publisher);
                comes.then(|| schedule.due(publisher.number, self.upcoming.1))
            }
            (Some(_), None) => None,
            (None, _) => self.end,
        }
    }

    /// No more is to be sent by the publisher whose turn is next.
    fn is_beyond(&self, publisher: &Publisher) -> bool {
        self.quota(publisher).is_some_and(|quota| self.upcoming.1 >= quota)
    }

    /// The indices of publishers with a message that has become due.
    pub fn take_due(&mut self, now: Moment, connections: &[Connection]) -> DueRange {
        let Some(schedule) = self.schedule else { return DueRange::default() };
        let mut due = DueRange { next: self.upcoming.0, left: 0, publishers: connections.len() };
        while let Some(publisher) = publisher(connections, self.upcoming.0)
            && !self.is_beyond(publisher)
            && schedule.due(publisher.number, self.upcoming.1) <= now
        {
            due.left += 1;
            self.upcoming.0 += 1;
            if self.upcoming.0 == connections.len() {
                self.upcoming = (0, self.upcoming.1 + 1);
            }
        }
        due.left = due.left.min(connections.len());
        due
    }

    /// A publisher's connection is closed: the rest is not sent, and its exchanges stay open.
    pub fn give_up(&mut self, publisher: &Publisher) {
        let rest = self.quota(publisher).map(|quota| u64::from(quota - publisher.sent()));
        self.required = self.required.zip(rest).map(|(required, rest)| required - rest);
        self.cut_off += publisher.open_count() as u64;
    }

    pub fn stop_waiting(&mut self) {
        self.stopped = true;
        self.done_waiting = true;
    }

    /// True once: when all is sent and acknowledged, or is not waited for any more.
    pub fn finish(&mut self, tally: &Tally) -> bool {
        let sent =
            self.stopped || self.required.is_some_and(|required| tally.sent.total() >= required);
        let acknowledged =
            self.done_waiting || tally.acknowledged.total() + self.cut_off >= tally.sent.total();
        let finished = sent && acknowledged && !self.reported;
        self.reported |= finished;
        finished
    }
}

fn publisher(connections: &[Connection], index: usize) -> Option<&Publisher> {
    match &connections.get(index)?.role {
        Role::Publisher(publisher) => Some(publisher),
        Role::Subscriber(_) => None,
    }
}

fn alive(connections: &[Connection]) -> impl Iterator<Item = &Publisher> {
    let alive = |index: &usize| connections[*index].stage != Stage::Closed;
    (0..connections.len()).filter(alive).filter_map(|index| publisher(connections, index))
}

/// Publishers, in turn, each at most once.
#[derive(Debug, Default)]
pub struct DueRange {
    next: usize,
    left: usize,
    publishers: usize,
}

impl Iterator for DueRange {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let index = self.next;
        self.next = (index + 1) % self.publishers;
        Some(index)
    }
}
