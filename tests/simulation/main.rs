//! The whole broker under a seed: real shards, and everything around them in one thread, on a
//! clock of its own, in an order that the seed chooses.

mod broker;
mod client;
mod disk;
mod letters;
mod link;
#[path = "../support/matching.rs"]
mod matching;
mod oracle;
mod plan;
mod planted;
mod planted_records;
mod ports;
mod precede;
mod random;
mod run;
mod store;
#[path = "../stories/story.rs"]
mod story;
mod violation;
mod witness;
mod workload;

use std::{
    collections::BTreeMap,
    env,
    panic::catch_unwind,
    time::{Duration, SystemTime},
};

use plan::Plan;
use planted::Fault;
use planted_records::RecordFault;
use ringmq::shard::stats::Counters;
use run::Outcome;

/// What many runs came to.
struct Survey {
    /// What a seed decides, and how to tell the story of one.
    plan: fn(u64) -> Plan,
    command: &'static str,
    seeds: u64,
    calls: u64,
    counters: Counters,
    /// For each law that was broken: how often, and by which seed first.
    broken: BTreeMap<&'static str, (u64, u64)>,
}

impl Survey {
    fn new(plan: fn(u64) -> Plan, command: &'static str) -> Survey {
        let (counters, broken) = (Counters::default(), BTreeMap::new());
        Survey { plan, command, seeds: 0, calls: 0, counters, broken }
    }

    /// New seeds, as many as the environment says, or for so many seconds.
    fn run(self, seconds: u64) {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.run_from(since_1970.unwrap_or_default().as_secs() << 20, seconds);
    }

    /// The same from this seed on, unless the environment says where to begin.
    fn run_from(mut self, first: u64, seconds: u64) {
        let start = SystemTime::now();
        let first = setting("SIMULATE_FROM").unwrap_or(first);
        let count = setting("SIMULATE_SEEDS").unwrap_or(u64::MAX);
        let budget = Duration::from_secs(setting("SIMULATE_SECONDS").unwrap_or(seconds));
        for seed in first..first.saturating_add(count) {
            self.add(seed);
            if start.elapsed().unwrap_or(budget) >= budget {
                break;
            }
        }
        self.print();
        self.check();
    }

    fn add(&mut self, seed: u64) {
        self.seeds += 1;
        let law = match run_caught(&(self.plan)(seed)) {
            Ok(outcome) => {
                self.calls += outcome.steps;
                self.counters.add(&outcome.counters);
                outcome.verdict.err().map(|violation| violation.law)
            }
            Err(law) => Some(law),
        };
        if let Some(law) = law {
            self.broken.entry(law).or_insert((0, seed)).0 += 1;
        }
    }

    fn print(&self) {
        println!("{} seeds, {} calls of shards", self.seeds, self.calls);
        for (topic, value) in self.counters.topics().filter(|(_, value)| *value > 0) {
            println!("  {topic} {value}");
        }
    }

    fn check(&self) {
        for (law, (times, seed)) in &self.broken {
            println!("{times} x {law}: scripts/simulate.sh {} {seed}", self.command);
        }
        assert!(self.broken.is_empty(), "laws were broken; each command above tells one story");
    }
}

/// Runs a plan; an assertion of the broker's own is a law, too.
fn run_caught(plan: &Plan) -> Result<Outcome, &'static str> {
    catch_unwind(|| run::run(plan, false)).map_err(|_| "no assertion fails")
}

