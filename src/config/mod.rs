//! Configuration: reads the command line, the environment and the configuration file, and checks
//! them into one [`Config`].
//!
//! This module knows the meaning of each flag and which flags contradict each other. It does not
//! act on a flag.

#![forbid(unsafe_code)]

mod control;
mod cpus;
mod documents;
mod file;
mod fixed;
mod flags;
mod hook;
mod jwt;
mod keys;
mod listener;
mod listeners;
mod memory;
mod remote;
mod settings;
mod source;
mod store;
mod tls;
mod users;
mod values;

use std::{
    env, io,
    path::{Path, PathBuf},
};

use clap::{ArgMatches, FromArgMatches};
use thiserror::Error;

pub use self::{
    control::ControlOptions,
    documents::{ManPage, Shell, man_pages},
    file::FileFault,
    hook::HookOptions,
    listener::{OwnRates, OwnSettings},
    listeners::ProxyOptions,
    remote::{Remote, RemoteOrder, Top, Trace, Traced, Whom},
    settings::Setting,
    source::{Source, SourceError},
    store::{DataDir, StoreOrder},
    tls::{ClientFiles, TlsListeners},
    users::{Secrets, UsersChange, UsersOrder},
    values::{DurabilityMode, IoChoice, LogFormat},
};
use self::{
    control::Folders,
    cpus::CpuList,
    documents::{MAN, man_directory},
    flags::{
        AccessFlags, BAN, BANS, CHECK, CLIENTS, COMPLETIONS, Flags, IMPORT, KICK, LimitFlags,
        NetworkFlags, OfferFlags, PASSWD, ReferralFlags, SCRAM, STATUS, STORE, ShardFlags,
        SharingFlags, StoreFlags, TOP, TRACE, TuningFlags, UNBAN, broker_flags, command_line,
        import_file, shell,
    },
    hook::HookFlags,
    jwt::JwtFlags,
    keys::Key,
    tls::TlsFlags,
    users::{PasswdFlags, ScramFlags},
    values::{AclSubscribe, Feature, Switch, Takeover},
};
use crate::{
    access::{Anonymous, TokenRules},
    base::{
        ids::{SHARDS_MAX, ShardId},
        network::Network,
        time::Span,
    },
    routing::Strategies,
    session::queue::QueueLimits,
    shard::{
        events::Presence,
        offer::Offer,
        referral::Referral,
        rules::{Limits, PASSWORD_CHECKS_MAX, SLICE_STEPS},
    },
    transport::{Address, Listener},
};

/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Order {
    /// Run a broker. The source is where its configuration was read, and can be read again.
    Run(Box<Config>, Source),
    /// Say what [`Order::Run`] would serve.
    Check(Box<Config>),
    /// Do something with a store.
    Store(StoreOrder),
    /// Change a file of users.
    Users(UsersOrder),
    /// Ask a running broker.
    Remote(RemoteOrder),
    /// Translate a configuration file of mosquitto.
    Import(PathBuf),
    /// Print the completions of a shell.
    Completions(Shell),
    /// Write the man pages to this directory.
    Man(PathBuf),
}

impl Order {
    /// Reads the command line of this process. For `--help`, `--version` and flags that cannot be
    /// read, clap prints its answer and ends the process.
    pub fn from_command_line() -> Result<Order, ConfigError> {
        let matches = command_line().get_matches();
        match matches.subcommand() {
            Some((CHECK, matches)) => Ok(Order::Check(Box::new(Config::read(&source(matches))?))),
            Some((STORE, matches)) => {
                let order = StoreOrder::from_arg_matches(matches);
                Ok(Order::Store(order.unwrap_or_else(|error| error.exit())))
            }
            Some((PASSWD, matches)) => Ok(Order::Users(users::<PasswdFlags>(matches).into())),
            Some((SCRAM, matches)) => Ok(Order::Users(users::<ScramFlags>(matches).into())),
            Some((IMPORT, matches)) => Ok(Order::Import(import_file(matches))),
            Some((COMPLETIONS, matches)) => Ok(Order::Completions(shell(matches))),
            Some((MAN, matches)) => Ok(Order::Man(man_directory(matches))),
            Some((STATUS | TOP | TRACE | CLIENTS | BAN | BANS | UNBAN | KICK, _)) => {
                let order = RemoteOrder::from_arg_matches(&matches);
                Ok(Order::Remote(order.unwrap_or_else(|error| error.exit())))
            }
            // No subcommand, or `run`.
            other => {
                let source = source(other.map_or(&matches, |(_, matches)| matches));
                Ok(Order::Run(Box::new(Config::read(&source)?), source))
            }
        }
    }
}

