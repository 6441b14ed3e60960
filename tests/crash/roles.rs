//! What the clients do: publish, retain, receive, and end what they have begun.

use std::collections::{BTreeSet, VecDeque};

use ringmq::mqtt::{
    Ack, Delivery, Packet, PacketId, Publish, PublishProperties, QoS, ReasonCode, Unsubscribe,
    UnsubscribeFilters, UserProperties, Version,
};

use crate::{
    actor::Role,
    client::{encode, subscribe},
    ledger::{Ledger, payload},
    random::Random,
};

/// A client that publishes, and sends again what was not acknowledged when it comes back.
pub(crate) struct Publisher {
    version: Version,
    qos: QoS,
    /// Its session ends with the connection.
    is_fleeting: bool,
    content: Content,
    has_session: bool,
    /// Packet Identifiers in use, with the message, in the order of the messages.
    in_flight: VecDeque<InFlight>,
    next_id: u16,
}

struct InFlight {
    id: u16,
    message: usize,
    is_released: bool,
}

/// What it publishes.
pub(crate) enum Content {
    /// Messages on one topic, as the ledger numbers them for this publisher.
    Messages { topic: &'static str, publisher: usize },
    /// Retained messages on a few topics, and their deletions, by number.
    Retained { prefix: &'static str, values: Vec<(String, Option<usize>)> },
}

impl Content {
    fn encode(&self, message: usize, delivery: Delivery, dup: bool, version: Version) -> Vec<u8> {
        let (topic, payload) = match self {
            Content::Messages { topic, publisher } => (*topic, payload(*publisher, message)),
            Content::Retained { values, .. } => {
                let (topic, value) = &values[message];
                (&**topic, value.map_or_else(Vec::new, |value| value.to_string().into_bytes()))
            }
        };
        let retain = matches!(self, Content::Retained { .. });
        let properties = PublishProperties::default();
        let publish = Publish { dup, retain, delivery, topic, properties, payload: &payload };
        encode(&Packet::Publish(publish), version)
    }

    fn acknowledge(&self, message: usize, ledger: &mut Ledger) {
        match self {
            Content::Messages { publisher, .. } => ledger.acknowledge(*publisher, message),
            Content::Retained { values, .. } => ledger.acknowledge_retained(&values[message].0),
        }
    }

    /// The next message. A retained one is on a topic that none in flight is on.
    fn next(
        &mut self,
        in_flight: &VecDeque<InFlight>,
        random: &mut Random,
        ledger: &mut Ledger,
    ) -> Option<usize> {
        match self {
            Content::Messages { publisher, .. } => Some(ledger.send(*publisher)),
            Content::Retained { prefix, values } => {
                let topic = format!("{prefix}/{}", random.below(RETAINED_TOPICS));
                let mut busy = in_flight.iter().filter(|it| !it.is_released);
                let is_busy = busy.any(|it| values[it.message].0 == topic);
                let number = values.len();
                let value = (!random.chance(40)).then_some(number);
                (!is_busy).then(|| {
                    ledger.send_retained(&topic, value);
                    values.push((topic, value));
                    number
                })
            }
        }
    }
}

impl Publisher {
    pub(crate) fn new(version: Version, qos: QoS, content: Content) -> Publisher {
        Publisher {
            version,
            qos,
            is_fleeting: false,
            content,
            has_session: false,
            in_flight: VecDeque::new(),
            next_id: 0,
        }
    }

    pub(crate) fn fleeting(self) -> Publisher {
        Publisher { is_fleeting: true, ..self }
    }

    fn delivery(&self, id: u16) -> Delivery {
        let id = PacketId::new(id).expect("identifiers begin with 1");
        match self.qos {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            QoS::AtLeastOnce => Delivery::AtLeastOnce(id),
            QoS::ExactlyOnce => Delivery::ExactlyOnce(id),
        }
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id % u16::MAX + 1;
            if self.in_flight.iter().all(|it| it.id != self.next_id) {
                return self.next_id;
            }
        }
    }

    fn release(&self, id: u16) -> Vec<u8> {
        let id = PacketId::new(id).expect("identifiers begin with 1");
        encode(&Packet::Pubrel(Ack::success(id)), self.version)
    }

    fn send_one(&mut self, random: &mut Random, out: &mut Vec<u8>, ledger: &mut Ledger) {
        if let Some(message) = self.content.next(&self.in_flight, random, ledger) {
            let id = self.free_id();
            let delivery = self.delivery(id);
            out.extend(self.content.encode(message, delivery, false, self.version));
            if self.qos != QoS::AtMostOnce {
                self.in_flight.push_back(InFlight { id, message, is_released: false });
            }
        }
    }

    fn take(&mut self, ack: &Ack<'_>, packet: &Packet<'_>, out: &mut Vec<u8>, ledger: &mut Ledger) {
        let id = ack.packet_id.value();
        // The last one answers a PUBREL again whose PUBCOMP has not come.
        let fine = [
            ReasonCode::Success,
            ReasonCode::NoMatchingSubscribers,
            ReasonCode::PacketIdentifierNotFound,
        ];
        let Some(at) = self.in_flight.iter().position(|it| it.id == id) else {
            return ledger.find(format!("an answer to nothing: {packet:?}"));
        };
        if !fine.contains(&ack.reason_code) {
            ledger.find(format!("refused: {packet:?}"));
        }
        let entry = &mut self.in_flight[at];
        match packet {
            Packet::Pubcomp(_) => drop(self.in_flight.remove(at)),
            Packet::Puback(_) => {
                self.content.acknowledge(entry.message, ledger);
                self.in_flight.remove(at);
            }
            _ => {
                if !std::mem::replace(&mut entry.is_released, true) {
                    self.content.acknowledge(entry.message, ledger);
                }
                out.extend(self.release(id));
            }
        }
    }
}

impl Role for Publisher {
    fn connects_clean(&mut self, _random: &mut Random) -> bool {
        self.is_fleeting
    }

