//! Slow checks on threads of their own, so that a password hash does not delay a turn.

use std::{io, io::Write, os::unix::net::UnixStream, sync::Arc, thread, thread::JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

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

/// The bells of all shards, which any thread may ring.
///
/// Each is a pair of sockets whose one end the shard's ring reads. An event counter would not do:
/// the ring has one to signal its completions to, and the kernel does not signal one event counter
/// while it is waking up the readers of another.
#[derive(Clone, Debug)]
pub(super) struct Bells(Arc<[Bell]>);

#[derive(Debug)]
struct Bell {
    button: UnixStream,
    sound: UnixStream,
}

impl Bells {
    pub(super) fn new(shards: usize) -> io::Result<Bells> {
        (0..shards).map(|_| Bell::new()).collect::<io::Result<_>>().map(Bells)
    }

    /// Where the shard hears its bell: each ring is a byte.
    pub(super) fn listen(&self, shard: ShardId) -> &UnixStream {
        &self.0[shard.index()].sound
    }

    pub(super) fn ring(&self, shard: ShardId) {
        // It fails only when so many rings are unheard that one more makes no difference.
        let _heard = (&self.0[shard.index()].button).write(&[1]);
    }

    pub(super) fn ring_all(&self) {
        ShardId::all(self.0.len()).for_each(|shard| self.ring(shard));
    }
}

impl Bell {
    fn new() -> io::Result<Bell> {
        let (button, sound) = UnixStream::pair()?;
        button.set_nonblocking(true)?;
        Ok(Bell { button, sound })
    }
}

/// A shard's access to the threads that verify.
pub(super) struct Verifier {
    me: ShardId,
    /// None once the shard has ended.
    questions: Option<Sender<Question>>,
    verdicts: Receiver<Verdict>,
}

impl Verifier {
    /// False: too many wait already.
    pub(super) fn ask(&self, connection: ConnectionId, verification: Verification) -> bool {
        let question = Question { shard: self.me, connection, verification };
        self.questions.as_ref().is_some_and(|questions| questions.try_send(question).is_ok())
    }

    /// Asks nothing more, so that the threads can end even if the shard's memory stays.
    pub(super) fn end(&mut self) {
        self.questions = None;
    }

    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.verdicts.try_recv().ok()
    }
}

/// Starts the threads. They end when each shard has dropped or ended its [`Verifier`].
pub(super) fn start(bells: &Bells) -> io::Result<(Vec<Verifier>, Vec<JoinHandle<()>>)> {
    let (questions, asked) = bounded::<Question>(QUESTIONS_MAX);
    // As many verdicts can wait as questions could be asked, so this lane needs no limit.
    let (answers, verdicts): (Vec<_>, Vec<_>) = bells.0.iter().map(|_| unbounded()).unzip();
    let threads = (0..THREADS)
        .map(|_| {
            let (asked, answers, bells) = (asked.clone(), answers.clone(), bells.clone());
            let name = "ringmq-verify".to_owned();
            thread::Builder::new().name(name).spawn(move || verify(&asked, &answers, &bells))
        })
        .collect::<io::Result<_>>()?;
    let verifiers = ShardId::all(verdicts.len())
        .zip(verdicts)
        .map(|(me, verdicts)| Verifier { me, questions: Some(questions.clone()), verdicts })
        .collect();
    Ok((verifiers, threads))
}

fn verify(asked: &Receiver<Question>, answers: &[Sender<Verdict>], bells: &Bells) {
    for Question { shard, connection, verification } in asked {
        let passed = verification();
        // A shard that has ended needs no verdict.
        if answers[shard.index()].send((connection, passed)).is_ok() {
            bells.ring(shard);
        }
    }
}

/// Verifications of all shards that may wait; further ones are refused.
const QUESTIONS_MAX: usize = 1024;
const THREADS: usize = 2;

#[cfg(test)]
mod tests {
    use std::{io::Read, time::Duration};

    use super::*;

    #[test]
    fn a_verdict_comes_back_to_the_shard_that_asked() {
        let bells = Bells::new(2).unwrap();
        let (verifiers, threads) = start(&bells).unwrap();
        let connection = ConnectionId { slot: 3, generation: 1 };
        for passed in [true, false] {
            assert!(verifiers[1].ask(connection, Box::new(move || passed)));
            let verdict = verifiers[1].verdicts.recv_timeout(Duration::from_secs(10)).unwrap();
            assert_eq!(verdict, (connection, passed));
            bells.listen(ShardId::new(1).unwrap()).read_exact(&mut [0; 1]).unwrap();
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
        let (verifiers, threads) = start(&bells).unwrap();
        let (let_go, hold) = bounded::<()>(0);
        let connection = ConnectionId { slot: 0, generation: 0 };
        let ask = || {
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
