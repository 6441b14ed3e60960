//! Crash states of the store: the code of the store writes to a disk in memory, which notes each
//! step. Then the power is cut, at each step and in many ways, and the code of the store reads what
//! is left. See docs/durability.md.

mod disk;
mod laws;
mod life;
mod model;
mod planted;
mod random;
mod replay;
mod work;

use std::{env, time::SystemTime};

use self::{
    laws::{Counts, Violation, sample},
    life::Life,
    planted::Fault,
    random::Random,
};

/// What a seed comes to: some processes, and samples of the states that they may leave.
fn run(
    seed: u64,
    planted: Option<Fault>,
    failing: Option<usize>,
    counts: &mut Counts,
) -> Result<(), Violation> {
    let mut life = Life::new(seed, planted, failing);
    let (processes, one_in) = if failing.is_some() { (2, 60) } else { (PROCESSES, 1) };
    life.run(processes)?;
    let mut random = Random::new(seed ^ 0x5A5A);
    life.done.iter().try_for_each(|stretch| sample(stretch, planted, one_in, &mut random, counts))
}

fn setting(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// `CRASH_STATES` says how many, `CRASH_FROM` with which seed to begin.
#[test]
fn every_crash_state_is_recovered_as_promised() {
    let start = SystemTime::now();
    let wanted = setting("CRASH_STATES").unwrap_or(STATES);
    let mut counts = Counts::default();
    let mut seed = setting("CRASH_FROM").unwrap_or(0);
    while (counts.states as u64) < wanted {
        if let Err(Violation { law, words }) = run(seed, None, None, &mut counts) {
            panic!("seed {seed}: {law}: {words}");
        }
        seed += 1;
    }
    let seconds = start.elapsed().unwrap_or_default().as_secs_f64();
    println!("{counts:?}, up to seed {seed}, {seconds:.1} s");
}

/// Each of the first syncs fails in a run of its own.
#[test]
fn a_sync_that_fails_loses_nothing_that_was_told() {
    let start = SystemTime::now();
    let mut counts = Counts::default();
    for failing in 1..=200 {
        if let Err(Violation { law, words }) = run(failing, None, to_usize(failing), &mut counts) {
            panic!("sync {failing}: {law}: {words}");
        }
    }
    let seconds = start.elapsed().unwrap_or_default().as_secs_f64();
    println!("{counts:?}, {seconds:.1} s");
}

/// The samples are only worth what they find. Prints how many it takes.
#[test]
fn planted_faults_are_found() {
    let mut unseen = Vec::new();
    for &fault in Fault::ALL {
        let mut counts = Counts::default();
        let found = (0..SEEDS_PER_FAULT).find_map(|seed| {
            let failing = (fault == Fault::IgnoreFailedSync).then_some(20);
            Some((seed, run(seed, Some(fault), failing, &mut counts).err()?))
        });
        match found {
            Some((seed, Violation { law, .. })) => {
                println!("| {} | {} | {} | {law} |", fault.words(), seed + 1, counts.states);
            }
            None => unseen.push(fault.words()),
        }
    }
    assert!(unseen.is_empty(), "{unseen:#?}");
}

fn to_usize(number: u64) -> Option<usize> {
    usize::try_from(number).ok()
}

/// Processes of one seed.
const PROCESSES: usize = 5;
const STATES: u64 = 2_000;
const SEEDS_PER_FAULT: u64 = 60;
