//! Sends new rules to the running shards.

use std::{sync::Arc, time::Duration};

use tracing::error;

use super::lane::{LaneReceiver, LaneSender, NotSent, lanes};
use crate::{runtime::bell::Bells, shard::rules::Rules};

/// The receiving end of a shard's lane for rules. All shards get the same rules.
pub(super) type RulesReceiver = LaneReceiver<Arc<Rules>>;

/// Sends rules to all shards, from a thread that may wait.
pub(super) struct RulesSender(Vec<LaneSender<Arc<Rules>>>);

pub(super) fn rules_lanes(bells: &Bells) -> (RulesSender, Vec<RulesReceiver>) {
    let (senders, receivers) = lanes(bells, RULES_MAX);
    (RulesSender(senders), receivers)
}

impl RulesSender {
    /// Sends the rules to all shards. Each shard replaces its rules in one of its next turns.
    pub(super) fn send(&self, rules: &Arc<Rules>) {
        for (shard, lane) in self.0.iter().enumerate() {
            match lane.send_within(Arc::clone(rules), PATIENCE) {
                // A shard that has ended needs no rules.
                Ok(()) | Err(NotSent::Ended) => {}
                Err(NotSent::Full(_)) => error!(shard, "a shard takes no rules: it keeps its own"),
            }
        }
    }
}

/// Sets of rules that may wait for one shard.
const RULES_MAX: usize = 4;
/// How long to wait for a shard to read them.
const PATIENCE: Duration = Duration::from_secs(10);
