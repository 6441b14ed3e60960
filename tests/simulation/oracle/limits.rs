//! Limits that hold at every moment.

use ringmq::shard::inventory::{Inventory, SessionInventory};

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
        let tell = || format!("shard {at}: {inventory:?}");
        let part = limits.sessions_max.div_ceil(self.shards.len());
        ensure(sessions.len() <= part, "sessions have a limit", tell)?;
        let topics = connections * usize::from(limits.topic_alias_maximum);
        ensure(*aliases <= topics, "Topic Aliases have a limit", tell)?;
        let kept = retained.iter().filter(|kept| kept.payload.is_some()).count();
        // Each shard may take one that the others have not heard of.
        let most = limits.retained_max * self.shards.len();
        ensure(kept <= most, "retained messages have a limit", tell)?;
        for session in sessions {
            self.check_session_limits(session)?;
        }
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