/// The table of the configuration file that has the key of a flag, if there is such a flag.
pub fn table_of(flag: &str) -> Option<String> {
    let keys = Key::all(&broker_flags());
    keys.into_iter().find(|key| key.flag == flag).map(|key| key.section)
}

/// Whether the log can have this filter.
pub fn check_log_filter(filter: &str) -> Result<(), String> {
    values::parse_log_filter(filter).map(drop)
}

fn users<T: FromArgMatches>(matches: &ArgMatches) -> T {
    T::from_arg_matches(matches).unwrap_or_else(|error| error.exit())
}

/// With the environment of this process.
fn source(matches: &ArgMatches) -> Source {
    Source::new(matches, env::vars_os())
}

/// Reads the text of a configuration file as far as it can be checked without other sources.
/// For tests of the reader with any input.
pub fn check_text(text: &str) -> Result<(), Vec<FileFault>> {
    source::parse_file(text, Path::new(""), &broker_flags()).map(drop)
}

/// All settings, checked: no value contradicts another.
#[derive(Clone, Debug)]
pub struct Config {
    /// Those without TLS. At least one, or `tls`.
    pub listeners: Vec<Listener>,
    pub tls: Option<TlsListeners>,

    /// The CPU of each shard: there are as many shards, at least one and at most [`SHARDS_MAX`].
    pub shard_cpus: Vec<usize>,
    pub busy_poll: Span,
    pub io: IoChoice,

    /// Bytes that all clients together may make the broker keep.
    pub memory_max: usize,
    pub connections_max: usize,
    /// Networks that are held to no share.
    pub exempt: Vec<Network>,
    pub limits: Limits,

    /// A packet of which less than 1 KiB comes in this time ends its connection.
    pub packet_timeout: Span,
    /// A client that reads nothing of what waits for it for this time is disconnected.
    pub stalled_timeout: Span,
    /// How long a stop may take.
    pub stop_timeout: Span,

    /// What survives a restart; `None`: nothing.
    pub store: Option<StoreOptions>,

    /// What clients may do.
    pub offer: Offer,
    /// Other servers to which clients are referred.
    pub referral: Referral,

    /// How share groups choose among their members.
    pub share_strategies: Strategies,

    pub password_file: Option<PathBuf>,
    /// Settings of single listeners.
    pub own_settings: Vec<OwnSettings>,
    /// How much may come in a second, where a listener has no rates of its own.
    pub rates: OwnRates,
    pub proxy: ProxyOptions,
    /// Users that authenticate by SCRAM.
    pub scram_file: Option<PathBuf>,
    /// Tokens that clients may send instead of passwords.
    pub tokens: Option<TokenRules>,
    /// Where keys of tokens are fetched.
    pub jwks: Option<jwt::JwksOptions>,
    /// The server that is asked about clients.
    pub hook: Option<HookOptions>,
    /// What clients may read and write.
    pub acl_file: Option<PathBuf>,
    /// Clients, groups and roles, which commands change.
    pub dynamic_security_file: Option<PathBuf>,
    /// A subscription of which the client may read nothing is granted, and gets nothing.
    pub grants_unreadable: bool,
    /// A client may take over the session of another user by its Client Identifier.
    pub shares_sessions: bool,
    /// Retained messages are replayed whatever rights their publishers have now.
    pub ignores_retain_source: bool,
    pub anonymous: Anonymous,

    /// Receive buffers per shard, a power of two.
    pub receive_buffers: u16,
    pub receive_buffer_bytes: u32,
    /// A power of two.
    pub ring_entries: u32,

    /// Where the control thread listens; `None`: there is no such thread.
    pub control: Option<ControlOptions>,

    /// How clients that come and go are announced under `$SYS`.
    pub presence: Presence,
    /// How often `$SYS` is published; `None` is never.
    pub sys_interval: Option<Span>,
    /// A valid filter in the syntax of `tracing_subscriber::EnvFilter`.
    pub log_filter: String,
    pub log_format: LogFormat,

    /// All settings in words.
    pub settings: Vec<Setting>,
}

impl Config {
    /// Reads all settings from where they come from.
    pub fn read(source: &Source) -> Result<Config, ConfigError> {
        let available = cpus::available().map_err(ConfigError::CpusUnknown)?;
        Ok(Config::new(source.read()?, &available)?)
    }

