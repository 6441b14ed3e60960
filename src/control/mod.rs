//! The control thread: HTTP for those who watch and steer the broker.
//!
//! ```text
//!   HTTP --> connections --> gate: who asks? --> routes --> panel --> a lane to each shard
//!                                                  ^                        |
//!                                                  +------- the answers ----+
//! ```
//! One ordinary thread with an executor of its own, and only if it was asked for. It reaches shards
//! by questions alone, one at a time, and never makes one wait. docs/control.md is its guide.

#![forbid(unsafe_code)]

mod access;
mod api;
mod ban_book;
mod bans;
mod client;
mod clients;
mod connections;
mod counts;
mod dashboard;
mod events;
mod gate;
mod health;
mod hook;
mod keys;
mod listeners;
mod messages;
mod metrics;
mod openapi;
mod own_files;
mod panel;
mod problem;
mod routes;
mod slow;
mod sockets;
mod steering;
mod streams;
mod subscriptions;
mod tokens;
mod topics;
mod trace_book;
mod traces;

use std::{
    fmt, io,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
};

use thiserror::Error;
use tokio::{runtime, sync::oneshot, task::LocalSet};

pub use self::{
    ban_book::{BanBook, BanFault},
    hook::{HookFault, HttpHook},
    keys::{FetchFault, check_key_address, fetch_keys},
    own_files::{lines_of, read_own, write_whole},
    steering::{Outcome, Setting, Steering},
    tokens::{TokenFault, Tokens},
};
use self::{counts::Counts, gate::Gate, panel::Panel, sockets::Socket, trace_book::TraceBook};
use crate::{access::Failures, base::time::WallClock, runtime::Shards, transport::Address};

/// Where the control thread listens, and for whom.
#[derive(Debug)]
pub struct Options {
    pub addresses: Vec<Address>,
    /// Names by which it is reached, in lower case.
    pub hosts: Vec<String>,
    pub tokens: Option<Tokens>,
    /// Those who have shown wrong tokens.
    pub failures: Failures,
}

/// What traces need.
#[derive(Clone, Debug)]
pub struct TraceOptions {
    /// The clock of the shards.
    pub clock: WallClock,
    /// Where their files are made.
    pub directory: Option<PathBuf>,
}

/// Why there is no control thread.
#[derive(Debug, Error)]
pub enum ControlFault {
    #[error("cannot listen on http://{address}: {error}")]
    Listen { address: Address, error: io::Error },
    #[error("cannot start the control thread: {0}")]
    Thread(#[from] io::Error),
}

/// A control thread that is about to start: its addresses are taken.
#[derive(Debug)]
pub struct Control {
    sockets: Vec<Socket>,
    gate: Arc<Gate>,
}

impl Control {
    /// Takes the addresses. Connections wait until the thread has started.
    pub fn bind(options: Options) -> Result<Control, ControlFault> {
        let addresses = options.addresses.clone();
        let mut control = Control { sockets: Vec::new(), gate: Arc::new(Gate::new(options)) };
        addresses.iter().try_for_each(|address| control.listen(address))?;
        Ok(control)
    }

    /// Takes one more address.
    pub fn listen(&mut self, address: &Address) -> Result<(), ControlFault> {
        let fault = |error| ControlFault::Listen { address: address.clone(), error };
        self.sockets.push(Socket::bind(address).map_err(fault)?);
        Ok(())
    }

    /// The addresses, with the ports that the system has picked.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.sockets.iter().map(Socket::address)
    }

    /// Replaces the tokens, from any thread.
    pub fn renewal(&self) -> TokenRenewal {
        TokenRenewal(Arc::clone(&self.gate))
    }

    /// Starts the thread, which answers until the returned value is dropped. `bound` has the
    /// addresses of the listeners with the ports that the system has picked.
    pub fn start(
        self,
        shards: Shards,
        steering: Arc<dyn Steering>,
        (bans, traces): (BanBook, TraceOptions),
        bound: Vec<Address>,
    ) -> Result<Running, ControlFault> {
        let executor = runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            let Control { sockets, gate } = self;
            let counts = Arc::new(Counts::default());
            let TraceOptions { clock, directory } = traces;
            let lane = shards.traces();
            let traces = TraceBook::new(lane, clock, directory, Arc::clone(&counts));
            let kept = (bans, traces);
            let panel = Panel::new(shards, steering, Arc::clone(&counts), kept, bound);
            let router = routes::router(panel, gate);
            let served = connections::serve_until(sockets, router, counts, stopped);
            LocalSet::new().block_on(&executor, served);
        };
        let thread = thread::Builder::new().name("ringmq-control".to_owned()).spawn(serve)?;
        Ok(Running { stop: Some(stop), thread: Some(thread) })
    }
}

/// Gives the gate of a control thread other tokens.
#[derive(Clone)]
pub struct TokenRenewal(Arc<Gate>);

impl fmt::Debug for TokenRenewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRenewal").finish_non_exhaustive()
    }
}

impl TokenRenewal {
    pub fn renew(&self, tokens: Option<Tokens>) {
        self.0.renew(tokens);
    }
}

/// Ends the control thread when it is dropped.
#[derive(Debug)]
pub struct Running {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It does not matter how the thread has ended.
            drop(thread.join());
        }
    }
}
