//! The authentication hook: somebody else who is asked who a client is.
//!
//! ```text
//!   CONNECT --> HookCall, in its turn --> AuthHook::ask --> HookReply, from any thread --> Finding
//! ```
//! Does not know who that is, nor how long it takes.

use std::{fmt, net::SocketAddr};

use super::Finding;
use crate::base::time::{Span, WallTime};

/// What a client says of itself, and where it comes from.
pub struct Inquiry {
    pub client_id: Box<str>,
    pub user_name: Option<Box<str>>,
    pub password: Option<Box<[u8]>>,
    pub peer: SocketAddr,
    /// The Protocol Version in its CONNECT.
    pub protocol_level: u8,
    /// When it came.
    pub now: WallTime,
}

/// Without the password.
impl fmt::Debug for Inquiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inquiry").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Where the hook is, and how it is asked.
#[derive(Clone, PartialEq, Eq)]
pub struct HookSettings {
    pub url: String,
    /// From the question to the end of the answer.
    pub timeout: Span,
    /// Connections to it, and so questions at a time.
    pub connections: usize,
    /// More header fields of each request: name and value.
    pub headers: Vec<(String, String)>,
    /// The certificates of the authorities that may prove who it is, in PEM.
    pub authorities: Vec<u8>,
}

/// Without the header fields, which may hold secrets. The URL may, too.
impl fmt::Debug for HookSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookSettings").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// Who is asked about clients.
pub trait AuthHook: fmt::Debug + Send + Sync {
    /// Begins to ask, without waiting. The reply comes from any thread.
    fn ask(&self, inquiry: Inquiry, reply: HookReply);

    /// How it was made.
    fn settings(&self) -> &HookSettings;
}

/// A question that is asked when its turn has come.
pub type HookCall = Box<dyn FnOnce(HookReply) + Send>;

/// Takes the answer to one question. One that is dropped says that there is no answer.
pub struct HookReply(Option<Box<dyn FnOnce(Finding) + Send>>);

impl HookReply {
    pub fn new(take: impl FnOnce(Finding) + Send + 'static) -> HookReply {
        HookReply(Some(Box::new(take)))
    }

    pub fn give(mut self, finding: Finding) {
        self.take(finding);
    }

    fn take(&mut self, finding: Finding) {
        if let Some(take) = self.0.take() {
            take(finding);
        }
    }
}

impl Drop for HookReply {
    fn drop(&mut self) {
        self.take(Finding::Unanswered);
    }
}

impl fmt::Debug for HookReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookReply").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[test]
    fn a_reply_comes_once_even_if_it_is_dropped() {
        let counts = Arc::new([const { AtomicUsize::new(0) }; 2]);
        let reply = || {
            let counts = Arc::clone(&counts);
            HookReply::new(move |finding| {
                counts[usize::from(finding == Finding::Unanswered)].fetch_add(1, Ordering::Relaxed);
            })
        };
        let counted = || [0, 1].map(|which: usize| counts[which].load(Ordering::Relaxed));
        reply().give(Finding::Right);
        assert_eq!(counted(), [1, 0]);
        drop(reply());
        assert_eq!(counted(), [1, 1]);
    }
}
