//! The command line flags. Each value is checked by itself; `Config` checks the combinations.

use std::{net::SocketAddr, num::NonZeroU16, path::PathBuf};

use clap::{Arg, ArgMatches, Args, Command, Subcommand, value_parser};

use super::{
    control::ControlFlags,
    cpus::CpuList,
    documents::{Shell, man_command},
    hook::HookFlags,
    jwt::JwtFlags,
    keys::{FILE_FLAG, with_switches},
    listener::OwnSettings,
    remote::RemoteOrder,
    settings::Setting,
    store::StoreOrder,
    tls::TlsFlags,
    users::{PasswdFlags, ScramFlags},
    values::{
        AclSubscribe, DurabilityMode, Feature, IoChoice, LogFormat, Switch, Takeover,
        feature_parser, log_format_parser, parse_acl_subscribe, parse_address, parse_bytes,
        parse_count, parse_durability, parse_io, parse_log_filter, parse_micros, parse_millis,
        parse_mode, parse_network, parse_origin, parse_owner, parse_path, parse_power_of_two,
        parse_qos, parse_rate, parse_seconds, parse_server, parse_share_group, parse_switch,
        parse_takeover, parse_topic_name, parse_websocket_address, parse_when_queue_full,
        strategy_parser,
    },
};
use crate::{
    base::{ids::SHARDS_MAX, network::Network, time::Span},
    mqtt::QoS,
    routing::Strategy,
    shard::rules::WhenQueueFull,
    transport::listener::Owner,
};

/// The command line: the flags of a broker, alone or behind a subcommand.
pub(super) fn command_line() -> Command {
    let broker = |command| broker(command).arg(file_flag()).max_term_width(WIDTH);
    let command = RemoteOrder::augment_subcommands(broker(Command::new("ringmq")));
    command
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .after_help(SOURCES)
        .args_conflicts_with_subcommands(true)
        .subcommand(broker(Command::new(RUN)).about(RUN_ABOUT).after_help(SOURCES))
        .subcommand(broker(Command::new(CHECK)).about(CHECK_ABOUT).after_help(SOURCES))
        .subcommand(store())
        .subcommand(PasswdFlags::augment_args(Command::new(PASSWD)).max_term_width(WIDTH))
        .subcommand(ScramFlags::augment_args(Command::new(SCRAM)).max_term_width(WIDTH))
        .subcommand(Command::new(IMPORT).about(IMPORT_ABOUT).arg(conf_file()).max_term_width(WIDTH))
        .subcommand(completions())
        .subcommand(man_command())
}

fn completions() -> Command {
    let command = Command::new(COMPLETIONS).about(COMPLETIONS_ABOUT).max_term_width(WIDTH);
    command.arg(
        Arg::new(SHELL)
            .value_name("SHELL")
            .value_parser(value_parser!(Shell))
            .required(true)
            .help("The shell"),
    )
}

/// The shell of `ringmq completions`.
pub(super) fn shell(matches: &ArgMatches) -> Shell {
    matches.get_one(SHELL).copied().expect("clap requires it")
}

fn store() -> Command {
    StoreOrder::augment_subcommands(Command::new(STORE).max_term_width(WIDTH))
        .about(STORE_ABOUT)
        .subcommand_required(true)
        .arg_required_else_help(true)
}

/// The flags of a broker alone.
pub(super) fn broker_flags() -> Command {
    broker(Command::new("ringmq"))
}

fn broker(command: Command) -> Command {
    with_switches(Flags::augment_args(command))
}

fn file_flag() -> Arg {
    Arg::new(FILE_FLAG)
        .long(FILE_FLAG)
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help_heading("Configuration")
        .help("Configuration file in TOML, with the keys of docs/configuration.md")
}

fn conf_file() -> Arg {
    Arg::new(CONF_FILE)
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .required(true)
        .help("The mosquitto.conf, whose include_dir is read as well")
}

/// The file of `ringmq import`.
pub(super) fn import_file(matches: &ArgMatches) -> PathBuf {
    matches.get_one(CONF_FILE).cloned().expect("clap requires it")
}

