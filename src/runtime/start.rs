//! Starting a broker, and waiting for it to end.

use std::{
    mem,
    sync::Arc,
    thread::{self, JoinHandle},
};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{
    Io, RuntimeConfig, Started, StopHandle,
    ask::Shards,
    bell::Bells,
    connection::ConnectionCount,
    driver::{Driver, DriverLimits, DriverParts},
    event_loop::{EventLoop, Inbox},
    events::EventLane,
    executor::{Executor, TurnLoop},
    fault::Fault,
    listen::{self, Listening, ListeningSockets},
    mailbox::{Mail, MailboxItem, Posted, mailbox_items_max},
    partials::PartialLimits,
    probe::{Capacity, choose, fault_of_shard, probe},
    random::Random,
    reload::{Reloader, RenewalReceiver},
    ring::{Ring, RingAddress, buffers::Buffers, sleeper::Sleeper},
    signals::Watch,
    stop::{Stop, StopReport, StopTimes},
    store::{Store, StoreHandle, StoreThread},
    traces::TraceLane,
    verify::{self, Verifier},
};
use crate::{
    base::ids::ShardId,
    mesh::{Endpoint, mesh},
    shard::ports::Brain,
    storage::RecordBatch,
};

/// Runs a broker until it is stopped by a signal or by [`Started::stop`]. Returns how that went.
///
/// `make` makes each shard's brain, on the shard's own thread. `on_ready` is called once, when all
/// shards listen. `reload` answers SIGHUP, on a thread of its own: what it applies holds on all
/// shards from then on.
pub fn run<B: Brain + 'static>(
    config: &RuntimeConfig,
    make: impl FnOnce(ShardId) -> B + Send + Clone + 'static,
    on_ready: impl FnOnce(&Started),
    reload: impl FnMut(&mut Reloader) + Send + 'static,
) -> Result<StopReport, Fault> {
    run_stored(config, None, make, on_ready, reload)
}

/// As [`run`]. What has to survive a restart goes to this store, if there is one, and these records
/// go there first.
pub fn run_stored<B: Brain + 'static>(
    config: &RuntimeConfig,
    store: Option<(Store, RecordBatch)>,
    make: impl FnOnce(ShardId) -> B + Send + Clone + 'static,
    on_ready: impl FnOnce(&Started),
    mut reload: impl FnMut(&mut Reloader) + Send + 'static,
) -> Result<StopReport, Fault> {
    let io = choose(config)?;
    let Capacity { connections: connections_max, surplus } = probe(config)?;
    let shards = config.cpus.len();
    let (listeners, sockets) = listen::bind_all(&config.listeners, shards)?;
    let bells = Bells::new(shards)?;
    let verifiers = verify::start(&bells)?;
    let ports = listen::ports_of(&listeners);
    let (mut reloader, renewals) = Reloader::new(&bells, config.listeners.clone().into(), ports);
    let stop = Stop::new(shards, bells.clone());
    let connection_count = ConnectionCount::new(connections_max, surplus);
    let (events, traces) = (EventLane::default(), TraceLane::default());
    let (stores, store_thread) = start_store(store, &bells, &stop)?;

    let (report, reports) = bounded(shards);
    let mut threads = Vec::with_capacity(shards);
    let posted = Posted::new(shards);
    let ends = mesh(shards, mailbox_items_max(shards)).into_iter().zip(sockets);
    let lanes = verifiers.into_iter().zip(renewals).zip(stores);
    for ((endpoint, sockets), ((verifier, renewals), store)) in ends.zip(lanes) {
        let (go, may_go) = bounded(1);
        let me = endpoint.me();
        let setup = ShardSetup {
            config: config.clone(),
            io,
            cpu: config.cpus[me.index()],
            endpoint,
            posted: posted.clone(),
            sockets,
            verifier,
            renewals,
            store,
            events: events.clone(),
            traces: traces.clone(),
            bells: bells.clone(),
            connection_count: connection_count.clone(),
            stop: stop.clone(),
            random: Random::new()?,
            report: report.clone(),
            may_go,
        };
        let make = make.clone();
        let name = format!("ringmq-{me}");
        let thread = thread::Builder::new().name(name).spawn(move || setup.run(make))?;
        threads.push(ShardThread { me, thread, go });
    }
    drop(report);
    // It may hold what the shards begin with.
    drop(make);

    let addresses_of_rings = collect_reports(&reports, shards)?;
    for shard in &threads {
        // The send fails if the shard has ended. The reason is known when it is joined.
        drop(shard.go.send(Arc::clone(&addresses_of_rings)));
    }
    let reached = Shards::new(reloader.lanes(), stop.clone(), (events, traces));
    let hang_up = move || reload(&mut reloader);
    let watch =
        config.signals.as_ref().map(|hang_ups| Watch::start(stop.clone(), hang_ups, hang_up));
    let watch = watch.transpose()?;
    on_ready(&Started {
        listeners,
        cpus: config.cpus.clone(),
        io,
        connections_max,
        stop: StopHandle::new(stop.clone()),
        shards: reached,
    });
    let ended = join_all(threads);
    drop(watch);
    let written = store_thread.map_or(Ok(()), StoreThread::end);
    written.map_err(Fault::Store).and(ended).map(|()| stop.report())
}

