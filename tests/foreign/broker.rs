//! A broker in a process of its own, on a port that the kernel chose, ended by its process id.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// Which broker it is, for what the two do differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ringmq,
    Mosquitto,
}

pub(crate) struct Broker {
    kind: Kind,
    process: Child,
    port: u16,
    websocket_port: Option<u16>,
    /// Both of its streams; closed when both have ended.
    lines: Receiver<String>,
    log: Vec<String>,
}

impl Broker {
    pub(crate) fn ringmq(shards: usize) -> Self {
        Self::ringmq_with(shards, &[])
    }

    /// With more flags than the number of shards.
    pub(crate) fn ringmq_with(shards: usize, flags: &[&str]) -> Self {
        Self::ringmq_at(shards, "127.0.0.1:0", flags)
    }

    /// Listening at this address of this machine.
    pub(crate) fn ringmq_at(shards: usize, address: &str, flags: &[&str]) -> Self {
        let mut broker = Self::ringmq_about_to_listen(shards, address, flags);
        broker.port = broker.await_line(port_in_banner).expect("ringmq says where it listens");
        broker
    }

    /// With a configuration file whose first listener is plain and on the loopback address.
    pub(crate) fn ringmq_configured(file: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
        let mut broker = Self::start(Kind::Ringmq, command.args(["--config", file]), 0);
        broker.port = broker.await_line(port_in_banner).expect("ringmq says where it listens");
        broker
    }

    /// The same, which may not listen yet. `RINGMQ` names another build to run.
    pub(crate) fn ringmq_about_to_listen(shards: usize, address: &str, flags: &[&str]) -> Self {
        let other = env::var_os("RINGMQ");
        let mut command =
            Command::new(other.unwrap_or_else(|| env!("CARGO_BIN_EXE_ringmq").into()));
        command.args(["--listen", address, "--shards", &shards.to_string()]).args(flags);
        Self::start(Kind::Ringmq, &mut command, 0)
    }

    /// With these variables in its environment.
    pub(crate) fn ringmq_in(environment: &[(&str, &str)], flags: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
        Self::ringmq_by(command.envs(environment.iter().copied()), flags)
    }

    /// Started by this command.
    pub(crate) fn ringmq_by(command: &mut Command, flags: &[&str]) -> Self {
        command.args(["--listen", "127.0.0.1:0"]).args(flags);
        let mut broker = Self::start(Kind::Ringmq, command, 0);
        broker.port = broker.await_line(port_in_banner).expect("ringmq says where it listens");
        broker
    }

    /// With more flags, and a listener for MQTT over WebSocket.
    pub(crate) fn ringmq_with_websocket(shards: usize, flags: &[&str]) -> Self {
        let flags = [&["--listen-websocket", "127.0.0.1:0"], flags].concat();
        let mut broker = Self::ringmq_with(shards, &flags);
        broker.websocket_port = broker.await_line(websocket_port_in_banner);
        assert!(broker.websocket_port.is_some(), "ringmq says where it listens");
        broker
    }

    /// Mosquitto cannot ask the kernel for a port, so another process may take the one it is given.
    pub(crate) fn mosquitto() -> Self {
        (0..ATTEMPTS_MAX)
            .find_map(|_| Self::mosquitto_on(free_port(), None, ""))
            .expect("mosquitto is running; please run scripts/test.sh if it is not installed")
    }

    /// With more lines in its configuration.
    pub(crate) fn mosquitto_with(lines: &str) -> Self {
        (0..ATTEMPTS_MAX)
            .find_map(|_| Self::mosquitto_on(free_port(), None, lines))
            .expect("mosquitto is running; please run scripts/test.sh if it is not installed")
    }

    pub(crate) fn mosquitto_with_websocket() -> Self {
        (0..ATTEMPTS_MAX)
            .find_map(|_| Self::mosquitto_on(free_port(), Some(free_port()), ""))
            .expect("mosquitto is running; please run scripts/test.sh if it is not installed")
    }

    fn mosquitto_on(port: u16, websocket_port: Option<u16>, lines: &str) -> Option<Self> {
        // Debian keeps servers out of an ordinary user's search path.
        let mut command = Command::new("/usr/sbin/mosquitto");
        command.arg("-c").arg(mosquitto_config(port, websocket_port, lines));
        let mut broker = Self::start(Kind::Mosquitto, &mut command, port);
        broker.websocket_port = websocket_port;
        broker.await_line(|line| line.ends_with(" running").then_some(()))?;
        Some(broker)
    }

