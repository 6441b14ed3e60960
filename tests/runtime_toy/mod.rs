//! A brain that knows no MQTT, and what is needed to run it in a test.
//!
//! It takes lines. A line is echoed, unless it is a command:
//!
//! | line | what it does |
//! |---|---|
//! | `!home N` | hands the connection over to shard N, which takes the line and echoes it |
//! | `!pause` | pauses; resumed by time, 20 ms later |
//! | `!give N` | sends N bytes, by reference |
//! | `!fill N` | sends blocks of 1,000 bytes while there is room, N in all, as the outbox drains |
//! | `!verify` | answers `passed` when another thread has said so |
//! | `!nap` | pauses 5 ms later, for 20 ms |
//! | `!block N` | echoes the N bytes that follow, when they are all there, by reference |
//! | `!bye` | says `bye` and closes with a flush |
//! | `!abort` | closes at once |
//! | `!relay N` | asks shard N by a letter, and answers `relayed` when that has answered |
//! | `!note` | counts itself |
//! | `!noted` | answers how many notes there were |
//! | `!tell` | answers with what the brain has counted |
//! | `!refused` | answers with what the runtime has counted of WebSockets |

use std::{
    collections::VecDeque,
    env,
    io::{BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use ringmq::{
    base::{
        ids::{ConnectionId, ShardId},
        time::{Moment, Span},
    },
    runtime::{Fault, IoMode, RuntimeConfig, Started, run},
    shard::{
        letter::{Letter, LetterBatch},
        ports::{Arrival, Brain, Closing, End, Finding, Payer, Ports},
        rules::Rules,
    },
    transport::{Listener, websocket::HandshakePolicy},
};

pub(crate) struct Toy {
    me: ShardId,
    resumes: VecDeque<(Moment, ConnectionId)>,
    naps: VecDeque<(Moment, ConnectionId)>,
    fills: Vec<(ConnectionId, usize)>,
    ended: [u32; 8],
    /// Connections that wait for a letter, by the number of the letter that they have sent.
    relays: VecDeque<(u64, ConnectionId)>,
    letters_sent: u64,
    /// Connections that wait for a thread.
    unverified: VecDeque<ConnectionId>,
    notes: u32,
}

impl Toy {
    pub(crate) fn new(me: ShardId) -> Toy {
        Toy {
            me,
            resumes: VecDeque::new(),
            naps: VecDeque::new(),
            fills: Vec::new(),
            ended: [0; 8],
            relays: VecDeque::new(),
            letters_sent: 0,
            unverified: VecDeque::new(),
            notes: 0,
        }
    }

    fn verify(&mut self, ports: &mut impl Ports) {
        while ports.can_verify()
            && let Some(id) = self.unverified.pop_front()
        {
            ports.verify(id, Box::new(|| Finding::Right));
        }
    }

    /// Whether further lines can be taken now.
    fn take_line(
        &mut self,
        now: Moment,
        id: ConnectionId,
        line: &[u8],
        ports: &mut impl Ports,
    ) -> bool {
        let text = std::str::from_utf8(line).unwrap_or("").trim_end();
        let (command, number) = text.split_once(' ').unwrap_or((text, "0"));
        let number: usize = number.parse().unwrap_or(0);
        match command {
            "!pause" => {
                ports.pause(id);
                self.resumes.push_back((now + Span::from_millis(20), id));
                return false;
            }
            "!nap" => self.naps.push_back((now + Span::from_millis(5), id)),
            "!blink" => {
                ports.pause(id);
                ports.resume(id);
                return false;
            }
            "!give" => {
                let payload: Vec<u8> = (0..=250).cycle().take(number).collect();
                ports.send_shared(id, b"", &Bytes::from(payload));
            }
            "!fill" => {
                self.fills.push((id, number));
                self.fill(id, ports);
            }
            "!verify" => {
                ports.pause(id);
                self.unverified.push_back(id);
                self.verify(ports);
                return false;
            }
            "!bye" => {
                ports.send(id, b"bye\n");
                ports.close(id, Closing::Flush);
                return false;
            }
            "!abort" => {
                ports.close(id, Closing::Abort);
                return false;
            }
            "!relay" => {
                let to = ShardId::new(number).unwrap_or(self.me);
                self.letters_sent += 1;
                self.relays.push_back((self.letters_sent, id));
                let upto = self.letters_sent << 8 | self.me.index() as u64;
                ports.letters(to).push(Letter::InterestApplied { upto });
            }
            "!note" => self.notes += 1,
            "!noted" => ports.send(id, format!("noted {}\n", self.notes).as_bytes()),
            "!tell" => {
                let [finished, broken @ ..] = self.ended;
                let broken: u32 = broken.iter().sum();
                let refused = ports.load().connections_refused;
                let told = format!("finished {finished} broken {broken} refused {refused}\n");
                ports.send(id, told.as_bytes());
            }
            "!refused" => {
                let [_, _, handshakes, frames, ..] = self.ended;
                let told = format!("handshakes {handshakes} frames {frames}\n");
                ports.send(id, told.as_bytes());
            }
            _ => ports.send(id, line),
        }
        true
    }

    fn fill(&mut self, id: ConnectionId, ports: &mut impl Ports) {
        let Some(place) = self.fills.iter().position(|(filled, _)| *filled == id) else { return };
        let left = &mut self.fills[place].1;
        while *left > 0 && ports.outbox_room(id) > 0 {
            ports.send(id, &[b'x'; 1_000]);
            *left -= 1;
        }
        if *left == 0 {
            self.fills.swap_remove(place);
        } else {
            ports.notify_drained(id);
        }
    }
}

/// The home that a `!home` line names.
fn home(line: &[u8]) -> Option<ShardId> {
    let number = std::str::from_utf8(line).ok()?.strip_prefix("!home ")?;
    ShardId::new(number.trim_end().parse().ok()?)
}

/// The size of the block that follows a `!block` line.
fn block(line: &[u8]) -> Option<usize> {
    let number = std::str::from_utf8(line).ok()?.strip_prefix("!block ")?;
    number.strip_suffix('\n')?.parse().ok()
}

impl Brain for Toy {
    fn handle_accepted(
        &mut self,
        _: Moment,
        connection: ConnectionId,
        arrival: Arrival,
        ports: &mut impl Ports,
    ) {
        assert!(arrival.peer.ip().is_loopback());
        // Each connection pays for itself.
        ports.bill(connection, Payer { account: connection.slot.into(), is_let_in: true });
    }

    fn handle_bytes(
        &mut self,
        now: Moment,
        id: ConnectionId,
        bytes: &[u8],
        ports: &mut impl Ports,
    ) -> usize {
        let mut taken = 0;
        while let Some(end) = bytes[taken..].iter().position(|&byte| byte == b'\n') {
            let line = &bytes[taken..=taken + end];
            if let Some(size) = block(line) {
                let Some(block) = bytes.get(taken..taken + line.len() + size) else { break };
                taken += block.len();
                let block = ports.share(block);
                ports.send_shared(id, b"", &block.slice(line.len()..));
                continue;
            }
            if let Some(home) = home(line).filter(|&home| home != self.me) {
                ports.hand_over(id, home);
                return taken;
            }
            taken += end + 1;
            if !self.take_line(now, id, line, ports) {
                break;
            }
        }
        taken
    }

    fn packet_size(&self, _: ConnectionId, begun: &[u8]) -> Option<usize> {
        let line = begun.split_inclusive(|&byte| byte == b'\n').next()?;
        Some(line.len() + block(line)?)
    }

    fn handle_end(&mut self, _: Moment, id: ConnectionId, end: End, ports: &mut impl Ports) {
        self.ended[match end {
            End::Finished => 0,
            End::Broken => 1,
            End::HandshakeRefused => 2,
            End::FramesRefused => 3,
            End::TlsFailed(_) | End::ProxyRefused(_) => 4,
            End::PartialOverflow => 5,
            End::PacketTimeout => 6,
            End::Stalled => 7,
        }] += 1;
        self.fills.retain(|(filled, _)| *filled != id);
        if matches!(end, End::Finished | End::PacketTimeout | End::Stalled) {
            ports.close(id, Closing::Flush);
        }
    }

    fn handle_drained(&mut self, _: Moment, id: ConnectionId, ports: &mut impl Ports) {
        self.fill(id, ports);
    }

    /// A letter carries a number and who asked; it comes back as it was.
    fn handle_letters(
        &mut self,
        _: Moment,
        from: ShardId,
        letters: &LetterBatch,
        ports: &mut impl Ports,
    ) -> usize {
        for letter in letters.iter() {
            let Letter::InterestApplied { upto } = *letter else { continue };
            let answers = upto & 0xFF == self.me.index() as u64;
            let waiting = self.relays.front().filter(|(number, _)| *number == upto >> 8).copied();
            match waiting.filter(|_| answers) {
                Some((_, id)) => {
                    self.relays.pop_front();
                    ports.send(id, b"relayed\n");
                }
                None => ports.letters(from).push(Letter::InterestApplied { upto }),
            }
        }
        letters.iter().count()
    }

    fn handle_posted(&mut self, _: Moment, _: ShardId, _: &mut impl Ports) {}

    fn handle_verdict(
        &mut self,
        _: Moment,
        id: ConnectionId,
        finding: Finding,
        ports: &mut impl Ports,
    ) {
        self.verify(ports);
        ports.send(id, if finding == Finding::Right { b"passed\n" } else { b"failed\n" });
        ports.resume(id);
    }

    fn handle_time(&mut self, now: Moment, ports: &mut impl Ports) {
        while let Some((_, id)) = self.resumes.pop_front_if(|(at, _)| *at <= now) {
            ports.resume(id);
        }
        while let Some((_, id)) = self.naps.pop_front_if(|(at, _)| *at <= now) {
            ports.pause(id);
            self.resumes.push_back((now + Span::from_millis(20), id));
        }
    }

    fn next_deadline(&self) -> Option<Moment> {
        let (resume, nap) = (self.resumes.front(), self.naps.front());
        resume.into_iter().chain(nap).map(|&(at, _)| at).min()
    }

    fn handle_rules(&mut self, _: Moment, _: &Arc<Rules>, _: &mut impl Ports) {}
    fn handle_stop(&mut self, _: Moment, _: &mut impl Ports) {}
}

/// A running broker, stopped when it is dropped.
pub(crate) struct Running {
    pub(crate) started: Started,
    thread: Option<JoinHandle<Result<(), Fault>>>,
}

pub(crate) fn config(shards: usize) -> RuntimeConfig {
    RuntimeConfig {
        cpus: (0..shards).collect(),
        listeners: vec![
            Listener::tcp(ANY_PORT),
            Listener::websocket(ANY_PORT, HandshakePolicy::default()),
        ],
        io: io(),
        ring_entries: 1024,
        recv_buffers: 256,
        recv_buffer_bytes: 4096,
        busy_poll: Span::ZERO,
        outbox_bytes_max: 256 << 10,
        connections_max: 100_000,
        connections_surplus: 0,
        flush_time_max: Span::from_secs(5),
        stop_time_max: Span::from_secs(10),
        partial_bytes_max: 64 << 20,
        stranger_bytes_max: 64 << 20,
        packet_timeout: Span::from_secs(60),
        stalled_timeout: Span::from_secs(60),
        signals: None,
    }
}

/// What the shards wait by: the variable of the broker says it, and the test target `runtime_poll`
/// is always by epoll.
fn io() -> IoMode {
    let is_wanted = env::var_os("RINGMQ_IO").is_some_and(|io| io == "poll");
    if is_wanted || env!("CARGO_CRATE_NAME") == "runtime_poll" {
        IoMode::Poll
    } else {
        IoMode::Ring
    }
}

pub(crate) fn start(config: RuntimeConfig) -> Running {
    start_with(config, Toy::new)
}

pub(crate) fn start_with<B: Brain + 'static>(
    config: RuntimeConfig,
    make: impl Fn(ShardId) -> B + Send + Clone + 'static,
) -> Running {
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        let on_ready = |started: &Started| {
            let Started { listeners, cpus, io, connections_max, stop, shards } = started;
            let started = Started {
                listeners: listeners.clone(),
                cpus: cpus.clone(),
                io: *io,
                connections_max: *connections_max,
                stop: stop.clone(),
                shards: shards.clone(),
            };
            tell.send(started).expect("the test waits");
        };
        run(&config, make, on_ready, |_| {}).map(drop)
    });
    let started = told.recv_timeout(PATIENCE).expect("the broker starts");
    Running { started, thread: Some(thread) }
}

