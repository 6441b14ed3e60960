//! Sessions that a run would leave behind at the broker, and their removal.
//!
//! Before 5.0 a session that outlives its connection ends only when its client connects once more
//! with Clean Session. [MQTT-3.1.2-6@3.1.1]

use std::{collections::BTreeMap, os::fd::OwnedFd};

use ringmq::base::time::{Moment, Span};

use super::{
    connection::{client_id, source},
    fault::Fault,
    outbox::Outbox,
    wire::{encode_connect, encode_disconnect},
};
use crate::{
    machine::{
        clock,
        network::{self, Poll},
    },
    request::plan::{Plan, SessionTerms},
};

/// Clients that connect again, a few at a time, and leave as soon as they are answered.
struct Removal<'a> {
    plan: &'a Plan,
    poll: Poll,
    under_way: BTreeMap<u64, (OwnedFd, Outbox)>,
    removed: usize,
    /// When the last of them was answered, or given up.
    progress: Moment,
}

/// Ends the sessions of these clients, until all are ended or no progress is made. Says how many
/// are left.
pub fn remove_sessions(plan: &Plan, clients: &[usize]) -> Result<usize, Fault> {
    let poll = Poll::new()?;
    let progress = clock::now();
    let mut removal = Removal { plan, poll, under_way: BTreeMap::new(), removed: 0, progress };
    let mut waiting = clients.iter().copied();
    loop {
        while removal.has_room()
            && let Some(client) = waiting.next()
        {
            removal.begin(client);
        }
        let patience = removal.patience();
        if removal.under_way.is_empty() || patience == Span::ZERO {
            return Ok(clients.len() - removal.removed);
        }
        removal.turn(patience)?;
    }
}

impl Removal<'_> {
    fn has_room(&self) -> bool {
        self.under_way.len() < self.plan.opening_max.div_ceil(self.plan.threads)
    }

    /// How long the next answer may still take.
    fn patience(&self) -> Span {
        (self.progress + self.plan.limits.stall).since(clock::now())
    }

    /// A client that cannot begin to connect keeps its session.
    fn begin(&mut self, client: usize) {
        let (to, from) = (self.plan.address(client), source(self.plan, client));
        let Ok(socket) = network::begin_connect(to, from) else { return };
        let mut outbox = Outbox::new_blocked(self.plan.outbox_bytes());
        let terms = SessionTerms { persistent: false, ..self.plan.terms };
        let client_id = client_id(self.plan.seed, client);
        encode_connect(self.plan.version, &client_id, terms, &mut outbox.bytes);
        if self.poll.add(&socket, client as u64).is_ok() {
            self.under_way.insert(client as u64, (socket, outbox));
        }
    }

    fn turn(&mut self, patience: Span) -> Result<(), Fault> {
        self.poll.wait(Some(patience))?;
        for index in 0..self.poll.count() {
            let readiness = self.poll.readiness(index);
            let Some((socket, outbox)) = self.under_way.get_mut(&readiness.token) else { continue };
            if readiness.writable {
                outbox.unblock();
            }
            let lost = outbox.flush(socket, &[]).is_err();
            if lost || readiness.readable {
                self.end(readiness.token);
            }
        }
        Ok(())
    }

    /// The first bytes are the CONNACK, with which the session has ended. Without any the
    /// connection was closed.
    fn end(&mut self, token: u64) {
        let Some((socket, mut outbox)) = self.under_way.remove(&token) else { return };
        self.progress = clock::now();
        let answer = network::receive(&socket, &mut [0; ANSWER_BYTES]);
        self.removed += usize::from(matches!(answer, Ok(Some(1..))));
        encode_disconnect(self.plan.version, SessionTerms::default(), &mut outbox.bytes);
        // If this fails, the connection ends with the socket all the same.
        let _ = outbox.flush(&socket, &[]);
    }
}

/// Enough of a CONNACK to see that it is there.
const ANSWER_BYTES: usize = 64;
