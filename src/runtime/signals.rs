//! The signals of the process.
//!
//! | signal | what it does |
//! |---|---|
//! | SIGTERM, SIGINT | the first asks for an orderly stop, the second ends the process at once |
//! | SIGHUP | has the rules read again |
//! | SIGXFSZ | nothing: a file that may not grow is an error of the write |
//! | SIGUSR1, SIGUSR2 | nothing: they are caught, since they would end the process otherwise |

use std::{
    io, mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use signal_hook::{
    SigId,
    consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ},
    flag,
    iterator::{Handle, Signals},
    low_level,
};
use tracing::info;

use super::stop::Stop;

/// SIGHUP ends the process no more. One that comes before the broker runs is remembered.
#[derive(Clone, Debug)]
pub struct HangUps(Arc<AtomicBool>);

impl HangUps {
    /// From now on. For the first line of a process.
    pub fn catch() -> io::Result<HangUps> {
        let came = Arc::new(AtomicBool::new(false));
        flag::register(SIGHUP, Arc::clone(&came))?;
        Ok(HangUps(came))
    }

    /// Whether one has come.
    fn have_come(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A write beyond the limit of the size of files fails, and does not end the process any more.
pub(super) fn survive_file_limit() -> io::Result<()> {
    flag::register(SIGXFSZ, Arc::default()).map(drop)
}

/// Listens to signals until it is dropped.
pub(super) struct Watch {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
    at_once: Vec<SigId>,
}

impl Watch {
    /// `hang_up` is what SIGHUP does, on a thread that may read files and wait.
    pub(super) fn start(
        stop: Stop,
        earlier: &HangUps,
        mut hang_up: impl FnMut() + Send + 'static,
    ) -> io::Result<Watch> {
        let stopping = Arc::new(AtomicBool::new(false));
        // Registered before the watcher gets signals, so that the first one never counts as second.
        let at_once = [SIGTERM, SIGINT]
            .map(|signal| {
                let status = SIGNALLED_STATUS + signal;
                flag::register_conditional_shutdown(signal, status, Arc::clone(&stopping))
            })
            .into_iter()
            .collect::<io::Result<_>>()?;
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2])?;
        let handle = signals.handle();
        let has_hung_up = earlier.have_come();
        let watch = move || {
            let mut ignored = [false; 2];
            if has_hung_up {
                hang_up();
            }
            for signal in signals.forever() {
                match signal {
                    SIGHUP => hang_up(),
                    SIGUSR1 => note_ignored("SIGUSR1", &mut ignored[0]),
                    SIGUSR2 => note_ignored("SIGUSR2", &mut ignored[1]),
                    signal => {
                        note_stop(if signal == SIGINT { "SIGINT" } else { "SIGTERM" });
                        stopping.store(true, Ordering::Relaxed);
                        stop.ask();
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("ringmq-signals".to_owned()).spawn(watch)?;
        Ok(Watch { handle, thread: Some(thread), at_once })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for id in self.at_once.drain(..) {
            low_level::unregister(id);
        }
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // It does not matter whether the watcher has ended or panicked.
            drop(thread.join());
        }
    }
}

/// Logs that the broker stops, so that the log tells an orderly stop from other ends.
fn note_stop(signal: &str) {
    info!("{signal}: the broker stops");
}

/// Logs that a signal is ignored, the first time that it comes.
fn note_ignored(signal: &str, before: &mut bool) {
    if !mem::replace(before, true) {
        info!("{signal} is ignored");
    }
}

/// Exit status of a process that a signal has ended, as shells report it: this plus the signal.
const SIGNALLED_STATUS: i32 = 128;
