//! Where the log goes: standard error, as text or as JSON, without ever making a shard wait.
//!
//! Lines are handed to a thread that writes them. When that thread cannot keep up, because nobody
//! reads standard error, lines are dropped and counted.

use std::io::{self, IsTerminal};

use tracing::{info, warn};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Keeps the log going. Lines that wait are written when it is dropped.
pub(super) struct Log {
    dropped: ErrorCounter,
    _writer: WorkerGuard,
}

impl Log {
    /// Starts the log of this process, once.
    pub(super) fn start(filter: &str, format: LogFormat) -> Log {
        // The executor's library logs its internals. They are logged only if the filter asks for
        // it.
        let filter = EnvFilter::try_new(format!("{QUIET},{filter}"))
            .expect("the configuration has checked the filter");
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(LINES_WAITING_MAX)
            .thread_name("ringmq-log")
            .finish(io::stderr());
        let dropped = writer.error_counter();
        subscribe(filter, format, writer);
        Log { dropped, _writer: guard }
    }

    /// Logs that the broker has stopped, and how many lines of the log are missing.
    pub(super) fn end(&self) {
        let lines = self.dropped.dropped_lines();
        if lines > 0 {
            warn!(lines, "log lines dropped, because standard error was not read fast enough");
        }
        info!("stopped");
    }
}

fn subscribe(filter: EnvFilter, format: LogFormat, writer: NonBlocking) {
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    match format {
        LogFormat::Text => {
            builder.with_ansi(io::stderr().is_terminal()).with_writer(writer).init();
        }
        LogFormat::Json => builder.json().flatten_event(true).with_writer(writer).init(),
    }
}

/// Parts that are not logged unless the filter names them.
const QUIET: &str = "glommio=error";
/// Lines that may wait to be written; more are dropped.
const LINES_WAITING_MAX: usize = 8192;
