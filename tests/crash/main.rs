//! A broker that is killed at random moments, and an account of all that it has acknowledged.
//!
//! Clients publish, retain, delete, subscribe and end sessions. After a random number of
//! acknowledgements or bytes the broker gets SIGKILL, and another one begins with what is on disk,
//! with another number of shards. Nothing acknowledged may be lost, no message at QoS 2 may come
//! twice, and nothing that was deleted or ended may come back.
//!
//! `CRASH_KILLS` and `CRASH_SEED` say how many kills there are, and which; see scripts/crash.sh.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod actor;
#[path = "../foreign/broker.rs"]
#[expect(dead_code, reason = "the foreign clients' tests use the rest of it")]
mod broker;
#[path = "../support/client.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod client;
mod disk_full;
mod full;
#[path = "../support/http.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod http;
mod ledger;
mod link;
#[path = "../simulation/random.rs"]
#[expect(dead_code, reason = "the simulation uses the rest of it")]
mod random;
mod roles;
#[path = "../support/source.rs"]
mod source;
mod world;

use std::{env, fs, path::Path, process::Command};

use world::World;

#[test]
fn what_was_acknowledged_survives_each_kill() {
    let kills = number("CRASH_KILLS").unwrap_or(KILLS);
    let seed = number("CRASH_SEED").unwrap_or(1);
    let mut world = World::begin(seed);
    for kill in 1..=kills {
        world.live_and_die();
        if kill % KILLS_BETWEEN_AUDITS == 0 || kill == kills {
            world.audit();
            println!("{kill} kills: {}", world.sum());
        }
        let findings = world.findings();
        let folder = world.folder().display();
        assert!(
            findings.is_empty(),
            "seed {seed}, kill {kill}, {folder}:\n{}",
            findings.join("\n")
        );
    }
    let folder = world.stop();
    assert!(ringmq_store("verify", &folder));
    fs::remove_dir_all(folder).unwrap();
}

/// Whether a tool finds nothing to say against a store.
fn ringmq_store(command: &str, folder: &Path) -> bool {
    let mut tool = Command::new(env!("CARGO_BIN_EXE_ringmq"));
    tool.args(["store", command]).arg(folder).status().unwrap().success()
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

/// Kills of the gate.
const KILLS: u64 = 36;
/// After so many kills all that is owed has to come.
const KILLS_BETWEEN_AUDITS: u64 = 12;
