//! A summary as text for people.

use std::fmt;

use super::summary::{BrokerCost, Counted, Latency, QosBalance, Summary};
use crate::account::{
    balance::Balance, counts::Counts, fairness::Fairness, process::Usage, tally::SlowReaderCounts,
};

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

impl Counted {
    /// What happens to them at the beginning, and at the end.
    fn verbs(self) -> (&'static str, &'static str) {
        match self {
            Counted::Messages => ("sent", "delivered"),
            Counted::Connections => ("opened", "connected"),
        }
    }
}

/// Threads that used less are not worth a line.
const SHOWN_SECONDS: f64 = 0.001;