    fn enter(&mut self, present: bool, out: &mut Vec<u8>, ledger: &mut Ledger) {
        if !present && self.has_session {
            ledger.find("lost: the session of a publisher");
        }
        if present && self.is_fleeting {
            ledger.find("resurrected: a session without a life of its own");
        }
        self.has_session = !self.is_fleeting;
        if self.is_fleeting {
            self.in_flight.clear();
        }
        for entry in &self.in_flight {
            let delivery = self.delivery(entry.id);
            out.extend(if entry.is_released {
                self.release(entry.id)
            } else {
                self.content.encode(entry.message, delivery, true, self.version)
            });
        }
    }

    fn handle(&mut self, packet: &Packet<'_>, out: &mut Vec<u8>, ledger: &mut Ledger) {
        if let Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubcomp(ack) = packet {
            ledger.acknowledgements += 1;
            self.take(ack, packet, out, ledger);
        }
    }

    fn act(&mut self, calm: bool, random: &mut Random, out: &mut Vec<u8>, ledger: &mut Ledger) {
        let wants = if calm { 0 } else { random.below(WINDOW) };
        let most = if self.qos == QoS::AtMostOnce { wants.min(2) } else { wants };
        while self.in_flight.len() < most {
            let before = out.len();
            self.send_one(random, out, ledger);
            if out.len() == before || self.qos == QoS::AtMostOnce {
                break;
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }
}

/// A client with a session that receives for an entry of the ledger, which members of a share group
/// have in common.
pub(crate) struct Receiver {
    version: Version,
    entry: usize,
    filters: &'static [&'static str],
    qos: QoS,
    has_session: bool,
    subscribed: usize,
    /// QoS 2 messages that the broker has not released.
    held: BTreeSet<u16>,
}

impl Receiver {
    pub(crate) fn new(
        version: Version,
        entry: usize,
        qos: QoS,
        filters: &'static [&'static str],
    ) -> Receiver {
        let (has_session, subscribed, held) = (false, 0, BTreeSet::new());
        Receiver { version, entry, filters, qos, has_session, subscribed, held }
    }

    fn subscribe_next(&self, out: &mut Vec<u8>) {
        if let Some(filter) = self.filters.get(self.subscribed) {
            out.extend(subscribe(self.version, filter, self.qos));
        }
    }
}

impl Role for Receiver {
    fn enter(&mut self, present: bool, out: &mut Vec<u8>, ledger: &mut Ledger) {
        if !present && self.has_session {
            ledger.find(format!("lost: the session of receiver {}", self.entry));
        }
        self.has_session = true;
        self.subscribe_next(out);
    }

    fn handle(&mut self, packet: &Packet<'_>, out: &mut Vec<u8>, ledger: &mut Ledger) {
        match packet {
            Packet::Suback(_) => {
                ledger.acknowledgements += 1;
                self.subscribed += 1;
                self.subscribe_next(out);
            }
            Packet::Publish(publish) => {
                let is_new = match publish.delivery {
                    Delivery::ExactlyOnce(id) => self.held.insert(id.value()),
                    _ => true,
                };
                if is_new {
                    ledger.receive(self.entry, publish.payload);
                }
                answer(publish.delivery, self.version, out);
            }
            Packet::Pubrel(ack) => {
                self.held.remove(&ack.packet_id.value());
                out.extend(encode(&Packet::Pubcomp(Ack::success(ack.packet_id)), self.version));
            }
            other => ledger.find(format!("a receiver was sent {other:?}")),
        }
    }