    pub fn shards(&self) -> usize {
        self.shard_cpus.len()
    }

    fn new(flags: Flags, available: &CpuList) -> Result<Config, Contradiction> {
        let Flags { network, shards, limits, access, store, offer, referral, sharing, .. } = flags;
        let (tls, tuning, control, log) = (flags.tls, flags.tuning, flags.control, flags.log);
        let (own_settings, settings) = (flags.own_settings, flags.settings);
        check_limits(&limits)?;
        check_files(&access)?;
        let data_dir = store.data_dir.clone();
        let folders = Folders { run: flags.run_directory.as_deref(), data: data_dir.as_deref() };
        let anonymous = anonymous((&access, &flags.jwt, &flags.hook), &tls, &network);
        listeners::check(&network, &tls, anonymous, &own_settings)?;
        let shard_cpus = shard_cpus(&shards, available)?;
        let TuningFlags { receive_buffers, receive_buffer_bytes, ring_entries, .. } = tuning;
        Ok(Config {
            listeners: listeners::plain(&network, &tls),
            tls: tls.listeners(listeners::policy(&network))?,
            proxy: listeners::proxy(&network),
            shard_cpus,
            busy_poll: shards.busy_poll,
            io: shards.io,
            memory_max: limits.memory_max.unwrap_or_else(memory_default),
            connections_max: limits.connections_max,
            exempt: limits.exempt.clone(),
            limits: self::limits(&limits, network.connect_timeout),
            packet_timeout: network.packet_timeout,
            stalled_timeout: network.stalled_timeout,
            stop_timeout: network.stop_timeout,
            store: self::store(store),
            share_strategies: share_strategies(sharing, &offer)?,
            offer: self::offer(&offer),
            referral: self::referral(&referral)?,
            password_file: access.password_file,
            scram_file: access.scram_file,
            jwks: flags.jwt.jwks()?,
            tokens: flags.jwt.rules()?,
            hook: flags.hook.options()?,
            own_settings,
            rates: OwnRates {
                messages: Some(limits.max_message_rate),
                bytes: Some(limits.max_byte_rate),
                connections: Some(limits.max_connection_rate),
            },
            acl_file: access.acl_file,
            dynamic_security_file: access.dynamic_security_file,
            grants_unreadable: access.acl_subscribe == AclSubscribe::Silent,
            shares_sessions: access.takeover == Takeover::Anyone,
            ignores_retain_source: access.check_retain_source == Switch::Off,
            anonymous,
            receive_buffers,
            receive_buffer_bytes,
            ring_entries,
            presence: control.presence,
            control: control.options(folders)?,
            sys_interval: Some(tuning.sys_interval).filter(|interval| !interval.is_zero()),
            log_filter: log.filter,
            log_format: log.format,
            settings,
        })
    }
}

/// How the broker keeps what survives a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    pub data_dir: PathBuf,
    pub durability: DurabilityMode,
    pub bytes_max: usize,
    /// Bytes of each new file; `None`: as many as suit what the store holds.
    pub segment_bytes: Option<usize>,
    /// How long Wills wait after a start.
    pub will_grace: Span,
}

fn store(flags: StoreFlags) -> Option<StoreOptions> {
    let StoreFlags { data_dir, durability, .. } = flags;
    Some(StoreOptions {
        data_dir: data_dir?,
        durability,
        bytes_max: flags.max_store_bytes.unwrap_or(usize::MAX),
        segment_bytes: flags.store_segment_bytes,
        will_grace: flags.will_grace,
    })
}

/// Why there is no [`Config`].
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    #[error("cannot read which CPUs this process may use: {0}")]
    CpusUnknown(#[source] io::Error),
}

impl ConfigError {
    /// 2 for an error in the configuration, as in clap; 1 for an error of the machine.
    pub fn exit_status(&self) -> u8 {
        match self {
            ConfigError::Source(_) | ConfigError::Contradiction(_) => 2,
            ConfigError::CpusUnknown(_) => 1,
        }
    }
}

