//! Leads the threads through the phases of a run, and counts what they report.

mod waiting;

use std::cell::RefCell;

use anyhow::{Context, Result, bail};
use crossbeam_channel::{Receiver, Sender};
use hdrhistogram::Histogram;
use ringmq::base::time::{Moment, Span};

use super::{
    control::{Command, Notice, SharedState},
    progress::Progress,
};
use crate::{
    account::{
        outcome::{BrokerSamples, Outcome},
        process::Sample,
        recorder::Recorder,
        series::{Point, ProcessPoint},
        tally::Tally,
    },
    machine::clock,
    payload::Phase,
    request::{plan::Plan, workload::Act},
};

/// Leads the threads through the run.
pub(super) struct Coordinator<'a> {
    plan: &'a Plan,
    shared: &'a SharedState,
    commands: Vec<Sender<Command>>,
    received: Receiver<Notice>,
    deadline: Moment,
    recorder: RefCell<Recorder>,
    progress: Progress,
}

/// What the coordinator itself measures of a run.
struct Measurement {
    phase: Measured,
    broker: Option<BrokerSamples>,
}

impl Measurement {
    fn into_outcome(
        self,
        tallies: Vec<Tally>,
        latency: Histogram<u64>,
        recorder: &Recorder,
    ) -> Outcome {
        let Measurement { phase: Measured { published, load, .. }, broker } = self;
        let Published { start, sent, stalled_rounds } = published;
        let (sampled, series) = (recorder.span(), recorder.series());
        Outcome { tallies, latency, sent, start, stalled_rounds, broker, load, sampled, series }
    }
}

/// The publishing of one phase.
struct Published {
    start: Moment,
    sent: u64,
    stalled_rounds: u64,
}

/// The measured phase, and the processes before and after it.
struct Measured {
    published: Published,
    broker: (Option<Sample>, Option<Sample>),
    load: (Sample, Sample),
}

