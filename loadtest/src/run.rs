//! One run from the first connection to the summary.
//!
//! ```text
//!   connect ──► warm up ──► drain ──► measure ──► drain ──► hold ──► disconnect
//! ```
//! A phase ends when all that it sent has been delivered, so that what the broker did between its
//! two samples is exactly what these messages cost. Where retained messages are replayed, they are
//! published before the first sample and removed after the last.

use std::{cell::RefCell, num::NonZeroU64, sync::Arc, thread, time::Duration};

use anyhow::{Context, Result, bail};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use hdrhistogram::Histogram;
use ringmq::base::time::{Moment, Span};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    account::{
        outcome::{BrokerSamples, Outcome},
        process::Sample,
        recorder::Recorder,
        series::{Point, ProcessPoint},
        tally::Tally,
    },
    clients::fault::Fault,
    control::{Command, Link, Report, Shared},
    machine::{clock, cpus},
    payload::Phase,
    progress::Progress,
    request::{pacing::Pacing, plan::Plan, workload::Act},
    worker::Worker,
};

pub fn run(plan: &Arc<Plan>) -> Result<Outcome> {
    raise_file_limit(plan.clients() as u64, plan.threads as u64)?;
    if let Some(&cpu) = plan.cpus.first() {
        cpus::pin(cpu).with_context(|| format!("cannot run on CPU {cpu}"))?;
    }
    let shared = Arc::new(Shared::new(plan.threads)?);
    let (reports, received) = unbounded();
    let deadline = clock::now() + plan.limits.run;
    thread::scope(|scope| {
        let mut commands = Vec::new();
        let mut threads = Vec::new();
        for thread in 0..plan.threads {
            let (command, commanded) = unbounded();
            let link = Link {
                thread,
                shared: Arc::clone(&shared),
                commands: commanded,
                reports: reports.clone(),
            };
            commands.push(command);
            threads.push(scope.spawn(|| work(Arc::clone(plan), link)));
        }
        let coordinator = Coordinator {
            plan,
            shared: &shared,
            commands,
            received,
            deadline,
            recorder: RefCell::default(),
            progress: Progress::default(),
        };
        let measurement = coordinator.run();
        coordinator.command(Command::Quit);
        let tallies: Vec<_> =
            threads.into_iter().filter_map(|thread| thread.join().ok()?).collect();
        let latency = coordinator.hear_rest(&tallies);
        Ok(measurement?.into_outcome(tallies, latency, &coordinator.recorder.borrow()))
    })
}

/// The life of one thread. `None`: it has reported why it failed.
fn work(plan: Arc<Plan>, link: Link) -> Option<Tally> {
    let reports = link.reports.clone();
    match try_work(plan, link) {
        Ok(tally) => Some(tally),
        Err(fault) => {
            // Nobody listens only when the run has failed already.
            let _ = reports.send(Report::Failed(fault));
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

/// Each connection is a file, and each thread has two more.
fn raise_file_limit(connections: u64, threads: u64) -> Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let besides = FILES_BESIDES + 2 * threads;
    let needed = connections + besides;
    if let Some(maximum) = maximum.filter(|maximum| *maximum < needed) {
        bail!(
            "{connections} connections need {needed} open files, and at most {maximum} are \
             allowed: raise the hard limit (`ulimit -Hn {needed}` as root, or LimitNOFILE), or \
             have at most {} clients (of a preset with --scale)",
            maximum.saturating_sub(besides)
        );
    }
    if current.is_some_and(|current| current < needed) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum })?;
    }
    Ok(())
}

/// Leads the threads through the run.
struct Coordinator<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    commands: Vec<Sender<Command>>,
    received: Receiver<Report>,
    deadline: Moment,
    recorder: RefCell<Recorder>,
    progress: Progress,
}

/// What the coordinator sees of a run.
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

/// What one phase came to.
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

