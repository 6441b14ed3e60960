//! The flags, and the [`Plan`] that they stand for.

use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    path::PathBuf,
};

use anyhow::{Context, Result, bail, ensure};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum, value_parser};
use ringmq::{
    base::time::Span,
    mqtt::{QoS, Version},
};

use crate::{
    addresses,
    compare::Compare,
    machine::cpus,
    pacing::{Extent, Pacing, RATE_MAX, parse_span},
    payload::{Filling, SEQUENCES_MAX, STAMP_LEN, Sizes},
    plan::{Limits, Plan},
    scenario::{Act, Scenario, TopicFlags, Workload},
    sink::Sink,
    wire::SessionTerms,
};

/// Drives an MQTT broker with load, accounts for every message, and says what it cost.
///
/// Exit status: 0, 1 when the broker broke what the QoS promises, 2 when there was no measurement.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub task: Task,
}

#[derive(Debug, Subcommand)]
pub enum Task {
    #[command(flatten)]
    Load(Box<Scenario>),
    Sink(Sink),
    Compare(Compare),
}

/// The flags that all scenarios share.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("pacing").args(["round", "rate"]))]
pub struct Common {
    /// The broker's name or address. Of several, the clients take one in turn.
    #[arg(long, default_value = "127.0.0.1", value_delimiter = ',')]
    host: Vec<String>,
    #[arg(long, default_value_t = 1883)]
    port: u16,
    #[arg(long, default_value = "3.1.1")]
    protocol: Protocol,
    /// Of publishers and subscribers [default: 0, or the preset's]
    #[arg(long, value_parser = parse_qos)]
    qos: Option<QoS>,
    /// Of publishers alone [default: --qos]. Of several, such as `0,1,2`, they take one in turn.
    #[arg(long, value_delimiter = ',', value_parser = parse_qos)]
    publish_qos: Vec<QoS>,
    /// Of subscribers alone [default: --qos]
    #[arg(long, value_parser = parse_qos)]
    subscribe_qos: Option<QoS>,
    /// Bytes of payload, or a range such as `16-1024` of which each message has its own size. Below
    /// 16 there is no room to tell the messages apart: they are counted, but without latency,
    /// order, and repetitions other than a surplus [default: 64, or the preset's]
    #[arg(long)]
    size: Option<Sizes>,
    /// Messages of each publisher.
    #[arg(long, conflicts_with = "duration")]
    #[arg(value_parser = value_parser!(u32).range(..=i64::from(SEQUENCES_MAX)))]
    count: Option<u32>,
    /// How long to publish, when there is no --count [default: 5s]
    #[arg(long, value_parser = parse_span)]
    duration: Option<Span>,
    /// Load before the measured part: messages of each publisher, or time (`2s`, `500ms`).
    #[arg(long)]
    warmup: Option<Extent>,
    /// Messages per second of all publishers together, each due at a fixed time (open loop).
    /// Latency counts from when a message was due. Without --rate and --round nothing paces.
    #[arg(long, value_parser = value_parser!(u64).range(1..=RATE_MAX))]
    rate: Option<u64>,
    /// The rate rises evenly from nothing to --rate in so long, at the beginning.
    #[arg(long, default_value = "0s", value_parser = parse_span)]
    ramp: Span,
    /// Closed loop: the next round begins when all messages of this one have been delivered.
    #[arg(long)]
    round: bool,
    /// Search for the highest --rate at which the p99 of latency stays within this time and nothing
    /// is lost: doubles the rate, or halves it, and then bisects, a whole run each time.
    #[arg(long, value_name = "P99", value_parser = parse_span, conflicts_with = "round")]
    find_max: Option<Span>,
    /// Messages of each publisher in a round.
    #[arg(long, default_value_t = 1, requires = "round")]
    #[arg(value_parser = value_parser!(u32).range(1..))]
    burst: u32,
    /// Messages of each publisher with QoS 1 or 2 whose exchange has not ended.
    #[arg(long, default_value_t = 20, value_parser = value_parser!(u16).range(1..))]
    in_flight: u16,
    /// Bytes that the kernel buffers for each publisher; 0 leaves it to the kernel. A flood is
    /// ahead of the broker by this much [default: 16 payloads, but 32 to 128 KiB]
    #[arg(long)]
    send_buffer: Option<usize>,
    /// Connections that are being opened at one time: fewer than brokers queue.
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u32).range(1..))]
    opening: u32,
    /// Threads that share the connections [default: as many as --cpus, or 1]
    #[arg(long, value_parser = value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// CPUs for the threads to be pinned to, such as `1,4-7`.
    #[arg(long, value_parser = cpus::parse_list)]
    cpus: Option<std::vec::Vec<usize>>,
    /// Local addresses to connect from, in turn, such as `127.0.0.2,127.1.0.0/24`; each has its own
    /// supply of ports.
    #[arg(long, value_parser = addresses::parse_list)]
    source_addresses: Option<std::vec::Vec<IpAddr>>,
    #[command(flatten)]
    pub(crate) topics: TopicFlags,
    /// Whether sessions begin afresh and end with their connections, or are taken up again.
    #[arg(long, default_value = "clean")]
    session: Session,
    /// Seconds; clients ping twice as often. 0 turns it off, which some brokers refuse.
    #[arg(long, default_value_t = u16::MAX)]
    keep_alive: u16,
    /// The broker's process: reports its CPU time, memory and context switches.
    #[arg(long)]
    pid: Option<u32>,
    /// How long to wait for anything to happen before what is missing counts as lost.
    #[arg(long, default_value = "5s", value_parser = parse_span)]
    timeout: Span,
    /// How long the whole run may take.
    #[arg(long, default_value = "600s", value_parser = parse_span)]
    deadline: Span,
    /// How long to stay connected after the measured part.
    #[arg(long, default_value = "0s", value_parser = parse_span)]
    hold: Span,
    /// Chooses the filling of the payloads, and names the clients.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A lost QoS 0 message is a failure, too.
    #[arg(long)]
    strict: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    /// Write a page with latency by percentile, and throughput, CPU and memory over time.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Protocol {
    #[value(name = "3.1")]
    V31,
    #[value(name = "3.1.1")]
    V311,
    #[value(name = "5.0")]
    V5,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Session {
    Clean,
    Persistent,
}

