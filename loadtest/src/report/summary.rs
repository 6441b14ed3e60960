//! The figures of a run, in the form in which they are written as JSON.

use hdrhistogram::Histogram;
use ringmq::{
    base::time::Moment,
    mqtt::{QoS, Version},
};
use serde::{Deserialize, Serialize};

use super::curve::Curve;
use crate::{
    account::{
        balance::{Balance, Breach},
        fairness::Fairness,
        figures::{as_f64, in_seconds},
        outcome::{BrokerSamples, Outcome},
        process::Usage,
        series::Series,
        tally::SlowReaderCounts,
        total::{Total, total_of},
    },
    request::{pacing::Pacing, plan::Plan, workload::Act},
};

#[derive(Debug, Serialize, Deserialize)]
pub struct Summary {
    pub scenario: String,
    /// Whether messages or connections are counted.
    pub counted: Counted,
    pub protocol: String,
    /// The QoS that messages arrive with; the highest if there are several.
    pub qos: u8,
    pub publish_qos: Vec<u8>,
    pub subscribe_qos: u8,
    /// Of the largest payload.
    pub size: usize,
    pub size_min: usize,
    pub pacing: String,
    pub publishers: usize,
    pub subscribers: usize,
    pub threads: usize,
    /// From the first message to the last delivery.
    pub elapsed_seconds: f64,
    pub sent_per_second: f64,
    pub delivered_per_second: f64,
    #[serde(flatten)]
    pub balance: Balance,
    /// The same for each QoS that messages arrived with.
    pub by_qos: Vec<QosBalance>,
    /// How evenly the subscribers were served.
    pub fairness: Option<Fairness>,
    /// What became of the slow readers, if there are any.
    pub slow: Option<SlowReaderCounts>,
    pub stalled_rounds: u64,
    pub disconnected: u64,
    pub faults: Vec<String>,
    pub breaches: Vec<Breach>,
    pub latency: Option<Latency>,
    pub broker: Option<BrokerCost>,
    /// CPU time of this program per delivered message.
    pub load_cpu_micros_per_delivered: f64,
    /// The same per message sent.
    pub load_cpu_micros_per_sent: f64,
    /// Cores that this program kept busy.
    pub load_cores: f64,
    pub latency_curve: Curve,
    pub series: Series,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    Messages,
    Connections,
}

/// In microseconds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct BrokerCost {
    pub cpu_micros_per_delivered: f64,
    pub cores: f64,
    /// Resident memory that each connection added.
    pub resident_bytes_per_connection: f64,
    pub resident_bytes_unconnected: u64,
    pub resident_bytes_connected: u64,
    pub resident_bytes_held: u64,
    /// Over the measured part.
    pub resident_bytes_grown: f64,
    #[serde(flatten)]
    pub usage: Usage,
}

/// The account of the messages that arrive with one QoS. Its names differ from those of the whole
/// account, so that a line of the summary is known by its name alone.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct QosBalance {
    pub granted_qos: u8,
    pub messages: u64,
    pub due: u64,
    pub arrived: u64,
    pub losses: u64,
    pub repetitions: u64,
    pub disorders: u64,
}

