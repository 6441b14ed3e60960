//! A client as the specification wants it: what it remembers over its connections, and how it
//! answers what it is sent.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::NonZeroU16,
};

use ringmq::mqtt::{
    self, Ack, ApplicationProperties, Connack, Delivery, Packet, PacketId, Publish, QoS,
    ReasonCode, Version,
};

use crate::violation::{Violation, ensure};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Off,
    Connecting,
    Connected,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) hostile: bool,
    /// No CONNECT of it has ever said its name.
    pub(crate) is_new: bool,
    /// It waits to be told its name.
    pub(crate) nameless: bool,
    /// Whether it joins share groups. Then its other filters match none of their topics.
    pub(crate) shares: bool,
    /// Which group, of those that the workload knows.
    pub(crate) group: usize,
    pub(crate) stage: Stage,
    pub(crate) link: Option<usize>,
    pub(crate) version: Version,
    /// Whether the session that it asked for outlives the connection.
    pub(crate) lasting: bool,
    /// Whether it has asked for a new session.
    clean: bool,
    received: Vec<u8>,
    /// It keeps one answer back for as long as it can.
    pub(crate) hoards: bool,
    hoarded: Option<Vec<u8>>,
    /// Answers that it owes the broker, in order.
    pub(crate) owed: VecDeque<Vec<u8>>,
    /// Sent by it at QoS 1 and 2 and not finished with, in order.
    pub(crate) outgoing: Vec<Outgoing>,
    /// Packet Identifiers of SUBSCRIBE and UNSUBSCRIBE packets without an answer.
    pub(crate) asking: BTreeSet<u16>,
    /// QoS 2 messages that it has and that were not released.
    held: BTreeSet<u16>,
    next_id: u16,
    /// What the broker takes at once, and how much of that is used on this connection.
    pub(crate) receive_maximum: u16,
    pub(crate) alias_maximum: u16,
    pub(crate) aliases: Vec<String>,
    /// How often each message has been handed on at QoS 2.
    pub(crate) exactly_once: BTreeMap<Vec<u8>, u32>,
    /// The broker has said farewell.
    dismissed: bool,
    /// Messages at QoS 1 and 2 that have come: now and then it refuses one.
    taken: u32,
    /// It keeps its session for ever, and takes messages of any size.
    pub(crate) steady: bool,
    /// What it has been sent is noted.
    pub(crate) watched: bool,
    pub(crate) news: Vec<News>,
    /// It has asked for a new session, and was not told that it has one.
    pub(crate) wants_new: bool,
}

/// What has come to a client that is watched.
#[derive(Debug)]
pub(crate) enum News {
    Message {
        payload: Vec<u8>,
        retain: bool,
        /// It was handed on at QoS 2.
        exactly_once: bool,
    },
    /// It has a new session.
    NewSession,
}

#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) packet_id: u16,
    pub(crate) released: bool,
    pub(crate) qos: QoS,
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) retain: bool,
    pub(crate) expiry: Option<u32>,
    pub(crate) application: ApplicationProperties<'static>,
}

impl Client {
    pub(crate) fn new(index: usize, group: usize, hostile: bool) -> Client {
        Client {
            name: format!("c{index}"),
            hostile,
            is_new: true,
            nameless: false,
            shares: !index.is_multiple_of(3),
            group,
            stage: Stage::Off,
            link: None,
            version: Version::V5,
            lasting: false,
            clean: false,
            received: Vec::new(),
            hoards: false,
            hoarded: None,
            owed: VecDeque::new(),
            outgoing: Vec::new(),
            asking: BTreeSet::new(),
            held: BTreeSet::new(),
            next_id: 0,
            receive_maximum: u16::MAX,
            alias_maximum: 0,
            aliases: Vec::new(),
            exactly_once: BTreeMap::new(),
            dismissed: false,
            taken: 0,
            steady: false,
            watched: false,
            news: Vec::new(),
            wants_new: false,
        }
    }

