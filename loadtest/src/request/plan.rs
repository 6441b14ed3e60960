//! The plan of a run.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use ringmq::{
    base::time::{Moment, Span},
    mqtt::{QoS, Version},
};

use super::{
    pacing::{Extent, Pacing, Schedule},
    workload::{Act, Reading, Workload},
};
use crate::payload::{Filling, Phase, SEQUENCES_MAX};

/// Everything about a run that does not change while it runs. All threads share it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The brokers, which clients take in turn.
    pub addresses: Vec<SocketAddr>,
    /// Where connections come from, in turn; the kernel chooses when there are none.
    pub source_addresses: Vec<IpAddr>,
    pub version: Version,
    pub terms: SessionTerms,
    /// QoS that publishers take in turn.
    pub publish_qos: Vec<QoS>,
    pub subscribe_qos: QoS,
    pub filling: Filling,
    pub pacing: Pacing,
    /// How long a rate takes, at the beginning, to rise to its full height.
    pub ramp: Span,
    /// Search for the highest rate at which the p99 of latency stays within this.
    pub find_max: Option<Span>,
    pub warmup: Option<Extent>,
    pub extent: Extent,
    /// Exchanges of QoS 1 and 2 that each publisher may have open.
    pub in_flight: u16,
    /// The limit of unsent bytes that the kernel holds for each publisher; 0 leaves it to the
    /// kernel.
    pub send_buffer: usize,
    /// The limit of connections that are being opened at one time, by all threads.
    pub opening_max: usize,
    pub threads: usize,
    pub cpus: Vec<usize>,
    pub pid: Option<u32>,
    pub limits: Limits,
    pub hold: Span,
    pub seed: u64,
    pub strict: bool,
    pub json: bool,
    /// The file that the page is written to.
    pub html: Option<PathBuf>,
    pub workload: Workload,
}

/// What bounds a run in time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// After so long without progress, missing messages count as lost.
    pub stall: Span,
    /// The whole run.
    pub run: Span,
}

/// How long a client's session lasts, and how often it must show that it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionTerms {
    /// The session is taken up again, and outlives its connection.
    pub persistent: bool,
    /// Seconds; 0 turns it off.
    pub keep_alive: u16,
}

impl Plan {
    pub fn extent(&self, phase: Phase) -> Option<Extent> {
        match phase {
            Phase::WarmUp => self.warmup,
            Phase::Measured | Phase::CleanUp => Some(self.extent),
        }
    }

    /// The QoS of a publisher. For a replay it is at least 1, so that the broker has acknowledged
    /// each message that it is to store.
    pub fn publish_qos(&self, publisher: u32) -> QoS {
        let qos = self.publish_qos[publisher as usize % self.publish_qos.len()];
        match self.workload.act {
            Act::Publish | Act::Connect | Act::Reconnect => qos,
            Act::Replay { .. } => qos.max(QoS::AtLeastOnce),
        }
    }

    /// The QoS that messages of a publisher arrive with. [MQTT-3.8.4-8]
    pub fn granted_qos(&self, published: QoS) -> QoS {
        published.min(self.subscribe_qos)
    }

    /// The highest QoS that messages arrive with.
    pub fn qos(&self) -> QoS {
        let publishers = 0..self.publish_qos.len().min(self.workload.publishers.len());
        let granted = publishers.map(|publisher| self.granted_qos(self.publish_qos[publisher]));
        granted.max().unwrap_or(self.subscribe_qos)
    }

    /// The number of publishers. It fits: each has a number of 32 bits.
    pub fn publishers(&self) -> u32 {
        u32::try_from(self.workload.publishers.len()).unwrap_or(u32::MAX)
    }

    /// The broker that a client connects to. A publisher and its subscribers may have different
    /// ones.
    pub fn address(&self, client: usize) -> SocketAddr {
        self.addresses[client % self.addresses.len()]
    }

    /// Bytes that a publisher collects for one write. The kernel has room for twice its limit, so
    /// that a write which begins while there is room is taken whole.
    pub fn outbox_bytes(&self) -> usize {
        if self.send_buffer > 0 { self.send_buffer } else { OUTBOX_BYTES }
    }

    /// Publishers and subscribers.
    pub fn clients(&self) -> usize {
        self.workload.publishers.len() + self.workload.subscribers.len()
    }

    pub fn has_slow_readers(&self) -> bool {
        self.workload.subscribers.iter().any(|subscriber| subscriber.reading != Reading::Freely)
    }

    /// The rate rises in the first phase only.
    pub fn schedule(&self, start: Moment, phase: Phase) -> Option<Schedule> {
        let first = phase == Phase::WarmUp || self.warmup.is_none();
        let ramp = if first { self.ramp } else { Span::ZERO };
        self.schedule_of(start, self.publishers(), ramp)
    }

    /// When each connection is to be opened, in scenarios that count connections.
    pub fn opening_schedule(&self, start: Moment) -> Option<Schedule> {
        let clients = u32::try_from(self.clients()).unwrap_or(u32::MAX);
        self.schedule_of(start, clients, self.ramp)
    }

    fn schedule_of(&self, start: Moment, publishers: u32, ramp: Span) -> Option<Schedule> {
        match self.pacing {
            Pacing::Rate { messages_per_second } => {
                Some(Schedule { start, messages_per_second, publishers, ramp })
            }
            Pacing::Flood | Pacing::Rounds { .. } => None,
        }
    }

    /// How long a healthy run may be silent: the stall limit, and the gap between due messages.
    pub fn patience(&self) -> Span {
        match self.pacing {
            Pacing::Rate { messages_per_second } => {
                let gap = Span::from_nanos(1_000_000_000 / messages_per_second);
                self.limits.stall + self.ramp + gap
            }
            Pacing::Flood | Pacing::Rounds { .. } => self.limits.stall,
        }
    }

    /// Deliveries by the end of a round, with those of all rounds before it.
    pub fn deliveries_by_round(&self, round: u64, extent: Extent) -> u64 {
        let each = u64::from(messages_by_round(self.pacing, round, extent));
        each * u64::from(self.publishers()) * self.workload.audience
    }
}

/// Bytes for one write where the kernel chooses how much it holds.
const OUTBOX_BYTES: usize = 64 * 1024;

/// Messages that each publisher has sent by the end of a round, counted from one.
pub fn messages_by_round(pacing: Pacing, round: u64, extent: Extent) -> u32 {
    let most = match extent {
        Extent::Messages(count) => count,
        Extent::Time(_) => SEQUENCES_MAX,
    };
    match pacing {
        Pacing::Rounds { burst } => {
            let messages = round.saturating_mul(u64::from(burst));
            u32::try_from(messages).unwrap_or(u32::MAX).min(most)
        }
        Pacing::Flood | Pacing::Rate { .. } => most,
    }
}
