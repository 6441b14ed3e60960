//! Makes the [`Plan`] from the flags.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result, bail, ensure};
use ringmq::{base::time::Span, mqtt::Version};

use super::{
    flags::{LoadFlags, Protocol, Session},
    pacing::{Extent, Pacing},
    plan::{Limits, Plan, SessionTerms},
    workload::{Act, Workload},
};
use crate::payload::{Filling, SEQUENCES_MAX, STAMP_LEN, Sizes};

impl LoadFlags {
    pub(super) fn plan(&self, mut workload: Workload) -> Result<Plan> {
        let extent = workload.extent.take();
        let defaults = workload.defaults;
        let qos = self.qos.unwrap_or(defaults.qos);
        let size = usize::try_from(defaults.size)?;
        let sizes = self.size.unwrap_or(Sizes { min: size, max: size });
        let pacing = self.pacing(defaults.rate);
        self.check_extent(extent)?;
        self.check_pacing(pacing, sizes.min, &workload)?;
        let cpus = self.cpus.clone().unwrap_or_default();
        let threads = self.threads.map_or_else(|| cpus.len().max(1), usize::from);
        Ok(Plan {
            addresses: self.addresses()?,
            source_addresses: self.source_addresses.clone().unwrap_or_default(),
            version: self.version(),
            terms: self.terms(),
            publish_qos: if self.publish_qos.is_empty() {
                vec![qos]
            } else {
                self.publish_qos.clone()
            },
            subscribe_qos: self.subscribe_qos.unwrap_or(qos),
            filling: Filling::new(sizes, self.seed),
            pacing,
            ramp: self.ramp,
            find_max: self.find_max,
            warmup: self.warmup,
            extent: extent.unwrap_or_else(|| self.extent()),
            in_flight: self.in_flight,
            send_buffer: self.send_buffer.unwrap_or_else(|| send_buffer(sizes.max)),
            opening_max: usize::try_from(self.opening)?,
            threads,
            cpus,
            pid: self.pid,
            limits: Limits { stall: self.timeout, run: self.deadline },
            hold: self.hold,
            seed: self.seed,
            strict: self.strict || workload.act.is_connecting(),
            json: self.json,
            html: self.html.clone(),
            workload,
        })
    }

    fn check_extent(&self, extent: Option<Extent>) -> Result<()> {
        let chosen = self.count.is_some() || self.duration.is_some() || self.warmup.is_some();
        if extent.is_some() && chosen {
            bail!("the scenario sets the number of messages: no --count, --duration or --warmup");
        }
        Ok(())
    }

    fn check_pacing(&self, pacing: Pacing, size: usize, workload: &Workload) -> Result<()> {
        let (act, stamped) = (workload.act, size >= STAMP_LEN);
        if let Pacing::Rounds { burst } = pacing {
            ensure!(burst <= SEQUENCES_MAX, "a burst has at most {SEQUENCES_MAX} messages");
            ensure!(workload.audience > 0, "a round needs subscribers");
            ensure!(!act.is_connecting(), "connections have no --round");
        }
        if let Act::Replay { .. } = act {
            ensure!(pacing == Pacing::Flood, "retained messages have no --rate and no --round");
            ensure!(stamped, "payloads must have {STAMP_LEN} bytes");
        }
        ensure!(
            self.find_max.is_none() || (act == Act::Publish && workload.audience > 0 && stamped),
            "only messages of {STAMP_LEN} bytes or more, to subscribers, have a highest rate"
        );
        Ok(())
    }

    fn addresses(&self) -> Result<Vec<SocketAddr>> {
        self.host.iter().map(|host| resolve(host, self.port)).collect()
    }

    fn terms(&self) -> SessionTerms {
        let persistent = self.session == Session::Persistent;
        SessionTerms { persistent, keep_alive: self.keep_alive }
    }

    fn version(&self) -> Version {
        match self.protocol {
            Protocol::V31 => Version::V31,
            Protocol::V311 => Version::V311,
            Protocol::V5 => Version::V5,
        }
    }

    fn pacing(&self, default: Option<u64>) -> Pacing {
        let first = self.find_max.map(|_| RATE_FIRST);
        let default = default.filter(|_| !self.round);
        match self.rate.or(first).or(default) {
            Some(messages_per_second) => Pacing::Rate { messages_per_second },
            None if self.round => Pacing::Rounds { burst: self.burst },
            None => Pacing::Flood,
        }
    }

