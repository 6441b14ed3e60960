//! Limits that hold at every moment.

use std::collections::BTreeSet;

use ringmq::shard::{
    inventory::{Inventory, SessionInventory},
    stats::Counters,
};

use crate::{
    broker::{Broker, Verdict},
    link::Phase,
    violation::ensure,
};

impl Broker {
    /// Nothing in a shard is larger than it may be.
    pub(crate) fn check_limits(&self, at: usize) -> Verdict {
        let inventory = self.shards[at].inventory(self.now);
        let limits = self.oracle.limits();
        let Inventory { sessions, aliases, connections, retained, .. } = &inventory;
        let all: usize = self.shards.iter().map(|it| it.inventory(self.now).sessions.len()).sum();
        let tell = || format!("shard {at}: {inventory:?}");
        ensure(all <= limits.sessions_max, "sessions have a limit", tell)?;
        let topics = connections * usize::from(limits.topic_alias_maximum);
        ensure(*aliases <= topics, "Topic Aliases have a limit", tell)?;
        // What has expired is swept away later, by each shard in its time.
        let kept = retained.iter().filter(|kept| kept.payload.is_some() && !kept.expired).count();
        // Each shard may take one that the others have not heard of.
        let most = limits.retained_max * self.shards.len();
        ensure(kept <= most, "retained messages have a limit", tell)?;
        for session in sessions {
            self.check_session_limits(session)?;
        }
        let queued: usize = sessions.iter().map(|session| session.queued).sum();
        let counted = self.shards[at].counters().queued;
        ensure(counted == queued as u64, "what waits is counted", tell)?;
        Ok(())
    }

    fn check_session_limits(&self, session: &SessionInventory) -> Verdict {
        let limits = self.oracle.limits();
        let tell = || format!("{session:?}");
        let SessionInventory { subscriptions, queued, queued_bytes, .. } = *session;
        ensure(subscriptions <= limits.subscriptions_max, "subscriptions have a limit", tell)?;
        // Beyond its limits a queue takes only what publishers had sent who are held back for it.
        let strict = limits.patience.is_zero();
        let within = queued <= limits.queue.messages_max && queued_bytes <= limits.queue.bytes_max;
        ensure(!strict || within, "a queue has a limit", tell)
    }

    /// A message that found a queue full: the queue is full of messages that are alive. Whoever was
    /// disconnected for it, or has been sent some of it since, is not looked at.
    pub(crate) fn check_drop(&mut self, at: usize, before: &Counters, after: &Counters) -> Verdict {
        let ended = after.ended_quota > before.ended_quota
            || after.clients_total < before.clients_total
            || after.clients_accepted > before.clients_accepted;
        let dropped = after.dropped_queue_full - before.dropped_queue_full;
        if dropped == 0 {
            return Ok(());
        }
        // What is too large for its client leaves the queue and is not sent.
        let left = after.publishes_sent > before.publishes_sent
            || after.dropped_too_large > before.dropped_too_large;
        if left || ended {
            self.group_drops += dropped;
            return Ok(());
        }
        let limits = &self.oracle.limits().queue;
        let inventory = self.shards[at].inventory(self.now);
        let is_full = |session: &&SessionInventory| {
            let SessionInventory { queued, queued_bytes, queued_expired, .. } = **session;
            let has_room =
                queued < limits.messages_max && queued_bytes + LARGE_BYTES <= limits.bytes_max;
            !has_room && queued_expired == 0
        };
        let full: BTreeSet<&str> =
            inventory.sessions.iter().filter(is_full).map(|it| &*it.client_id).collect();
        if self.oracle.has_full_group(at, &full) {
            self.group_drops += dropped;
        }
        ensure(!full.is_empty(), "a queue is full of messages that are alive", || {
            format!("shard {at}: {dropped} dropped, {limits:?}, {:?}", inventory.sessions)
        })
    }

    /// After the broker was stopped: nobody is connected, and nothing waits.
    pub(crate) fn check_stopped(&self) -> Verdict {
        for (at, shard) in self.shards.iter().enumerate() {
            let Inventory { connections, held_back, waiting_for_post, orphans, .. } =
                shard.inventory(self.now);
            let left = [connections, held_back, waiting_for_post, orphans];
            ensure(left == [0; 4], "a broker that stops lets everyone go", || {
                format!("shard {at}: {left:?}")
            })?;
        }
        let open = self.links.iter().position(|link| link.phase == Phase::Open);
        ensure(open.is_none(), "a broker that stops lets everyone go", || format!("link {open:?}"))
    }
}

/// As many bytes as no message of a narrow plan has in a queue.
const LARGE_BYTES: usize = 70_000;