const CONF_FILE: &str = "file";
const SHELL: &str = "shell";
pub(super) const RUN: &str = "run";
pub(super) const CHECK: &str = "check";
pub(super) const STORE: &str = "store";
pub(super) const PASSWD: &str = "passwd";
pub(super) const SCRAM: &str = "scram";
pub(super) const IMPORT: &str = "import";
pub(super) const COMPLETIONS: &str = "completions";
pub(super) const STATUS: &str = "status";
pub(super) const TOP: &str = "top";
pub(super) const CLIENTS: &str = "clients";
pub(super) const BAN: &str = "ban";
pub(super) const BANS: &str = "bans";
pub(super) const UNBAN: &str = "unban";
pub(super) const KICK: &str = "kick";
pub(super) const TRACE: &str = "trace";

const ABOUT: &str = "An MQTT broker for versions 3.1, 3.1.1 and 5.0, with one shard per CPU core, \
                     on io_uring or epoll. Without a subcommand it runs the broker.";
const RUN_ABOUT: &str = "Runs the broker, as without a subcommand";
const CHECK_ABOUT: &str = "Checks the configuration and the files that it names, and says what \
                           would be served. The exit status is 0 if the broker could start, 1 for \
                           a wrong file, 2 for a wrong flag or configuration file";
const STORE_ABOUT: &str = "Looks at the store of a data directory, checks, copies and repairs it";
const SOURCES: &str = "Each flag is also a key of the configuration file, and a variable of the \
                       environment: RINGMQ_MAX_QUEUED is --max-queued. A flag comes before a \
                       variable, a variable before the file.";
const IMPORT_ABOUT: &str = "Prints the configuration file of ringmq that does what a \
                            mosquitto.conf does, and says on standard error which directives have \
                            no equivalent";
const COMPLETIONS_ABOUT: &str = "Prints what completes this command in a shell. Packages bring \
                                 it along";
/// Columns of the help, at most.
const WIDTH: usize = 100;

/// The flags of a broker.
#[derive(Args, Debug)]
pub(super) struct Flags {
    /// What `[[listener]]` tables say.
    #[arg(skip)]
    pub(super) own_settings: Vec<OwnSettings>,
    /// All of them in words.
    #[arg(skip)]
    pub(super) settings: Vec<Setting>,
    /// The folder that the service manager has made for what lasts as long as the process.
    #[arg(skip)]
    pub(super) run_directory: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Network")]
    pub(super) network: NetworkFlags,
    #[command(flatten, next_help_heading = "TLS")]
    pub(super) tls: TlsFlags,
    #[command(flatten, next_help_heading = "Shards")]
    pub(super) shards: ShardFlags,
    #[command(flatten, next_help_heading = "Access")]
    pub(super) access: AccessFlags,
    #[command(flatten, next_help_heading = "JWT")]
    pub(super) jwt: JwtFlags,
    #[command(flatten, next_help_heading = "HTTP hook")]
    pub(super) hook: HookFlags,
    #[command(flatten, next_help_heading = "Limits")]
    pub(super) limits: LimitFlags,
    #[command(flatten, next_help_heading = "Store")]
    pub(super) store: StoreFlags,
    #[command(flatten, next_help_heading = "Features")]
    pub(super) offer: OfferFlags,
    #[command(flatten, next_help_heading = "Other servers")]
    pub(super) referral: ReferralFlags,
    #[command(flatten, next_help_heading = "Shared subscriptions")]
    pub(super) sharing: SharingFlags,
    #[command(flatten, next_help_heading = "Tuning")]
    pub(super) tuning: TuningFlags,
    #[command(flatten, next_help_heading = "Control")]
    pub(super) control: ControlFlags,
    #[command(flatten, next_help_heading = "Log")]
    pub(super) log: LogFlags,
}