    fn extent(&self) -> Extent {
        match (self.count, self.duration) {
            (Some(count), _) => Extent::Messages(count),
            (None, Some(duration)) => Extent::Time(duration),
            (None, None) => Extent::Time(DURATION_DEFAULT),
        }
    }
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr> {
    let addresses = (host, port).to_socket_addrs();
    let mut addresses = addresses.with_context(|| format!("cannot resolve {host}"))?;
    addresses.next().with_context(|| format!("{host} has no address"))
}

/// Room for several payloads of this size, so that large ones are not sent one by one.
fn send_buffer(size: usize) -> usize {
    size.saturating_mul(BUFFERED_PAYLOADS).clamp(SEND_BUFFER_MIN, SEND_BUFFER_MAX)
}

const DURATION_DEFAULT: Span = Span::from_secs(5);

const BUFFERED_PAYLOADS: usize = 16;
const SEND_BUFFER_MIN: usize = 32 * 1024;
const SEND_BUFFER_MAX: usize = 128 * 1024;

/// Where the search for a maximum begins.
const RATE_FIRST: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::plan_of;

    #[test]
    fn a_scenario_alone_is_a_flood_of_five_seconds() {
        let plan = plan_of("fan-out").unwrap();
        assert_eq!(plan.pacing, Pacing::Flood);
        assert_eq!(plan.extent, Extent::Time(DURATION_DEFAULT));
        assert_eq!((plan.workload.publishers.len(), plan.workload.subscribers.len()), (1, 500));
        assert_eq!(plan.workload.audience, 500);
        assert_eq!(plan.threads, 1);
    }

    #[test]
    fn flags_make_rounds_or_a_rate() {
        let rounds = plan_of("pairs --round --burst 16 --count 3").unwrap();
        assert_eq!(rounds.pacing, Pacing::Rounds { burst: 16 });
        assert_eq!(rounds.extent, Extent::Messages(3));
        let rate = plan_of("fan-in --rate 1000 --cpus 1,3").unwrap();
        assert_eq!(rate.pacing, Pacing::Rate { messages_per_second: 1000 });
        assert_eq!(rate.threads, 2);
    }

    #[test]
    fn idle_sends_one_message_to_each() {
        let plan = plan_of("idle --connections 7").unwrap();
        assert_eq!(plan.extent, Extent::Messages(7));
        assert_eq!(plan.workload.publishers[0].name(0, 3), plan.workload.subscribers[3].filters[0]);
    }

    /// Where a publisher's first message goes, and the first filter of a subscriber.
    fn places(flags: &str) -> (String, String) {
        let workload = plan_of(flags).unwrap().workload;
        (workload.publishers[0].name(0, 0), workload.subscribers[0].filters[0].clone())
    }

    #[test]
    fn a_topic_means_something_wherever_there_are_publishers() {
        for scenario in ["fan-in", "fan-out", "slow-reader", "wildcard", "retained"] {
            let (name, filter) = places(&format!("{scenario} --topic a/{{id}}/b"));
            assert_eq!((&name[..], &filter[..]), ("a/0/b", "a/+/b"), "{scenario}");
        }
        for scenario in ["pairs", "idle", "preset p2p-1K-1K-1K-1K"] {
            let (name, filter) = places(&format!("{scenario} --topic a/{{id}}/b"));
            assert_eq!((&name[..], &filter[..]), ("a/0/b", "a/0/b"), "{scenario}");
        }
        assert_eq!(places("fan-in --topic a").1, "a");
        assert_eq!(places("shared --topic a/{id}").1, "$share/load/a/+");
        assert_eq!(places("fan-out").1, "bench/out");
        assert_eq!(places("fan-out --topics 1"), ("bench/out/0".into(), "bench/out/+".into()));
        assert_eq!(places("slow-reader --topics 9 --zipf 1").1, "bench/slow/+");
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for flags in [
            "pairs --round --rate 1",
            "pairs --burst 2",
            "pairs --count 1 --duration 1s",
            "idle --count 1",
            "fan-in --qos 3",
            "fan-in --publishers 0",
            "fan-in --protocol 4",
            "fan-in --zipf 1",
            "fan-out --topics 5 --topic a/b",
            "pairs --topic a/b",
            "pairs --topics 5",
            "retained --topics 5",
            "idle --topics 5",
            "reconnect --topic a",
            "connect --topic {id}",
            "preset conn-tcp-10K-100 --topics 5",
        ] {
            assert!(plan_of(flags).is_err(), "{flags:?}");
        }
    }
}
