//! Innocent clients beside each attack. `cargo test --release --test hostile beside -- --nocapture`
//! prints the tables of docs/hostile.md.

use std::{env, fs, sync::Arc, thread, time::Duration};

use base64ct::{Base64, Encoding};
use pbkdf2::pbkdf2_hmac;
use sha2::Sha512;

use crate::{
    attacks::{ATTACKS, Attack, DEAR},
    broker::Broker,
    client::memory,
    innocents::{Innocents, Login, Seen},
    link::{End, Target, now},
};

/// A stop takes at most `--stop-timeout`, which is 5 s by default, and what a busy machine adds.
const STOP_MAX: Duration = Duration::from_secs(10);
/// What only a hang exceeds.
const HANG: Duration = Duration::from_secs(10);
/// The law, which holds on a machine that has nothing else to do.
const P99_MAX: Duration = Duration::from_millis(250);
const WAIT_MAX: Duration = Duration::from_secs(1);
const LOGIN: (&str, &str) = ("innocent", "correct-horse");

/// The figures of one attack on one number of shards.
struct Row {
    messages: Seen,
    newcomers: Seen,
    /// The peak of the resident memory, in KiB.
    peak: u64,
    stop: Duration,
}

/// `HOSTILE_SHARDS=1,2,4` sets the numbers of shards, `HOSTILE_SECONDS=5` how long each attack
/// takes, and `HOSTILE_ONLY=WORDS` which attacks are run. `HOSTILE_LAW=1` holds the broker to 250
/// ms and 1 s.
#[test]
fn innocent_clients_go_on_beside_each_attack() {
    let text = |name| env::var(name).ok();
    let number = |text: &str| text.parse().expect("a number");
    let shards: Vec<usize> =
        text("HOSTILE_SHARDS").unwrap_or_else(|| "2".to_owned()).split(',').map(number).collect();
    let seconds = text("HOSTILE_SECONDS").map_or(2, |text| number(&text) as u64);
    let only = text("HOSTILE_ONLY").unwrap_or_default();
    let is_law = text("HOSTILE_LAW").is_some();
    println!(
        "| attack | shards | message p50, p99, max in ms | CONNACK p50, p99, max in ms \
         | lost, refused | peak memory | stop |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut broken = Vec::new();
    for attack in ATTACKS.iter().filter(|attack| attack.name.contains(&only)) {
        for &shards in &shards {
            let row = measure(attack, shards, Duration::from_secs(seconds));
            row.print(attack, shards);
            if !row.is_lawful(is_law) {
                broken.push((attack.name, shards));
            }
        }
    }
    assert_eq!(broken, []);
}

fn measure(attack: &Attack, shards: usize, time: Duration) -> Row {
    let users = attack.has_users.then(write_users);
    let mut flags = attack.flags.to_vec();
    flags.extend(users.iter().flat_map(|path| ["--password-file", path.as_str()]));
    let login: Login = attack.has_users.then_some(LOGIN);
    let mut broker = Broker::ringmq_with(shards, &flags);
    let target = Arc::new(Target { port: broker.port(), end: End::default() });
    let innocents = Innocents::begin(&target, login).expect("a broker at rest lets them in");
    let (victim, act) = (Arc::clone(&target), attack.act);
    let attacker = thread::spawn(move || act(&victim));
    target.pause(time);
    let is_over = attacker.is_finished();
    let (messages, newcomers) = innocents.end();
    let peak = memory(&broker, "VmHWM:");
    let stop = stop(&mut broker);
    target.end.declare();
    let ended = attacker.join().expect("it only tries");
    if let Some(error) = ended.err().filter(|_| is_over) {
        println!("`{}` was over early: {error}", attack.name);
    }
    Row { messages, newcomers, peak, stop }
}

/// Stops the broker in the middle of the attack. One that does not end is killed later.
fn stop(broker: &mut Broker) -> Duration {
    let asked = now();
    broker.ask_to_stop();
    broker.ends_within(STOP_MAX * 6);
    asked.elapsed()
}

impl Row {
    fn print(&self, attack: &Attack, shards: usize) {
        println!(
            "| {} | {shards} | {} | {} | {}, {} | {} MiB | {:.1} s |",
            attack.name,
            quantiles(&self.messages),
            quantiles(&self.newcomers),
            self.messages.failures,
            self.newcomers.failures,
            self.peak / 1024,
            self.stop.as_secs_f64(),
        );
    }

    fn is_lawful(&self, is_law: bool) -> bool {
        let (p99_max, max) = if is_law { (P99_MAX, WAIT_MAX) } else { (HANG, HANG) };
        [&self.messages, &self.newcomers]
            .iter()
            .all(|seen| seen.failures == 0 && seen.at(0.99) <= p99_max && seen.at(1.0) <= max)
            && self.stop <= STOP_MAX
    }
}

fn quantiles(seen: &Seen) -> String {
    let millis = |quantile| seen.at(quantile).as_secs_f64() * 1e3;
    format!("{:.1}, {:.1}, {:.0}", millis(0.5), millis(0.99), millis(1.0))
}

/// A password file with an innocent user, and one whose password takes long to check.
fn write_users() -> String {
    let path = format!("{}/hostile-users", env!("CARGO_TARGET_TMPDIR"));
    let line = |user: &str, password: &str, rounds| {
        let mut hash = [0; 64];
        let salt = b"a salt of theirs";
        pbkdf2_hmac::<Sha512>(password.as_bytes(), salt, rounds, &mut hash);
        let (salt, hash) = (Base64::encode_string(salt), Base64::encode_string(&hash));
        format!("{user}:$7${rounds}${salt}${hash}\n")
    };
    let users = line(LOGIN.0, LOGIN.1, 101) + &line(DEAR, "unknown", 100_000);
    fs::write(&path, users).expect("the folder for temporary files is writable");
    path
}
