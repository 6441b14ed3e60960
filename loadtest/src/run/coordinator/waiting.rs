//! Waiting for the threads: for one notice of each, for an end, or for a while.

use std::time::Duration;

use anyhow::{Result, bail};
use crossbeam_channel::RecvTimeoutError;
use ringmq::base::time::Span;

use super::{Coordinator, sample_load};
use crate::{
    machine::clock,
    payload::Phase,
    request::pacing::Pacing,
    run::control::{Command, Notice},
};

impl Coordinator<'_> {
    /// Waits until all publishers are done. If no progress is made, publishing is stopped; but with
    /// rounds the next round is begun without the missing deliveries, a few times.
    pub(super) fn await_published(&self, phase: Phase) -> Result<(u64, u64)> {
        let (mut sent, mut threads, mut stalls) = (0, 0, 0);
        let mut stopped = false;
        loop {
            let finished = self.listen(|notice| {
                if let Notice::Published { sent: more } = notice {
                    sent += more;
                    threads += 1;
                }
                threads == self.plan.threads
            })?;
            if finished {
                return Ok((sent, stalls));
            }
            if stopped {
                bail!("a thread does not answer");
            }
            let rounds = matches!(self.plan.pacing, Pacing::Rounds { .. });
            if rounds && stalls < STALLED_ROUNDS_MAX {
                stalls += 1;
                self.shared.forgive_round(self.plan, phase);
            } else {
                stopped = true;
                self.command(Command::Stop);
            }
        }
    }

    /// Waits until all that was sent has been delivered, or no progress is made.
    pub(super) fn drain(&self, sent: u64) -> Result<()> {
        if !self.shared.expect(sent * self.plan.workload.audience) {
            self.listen(|notice| matches!(notice, Notice::AllDelivered))?;
        }
        Ok(())
    }

    pub(super) fn pause(&self, span: Span) -> Result<()> {
        let end = clock::now() + span;
        while clock::now() < end {
            self.observe()?;
            let rest = end.since(clock::now());
            self.receive(rest.min(TICK))?;
        }
        Ok(())
    }

    /// Waits for the same notice from every thread. False when no progress is made.
    pub(super) fn await_all(&self, is_awaited: impl Fn(&Notice) -> bool) -> Result<bool> {
        let mut count = 0;
        self.listen(|notice| {
            count += usize::from(is_awaited(&notice));
            count == self.plan.threads
        })
    }

    /// Listens to notices until one of them is the last. False when no progress is made.
    fn listen(&self, mut is_last: impl FnMut(Notice) -> bool) -> Result<bool> {
        let (mut progress, mut since) = (self.shared.progress(), clock::now());
        loop {
            if let Some(notice) = self.receive(TICK)?
                && is_last(notice)
            {
                return Ok(true);
            }
            self.observe()?;
            let now = clock::now();
            if now > self.deadline {
                bail!("the run takes longer than its deadline");
            }
            if self.shared.progress() != progress {
                (progress, since) = (self.shared.progress(), now);
            }
            if now - since > self.plan.patience() {
                return Ok(false);
            }
        }
    }

    /// Shows how far the run is, and adds to the series when that is due.
    fn observe(&self) -> Result<()> {
        self.progress.show(self.shared.delivered());
        if self.recorder.borrow().is_due(clock::now()) {
            let point = self.point(self.sample_broker()?.as_ref(), &sample_load()?);
            self.recorder.borrow_mut().record(point);
            self.command(Command::ReportLatencies);
        }
        Ok(())
    }

    fn receive(&self, patience: Span) -> Result<Option<Notice>> {
        match self.received.recv_timeout(Duration::from(patience)) {
            Ok(Notice::Failed(fault)) => Err(fault.into()),
            Ok(Notice::Latencies(nanos)) => {
                self.recorder.borrow_mut().add_latencies(&nanos);
                Ok(None)
            }
            Ok(notice) => Ok(Some(notice)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("all threads have ended"),
        }
    }
}

/// How often a waiting coordinator looks for progress.
const TICK: Span = Span::from_millis(50);

const STALLED_ROUNDS_MAX: u64 = 10;
