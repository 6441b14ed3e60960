use anyhow::Result;
use clap::{Args, ValueEnum};
use ringmq::mqtt::QoS;

use super::{connect, fan_in, fan_out, pairs, shared};
use crate::request::{
    flags::LoadFlags,
    workload::{Defaults, Workload},
};

/// One of the loads of the Open MQTT Benchmark Suite, whole or scaled.
///
/// A name gives the numbers of publishers, subscribers, topics and messages per second: delivered
/// messages for fan-out, published messages otherwise. QoS 1 and 16 bytes, unless flags are given.
#[derive(Debug, Args)]
pub struct Preset {
    name: Name,
    /// Factor for clients and rates. For a fan-out it is the factor for subscribers only.
    #[arg(long, default_value_t = 1.0, value_parser = parse_scale)]
    scale: f64,
    #[command(flatten)]
    pub(super) flags: LoadFlags,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    #[value(name = "conn-tcp-10K-100")]
    Connect,
    #[value(name = "fanout-1-1K-1-1K")]
    FanOut,
    #[value(name = "fanout-5-1000-5-250K")]
    FanOutLarge,
    #[value(name = "p2p-1K-1K-1K-1K")]
    PointToPoint,
    #[value(name = "p2p-50K-50K-50K-50K")]
    PointToPointLarge,
    #[value(name = "sharedsub-1K-5-1K-1K")]
    Shared,
    #[value(name = "sharedsub-50K-500-50K-50K")]
    SharedLarge,
}

impl Preset {
    pub(super) fn workload(&self) -> Result<Workload> {
        let (workload, rate) = self.load()?;
        let defaults = Defaults { qos: QoS::AtLeastOnce, size: 16, rate: Some(rate.into()) };
        Ok(Workload { defaults, ..workload })
    }

    /// Who publishes to whom, and messages per second.
    fn load(&self) -> Result<(Workload, u32)> {
        let (topics, scaled) = (&self.flags.topics, |number| scale(number, self.scale));
        Ok(match self.name {
            Name::Connect => (connect::workload(topics, scaled(10_000))?, scaled(100)),
            Name::FanOut => (fan_out::workload(topics, 1, scaled(1000))?, 1),
            Name::FanOutLarge => (fan_in::workload(topics, 5, scaled(1000))?, 250),
            Name::PointToPoint => (pairs::workload(topics, scaled(1000))?, scaled(1000)),
            Name::PointToPointLarge => (pairs::workload(topics, scaled(50_000))?, scaled(50_000)),
            Name::Shared => {
                (shared::workload(topics, scaled(1000), scaled(5), "load")?, scaled(1000))
            }
            Name::SharedLarge => {
                (shared::workload(topics, scaled(50_000), scaled(500), "load")?, scaled(50_000))
            }
        })
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by the flag")]
fn scale(number: u32, factor: f64) -> u32 {
    (f64::from(number) * factor).round().max(1.0) as u32
}

fn parse_scale(text: &str) -> Result<f64, String> {
    let scale: f64 = text.parse().map_err(|_| format!("not a number: {text}"))?;
    let allowed = scale > 0.0 && scale <= SCALE_MAX;
    allowed.then_some(scale).ok_or_else(|| format!("a scale is above 0 and at most {SCALE_MAX}"))
}

const SCALE_MAX: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{pacing::Pacing, plan_of};

    /// Publishers, subscribers, and messages or connections per second.
    fn load(flags: &str) -> (usize, usize, u64) {
        let plan = plan_of(&format!("preset {flags}")).unwrap();
        assert_eq!((plan.qos(), plan.filling.bytes().len()), (QoS::AtLeastOnce, 16), "{flags}");
        let Pacing::Rate { messages_per_second } = plan.pacing else { panic!("{flags}") };
        let workload = &plan.workload;
        (workload.publishers.len(), workload.subscribers.len(), messages_per_second)
    }

    #[test]
    fn the_presets_are_what_their_names_say() {
        assert_eq!(load("conn-tcp-10K-100"), (0, 10_000, 100));
        assert_eq!(load("fanout-1-1K-1-1K"), (1, 1000, 1));
        assert_eq!(load("fanout-5-1000-5-250K"), (5, 1000, 250));
        assert_eq!(load("p2p-1K-1K-1K-1K"), (1000, 1000, 1000));
        assert_eq!(load("p2p-50K-50K-50K-50K"), (50_000, 50_000, 50_000));
        assert_eq!(load("sharedsub-1K-5-1K-1K"), (1000, 5, 1000));
        assert_eq!(load("sharedsub-50K-500-50K-50K"), (50_000, 500, 50_000));
    }

    #[test]
    fn a_scale_shrinks_clients_and_rates_but_nothing_below_one() {
        assert_eq!(load("p2p-50K-50K-50K-50K --scale 0.02"), (1000, 1000, 1000));
        assert_eq!(load("sharedsub-1K-5-1K-1K --scale 0.01"), (10, 1, 10));
        assert_eq!(load("fanout-5-1000-5-250K --scale 0.1"), (5, 100, 250));
        for wrong in ["0", "-1", "NaN", "1000", "x"] {
            assert!(plan_of(&format!("preset fanout-1-1K-1-1K --scale {wrong}")).is_err());
        }
    }

    #[test]
    fn flags_are_stronger_than_a_preset() {
        let plan = plan_of("preset p2p-1K-1K-1K-1K --qos 0 --size 64 --rate 7").unwrap();
        assert_eq!((plan.qos(), plan.filling.bytes().len()), (QoS::AtMostOnce, 64));
        assert_eq!(plan.pacing, Pacing::Rate { messages_per_second: 7 });
    }
}
