//! Where the log goes: standard error, as text or as JSON, without ever making a shard wait.
//!
//! Lines are handed to a thread that writes them. When that thread cannot keep up, because nobody
//! reads standard error, lines are dropped and counted.

use std::io::{self, IsTerminal};

use tracing::{info, warn};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

use crate::{config::LogFormat, runtime::StopReport, shard::ports::Undelivered};

/// Keeps the log going. Lines that wait are written when it is dropped.
pub(super) struct Log {
    dropped: ErrorCounter,
    filter: LogFilter,
    _writer: WorkerGuard,
}

impl Log {
    /// Starts the log of this process, once.
    pub(super) fn start(filter: &str, format: LogFormat) -> Log {
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(LINES_WAITING_MAX)
            .thread_name("ringmq-log")
            .finish(io::stderr());
        let dropped = writer.error_counter();
        let filter = subscribe(parsed(filter), format, writer);
        Log { dropped, filter, _writer: guard }
    }

    /// The filter, to be replaced while the log goes on.
    pub(super) fn filter(&self) -> LogFilter {
        self.filter.clone()
    }

    /// Logs that the broker has stopped, and how many lines of the log are missing.
    pub(super) fn end(&self, report: &StopReport) {
        let lines = self.dropped.dropped_lines();
        if lines > 0 {
            warn!(lines, "log lines dropped, because standard error was not read fast enough");
        }
        let Undelivered { connected, absent } = report.undelivered;
        info!(
            milliseconds = report.took.as_nanos() / 1_000_000,
            undelivered = connected,
            undelivered_absent = absent,
            "stopped"
        );
    }
}

/// The filter of the log of this process.
#[derive(Clone)]
pub(super) struct LogFilter(reload::Handle<EnvFilter, Registry>);

impl LogFilter {
    /// Lines from now on are logged by this filter.
    pub(super) fn set(&self, filter: &str) {
        // It fails only when the log has ended.
        drop(self.0.reload(parsed(filter)));
    }

    /// The filter in words.
    pub(super) fn text(&self) -> String {
        let shown = self.0.with_current(ToString::to_string).unwrap_or_default();
        let wanted = shown.split(',').filter(|directive| *directive != QUIET);
        wanted.collect::<Vec<_>>().join(",")
    }
}

/// The executor's library logs its internals. They are logged only if the filter asks for it.
fn parsed(filter: &str) -> EnvFilter {
    EnvFilter::try_new(format!("{QUIET},{filter}"))
        .expect("the configuration has checked the filter")
}

fn subscribe(filter: EnvFilter, format: LogFormat, writer: NonBlocking) -> LogFilter {
    let (filter, handle) = reload::Layer::new(filter);
    let lines = fmt::layer().with_target(false);
    let log = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => {
            let lines = lines.with_ansi(io::stderr().is_terminal()).with_writer(writer);
            log.with(lines).init();
        }
        LogFormat::Json => log.with(lines.json().flatten_event(true).with_writer(writer)).init(),
    }
    LogFilter(handle)
}

/// Parts that are not logged unless the filter names them.
const QUIET: &str = "glommio=error";
/// Lines that may wait to be written; more are dropped.
const LINES_WAITING_MAX: usize = 8192;
