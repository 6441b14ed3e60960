//! Puts a broker together: configuration in, shards on a runtime, a banner when it listens.

mod check;
mod control;
mod dynamic;
mod hook;
mod keys;
mod log;
mod reload;
mod service;
mod store;
mod store_tools;
mod tls;

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context, Result};
use tracing::{error, info, warn};

pub use self::{check::check, store_tools::store};
use self::{control::Helm, dynamic::Dynamic, log::Log, reload::Reload, service::Watchdog};
use crate::{
    access::{
        Accounts, Acl, Failures, Passwords, Policy, Tokens,
        dynamic::{Desk, Users},
        scram::ScramUsers,
    },
    base::{hash::Seed, ids::ShardId, shared_count::SharedCount, time::Span},
    config::{Config, IoChoice, Source},
    control::Control,
    runtime::{self, HangUps, Io, IoMode, Reloader, RuntimeConfig, Started},
    shard::{Shard, memory::MemoryBudget, rules::Rules, settings::Settings},
    transport::{Listener, Listeners, Protocol},
};

/// How long a client may take to read its outbox after its connection was closed.
const FLUSH_TIME_MAX: Span = Span::from_secs(5);
/// Incomplete packets that one shard holds for clients that have been let in.
const PARTIAL_BYTES_MAX: usize = 256 << 20;
/// The same for all others: the largest CONNECT of a hundred clients at once.
const STRANGER_BYTES_MAX: usize = 16 << 20;
/// Connections beyond `--max-connections` that are accepted only to be told so.
const CONNECTIONS_SURPLUS: usize = 256;

/// Runs a broker until it is told to stop.
pub fn run(config: &Config, source: &Source, hang_ups: HangUps) -> Result<()> {
    runtime::tell_at_panic();
    let log = Log::start(&config.log_filter, config.log_format);
    for remark in source.unknown_variables() {
        warn!("{remark}");
    }
    let listeners = listeners(config)?;
    let control = control::bind(config)?;
    let (dynamic, waiting) = Dynamic::open(config)?.unzip();
    let ruling = dynamic.as_ref().map(|dynamic| (dynamic.lock().users().clone(), dynamic.desk()));
    let rules = rules(config, listeners.clone().into(), (None, ruling))?;
    let renewal = control.as_ref().map(Control::renewal);
    let (helm, orders) = Helm::new(log.filter(), config);
    let mut reload = Reload::new(source.clone(), config.clone(), rules.clone(), log.filter());
    reload.serve(renewal, orders, dynamic.clone());
    let started_at = runtime::now();
    // The seed is secret, so that clients cannot guess which keys collide.
    let new_seed = getrandom::u64().context("the kernel's random numbers")?;
    let wall_clock = runtime::wall_clock();
    let begin =
        |options| store::begin(options, config.shards(), new_seed, (started_at, wall_clock));
    let begun = config.store.as_ref().map(begin).transpose()?;
    // Its folder may be that of the store, which is there now, and is ours.
    let control = control::open_own_socket(control, config);
    let book = control::bans(config, wall_clock)?;
    let bans = book.bans();
    let traces = control::traces(config, wall_clock);
    let seed = begun.as_ref().map_or_else(|| Seed::new(new_seed), |begun| begun.seed);
    let template = Settings {
        shard: ShardId::FIRST,
        shards: config.shards(),
        seed,
        started_at,
        wall_clock,
        failures: Failures::new(seed),
        sessions: SharedCount::default(),
        accounts: Accounts::with_exempt(seed, config.exempt.clone()),
        memory: MemoryBudget::new(config.memory_max),
        store: begun.as_ref().map(|begun| begun.settings.clone()),
    };
    let (restoration, store) = begun.map(|begun| (begun.restoration, begun.store)).unzip();
    let brain = move |shard| {
        let mut brain = Shard::new(Settings { shard, ..template }, &rules);
        brain.adopt_bans(bans);
        if let Some(restoration) = restoration {
            brain.begin_with(restoration);
        }
        brain
    };
    let (mut running, mut watchdog, mut commands) = (None, None, None);
    let on_ready = |started: &Started| {
        let (version, connections_max) = (env!("CARGO_PKG_VERSION"), started.connections_max);
        let mut listeners: Vec<String> = started.listeners.iter().map(words_of).collect();
        listeners.extend(control.iter().flat_map(control::words_of));
        let (shards, io) = (started.cpus.len(), started.io);
        info!(version, shards, %io, connections_max, listeners = listeners.join(", "), "started");
        tell_of_idle_flags(config, io);
        // The broker runs even if the banner cannot be written.
        drop(announce(config, started, &listeners));
        running =
            control.and_then(|control| control::start(control, started, helm, (book, traces)));
        watchdog = Watchdog::start(started.shards.clone());
        commands = dynamic.zip(waiting).and_then(|(dynamic, waiting)| {
            let running = dynamic.start(waiting, started.shards.clone());
            running.inspect_err(|fault| error!(%fault, "no commands of clients are done")).ok()
        });
        service::ready(&format!("listening on {}", listeners.join(", ")));
    };
    let reload = move |reloader: &mut Reloader| reload.handle_hang_up(reloader);
    let config = runtime_config(config, listeners, hang_ups);
    let report = runtime::run_stored(&config, store, brain, on_ready, reload)?;
    drop((running, watchdog, commands));
    log.end(&report);
    Ok(())
}

