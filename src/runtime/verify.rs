//! Slow checks on threads of their own, so that a password hash does not delay a turn.
//!
//! A shard keeps the checks that wait, and gives the threads only so many that none of them is
//! idle. Nobody waits for the end of a thread: a check cannot be broken off. The answers of the
//! hook come the same way.

use std::{io, thread};

use crossbeam_channel::{Receiver, Sender, bounded};
use tracing::warn;

use super::{
    bell::Bells,
    lane::{LaneReceiver, LaneSender, NotSent, lanes},
    ring::system,
};
use crate::{
    access::HookReply,
    base::ids::{ConnectionId, ShardId},
    shard::ports::{Finding, HookCall, Verification},
};

/// The answer to one verification.
pub(super) type Verdict = (ConnectionId, Finding);

struct Question {
    shard: ShardId,
    connection: ConnectionId,
    verification: Verification,
}

/// A shard's access to the threads that verify, and to the hook.
pub(super) struct Verifier {
    me: ShardId,
    /// None once the shard has ended.
    questions: Option<Sender<Question>>,
    verdicts: LaneReceiver<Verdict>,
    /// Questions without a verdict, and how many there may be.
    open: usize,
    open_max: usize,
    /// The way of the answers of the hook, and how many have not come.
    to_me: LaneSender<Verdict>,
    answers: LaneReceiver<Verdict>,
    unanswered: usize,
}

impl Verifier {
    /// Whether fewer questions of this shard are open than may be.
    pub(super) fn can_ask(&self) -> bool {
        self.questions.is_some() && self.open < self.open_max
    }

    /// Asks, if it can.
    pub(super) fn ask(&mut self, connection: ConnectionId, verification: Verification) {
        let Some(questions) = self.questions.as_ref().filter(|_| self.can_ask()) else { return };
        let question = Question { shard: self.me, connection, verification };
        // The channel has room for the open questions of all shards.
        self.open += usize::from(questions.try_send(question).is_ok());
    }

    /// Whether fewer questions to the hook are open than may be.
    pub(super) fn can_ask_hook(&self) -> bool {
        self.questions.is_some() && self.unanswered < HOOK_CALLS_MAX
    }

    /// Asks the hook, if it can.
    pub(super) fn ask_hook(&mut self, connection: ConnectionId, call: HookCall) {
        if self.can_ask_hook() {
            self.unanswered += 1;
            let to_me = self.to_me.clone();
            // A shard that has ended needs no answer, and its lane is never full.
            call(HookReply::new(move |finding| drop(to_me.try_send((connection, finding)))));
        }
    }

    /// Stops asking, so that the threads can end even if the shard's memory is leaked.
    pub(super) fn end(&mut self) {
        self.questions = None;
    }

    pub(super) fn verdict(&mut self) -> Option<Verdict> {
        if let Some(verdict) = self.verdicts.receive() {
            self.open -= 1;
            return Some(verdict);
        }
        if self.unanswered == 0 {
            return None;
        }
        let answer = self.answers.receive()?;
        self.unanswered -= 1;
        Some(answer)
    }
}

/// Starts the threads: one for two CPUs that the process may use. They end by themselves when each
/// shard has dropped or ended its [`Verifier`].
pub(super) fn start(bells: &Bells) -> io::Result<Vec<Verifier>> {
    let threads = (thread::available_parallelism()?.get() / 2).max(1);
    start_threads(bells, threads)
}

fn start_threads(bells: &Bells, threads: usize) -> io::Result<Vec<Verifier>> {
    let shards = bells.shards().count();
    let open_max = open_max(shards, threads);
    let (questions, asked) = bounded::<Question>(shards * open_max);
    let (answers, verdicts) = lanes(bells, open_max);
    for _ in 0..threads {
        let (asked, answers) = (asked.clone(), answers.clone());
        let name = "ringmq-verify".to_owned();
        thread::Builder::new().name(name).spawn(move || verify(&asked, &answers))?;
    }
    let (to_shards, answered) = lanes(bells, HOOK_CALLS_MAX);
    let verifier = |((me, verdicts), (to_me, answers))| {
        let questions = Some(questions.clone());
        let (open, unanswered) = (0, 0);
        Verifier { me, questions, verdicts, open, open_max, to_me, answers, unanswered }
    };
    let of_hook = to_shards.into_iter().zip(answered);
    Ok(bells.shards().zip(verdicts).zip(of_hook).map(verifier).collect())
}