/// Flags that are valid by themselves, but not together or not on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Contradiction {
    #[error("{flag} {address} is given twice")]
    ListenerTwice { flag: &'static str, address: Address },
    #[error(
        "{flag} {address} accepts connections from other machines but would refuse all clients: \
         add --password-file, --scram-file, --jwt-key-file, --auth-http-url, --tls-user-from or \
         --allow-anonymous"
    )]
    NobodyAdmitted { flag: &'static str, address: Address },
    #[error(
        "{flag} {address} is for proxies: name the networks that they are in with --proxy-from"
    )]
    NoProxies { flag: &'static str, address: Address },
    #[error(
        "--listen-http {0} can be reached from other machines: add --http-token-file, or listen on \
         a loopback address"
    )]
    NoTokens(Address),
    #[error("{0} needs --listen-websocket")]
    NoWebSocket(&'static str),
    #[error("--listen-tls needs --tls-cert and --tls-key")]
    NoCertificate,
    #[error("{0} needs {1}")]
    Needs(&'static str, &'static str),
    #[error("{0} takes the place of {1}: give one of them")]
    InPlaceOf(&'static str, &'static str),
    #[error("--tls-cert and --tls-key have to be given equally often")]
    UnequalKeys,
    #[error("--share-group {0} is given twice")]
    ShareGroupTwice(Box<str>),
    #[error("--share-group {0} has no effect with --disable shared-subscriptions")]
    ShareGroupWithoutSharing(Box<str>),
    #[error(
        "{0} servers are given with --refer-to or --moved-to, and at most {SERVERS_MAX} are allowed"
    )]
    TooManyServers(usize),
    #[error("--cpus names {cpus} CPUs, and --shards {shards} needs at least {shards}")]
    TooFewCpus { cpus: usize, shards: usize },
    #[error("--cpus names CPU {cpu}, but this process may only use {available}")]
    CpuNotAvailable { cpu: usize, available: CpuList },
    #[error("--max-sessions {sessions} is less than --max-connections {connections}")]
    FewerSessionsThanConnections { sessions: usize, connections: usize },
    #[error("--max-queued-bytes {queue} is less than --max-packet-size {packet}")]
    QueueSmallerThanPacket { queue: usize, packet: u32 },
}

fn limits(flags: &LimitFlags, connect_timeout: Span) -> Limits {
    Limits {
        packet_size_max: flags.packet_bytes_max as usize,
        connect_size_max: flags.connect_bytes_max as usize,
        outbox_bytes_max: flags.outbox_bytes_max,
        inflight_max: flags.inflight_max.get(),
        queue: QueueLimits {
            messages_max: flags.queue_messages_max,
            bytes_max: queue_bytes_max(flags),
        },
        when_queue_full: flags.when_queue_full,
        receive_maximum: flags.receive_maximum.get(),
        topic_alias_maximum: TOPIC_ALIAS_MAXIMUM,
        topic_aliases_max: flags.topic_aliases_max,
        session_expiry_max: flags.session_expiry_max,
        connect_timeout,
        rate_timeout: flags.rate_timeout,
        patience: flags.patience,
        sessions_max: flags.sessions_max,
        topic_levels_max: flags.topic_levels_max,
        user_properties_max: flags.user_properties_max,
        user_property_bytes_max: flags.user_property_bytes_max,
        subscribe_filters_max: flags.subscribe_filters_max,
        subscriptions_max: flags.subscriptions_max,
        subscription_bytes_max: flags.subscription_bytes_max,
        wildcard_patterns_max: flags.wildcard_patterns_max,
        retained_max: flags.retained_max,
        retained_bytes_max: flags.retained_bytes_max,
        slice_steps: SLICE_STEPS,
        password_checks_max: PASSWORD_CHECKS_MAX,
    }
}

/// Half of the memory that this process may use; no limit if that cannot be read.
fn memory_default() -> usize {
    memory::available().map_or(usize::MAX, |bytes| bytes / 2)
}

/// Topic Aliases that a client may use.
const TOPIC_ALIAS_MAXIMUM: u16 = 32;

/// Checks that each connection can have a session, and that each accepted message can be queued.
fn check_limits(limits: &LimitFlags) -> Result<(), Contradiction> {
    let &LimitFlags { connections_max: connections, sessions_max: sessions, .. } = limits;
    if sessions < connections {
        return Err(Contradiction::FewerSessionsThanConnections { sessions, connections });
    }
    let (queue, packet) = (queue_bytes_max(limits), limits.packet_bytes_max);
    if queue < packet as usize {
        return Err(Contradiction::QueueSmallerThanPacket { queue, packet });
    }
    Ok(())
}

