//! SIGTERM and SIGINT: the first asks for an orderly stop, the second ends the process at once.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use signal_hook::{
    SigId,
    consts::{SIGINT, SIGTERM},
    flag,
    iterator::{Handle, Signals},
    low_level,
};

use super::stop::Stop;

/// Listens to signals until it is dropped.
pub(super) struct Watch {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
    at_once: Vec<SigId>,
}

impl Watch {
    pub(super) fn start(stop: Stop) -> io::Result<Watch> {
        let stopping = Arc::new(AtomicBool::new(false));
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        let handle = signals.handle();
        let at_once = [SIGTERM, SIGINT]
            .map(|signal| {
                let status = SIGNALLED_STATUS + signal;
                flag::register_conditional_shutdown(signal, status, Arc::clone(&stopping))
            })
            .into_iter()
            .collect::<io::Result<_>>()?;
        let watch = move || {
            for _ in signals.forever() {
                stopping.store(true, Ordering::Relaxed);
                stop.ask();
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
            // A watcher that has panicked watches no more, either.
            drop(thread.join());
        }
    }
}

/// What shells say of a process that a signal has ended.
const SIGNALLED_STATUS: i32 = 128;