impl Coordinator<'_> {
    fn run(&self) -> Result<Measurement> {
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
            // Whoever is not connected when nothing gets on any more counts as lost.
            self.await_all(|report| matches!(report, Report::Ready))?;
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

    /// Shows how far it is, and adds to the series when that is due.
    fn observe(&self) -> Result<()> {
        self.progress.show(self.shared.delivered());
        if self.recorder.borrow().is_due(clock::now()) {
            let point = self.point(self.sample_broker()?.as_ref(), &sample_load()?);
            self.recorder.borrow_mut().record(point);
            self.command(Command::Report);
        }
        Ok(())
    }

    /// What the threads, which have ended, recorded last. Says the latencies of all.
    fn hear_rest(&self, tallies: &[Tally]) -> Histogram<u64> {
        let mut recorder = self.recorder.borrow_mut();
        for report in self.received.try_iter() {
            if let Report::Latencies(nanos) = report {
                recorder.add_latencies(&nanos);
            }
        }
        for tally in tallies {
            recorder.add_latencies(&tally.latency);
        }
        recorder.finish()
    }

    /// Removes what the run would leave behind.
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
            .await_all(|report| matches!(report, Report::Ready))
            .with_context(|| format!("cannot connect to {:?}", self.plan.addresses))?;
        if !connected {
            bail!("{:?} does not answer", self.plan.addresses);
        }
        Ok(())
    }

    fn prepare(&self, phase: Phase) -> Result<()> {
        self.command(Command::Prepare(phase));
        if !self.await_all(|report| matches!(report, Report::Prepared))? {
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

    /// Waits until all publishers are done. Missing deliveries are forgiven a few times where
    /// rounds wait for them; then, as otherwise at once, publishing is stopped.
    fn await_published(&self, phase: Phase) -> Result<(u64, u64)> {
        let (mut sent, mut threads, mut stalls) = (0, 0, 0);
        let mut stopped = false;
        loop {
            let finished = self.listen(|report| {
                if let Report::Published { sent: more } = report {
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

    /// Waits until all that was sent has been delivered, or nothing comes any more.
    fn drain(&self, sent: u64) -> Result<()> {
        if !self.shared.expect(sent * self.plan.workload.audience) {
            self.listen(|report| matches!(report, Report::AllDelivered))?;
        }
        Ok(())
    }

    fn pause(&self, span: Span) -> Result<()> {
        let end = clock::now() + span;
        while clock::now() < end {
            self.observe()?;
            let rest = end.since(clock::now());
            self.receive(rest.min(TICK))?;
        }
        Ok(())
    }

    /// Waits for the same report from every thread. False when nothing gets on.
    fn await_all(&self, is_awaited: impl Fn(&Report) -> bool) -> Result<bool> {
        let mut count = 0;
        self.listen(|report| {
            count += usize::from(is_awaited(&report));
            count == self.plan.threads
        })
    }

    /// Listens to reports until one of them is the last. False when nothing gets on.
    fn listen(&self, mut is_last: impl FnMut(Report) -> bool) -> Result<bool> {
        let (mut progress, mut since) = (self.shared.progress(), clock::now());
        loop {
            if let Some(report) = self.receive(TICK)?
                && is_last(report)
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

    fn receive(&self, patience: Span) -> Result<Option<Report>> {
        match self.received.recv_timeout(Duration::from(patience)) {
            Ok(Report::Failed(fault)) => Err(fault.into()),
            Ok(Report::Latencies(nanos)) => {
                self.recorder.borrow_mut().add_latencies(&nanos);
                Ok(None)
            }
            Ok(report) => Ok(Some(report)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("all threads have ended"),
        }
    }

    /// A thread that does not take commands any more has reported why.
    fn command(&self, command: Command) {
        for commands in &self.commands {
            let _ = commands.send(command);
        }
        self.shared.ring_all();
    }
}

fn sample_load() -> Result<Sample> {
    Ok(Sample::take(std::process::id())?)
}

/// How often a waiting coordinator looks whether anything gets on.
const TICK: Span = Span::from_millis(50);

const STALLED_ROUNDS_MAX: u64 = 10;

/// Open files that are neither connections nor of a thread.
const FILES_BESIDES: u64 = 64;
