//! Gives the running shards new rules, opens and closes listeners, and takes questions to shards.
//!
//! ```text
//!   SIGHUP --> Reloader::apply: binds what is added
//!                |--> to each shard: the rules, with the places of all listeners
//!                +--> then to each shard: its sockets of the added listeners
//! ```
//! A shard accepts for an added listener only after all shards have been sent its place, because it
//! may hand a connection over to any of them.

use std::{fmt, sync::Arc, time::Duration};

use tracing::error;

use super::{
    ask::Asked,
    bell::Bells,
    fault::Fault,
    lane::{LaneReceiver, LaneSender, NotSent, lanes},
    listen::{self, Listening, Ports},
};
use crate::{shard::rules::Rules, transport::Listeners};

/// What a shard is sent.
pub(super) enum Renewal {
    /// All shards get the same rules.
    Rules(Arc<Rules>),
    /// Sockets to accept on, each with the place of its listener.
    Sockets(Vec<(u16, Listening)>),
    /// What another thread wants to know, or to have done.
    Asked(Asked),
}

/// The receiving end of a shard's lane for renewals.
pub(super) type RenewalReceiver = LaneReceiver<Renewal>;

/// Changes a running broker, from a thread that may wait.
pub struct Reloader {
    lanes: Vec<LaneSender<Renewal>>,
    /// The listeners that the shards have.
    listeners: Listeners,
    ports: Ports,
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader")
            .field("shards", &self.lanes.len())
            .field("listeners", &self.listeners)
            .field("ports", &self.ports)
            .finish()
    }
}

impl Reloader {
    /// `ports` are those that the listeners have: the system picks one for port 0.
    pub(super) fn new(
        bells: &Bells,
        listeners: Listeners,
        ports: Ports,
    ) -> (Reloader, Vec<RenewalReceiver>) {
        let (lanes, receivers) = lanes(bells, RENEWALS_MAX);
        (Reloader { lanes, listeners, ports }, receivers)
    }

    /// The lanes to the shards, in order.
    pub(super) fn lanes(&self) -> Vec<LaneSender<Renewal>> {
        self.lanes.clone()
    }

    /// Has all shards replace their rules in one of their next turns, and open and close
    /// listeners. If an added listener cannot listen, nothing changes.
    pub fn apply(&mut self, rules: &Arc<Rules>) -> Result<(), Fault> {
        let (before, shards) = (&self.listeners, self.lanes.len());
        let (sockets, ports) = listen::bind_added(before, &self.ports, &rules.listeners, shards)?;
        self.ports.extend(ports);
        self.listeners = rules.listeners.clone();
        for lane in &self.lanes {
            send(lane, Renewal::Rules(Arc::clone(rules)));
        }
        for (lane, sockets) in self.lanes.iter().zip(sockets) {
            if !sockets.is_empty() {
                send(lane, Renewal::Sockets(sockets));
            }
        }
        Ok(())
    }
}

fn send(lane: &LaneSender<Renewal>, renewal: Renewal) {
    match lane.send_within(renewal, PATIENCE) {
        // A shard that has ended needs no rules.
        Ok(()) | Err(NotSent::Ended) => {}
        Err(NotSent::Full(_)) => error!("a shard takes no new rules: it keeps its own"),
    }
}

/// Renewals that may wait for one shard.
const RENEWALS_MAX: usize = 8;
/// How long to wait for a shard to read them.
const PATIENCE: Duration = Duration::from_secs(10);