    fn is_idle(&self) -> bool {
        self.subscribed == self.filters.len()
    }
}

fn answer(delivery: Delivery, version: Version, out: &mut Vec<u8>) {
    match delivery {
        Delivery::AtMostOnce => {}
        Delivery::AtLeastOnce(id) => {
            out.extend(encode(&Packet::Puback(Ack::success(id)), version));
        }
        Delivery::ExactlyOnce(id) => {
            out.extend(encode(&Packet::Pubrec(Ack::success(id)), version));
        }
    }
}

/// A client that ends its subscription, and its session, and begins them again. What has ended
/// must not come back.
pub(crate) struct Leaver {
    version: Version,
    session: Known,
    is_clean: bool,
    /// The latest message of each publisher that may come; `None`: all may.
    ended_at: Option<Vec<usize>>,
    request: Option<Request>,
}

#[derive(Clone, Copy, PartialEq)]
enum Known {
    Absent,
    Present,
    Unsure,
}

#[derive(PartialEq)]
enum Request {
    Subscribe,
    Unsubscribe,
}

impl Leaver {
    pub(crate) fn new(version: Version) -> Leaver {
        let (session, ended_at) = (Known::Absent, Some(Vec::new()));
        Leaver { version, session, is_clean: false, ended_at, request: None }
    }

    fn check_message(&self, payload: &[u8], ledger: &mut Ledger) {
        let Some((publisher, message)) = crate::ledger::read_payload(payload) else {
            return ledger.find("a payload is not what was sent");
        };
        let ended_at = self.ended_at.as_ref();
        let may_come =
            |ended_at: &Vec<usize>| ended_at.get(publisher).is_some_and(|n| message < *n);
        if !ended_at.is_none_or(may_come) {
            ledger.find(format!("resurrected: a subscription got {message} of {publisher}"));
        }
    }
}

impl Role for Leaver {
    fn connects_clean(&mut self, random: &mut Random) -> bool {
        self.is_clean = random.chance(40);
        self.is_clean
    }

    fn enter(&mut self, present: bool, _out: &mut Vec<u8>, ledger: &mut Ledger) {
        let wrong = if present { Known::Absent } else { Known::Present };
        if !self.is_clean && self.session == wrong {
            let what = if present { "resurrected" } else { "lost" };
            ledger.find(format!("{what}: the session of a leaver"));
        }
        if self.is_clean || !present {
            self.ended_at = Some(Vec::new());
        }
        self.session = if self.is_clean { Known::Absent } else { Known::Present };
    }

    fn handle(&mut self, packet: &Packet<'_>, out: &mut Vec<u8>, ledger: &mut Ledger) {
        match packet {
            Packet::Publish(publish) => {
                self.check_message(publish.payload, ledger);
                answer(publish.delivery, self.version, out);
            }
            Packet::Suback(_) | Packet::Unsuback(_) => {
                ledger.acknowledgements += 1;
                if self.request.take() == Some(Request::Unsubscribe) {
                    self.ended_at = Some(ledger.sent());
                }
            }
            other => ledger.find(format!("a leaver was sent {other:?}")),
        }
    }

    fn act(&mut self, calm: bool, random: &mut Random, out: &mut Vec<u8>, _: &mut Ledger) {
        if calm || self.request.is_some() || !random.chance(3) {
            return;
        }
        if random.chance(50) {
            self.ended_at = None;
            self.request = Some(Request::Subscribe);
            out.extend(subscribe(self.version, "d/#", QoS::AtLeastOnce));
        } else {
            self.request = Some(Request::Unsubscribe);
            let unsubscribe = Unsubscribe {
                packet_id: PacketId::MIN,
                user_properties: UserProperties::default(),
                filters: UnsubscribeFilters::List(&["d/#"]),
            };
            out.extend(encode(&Packet::Unsubscribe(unsubscribe), self.version));
        }
    }

    fn leave(&mut self, was_let_in: bool) {
        self.request = None;
        let (before, after) = if self.is_clean {
            (Known::Present, Known::Unsure)
        } else {
            (Known::Absent, Known::Unsure)
        };
        if !was_let_in && self.session == before {
            self.session = after;
        }
    }

    fn is_idle(&self) -> bool {
        self.request.is_none()
    }
}

/// Messages in flight of one publisher, at most.
const WINDOW: usize = 24;
const RETAINED_TOPICS: usize = 8;
