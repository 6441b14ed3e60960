//! One run from the first connection to the summary.
//!
//! ```text
//!   connect ──► warm up ──► drain ──► measure ──► drain ──► hold ──► disconnect
//! ```
//! A phase ends when all that it sent has been delivered, so that what the broker did between its
//! two samples is exactly what these messages cost. Where retained messages are replayed, they are
//! published before the first sample and removed after the last.

pub mod control;
mod coordinator;
mod file_limit;
pub mod opening;
pub mod progress;
pub mod publishing;
pub mod slow_readers;
pub mod worker;

use std::{num::NonZeroU64, sync::Arc, thread};

use anyhow::{Context, Result};
use crossbeam_channel::unbounded;

use self::{
    control::{Link, Notice, SharedState},
    coordinator::Coordinator,
    worker::Worker,
};
use crate::{
    account::{outcome::Outcome, tally::Tally},
    clients::fault::Fault,
    machine::cpus,
    request::plan::Plan,
};

pub fn run(plan: &Arc<Plan>) -> Result<Outcome> {
    file_limit::raise(plan.clients() as u64, plan.threads as u64)?;
    if let Some(&cpu) = plan.cpus.first() {
        cpus::pin(cpu).with_context(|| format!("cannot run on CPU {cpu}"))?;
    }
    let shared = Arc::new(SharedState::new(plan.threads)?);
    let (notices, received) = unbounded();
    thread::scope(|scope| {
        let mut commands = Vec::new();
        let mut threads = Vec::new();
        for thread in 0..plan.threads {
            let (command, commanded) = unbounded();
            let link = Link {
                thread,
                shared: Arc::clone(&shared),
                commands: commanded,
                notices: notices.clone(),
            };
            commands.push(command);
            threads.push(scope.spawn(|| work(Arc::clone(plan), link)));
        }
        let coordinator = Coordinator::new(plan, &shared, commands, received);
        coordinator.run(|| threads.into_iter().filter_map(|thread| thread.join().ok()?).collect())
    })
}

/// The life of one thread. `None`: it has reported why it failed.
fn work(plan: Arc<Plan>, link: Link) -> Option<Tally> {
    let notices = link.notices.clone();
    match try_work(plan, link) {
        Ok(tally) => Some(tally),
        Err(fault) => {
            // Nobody listens only when the run has failed already.
            let _ = notices.send(Notice::Failed(fault));
            None
        }
    }
}

fn try_work(plan: Arc<Plan>, link: Link) -> Result<Tally, Fault> {
    if !plan.cpus.is_empty() {
        cpus::pin(plan.cpus[link.thread % plan.cpus.len()])?;
    }
    // Due times are kept to the microsecond, not to the 50 that are the default.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    Worker::new(plan, link)?.run()
}
