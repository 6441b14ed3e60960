//! Slow checks on threads of their own, so that a password hash does not delay a turn.

use std::{io, thread, thread::JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{
    bell::Bells,
    lane::{LaneReceiver, LaneSender, NotSent, lanes},
};
use crate::{
    base::ids::{ConnectionId, ShardId},
    shard::ports::Verification,
};

/// The answer to one verification.
pub(super) type Verdict = (ConnectionId, bool);

struct Question {
    shard: ShardId,
    connection: ConnectionId,
    verification: Verification,
}

/// A shard's access to the threads that verify.
pub(super) struct Verifier {
    me: ShardId,
    /// None once the shard has ended.
    questions: Option<Sender<Question>>,
    verdicts: LaneReceiver<Verdict>,
    /// Questions without a verdict.
    open: usize,
}

impl Verifier {
    /// False: too many wait already.
    pub(super) fn ask(&mut self, connection: ConnectionId, verification: Verification) -> bool {
        // The lane has room for each verdict, so that no thread has to wait for a shard.
        if self.open == VERDICTS_MAX {
            return false;
        }
        let question = Question { shard: self.me, connection, verification };
        let asked = self.questions.as_ref().is_some_and(|it| it.try_send(question).is_ok());
        self.open += usize::from(asked);
        asked
    }

    /// Stops asking, so that the threads can end even if the shard's memory is leaked.
    pub(super) fn end(&mut self) {
        self.questions = None;
    }

    pub(super) fn verdict(&mut self) -> Option<Verdict> {
        let verdict = self.verdicts.receive()?;
        self.open -= 1;
        Some(verdict)
    }
}

/// Starts the threads. They end when each shard has dropped or ended its [`Verifier`].
pub(super) fn start(bells: &Bells) -> io::Result<(Vec<Verifier>, Vec<JoinHandle<()>>)> {
    let (questions, asked) = bounded::<Question>(QUESTIONS_MAX);
    let (answers, verdicts) = lanes(bells, VERDICTS_MAX);
    let threads = (0..THREADS)
        .map(|_| {
            let (asked, answers) = (asked.clone(), answers.clone());
            let name = "ringmq-verify".to_owned();
            thread::Builder::new().name(name).spawn(move || verify(&asked, &answers))
        })
        .collect::<io::Result<_>>()?;
    let verifier =
        |(me, verdicts)| Verifier { me, questions: Some(questions.clone()), verdicts, open: 0 };
    let verifiers = bells.shards().zip(verdicts).map(verifier).collect();
    Ok((verifiers, threads))
}

fn verify(asked: &Receiver<Question>, answers: &[LaneSender<Verdict>]) {
    for Question { shard, connection, verification } in asked {
        let passed = verification();
        // A shard that has ended needs no verdict, and its lane is never full.
        let sent = answers[shard.index()].try_send((connection, passed));
        debug_assert!(
            !matches!(sent, Err(NotSent::Full(_))),
            "a shard keeps room for its verdicts"
        );
    }
}

/// Verifications of all shards that may wait. Further ones are refused.
const QUESTIONS_MAX: usize = 1024;
const THREADS: usize = 2;
/// Questions of one shard without a verdict: those that wait, and those that a thread works on.
const VERDICTS_MAX: usize = QUESTIONS_MAX + THREADS;

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_verdict_comes_back_to_the_shard_that_asked() {
        let bells = Bells::new(2).unwrap();
        let (mut verifiers, threads) = start(&bells).unwrap();
        let connection = ConnectionId { slot: 3, generation: 1 };
        for passed in [true, false] {
            assert!(verifiers[1].ask(connection, Box::new(move || passed)));
            bells.listen(ShardId::new(1).unwrap()).read_exact(&mut [0; 1]).unwrap();
            assert_eq!(verifiers[1].verdict(), Some((connection, passed)));
        }
        assert_eq!(verifiers[0].verdict(), None);
        drop(verifiers);
        for thread in threads {
            thread.join().unwrap();
        }
    }

    #[test]
    fn too_many_questions_are_refused() {
        let bells = Bells::new(1).unwrap();
        let (mut verifiers, threads) = start(&bells).unwrap();
        let (let_go, hold) = bounded::<()>(0);
        let connection = ConnectionId { slot: 0, generation: 0 };
        let mut ask = || {
            let hold = hold.clone();
            verifiers[0].ask(connection, Box::new(move || hold.recv().is_ok()))
        };
        let accepted = (0..=QUESTIONS_MAX + THREADS).filter(|_| ask()).count();
        assert!((QUESTIONS_MAX..=QUESTIONS_MAX + THREADS).contains(&accepted));
        drop(let_go);
        drop(verifiers);
        for thread in threads {
            thread.join().unwrap();
        }
    }
}