#[derive(Args, Debug)]
pub(super) struct LogFlags {
    /// Which messages are logged: error, warn, info, debug, trace or off. PART=LEVEL sets the level
    /// of one part of the broker; separate several with commas, for example
    /// `warn,ringmq::shard=debug`
    #[arg(long = "log", value_name = "FILTER", default_value = "info")]
    #[arg(value_parser = parse_log_filter)]
    pub(super) filter: String,
    /// Format of the log lines on standard error: text for people, json for log collectors
    #[arg(long = "log-format", value_name = "FORMAT", default_value = "text")]
    #[arg(value_parser = log_format_parser())]
    pub(super) format: LogFormat,
}

#[derive(Args, Debug)]
pub(super) struct NetworkFlags {
    /// Address to listen on: IP, IP:PORT, [IPv6]:PORT or PORT. `localhost` and a PORT alone mean
    /// 127.0.0.1. [::] accepts IPv4 as well, unless an IPv4 address with the same port is given.
    /// May be repeated [default: 127.0.0.1:1883, or none with another listener]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub(super) listen: Vec<SocketAddr>,
    /// Address to listen on for MQTT over WebSocket, in the same form as --listen. The port is 8083
    /// if none is given. May be repeated [default: none]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_websocket_address)]
    pub(super) listen_websocket: Vec<SocketAddr>,
    /// Unix socket to listen on, as the path of a file that the broker makes, and removes when it
    /// stops. Only clients of this machine reach it. May be repeated [default: none]
    #[arg(long, value_name = "PATH")]
    pub(super) listen_unix: Vec<PathBuf>,
    /// Mode of the files of --listen-unix, in the form of chmod: who may write to the file may
    /// connect
    #[arg(long, value_name = "MODE", default_value = "660", value_parser = parse_mode)]
    pub(super) unix_mode: u32,
    /// Owner of the files of --listen-unix: USER, UID, USER:GROUP or UID:GID [default: that of the
    /// broker]
    #[arg(long, value_name = "OWNER", value_parser = parse_owner)]
    pub(super) unix_owner: Option<Owner>,
    /// Listen for proxies, on all listeners: each connection has to begin with a header of the
    /// PROXY protocol, version 1 or 2, that says the address of the client. It needs --proxy-from,
    /// except on Unix sockets
    #[arg(long)]
    pub(super) proxy_protocol: bool,
    /// Network of the proxies that --proxy-protocol is for: ADDRESS or ADDRESS/PREFIX. A connection
    /// from elsewhere to a listener for proxies is closed. May be repeated [default: none]
    #[arg(long, value_name = "NETWORK", value_parser = parse_network)]
    pub(super) proxy_from: Vec<Network>,
    /// Take the common name of the certificate that a client has shown to a proxy as its user name,
    /// if the header says that it is valid (version 2 only). Such a user needs no password. Others
    /// are then refused, unless --password-file, --scram-file or --allow-anonymous lets them in
    #[arg(long)]
    pub(super) proxy_user_from_cn: bool,
    /// URL path of the WebSocket listeners, for example /mqtt. A request for any other path is
    /// answered with 404 [default: any path]
    #[arg(long, value_name = "PATH", value_parser = parse_path)]
    pub(super) websocket_path: Option<String>,
    /// Origin whose web pages may open a WebSocket, for example `https://example.com`. May be
    /// repeated. A listener on a loopback address also takes the pages of this machine [default:
    /// any origin; on a loopback address the pages of this machine]
    #[arg(long, value_name = "ORIGIN", value_parser = parse_origin)]
    pub(super) websocket_origin: Vec<String>,
    /// Time that a client has to send its CONNECT, in seconds. A client that takes longer is
    /// disconnected. A client whose password cannot be checked within half of this time is refused
    /// with Server busy
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    #[arg(value_parser = parse_seconds(1, 3600))]
    pub(super) connect_timeout: Span,
    /// Time in which the rest of an incomplete packet has to come, or 1 KiB of it, in seconds. Else
    /// its client is disconnected
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    #[arg(value_parser = parse_seconds(1, 3600))]
    pub(super) packet_timeout: Span,
    /// Time that a client may read nothing of what waits for it, in seconds. A client that reads
    /// nothing for longer is disconnected
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    #[arg(value_parser = parse_seconds(1, 86_400))]
    pub(super) stalled_timeout: Span,
    /// Time that a stop may take, in seconds. Most of it is for sending the messages that wait for
    /// connected clients; what the clients do not take in this time is lost
    #[arg(long, value_name = "SECONDS", default_value = "5")]
    #[arg(value_parser = parse_seconds(1, 3600))]
    pub(super) stop_timeout: Span,
}

