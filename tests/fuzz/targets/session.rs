//! The two halves of a session, and its queue, against lists.

use ringmq::base::byte_count::ByteCount;
use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use ringmq::{
    base::{
        hash::Seed,
        time::{Moment, Span},
    },
    mqtt::{Delivery, PacketId, QoS},
    session::{
        inbound::{Admission, Inbound},
        message::{CountedMessage, MessageView, Payload},
        ordinals::Ordinal,
        outbound::{Outbound, Received, Resend},
        queue::{QueueLimits, QueuedMessage},
    },
    topic::TopicName,
};

use super::script::Script;

/// What the naive session remembers of a message in flight.
#[derive(Debug)]
struct Flight {
    id: PacketId,
    qos: QoS,
    message: Rc<CountedMessage>,
    released: bool,
    /// On this connection: sent, and counted as outstanding.
    sent: bool,
    counted: bool,
}

#[derive(Default)]
struct Twins {
    outbound: Outbound,
    inbound: Inbound,
    window: usize,
    flights: Vec<Flight>,
    waiting: VecDeque<(QueuedMessage, Option<Moment>)>,
    held: BTreeMap<PacketId, bool>,
    now: Moment,
}

pub(super) fn check(input: &[u8]) {
    let mut script = Script::new(input);
    let mut twins = Twins::default();
    twins.connect(&mut script);
    while let Some(operation) = script.operation(10) {
        match operation {
            0 => twins.connect(&mut script),
            1 | 2 => twins.deliver(&mut script),
            3 => twins.send_on(),
            4 => twins.handle_puback(&mut script),
            5 => twins.handle_pubrec(&mut script),
            6 => twins.handle_pubcomp(&mut script),
            7 => twins.handle_publish(&mut script),
            8 => twins.handle_pubrel(&mut script),
            _ => twins.now = twins.now + Span::from_secs(u64::from(script.choice(4))),
        }
        twins.check();
    }
}

fn queued(qos: QoS, expires_at: Option<Moment>) -> QueuedMessage {
    let view = MessageView {
        topic: TopicName::from_valid("t"),
        application: &[],
        payload: Payload::Small(b"payload"),
        qos,
        retain: false,
        expires_at,
        publisher: None,
        publisher_hash: 0,
    };
    let message = Rc::new(CountedMessage::keep(&view, &ByteCount::default()));
    QueuedMessage {
        message,
        qos,
        retain: false,
        subscription_ids: None,
        group: None,
        ordinal: Ordinal::NONE,
    }
}

impl Twins {
    fn connect(&mut self, script: &mut Script<'_>) {
        let window = script.pick(&[1, 2, 3, 10, u16::MAX]);
        self.window = usize::from(window);
        self.outbound.connect(window);
        self.inbound.connect();
        for flight in &mut self.flights {
            (flight.sent, flight.counted) = (false, false);
        }
        self.held.values_mut().for_each(|fresh| *fresh = false);
    }

