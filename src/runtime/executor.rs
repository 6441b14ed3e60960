//! The thread of one shard: turn after turn, sleeping when there is nothing to do.
//!
//! ```text
//!   busy: enter the ring without waiting -> turn -> busy ...
//!   quiet: spin for `busy_poll` -> nap in the ring -> sleep in the executor
//! ```
//! A nap is one system call that submits, waits and reaps. Who sleeps in the executor pays several,
//! and needs to only when nothing has come for the length of a nap.
//!
//! The turns are the executor's only task, and give way in a sleep alone. A task that gives way
//! when the executor's preempt timer has fired is lost: the executor then runs nothing, takes that
//! for having nothing to run, and sleeps until some other operation of its own wakes it. The end
//! of a sleep is lost in the same way if the thread is held up for as long as that timer just
//! before the executor looks at it, so the timer never fires.

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

use super::{
    event_loop::{EventLoop, GRACE},
    ring::{sleeper::Sleeper, system},
    stop::Stop,
};
use crate::{
    base::time::{Moment, Span},
    shard::ports::Brain,
};

/// An executor on this thread, pinned to `cpu`.
pub(super) fn make(cpu: usize) -> glommio::Result<LocalExecutor, ()> {
    LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .io_memory(0)
        .ring_depth(EXECUTOR_RING_DEPTH)
        .preempt_timer(NEVER.into())
        .make()
}

/// What drives the turns of a shard.
pub(super) struct TurnLoop {
    pub(super) stop: Stop,
    pub(super) sleeper: Sleeper,
    pub(super) busy_poll: Span,
    pub(super) flush_time_max: Span,
}

/// How a turn is waited for.
enum Wait {
    /// Not at all: there is work.
    Not,
    Nap,
    Sleep,
}

impl TurnLoop {
    /// Takes turns until the broker has stopped. False: the kernel may still be using the shard's
    /// memory, because not everything has come to its end in time.
    pub(super) async fn work<B: Brain>(self, event_loop: &mut EventLoop<B>) -> bool {
        let mut start = system::now();
        let mut last_news = start;
        let mut done_told = false;
        event_loop.begin();
        loop {
            let wait = self.choose_wait(event_loop, start, last_news);
            start = self.wait(event_loop, wait, start).await;
            let news = event_loop.driver.ring.has_completions() || event_loop.has_work();
            if news {
                last_news = start;
            }
            event_loop.turn(start);
            if self.stop.is_asked() {
                event_loop.stop(start, self.flush_time_max);
                if event_loop.is_done() && !done_told {
                    done_told = true;
                    self.stop.tell_done();
                }
                let is_over = self.stop.is_over() && event_loop.is_done();
                if is_over || event_loop.gives_up_at().is_some_and(|at| at <= start) {
                    break;
                }
            }
        }
        end_operations(event_loop)
    }

    fn choose_wait<B: Brain>(
        &self,
        event_loop: &EventLoop<B>,
        now: Moment,
        last_news: Moment,
    ) -> Wait {
        let quiet = now.since(last_news);
        if event_loop.has_work() || quiet < self.busy_poll {
            Wait::Not
        } else if quiet < NAP || event_loop.driver.mail.is_held_up() {
            Wait::Nap
        } else {
            Wait::Sleep
        }
    }

    /// Lets completions come in, and says what time it is then.
    async fn wait<B: Brain>(
        &self,
        event_loop: &mut EventLoop<B>,
        wait: Wait,
        start: Moment,
    ) -> Moment {
        match wait {
            Wait::Not => {
                event_loop.driver.ring.turn_over();
                let now = system::now();
                event_loop.driver.counters.count_turn(start, now);
                return now;
            }
            Wait::Nap => nap(event_loop, start),
            Wait::Sleep => self.sleep(event_loop, start).await,
        }
        system::now()
    }

    /// Sleeps in the executor, until a completion is signalled.
    async fn sleep<B: Brain>(&self, event_loop: &mut EventLoop<B>, start: Moment) {
        event_loop.set_alarm();
        event_loop.driver.ring.turn_over();
        event_loop.driver.counters.count_turn(start, system::now());
        event_loop.driver.ring.signal(true);
        // Completions since the last look were not signalled: looks once more.
        if !event_loop.driver.ring.has_news() && event_loop.driver.mail.announce_sleep() {
            self.sleeper.sleep().await;
            event_loop.driver.mail.wake();
        }
        event_loop.driver.ring.signal(false);
        event_loop.driver.ring.turn_over();
    }
}

/// Submits what is pending and waits in the ring for something to come, for a short while.
fn nap<B: Brain>(event_loop: &mut EventLoop<B>, start: Moment) {
    let now = system::now();
    event_loop.driver.counters.count_turn(start, now);
    if !event_loop.driver.mail.announce_sleep() {
        return event_loop.driver.ring.turn_over();
    }
    let until_deadline = event_loop.next_deadline().map_or(NAP, |deadline| deadline.since(now));
    let patience = if event_loop.driver.mail.is_held_up() { HELD_UP_NAP } else { NAP };
    event_loop.driver.ring.wait(1, patience.min(until_deadline));
    event_loop.driver.mail.wake();
}

/// Waits until the kernel uses nothing of the shard's memory any more; not for ever.
fn end_operations<B: Brain>(event_loop: &mut EventLoop<B>) -> bool {
    let give_up = system::now() + GRACE;
    while !event_loop.end_operations() {
        if system::now() >= give_up {
            return false;
        }
        event_loop.driver.ring.wait(1, LOOK_AGAIN);
    }
    true
}

/// How long a shard naps before it sleeps.
const NAP: Span = Span::from_millis(100);
/// How long to wait for the kernel to end an operation before looking at the clock.
const LOOK_AGAIN: Span = Span::from_millis(1);
/// How long to wait for a full mailbox to drain before looking again: its owner does not ring.
const HELD_UP_NAP: Span = Span::from_micros(50);
/// When the executor's preempt timer fires.
const NEVER: Span = Span::from_secs(100 * 365 * 24 * 3600);
/// The executor's own rings carry nothing but its timers and the end of its sleep.
const EXECUTOR_RING_DEPTH: usize = 32;