#[derive(Args, Debug)]
pub(super) struct ShardFlags {
    /// Number of shards. Each shard is one thread, pinned to one CPU [default: one for each CPU in
    /// --cpus; without --cpus, one for each CPU that this process may use]
    #[arg(long, value_name = "NUMBER", value_parser = parse_count(1, SHARDS_MAX))]
    pub(super) shards: Option<usize>,
    /// CPUs that the shards run on, in the order of the shards, for example 0-3,6. The list must
    /// name at least as many CPUs as there are shards [default: the CPUs that this process may use:
    /// one of each physical core first, those of one NUMA node before the next; if there are more
    /// shards than CPUs, shards share CPUs]
    #[arg(long, value_name = "LIST")]
    pub(super) cpus: Option<CpuList>,
    /// Time that an idle shard looks for work before it sleeps, in microseconds. A larger value
    /// lowers latency and uses more CPU
    #[arg(long, value_name = "MICROSECONDS", default_value = "0")]
    #[arg(value_parser = parse_micros(0, 1_000_000))]
    pub(super) busy_poll: Span,
    /// What the shards wait by: `ring` is `io_uring`, `poll` is epoll, which costs more CPU. `auto`
    /// takes `io_uring`, or epoll where the system forbids that, as containers do by default; the
    /// log says so
    #[arg(long, value_name = "auto|ring|poll", default_value = "auto", value_parser = parse_io)]
    pub(super) io: IoChoice,
}

#[derive(Args, Debug)]
pub(super) struct AccessFlags {
    /// File of user names and hashed passwords, in the format of `mosquitto_passwd`. Clients
    /// without a user name are then refused, unless --allow-anonymous is given
    #[arg(long, value_name = "FILE")]
    pub(super) password_file: Option<PathBuf>,
    /// File of users that can authenticate with SCRAM-SHA-256 or SCRAM-SHA-512 (MQTT 5.0 clients
    /// only). Each line is `USER:` followed by a verifier in PostgreSQL's format. Clients that do
    /// not authenticate are then refused, unless --allow-anonymous is given
    #[arg(long, value_name = "FILE")]
    pub(super) scram_file: Option<PathBuf>,
    /// File of rights by topic, in the format and with the meaning of mosquitto's `acl_file`. What
    /// no line of it grants is denied [default: all clients may read and write everything]
    #[arg(long, value_name = "FILE")]
    pub(super) acl_file: Option<PathBuf>,
    /// File of clients, groups and roles in the format of mosquitto's dynamic security plugin, in
    /// place of --password-file and --acl-file. `mosquitto_ctrl dynsec init FILE USER` makes it,
    /// and `mosquitto_ctrl dynsec` changes it while the broker runs: it writes the file, which has
    /// to be its own. Clients without a user name are then refused, unless --allow-anonymous is
    /// given
    #[arg(long, value_name = "FILE")]
    pub(super) dynamic_security_file: Option<PathBuf>,
    /// What a SUBSCRIBE gets for a filter of which the client may read nothing: `refuse` answers
    /// with an error, `silent` grants it and sends nothing, as mosquitto does
    #[arg(long, value_name = "refuse|silent", default_value = "refuse")]
    #[arg(value_parser = parse_acl_subscribe)]
    pub(super) acl_subscribe: AclSubscribe,
    /// Whether a retained message is replayed to new subscriptions only while its publisher may
    /// write to its topic, by the --acl-file in force
    #[arg(long, value_name = "on|off", default_value = "on")]
    #[arg(value_parser = parse_switch)]
    pub(super) check_retain_source: Switch,
    /// Who may resume a session, or end its connection, by connecting with its Client Identifier:
    /// `same-user` lets only the user that began it (anonymous clients are one user for each
    /// listener) and refuses others, `anyone` lets all, as mosquitto does
    #[arg(long, value_name = "same-user|anyone", default_value = "same-user")]
    #[arg(value_parser = parse_takeover)]
    pub(super) takeover: Takeover,
    /// Allow clients without a user name on all listeners [default: allowed on loopback addresses
    /// if none of --password-file, --scram-file, --dynamic-security-file, --jwt-key-file and
    /// --auth-http-url is given, refused otherwise]
    #[arg(long)]
    pub(super) allow_anonymous: bool,
}

