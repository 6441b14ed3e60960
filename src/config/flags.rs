//! The command line as it was typed: each flag by itself is in range.

use std::{net::SocketAddr, num::NonZeroU16, path::PathBuf};

use clap::{Args, Parser};

use super::{
    cpus::CpuList,
    values::{
        Feature, LogFormat, feature_parser, log_format_parser, parse_address, parse_bytes,
        parse_count, parse_log_filter, parse_micros, parse_millis, parse_origin, parse_path,
        parse_power_of_two, parse_qos, parse_seconds, parse_server, parse_share_group,
        parse_topic_name, parse_websocket_address, parse_when_queue_full, strategy_parser,
    },
};
use crate::{
    base::{ids::SHARDS_MAX, time::Span},
    mqtt::QoS,
    routing::Strategy,
    shard::rules::WhenQueueFull,
};

/// An MQTT 3.1, 3.1.1 and 5.0 broker: one shard per CPU core, on io_uring.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(super) struct CommandLine {
    #[command(flatten, next_help_heading = "Network")]
    pub(super) network: NetworkFlags,
    #[command(flatten, next_help_heading = "Shards")]
    pub(super) shards: ShardFlags,
    #[command(flatten, next_help_heading = "Access")]
    pub(super) access: AccessFlags,
    #[command(flatten, next_help_heading = "Limits")]
    pub(super) limits: LimitFlags,
    #[command(flatten, next_help_heading = "What clients are offered")]
    pub(super) offer: OfferFlags,
    #[command(flatten, next_help_heading = "Other servers")]
    pub(super) referral: ReferralFlags,
    #[command(flatten, next_help_heading = "Shared subscriptions")]
    pub(super) sharing: SharingFlags,
    #[command(flatten, next_help_heading = "Tuning")]
    pub(super) tuning: TuningFlags,
    #[command(flatten, next_help_heading = "Log")]
    pub(super) log: LogFlags,
}

#[derive(Args, Debug)]
pub(super) struct LogFlags {
    /// What is logged: error, warn, info, debug, trace or off. For parts of the broker,
    /// PART=LEVEL after a comma, such as `warn,ringmq::shard=debug`
    #[arg(long = "log", value_name = "FILTER", default_value = "info")]
    #[arg(value_parser = parse_log_filter)]
    pub(super) filter: String,
    /// How log lines are written to standard error: text for people, json for log stores
    #[arg(long = "log-format", value_name = "FORMAT", default_value = "text")]
    #[arg(value_parser = log_format_parser())]
    pub(super) format: LogFormat,
}

#[derive(Args, Debug)]
pub(super) struct NetworkFlags {
    /// Address to listen on: IP, IP:PORT, [IPv6]:PORT or PORT; `localhost` and a bare PORT mean
    /// 127.0.0.1. [::] takes IPv4, too, unless an IPv4 address with its port is given. Repeat it
    /// for more [default: 127.0.0.1:1883, or none with --listen-websocket]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub(super) listen: Vec<SocketAddr>,
    /// Address to listen on for MQTT over WebSocket, written as with --listen; without a PORT it is
    /// 8083. Repeat it for more [default: none]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_websocket_address)]
    pub(super) listen_websocket: Vec<SocketAddr>,
    /// Path of a WebSocket's URL, such as /mqtt; any other is not found [default: any]
    #[arg(long, value_name = "PATH", value_parser = parse_path)]
    pub(super) websocket_path: Option<String>,
    /// Origin whose web pages may open a WebSocket, such as `https://example.com`. Repeat it for
    /// more [default: any]
    // A page from anywhere reaches a loopback address too, through the browser that shows it.
    #[arg(long, value_name = "ORIGIN", value_parser = parse_origin)]
    pub(super) websocket_origin: Vec<String>,
    /// Time within which a client must have sent its CONNECT, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    #[arg(value_parser = parse_seconds(1, 3600))]
    pub(super) connect_timeout: Span,
}

#[derive(Args, Debug)]
pub(super) struct ShardFlags {
    /// Number of shards, each a thread on a CPU of its own [default: one for each CPU of --cpus,
    /// or else for each that this process may use]
    #[arg(long, value_name = "NUMBER", value_parser = parse_count(1, SHARDS_MAX))]
    pub(super) shards: Option<usize>,
    /// CPUs of the shards, in their order, such as 0-3,6; as many as shards or more [default: all
    /// that this process may use, in turns]
    #[arg(long, value_name = "LIST")]
    pub(super) cpus: Option<CpuList>,
    /// Time that an idle shard keeps looking for work before it sleeps, in microseconds: trades
    /// CPU for latency
    #[arg(long, value_name = "MICROSECONDS", default_value = "0")]
    #[arg(value_parser = parse_micros(0, 1_000_000))]
    pub(super) busy_poll: Span,
}

