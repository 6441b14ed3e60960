//! A law that was broken.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) law: &'static str,
    pub(crate) detail: String,
}

impl Violation {
    pub(crate) fn new(law: &'static str, detail: impl Into<String>) -> Violation {
        Violation { law, detail: detail.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.law, self.detail)
    }
}

/// Fails with a law's name unless it is kept.
pub(crate) fn ensure(
    kept: bool,
    law: &'static str,
    detail: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if kept { Ok(()) } else { Err(Violation::new(law, detail())) }
}
