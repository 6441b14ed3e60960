//! Other rules for the shards, while they run.

use std::{sync::Arc, time::Duration};

use tracing::error;

use super::lane::{LaneReceiver, LaneSender, NotSent, lanes};
use crate::{runtime::bell::Bells, shard::rules::Rules};

/// Where a shard is sent its rules. All shards are sent the same ones.
pub(super) type RulesReceiver = LaneReceiver<Arc<Rules>>;

/// Sends rules to all shards, from a thread that may wait.
pub(super) struct RulesSender(Vec<LaneSender<Arc<Rules>>>);

pub(super) fn rules_lanes(bells: &Bells) -> (RulesSender, Vec<RulesReceiver>) {
    let (senders, receivers) = lanes(bells, RULES_MAX);
    (RulesSender(senders), receivers)
}

impl RulesSender {
    /// Each shard takes the rules in one of its next turns, as a whole.
    pub(super) fn send(&self, rules: &Arc<Rules>) {
        for (shard, lane) in self.0.iter().enumerate() {
            match lane.send_within(Arc::clone(rules), PATIENCE) {
                // A shard that has ended keeps to no rules.
                Ok(()) | Err(NotSent::Ended) => {}
                Err(NotSent::Full(_)) => error!(shard, "a shard takes no rules: it keeps its own"),
            }
        }
    }
}

/// Rules that may wait for one shard, the latest last.
const RULES_MAX: usize = 4;
/// How long a shard may leave them unread.
const PATIENCE: Duration = Duration::from_secs(10);