#[derive(Args, Debug)]
pub(super) struct LimitFlags {
    /// Maximum memory that clients can make the broker take, in bytes or with a unit such as MiB or
    /// GB. When it is short, who takes most loses some, and nothing new is kept [default: half of
    /// the memory of the machine or of the control group]
    #[arg(long = "max-memory", value_name = "BYTES")]
    #[arg(value_parser = parse_bytes::<usize>(16 << 20, 1 << 50))]
    pub(super) memory_max: Option<usize>,
    /// Maximum number of connections to the broker. The last eighth is kept for users, and for
    /// addresses of anonymous clients, that have less than their share
    #[arg(long = "max-connections", value_name = "NUMBER", default_value = "100000")]
    #[arg(value_parser = parse_count(1, 1 << 24))]
    pub(super) connections_max: usize,
    /// Network whose clients are many, such as those behind a load balancer or a NAT: ADDRESS or
    /// ADDRESS/PREFIX. It is held to no share. May be repeated [default: none]
    #[arg(long = "exempt-address", value_name = "NETWORK", value_parser = parse_network)]
    pub(super) exempt: Vec<Network>,
    /// Maximum number of sessions in the broker, connected or not. When there is no room for
    /// another one, the longest absent session of the user, or of the address of anonymous clients,
    /// that has most sessions ends. A user or address with no more than its fair share loses none
    #[arg(long = "max-sessions", value_name = "NUMBER", default_value = "1000000")]
    #[arg(value_parser = parse_count(1, 1 << 28))]
    pub(super) sessions_max: usize,
    /// Maximum size of one packet, in bytes or with a unit such as KiB or MB. At most 256MiB
    // Any client can make the broker hold this many bytes of an incomplete packet, within
    // --max-memory. The default takes the image of a camera.
    #[arg(long = "max-packet-size", value_name = "BYTES", default_value = "8MiB")]
    #[arg(value_parser = parse_bytes::<u32>(256, 256 << 20))]
    pub(super) packet_bytes_max: u32,
    /// Maximum size of a packet that comes before CONNACK, in bytes or with a unit such as KiB or
    /// MB. Raise it for a CONNECT with a larger Will or password
    // The default has room for the largest Will payload and for as much again: topic, User Name, a
    // token as password, and User Properties.
    #[arg(long = "max-connect-size", value_name = "BYTES", default_value = "128KiB")]
    #[arg(value_parser = parse_bytes::<u32>(256, 256 << 20))]
    pub(super) connect_bytes_max: u32,
    /// Maximum number of unacknowledged QoS 1 and 2 messages to one client. The Receive Maximum of
    /// the client may lower it
    #[arg(long = "max-inflight", value_name = "NUMBER", default_value = "64")]
    pub(super) inflight_max: NonZeroU16,
    /// Receive Maximum in CONNACK to MQTT 5.0 clients: how many QoS 1 and 2 messages a client may
    /// send before they are acknowledged. The broker counts QoS 2 messages only, until the client
    /// releases them, and disconnects a client that exceeds the limit
    #[arg(long, value_name = "NUMBER", default_value = "1024")]
    pub(super) receive_maximum: NonZeroU16,
    /// Maximum number of Topic Aliases that the broker uses for long topics to one MQTT 5.0 client.
    /// The Topic Alias Maximum of the client may lower it. 0 disables aliases, because some clients
    /// ask for them and fail when they get them, such as MQTT.js 4
    #[arg(long = "topic-aliases", value_name = "NUMBER", default_value = "0")]
    pub(super) topic_aliases_max: u16,
    /// Maximum number of messages queued in one session
    #[arg(long = "max-queued", value_name = "NUMBER", default_value = "10000")]
    #[arg(value_parser = parse_count(1, 1 << 28))]
    pub(super) queue_messages_max: usize,
    /// What happens if the queue of a connected client is full after publishers were held back for
    /// --patience: drop discards and counts the new message, disconnect closes the connection with
    /// Quota exceeded
    #[arg(long, value_name = "drop|disconnect", default_value = "drop")]
    #[arg(value_parser = parse_when_queue_full)]
    pub(super) when_queue_full: WhenQueueFull,
    /// Maximum size of the messages queued in one session, in bytes or with a unit such as KiB or
    /// MB [default: 16MiB, or --max-packet-size if that is larger]
    #[arg(long = "max-queued-bytes", value_name = "BYTES")]
    #[arg(value_parser = parse_bytes::<usize>(256, 1 << 40))]
    pub(super) queue_bytes_max: Option<usize>,
    /// Maximum size of the unsent bytes of one connection, in bytes or with a unit such as KiB or
    /// MB. Beyond it, QoS 1 and 2 messages are queued and, after publishers were held back for
    /// --patience, QoS 0 messages are dropped
    #[arg(long = "outbox-bytes", value_name = "BYTES", default_value = "1MiB")]
    #[arg(value_parser = parse_bytes::<usize>(4 << 10, 1 << 30))]
    pub(super) outbox_bytes_max: usize,
    /// Maximum number of levels in a Topic Name or Topic Filter
    #[arg(long = "max-topic-levels", value_name = "NUMBER", default_value = "200")]
    #[arg(value_parser = parse_count(1, 65_536))]
    pub(super) topic_levels_max: usize,
    /// Maximum number of User Properties in one message or Will
    #[arg(long = "max-user-properties", value_name = "NUMBER", default_value = "100")]
    #[arg(value_parser = parse_count(0, 1 << 28))]
    pub(super) user_properties_max: usize,
    /// Maximum size of the User Properties in one message or Will, in bytes or with a unit such as
    /// KiB or MB
    #[arg(long = "max-user-property-bytes", value_name = "BYTES", default_value = "16KiB")]
    #[arg(value_parser = parse_bytes::<usize>(0, 256 << 20))]
    pub(super) user_property_bytes_max: usize,
    /// Maximum number of Topic Filters in one SUBSCRIBE
    #[arg(long = "max-filters-in-subscribe", value_name = "NUMBER", default_value = "1000")]
    #[arg(value_parser = parse_count(1, 1 << 28))]
    pub(super) subscribe_filters_max: usize,
    /// Maximum number of subscriptions in one session
    #[arg(long = "max-subscriptions", value_name = "NUMBER", default_value = "100000")]
    #[arg(value_parser = parse_count(1, 1 << 28))]
    pub(super) subscriptions_max: usize,
    /// Maximum size of the Topic Filters in one session, in bytes or with a unit such as KiB or MB
    #[arg(long = "max-subscription-bytes", value_name = "BYTES", default_value = "16MiB")]
    #[arg(value_parser = parse_bytes::<usize>(256, 1 << 40))]
    pub(super) subscription_bytes_max: usize,
    /// Maximum number of patterns of text and `+` that the Topic Filters in one session begin with.
    /// It bounds the time that they add to a message
    #[arg(long = "max-wildcard-patterns", value_name = "NUMBER", default_value = "512")]
    #[arg(value_parser = parse_count(1, 1 << 28))]
    pub(super) wildcard_patterns_max: usize,
    /// Maximum number of retained messages in the broker
    #[arg(long = "max-retained", value_name = "NUMBER", default_value = "1000000")]
    #[arg(value_parser = parse_count(0, 1 << 28))]
    pub(super) retained_max: usize,
    /// Maximum total size of the retained messages, in bytes or with a unit such as KiB or MB. Each
    /// shard keeps a copy of every retained message
    #[arg(long = "max-retained-bytes", value_name = "BYTES", default_value = "1GiB")]
    #[arg(value_parser = parse_bytes::<usize>(0, 1 << 40))]
    pub(super) retained_bytes_max: usize,
    /// Maximum time that a session outlives its connection, in seconds, also of clients before 5.0
    /// without Clean Session. A week by default; 4294967295 means for ever
    #[arg(long, value_name = "SECONDS", default_value_t = 604_800)]
    pub(super) session_expiry_max: u32,
    /// Maximum number of PUBLISH packets of one client in a second; as many may come at once after
    /// a quiet second. A client that sends more is read from more slowly. 0 means no limit
    #[arg(long, value_name = "NUMBER", default_value = "0", value_parser = parse_rate)]
    pub(super) max_message_rate: u64,
    /// Maximum number of bytes of one client in a second, all packets included, in bytes or with a
    /// unit such as KiB or MB. A client that sends more is read from more slowly. 0 means no limit
    #[arg(long, value_name = "BYTES", default_value = "0")]
    #[arg(value_parser = parse_bytes::<u64>(0, 1 << 40))]
    pub(super) max_byte_rate: u64,
    /// Maximum number of new connections to each listener in a second. Further ones wait before
    /// anything is read from them. 0 means no limit
    #[arg(long, value_name = "NUMBER", default_value = "0", value_parser = parse_rate)]
    pub(super) max_connection_rate: u64,
    /// Time that a client is held back without a pause because it sends more than
    /// --max-message-rate or --max-byte-rate, in seconds. Then it is disconnected with Message rate
    /// too high. A new connection that would have to wait for longer, or for a minute, is closed. 0
    /// means no limit
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    #[arg(value_parser = parse_seconds(0, 3600))]
    pub(super) rate_timeout: Span,
    /// Time in a minute that publishers are held back for the subscribers of one user, or else of
    /// one address, that cannot keep up, in milliseconds. For fast subscribers they are held back
    /// as long as these need. A publisher waits for all others at most 100 ms in any 10 s. Holding
    /// back begins when an outbox or queue is more than half full, or when messages wait in a fast
    /// queue for more than 3 ms. 0 disables holding back
    #[arg(long, value_name = "MILLISECONDS", default_value = "500")]
    #[arg(value_parser = parse_millis(0, 60_000))]
    pub(super) patience: Span,
}