/// The flag, or a default with room for the largest packet.
fn queue_bytes_max(flags: &LimitFlags) -> usize {
    let default = QUEUE_BYTES_DEFAULT.max(flags.packet_bytes_max as usize);
    flags.queue_bytes_max.unwrap_or(default)
}

/// Gives each shard a CPU: the named CPUs in their order, or all available ones. Shards share CPUs
/// if there are more shards than available CPUs.
fn shard_cpus(flags: &ShardFlags, available: &CpuList) -> Result<Vec<usize>, Contradiction> {
    if let Some(cpu) = flags.cpus.iter().flat_map(CpuList::iter).find(|&cpu| !available.has(cpu)) {
        return Err(Contradiction::CpuNotAvailable { cpu, available: available.sorted() });
    }
    let cpus = flags.cpus.as_ref().unwrap_or(available);
    let shards = flags.shards.unwrap_or_else(|| cpus.len().min(SHARDS_MAX));
    if flags.cpus.is_some() && cpus.len() < shards {
        return Err(Contradiction::TooFewCpus { cpus: cpus.len(), shards });
    }
    Ok(cpus.iter().cycle().zip(ShardId::all(shards)).map(|(cpu, _)| cpu).collect())
}

fn share_strategies(flags: SharingFlags, offer: &OfferFlags) -> Result<Strategies, Contradiction> {
    let mut strategies = Strategies { default: flags.default, ..Strategies::default() };
    for (share, strategy) in flags.groups {
        if offer.disable.contains(&Feature::SharedSubscriptions) {
            return Err(Contradiction::ShareGroupWithoutSharing(share));
        }
        if strategies.named.insert(share.clone(), strategy).is_some() {
            return Err(Contradiction::ShareGroupTwice(share));
        }
    }
    Ok(strategies)
}

fn offer(flags: &OfferFlags) -> Offer {
    let has = |part| !flags.disable.contains(&part);
    Offer {
        maximum_qos: flags.qos_max,
        retain: has(Feature::Retain),
        wildcard_subscriptions: has(Feature::WildcardSubscriptions),
        subscription_identifiers: has(Feature::SubscriptionIdentifiers),
        shared_subscriptions: has(Feature::SharedSubscriptions),
        keep_alive_max: flags.keep_alive_max,
        response_prefix: flags.response_prefix.clone(),
        validates_payload_format: flags.validate_payload_format,
    }
}

fn referral(flags: &ReferralFlags) -> Result<Referral, Contradiction> {
    let servers = flags.refer_to.len().max(flags.moved_to.len());
    if servers > SERVERS_MAX {
        return Err(Contradiction::TooManyServers(servers));
    }
    let reference = |servers: &[String]| servers.join(" ").into_boxed_str();
    Ok(match (&flags.refer_to[..], &flags.moved_to[..]) {
        ([], []) => Referral::Nowhere,
        (servers, []) => Referral::Temporary(reference(servers)),
        (_, servers) => Referral::Permanent(reference(servers)),
    })
}

/// Maximum size of the messages queued in one session, without a flag.
const QUEUE_BYTES_DEFAULT: usize = 16 << 20;

/// Servers of one Server Reference.
const SERVERS_MAX: usize = 16;

/// Checks that the rights of a client come from one file.
fn check_files(flags: &AccessFlags) -> Result<(), Contradiction> {
    let others = [(&flags.password_file, "--password-file"), (&flags.acl_file, "--acl-file")];
    let other = others.into_iter().find(|(file, _)| file.is_some());
    match other.filter(|_| flags.dynamic_security_file.is_some()) {
        Some((_, other)) => Err(Contradiction::InPlaceOf("--dynamic-security-file", other)),
        None => Ok(()),
    }
}

/// A way to prove a user name refuses anonymous clients, unless the flags allow them as well.
fn anonymous(
    (flags, jwt, hook): (&AccessFlags, &JwtFlags, &HookFlags),
    tls: &TlsFlags,
    network: &NetworkFlags,
) -> Anonymous {
    let files = [&flags.password_file, &flags.scram_file, &flags.dynamic_security_file];
    let has_file = jwt.are_on() || hook.is_on() || files.into_iter().any(Option::is_some);
    match (flags.allow_anonymous, has_file || tls.names_users() || network.proxy_user_from_cn) {
        (true, _) => Anonymous::Everywhere,
        (false, false) => Anonymous::OnLoopback,
        (false, true) => Anonymous::Refused,
    }
}

#[cfg(test)]
mod page;
#[cfg(test)]
mod tests;