impl Scenario {
    pub fn plan(&self) -> Result<Plan> {
        self.common().plan(self.workload()?)
    }
}

/// The plan of a command line.
#[cfg(test)]
pub(crate) fn plan(flags: &str) -> Result<Plan> {
    let words = std::iter::once("loadtest").chain(flags.split(' '));
    match Arguments::try_parse_from(words)?.task {
        Task::Load(scenario) => scenario.plan(),
        Task::Sink(_) | Task::Compare(_) => bail!("no scenario"),
    }
}

impl Common {
    fn plan(&self, mut workload: Workload) -> Result<Plan> {
        let extent = workload.extent.take();
        let defaults = workload.defaults;
        let qos = self.qos.unwrap_or(defaults.qos);
        let size = usize::try_from(defaults.size)?;
        let sizes = self.size.unwrap_or(Sizes { min: size, max: size });
        let pacing = self.pacing(defaults.rate);
        self.check_extent(extent)?;
        self.check_pacing(pacing, sizes.min, &workload)?;
        let cpus = self.cpus.clone().unwrap_or_default();
        let threads = self.threads.map_or_else(|| cpus.len().max(1), usize::from);
        Ok(Plan {
            addresses: self.addresses()?,
            source_addresses: self.source_addresses.clone().unwrap_or_default(),
            version: self.version(),
            terms: self.terms(),
            publish_qos: if self.publish_qos.is_empty() {
                vec![qos]
            } else {
                self.publish_qos.clone()
            },
            subscribe_qos: self.subscribe_qos.unwrap_or(qos),
            filling: Filling::new(sizes, self.seed),
            pacing,
            ramp: self.ramp,
            find_max: self.find_max,
            warmup: self.warmup,
            extent: extent.unwrap_or_else(|| self.extent()),
            in_flight: self.in_flight,
            send_buffer: self.send_buffer.unwrap_or_else(|| send_buffer(sizes.max)),
            opening_max: usize::try_from(self.opening)?,
            threads,
            cpus,
            pid: self.pid,
            limits: Limits { stall: self.timeout, run: self.deadline },
            hold: self.hold,
            seed: self.seed,
            strict: self.strict || workload.act.is_connecting(),
            json: self.json,
            html: self.html.clone(),
            workload,
        })
    }

    fn check_extent(&self, extent: Option<Extent>) -> Result<()> {
        let chosen = self.count.is_some() || self.duration.is_some() || self.warmup.is_some();
        if extent.is_some() && chosen {
            bail!("the scenario sets the number of messages: no --count, --duration or --warmup");
        }
        Ok(())
    }

    fn check_pacing(&self, pacing: Pacing, size: usize, workload: &Workload) -> Result<()> {
        let (act, stamped) = (workload.act, size >= STAMP_LEN);
        if let Pacing::Rounds { burst } = pacing {
            ensure!(burst <= SEQUENCES_MAX, "a burst has at most {SEQUENCES_MAX} messages");
            ensure!(workload.audience > 0, "a round needs subscribers");
            ensure!(!act.is_connecting(), "connections have no --round");
        }
        if let Act::Replay { .. } = act {
            ensure!(pacing == Pacing::Flood, "a storm has no --rate and no --round");
            ensure!(stamped, "payloads must have {STAMP_LEN} bytes");
        }
        ensure!(
            self.find_max.is_none() || (act == Act::Publish && workload.audience > 0 && stamped),
            "only messages of {STAMP_LEN} bytes or more, to subscribers, have a highest rate"
        );
        Ok(())
    }

    fn addresses(&self) -> Result<Vec<SocketAddr>> {
        self.host.iter().map(|host| resolve(host, self.port)).collect()
    }

    fn terms(&self) -> SessionTerms {
        let persistent = self.session == Session::Persistent;
        SessionTerms { persistent, keep_alive: self.keep_alive }
    }

    fn version(&self) -> Version {
        match self.protocol {
            Protocol::V31 => Version::V31,
            Protocol::V311 => Version::V311,
            Protocol::V5 => Version::V5,
        }
    }