#[derive(Args, Debug)]
pub(super) struct StoreFlags {
    /// Folder in which the broker keeps what survives a restart: retained messages, sessions with a
    /// Session Expiry Interval, their subscriptions and messages [default: none, nothing survives]
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// When an acknowledgement may leave: `always`, once what it promises is on disk; `none`, once
    /// it is written, so that a power cut may lose it; `interval=MS`, the same, and it is on disk
    /// after so many milliseconds. The end of the process loses nothing
    #[arg(long, value_name = "MODE", default_value = "always", value_parser = parse_durability)]
    pub(super) durability: DurabilityMode,
    /// Maximum size of the store on disk, in bytes or with a unit such as GiB. Beyond it no durable
    /// message is taken [default: the disk]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes::<usize>(16 << 20, 1 << 60))]
    pub(super) max_store_bytes: Option<usize>,
    /// Size of each new file of the store, in bytes or with a unit such as MiB [default: an eighth
    /// of what it holds, 1 to 64 MiB]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes::<usize>(1 << 20, 1 << 30))]
    pub(super) store_segment_bytes: Option<usize>,
    /// Time after a start in which Wills wait that were not published before, in seconds. A client
    /// that comes back in time takes its Will along
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    #[arg(value_parser = parse_seconds(0, 86_400))]
    pub(super) will_grace: Span,
}