impl<'a> Coordinator<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        shared: &'a SharedState,
        commands: Vec<Sender<Command>>,
        received: Receiver<Notice>,
    ) -> Coordinator<'a> {
        let deadline = clock::now() + plan.limits.run;
        let (recorder, progress) = (RefCell::default(), Progress::default());
        Coordinator { plan, shared, commands, received, deadline, recorder, progress }
    }

    /// Leads the run from its beginning to its end. `join` waits for the threads, and hands over
    /// what those that have not failed have counted.
    pub(super) fn run(&self, join: impl FnOnce() -> Vec<Tally>) -> Result<Outcome> {
        let measurement = self.measure();
        self.command(Command::Quit);
        let tallies = join();
        let latency = self.add_last_latencies(&tallies);
        Ok(measurement?.into_outcome(tallies, latency, &self.recorder.borrow()))
    }

    fn measure(&self) -> Result<Measurement> {
        self.progress.enter("connecting");
        let unconnected = self.sample_broker()?;
        self.connect()?;
        let connected = self.sample_broker()?;
        let phase = match self.plan.workload.act {
            Act::Publish => self.measure_publishing()?,
            Act::Replay { settle } => self.measure_replay(settle)?,
            Act::Connect | Act::Reconnect => self.measure_connecting()?,
        };
        let connected = match self.plan.workload.act {
            Act::Connect => phase.broker.1.clone(),
            _ => connected,
        };
        self.progress.enter("holding");
        self.pause(self.plan.hold)?;
        let held = self.sample_broker()?;
        self.clean_up()?;
        let broker = match (unconnected, connected, phase.broker.clone(), held) {
            (Some(unconnected), Some(connected), (Some(before), Some(after)), Some(held)) => {
                Some(BrokerSamples { unconnected, connected, before, after, held })
            }
            _ => None,
        };
        Ok(Measurement { phase, broker })
    }

    fn measure_publishing(&self) -> Result<Measured> {
        if self.plan.warmup.is_some() {
            self.progress.enter("warming up");
            self.prepare(Phase::WarmUp)?;
            let published = self.publish(Phase::WarmUp)?;
            self.drain(published.sent)?;
        }
        self.prepare(Phase::Measured)?;
        self.sample_around(|| {
            let published = self.publish(Phase::Measured)?;
            self.drain(published.sent)?;
            Ok(published)
        })
    }

    fn measure_replay(&self, settle: Span) -> Result<Measured> {
        self.progress.enter("storing");
        self.prepare(Phase::Measured)?;
        let stock = self.publish(Phase::Measured)?;
        self.pause(settle)?;
        self.sample_around(|| {
            let start = clock::now();
            self.command(Command::Subscribe(start));
            self.drain(stock.sent)?;
            Ok(Published { start, ..stock })
        })
    }

    fn measure_connecting(&self) -> Result<Measured> {
        self.prepare(Phase::Measured)?;
        self.sample_around(|| {
            let start = clock::now();
            self.command(Command::Open(start));
            // A client that is not connected when no progress is made any more counts as lost.
            self.await_all(|notice| matches!(notice, Notice::Ready))?;
            Ok(Published { start, sent: self.plan.clients() as u64, stalled_rounds: 0 })
        })
    }

    fn sample_around(&self, work: impl FnOnce() -> Result<Published>) -> Result<Measured> {
        self.progress.enter("measuring");
        let (broker, load) = (self.sample_broker()?, sample_load()?);
        self.recorder.borrow_mut().begin(self.point(broker.as_ref(), &load));
        let published = work()?;
        let (broker_after, load_after) = (self.sample_broker()?, sample_load()?);
        self.recorder.borrow_mut().end(self.point(broker_after.as_ref(), &load_after));
        Ok(Measured { published, broker: (broker, broker_after), load: (load, load_after) })
    }

    fn point(&self, broker: Option<&Sample>, load: &Sample) -> Point {
        let (broker, load) = (broker.map(ProcessPoint::from), load.into());
        let (sent, delivered) = (self.shared.sent(), self.shared.delivered());
        Point { moment: clock::now(), sent, delivered, broker, load, p99_nanos: None }
    }

    /// Removes the retained messages of a replay.
    fn clean_up(&self) -> Result<()> {
        if let Act::Replay { .. } = self.plan.workload.act {
            self.prepare(Phase::CleanUp)?;
            self.publish(Phase::CleanUp)?;
        }
        Ok(())
    }

    fn sample_broker(&self) -> Result<Option<Sample>> {
        let sample = self.plan.pid.map(Sample::take).transpose();
        sample.with_context(|| format!("cannot read /proc of {:?}", self.plan.pid))
    }

    fn connect(&self) -> Result<()> {
        let connected = self
            .await_all(|notice| matches!(notice, Notice::Ready))
            .with_context(|| format!("cannot connect to {:?}", self.plan.addresses))?;
        if !connected {
            bail!("{:?} does not answer", self.plan.addresses);
        }
        Ok(())
    }

    fn prepare(&self, phase: Phase) -> Result<()> {
        self.command(Command::Prepare(phase));
        if !self.await_all(|notice| matches!(notice, Notice::Prepared))? {
            bail!("a thread does not answer");
        }
        self.shared.reset();
        Ok(())
    }

    fn publish(&self, phase: Phase) -> Result<Published> {
        let start = clock::now();
        self.command(Command::Publish(start));
        let (sent, stalled_rounds) = self.await_published(phase)?;
        Ok(Published { start, sent, stalled_rounds })
    }

    /// A thread that does not take commands any more has reported why.
    fn command(&self, command: Command) {
        for commands in &self.commands {
            let _ = commands.send(command);
        }
        self.shared.ring_all();
    }

    /// Adds what the threads, which have ended, recorded last. Returns all latencies of the run.
    fn add_last_latencies(&self, tallies: &[Tally]) -> Histogram<u64> {
        let mut recorder = self.recorder.borrow_mut();
        for notice in self.received.try_iter() {
            if let Notice::Latencies(nanos) = notice {
                recorder.add_latencies(&nanos);
            }
        }
        for tally in tallies {
            recorder.add_latencies(&tally.latency);
        }
        recorder.finish()
    }
}

fn sample_load() -> Result<Sample> {
    Ok(Sample::take(std::process::id())?)
}
