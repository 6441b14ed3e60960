//! One client's connection, from CONNECT to its end.

use std::{net::IpAddr, os::fd::OwnedFd};

use ringmq::{
    base::time::{Moment, Span},
    mqtt::{Ack, Connack, Frame, Packet, PacketType, Suback, frame},
};

use super::{
    fault::Fault,
    inbox::Inbox,
    outbox::Outbox,
    publisher::Publisher,
    subscriber::Subscriber,
    wire::{ACK_LEN, encode_connect, encode_disconnect, ping_interval, skim_ack},
};
use crate::{
    account::tally::Tally,
    machine::{clock, network},
    request::plan::Plan,
};

/// ```text
///   CONNECT        CONNACK (publisher, or too early to subscribe)
///   -------> connecting ---------------------------------> ready ---> closed
///                |  CONNACK                       SUBACK     ^
///                +----------> subscribing -------------------+
///                  SUBSCRIBE
/// ```
#[derive(Debug)]
pub struct Connection {
    pub socket: OwnedFd,
    pub stage: Stage,
    /// When it was to be opened.
    pub due: Moment,
    pub outbox: Outbox,
    pub role: Role,
    inbox: Inbox,
    /// In seconds, as the broker wants it.
    keep_alive: u16,
    /// It is in its thread's list of those with something to send.
    pub listed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Connecting,
    Subscribing,
    Ready,
    Closed,
}

#[derive(Debug)]
pub enum Role {
    Publisher(Publisher),
    Subscriber(Subscriber),
}

impl Role {
    /// Bytes that it reads each second, if it is a slow reader.
    pub fn allowance(&self) -> Option<u32> {
        match self {
            Role::Publisher(_) => None,
            Role::Subscriber(subscriber) => subscriber.allowance(),
        }
    }
}

/// Whether there may be more to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    Nothing,
    Perhaps,
}

impl Connection {
    pub fn open(plan: &Plan, client: usize, due: Moment, role: Role) -> Result<Connection, Fault> {
        let socket = network::begin_connect(plan.address(client), source(plan, client))?;
        if role.allowance().is_some() {
            network::bound_receive_buffer(&socket, SLOW_RECEIVE_BYTES)?;
        }
        if matches!(role, Role::Publisher(_)) && plan.send_buffer > 0 {
            network::bound_send_buffer(&socket, plan.send_buffer)?;
        }
        let mut outbox = Outbox::new_blocked(plan.outbox_bytes());
        let client_id = client_id(plan.seed, client);
        encode_connect(plan.version, &client_id, plan.terms, &mut outbox.bytes);
        let (stage, inbox) = (Stage::Connecting, Inbox::default());
        let keep_alive = plan.terms.keep_alive;
        Ok(Connection { socket, stage, due, outbox, role, inbox, keep_alive, listed: false })
    }

    /// Reads once into `buffer`, which all connections share, and handles what has come.
    pub fn receive(
        &mut self,
        buffer: &mut [u8],
        plan: &Plan,
        tally: &mut Tally,
    ) -> Result<Rest, Fault> {
        let Some(len) = self.inbox.fill(&self.socket, buffer)? else {
            return Ok(Rest::Nothing);
        };
        let (bytes, now) = (&buffer[..len], clock::now());
        let taken = self.handle_bytes(bytes, now, plan, tally)?;
        self.inbox.keep(&bytes[taken..]);
        Ok(if len == buffer.len() { Rest::Perhaps } else { Rest::Nothing })
    }

    /// It has begun to read slowly.
    pub fn reads_slowly(&self) -> bool {
        self.stage == Stage::Ready && self.role.allowance().is_some()
    }

    /// Reads what a slow reader may read at one time, if it reads so many times a second.
    pub fn read_a_little(
        &mut self,
        reads_per_second: u32,
        buffer: &mut [u8],
        plan: &Plan,
        tally: &mut Tally,
    ) -> Result<(), Fault> {
        let bytes = self.role.allowance().unwrap_or_default().div_ceil(reads_per_second);
        let end = buffer.len().min(self.inbox.kept_len() + bytes as usize);
        if bytes > 0 {
            self.receive(&mut buffer[..end], plan, tally)?;
        }
        Ok(())
    }

    /// Handles whole packets, and says how many bytes they were.
    fn handle_bytes(
        &mut self,
        bytes: &[u8],
        now: Moment,
        plan: &Plan,
        tally: &mut Tally,
    ) -> Result<usize, Fault> {
        let mut taken = self.handle_plain_acks(bytes, plan, tally)?;
        while let Some(frame) = frame::split(&bytes[taken..], usize::MAX)? {
            taken += frame.len;
            self.handle_frame(frame, now, plan, tally)?;
            taken += self.handle_plain_acks(&bytes[taken..], plan, tally)?;
        }
        Ok(taken)
    }

    /// Handles the acknowledgements in their shortest form at the front, and says how many bytes
    /// they were.
    #[inline]
    fn handle_plain_acks(
        &mut self,
        bytes: &[u8],
        plan: &Plan,
        tally: &mut Tally,
    ) -> Result<usize, Fault> {
        let Role::Publisher(publisher) = &mut self.role else { return Ok(0) };
        let mut taken = 0;
        while let Some((packet_type, packet_id)) = skim_ack(&bytes[taken..]) {
            taken += ACK_LEN;
            let ack = Ack::success(packet_id);
            publisher.handle_ack(packet_type, &ack, plan, &mut self.outbox, tally)?;
        }
        Ok(taken)
    }