#[derive(Args, Debug)]
pub(super) struct AccessFlags {
    /// File of user names and hashed passwords, as `mosquitto_passwd` writes it. Clients without a
    /// user name are then refused
    #[arg(long, value_name = "FILE")]
    pub(super) password_file: Option<PathBuf>,
    /// File of users that MQTT 5.0 clients may authenticate as with SCRAM-SHA-256 or
    /// SCRAM-SHA-512: lines of `USER:` and a verifier as PostgreSQL keeps it. Clients that do not
    /// authenticate are then refused
    #[arg(long, value_name = "FILE")]
    pub(super) scram_file: Option<PathBuf>,
    /// Let clients without a user name in, on all listeners [default: on loopback addresses only,
    /// and not with --password-file or --scram-file]
    #[arg(long)]
    pub(super) allow_anonymous: bool,
}

#[derive(Args, Debug)]
pub(super) struct LimitFlags {
    /// Connections of the whole broker
    #[arg(long = "max-connections", value_name = "NUMBER", default_value = "100000")]
    #[arg(value_parser = parse_count(1, 1 << 24))]
    pub(super) connections_max: usize,
    /// Sessions of the whole broker, with and without a connection
    #[arg(long = "max-sessions", value_name = "NUMBER", default_value = "1000000")]
    #[arg(value_parser = parse_count(1, 1 << 28))]
    pub(super) sessions_max: usize,
    /// Size of one packet, in bytes or with KiB or MiB; up to 256MiB
    // Any client may make us keep that much of a packet half received. The default is small enough
    // for many to do so at once, and large enough for what devices send.
    #[arg(long = "max-packet-size", value_name = "BYTES", default_value = "1MiB")]
    #[arg(value_parser = parse_bytes::<u32>(256, 256 << 20))]
    pub(super) packet_bytes_max: u32,
    /// QoS 1 and 2 messages that one client may have unacknowledged; a client's own Receive
    /// Maximum may lower it
    #[arg(long = "max-inflight", value_name = "NUMBER", default_value = "64")]
    pub(super) inflight_max: NonZeroU16,
    /// Receive Maximum that MQTT 5.0 clients are told: QoS 1 and 2 messages that one may send
    /// before they are acknowledged. Only those at QoS 2 are counted, until the client has released
    /// them; with more of them it is disconnected
    #[arg(long, value_name = "NUMBER", default_value = "1024")]
    pub(super) receive_maximum: NonZeroU16,
    /// Topic Aliases that stand for long topics towards one MQTT 5.0 client; its own Topic Alias
    /// Maximum may lower it, and 0 turns it off
    #[arg(long = "topic-aliases", value_name = "NUMBER", default_value = "32")]
    pub(super) topic_aliases_max: u16,
    /// Messages that may wait in one session
    #[arg(long = "max-queued", value_name = "NUMBER", default_value = "10000")]
    #[arg(value_parser = parse_count(1, 1 << 28))]
    pub(super) queue_messages_max: usize,
    /// What happens when a message comes for a connected client whose queue is full: the message
    /// is dropped and counted, or the client is disconnected with Quota exceeded
    #[arg(long, value_name = "drop|disconnect", default_value = "drop")]
    #[arg(value_parser = parse_when_queue_full)]
    pub(super) when_queue_full: WhenQueueFull,
    /// Bytes of messages that may wait in one session, in bytes or with a unit such as KiB or MB
    /// [default: 16MiB, or --max-packet-size if that is more]
    #[arg(long = "max-queued-bytes", value_name = "BYTES")]
    #[arg(value_parser = parse_bytes::<usize>(256, 1 << 40))]
    pub(super) queue_bytes_max: Option<usize>,
    /// Bytes on their way to one client, before messages are queued or, with QoS 0, dropped
    #[arg(long = "outbox-bytes", value_name = "BYTES", default_value = "1MiB")]
    #[arg(value_parser = parse_bytes::<usize>(4 << 10, 1 << 30))]
    pub(super) outbox_bytes_max: usize,
    /// Levels of a Topic Name or Topic Filter
    #[arg(long = "max-topic-levels", value_name = "NUMBER", default_value = "200")]
    #[arg(value_parser = parse_count(1, 65_536))]
    pub(super) topic_levels_max: usize,
    /// User Properties of one message or Will
    #[arg(long = "max-user-properties", value_name = "NUMBER", default_value = "100")]
    #[arg(value_parser = parse_count(0, 1 << 28))]
    pub(super) user_properties_max: usize,
    /// Bytes of the User Properties of one message or Will; KiB and MiB are understood
    #[arg(long = "max-user-property-bytes", value_name = "BYTES", default_value = "16KiB")]
    #[arg(value_parser = parse_bytes::<usize>(0, 256 << 20))]
    pub(super) user_property_bytes_max: usize,
    /// Topic Filters of one SUBSCRIBE
    #[arg(long = "max-filters-in-subscribe", value_name = "NUMBER", default_value = "1000")]
    #[arg(value_parser = parse_count(1, 1 << 28))]
    pub(super) subscribe_filters_max: usize,
    /// Subscriptions of one session
    #[arg(long = "max-subscriptions", value_name = "NUMBER", default_value = "100000")]
    #[arg(value_parser = parse_count(1, 1 << 28))]
    pub(super) subscriptions_max: usize,
    /// Bytes of the Topic Filters of one session; KiB, MiB and GiB are understood
    #[arg(long = "max-subscription-bytes", value_name = "BYTES", default_value = "16MiB")]
    #[arg(value_parser = parse_bytes::<usize>(256, 1 << 40))]
    pub(super) subscription_bytes_max: usize,
    /// Retained messages of the whole broker
    #[arg(long = "max-retained", value_name = "NUMBER", default_value = "1000000")]
    #[arg(value_parser = parse_count(0, 1 << 28))]
    pub(super) retained_max: usize,
    /// Bytes of all retained messages, which each shard has; KiB, MiB and GiB are understood
    #[arg(long = "max-retained-bytes", value_name = "BYTES", default_value = "1GiB")]
    #[arg(value_parser = parse_bytes::<usize>(0, 1 << 40))]
    pub(super) retained_bytes_max: usize,
    /// Time that a session may outlive its connection, in seconds; 4294967295 means for ever
    #[arg(long, value_name = "SECONDS", default_value_t = u32::MAX)]
    pub(super) session_expiry_max: u32,
    /// Time that publishers are held back for a subscriber whose queue is full while it still
    /// makes progress, in milliseconds; 0 never holds them back
    #[arg(long, value_name = "MILLISECONDS", default_value = "500")]
    #[arg(value_parser = parse_millis(0, 60_000))]
    pub(super) patience: Span,
}

