//! `$SYS/broker/`: the broker publishes its counters as retained messages, at an interval.
//!
//! The first shard asks the others for their counters. When all have answered, it publishes the
//! sums, so that all sums are of one moment. docs/sys.md lists the topics.

use std::fmt::Display;

use super::{
    Shard,
    letter::Letter,
    ports::{Load, Ports},
    stats::Counters,
    store_figures::StoreFigures,
};
use crate::{
    base::{
        ids::{ShardId, ShardSet},
        time::Span,
    },
    routing::Tally,
    topic::TopicName,
};

/// The latest counters of each shard.
#[derive(Debug)]
pub(super) struct SysTree {
    here: ShardId,
    heard: Vec<Counters>,
    /// The shards that were asked and have not answered.
    asked: ShardSet,
    /// A reminder to publish `$SYS` is set.
    is_due: bool,
}

/// A Topic Name under `$SYS/broker/` and the payload that is published to it.
type Value = (String, String);

impl SysTree {
    pub(super) fn new(here: ShardId, shards: usize) -> SysTree {
        let heard = vec![Counters::default(); shards];
        SysTree { here, heard, asked: ShardSet::EMPTY, is_due: false }
    }

    /// The rules want `$SYS` at this interval. Returns the time until it is first published, if no
    /// reminder is set yet. That is soon, so that a new subscriber finds the topics.
    pub(super) fn begin(&mut self, interval: Option<Span>) -> Option<Span> {
        let interval = interval.filter(|_| !self.is_due)?;
        self.is_due = true;
        Some(FIRST_SPAN.min(interval))
    }

    /// A reminder has come. False: the rules do not want `$SYS` any more.
    pub(super) fn is_wanted(&mut self, interval: Option<Span>) -> bool {
        self.is_due = interval.is_some();
        self.is_due
    }

    /// Takes the counters of a shard. True: all shards that were asked have answered now.
    pub(super) fn hear(&mut self, from: ShardId, counters: Counters) -> bool {
        self.heard[from.index()] = counters;
        let was_asked = self.asked.contains(from);
        self.asked.remove(from);
        was_asked && self.asked.is_empty()
    }

    /// The values that a shard publishes about itself, `uptime` after its start.
    pub(super) fn own_values(&self, connections: u64, load: &Load, uptime: Span) -> Vec<Value> {
        let busy = load.busy.as_nanos() * 100 / uptime.as_nanos().max(1);
        let value = |name: &str, value: u64| {
            (format!("$SYS/broker/shards/{}/{name}", self.here), value.to_string())
        };
        vec![
            value("connections", connections),
            value("load/busy-percent", busy),
            value("load/turns", load.turns),
            value("load/long-turns", load.long_turns),
            value("load/turn-p50-ns", load.turn_p50.as_nanos()),
            value("load/turn-p99-ns", load.turn_p99.as_nanos()),
        ]
    }

    /// The values that the first shard publishes about the broker: the sums over all shards. Every
    /// shard has all retained messages, so these are counted once. `None`: there is no store.
    pub(super) fn sums(
        &self,
        uptime: Span,
        retained: Tally,
        store: Option<&StoreFigures>,
    ) -> Vec<Value> {
        let mut sums = Counters::default();
        self.heard.iter().for_each(|counters| sums.add(counters));
        let version = concat!("ringmq ", env!("CARGO_PKG_VERSION"));
        let mut values = vec![
            value("version", version),
            value("uptime", format!("{} seconds", uptime.as_secs())),
            value("shards", self.heard.len()),
            value("retained/count", retained.messages),
            value("retained/bytes", retained.bytes),
        ];
        values.extend(sums.topics().map(|(name, count)| value(name, count)));
        if let Some(store) = store {
            values.push(value("store/condition", store.condition.word()));
            values.extend(store.all().map(|figure| value(figure.topic, figure.value)));
        }
        values
    }
}

const FIRST_SPAN: Span = Span::from_millis(100);

fn value(name: &str, value: impl Display) -> Value {
    (format!("$SYS/broker/{name}"), value.to_string())
}

impl Shard {
    /// Publishes this shard's load. The first shard also asks all others for their counters.
    pub(super) fn publish_sys(&mut self, ports: &mut impl Ports) {
        let load = ports.load();
        let uptime = self.context.now.since(self.context.settings.started_at);
        let values = self.sys.own_values(self.connections.len() as u64, &load, uptime);
        self.publish_values(&values, ports);
        if self.context.settings.shard != ShardId::FIRST {
            return;
        }
        // If a shard has not answered since the last time, its earlier counters are used.
        if !self.sys.asked.is_empty() || self.context.settings.shards == 1 {
            self.publish_sums(ports);
        }
        for peer in self.context.settings.peers() {
            self.sys.asked.insert(peer);
            ports.letters(peer).push(Letter::AskCounters);
        }
    }