/// A number from the environment, as `scripts/simulate.sh` gives it.
fn setting(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// Each time other seeds, for a fixed time.
#[test]
fn new_seeds_keep_the_laws() {
    Survey::new(Plan::new, "--seed").run(SECONDS);
}

/// The same for brokers that crash and begin again. The gate takes the same seeds each time, since
/// one of some thousands breaks a law: see docs/simulation.md.
#[test]
fn promises_are_kept_over_crashes() {
    Survey::new(Plan::with_disk, "--disk-seed").run_from(DISK_FIRST, DISK_SECONDS);
}

#[test]
fn seeds_that_once_failed_keep_the_laws() {
    let mut survey = Survey::new(Plan::new, "--seed");
    for seed in FAILED {
        survey.add(seed);
    }
    survey.check();
}

#[test]
fn a_seed_determines_everything() {
    let plans = (0..40).map(Plan::new).chain((0..20).map(Plan::with_disk));
    for plan in plans {
        let seed = plan.seed;
        let (first, second) = (run::run(&plan, false), run::run(&plan, false));
        assert_eq!((first.trace, first.steps), (second.trace, second.steps), "seed {seed}");
    }
}

/// One seed, told packet by packet: `scripts/simulate.sh --seed N`.
#[test]
fn one_seed_is_told() {
    tell(Plan::new, "SIMULATE_STORY");
}

/// One seed with crashes, told packet by packet: `scripts/simulate.sh --disk-seed N`.
#[test]
fn one_seed_with_crashes_is_told() {
    tell(Plan::with_disk, "SIMULATE_DISK_STORY");
}

fn tell(plan: fn(u64) -> Plan, name: &str) {
    let seed = setting(name);
    let outcome = run::run(&plan(seed.unwrap_or(1)), true);
    assert!(outcome.story.iter().any(|line| line.contains("→ CONNECT")));
    assert!(outcome.story.iter().any(|line| line.contains("← CONNACK")));
    if let Some(seed) = seed {
        println!("{}", outcome.story.join("\n"));
        let broken = outcome.verdict.err().map(|violation| violation.to_string());
        assert_eq!(broken, None, "seed {seed}");
    }
}

/// The simulation is only worth what it finds. Prints the seeds and the seconds that it takes.
#[test]
fn planted_faults_are_found() {
    find(Fault::ALL, Fault::words, |fault, seed| Plan { planted: Some(fault), ..Plan::new(seed) });
}

/// The same for faults between the shards and the disk.
#[test]
fn planted_faults_of_the_records_are_found() {
    find(RecordFault::ALL, RecordFault::words, |fault, seed| Plan {
        planted_records: Some(fault),
        ..Plan::with_disk(seed)
    });
}

fn find<F: Copy>(faults: &[F], words: fn(F) -> &'static str, plan: impl Fn(F, u64) -> Plan) {
    let mut unseen = Vec::new();
    for &fault in faults {
        let start = SystemTime::now();
        let found = (0..SEEDS_PER_FAULT).find_map(|seed| {
            let law = match run_caught(&plan(fault, seed)) {
                Ok(outcome) => outcome.verdict.err()?.law,
                Err(law) => law,
            };
            Some((seed + 1, law))
        });
        let seconds = start.elapsed().unwrap_or_default().as_secs_f64();
        match found {
            Some((seeds, law)) => {
                println!("| {} | {seeds} | {seconds:.2} | {law} |", words(fault));
            }
            None => unseen.push(words(fault)),
        }
    }
    assert!(unseen.is_empty(), "{unseen:#?}");
}

/// Time for new seeds when nobody says how much.
const SECONDS: u64 = 30;
/// The same for brokers that crash.
const DISK_SECONDS: u64 = 20;
const DISK_FIRST: u64 = 2_000_000;
/// Some five times what the hardest fault needs.
const SEEDS_PER_FAULT: u64 = 500;
/// Seeds for which the broker, or the naive one, was wrong.
const FAILED: [u64; 37] = [
    118,
    155,
    180,
    240,
    538,
    662,
    693,
    779,
    800,
    1037,
    1211,
    1711,
    1985,
    2034,
    3691,
    3699,
    12_882,
    18_934,
    110_561,
    115_855,
    119_311,
    207_901,
    217_009,
    301_316,
    303_178,
    303_208,
    303_466,
    304_611,
    306_445,
    316_512,
    20_003_592,
    20_100_473,
    40_079_946,
    40_087_461,
    40_094_786,
    1_883_153_570_472_956,
    1_883_176_069_759_071,
];