/// The rules of the shards, with the present content of the files that the configuration names.
fn rules(
    config: &Config,
    listeners: Listeners,
    (former, ruling): (Option<&Policy>, Option<Ruling>),
) -> Result<Rules> {
    Ok(Rules {
        limits: config.limits.clone(),
        offer: config.offer.clone(),
        referral: config.referral.clone(),
        policy: policy(config, former, ruling)?,
        strategies: config.share_strategies.clone(),
        sys_interval: config.sys_interval,
        presence: config.presence,
        listeners,
    })
}

/// The users of dynamic security, and who takes their commands.
type Ruling = (Users, Arc<dyn Desk>);

/// The policy from the files of users. An error if one cannot be read: the broker does not start.
fn policy(config: &Config, former: Option<&Policy>, ruling: Option<Ruling>) -> Result<Policy> {
    let passwords = passwords(config)?;
    if passwords.as_ref().is_some_and(Passwords::is_empty) {
        warn!("the password file has no users: every password is refused");
    }
    let scram = scram_users(config)?;
    if scram.as_ref().is_some_and(ScramUsers::is_empty) {
        warn!("the SCRAM file has no users: nobody can authenticate by SCRAM");
    }
    let former_scram = former.and_then(|former| former.scram.as_deref());
    let acl = acl(config)?.map(|acl| in_force(acl, former));
    let (users, desk) = ruling.unzip();
    let (passwords, acl) = match users {
        Some(users) => (Some(users.passwords), Some(users.acl)),
        None => (passwords.map(Arc::new), acl),
    };
    Ok(Policy {
        passwords,
        scram: scram.map(|users| Arc::new(users.after(former_scram))),
        tokens: match tokens(config)? {
            Some(tokens) => Some(Arc::new(tokens.with_fetched(keys::start(config, former)?))),
            None => None,
        },
        hook: hook::start(config, former)?,
        anonymous: config.anonymous,
        acl,
        desk,
        grants_unreadable: config.grants_unreadable,
        shares_sessions: config.shares_sessions,
        ignores_retain_source: config.ignores_retain_source,
    })
}

fn passwords(config: &Config) -> Result<Option<Passwords>> {
    let read = |path: &PathBuf| {
        Passwords::read(path).with_context(|| format!("password file {}", path.display()))
    };
    config.password_file.as_ref().map(read).transpose()
}

fn scram_users(config: &Config) -> Result<Option<ScramUsers>> {
    let read = |path: &PathBuf| {
        ScramUsers::read(path).with_context(|| format!("SCRAM file {}", path.display()))
    };
    config.scram_file.as_ref().map(read).transpose()
}

fn tokens(config: &Config) -> Result<Option<Tokens>> {
    config.tokens.as_ref().map(Tokens::read).transpose().context("key file for tokens")
}

fn acl(config: &Config) -> Result<Option<Acl>> {
    let read =
        |path: &PathBuf| Acl::read(path).with_context(|| format!("ACL file {}", path.display()));
    config.acl_file.as_ref().map(read).transpose()
}

/// The rights of a file; the former ones if the file says the same as before.
fn in_force(acl: Acl, former: Option<&Policy>) -> Arc<Acl> {
    for pattern in acl.general_patterns() {
        warn!("the ACL pattern `{pattern}` has neither %c nor %u: it is for everyone");
    }
    let former = former.and_then(|former| former.acl.as_ref());
    former.filter(|former| former.is_same_as(&acl)).map_or_else(|| Arc::new(acl), Arc::clone)
}

/// Room for the incomplete packets of clients, on each shard: an eighth of its part of the memory
/// at the most, but two packets.
fn partial_bytes_max(config: &Config) -> usize {
    let part = memory_of_shard(config) / 8;
    PARTIAL_BYTES_MAX.min(part).max(2 * config.limits.packet_size_max)
}

/// The same for those that have not been let in: a thirty-second, but eight packets.
fn stranger_bytes_max(config: &Config) -> usize {
    let part = memory_of_shard(config) / 32;
    STRANGER_BYTES_MAX.min(part).max(8 * config.limits.connect_size_max)
}

fn memory_of_shard(config: &Config) -> usize {
    config.memory_max / config.shards()
}

