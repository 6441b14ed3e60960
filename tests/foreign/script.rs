//! A client as a script of its own language: `PROGRAM PATH PORT`, one line `ok ...` for each
//! scenario that held, and `skipped ...: why` for each that the broker is not asked for.
//!
//! It knows neither MQTT nor what the scenarios are.

use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Output};

use crate::broker::{Broker, Kind};

pub(crate) struct Script {
    /// Found in the search path, unless it has a slash: then from the root of the repository.
    pub(crate) program: &'static str,
    pub(crate) path: &'static str,
}

/// Where a script finds the broker.
pub(crate) struct Door {
    pub(crate) port: u16,
    /// What it has to speak there, in variables of the environment.
    pub(crate) env: Vec<(&'static str, &'static str)>,
}

impl Script {
    /// Runs all scenarios, eleven in each version and those of 5.0 alone: none fails, and none is
    /// left out. ringmq is spared none; what mosquitto is spared has a reason.
    pub(crate) fn passes(&self, broker: &Broker, scenarios: usize) {
        let door = match broker.websocket_port() {
            Some(port) => Door { port, env: vec![("TRANSPORT", "websockets")] },
            None => Door { port: broker.port(), env: vec![("TRANSPORT", "tcp")] },
        };
        self.passes_at(broker, &door, scenarios);
    }

    pub(crate) fn passes_at(&self, broker: &Broker, door: &Door, scenarios: usize) {
        let output = self.run(broker, door);
        let said = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} ({}):\n{said}{error}", self.path, output.status);
        let held = said.lines().filter(|line| line.starts_with("ok ")).count();
        let spared = match broker.kind() {
            Kind::Ringmq => 0,
            Kind::Mosquitto => said.lines().filter(|line| is_spared(line)).count(),
        };
        assert_eq!(held + spared, scenarios, "{} left scenarios out:\n{said}{error}", self.path);
    }

    /// `timeout` ends whatever the script has started, too.
    fn run(&self, broker: &Broker, door: &Door) -> Output {
        if self.program.contains('/') {
            requires(self.program);
        }
        let output = Command::new("timeout")
            .args(["--kill-after=5", SECONDS_MAX, self.program, self.path])
            .arg(door.port.to_string())
            .env("BROKER", name(broker.kind()))
            .envs(door.env.iter().copied())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(ROOT)
            .output();
        if let Err(error) = &output {
            assert_ne!(error.kind(), ErrorKind::NotFound, "{MISSING}: timeout");
        }
        let output = output.expect("a process can be started");
        assert_ne!(output.status.code(), Some(NOT_FOUND), "{MISSING}: {}", self.program);
        output
    }
}

/// Fails the test, in one line, if what `scripts/test.sh` installs is not there.
pub(crate) fn requires(path: &str) {
    assert!(Path::new(ROOT).join(path).exists(), "{MISSING}: {path}");
}

fn is_spared(line: &str) -> bool {
    line.starts_with("skipped ") && line.split_once(": ").is_some_and(|(_, why)| !why.is_empty())
}

/// Scripts forgive mosquitto what they do not forgive ringmq.
fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Ringmq => "ringmq",
        Kind::Mosquitto => "mosquitto",
    }
}

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const MISSING: &str = "not installed, please run scripts/test.sh";
/// Ends a script that hangs. Each of its calls has a limit of its own; mosquitto alone takes a
/// tenth of a second for each packet over WebSocket.
const SECONDS_MAX: &str = "300";
/// What `timeout` ends with if it finds no such program.
const NOT_FOUND: i32 = 127;
