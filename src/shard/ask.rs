//! What another thread asks of a shard, and what the shard answers.
//!
//! A question is answered in one turn. What one question may make a shard do is bounded, however
//! much the shard holds: lists are asked for in parts.

mod clients;
mod messages;
mod slow;
mod subscriptions;

use std::sync::Arc;

use bytes::Bytes;

pub use self::{
    clients::{ClientPage, ClientReport, ConnectionReport, Sought},
    messages::{Outgoing, RetainedMessage, RetainedPage, RetainedReport},
    slow::{SlowPage, SlowReport},
    subscriptions::{SubscriptionPage, SubscriptionReport},
};
use super::{
    Shard,
    ports::{Load, Ports},
    stats::Counters,
    store_figures::StoreFigures,
    trace::TraceOrder,
};
use crate::{
    access::{
        Bans,
        dynamic::{Kicks, Users},
    },
    base::time::Span,
    routing::Tally,
    transport::Listeners,
};

/// What a shard is asked.
#[derive(Clone, Debug)]
pub enum Question {
    /// Whether the shard takes turns.
    Alive,
    /// What the shard has counted.
    Figures,
    /// The sessions from this place on, a bounded number.
    Clients { from: u32, sought: Sought, count: usize },
    /// The session with this Client Identifier.
    Client(String),
    /// The latest subscriptions of the session with this Client Identifier, or of so many of its
    /// first ones, a bounded number.
    Subscriptions { client_id: String, first: Option<u32>, count: usize },
    /// To end the connection of the session with this Client Identifier.
    Kick(String),
    /// To end the session with this Client Identifier, and its connection before.
    EndSession(String),
    /// To keep to these bans from now on.
    Bans(Arc<Bans>),
    /// To disconnect those who are banned, from this place of the sessions on, a bounded number.
    EndBanned(u32),
    /// To keep to these users and their rights from now on.
    Users(Users),
    /// To disconnect the clients of these users, from this place of the sessions on, a bounded
    /// number.
    EndUsers(Arc<Kicks>, u32),
    /// To send the client with this Client Identifier the answer to its commands.
    AnswerCommands { client_id: Box<str>, payload: Bytes },
    /// The listeners, those that were removed too.
    Listeners,
    /// To trace these from now on, and nothing else. Connections have to be marked then.
    Traces(Arc<[TraceOrder]>),
    /// To mark the connections that the traces are about, from this slot on, a bounded number.
    Tap(u32),
    /// The connected clients from this place of the sessions on that something waits for, or that
    /// messages were dropped for, a bounded number.
    Slow { from: u32, count: usize },
    /// To publish a message. `Nothing` says that nobody subscribes to it, as far as is known.
    Publish(Outgoing),
    /// The retained messages that match a Topic Filter, from behind a topic on, a bounded number.
    Retained { filter: String, after: Option<String>, count: usize },
    /// The retained message of this topic.
    RetainedMessage(String),
}

/// What the shard says.
#[derive(Clone, Debug)]
pub enum Answer {
    /// There is nothing to say.
    Nothing,
    Figures(Box<Figures>),
    Clients(ClientPage),
    Client(Box<ClientReport>),
    Subscriptions(SubscriptionPage),
    Retained(RetainedPage),
    Message(Box<RetainedMessage>),
    Listeners(Listeners),
    /// So many connections were ended. `next` is where to go on; `None` if that was all.
    Ended {
        count: usize,
        next: Option<u32>,
    },
    /// Connections were marked. `next` is where to go on; `None` if that was all. So many could not
    /// be watched since the traces began.
    Tapped {
        next: Option<u32>,
        left_out: u64,
    },
    Slow(SlowPage),
    /// Why it is not done, in words.
    Refused(&'static str),
    /// It was done. `Nothing` says that there was nothing to do.
    Done,
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
    /// What the store says of itself. All shards have the same one.
    pub store: Option<StoreFigures>,
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
            Question::Clients { from, sought, count } => {
                Answer::Clients(self.client_page(*from, sought, *count))
            }
            Question::Client(client_id) => self.client(client_id),
            Question::Subscriptions { client_id, first, count } => {
                self.subscription_page(client_id, *first, *count)
            }
            Question::Kick(client_id) => self.kick(client_id, ports),
            Question::Bans(bans) => {
                self.adopt_bans(Arc::clone(bans));
                Answer::Done
            }
            Question::EndBanned(from) => self.end_banned(*from, ports),
            Question::Users(users) => self.adopt_users(users),
            Question::EndUsers(kicks, from) => self.end_users(kicks, *from, ports),
            Question::AnswerCommands { client_id, payload } => {
                self.answer_commands(client_id, payload, ports)
            }
            Question::Listeners => Answer::Listeners(self.context.rules.listeners.clone()),
            Question::Traces(orders) => self.adopt_traces(orders, ports),
            Question::Tap(from) => self.tap_some(*from, ports),
            Question::Slow { from, count } => Answer::Slow(self.slow_page(*from, *count, ports)),
            Question::Publish(message) => self.publish(message, ports),
            Question::Retained { filter, after, count } => {
                self.retained_page(filter, after.as_deref(), *count)
            }
            Question::RetainedMessage(topic) => self.retained_message(topic),
            Question::EndSession(client_id) => self.end_session_of(client_id, ports),
        }
    }

    fn figures(&self, ports: &impl Ports) -> Figures {
        let load = ports.load();
        Figures {
            counters: self.counters().with_load(&load),
            load,
            retained: self.router.retained().limited(),
            uptime: self.context.now.since(self.context.settings.started_at),
            store: ports.store_figures(),
        }
    }
}