    /// A connection has been opened.
    pub(crate) fn begin(&mut self, link: usize, version: Version, clean: bool, lasting: bool) {
        self.clean = clean;
        self.wants_new |= clean;
        self.stage = Stage::Connecting;
        self.link = Some(link);
        self.nameless = false;
        self.version = version;
        self.lasting = lasting;
        self.dismissed = false;
        self.received.clear();
        self.hoarded = None;
        self.owed.clear();
        self.asking.clear();
        self.aliases.clear();
    }

    /// The connection is no more.
    pub(crate) fn lose(&mut self) {
        self.stage = Stage::Off;
        self.link = None;
    }

    fn forget_session(&mut self) {
        if self.watched {
            self.news.push(News::NewSession);
        }
        self.outgoing.clear();
        self.held.clear();
    }

    /// A Packet Identifier that is not in use.
    pub(crate) fn fresh_id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id % 500 + 1;
            let id = self.next_id;
            let used = self.outgoing.iter().any(|it| it.packet_id == id);
            if !used && !self.asking.contains(&id) {
                return id;
            }
        }
    }

    /// Whether the broker takes one more message at QoS 1 or 2.
    pub(crate) fn may_publish(&self) -> bool {
        self.outgoing.len() < usize::from(self.receive_maximum).min(100)
    }

    /// Bytes have come.
    pub(crate) fn receive(&mut self, bytes: impl Iterator<Item = u8>) -> Result<(), Violation> {
        self.received.extend(bytes);
        let received = std::mem::take(&mut self.received);
        let mut rest = &received[..];
        loop {
            match mqtt::frame::split(rest, 1 << 28) {
                Ok(Some(frame)) => {
                    rest = &rest[frame.len..];
                    let packet = Packet::decode(frame, self.version);
                    let packet = packet.map_err(|error| {
                        Violation::new("a client can read what it is sent", format!("{error:?}"))
                    })?;
                    self.answer(&packet)?;
                }
                Ok(None) => break,
                Err(error) => {
                    let detail = format!("{error:?}");
                    return Err(Violation::new("a client can read what it is sent", detail));
                }
            }
        }
        self.received = rest.to_vec();
        Ok(())
    }

    fn answer(&mut self, packet: &Packet<'_>) -> Result<(), Violation> {
        ensure(!self.dismissed, "nothing follows DISCONNECT", || format!("{packet:?}"))?;
        match packet {
            Packet::Connack(connack) => self.connected(connack),
            Packet::Publish(publish) => self.take(publish),
            Packet::Puback(ack) | Packet::Pubcomp(ack) => self.finish(ack),
            Packet::Pubrec(ack) => self.release(ack),
            Packet::Pubrel(ack) => {
                self.held.remove(&ack.packet_id.value());
                self.owe(&Packet::Pubcomp(Ack::success(ack.packet_id)));
            }
            Packet::Suback(suback) => {
                self.asking.remove(&suback.packet_id.value());
            }
            Packet::Unsuback(unsuback) => {
                self.asking.remove(&unsuback.packet_id.value());
            }
            Packet::Disconnect(_) => self.dismissed = true,
            Packet::Pingresp => {}
            other => {
                let detail = format!("{other:?}");
                return Err(Violation::new("a server sends what servers send", detail));
            }
        }
        Ok(())
    }

    fn connected(&mut self, connack: &Connack<'_>) {
        if connack.reason_code != ReasonCode::Success {
            return;
        }
        self.stage = Stage::Connected;
        self.nameless = false;
        self.is_new = false;
        self.wants_new = false;
        if let Some(name) = connack.properties.assigned_client_identifier {
            name.clone_into(&mut self.name);
        }
        self.receive_maximum = connack.properties.receive_maximum.map_or(u16::MAX, NonZeroU16::get);
        self.alias_maximum = connack.properties.topic_alias_maximum;
        // 3.1 does not say whether the session was there: what is sent again is harmless.
        if !connack.session_present && (self.version != Version::V31 || self.clean) {
            self.forget_session();
        }
        self.resend();
    }

    /// What has not been acknowledged is sent again, in order.
    fn resend(&mut self) {
        let again: Vec<Vec<u8>> = self.outgoing.iter().map(|it| it.bytes(self.version)).collect();
        self.owed.extend(again);
    }

    /// It keeps nothing back any more.
    pub(crate) fn stop_hoarding(&mut self) {
        self.hoards = false;
        self.owed.extend(self.hoarded.take());
    }

    fn take(&mut self, publish: &Publish<'_>) {
        self.receive_message(publish);
        if self.hoards && self.hoarded.is_none() && publish.delivery.qos() > QoS::AtMostOnce {
            self.hoarded = self.owed.pop_back();
        }
    }

    fn receive_message(&mut self, publish: &Publish<'_>) {
        let held = self.held.len();
        self.answer_message(publish);
        if self.watched {
            self.news.push(News::Message {
                payload: publish.payload.to_vec(),
                retain: publish.retain,
                exactly_once: self.held.len() > held,
            });
        }
    }

    fn answer_message(&mut self, publish: &Publish<'_>) {
        match publish.delivery {
            Delivery::AtMostOnce => {}
            Delivery::AtLeastOnce(id) => {
                let reason_code = self.opinion();
                self.owe(&Packet::Puback(Ack::with_reason(id, reason_code)));
            }
            Delivery::ExactlyOnce(id) if !self.held.contains(&id.value()) && self.refuses() => {
                let refusal = Ack::with_reason(id, ReasonCode::UnspecifiedError);
                self.owe(&Packet::Pubrec(refusal));
            }
            Delivery::ExactlyOnce(id) => {
                if self.held.insert(id.value()) {
                    *self.exactly_once.entry(publish.payload.to_vec()).or_default() += 1;
                }
                self.owe(&Packet::Pubrec(Ack::success(id)));
            }
        }
    }

    /// Before 5.0 nothing that has come can be refused.
    fn refuses(&mut self) -> bool {
        self.taken += 1;
        self.version == Version::V5 && self.taken.is_multiple_of(REFUSED_OF)
    }

    fn opinion(&mut self) -> ReasonCode {
        if self.refuses() { ReasonCode::UnspecifiedError } else { ReasonCode::Success }
    }

    fn finish(&mut self, ack: &Ack<'_>) {
        self.outgoing.retain(|it| it.packet_id != ack.packet_id.value());
    }

    fn release(&mut self, ack: &Ack<'_>) {
        let id = ack.packet_id.value();
        if ack.reason_code.is_error() {
            return self.finish(ack);
        }
        if let Some(outgoing) = self.outgoing.iter_mut().find(|it| it.packet_id == id) {
            outgoing.released = true;
            self.owe(&Packet::Pubrel(Ack::success(ack.packet_id)));
        }
    }

    fn owe(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        self.owed.push_back(bytes);
    }
}

impl Outgoing {
    /// As it is sent again: the message, or its release.
    fn bytes(&self, version: Version) -> Vec<u8> {
        let id = PacketId::new(self.packet_id).expect("not zero");
        let mut bytes = Vec::new();
        if self.released {
            Packet::Pubrel(Ack::success(id)).encode(version, &mut bytes);
            return bytes;
        }
        let delivery = match self.qos {
            QoS::ExactlyOnce => Delivery::ExactlyOnce(id),
            _ => Delivery::AtLeastOnce(id),
        };
        let mut publish = Publish {
            dup: true,
            retain: self.retain,
            delivery,
            topic: &self.topic,
            properties: mqtt::PublishProperties::default(),
            payload: &self.payload,
        };
        publish.properties.message_expiry_interval = self.expiry;
        publish.properties.application = self.application;
        Packet::Publish(publish).encode(version, &mut bytes);
        bytes
    }
}

/// A client refuses one message of so many.
const REFUSED_OF: u32 = 31;