/// Questions of one shard without a verdict. Together the shards keep all threads busy, and a
/// question waits for few others.
fn open_max(shards: usize, threads: usize) -> usize {
    (2 * threads).div_ceil(shards).max(2)
}

fn verify(asked: &Receiver<Question>, answers: &[LaneSender<Verdict>]) {
    if let Err(error) = system::lower_priority(NICE) {
        warn!(%error, "password checks run at normal priority");
    }
    for Question { shard, connection, verification } in asked {
        let finding = verification();
        // A shard that has ended needs no verdict, and its lane is never full.
        let sent = answers[shard.index()].try_send((connection, finding));
        debug_assert!(
            !matches!(sent, Err(NotSent::Full(_))),
            "a shard keeps room for its verdicts"
        );
    }
}

/// Questions of one shard to the hook without an answer: twice the connections that it may have.
const HOOK_CALLS_MAX: usize = 512;
/// The shards come first: under load a thread gets about a quarter of the CPU that it shares.
const NICE: i32 = 5;

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const CONNECTION: ConnectionId = ConnectionId { slot: 3, generation: 1 };

    #[test]
    fn a_verdict_comes_back_to_the_shard_that_asked() {
        let bells = Bells::new(2).unwrap();
        let mut verifiers = start(&bells).unwrap();
        for passed in [true, false] {
            verifiers[1].ask(CONNECTION, Box::new(move || passed.into()));
            bells.listen(ShardId::new(1).unwrap()).read_exact(&mut [0; 1]).unwrap();
            assert_eq!(verifiers[1].verdict(), Some((CONNECTION, passed.into())));
        }
        assert_eq!(verifiers[0].verdict(), None);
    }

    #[test]
    fn the_answers_of_the_hook_come_back_and_none_is_missing() {
        let bells = Bells::new(1).unwrap();
        let mut verifiers = start_threads(&bells, 1).unwrap();
        let mut replies = Vec::new();
        let (sender, kept) = std::sync::mpsc::channel();
        while verifiers[0].can_ask_hook() {
            let sender = sender.clone();
            verifiers[0].ask_hook(CONNECTION, Box::new(move |reply| drop(sender.send(reply))));
            replies.extend(kept.try_iter());
        }
        assert_eq!(replies.len(), HOOK_CALLS_MAX);
        drop(replies.pop());
        assert_eq!(verifiers[0].verdict(), Some((CONNECTION, Finding::Unanswered)));
        replies.pop().unwrap().give(Finding::Right);
        assert_eq!(verifiers[0].verdict(), Some((CONNECTION, Finding::Right)));
        assert!(verifiers[0].can_ask_hook() && verifiers[0].verdict().is_none());
    }

    #[test]
    fn a_shard_that_has_asked_enough_asks_again_after_a_verdict() {
        let bells = Bells::new(1).unwrap();
        let mut verifiers = start_threads(&bells, 1).unwrap();
        let (let_go, hold) = bounded::<()>(0);
        let mut asked = 0;
        while verifiers[0].can_ask() {
            let hold = hold.clone();
            verifiers[0].ask(CONNECTION, Box::new(move || hold.recv().is_ok().into()));
            asked += 1;
        }
        assert_eq!(asked, 2);
        let_go.send(()).unwrap();
        bells.listen(ShardId::FIRST).read_exact(&mut [0; 1]).unwrap();
        assert_eq!(verifiers[0].verdict(), Some((CONNECTION, Finding::Right)));
        assert!(verifiers[0].can_ask());
        verifiers[0].end();
        assert!(!verifiers[0].can_ask());
    }

    #[test]
    fn all_threads_are_busy_and_the_questions_ahead_are_few() {
        for (shards, threads, expected) in [(1, 1, 2), (2, 1, 2), (1, 8, 16), (16, 8, 2)] {
            assert_eq!(open_max(shards, threads), expected);
        }
    }
}
