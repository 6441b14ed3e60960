//! What another thread asks of a shard, and what the shard answers.
//!
//! A question is answered in one turn. What one question may make a shard do is bounded, however
//! much the shard holds: lists are asked for in parts.

use super::{
    Shard,
    ports::{Load, Ports},
    stats::Counters,
};
use crate::{base::time::Span, routing::Tally};

/// What a shard is asked.
#[derive(Clone, Debug)]
pub enum Question {
    /// Whether the shard takes turns.
    Alive,
    /// What the shard has counted.
    Figures,
}

/// What the shard says.
#[derive(Clone, Debug)]
pub enum Answer {
    /// There is nothing to say.
    Nothing,
    Figures(Box<Figures>),
}

/// What a shard has counted since its start.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub counters: Counters,
    pub load: Load,
    /// The retained messages that count in limits. All shards have the same ones.
    pub retained: Tally,
    /// Since the broker has started.
    pub uptime: Span,
}

impl Shard {
    /// Answers, and does what was asked for.
    pub(super) fn answer_question(
        &mut self,
        question: &Question,
        ports: &mut impl Ports,
    ) -> Answer {
        match question {
            Question::Alive => Answer::Nothing,
            Question::Figures => Answer::Figures(Box::new(self.figures(ports))),
        }
    }

    fn figures(&self, ports: &impl Ports) -> Figures {
        let load = ports.load();
        Figures {
            counters: self.counters().with_load(&load),
            load,
            retained: self.router.retained().limited(),
            uptime: self.context.now.since(self.context.settings.started_at),
        }
    }
}