    /// Sends the counters of this shard to the first shard.
    pub(super) fn tell_counters(&mut self, ports: &mut impl Ports) {
        let own = self.counters().with_load(&ports.load());
        ports.letters(ShardId::FIRST).push(Letter::Counters(Box::new(own)));
    }

    /// Publishes the sums of the counters of all shards.
    pub(super) fn publish_sums(&mut self, ports: &mut impl Ports) {
        let own = self.counters().with_load(&ports.load());
        self.sys.hear(ShardId::FIRST, own);
        let uptime = self.context.now.since(self.context.settings.started_at);
        let (retained, store) = (self.router.retained().limited(), ports.store_figures());
        let sums = self.sys.sums(uptime, retained, store.as_ref());
        self.publish_values(&sums, ports);
    }

    fn publish_values(&mut self, values: &[Value], ports: &mut impl Ports) {
        let retain = self.context.rules.offer.retain;
        for (topic, value) in values {
            let value = (TopicName::from_valid(topic), value.as_str(), retain);
            let clients = (&mut self.sessions, &mut self.connections);
            self.router.publish_value(value, clients, &mut self.context, ports);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::store_figures::StoreCondition;

    fn of(values: &[Value], topic: &str) -> Option<String> {
        values.iter().find(|(name, _)| name == topic).map(|(_, value)| value.clone())
    }

    #[test]
    fn the_sums_are_of_what_each_shard_has_said_last() {
        let mut sys = SysTree::new(ShardId::FIRST, 2);
        let counted = |queued| Counters { queued, ..Counters::default() };
        let other = ShardId::new(1).unwrap();
        sys.asked.insert(other);
        assert!(!sys.hear(ShardId::FIRST, counted(1)));
        assert!(sys.hear(other, counted(20)) && !sys.hear(other, counted(30)));
        let (uptime, retained) = (Span::from_secs(9), Tally { messages: 4, bytes: 500 });
        let sums = sys.sums(uptime, retained, None);
        assert_eq!(of(&sums, "$SYS/broker/store/condition"), None, "there is no store");
        for (name, value) in [
            ("messages/queued", "31"),
            ("uptime", "9 seconds"),
            ("shards", "2"),
            ("retained/count", "4"),
            ("retained/bytes", "500"),
        ] {
            assert_eq!(of(&sums, &format!("$SYS/broker/{name}")).as_deref(), Some(value));
        }
    }

    #[test]
    fn the_figures_of_the_store_are_among_the_sums() {
        let store = StoreFigures {
            condition: StoreCondition::Full,
            bytes: 9_000,
            syncs: 6,
            sync_nanos_max: 77,
            ..StoreFigures::default()
        };
        let sys = SysTree::new(ShardId::FIRST, 2);
        let sums = sys.sums(Span::ZERO, Tally::default(), Some(&store));
        for (name, value) in
            [("condition", "full"), ("bytes", "9000"), ("syncs", "6"), ("sync-max-ns", "77")]
        {
            assert_eq!(of(&sums, &format!("$SYS/broker/store/{name}")).as_deref(), Some(value));
        }
    }

    #[test]
    fn a_shard_says_how_busy_it_is_in_hundredths_of_its_time() {
        let sys = SysTree::new(ShardId::new(1).unwrap(), 2);
        let load = Load { busy: Span::from_secs(3), turns: 7, ..Load::default() };
        let values = sys.own_values(5, &load, Span::from_secs(10));
        for (name, value) in
            [("connections", "5"), ("load/busy-percent", "30"), ("load/turns", "7")]
        {
            assert_eq!(
                of(&values, &format!("$SYS/broker/shards/1/{name}")).as_deref(),
                Some(value)
            );
        }
    }

    #[test]
    fn a_reminder_is_set_once_while_the_rules_want_any() {
        let mut sys = SysTree::new(ShardId::FIRST, 1);
        let interval = Some(Span::from_secs(10));
        assert_eq!((sys.begin(None), sys.begin(interval)), (None, Some(FIRST_SPAN)));
        assert_eq!((sys.begin(interval), sys.is_wanted(interval)), (None, true));
        assert!(!sys.is_wanted(None));
        assert_eq!(sys.begin(Some(Span::from_millis(1))), Some(Span::from_millis(1)));
    }
}
