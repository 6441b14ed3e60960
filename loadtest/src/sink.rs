//! A server that acknowledges everything and delivers nothing.
//!
//! It shows how much load this program can make, and what a broker that loses messages looks like.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io::{Write, stdout},
    net::{Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    thread,
};

use anyhow::{Context, Result};
use clap::{Args, value_parser};
use crossbeam_channel::unbounded;
use ringmq::{
    base::time::Span,
    mqtt::{
        Ack, Connack, ConnackProperties, Frame, Packet, PacketType, ReasonCode, ReasonProperties,
        Suback, Subscribe, Unsuback, Version, frame,
    },
};

use crate::{
    clients::{
        fault::Fault, inbox::Inbox, outbox::Outbox, subscriber::acknowledge, wire::read_publish,
    },
    machine::{
        cpus,
        network::{self, Poll, Readiness},
    },
};

/// A server that acknowledges everything and delivers nothing, until it is killed.
///
/// Whatever is sent to it at QoS 1 and 2 is lost, so that a run with subscribers fails; one without
/// (`fan-in --subscribers 0`) shows how fast this program can send.
#[derive(Debug, Args)]
pub struct Sink {
    /// The port to listen on; 0 leaves the choice to the kernel.
    #[arg(long, default_value_t = 1883)]
    port: u16,
    /// Threads that share the connections [default: as many as --cpus, or 1]
    #[arg(long, value_parser = value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// CPUs to pin the threads to, such as `1,4-7`.
    #[arg(long, value_parser = cpus::parse_list)]
    cpus: Option<std::vec::Vec<usize>>,
}

impl Sink {
    /// Serves for ever: it returns only when it cannot.
    pub fn serve(&self) -> Result<Infallible> {
        let cpus = self.cpus.as_deref().unwrap_or_default();
        let threads = self.threads.map_or_else(|| cpus.len().max(1), usize::from);
        let mut address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let (faults, received) = unbounded();
        for index in 0..threads {
            let (listener, bound) =
                network::listen(address).with_context(|| format!("cannot listen on {address}"))?;
            address = bound;
            let cpu = cpus.get(index % cpus.len().max(1)).copied();
            let faults = faults.clone();
            thread::spawn(move || faults.send(serve(listener, cpu)));
        }
        writeln!(stdout(), "listening on {address}")?;
        Err(received.recv()?.into())
    }
}

/// The life of one thread, and why it ended.
fn serve(listener: OwnedFd, cpu: Option<usize>) -> Fault {
    match Server::new(listener).and_then(|server| server.run(cpu)) {
        Ok(never) => match never {},
        Err(fault) => fault,
    }
}

/// One thread and the connections that it has accepted.
struct Server {
    poll: Poll,
    listener: OwnedFd,
    buffer: Vec<u8>,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    /// Clients with perhaps more to read.
    unread: VecDeque<usize>,
}

impl Server {
    fn new(listener: OwnedFd) -> Result<Server, Fault> {
        let poll = Poll::new()?;
        poll.add(&listener, LISTENER)?;
        let (clients, free, unread) = (Vec::new(), Vec::new(), VecDeque::new());
        Ok(Server { poll, listener, buffer: vec![0; READ_BYTES], clients, free, unread })
    }

    fn run(mut self, cpu: Option<usize>) -> Result<Infallible, Fault> {
        if let Some(cpu) = cpu {
            cpus::pin(cpu)?;
        }
        loop {
            self.poll.wait((!self.unread.is_empty()).then_some(Span::ZERO))?;
            for _ in 0..self.unread.len() {
                if let Some(index) = self.unread.pop_front() {
                    self.serve(index, false);
                }
            }
            for index in 0..self.poll.count() {
                match self.poll.readiness(index) {
                    Readiness { token: LISTENER, .. } => self.accept_all()?,
                    readiness => self.handle_readiness(readiness),
                }
            }
        }
    }

    fn accept_all(&mut self) -> Result<(), Fault> {
        while let Some(socket) = network::accept(&self.listener)? {
            let index = self.free.pop().unwrap_or(self.clients.len());
            if index == self.clients.len() {
                self.clients.push(None);
            }
            self.poll.add(&socket, index as u64)?;
            self.clients[index] = Some(Client::new(socket));
        }
        Ok(())
    }