impl Running {
    /// The address of a listener: the first is for TCP, the second for WebSocket.
    pub(crate) fn address(&self, listener: usize) -> SocketAddr {
        self.started.listeners[listener].address.ip().expect("the toy listens on addresses")
    }

    pub(crate) fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.address(0)).expect("it listens"))
    }

    pub(crate) fn stop(self) -> Result<(), Fault> {
        self.started.stop.stop();
        self.wait()
    }

    /// Waits for a broker that was told to stop.
    pub(crate) fn wait(mut self) -> Result<(), Fault> {
        self.thread.take().map_or(Ok(()), |thread| thread.join().expect("it does not panic"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.started.stop.stop();
            let ended = thread.join();
            if !thread::panicking() {
                ended.expect("it does not panic").expect("it ends in order");
            }
        }
    }
}

/// A client that never waits for longer than [`PATIENCE`].
pub(crate) struct Client {
    pub(crate) socket: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn new(socket: TcpStream) -> Client {
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_nodelay(true).expect("an option");
        let reader = BufReader::new(socket.try_clone().expect("a descriptor"));
        Client { socket, reader }
    }

    pub(crate) fn say(&mut self, text: impl AsRef<[u8]>) {
        self.socket.write_all(text.as_ref()).expect("the broker reads");
    }

    /// The next line, without its end; empty at the end of the stream.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a line in time");
        line.trim_end().to_owned()
    }

    pub(crate) fn ask(&mut self, text: &str) -> String {
        self.say(format!("{text}\n"));
        self.line()
    }

    pub(crate) fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        std::io::Read::read_exact(&mut self.reader, &mut bytes).expect("bytes in time");
        bytes
    }
}

/// A port of this machine that the system picks.
pub(crate) const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
