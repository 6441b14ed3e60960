//! The physical limit of the broker: its runtime and its ring, which copy bytes from publishers to
//! subscribers and do nothing else.
//!
//! ```text
//! null_relay --serve CPU     a relay with one shard on that CPU, until it is told to stop
//! null_relay                 a relay that relays once, to show that it does
//! ```
//! MQTT is spoken as far as a client needs it to begin: CONNECT and SUBSCRIBE are answered, and
//! the first PUBLISH of a connection says where its bytes go from then on. After that packets are
//! told apart by their lengths only: runs of them are copied as they have come, at QoS 0.

use std::{
    env,
    error::Error,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use ringmq::{
    base::{
        ids::{ConnectionId, ShardId},
        time::{Moment, Span},
    },
    mqtt::{
        Connack, ConnackProperties, Connect, Delivery, Packet, PacketId, Publish,
        PublishProperties, QoS, ReasonCode, ReasonProperties, Suback, Subscribe, SubscribeFilters,
        SubscriptionOptions, UserProperties, Version, frame,
    },
    runtime::{Allocator, HangUps, IoMode, RuntimeConfig, Started, run},
    shard::{
        letter::LetterBatch,
        ports::{Arrival, Brain, Closing, End, Finding, Ports},
        rules::Rules,
    },
    topic::{TopicFilter, TopicName},
    transport::Listener,
};

/// The broker's own.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--serve", cpu] => serve(cpu.parse()?),
        _ => relay_once(),
    }
}

fn serve(cpu: usize) -> Result<(), Box<dyn Error>> {
    run(&config(cpu, true), |_| Relay::default(), announce, |_| {})?;
    Ok(())
}

/// As the broker does it, so that a script can wait for either.
fn announce(started: &Started) {
    println!("null relay\nlistening on {}", started.listeners[0].address);
}

/// The broker's defaults.
fn config(cpu: usize, handle_signals: bool) -> RuntimeConfig {
    RuntimeConfig {
        cpus: vec![cpu],
        listeners: vec![Listener::tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))],
        io: IoMode::Auto,
        ring_entries: 1024,
        recv_buffers: 256,
        recv_buffer_bytes: 16 << 10,
        busy_poll: Span::ZERO,
        outbox_bytes_max: 1 << 20,
        connections_max: 20_000,
        connections_surplus: 0,
        flush_time_max: Span::from_secs(5),
        stop_time_max: Span::from_secs(10),
        partial_bytes_max: 64 << 20,
        stranger_bytes_max: 64 << 20,
        packet_timeout: Span::from_secs(60),
        stalled_timeout: Span::from_secs(60),
        signals: handle_signals.then(|| HangUps::catch().expect("signals can be handled")),
    }
}

/// Runs of packets from this size on are referenced, as the broker references large payloads.
const SHARED_BYTES_MIN: usize = 32 << 10;

/// Where everybody's bytes go.
#[derive(Default)]
struct Relay {
    /// By the connection's slot.
    clients: Vec<Option<Client>>,
    /// Publishers that wait until a subscriber has read.
    stalled: Vec<ConnectionId>,
}

struct Client {
    id: ConnectionId,
    version: Version,
    filters: Vec<String>,
    /// Who gets what this client publishes; known from its first PUBLISH on.
    targets: Option<Vec<ConnectionId>>,
}

impl Relay {
    fn client(&mut self, id: ConnectionId) -> &mut Client {
        self.clients[id.slot as usize].as_mut().expect("it has been accepted")
    }

    /// Those with a filter for the topic of the PUBLISH that `frame` is.
    fn targets(&self, frame: frame::Frame<'_>, version: Version) -> Vec<ConnectionId> {
        let Ok(Packet::Publish(publish)) = Packet::decode(frame, version) else {
            return Vec::new();
        };
        let Ok(topic) = TopicName::parse(publish.topic) else { return Vec::new() };
        let wants =
            |filter: &String| TopicFilter::parse(filter).is_ok_and(|filter| filter.matches(topic));
        let wanting =
            self.clients.iter().flatten().filter(|client| client.filters.iter().any(wants));
        wanting.map(|client| client.id).collect()
    }

    /// Copies whole PUBLISH packets from the front of `bytes`; says how many bytes were copied.
    fn relay(&mut self, id: ConnectionId, bytes: &[u8], ports: &mut impl Ports) -> usize {
        let taken = publishes(bytes);
        let Some(targets) = self.client(id).targets.take() else { return 0 };
        if let Some(&full) = targets.iter().find(|&&target| ports.outbox_room(target) == 0) {
            ports.notify_drained(full);
            ports.pause(id);
            self.stalled.push(id);
            self.client(id).targets = Some(targets);
            return 0;
        }
        let large = (taken >= SHARED_BYTES_MIN).then(|| ports.share(&bytes[..taken]));
        for &target in &targets {
            match &large {
                Some(packets) => ports.send_shared(target, b"", packets),
                None => ports.send(target, &bytes[..taken]),
            }
        }
        self.client(id).targets = Some(targets);
        taken
    }