    fn pacing(&self, default: Option<u64>) -> Pacing {
        let first = self.find_max.map(|_| RATE_FIRST);
        let default = default.filter(|_| !self.round);
        match self.rate.or(first).or(default) {
            Some(messages_per_second) => Pacing::Rate { messages_per_second },
            None if self.round => Pacing::Rounds { burst: self.burst },
            None => Pacing::Flood,
        }
    }

    fn extent(&self) -> Extent {
        match (self.count, self.duration) {
            (Some(count), _) => Extent::Messages(count),
            (None, Some(duration)) => Extent::Time(duration),
            (None, None) => Extent::Time(DURATION_DEFAULT),
        }
    }
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr> {
    let addresses = (host, port).to_socket_addrs();
    let mut addresses = addresses.with_context(|| format!("cannot resolve {host}"))?;
    addresses.next().with_context(|| format!("{host} has no address"))
}

/// Room for some payloads of this size, so that large ones do not go one by one.
fn send_buffer(size: usize) -> usize {
    size.saturating_mul(BUFFERED_PAYLOADS).clamp(SEND_BUFFER_MIN, SEND_BUFFER_MAX)
}

fn parse_qos(text: &str) -> Result<QoS, String> {
    let qos = text.parse().ok().and_then(QoS::from_bits);
    qos.ok_or_else(|| "QoS is 0, 1 or 2".to_owned())
}

const DURATION_DEFAULT: Span = Span::from_secs(5);

const BUFFERED_PAYLOADS: usize = 16;
const SEND_BUFFER_MIN: usize = 32 * 1024;
const SEND_BUFFER_MAX: usize = 128 * 1024;

/// Where the search for a maximum begins.
const RATE_FIRST: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_alone_is_a_flood_of_five_seconds() {
        let plan = plan("fan-out").unwrap();
        assert_eq!(plan.pacing, Pacing::Flood);
        assert_eq!(plan.extent, Extent::Time(DURATION_DEFAULT));
        assert_eq!((plan.workload.publishers.len(), plan.workload.subscribers.len()), (1, 500));
        assert_eq!(plan.workload.audience, 500);
        assert_eq!(plan.threads, 1);
    }

    #[test]
    fn flags_make_rounds_or_a_rate() {
        let rounds = plan("pairs --round --burst 16 --count 3").unwrap();
        assert_eq!(rounds.pacing, Pacing::Rounds { burst: 16 });
        assert_eq!(rounds.extent, Extent::Messages(3));
        let rate = plan("fan-in --rate 1000 --cpus 1,3").unwrap();
        assert_eq!(rate.pacing, Pacing::Rate { messages_per_second: 1000 });
        assert_eq!(rate.threads, 2);
    }

    #[test]
    fn idle_sends_one_message_to_each() {
        let plan = plan("idle --connections 7").unwrap();
        assert_eq!(plan.extent, Extent::Messages(7));
        assert_eq!(plan.workload.publishers[0].name(0, 3), plan.workload.subscribers[3].filters[0]);
    }

    /// Where a publisher's first message goes, and the first filter of a subscriber.
    fn places(flags: &str) -> (String, String) {
        let workload = plan(flags).unwrap().workload;
        (workload.publishers[0].name(0, 0), workload.subscribers[0].filters[0].clone())
    }

    #[test]
    fn a_topic_means_something_wherever_there_are_publishers() {
        for scenario in ["fan-in", "fan-out", "slow-reader", "wildcard", "retained"] {
            let (name, filter) = places(&format!("{scenario} --topic a/{{id}}/b"));
            assert_eq!((&name[..], &filter[..]), ("a/0/b", "a/+/b"), "{scenario}");
        }
        for scenario in ["pairs", "idle", "preset p2p-1K-1K-1K-1K"] {
            let (name, filter) = places(&format!("{scenario} --topic a/{{id}}/b"));
            assert_eq!((&name[..], &filter[..]), ("a/0/b", "a/0/b"), "{scenario}");
        }
        assert_eq!(places("fan-in --topic a").1, "a");
        assert_eq!(places("shared --topic a/{id}").1, "$share/load/a/+");
        assert_eq!(places("fan-out").1, "bench/out");
        assert_eq!(places("fan-out --topics 1"), ("bench/out/0".into(), "bench/out/+".into()));
        assert_eq!(places("slow-reader --topics 9 --zipf 1").1, "bench/slow/+");
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for flags in [
            "pairs --round --rate 1",
            "pairs --burst 2",
            "pairs --count 1 --duration 1s",
            "idle --count 1",
            "fan-in --qos 3",
            "fan-in --publishers 0",
            "fan-in --protocol 4",
            "fan-in --zipf 1",
            "fan-out --topics 5 --topic a/b",
            "pairs --topic a/b",
            "pairs --topics 5",
            "retained --topics 5",
            "idle --topics 5",
            "reconnect --topic a",
            "connect --topic {id}",
            "preset conn-tcp-10K-100 --topics 5",
        ] {
            assert!(plan(flags).is_err(), "{flags:?}");
        }
    }
}