    fn handle_readiness(&mut self, readiness: Readiness) {
        let index = usize::try_from(readiness.token).expect("tokens are indices");
        if let Some(client) = &mut self.clients[index] {
            if readiness.writable {
                client.outbox.unblock();
            }
            self.serve(index, readiness.ended);
        }
    }

    /// Reads once, and lets go of a client that is done or does not speak MQTT.
    fn serve(&mut self, index: usize, ended: bool) {
        let Some(client) = &mut self.clients[index] else { return };
        match client.receive(&mut self.buffer) {
            Ok(true) => self.unread.push_back(index),
            Ok(false) if ended => self.unread.push_back(index),
            Ok(false) => {}
            Err(_) => {
                self.clients[index] = None;
                self.free.push(index);
            }
        }
    }
}

struct Client {
    socket: OwnedFd,
    inbox: Inbox,
    outbox: Outbox,
    /// Of its CONNECT.
    version: Version,
}

impl Client {
    fn new(socket: OwnedFd) -> Client {
        let (inbox, outbox) = (Inbox::default(), Outbox::default());
        Client { socket, inbox, outbox, version: Version::V311 }
    }

    /// Reads once and answers. True when there is perhaps more.
    fn receive(&mut self, buffer: &mut Vec<u8>) -> Result<bool, Fault> {
        if self.inbox.kept_len() * 2 >= buffer.len() {
            buffer.resize(buffer.len() * 2, 0);
        }
        let Some(len) = self.inbox.fill(&self.socket, buffer)? else {
            self.outbox.flush(&self.socket, &[])?;
            return Ok(false);
        };
        let mut taken = 0;
        while let Some(frame) = frame::split(&buffer[taken..len], usize::MAX)? {
            taken += frame.len;
            self.answer(frame)?;
        }
        self.inbox.keep(&buffer[taken..len]);
        self.outbox.flush(&self.socket, &[])?;
        Ok(len == buffer.len())
    }

    #[inline]
    fn answer(&mut self, frame: Frame<'_>) -> Result<(), Fault> {
        let (version, out) = (self.version, &mut self.outbox.bytes);
        match frame.packet_type() {
            PacketType::Publish => acknowledge(read_publish(frame, version)?.0, version, out),
            PacketType::Pubrel => {
                let pubrel = Ack::decode(frame, version)?;
                Ack::success(pubrel.packet_id).encode(PacketType::Pubcomp, version, out);
            }
            _ => self.answer_packet(&Packet::decode(frame, version)?)?,
        }
        Ok(())
    }

    fn answer_packet(&mut self, packet: &Packet<'_>) -> Result<(), Fault> {
        let (version, out) = (self.version, &mut self.outbox.bytes);
        match packet {
            Packet::Connect(connect) => {
                self.version = connect.version;
                connack().encode(connect.version, out);
            }
            Packet::Subscribe(subscribe) => encode_suback(subscribe, version, out),
            Packet::Unsubscribe(unsubscribe) => {
                let codes = vec![ReasonCode::Success as u8; unsubscribe.filters.count()];
                let (packet_id, properties) = (unsubscribe.packet_id, ReasonProperties::default());
                Packet::Unsuback(Unsuback { packet_id, properties, reason_codes: &codes })
                    .encode(version, out);
            }
            Packet::Pingreq => Packet::Pingresp.encode(version, out),
            _ => return Err(Fault::Closed),
        }
        Ok(())
    }
}

fn connack() -> Packet<'static> {
    Packet::Connack(Connack {
        session_present: false,
        reason_code: ReasonCode::Success,
        properties: ConnackProperties::default(),
    })
}

/// Grants what was asked for.
fn encode_suback(subscribe: &Subscribe<'_>, version: Version, out: &mut Vec<u8>) {
    let granted: Vec<_> = subscribe.filters.iter().map(|(_, options)| options.qos as u8).collect();
    let (packet_id, properties) = (subscribe.packet_id, ReasonProperties::default());
    Packet::Suback(Suback { packet_id, properties, reason_codes: &granted }).encode(version, out);
}

/// The token of the listener; those of clients are their indices.
const LISTENER: u64 = u64::MAX;

const READ_BYTES: usize = 64 * 1024;
