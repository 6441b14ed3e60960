//! What stands against a message that the protocol allows: who may publish where, and what the
//! broker was told to check.

use super::{Shard, reason::Reason};
use crate::{access, mqtt::ApplicationProperties};

/// A message that a client wants published, now or as its Will.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) topic: &'a str,
    pub(super) application: ApplicationProperties<'a>,
    pub(super) payload: &'a [u8],
}

impl Shard {
    #[inline]
    pub(super) fn judge_message(&self, candidate: &Candidate<'_>) -> Result<(), Reason> {
        if !access::topics::may_publish(candidate.topic) {
            return Err(Reason::PublishForbidden);
        }
        if self.settings.offer.validates_payload_format && !candidate.is_what_it_says() {
            return Err(Reason::PayloadNotText);
        }
        Ok(())
    }
}

impl Candidate<'_> {
    /// Whether the payload is text if the Payload Format Indicator says so.
    fn is_what_it_says(&self) -> bool {
        self.application.payload_format_indicator != Some(1)
            || std::str::from_utf8(self.payload).is_ok()
    }
}
