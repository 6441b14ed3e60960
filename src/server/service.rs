//! What the service manager is told (`sd_notify`, systemd): that the broker has started, that it
//! reads its configuration again, and that its shards take turns. Without `NOTIFY_SOCKET` in the
//! environment nobody is told anything.

use std::{
    io,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

use sd_notify::NotifyState;
use tracing::warn;

use crate::{
    base::{ids::ShardId, time::Span},
    runtime::{self, Reply, Shards, Unasked},
    shard::ask::Question,
};

/// The watchdog does not look more often than this.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// The broker lets clients in; `words` say where.
pub(super) fn ready(words: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(words)]);
}

/// The broker reads its configuration again. [`reloaded`] says that this is over.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => not_told(&error),
    }
}

/// The broker has read its configuration again, or kept it; `words` say which.
pub(super) fn reloaded(words: &str) {
    // A line of words only: the next line would be another state.
    let words = words.lines().next().unwrap_or_default();
    tell(&[NotifyState::Ready, NotifyState::Status(words)]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        not_told(&error);
    }
}

fn not_told(error: &io::Error) {
    warn!("the service manager cannot be told (NOTIFY_SOCKET): {error}");
}

/// Tells the service manager that all shards take turns, twice in each interval that it gives.
/// Ends when it is dropped.
pub(super) struct Watchdog {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// `None` if the service manager does not ask for it, or the system gives no thread.
    pub(super) fn start(shards: Shards) -> Option<Watchdog> {
        let pause = (sd_notify::watchdog_enabled()? / 2).max(PAUSE_MIN);
        let (end, ended) = mpsc::channel();
        let watch = move || {
            while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let ask = |shard, reply| shards.ask(shard, Question::Alive, reply);
                if all_take_turns(shards.all(), ask, pause) {
                    tell(&[NotifyState::Watchdog]);
                }
            }
        };
        let thread = thread::Builder::new().name("ringmq-watchdog".to_owned()).spawn(watch);
        let fault = |error: &io::Error| warn!("the watchdog of the service does not run: {error}");
        Some(Watchdog { end: Some(end), thread: Some(thread.inspect_err(fault).ok()?) })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // It does not matter whether it has ended or panicked.
            drop(thread.join());
        }
    }
}

/// Whether each shard answers within this time, or has ended, as all do when the broker stops.
fn all_take_turns(
    shards: impl Iterator<Item = ShardId>,
    mut ask: impl FnMut(ShardId, Reply) -> Result<(), Unasked>,
    time: Duration,
) -> bool {
    let (answered, answers) = mpsc::channel();
    let mut missing = 0;
    for shard in shards {
        let answered = answered.clone();
        let reply = Box::new(move |_| {
            // Nobody waits any longer for an answer that comes too late.
            let _ = answered.send(());
        });
        match ask(shard, reply) {
            Ok(()) => missing += 1,
            Err(Unasked::Ended) => {}
            Err(Unasked::Busy) => return false,
        }
    }
    drop(answered);
    let until = runtime::now() + Span::from(time);
    while missing > 0 {
        match answers.recv_timeout(until.since(runtime::now()).into()) {
            Ok(()) => missing -= 1,
            Err(RecvTimeoutError::Timeout) => return false,
            // The shards that have not answered have ended meanwhile.
            Err(RecvTimeoutError::Disconnected) => return true,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::ask::Answer;

    const SHARDS: usize = 3;

    /// What the watchdog thinks of shards of which one, asked last, does this with its reply.
    fn verdict(last: impl Fn(Reply) -> Result<(), Unasked>, time: Duration) -> bool {
        let ask = |shard: ShardId, reply: Reply| {
            if shard.index() == SHARDS - 1 {
                return last(reply);
            }
            reply(Answer::Nothing);
            Ok(())
        };
        all_take_turns(ShardId::all(SHARDS), ask, time)
    }

    #[test]
    fn a_service_is_alive_while_each_shard_answers_or_has_ended() {
        let long = Duration::from_mins(1);
        let answers = |reply: Reply| {
            reply(Answer::Nothing);
            Ok(())
        };
        let ends = |reply: Reply| {
            drop(reply);
            Ok(())
        };
        assert!(verdict(answers, long));
        assert!(verdict(ends, long));
        assert!(verdict(|_| Err(Unasked::Ended), long));
    }

    #[test]
    fn a_service_is_not_alive_if_one_shard_does_not_answer() {
        let (kept, replies) = mpsc::channel();
        let is_silent = move |reply: Reply| kept.send(reply).map_err(|_| Unasked::Ended);
        assert!(!verdict(is_silent, Duration::from_millis(10)));
        assert_eq!(replies.try_iter().count(), 1);
        assert!(!verdict(|_| Err(Unasked::Busy), Duration::from_mins(1)));
    }
}