    /// Answers one packet that is no PUBLISH. False: the client has gone.
    fn answer(&mut self, id: ConnectionId, packet: &Packet<'_>, ports: &mut impl Ports) -> bool {
        let mut answer = Vec::new();
        let version = self.client(id).version;
        match packet {
            Packet::Connect(connect) => {
                self.client(id).version = connect.version;
                let connack = Connack {
                    session_present: false,
                    reason_code: ReasonCode::Success,
                    properties: ConnackProperties::default(),
                };
                Packet::Connack(connack).encode(connect.version, &mut answer);
            }
            Packet::Subscribe(subscribe) => {
                let filters = subscribe.filters.iter().map(|(filter, _)| filter.to_owned());
                let filters: Vec<String> = filters.collect();
                let suback = Suback {
                    packet_id: subscribe.packet_id,
                    properties: ReasonProperties::default(),
                    reason_codes: &vec![0; filters.len()],
                };
                Packet::Suback(suback).encode(version, &mut answer);
                self.client(id).filters.extend(filters);
            }
            Packet::Pingreq => Packet::Pingresp.encode(version, &mut answer),
            _ => {
                self.clients[id.slot as usize] = None;
                ports.close(id, Closing::Flush);
                return false;
            }
        }
        ports.send(id, &answer);
        true
    }
}

/// How many bytes at the front are whole PUBLISH packets.
fn publishes(bytes: &[u8]) -> usize {
    let mut taken = 0;
    while bytes.get(taken).is_some_and(|first| first >> 4 == 3) {
        let Ok(Some(frame)) = frame::split(&bytes[taken..], frame::PACKET_SIZE_MAX) else { break };
        taken += frame.len;
    }
    taken
}

impl Brain for Relay {
    fn handle_accepted(&mut self, _: Moment, id: ConnectionId, _: Arrival, _: &mut impl Ports) {
        let slot = id.slot as usize;
        if self.clients.len() <= slot {
            self.clients.resize_with(slot + 1, || None);
        }
        let client = Client { id, version: Version::V311, filters: Vec::new(), targets: None };
        self.clients[slot] = Some(client);
    }

    fn handle_bytes(
        &mut self,
        _: Moment,
        id: ConnectionId,
        bytes: &[u8],
        ports: &mut impl Ports,
    ) -> usize {
        let mut taken = 0;
        while let Ok(Some(frame)) = frame::split(&bytes[taken..], frame::PACKET_SIZE_MAX) {
            let version = self.client(id).version;
            if frame.first >> 4 == 3 {
                if self.client(id).targets.is_none() {
                    self.client(id).targets = Some(self.targets(frame, version));
                }
                let relayed = self.relay(id, &bytes[taken..], ports);
                taken += relayed;
                if relayed == 0 {
                    break;
                }
                continue;
            }
            let Ok(packet) = Packet::decode(frame, version) else { break };
            taken += frame.len;
            if !self.answer(id, &packet, ports) {
                break;
            }
        }
        taken
    }

    fn packet_size(&self, _: ConnectionId, begun: &[u8]) -> Option<usize> {
        frame::packet_size(begun)
    }

    fn handle_end(&mut self, _: Moment, id: ConnectionId, end: End, ports: &mut impl Ports) {
        self.clients[id.slot as usize] = None;
        if end == End::Finished {
            ports.close(id, Closing::Flush);
        }
    }

    fn handle_drained(&mut self, _: Moment, _: ConnectionId, ports: &mut impl Ports) {
        for publisher in self.stalled.drain(..) {
            ports.resume(publisher);
        }
    }

    fn handle_letters(
        &mut self,
        _: Moment,
        _: ShardId,
        letters: &LetterBatch,
        _: &mut impl Ports,
    ) -> usize {
        letters.iter().count()
    }
    fn handle_posted(&mut self, _: Moment, _: ShardId, _: &mut impl Ports) {}
    fn handle_verdict(&mut self, _: Moment, _: ConnectionId, _: Finding, _: &mut impl Ports) {}
    fn handle_time(&mut self, _: Moment, _: &mut impl Ports) {}

    fn next_deadline(&self) -> Option<Moment> {
        None
    }

    fn handle_rules(&mut self, _: Moment, _: &Arc<Rules>, _: &mut impl Ports) {}
    fn handle_stop(&mut self, _: Moment, _: &mut impl Ports) {}
}

/// One message from one client to another.
fn relay_once() -> Result<(), Box<dyn Error>> {
    let (tell, told) = mpsc::channel();
    let relay = thread::spawn(move || {
        let started = |started: &Started| {
            tell.send((started.listeners[0].address.clone(), started.stop.clone()))
        };
        run(
            &config(0, false),
            |_| Relay::default(),
            |told| started(told).expect("it is waited for"),
            |_| {},
        )
    });
    let (address, stop) = told.recv_timeout(PATIENCE)?;
    let address = address.ip().ok_or("it listens on TCP")?;
    let mut subscriber = connect(address)?;
    let filters = [("a/+", SubscriptionOptions::with_qos(QoS::AtMostOnce))];
    let subscribe = Packet::Subscribe(Subscribe {
        packet_id: PacketId::MIN,
        subscription_identifier: None,
        user_properties: UserProperties::default(),
        filters: SubscribeFilters::List(&filters),
    });
    subscriber.write_all(&encode(&subscribe))?;
    subscriber.read_exact(&mut [0; 5])?;
    let publish = encode(&Packet::Publish(Publish {
        dup: false,
        retain: false,
        delivery: Delivery::AtMostOnce,
        topic: "a/b",
        properties: PublishProperties::default(),
        payload: b"relayed",
    }));
    connect(address)?.write_all(&publish)?;
    let mut received = vec![0; publish.len()];
    subscriber.read_exact(&mut received)?;
    assert_eq!(received, publish);
    stop.stop();
    relay.join().expect("the relay does not panic")?;
    Ok(())
}

fn connect(address: SocketAddr) -> Result<TcpStream, Box<dyn Error>> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(&encode(&Packet::Connect(Connect::new(Version::V311, ""))))?;
    socket.read_exact(&mut [0; 4])?;
    Ok(socket)
}

fn encode(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(Version::V311, &mut bytes);
    bytes
}

const PATIENCE: Duration = Duration::from_secs(20);