fn runtime_config(config: &Config, listeners: Vec<Listener>, hang_ups: HangUps) -> RuntimeConfig {
    RuntimeConfig {
        cpus: config.shard_cpus.clone(),
        io: match config.io {
            IoChoice::Auto => IoMode::Auto,
            IoChoice::Ring => IoMode::Ring,
            IoChoice::Poll => IoMode::Poll,
        },
        listeners,
        ring_entries: config.ring_entries,
        recv_buffers: config.receive_buffers,
        recv_buffer_bytes: config.receive_buffer_bytes,
        busy_poll: config.busy_poll,
        outbox_bytes_max: config.limits.outbox_bytes_max,
        connections_max: config.connections_max,
        connections_surplus: CONNECTIONS_SURPLUS,
        flush_time_max: FLUSH_TIME_MAX,
        stop_time_max: config.stop_timeout,
        partial_bytes_max: partial_bytes_max(config),
        stranger_bytes_max: stranger_bytes_max(config),
        packet_timeout: config.packet_timeout,
        stalled_timeout: config.stalled_timeout,
        signals: Some(hang_ups),
    }
}

/// Logs which of the given settings of rings do nothing.
fn tell_of_idle_flags(config: &Config, io: Io) {
    let is_given =
        |flag: &str| config.settings.iter().any(|it| it.key == flag && it.source != "default");
    for flag in ["ring-entries", "recv-buffers"] {
        if io == Io::Poll && is_given(flag) {
            warn!("--{flag} has no effect with epoll");
        }
    }
}

/// All listeners: those for TLS come last.
fn listeners(config: &Config) -> Result<Vec<Listener>> {
    let mut listeners = config.listeners.clone();
    if let Some(files) = &config.tls {
        let server = tls::read(files)?;
        tls::warn_of_expiry(files, &server);
        listeners
            .extend(files.addresses.iter().map(|&address| Listener::tls(address, server.clone())));
        listeners.extend(
            files
                .websocket_addresses
                .iter()
                .map(|&address| Listener::secure_websocket(address, &server, files.policy.clone())),
        );
    }
    for listener in &mut listeners {
        let own = config.own_settings.iter().find(|own| own.address == listener.address);
        listener.anonymous = own.and_then(|own| own.anonymous);
        listener.rates = own.map_or(config.rates, |own| own.rates.or(config.rates)).limits();
        if own.and_then(|own| own.proxied).unwrap_or(config.proxy.everywhere) {
            *listener = listener.clone().behind(config.proxy.proxies.clone());
        }
        warn_of_closed(config, listener);
    }
    Ok(listeners)
}

/// Warns of a listener where nobody can prove who it is, and nobody is let in without that.
fn warn_of_closed(config: &Config, listener: &Listener) {
    let by_rule = config.anonymous.is_let_in(listener.is_loopback());
    let files = [&config.password_file, &config.scram_file, &config.dynamic_security_file];
    let has_files =
        config.tokens.is_some() || config.hook.is_some() || files.into_iter().any(Option::is_some);
    let is_plain = matches!(listener.protocol, Protocol::Tcp | Protocol::WebSocket(_));
    let by_tls = !is_plain && config.tls.as_ref().is_some_and(|it| it.options.naming.is_some());
    let by_proxy = listener.proxies.as_ref().is_some_and(|proxies| proxies.name_users);
    let is_open = has_files || by_tls || by_proxy || listener.anonymous.unwrap_or(by_rule);
    if !is_open {
        warn!(
            listener = words_of(listener),
            "all clients are refused here, because no certificate proves a user on this listener: \
             add --password-file, --scram-file, --dynamic-security-file, --jwt-key-file, \
             --auth-http-url or \
             --allow-anonymous, or remove the listener"
        );
    }
}

/// Where a listener is reached.
fn words_of(Listener { address, protocol, .. }: &Listener) -> String {
    match protocol {
        Protocol::Tcp => address.to_string(),
        Protocol::Tls(_) => format!("mqtts://{address}"),
        Protocol::WebSocket(policy) => {
            format!("ws://{address}{}", policy.path.as_deref().unwrap_or(""))
        }
        Protocol::SecureWebSocket(_, policy) => {
            format!("wss://{address}{}", policy.path.as_deref().unwrap_or(""))
        }
    }
}

/// Writes the banner: version, shards and listeners.
fn announce(config: &Config, started: &Started, listeners: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let cpus: Vec<String> = started.cpus.iter().map(usize::to_string).collect();
    let plural = if started.cpus.len() == 1 { "" } else { "s" };
    writeln!(out, "ringmq {}", env!("CARGO_PKG_VERSION"))?;
    let (shards, cpus, io) = (started.cpus.len(), cpus.join(", "), started.io);
    writeln!(out, "{shards} shard{plural} on CPU {cpus}, by {io}")?;
    if config.memory_max < usize::MAX {
        writeln!(out, "up to {} MiB of memory for clients", config.memory_max >> 20)?;
    }
    match &config.store {
        Some(store) => writeln!(out, "the store is in {}", store.data_dir.display())?,
        None => writeln!(out, "nothing survives a restart: --data-dir DIR keeps it")?,
    }
    for listener in listeners {
        writeln!(out, "listening on {listener}")?;
    }
    if started.connections_max < config.connections_max {
        let possible = started.connections_max;
        writeln!(out, "up to {possible} connections: raise `ulimit -n` or LimitNOFILE= for more")?;
    }
    Ok(())
}