/// Starts the thread of the store. Returns the end of each shard.
fn start_store(
    store: Option<(Store, RecordBatch)>,
    bells: &Bells,
    stop: &Stop,
) -> Result<(Vec<Option<StoreHandle>>, Option<StoreThread>), Fault> {
    let Some((store, mut first)) = store else {
        return Ok((bells.shards().map(|_| None).collect(), None));
    };
    let (mut handles, thread) = store.start(bells, stop.clone())?;
    if let Some(handle) = handles.first_mut() {
        handle.try_post(&mut first).expect("an empty queue takes every batch");
    }
    Ok((handles.into_iter().map(Some).collect(), Some(thread)))
}

struct ShardThread {
    me: ShardId,
    thread: JoinHandle<()>,
    go: Sender<Arc<[RingAddress]>>,
}

/// What each shard reports once its ring exists: how other shards reach it.
type Report = (ShardId, Result<RingAddress, Fault>);

/// All shards' ring addresses, in order, or the first fault.
fn collect_reports(reports: &Receiver<Report>, shards: usize) -> Result<Arc<[RingAddress]>, Fault> {
    let mut addresses: Vec<Option<RingAddress>> = (0..shards).map(|_| None).collect();
    for (shard, report) in reports {
        addresses[shard.index()] = Some(report?);
    }
    let missing = |shard| Fault::ShardLost(shard);
    ShardId::all(shards)
        .zip(addresses)
        .map(|(shard, address)| address.ok_or_else(|| missing(shard)))
        .collect()
}

/// Stops all shards when one ends. Otherwise clients would find half a broker.
struct EndsAll(Stop);

impl Drop for EndsAll {
    fn drop(&mut self) {
        self.0.ask();
    }
}

/// Waits for all shards, and returns the first fault.
fn join_all(threads: Vec<ShardThread>) -> Result<(), Fault> {
    let mut ended = Ok(());
    for ShardThread { me, thread, .. } in threads {
        let result = thread.join().map_err(|_| Fault::ShardLost(me));
        ended = ended.and(result);
    }
    ended
}

/// What a shard's thread needs to start.
struct ShardSetup {
    config: RuntimeConfig,
    io: Io,
    cpu: usize,
    endpoint: Endpoint<MailboxItem>,
    posted: Posted,
    sockets: Vec<Listening>,
    verifier: Verifier,
    renewals: RenewalReceiver,
    store: Option<StoreHandle>,
    events: EventLane,
    traces: TraceLane,
    bells: Bells,
    connection_count: ConnectionCount,
    stop: Stop,
    random: Random,
    report: Sender<Report>,
    may_go: Receiver<Arc<[RingAddress]>>,
}

impl ShardSetup {
    /// The whole life of a shard's thread.
    fn run<B: Brain>(self, make: impl FnOnce(ShardId) -> B) {
        let me = self.endpoint.me();
        let cpu = self.cpu;
        let prepared = Prepared::make(me, (self.io, cpu), &self.config)
            .and_then(|prepared| Ok((prepared.ring.address()?, prepared)))
            .map_err(|fault| fault_of_shard(fault, &self.config));
        let Prepared { executor, ring, buffers, sleeper } = match prepared {
            Ok((address, prepared)) => {
                drop(self.report.send((me, Ok(address))));
                prepared
            }
            Err(fault) => {
                drop(self.report.send((me, Err(fault))));
                return;
            }
        };
        drop(self.report);
        // No addresses come if another shard could not be made.
        let Ok(addresses) = self.may_go.recv() else { return };
        let _ends_all = EndsAll(self.stop.clone());
        let turn_loop = TurnLoop {
            stop: self.stop,
            sleeper,
            busy_poll: self.config.busy_poll,
            stop_times: StopTimes {
                stop_time_max: self.config.stop_time_max,
                flush_time_max: self.config.flush_time_max,
            },
        };
        let limits = DriverLimits {
            outbox_bytes_max: self.config.outbox_bytes_max,
            partials: PartialLimits {
                clients_max: self.config.partial_bytes_max,
                strangers_max: self.config.stranger_bytes_max,
                packet_timeout: self.config.packet_timeout,
            },
            flush_time_max: self.config.flush_time_max,
            stalled_timeout: self.config.stalled_timeout,
        };
        let tools = DriverParts {
            ring,
            mail: Mail::new(self.endpoint, self.posted),
            verifier: self.verifier,
            addresses,
            random: self.random,
            store: self.store,
            events: self.events,
            traces: self.traces,
        };
        let driver = Driver::new(tools, limits);
        let listeners = ListeningSockets::new(self.config.listeners, self.sockets);
        let inbox = Inbox { bells: self.bells, renewals: self.renewals };
        let mut event_loop =
            EventLoop::new(make(me), driver, buffers, listeners, self.connection_count, inbox);
        if !executor.run(turn_loop.work(&mut event_loop)) {
            // The kernel may still write to the shard's memory, so it is leaked. No other thread
            // may wait for this shard.
            event_loop.driver.end_verifying();
            mem::forget(event_loop);
        }
    }
}

/// What a shard needs to run. Made before the start of the broker is reported.
struct Prepared {
    executor: Executor,
    ring: Ring,
    buffers: Buffers,
    sleeper: Sleeper,
}

impl Prepared {
    fn make(
        me: ShardId,
        (io, cpu): (Io, usize),
        config: &RuntimeConfig,
    ) -> Result<Prepared, Fault> {
        let executor = Executor::new(io, cpu);
        let executor = executor.map_err(|error| Fault::Executor { shard: me, cpu, error })?;
        let mut ring = Ring::new(io, config.ring_entries)?;
        let buffers = ring.lend_buffers(config.recv_buffers, config.recv_buffer_bytes)?;
        let sleeper = executor.run(async { Sleeper::new(&mut ring) })?;
        Ok(Prepared { executor, ring, buffers, sleeper })
    }
}