#[derive(Args, Debug)]
pub(super) struct OfferFlags {
    /// The highest QoS at which clients may publish, 0, 1 or 2; subscriptions are granted no
    /// higher one
    #[arg(long = "max-qos", value_name = "QOS", default_value = "2", value_parser = parse_qos)]
    pub(super) qos_max: QoS,
    /// Optional features of MQTT to turn off, separated by commas. MQTT 5.0 clients are told when
    /// they connect
    #[arg(long, value_name = "FEATURES", value_delimiter = ',', value_parser = feature_parser())]
    pub(super) disable: Vec<Feature>,
    /// The longest Keep Alive of an MQTT 5.0 client, in seconds: one that wants a longer one, or
    /// none, is told this one [default: none]
    // Clients before 5.0 keep their own: they could not know that they have to send more often.
    #[arg(long = "max-keep-alive", value_name = "SECONDS")]
    pub(super) keep_alive_max: Option<NonZeroU16>,
    /// Topic Name under which each MQTT 5.0 client that asks for Response Information is given a
    /// topic tree of its own: TOPIC/CLIENT, where / + # and % are escaped in CLIENT [default: none]
    #[arg(long = "response-information", value_name = "TOPIC", value_parser = parse_topic_name)]
    pub(super) response_prefix: Option<Box<str>>,
    /// Refuse messages and Wills whose Payload Format Indicator says UTF-8 text and whose payload
    /// is something else
    #[arg(long)]
    pub(super) validate_payload_format: bool,
}

#[derive(Args, Debug)]
pub(super) struct ReferralFlags {
    /// Server that MQTT 5.0 clients are to use while this one is full, and when it is stopped:
    /// NAME, NAME:PORT or [IPv6]:PORT. Repeat it for more
    #[arg(long, value_name = "SERVER", value_parser = parse_server)]
    pub(super) refer_to: Vec<String>,
    /// Server that MQTT 5.0 clients are to use from now on; no client is served here. Repeat it
    /// for more
    #[arg(long, value_name = "SERVER", value_parser = parse_server, conflicts_with = "refer_to")]
    pub(super) moved_to: Vec<String>,
}

#[derive(Args, Debug)]
pub(super) struct SharingFlags {
    /// Which member of a share group gets a message; one that is connected before any other
    #[arg(long = "share-strategy", value_name = "STRATEGY", default_value = "round-robin")]
    #[arg(value_parser = strategy_parser())]
    pub(super) default: Strategy,
    /// The strategy of the groups with this ShareName, such as jobs=least-in-flight. Repeat it for
    /// more
    #[arg(long = "share-group", value_name = "SHARENAME=STRATEGY")]
    #[arg(value_parser = parse_share_group)]
    pub(super) groups: Vec<(Box<str>, Strategy)>,
}

#[derive(Args, Debug)]
pub(super) struct TuningFlags {
    /// Receive buffers of each shard, shared by its connections; a power of two
    #[arg(long = "recv-buffers", value_name = "NUMBER", default_value = "256")]
    #[arg(value_parser = parse_power_of_two::<u16>(1, 1 << 15))]
    pub(super) receive_buffers: u16,
    /// Size of one receive buffer, in bytes or with KiB or MiB
    #[arg(long = "recv-buffer-size", value_name = "BYTES", default_value = "16KiB")]
    #[arg(value_parser = parse_bytes::<u32>(512, 1 << 20))]
    pub(super) receive_buffer_bytes: u32,
    /// Entries of each shard's submission queue; a power of two
    #[arg(long, value_name = "NUMBER", default_value = "1024")]
    #[arg(value_parser = parse_power_of_two::<u32>(64, 1 << 15))]
    pub(super) ring_entries: u32,
    /// Time between two publications of the $SYS topics, in seconds; 0 turns them off
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    #[arg(value_parser = parse_seconds(0, 86_400))]
    pub(super) sys_interval: Span,
}