#[derive(Args, Debug)]
pub(super) struct OfferFlags {
    /// Maximum QoS of messages from clients: 0, 1 or 2. Subscriptions are granted at most this QoS
    #[arg(long = "max-qos", value_name = "QOS", default_value = "2", value_parser = parse_qos)]
    pub(super) qos_max: QoS,
    /// Optional features of MQTT to disable, separated by commas. CONNACK tells MQTT 5.0 clients
    /// which features are disabled
    #[arg(long, value_name = "FEATURES", value_delimiter = ',', value_parser = feature_parser())]
    pub(super) disable: Vec<Feature>,
    /// Maximum Keep Alive of an MQTT 5.0 client, in seconds. A client that asks for a longer Keep
    /// Alive, or for none, is given this value as Server Keep Alive [default: no limit]
    // Clients before 5.0 keep their own Keep Alive: no packet can tell them a shorter one.
    #[arg(long = "max-keep-alive", value_name = "SECONDS")]
    pub(super) keep_alive_max: Option<NonZeroU16>,
    /// Topic Name that Response Information is made from. An MQTT 5.0 client that asks for Response
    /// Information gets TOPIC/CLIENT, where CLIENT is its Client Identifier with / + # and %
    /// escaped [default: none]
    #[arg(long = "response-information", value_name = "TOPIC", value_parser = parse_topic_name)]
    pub(super) response_prefix: Option<Box<str>>,
    /// Refuse messages and Wills whose Payload Format Indicator says UTF-8 text but whose payload
    /// is not valid UTF-8
    #[arg(long)]
    pub(super) validate_payload_format: bool,
}