    #[inline]
    fn handle_frame(
        &mut self,
        frame: Frame<'_>,
        now: Moment,
        plan: &Plan,
        tally: &mut Tally,
    ) -> Result<(), Fault> {
        let (packet_type, outbox) = (frame.packet_type(), &mut self.outbox);
        match (&mut self.role, packet_type) {
            (Role::Subscriber(subscriber), PacketType::Publish) => {
                subscriber.handle_publish(frame, now, plan, outbox, tally)
            }
            (
                Role::Publisher(publisher),
                PacketType::Puback | PacketType::Pubrec | PacketType::Pubcomp,
            ) => {
                let ack = Ack::decode(frame, plan.version)?;
                publisher.handle_ack(packet_type, &ack, plan, outbox, tally)
            }
            _ => self.handle_packet(&Packet::decode(frame, plan.version)?, plan),
        }
    }

    fn handle_packet(&mut self, packet: &Packet<'_>, plan: &Plan) -> Result<(), Fault> {
        match (self.stage, packet) {
            (_, Packet::Disconnect(disconnect)) => Err(Fault::Disconnected(disconnect.reason_code)),
            (_, Packet::Pingresp) => Ok(()),
            (Stage::Connecting, Packet::Connack(connack)) => self.handle_connack(connack, plan),
            (Stage::Subscribing, Packet::Suback(suback)) => self.handle_suback(suback, plan),
            (Stage::Ready, packet) => match &mut self.role {
                Role::Publisher(_) => Err(Fault::Unexpected("a packet that no publisher is sent")),
                Role::Subscriber(_) => Subscriber::handle_packet(packet, plan, &mut self.outbox),
            },
            _ => Err(Fault::Unexpected("a packet before its time")),
        }
    }

    fn handle_connack(&mut self, connack: &Connack<'_>, plan: &Plan) -> Result<(), Fault> {
        if connack.reason_code.is_error() {
            return Err(Fault::ConnectionRefused(connack.reason_code));
        }
        // [MQTT-3.1.2-21]
        self.keep_alive = connack.properties.server_keep_alive.unwrap_or(self.keep_alive);
        match &mut self.role {
            Role::Publisher(publisher) => {
                check_capabilities(connack, publisher)?;
                let receive_maximum = connack.properties.receive_maximum;
                publisher.open_window(receive_maximum.map_or(u16::MAX, u16::from), plan);
                self.stage = Stage::Ready;
            }
            Role::Subscriber(subscriber) if subscriber.is_to_subscribe(plan) => {
                self.subscribe(plan);
            }
            Role::Subscriber(_) => self.stage = Stage::Ready,
        }
        Ok(())
    }

    /// Asks for what it is to receive. It is ready once the broker has answered.
    pub fn subscribe(&mut self, plan: &Plan) {
        if let Role::Subscriber(subscriber) = &mut self.role {
            subscriber.subscribe(plan, &mut self.outbox);
            self.stage = Stage::Subscribing;
        }
    }

    fn handle_suback(&mut self, suback: &Suback<'_>, plan: &Plan) -> Result<(), Fault> {
        if let Role::Subscriber(subscriber) = &mut self.role
            && subscriber.handle_suback(suback, plan)?
        {
            self.stage = Stage::Ready;
        }
        Ok(())
    }

    /// How often it has to show that it is still there.
    pub fn ping_interval(&self) -> Option<Span> {
        ping_interval(self.keep_alive)
    }

    /// Shows that it is still there. [MQTT-3.1.2-20]
    pub fn ping(&mut self, plan: &Plan) {
        if self.stage == Stage::Ready {
            Packet::Pingreq.encode(plan.version, &mut self.outbox.bytes);
        }
    }

    pub fn flush(&mut self, plan: &Plan) -> Result<(), Fault> {
        Ok(self.outbox.flush(&self.socket, plan.filling.bytes())?)
    }

    /// Sends a DISCONNECT, if the socket takes it at once.
    pub fn send_disconnect(&mut self, plan: &Plan) {
        if self.stage == Stage::Ready {
            encode_disconnect(plan.version, plan.terms, &mut self.outbox.bytes);
            let _ = self.flush(plan);
        }
    }
}

/// [MQTT-3.2.2-11] [MQTT-3.2.2-15]
fn check_capabilities(connack: &Connack<'_>, publisher: &Publisher) -> Result<(), Fault> {
    let properties = &connack.properties;
    if properties.maximum_qos < publisher.qos {
        return Err(Fault::QosNotGranted(properties.maximum_qos as u8));
    }
    let (limit, len) = (properties.maximum_packet_size, publisher.packet_len());
    match limit.map(u32::from) {
        Some(limit) if len.is_some_and(|len| len > limit as usize) => {
            Err(Fault::PacketTooLarge(limit))
        }
        _ => Ok(()),
    }
}

/// Where a client connects from, if the kernel does not choose.
pub fn source(plan: &Plan, client: usize) -> Option<IpAddr> {
    let sources = &plan.source_addresses;
    (!sources.is_empty()).then(|| sources[client % sources.len()])
}

pub fn client_id(seed: u64, client: usize) -> String {
    format!("load-{seed}-{client}")
}

/// What the kernel buffers for a slow reader: little, so that the broker soon has to wait.
const SLOW_RECEIVE_BYTES: usize = 4096;
