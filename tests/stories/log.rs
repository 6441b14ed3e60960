//! What the broker logs while a story is told.
//!
//! `tracing` asks the subscribers only once whether they want the lines of a place in the code. A
//! thread without a subscriber would answer no for all. So the threads of all stories share one
//! subscriber, and it is there before the first shard runs.

use std::{cell::RefCell, io, sync::Once};

use tracing::Level;

thread_local! {
    /// The lines of this thread, while somebody reads them.
    static LINES: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// The writing end of the log of a thread.
struct Lines;

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.with_borrow_mut(|lines| {
            if let Some(lines) = lines {
                lines.extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes sure that the subscriber is there.
pub(crate) fn subscribe() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_writer(|| Lines)
            .with_max_level(Level::INFO)
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .finish();
        tracing::subscriber::set_global_default(subscriber).expect("no other subscriber");
    });
}

/// What is logged at info while `story` is told, without times.
pub(crate) fn logged(story: impl FnOnce()) -> Vec<String> {
    LINES.set(Some(Vec::new()));
    story();
    let bytes = LINES.take().expect("the lines of this story");
    String::from_utf8(bytes).expect("text").lines().map(|line| line.trim().to_owned()).collect()
}