#[derive(Args, Debug)]
pub(super) struct ReferralFlags {
    /// Server that MQTT 5.0 clients are told to use while this server is full, and when this server
    /// stops: NAME, NAME:PORT or [IPv6]:PORT. May be repeated
    #[arg(long, value_name = "SERVER", value_parser = parse_server)]
    pub(super) refer_to: Vec<String>,
    /// Server that MQTT 5.0 clients are told to use permanently. This server then serves no client.
    /// May be repeated
    #[arg(long, value_name = "SERVER", value_parser = parse_server, conflicts_with = "refer_to")]
    pub(super) moved_to: Vec<String>,
}

#[derive(Args, Debug)]
pub(super) struct SharingFlags {
    /// How the member of a share group that receives a message is chosen. Connected members are
    /// preferred
    #[arg(long = "share-strategy", value_name = "STRATEGY", default_value = "round-robin")]
    #[arg(value_parser = strategy_parser())]
    pub(super) default: Strategy,
    /// Strategy for the share groups with this ShareName, for example jobs=least-in-flight. May be
    /// repeated
    #[arg(long = "share-group", value_name = "SHARENAME=STRATEGY")]
    #[arg(value_parser = parse_share_group)]
    pub(super) groups: Vec<(Box<str>, Strategy)>,
}

#[derive(Args, Debug)]
pub(super) struct TuningFlags {
    /// Number of receive buffers per shard, shared by its connections. Must be a power of two. Has
    /// no effect with epoll (--io)
    #[arg(long = "recv-buffers", value_name = "NUMBER", default_value = "256")]
    #[arg(value_parser = parse_power_of_two::<u16>(1, 1 << 15))]
    pub(super) receive_buffers: u16,
    /// Size of one receive buffer, in bytes or with a unit such as KiB or MB
    #[arg(long = "recv-buffer-size", value_name = "BYTES", default_value = "16KiB")]
    #[arg(value_parser = parse_bytes::<u32>(512, 1 << 20))]
    pub(super) receive_buffer_bytes: u32,
    /// Number of entries in the io_uring submission queue of each shard. Must be a power of two.
    /// Has no effect with epoll (--io)
    #[arg(long, value_name = "NUMBER", default_value = "1024")]
    #[arg(value_parser = parse_power_of_two::<u32>(64, 1 << 15))]
    pub(super) ring_entries: u32,
    /// Time between two publications of the $SYS topics, in seconds. 0 disables them
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    #[arg(value_parser = parse_seconds(0, 86_400))]
    pub(super) sys_interval: Span,
}
