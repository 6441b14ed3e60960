//! What a seed decides before anything happens: how large the broker is, how narrow its limits
//! are, who its clients are and what they and the network are up to.

use std::{num::NonZeroU16, sync::Arc};

use ringmq::{
    access::{Anonymous, Passwords, Policy},
    base::{
        time::{Moment, Span, WallClock, WallTime},
        wheel::TICK,
    },
    mqtt::QoS,
    routing::{Strategies, Strategy},
    session::queue::QueueLimits,
    shard::{
        offer::Offer,
        rules::{Limits, SLICE_STEPS, WhenQueueFull},
    },
};

use crate::{
    disk::DiskPlan,
    planted::Fault,
    planted_records::RecordFault,
    random::{Random, purpose},
    workload::SHARED,
};

/// When the broker starts: with a tick of the timing wheel.
pub(crate) const START: Moment = Moment::from_nanos(TICK.as_nanos() * 100);

#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) shards: usize,
    pub(crate) limits: Limits,
    pub(crate) offer: Offer,
    pub(crate) sys_interval: Option<Span>,
    pub(crate) strategies: Strategies,
    pub(crate) mailbox_items_max: usize,
    pub(crate) clients: usize,
    /// How many of them misbehave at times.
    pub(crate) hostile: usize,
    pub(crate) steps: usize,
    /// Which share group the clients begin with, and how many there are.
    pub(crate) groups_from: usize,
    pub(crate) groups: usize,
    /// Bytes of a payload, at most.
    pub(crate) payload_max: usize,
    /// How often each operation of a client is chosen, in the order of `workload::Operation`.
    pub(crate) operations: Vec<usize>,
    /// How often each kind of step is chosen, in the order of `run::Step`.
    pub(crate) turns: Vec<usize>,
    /// Bytes that travel at once, at most.
    pub(crate) chunk_max: usize,
    pub(crate) with_passwords: bool,
    /// Whether the broker is stopped in the middle of it all, rather than left by everyone.
    pub(crate) stops: bool,
    /// Whether some clients keep an acknowledgement back for as long as they can.
    pub(crate) hoards: bool,
    /// Whether there is a lull half-way, in which all replicas agree.
    pub(crate) pauses: bool,
    pub(crate) planted: Option<Fault>,
    /// What survives a crash. Without it nothing does, and there are no crashes.
    pub(crate) disk: Option<DiskPlan>,
    pub(crate) planted_records: Option<RecordFault>,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Plan {
        let mut random = Random::new(seed, purpose::PLAN);
        let narrow = random.chance(35);
        let bulky = random.chance(8);
        let clients = random.between(2, 7);
        let weigh = |random: &mut Random, usual: &[usize]| {
            usual.iter().map(|&weight| weight * random.pick(&[0, 1, 1, 1, 2, 4])).collect()
        };
        let mut operations: Vec<usize> = weigh(&mut random, &crate::workload::USUAL);
        // Without these nothing happens at all.
        for (weight, usual) in operations.iter_mut().zip(crate::workload::USUAL).take(3) {
            *weight = usual.max(*weight);
        }
        let turns: Vec<usize> =
            crate::run::USUAL.iter().map(|&weight| weight * random.pick(&[1, 1, 2, 4])).collect();
        let shards = random.pick(&[1, 2, 2, 3, 4]);
        let offer = offer(&mut random);
        // The naive broker does not know the times of retained $SYS messages, which decide between
        // shards.
        let may_tell = !narrow && (shards == 1 || !offer.retain);
        let tells = may_tell && random.chance(30);
        let mut limits = limits(&mut random, narrow);
        if random.chance(25) {
            limits.slice_steps = random.pick(&[1, 8, 30, 100]);
            if shards > 1 {
                // The naive broker does not know which message is retained when several shards
                // change it in several turns, so it would not know who is refused.
                limits.retained_max = 10_000;
            }
        }
        Plan {
            seed,
            shards,
            limits,
            offer,
            sys_interval: tells.then_some(SYS_INTERVAL),
            strategies: Strategies { default: random.pick(&STRATEGIES), ..Strategies::default() },
            mailbox_items_max: random.pick(&[1, 2, 16]),
            clients,
            hostile: usize::from(random.chance(25)),
            steps: random.pick(&[300, 1_000, 2_000, 4_000]),
            groups_from: random.below(5),
            groups: random.between(1, 2),
            payload_max: if bulky { 60_000 } else { random.pick(&[1, 20, 200]) },
            operations,
            turns,
            chunk_max: if bulky { 100_000 } else { random.pick(&[3, 40, 1000]) },
            with_passwords: random.chance(10),
            stops: random.chance(10),
            pauses: random.chance(30),
            hoards: random.chance(30),
            planted: None,
            disk: None,
            planted_records: None,
        }
    }

    /// A broker with a disk that crashes, and begins again. No limit is narrow: what is not there
    /// afterwards is lost.
    pub(crate) fn with_disk(seed: u64) -> Plan {
        let plan = Plan::new(seed);
        let mut random = Random::new(seed, purpose::CRASHES);
        let disk = DiskPlan {
            waits_for_sync: random.chance(75),
            haste: random.pick(&[5, 20, 50]),
            crashes: random.pick(&[0, 10, 30, 100, 300]),
            queue_bytes_max: random.pick(&[200, 2_000, 32 << 20]),
            segment_bytes: random.pick(&[8 << 10, 32 << 10, 1 << 20]),
        };
        let mut wide = limits(&mut random, false);
        wide.slice_steps = plan.limits.slice_steps;
        wide.topic_alias_maximum = 0;
        wide.session_expiry_max = u32::MAX;
        wide.outbox_bytes_max = random.pick(&[300, 1 << 20]);
        Plan {
            limits: wide,
            offer: Offer::default(),
            sys_interval: None,
            hostile: 0,
            payload_max: random.pick(&[1, 20, 200]),
            steps: random.pick(&[300, 600, 1_200]),
            chunk_max: random.pick(&[40, 1_000]),
            with_passwords: false,
            stops: false,
            pauses: random.chance(30),
            disk: Some(disk),
            ..plan
        }
    }

    /// The share group that a client joins, if it joins any.
    pub(crate) fn group_of(&self, client: usize) -> &'static str {
        SHARED[(self.groups_from + client % self.groups) % SHARED.len()].0
    }

    /// How many addresses the clients come from, each of which is an account.
    pub(crate) fn addresses(&self) -> usize {
        1 + usize::try_from(self.seed / 3 % 3).expect("less than three")
    }

    /// The clock of the machine may be right, begin in 1970, or be far ahead.
    pub(crate) fn wall_clock(&self, now: Moment) -> WallClock {
        const SHOWS: [u64; 3] = [1_790_000_000_000_000_000, 0, u64::MAX / 2];
        let shows = SHOWS[usize::try_from(self.seed % 3).expect("less than three")];
        WallClock::new(now, WallTime::from_nanos(shows))
    }

    pub(crate) fn policy(&self) -> Policy {
        let passwords =
            self.with_passwords.then(|| Passwords::parse(ALICE).expect("it is well formed"));
        Policy {
            passwords: passwords.map(Arc::new),
            anonymous: Anonymous::Everywhere,
            // Clients say now who they are, and now not.
            shares_sessions: true,
            ..Policy::default()
        }
    }
}

