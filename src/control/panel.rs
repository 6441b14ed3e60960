//! The shards, as routes ask them.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, Semaphore, oneshot},
    time,
};

use super::{
    ban_book::BanBook, counts::Counts, events::Feed, problem::Problem, steering::Steering,
    trace_book::TraceBook, traces::Traces,
};
use crate::{
    base::ids::ShardId,
    runtime::Shards,
    shard::ask::{Answer, Figures, Question},
    transport::Address,
};

/// Asks shards, one question at a time: whatever comes over HTTP, a shard has one to answer.
#[derive(Clone)]
pub(super) struct Panel {
    shards: Shards,
    steering: Arc<dyn Steering>,
    counts: Arc<Counts>,
    feed: Arc<Feed>,
    bans: Arc<Mutex<BanBook>>,
    bound: Arc<[Address]>,
    traces: Arc<Traces>,
    turn: Arc<Semaphore>,
}

impl Panel {
    pub(super) fn new(
        shards: Shards,
        steering: Arc<dyn Steering>,
        counts: Arc<Counts>,
        (bans, traces): (BanBook, TraceBook),
        bound: Vec<Address>,
    ) -> Panel {
        let feed = Feed::new(shards.events(), Arc::clone(&counts));
        Panel {
            shards,
            steering,
            counts,
            feed,
            bans: Arc::new(Mutex::new(bans)),
            bound: bound.into(),
            traces: Traces::new(traces),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    pub(super) fn steering(&self) -> &dyn Steering {
        &*self.steering
    }

    /// What is counted about HTTP.
    pub(super) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// What happens to clients.
    pub(super) fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// The bans. Whoever changes them keeps them locked until all shards know.
    pub(super) fn bans(&self) -> &Mutex<BanBook> {
        &self.bans
    }

    /// The address of a listener of the start, with the port that the system has picked.
    pub(super) fn bound(&self, place: u16) -> Option<&Address> {
        self.bound.get(usize::from(place))
    }

    pub(super) fn traces(&self) -> &Traces {
        &self.traces
    }

    /// Whether clients are let in.
    pub(super) fn are_open(&self) -> bool {
        self.shards.are_open()
    }

    /// The answers of all shards, in order.
    pub(super) async fn ask_all(&self, question: &Question) -> Result<Vec<Answer>, Problem> {
        let _turn = self.turn.acquire().await.map_err(|_| ended())?;
        let asked: Vec<_> = self.shards.all().map(|shard| self.send(shard, question)).collect();
        let mut answers = Vec::with_capacity(asked.len());
        for answer in asked {
            answers.push(answer_of(answer?).await?);
        }
        Ok(answers)
    }

    /// The answer of one shard.
    pub(super) async fn ask(&self, shard: ShardId, question: &Question) -> Result<Answer, Problem> {
        let _turn = self.turn.acquire().await.map_err(|_| ended())?;
        answer_of(self.send(shard, question)?).await
    }

    /// Asks each shard to its end: the question from a place on, from the first place on. `take`
    /// says where the shard goes on.
    pub(super) async fn walk(
        &self,
        question: impl Fn(u32) -> Question,
        mut take: impl FnMut(Answer) -> Option<u32>,
    ) -> Result<(), Problem> {
        let mut shard = self.shard(0);
        while let Some(at) = shard {
            let mut from = Some(0);
            while let Some(place) = from {
                from = take(self.ask(at, &question(place)).await?);
            }
            shard = self.after(at);
        }
        Ok(())
    }

    /// Has all shards do something. False: there was nothing to do on any of them.
    pub(super) async fn change(&self, question: &Question) -> Result<bool, Problem> {
        let answers = self.ask_all(question).await?;
        Ok(answers.iter().any(|answer| matches!(answer, Answer::Done)))
    }

    /// The shard with this number, if there is one.
    pub(super) fn shard(&self, index: usize) -> Option<ShardId> {
        self.shards.all().nth(index)
    }

    /// The next shard, if there is one.
    pub(super) fn after(&self, shard: ShardId) -> Option<ShardId> {
        self.shard(shard.index() + 1)
    }

    /// What each shard has counted.
    pub(super) async fn figures(&self) -> Result<Vec<Figures>, Problem> {
        let answers = self.ask_all(&Question::Figures).await?;
        let figures = answers.into_iter().filter_map(|answer| match answer {
            Answer::Figures(figures) => Some(*figures),
            _ => None,
        });
        Ok(figures.collect())
    }

    fn send(
        &self,
        shard: ShardId,
        question: &Question,
    ) -> Result<oneshot::Receiver<Answer>, Problem> {
        let (sender, receiver) = oneshot::channel();
        // Nobody may wait any more: then the answer is dropped.
        let reply = Box::new(|answer| drop(sender.send(answer)));
        self.shards.ask(shard, question.clone(), reply).map_err(|_| busy(shard))?;
        Ok(receiver)
    }
}

async fn answer_of(answer: oneshot::Receiver<Answer>) -> Result<Answer, Problem> {
    match time::timeout(PATIENCE, answer).await {
        Ok(answer) => answer.map_err(|_| ended()),
        Err(_) => Err(Problem::unavailable("a shard has not answered for 5 seconds")),
    }
}

fn busy(shard: ShardId) -> Problem {
    Problem::unavailable(format!("shard {shard} does not take questions"))
}

fn ended() -> Problem {
    Problem::unavailable("the broker stops")
}

/// How long a shard may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
