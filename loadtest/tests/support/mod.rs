//! A broker in a process of its own, and the command under test.

use std::{
    io::{BufRead, BufReader, Lines},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
};

/// What listens on a port that the kernel chose, and ends with this value.
pub(crate) struct Broker {
    process: Child,
    port: u16,
    /// Kept open: what says more must not fail for it.
    _output: Lines<BufReader<ChildStdout>>,
}

impl Broker {
    pub(crate) fn start(shards: usize) -> Broker {
        Broker::start_with(shards, &[])
    }

    pub(crate) fn start_with(shards: usize, flags: &[&str]) -> Broker {
        let shards = shards.to_string();
        let mut command = Command::new(ringmq());
        command.args(["--listen", "127.0.0.1:0", "--shards", &shards]).args(flags);
        Broker::spawn(command)
    }

    /// What acknowledges everything and loses it.
    pub(crate) fn start_sink() -> Broker {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        command.args(["sink", "--port", "0", "--threads", "2"]);
        Broker::spawn(command)
    }

    /// Starts what says on its output where it listens.
    fn spawn(mut command: Command) -> Broker {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| port_in(&line.unwrap()));
        let port = port.expect("it says where it listens");
        Broker { process, port, _output: lines }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn port_in(line: &str) -> Option<u16> {
    line.split_once("listening on 127.0.0.1:")?.1.parse().ok()
}

pub(crate) fn loadtest(flags: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).args(flags).output().unwrap()
}

/// The broker stands beside the command; it is built if this package alone is tested.
fn ringmq() -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_loadtest")).with_file_name("ringmq");
    if !binary.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "ringmq", "--bin", "ringmq"]);
        assert!(build.status().unwrap().success(), "the broker is built");
    }
    binary
}