    /// A message comes for the client: it is sent, or waits, or finds the queue full.
    fn deliver(&mut self, script: &mut Script<'_>) {
        let qos = if script.flag() { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        let expires_at = script.flag().then(|| self.now + Span::from_secs(1));
        let queued = queued(qos, expires_at);
        if self.outbound.is_open() {
            return self.begin(queued);
        }
        let room = self.waiting.len() < LIMITS.messages_max;
        assert_eq!(self.outbound.queue.push(queued.clone(), self.now, &LIMITS).is_ok(), room);
        if room {
            self.waiting.push_back((queued, expires_at));
        }
    }

    fn begin(&mut self, queued: QueuedMessage) {
        assert!(self.flights.iter().all(|flight| flight.sent), "the old ones go first");
        assert!(self.outstanding() < self.window);
        let (qos, message) = (queued.qos, Rc::clone(&queued.message));
        let id = self.outbound.begin(queued);
        assert!(self.flights.iter().all(|flight| flight.id != id), "{id:?} is in use twice");
        self.flights.push(Flight { id, qos, message, released: false, sent: true, counted: true });
    }

    /// What was in flight is sent again, then what waits is sent, while the window allows.
    fn send_on(&mut self) {
        while self.outbound.is_resending() {
            if !self.resend() {
                return;
            }
        }
        assert!(self.flights.iter().all(|flight| flight.sent));
        while self.outbound.has_room() {
            let now = self.now;
            let gone = |(_, at): &(_, Option<Moment>)| at.is_some_and(|at| at <= now);
            let before = self.waiting.len();
            // What has expired leaves the queue, whoever waits before it.
            self.waiting.retain(|waiting| !gone(waiting));
            let expired = before - self.waiting.len();
            let next = self.waiting.pop_front();
            let (popped, skipped) = self.outbound.queue.pop(now);
            assert_eq!(skipped, expired);
            assert_eq!(popped, next.map(|(queued, _)| queued));
            let Some(queued) = popped else { return };
            self.begin(queued);
        }
    }

    /// False: it has to wait.
    fn resend(&mut self) -> bool {
        let outstanding = self.outstanding();
        let next = self.flights.iter_mut().find(|flight| !flight.sent);
        match (self.outbound.resend_next(), next) {
            (Some(Resend::Publish(id, queued)), Some(flight)) => {
                assert!(outstanding < self.window && !flight.released);
                assert_eq!((id, queued.qos), (flight.id, flight.qos));
                assert!(Rc::ptr_eq(&queued.message, &flight.message));
                (flight.sent, flight.counted) = (true, true);
                true
            }
            (Some(Resend::Pubrel(id)), Some(flight)) => {
                assert!(flight.released);
                assert_eq!(id, flight.id);
                flight.sent = true;
                true
            }
            (None, Some(flight)) => {
                assert!(outstanding == self.window && !flight.released);
                false
            }
            (None, None) => false,
            (Some(again), None) => unreachable!("{again:?}"),
        }
    }

    /// An identifier of a flight, or any other.
    fn some_id(&self, script: &mut Script<'_>) -> PacketId {
        let at = usize::from(script.byte());
        let known = self.flights.get(at).map(|flight| flight.id);
        known.or_else(|| PacketId::new(u16::try_from(at).unwrap_or(1))).unwrap_or(PacketId::MIN)
    }

    fn flight(&self, id: PacketId) -> Option<usize> {
        self.flights.iter().position(|flight| flight.id == id && flight.sent)
    }

    fn handle_puback(&mut self, script: &mut Script<'_>) {
        let id = self.some_id(script);
        let place = self.flight(id).filter(|&at| self.flights[at].qos == QoS::AtLeastOnce);
        assert_eq!(self.outbound.handle_puback(id), place.is_some());
        place.map(|at| self.flights.remove(at));
    }

    fn handle_pubrec(&mut self, script: &mut Script<'_>) {
        let (id, refused) = (self.some_id(script), script.flag());
        let place = self.flight(id).filter(|&at| self.flights[at].qos == QoS::ExactlyOnce);
        let expected = match place {
            None => Received::Unknown,
            Some(at) if refused => {
                self.flights.remove(at);
                Received::Refused
            }
            Some(at) => {
                self.flights[at].released = true;
                Received::Release
            }
        };
        assert_eq!(self.outbound.handle_pubrec(id, refused), expected);
    }

    fn handle_pubcomp(&mut self, script: &mut Script<'_>) {
        let id = self.some_id(script);
        let place = self.flight(id).filter(|&at| self.flights[at].released);
        assert_eq!(self.outbound.handle_pubcomp(id), place.is_some());
        place.map(|at| self.flights.remove(at));
    }

    fn handle_publish(&mut self, script: &mut Script<'_>) {
        let id = PacketId::new(u16::from(script.choice(8)) + 1).expect("not zero");
        let maximum = script.pick(&[1, 2, 20]);
        let fresh = self.held.values().filter(|&&fresh| fresh).count();
        let expected = match (self.held.contains_key(&id), fresh < usize::from(maximum)) {
            (true, _) => Admission::AcknowledgeOnly,
            (false, false) => Admission::QuotaExceeded,
            (false, true) => Admission::Route,
        };
        if expected == Admission::Route {
            self.held.insert(id, true);
        }
        let delivery = Delivery::ExactlyOnce(id);
        assert_eq!(
            self.inbound.handle_publish(delivery, maximum, (Seed::new(5), &ByteCount::default())),
            expected
        );
    }

    fn handle_pubrel(&mut self, script: &mut Script<'_>) {
        let id = PacketId::new(u16::from(script.choice(8)) + 1).expect("not zero");
        assert_eq!(self.inbound.handle_pubrel(id), self.held.remove(&id).is_some());
    }

    fn outstanding(&self) -> usize {
        self.flights.iter().filter(|flight| flight.counted).count()
    }

    fn check(&self) {
        assert_eq!(usize::from(self.outbound.outstanding()), self.outstanding());
        assert_eq!(self.outbound.in_flight(), self.flights.len());
        assert_eq!(self.outbound.queue.len(), self.waiting.len());
        let bytes: usize = self.waiting.iter().map(|(queued, _)| queued.message.size()).sum();
        assert_eq!(self.outbound.queue.bytes(), bytes);
        assert_eq!(self.inbound.held(), self.held.len());
        assert!(self.outbound.has_room() || !self.flights.is_empty(), "nothing would go on");
        assert!(self.outstanding() <= self.window);
    }
}

const LIMITS: QueueLimits = QueueLimits { messages_max: 8, bytes_max: usize::MAX };
