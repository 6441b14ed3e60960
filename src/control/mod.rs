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

mod api;
mod clients;
mod connections;
mod counts;
mod gate;
mod health;
mod messages;
mod metrics;
mod openapi;
mod panel;
mod problem;
mod routes;
mod steering;
mod tokens;

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::{self, JoinHandle},
};

use thiserror::Error;
use tokio::{runtime, sync::oneshot, task::LocalSet};

use self::{counts::Counts, gate::Gate, panel::Panel};
pub use self::{
    steering::{Outcome, Setting, Steering},
    tokens::{TokenFault, Tokens},
};
use crate::{access::Failures, runtime::Shards};

/// Where the control thread listens, and for whom.
#[derive(Debug)]
pub struct Options {
    pub address: SocketAddr,
    /// Names by which it is reached, in lower case.
    pub hosts: Vec<String>,
    pub tokens: Option<Tokens>,
    /// Those who have shown wrong tokens.
    pub failures: Failures,
}

/// Why there is no control thread.
#[derive(Debug, Error)]
pub enum ControlFault {
    #[error("cannot listen on http://{address}: {error}")]
    Listen { address: SocketAddr, error: io::Error },
    #[error("cannot start the control thread: {0}")]
    Thread(#[from] io::Error),
}

/// A control thread that is about to start: its address is taken.
#[derive(Debug)]
pub struct Control {
    listener: TcpListener,
    address: SocketAddr,
    gate: Arc<Gate>,
}

impl Control {
    /// Takes the address. Connections wait until the thread has started.
    pub fn bind(options: Options) -> Result<Control, ControlFault> {
        let fault = |error| ControlFault::Listen { address: options.address, error };
        let listener = TcpListener::bind(options.address).map_err(fault)?;
        listener.set_nonblocking(true).map_err(fault)?;
        let address = listener.local_addr().map_err(fault)?;
        let gate = Arc::new(Gate::new(address, options));
        Ok(Control { listener, address, gate })
    }

    /// The address, with the port that the system has picked.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the tokens, from any thread.
    pub fn renewal(&self) -> TokenRenewal {
        TokenRenewal(Arc::clone(&self.gate))
    }

    /// Starts the thread, which answers until the returned value is dropped.
    pub fn start(
        self,
        shards: Shards,
        steering: Arc<dyn Steering>,
    ) -> Result<Running, ControlFault> {
        let executor = runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            let Control { listener, gate, .. } = self;
            let counts = Arc::new(Counts::default());
            let panel = Panel::new(shards, steering, Arc::clone(&counts));
            let router = routes::router(panel, gate);
            let served = connections::serve_until(listener, router, counts, stopped);
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
