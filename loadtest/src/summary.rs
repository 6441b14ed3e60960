//! What a run has found out, for people and for programs.

use std::fmt;

use hdrhistogram::Histogram;
use ringmq::{base::time::Moment, mqtt::Version};
use serde::{Deserialize, Serialize};

use crate::{
    account::{
        balance::{Balance, Breach},
        counts::Counts,
        fairness::Fairness,
        figures::as_f64,
        outcome::{BrokerSamples, Outcome},
        process::Usage,
        series::Series,
        tally::SlowReaderCounts,
        total::{QosBalance, Total, total_of},
    },
    curve::Curve,
    request::{pacing::Pacing, plan::Plan, workload::Act},
};

#[derive(Debug, Serialize, Deserialize)]
pub struct Summary {
    pub scenario: String,
    /// What the account is of.
    pub counted: Counted,
    pub protocol: String,
    /// That messages arrive with; the highest if there are several.
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
    /// Whom nothing is owed.
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

impl Summary {
    pub fn new(plan: &Plan, outcome: &Outcome) -> Summary {
        let total = Total::of(plan, &outcome.tallies);
        let balances = total.balances(plan);
        let balance = total_of(&balances);
        let elapsed_seconds = seconds(outcome.start, total.end);
        let load = Usage::between(&outcome.load.0, &outcome.load.1);
        let delivered = as_f64(balance.counts.delivered);
        let sampled_seconds = as_f64(outcome.sampled.as_nanos()) / 1e9;
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

    /// What happens to them first, and then.
    fn verbs(self) -> (&'static str, &'static str) {
        match self {
            Counted::Messages => ("sent", "delivered"),
            Counted::Connections => ("opened", "connected"),
        }
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

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_workload(f)?;
        self.write_messages(f)?;
        if let Some(latency) = &self.latency {
            write!(f, "{latency}")?;
        }
        if let Some(broker) = &self.broker {
            write!(f, "{broker}")?;
        }
        let (micros, cores) = (self.load_cpu_micros_per_delivered, self.load_cores);
        writeln!(f, "load       {micros:.2} µs of CPU per delivered message, {cores:.2} cores")?;
        self.write_verdict(f)
    }
}

impl Summary {
    fn write_workload(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { scenario, publishers, subscribers, protocol, qos, size, pacing, .. } = self;
        writeln!(
            f,
            "{scenario}: {publishers} publishers, {subscribers} subscribers, MQTT {protocol}, \
             QoS {qos}, {size} bytes, {pacing}",
        )
    }

    fn write_messages(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Balance { sent, expected, lost, unacknowledged, counts } = self.balance;
        let Counts { delivered, duplicated, reordered, foreign, damaged } = counts;
        let (sent_rate, delivered_rate) = (self.sent_per_second, self.delivered_per_second);
        let (first, then) = self.counted.verbs();
        writeln!(f, "{first:<10} {sent} in {:.3} s, {sent_rate:.0}/s", self.elapsed_seconds)?;
        writeln!(f, "{then:<10} {delivered} of {expected}, {delivered_rate:.0}/s")?;
        writeln!(
            f,
            "           lost {lost}, duplicated {duplicated}, reordered {reordered}, \
             foreign {foreign}, damaged {damaged}, unacknowledged {unacknowledged}",
        )?;
        self.write_by_qos(f)?;
        self.write_fairness(f)?;
        if let Some(SlowReaderCounts { slow_delivered, slow_disconnected }) = self.slow {
            writeln!(f, "slow       {slow_delivered} delivered, {slow_disconnected} disconnected")?;
        }
        if counts.delivered > 0 && self.latency.is_none() {
            writeln!(f, "           (counted only: the payload is too small for a stamp)")?;
        }
        if self.stalled_rounds > 0 {
            writeln!(f, "           {} rounds were given up", self.stalled_rounds)?;
        }
        Ok(())
    }

    /// Only where there is more than one QoS to tell apart.
    fn write_by_qos(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for balance in self.by_qos.iter().filter(|_| self.by_qos.len() > 1) {
            let QosBalance { granted_qos, due, arrived, losses, repetitions, disorders, .. } =
                balance;
            writeln!(
                f,
                "           QoS {granted_qos}: {arrived} of {due}, lost {losses}, \
                 duplicated {repetitions}, reordered {disorders}",
            )?;
        }
        Ok(())
    }

    fn write_fairness(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Fairness { share_min, share_mean, share_max, jain_index }) = self.fairness else {
            return Ok(());
        };
        writeln!(
            f,
            "fairness   {jain_index:.3}: a subscriber received {share_min} to {share_max}, \
             {share_mean:.1} on average",
        )
    }

    fn write_verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.faults {
            writeln!(f, "fault      {fault}")?;
        }
        if !self.breaches.is_empty() {
            writeln!(f, "BROKEN     {:?}; {} disconnected", self.breaches, self.disconnected)?;
        }
        Ok(())
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency { p50, p90, p99, p99_9, max } = self;
        writeln!(
            f,
            "latency    p50 {p50:.1} µs, p90 {p90:.1} µs, p99 {p99:.1} µs, p99.9 {p99_9:.1} µs, \
             max {max:.1} µs",
        )
    }
}

impl fmt::Display for BrokerCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Usage { user_seconds, system_seconds, cpu_seconds, .. } = self.usage;
        let (voluntary, involuntary) =
            (self.usage.voluntary_switches, self.usage.involuntary_switches);
        writeln!(
            f,
            "broker     {:.3} µs of CPU per delivered message, {:.2} cores \
             ({cpu_seconds:.3} s: user {user_seconds:.2}, system {system_seconds:.2})",
            self.cpu_micros_per_delivered, self.cores,
        )?;
        writeln!(
            f,
            "           RSS {} KiB, connected {} KiB ({:.0} bytes per connection), \
             after {} KiB (grown by {:.0}), at the end {} KiB",
            self.resident_bytes_unconnected / 1024,
            self.resident_bytes_connected / 1024,
            self.resident_bytes_per_connection,
            self.usage.resident_bytes_after / 1024,
            self.resident_bytes_grown / 1024.0,
            self.resident_bytes_held / 1024,
        )?;
        writeln!(f, "           context switches: {voluntary} voluntary, {involuntary} forced")?;
        for thread in self.usage.threads.iter().filter(|thread| thread.cpu_seconds >= SHOWN_SECONDS)
        {
            writeln!(
                f,
                "           thread {} {}: {:.3} s, switches: {} voluntary, {} forced",
                thread.id,
                thread.name,
                thread.cpu_seconds,
                thread.voluntary_switches,
                thread.involuntary_switches,
            )?;
        }
        Ok(())
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
    as_f64(to.since(from).as_nanos()) / 1e9
}

fn ratio(value: f64, per: f64) -> f64 {
    if per > 0.0 { value / per } else { 0.0 }
}

/// Threads that used less are not worth a line.
const SHOWN_SECONDS: f64 = 0.001;
