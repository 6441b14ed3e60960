//! The control thread of the broker, as the configuration wants it.

use std::{
    path::PathBuf,
    sync::{
        Arc, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
};

use anyhow::{Context, Result};
use signal_hook::{consts::SIGHUP, low_level};
use tracing::{error, warn};

use super::log::LogFilter;
use crate::{
    access::Failures,
    base::{hash::Seed, time::WallClock},
    config::{self, Config},
    control::{
        BanBook, Control, Options, Outcome, Running, Setting, Steering, Tokens, TraceOptions,
    },
    runtime::Started,
    transport::Address,
};

/// Takes the addresses, if there is to be a control thread.
pub(super) fn bind(config: &Config) -> Result<Option<Control>> {
    let Some(options) = &config.control else { return Ok(None) };
    let tokens = tokens(config)?;
    let seed = getrandom::u64().context("the kernel's random numbers")?;
    let failures = Failures::new(Seed::new(seed));
    let (addresses, hosts) = (options.addresses.clone(), options.hosts.clone());
    Ok(Some(Control::bind(Options { addresses, hosts, tokens, failures })?))
}

/// Takes the address of the control socket that nobody has asked for. `None`: there is to be no
/// control thread, because the socket cannot be made and there is no other address.
pub(super) fn open_own_socket(control: Option<Control>, config: &Config) -> Option<Control> {
    let own = config.control.as_ref().and_then(|options| options.own_socket.clone());
    let mut control = control?;
    let Some(path) = own else { return Some(control) };
    if let Err(fault) = control.listen(&Address::Unix(path)) {
        warn!("there is no control socket (--control-socket): {fault}");
    }
    let has_any = control.addresses().next().is_some();
    has_any.then_some(control)
}

/// The tokens of the file that the configuration names.
pub(super) fn tokens(config: &Config) -> Result<Option<Tokens>> {
    let file = config.control.as_ref().and_then(|options| options.token_file.as_ref());
    let read = |path: &PathBuf| {
        Tokens::read(path).with_context(|| format!("token file {}", path.display()))
    };
    file.map(read).transpose()
}

/// The bans that an earlier process has left in the data directory.
pub(super) fn bans(config: &Config, clock: WallClock) -> Result<BanBook> {
    let path = config.store.as_ref().map(|store| store.data_dir.join("bans.json"));
    BanBook::open(path, clock).context("the bans cannot be read")
}

/// What traces need.
pub(super) fn traces(config: &Config, clock: WallClock) -> TraceOptions {
    let directory = config.control.as_ref().and_then(|options| options.trace_dir.clone());
    TraceOptions { clock, directory }
}

/// Starts the thread. The broker runs without it if the system gives no thread.
pub(super) fn start(
    control: Control,
    started: &Started,
    helm: Helm,
    kept: (BanBook, TraceOptions),
) -> Option<Running> {
    let bound = started.listeners.iter().map(|listener| listener.address.clone()).collect();
    let running = control.start(started.shards.clone(), Arc::new(helm), kept, bound);
    running.inspect_err(|fault| error!("{fault}")).ok()
}

/// Where it is reached.
pub(super) fn words_of(control: &Control) -> Vec<String> {
    control.addresses().map(|address| format!("http://{address}")).collect()
}

/// What the control thread changes besides shards.
#[derive(Clone)]
pub(super) struct Helm {
    log_filter: LogFilter,
    settings: Arc<Lock<Vec<Setting>>>,
    reloads: Sender<Outcome>,
}

/// The other end, which the thread of the signals has.
pub(super) struct Orders {
    settings: Arc<Lock<Vec<Setting>>>,
    reloads: Receiver<Outcome>,
}

impl Helm {
    pub(super) fn new(log_filter: LogFilter, config: &Config) -> (Helm, Orders) {
        let settings = Arc::new(Lock::new(settings(config)));
        let (sender, receiver) = mpsc::channel();
        let orders = Orders { settings: Arc::clone(&settings), reloads: receiver };
        (Helm { log_filter, settings, reloads: sender }, orders)
    }
}

impl Orders {
    /// Those who have asked for a reload.
    pub(super) fn take(&self) -> Vec<Outcome> {
        self.reloads.try_iter().collect()
    }

    /// These settings are in force from now on.
    pub(super) fn show(&self, config: &Config) {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings(config);
    }
}

impl Steering for Helm {
    fn log_filter(&self) -> String {
        self.log_filter.text()
    }

    fn set_log_filter(&self, filter: &str) -> Result<(), String> {
        config::check_log_filter(filter)?;
        self.log_filter.set(filter);
        Ok(())
    }

    fn settings(&self) -> Vec<Setting> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn reload(&self, outcome: Outcome) {
        // An order that nobody takes is dropped, which its owner notices.
        if self.reloads.send(outcome).is_ok() {
            drop(low_level::raise(SIGHUP));
        }
    }
}

fn settings(config: &Config) -> Vec<Setting> {
    let setting = |it: &config::Setting| Setting {
        section: it.section.clone(),
        key: it.key.clone(),
        values: it.values.clone(),
        source: it.source,
    };
    config.settings.iter().map(setting).collect()
}

#[expect(clippy::disallowed_types, reason = "taken by a request or a reload, never by a shard")]
type Lock<T> = std::sync::Mutex<T>;