/// One broker of five offers less than all of MQTT.
fn offer(random: &mut Random) -> Offer {
    if !random.chance(20) {
        return Offer::default();
    }
    let keep_alive_max = random.pick(&[0, 3, 60]);
    Offer {
        maximum_qos: random.pick(&QoS::ALL),
        retain: random.chance(60),
        wildcard_subscriptions: random.chance(80),
        subscription_identifiers: random.chance(60),
        shared_subscriptions: random.chance(70),
        keep_alive_max: NonZeroU16::new(keep_alive_max),
        response_prefix: random.chance(50).then(|| "answers".into()),
        validates_payload_format: random.chance(50),
    }
}

fn limits(random: &mut Random, narrow: bool) -> Limits {
    let queue = if narrow {
        QueueLimits {
            messages_max: random.between(1, 12),
            bytes_max: random.pick(&[300, 2_000, 1 << 20]),
        }
    } else {
        QueueLimits { messages_max: 10_000, bytes_max: 64 << 20 }
    };
    Limits {
        packet_size_max: 1 << 20,
        connect_size_max: 128 << 10,
        outbox_bytes_max: if narrow { random.pick(&[100, 300, 2_000]) } else { 1 << 20 },
        inflight_max: random.pick(&[1, 2, 5, 64]),
        queue,
        when_queue_full: random.pick(&[WhenQueueFull::Drop, WhenQueueFull::Disconnect]),
        receive_maximum: random.pick(&[1, 3, 20, 1000]),
        topic_alias_maximum: random.pick(&[0, 2, 16]),
        topic_aliases_max: random.pick(&[1, 2, 32]),
        session_expiry_max: if random.chance(10) { 20 } else { u32::MAX },
        connect_timeout: Span::from_secs(10),
        rate_timeout: Span::from_secs(10),
        patience: random.pick(&[Span::ZERO, Span::from_millis(20), Span::from_millis(500)]),
        sessions_max: if narrow { random.between(1, 8) } else { 10_000 },
        topic_levels_max: 200,
        user_properties_max: 10_000,
        user_property_bytes_max: 1 << 20,
        subscribe_filters_max: if narrow { random.between(1, 3) } else { 1_000_000 },
        subscriptions_max: if narrow { random.between(1, 6) } else { 10_000 },
        subscription_bytes_max: 64 << 20,
        wildcard_patterns_max: if narrow { random.pick(&[1, 2, 4, 10]) } else { 10_000 },
        retained_max: if narrow { random.between(1, 4) } else { 10_000 },
        retained_bytes_max: 64 << 20,
        slice_steps: SLICE_STEPS,
        password_checks_max: random.pick(&[1, 2, 1024]),
    }
}

/// Longer than healing takes.
const SYS_INTERVAL: Span = Span::from_secs(10);

const STRATEGIES: [Strategy; 6] = [
    Strategy::RoundRobin,
    Strategy::Random,
    Strategy::LeastInFlight,
    Strategy::Sticky,
    Strategy::HashClient,
    Strategy::HashTopic,
];

/// The user `alice`, whose password is `correct-horse`.
const ALICE: &str = "alice:$7$101$PxkC23maIR3STJZx$\
    WWEGb43HNXbS9iXF693jd7G6h0EPrnoWMNoi/SVtX584YaWxQ8xbiKQiYwnC4bBitImJS1+K6nAlFjiYcDg3DA==";
