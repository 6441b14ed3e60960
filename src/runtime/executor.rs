//! The thread of one shard: turn after turn, sleeping when there is nothing to do.
//!
//! ```text
//!   busy: enter the ring without waiting -> turn -> busy ...
//!   quiet: spin for `busy_poll` -> nap in the ring -> sleep in the executor
//! ```
//! A nap is one system call that submits, waits and reaps. A sleep in the executor takes several
//! system calls, so a shard sleeps only when nothing has come during a whole nap.
//!
//! The loop of turns is the executor's only task, and it yields only to sleep. The executor loses a
//! task that yields after its preempt timer has fired: it runs no task, concludes that there is
//! none, and sleeps until another operation of its own wakes it. It loses the end of a sleep in the
//! same way if the thread is delayed for longer than that timer. So the timer is set to never fire.
//!
//! With epoll there is no executor, because it makes rings itself. The thread takes the same turns,
//! and its naps and sleeps are all in epoll.

use std::{
    io,
    pin::pin,
    task::{Context, Poll, Waker},
};

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

use super::{
    Io,
    event_loop::{EventLoop, GRACE},
    ring::{sleeper::Sleeper, system},
    stop::{Stop, StopTimes},
};
use crate::{
    base::time::{Moment, Span},
    shard::ports::Brain,
};

/// What runs the turns of a shard on its thread.
pub(super) enum Executor {
    Glommio(LocalExecutor),
    /// Nothing but the thread.
    Plain,
}

impl Executor {
    /// An executor on this thread, which is pinned to `cpu`.
    pub(super) fn new(io: Io, cpu: usize) -> io::Result<Executor> {
        match io {
            Io::Ring => Ok(Executor::Glommio(
                LocalExecutorBuilder::new(Placement::Fixed(cpu))
                    .io_memory(0)
                    .ring_depth(EXECUTOR_RING_DEPTH)
                    .preempt_timer(NEVER.into())
                    .make()?,
            )),
            Io::Poll => system::pin_thread(cpu).map(|()| Executor::Plain),
        }
    }

    pub(super) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        match self {
            Executor::Glommio(executor) => executor.run(work),
            Executor::Plain => finish(work),
        }
    }
}

/// Runs work that awaits nothing.
fn finish<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => unreachable!("without an executor a shard sleeps in its ring"),
    }
}

/// What drives the turns of a shard.
pub(super) struct TurnLoop {
    pub(super) stop: Stop,
    pub(super) sleeper: Sleeper,
    pub(super) busy_poll: Span,
    pub(super) stop_times: StopTimes,
}

/// How the shard waits for the next turn.
enum Wait {
    /// Not at all: there is work.
    Not,
    Nap,
    Sleep,
}

impl TurnLoop {
    /// Takes turns until the broker has stopped. False: the kernel may still be using the shard's
    /// memory, because some operations have not ended in time.
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
            event_loop.open(&self.stop);
            if self.stop.is_asked() {
                event_loop.stop(start, self.stop_times, &self.stop);
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
        } else if quiet < NAP || event_loop.driver.is_held_up() {
            Wait::Nap
        } else {
            Wait::Sleep
        }
    }

    /// Waits for completions as the state of the shard asks for, and returns the time afterwards.
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
                event_loop.end_turn(start, now);
                return now;
            }
            Wait::Nap => nap(event_loop, start),
            Wait::Sleep => self.sleep(event_loop, start).await,
        }
        system::now()
    }

    /// Sleeps until a completion is signalled: in the executor, if there is one.
    async fn sleep<B: Brain>(&self, event_loop: &mut EventLoop<B>, start: Moment) {
        event_loop.set_alarm();
        event_loop.driver.ring.turn_over();
        event_loop.end_turn(start, system::now());
        event_loop.driver.ring.signal(true);
        // Completions that came before signalling was switched on were not signalled: check again.
        if !event_loop.driver.ring.has_news() && event_loop.driver.mail.announce_sleep() {
            self.sleeper.sleep(&mut event_loop.driver.ring).await;
            event_loop.driver.mail.wake();
        }
        event_loop.driver.ring.signal(false);
        event_loop.driver.ring.turn_over();
    }
}

/// Submits pending operations and waits in the ring for a completion, for a short while.
fn nap<B: Brain>(event_loop: &mut EventLoop<B>, start: Moment) {
    let now = system::now();
    event_loop.end_turn(start, now);
    if !event_loop.driver.mail.announce_sleep() {
        return event_loop.driver.ring.turn_over();
    }
    let until_deadline = event_loop.next_deadline().map_or(NAP, |deadline| deadline.since(now));
    let patience = if event_loop.driver.is_held_up() { HELD_UP_NAP } else { NAP };
    event_loop.driver.ring.wait(patience.min(until_deadline));
    event_loop.driver.mail.wake();
}

/// Waits, for a limited time, until the kernel no longer uses any memory of the shard.
fn end_operations<B: Brain>(event_loop: &mut EventLoop<B>) -> bool {
    let give_up = system::now() + GRACE;
    while !event_loop.end_operations() {
        if system::now() >= give_up {
            return false;
        }
        event_loop.driver.ring.wait(LOOK_AGAIN);
    }
    true
}

/// How long a shard naps before it sleeps.
const NAP: Span = Span::from_millis(100);
/// How long to wait for the kernel to end an operation before checking the clock.
const LOOK_AGAIN: Span = Span::from_millis(1);
/// How long to wait before trying a full mailbox again: its owner does not ring when it has room.
const HELD_UP_NAP: Span = Span::from_micros(50);
/// When the executor's preempt timer fires.
const NEVER: Span = Span::from_secs(100 * 365 * 24 * 3600);
/// The executor's own rings carry nothing but its timers and the end of its sleep.
const EXECUTOR_RING_DEPTH: usize = 32;
