//! The flags that all scenarios share, as they are written.

use std::{net::IpAddr, path::PathBuf};

use clap::{ArgGroup, Args, ValueEnum, value_parser};
use ringmq::{base::time::Span, mqtt::QoS};

use super::{
    addresses,
    pacing::{Extent, RATE_MAX, parse_span},
    topics::TopicFlags,
};
use crate::{
    machine::cpus,
    payload::{SEQUENCES_MAX, Sizes},
};

/// The flags that all scenarios share.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("pacing").args(["round", "rate"]))]
pub struct LoadFlags {
    /// The broker's name or address. With several, clients take them in turn.
    #[arg(long, default_value = "127.0.0.1", value_delimiter = ',')]
    pub(super) host: Vec<String>,
    /// The broker's port.
    #[arg(long, default_value_t = 1883)]
    pub(super) port: u16,
    /// The version of MQTT.
    #[arg(long, default_value = "3.1.1")]
    pub(super) protocol: Protocol,
    /// The QoS of publishers and of subscribers [default: 0, or the preset's]
    #[arg(long, value_parser = parse_qos)]
    pub(super) qos: Option<QoS>,
    /// The QoS of publishers alone. With several, such as `0,1,2`, publishers take them in turn
    /// [default: --qos]
    #[arg(long, value_delimiter = ',', value_parser = parse_qos)]
    pub(super) publish_qos: Vec<QoS>,
    /// The QoS of subscribers alone [default: --qos]
    #[arg(long, value_parser = parse_qos)]
    pub(super) subscribe_qos: Option<QoS>,
    /// Bytes of payload, or a range such as `16-1024` in which each message has its own size. Below
    /// 16 there is no room for a stamp. Such messages are only counted: nothing is known of their
    /// latency and order, and of repetitions only a surplus is seen [default: 64, or the preset's]
    #[arg(long)]
    pub(super) size: Option<Sizes>,
    /// Messages that each publisher sends.
    #[arg(long, conflicts_with = "duration")]
    #[arg(value_parser = value_parser!(u32).range(..=i64::from(SEQUENCES_MAX)))]
    pub(super) count: Option<u32>,
    /// How long to publish, where there is no --count [default: 5s]
    #[arg(long, value_parser = parse_span)]
    pub(super) duration: Option<Span>,
    /// Load before the measured part: messages of each publisher (`100`), or a time (`2s`,
    /// `500ms`).
    #[arg(long)]
    pub(super) warmup: Option<Extent>,
    /// Messages per second of all publishers together, each due at a fixed time (open loop).
    /// Latency counts from when a message was due. Without --rate and --round each publisher sends
    /// as fast as the broker reads (a flood).
    #[arg(long, value_parser = value_parser!(u64).range(1..=RATE_MAX))]
    pub(super) rate: Option<u64>,
    /// How long the rate takes, at the beginning, to rise evenly from nothing to --rate.
    #[arg(long, default_value = "0s", value_parser = parse_span)]
    pub(super) ramp: Span,
    /// Closed loop: the next round begins when all messages of this one have been delivered.
    #[arg(long)]
    pub(super) round: bool,
    /// Search for the highest --rate at which the p99 of latency stays within this time and nothing
    /// is lost. The rate is doubled, or halved, and then bisected, with a whole run for each.
    #[arg(long, value_name = "P99", value_parser = parse_span, conflicts_with = "round")]
    pub(super) find_max: Option<Span>,
    /// Messages that each publisher sends in a round.
    #[arg(long, default_value_t = 1, requires = "round")]
    #[arg(value_parser = value_parser!(u32).range(1..))]
    pub(super) burst: u32,
    /// The limit, for each publisher, of messages with QoS 1 or 2 whose exchange has not ended.
    #[arg(long, default_value_t = 20, value_parser = value_parser!(u16).range(1..))]
    pub(super) in_flight: u16,
    /// The limit of unsent bytes that the kernel holds for each publisher; 0 leaves it to the
    /// kernel. In a flood this many always wait [default: 16 payloads, but 32 to 128 KiB]
    #[arg(long)]
    pub(super) send_buffer: Option<usize>,
    /// The limit of connections that are being opened at one time. The default is below what
    /// brokers queue.
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u32).range(1..))]
    pub(super) opening: u32,
    /// Threads that share the connections [default: as many as --cpus, or 1]
    #[arg(long, value_parser = value_parser!(u16).range(1..=256))]
    pub(super) threads: Option<u16>,
    /// CPUs to pin the threads to, such as `1,4-7`.
    #[arg(long, value_parser = cpus::parse_list)]
    pub(super) cpus: Option<std::vec::Vec<usize>>,
    /// Local addresses to connect from, in turn, such as `127.0.0.2,127.1.0.0/24`. Each has ports
    /// of its own, so that more clients can connect.
    #[arg(long, value_parser = addresses::parse_list)]
    pub(super) source_addresses: Option<std::vec::Vec<IpAddr>>,
    #[command(flatten)]
    pub(super) topics: TopicFlags,
    /// Whether a session ends with its connection (clean), or outlives it and is taken up again
    /// (persistent).
    #[arg(long, default_value = "clean")]
    pub(super) session: Session,
    /// The Keep Alive in seconds; clients ping twice as often. 0 turns it off, which some brokers
    /// refuse.
    #[arg(long, default_value_t = u16::MAX)]
    pub(super) keep_alive: u16,
    /// The id of the broker's process: reports its CPU time, memory and context switches.
    #[arg(long)]
    pub(super) pid: Option<u32>,
    /// How long to wait without progress before missing messages count as lost.
    #[arg(long, default_value = "5s", value_parser = parse_span)]
    pub(super) timeout: Span,
    /// How long the whole run may take.
    #[arg(long, default_value = "600s", value_parser = parse_span)]
    pub(super) deadline: Span,
    /// How long to stay connected after the measured part.
    #[arg(long, default_value = "0s", value_parser = parse_span)]
    pub(super) hold: Span,
    /// The seed of the payloads' bytes. It is also a part of each Client Identifier.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// A lost QoS 0 message is a failure, too.
    #[arg(long)]
    pub(super) strict: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub(super) json: bool,
    /// Write a page with latency by percentile, and throughput, CPU and memory over time.
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Protocol {
    #[value(name = "3.1")]
    V31,
    #[value(name = "3.1.1")]
    V311,
    #[value(name = "5.0")]
    V5,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Session {
    Clean,
    Persistent,
}

fn parse_qos(text: &str) -> Result<QoS, String> {
    let qos = text.parse().ok().and_then(QoS::from_bits);
    qos.ok_or_else(|| "QoS is 0, 1 or 2".to_owned())
}
