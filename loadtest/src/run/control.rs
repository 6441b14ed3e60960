//! What the threads of a run tell each other.
//!
//! Commands and notices go through channels and are rare. What concerns every message is in
//! counters, which each thread changes once in a turn.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use crossbeam_channel::{Receiver, Sender};
use hdrhistogram::Histogram;
use ringmq::base::time::Moment;

use crate::{
    clients::fault::Fault, machine::network::Doorbell, payload::Phase, request::plan::Plan,
};

/// From the coordinator to each thread; the doorbell is rung with it.
#[derive(Clone, Copy, Debug)]
pub enum Command {
    /// Forget the previous phase.
    Prepare(Phase),
    /// Begin to publish, with a schedule that starts then.
    Publish(Moment),
    /// All subscribers ask for what they are to receive; latency counts from then.
    Subscribe(Moment),
    /// Close all connections without DISCONNECT, and open all: where connections are counted.
    Open(Moment),
    /// Hand over the latencies since the last time.
    ReportLatencies,
    /// Publish no more, and wait for nothing.
    Stop,
    /// Disconnect and end.
    Quit,
}

/// From a thread to the coordinator.
#[derive(Debug)]
pub enum Notice {
    /// All connections are ready.
    Ready,
    Prepared,
    /// All messages of this phase have been sent, and the exchanges of QoS 1 and 2 have ended.
    Published {
        sent: u64,
    },
    /// The last expected message has come.
    AllDelivered,
    /// Of what has come since the last time, in nanoseconds.
    Latencies(Histogram<u64>),
    Failed(Fault),
}

/// What connects one thread with the coordinator and with the other threads.
#[derive(Debug)]
pub struct Link {
    pub thread: usize,
    pub shared: Arc<SharedState>,
    pub commands: Receiver<Command>,
    pub notices: Sender<Notice>,
}

/// What all threads share: the counters of the present phase, and a doorbell for each thread.
#[derive(Debug)]
pub struct SharedState {
    sent: AtomicU64,
    delivered: AtomicU64,
    /// Deliveries after which nothing more should come; not known while publishers still publish.
    expected: AtomicU64,
    /// The round that publishers may work on, from one.
    round: AtomicU64,
    /// Deliveries that rounds no longer wait for.
    forgiven: AtomicU64,
    /// Changes with any progress.
    progress: AtomicU64,
    doorbells: Vec<Doorbell>,
}

impl SharedState {
    pub fn new(threads: usize) -> io::Result<SharedState> {
        let doorbells = (0..threads).map(|_| Doorbell::new()).collect::<io::Result<_>>()?;
        Ok(SharedState {
            sent: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            expected: AtomicU64::new(u64::MAX),
            round: AtomicU64::new(1),
            forgiven: AtomicU64::new(0),
            progress: AtomicU64::new(0),
            doorbells,
        })
    }

    /// Begins a phase. No thread counts anything between its `Prepared` and the next `Publish`.
    pub fn reset(&self) {
        self.sent.store(0, SeqCst);
        self.delivered.store(0, SeqCst);
        self.expected.store(u64::MAX, SeqCst);
        self.round.store(1, SeqCst);
        self.forgiven.store(0, SeqCst);
    }

    pub fn sent(&self) -> u64 {
        self.sent.load(SeqCst)
    }

    pub fn add_sent(&self, count: u64) {
        self.sent.fetch_add(count, SeqCst);
    }

    pub fn delivered(&self) -> u64 {
        self.delivered.load(SeqCst)
    }

    pub fn round(&self) -> u64 {
        self.round.load(SeqCst)
    }

    pub fn progress(&self) -> u64 {
        self.progress.load(SeqCst)
    }

    pub fn note_progress(&self) {
        self.progress.fetch_add(1, SeqCst);
    }

    pub fn doorbell(&self, thread: usize) -> &Doorbell {
        &self.doorbells[thread]
    }

    pub fn ring_all(&self) {
        self.doorbells.iter().for_each(Doorbell::ring);
    }

    /// Counts deliveries. True when the last expected one is among them.
    pub fn add_delivered(&self, count: u64) -> bool {
        let before = self.delivered.fetch_add(count, SeqCst);
        let expected = self.expected.load(SeqCst);
        before < expected && before + count >= expected
    }

    /// Sets how many deliveries are expected. True: all of them have come already.
    pub fn expect(&self, expected: u64) -> bool {
        self.expected.store(expected, SeqCst);
        self.delivered() >= expected
    }

    /// Begins the next round if all of this one has been delivered. True for the one thread that
    /// began it.
    pub fn advance_round(&self, plan: &Plan, phase: Phase) -> bool {
        let round = self.round();
        let Some(extent) = plan.extent(phase) else { return false };
        let owed = plan.deliveries_by_round(round, extent);
        let awaited = owed.saturating_sub(self.forgiven.load(SeqCst));
        self.delivered() >= awaited
            && self.round.compare_exchange(round, round + 1, SeqCst, SeqCst).is_ok()
    }

    /// Gives up waiting for what this round still misses.
    pub fn forgive_round(&self, plan: &Plan, phase: Phase) {
        let Some(extent) = plan.extent(phase) else { return };
        let owed = plan.deliveries_by_round(self.round(), extent);
        self.forgiven.store(owed.saturating_sub(self.delivered()), SeqCst);
        if self.advance_round(plan, phase) {
            self.ring_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::plan_of;

    /// Rounds of two messages from each of two publishers to each of three subscribers: twelve
    /// deliveries; five messages each, so that the third round is short.
    fn plan() -> Plan {
        let flags = "fan-in --publishers 2 --subscribers 3 --round --burst 2 --count 5";
        plan_of(flags).unwrap()
    }

    #[test]
    fn the_last_expected_delivery_is_seen_once() {
        let shared = SharedState::new(1).unwrap();
        assert!(!shared.add_delivered(3));
        assert!(!shared.expect(5));
        assert!(!shared.add_delivered(1));
        assert!(shared.add_delivered(2));
        assert!(!shared.add_delivered(1));
        assert!(shared.expect(7));
    }

    #[test]
    fn a_round_begins_when_the_one_before_has_been_delivered() {
        let (shared, plan) = (SharedState::new(1).unwrap(), plan());
        let advance = |news| {
            shared.add_delivered(news);
            shared.advance_round(&plan, Phase::Measured)
        };
        assert!(!advance(11));
        assert!(advance(1));
        assert!(!advance(11));
        assert!(advance(1));
        assert!(!advance(5));
        assert!(advance(1));
        assert_eq!((shared.delivered(), shared.round()), (30, 4));
    }

    #[test]
    fn later_rounds_do_not_wait_for_what_was_forgiven() {
        let (shared, plan) = (SharedState::new(1).unwrap(), plan());
        shared.add_delivered(10);
        shared.forgive_round(&plan, Phase::Measured);
        assert_eq!(shared.round(), 2);
        assert!(!shared.advance_round(&plan, Phase::Measured));
        shared.add_delivered(12);
        assert!(shared.advance_round(&plan, Phase::Measured));
    }
}