impl Summary {
    pub fn new(plan: &Plan, outcome: &Outcome) -> Summary {
        let total = Total::of(plan, &outcome.tallies);
        let balances = total.balances(plan);
        let balance = total_of(&balances);
        let elapsed_seconds = seconds(outcome.start, total.end);
        let load = Usage::between(&outcome.load.0, &outcome.load.1);
        let delivered = as_f64(balance.counts.delivered);
        let sampled_seconds = in_seconds(outcome.sampled);
        Summary {
            scenario: plan.workload.name.to_owned(),
            counted: Counted::by(plan.workload.act),
            protocol: protocol(plan.version).to_owned(),
            qos: plan.qos() as u8,
            publish_qos: plan.publish_qos.iter().map(|qos| *qos as u8).collect(),
            subscribe_qos: plan.subscribe_qos as u8,
            size: plan.filling.sizes().max,
            size_min: plan.filling.sizes().min,
            pacing: describe(plan.pacing),
            publishers: plan.workload.publishers.len(),
            subscribers: plan.workload.subscribers.len(),
            threads: plan.threads,
            elapsed_seconds,
            sent_per_second: ratio(as_f64(balance.sent), elapsed_seconds),
            delivered_per_second: ratio(delivered, elapsed_seconds),
            by_qos: balances.iter().map(|(qos, balance)| QosBalance::of(*qos, balance)).collect(),
            fairness: Fairness::of(&total.shares).filter(|_| !plan.workload.act.is_connecting()),
            slow: plan.has_slow_readers().then_some(total.slow),
            stalled_rounds: outcome.stalled_rounds,
            breaches: total.breaches(plan, &balances),
            disconnected: total.disconnected,
            faults: total.faults,
            latency: (!outcome.latency.is_empty()).then(|| Latency::of(&outcome.latency)),
            broker: outcome
                .broker
                .as_ref()
                .map(|broker| BrokerCost::of(broker, delivered, sampled_seconds, plan)),
            load_cpu_micros_per_delivered: ratio(load.cpu_seconds * 1e6, delivered),
            load_cpu_micros_per_sent: ratio(load.cpu_seconds * 1e6, as_f64(balance.sent)),
            load_cores: ratio(load.cpu_seconds, sampled_seconds),
            latency_curve: Curve::of(&outcome.latency),
            series: outcome.series.clone(),
            balance,
        }
    }
}

impl Counted {
    fn by(act: Act) -> Counted {
        if act.is_connecting() { Counted::Connections } else { Counted::Messages }
    }
}

impl Latency {
    fn of(nanos: &Histogram<u64>) -> Latency {
        let micros = |quantile| as_f64(nanos.value_at_quantile(quantile)) / 1e3;
        Latency {
            p50: micros(0.5),
            p90: micros(0.9),
            p99: micros(0.99),
            p99_9: micros(0.999),
            max: as_f64(nanos.max()) / 1e3,
        }
    }
}

impl BrokerCost {
    fn of(broker: &BrokerSamples, delivered: f64, sampled_seconds: f64, plan: &Plan) -> BrokerCost {
        let usage = Usage::between(&broker.before, &broker.after);
        let grown =
            as_f64(broker.connected.resident_bytes) - as_f64(broker.unconnected.resident_bytes);
        BrokerCost {
            cpu_micros_per_delivered: ratio(usage.cpu_seconds * 1e6, delivered),
            cores: ratio(usage.cpu_seconds, sampled_seconds),
            resident_bytes_per_connection: ratio(grown, as_f64(plan.clients() as u64)),
            resident_bytes_unconnected: broker.unconnected.resident_bytes,
            resident_bytes_connected: broker.connected.resident_bytes,
            resident_bytes_held: broker.held.resident_bytes,
            resident_bytes_grown: as_f64(usage.resident_bytes_after)
                - as_f64(usage.resident_bytes_before),
            usage,
        }
    }
}

impl QosBalance {
    pub fn of(qos: QoS, balance: &Balance) -> QosBalance {
        QosBalance {
            granted_qos: qos as u8,
            messages: balance.sent,
            due: balance.expected,
            arrived: balance.counts.delivered,
            losses: balance.lost,
            repetitions: balance.counts.duplicated,
            disorders: balance.counts.reordered,
        }
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::V31 => "3.1",
        Version::V311 => "3.1.1",
        Version::V5 => "5.0",
    }
}

fn describe(pacing: Pacing) -> String {
    match pacing {
        Pacing::Flood => "flood".to_owned(),
        Pacing::Rounds { burst } => format!("rounds of {burst}"),
        Pacing::Rate { messages_per_second } => format!("{messages_per_second}/s"),
    }
}

fn seconds(from: Moment, to: Moment) -> f64 {
    in_seconds(to.since(from))
}

fn ratio(value: f64, per: f64) -> f64 {
    if per > 0.0 { value / per } else { 0.0 }
}