    fn start(kind: Kind, command: &mut Command, port: u16) -> Self {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("not installed, please run scripts/test.sh");
        let (sender, lines) = channel();
        read_lines(process.stdout.take().expect("its output is a pipe"), sender.clone());
        read_lines(process.stderr.take().expect("its errors are a pipe"), sender);
        Self { kind, process, port, websocket_port: None, lines, log: Vec::new() }
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn websocket_port(&self) -> Option<u16> {
        self.websocket_port
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Asks it to end, which it does in order and soon.
    pub(crate) fn stop(mut self) {
        self.ask_to_stop();
        self.await_end();
    }

    pub(crate) fn ask_to_stop(&self) {
        self.signal("TERM");
    }

    /// Sends a signal, such as HUP.
    pub(crate) fn signal(&self, name: &str) {
        // The shell has the command built in; a package of it may be missing.
        let asked = Command::new("sh")
            .args(["-c", &format!("kill -{name} $0"), &self.pid().to_string()])
            .status()
            .expect("a shell can be started");
        assert!(asked.success(), "{:?} ended before it was asked to", self.kind);
    }

    pub(crate) fn await_end(&mut self) {
        assert!(self.ends_within(PATIENCE), "{:?} does not end", self.kind);
        let status = self.process.wait().expect("its status is known");
        assert!(status.success(), "{:?} ended with {status}", self.kind);
    }

    /// Waits until it has said these words, and says in which line.
    pub(crate) fn await_words(&mut self, words: &str) -> String {
        let line = self.await_line(|line| line.contains(words).then(|| line.to_owned()));
        line.expect(words)
    }

    /// Waits until it listens for this scheme, for example `mqtts`, and says on which port.
    pub(crate) fn await_port(&mut self, scheme: &str) -> u16 {
        let line = self.await_words(&format!("listening on {scheme}://"));
        let address = line.trim_end().rsplit("://").next().expect("the line has an address");
        let digits = address.rsplit(':').next().and_then(|rest| rest.split('/').next());
        digits.and_then(|digits| digits.parse().ok()).expect("the address ends with a port")
    }

    /// Whether a line that was awaited, or that came before it, has these words.
    pub(crate) fn has_said(&self, words: &str) -> bool {
        self.log.iter().any(|line| line.contains(words))
    }

    fn await_line<T>(&mut self, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).ok()?;
            let found = find(&line);
            self.log.push(line);
            if found.is_some() {
                return found;
            }
        }
    }

    /// Whether it ends without being silent for so long before.
    pub(crate) fn ends_within(&mut self, patience: Duration) -> bool {
        loop {
            match self.lines.recv_timeout(patience) {
                Ok(line) => self.log.push(line),
                Err(error) => return error == RecvTimeoutError::Disconnected,
            }
        }
    }
}

/// Whatever became of the test, no broker outlives it; if it failed, its log is worth reading.
impl Drop for Broker {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.log.extend(self.lines.try_iter());
        if thread::panicking() {
            eprintln!("{:?} said:\n{}", self.kind, self.log.join("\n"));
        }
    }
}

fn read_lines(stream: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // Nobody listens any more: the test is over, and so is the broker.
            if lines.send(line).is_err() {
                break;
            }
        }
    });
}

/// The number in a line like `listening on 127.0.0.1:1883`.
fn port_in_banner(line: &str) -> Option<u16> {
    port_after("listening on 127.0.0.1:", line)
}

/// The number in a line like `listening on ws://127.0.0.1:8083/mqtt`.
fn websocket_port_in_banner(line: &str) -> Option<u16> {
    port_after("listening on ws://127.0.0.1:", line)
}

fn port_after(words: &str, line: &str) -> Option<u16> {
    let (_, rest) = line.split_once(words)?;
    rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}

/// Its own limit of 20 messages in flight makes it lose track of QoS 2 under a faster client. It
/// announces a Maximum Packet Size only if it is told one.
fn mosquitto_config(port: u16, websocket_port: Option<u16>, lines: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("mosquitto-{port}.conf"));
    let websocket = websocket_port
        .map(|port| format!("listener {port} 127.0.0.1\nprotocol websockets\n"))
        .unwrap_or_default();
    let config = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nlog_dest stderr\n\
         max_inflight_messages 100\nmax_packet_size 1048576\n{lines}{websocket}"
    );
    fs::write(&path, config).expect("the folder for temporary files is writable");
    path
}

const PATIENCE: Duration = Duration::from_secs(10);
const ATTEMPTS_MAX: usize = 3;
