//! The subscriber's half of a session: messages in flight to the client.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroU64,
};

use super::{
    ordinals::{Ordinal, Ordinals},
    queue::{Queue, QueuedMessage},
};
use crate::mqtt::{PacketId, QoS};

/// QoS 1 and 2 messages to the client: those in flight, which were sent and are not complete, and
/// those that wait in the queue.
///
/// ```text
///              QoS 1: PUBACK
///   sent ------------------------> done
///     |                             ^
///     | QoS 2: PUBREC     PUBCOMP   |
///     +----------> released --------+
///                (PUBREL sent)
/// ```
///
/// A *flight* is a message in flight. Packet Identifiers are given out in order, so the place of a
/// flight in the deque is the distance of its identifier from the first one. Flights that end out
/// of order stay as `Done` until all flights before them end. A flight that outlasts many later
/// ones is kept apart, so that the deque stays short. Its identifier is skipped until it ends.
#[derive(Debug)]
pub struct Outbound {
    flights: VecDeque<Flight>,
    /// The Packet Identifier of the first flight.
    first_id: PacketId,
    /// How many flights, from the front, have been sent on this connection: at most as many as
    /// there are Packet Identifiers.
    sent: u16,
    /// Flights that are not done.
    alive: u16,
    /// Flights that are older than all of the deque. Usually there are none.
    late: Option<Box<LateFlights>>,
    /// Flights that count against the window: sent on this connection and not done.
    outstanding: u16,
    /// How many may be outstanding at once. [MQTT-3.3.4-9]
    window: u16,
    /// The order of messages, if the session survives a restart.
    ordinals: Option<Box<Ordinals>>,
    pub queue: Queue,
}

#[derive(Debug, Default)]
enum Flight {
    Sent {
        queued: QueuedMessage,
        counted: bool,
    },
    Released {
        counted: bool,
        ordinal: Ordinal,
    },
    #[default]
    Done,
}

/// What is sent again when a session resumes, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Resend<'a> {
    Publish(PacketId, &'a QueuedMessage),
    Pubrel(PacketId),
}

impl PartialEq for QueuedMessage {
    fn eq(&self, other: &QueuedMessage) -> bool {
        std::rc::Rc::ptr_eq(&self.message, &other.message)
    }
}

impl Eq for QueuedMessage {}

/// What follows from a PUBREC of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Answer with PUBREL.
    Release,
    /// The client refused the message; its identifier is free again.
    Refused,
    /// No such identifier is in flight at QoS 2.
    Unknown,
}

/// The deque is at most this many times as long as the window.
const SPAN_PER_WINDOW: usize = 8;
const PACKET_IDS: usize = u16::MAX as usize;

impl Default for Outbound {
    fn default() -> Outbound {
        Outbound {
            flights: VecDeque::new(),
            first_id: PacketId::MIN,
            sent: 0,
            alive: 0,
            late: None,
            outstanding: 0,
            window: 1,
            ordinals: None,
            queue: Queue::default(),
        }
    }
}

impl Outbound {
    /// A connection begins: nothing has been sent on it yet.
    pub fn connect(&mut self, window: u16) {
        self.window = window.max(1);
        self.sent = 0;
        self.outstanding = 0;
        self.flights.iter_mut().for_each(Flight::discount);
        if let Some(late) = &mut self.late {
            late.connect();
        }
    }

    /// Whether a new PUBLISH at QoS 1 or 2 may be sent now: there is room, and nothing waits.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.queue.is_empty() && !self.is_resending() && self.has_room()
    }

    /// Whether the window has room for one more new flight, and a Packet Identifier is free.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.outstanding < self.window && usize::from(self.alive) < PACKET_IDS
    }

    /// Whether any message waits to be sent, or to be sent again.
    #[inline]
    pub fn owes(&self) -> bool {
        !self.queue.is_empty() || self.is_resending()
    }

    /// Whether flights of an earlier connection still have to be sent again.
    #[inline]
    pub fn is_resending(&self) -> bool {
        usize::from(self.sent) < self.flights.len()
            || self.late.as_ref().is_some_and(|late| late.is_resending())
    }

    pub fn outstanding(&self) -> u16 {
        self.outstanding
    }

    pub fn in_flight(&self) -> usize {
        usize::from(self.alive)
    }

    /// From now on messages have ordinals, beginning with this one, in the session with this number
    /// in the store.
    pub fn begin_ordinals(&mut self, number: NonZeroU64, next: u64) {
        self.ordinals = Some(Box::new(Ordinals::of_session(number, next)));
    }

    /// The number of the session in the store, if it survives a restart.
    #[inline]
    pub fn stored(&self) -> Option<NonZeroU64> {
        self.ordinals.as_ref().map(|ordinals| ordinals.number())
    }

    /// From now on messages have no ordinals: the session does not survive a restart any more.
    pub fn end_ordinals(&mut self) {
        self.ordinals = None;
    }

    /// The ordinal of the next message, if the session survives a restart.
    #[inline]
    pub fn next_ordinal(&self) -> Ordinal {
        self.ordinals.as_ref().map_or(Ordinal::NONE, |ordinals| ordinals.next())
    }

    /// A message has got the next ordinal, and is on disk with this mark.
    pub fn take_ordinal(&mut self, mark: u64) {
        if let Some(ordinals) = &mut self.ordinals {
            ordinals.take(mark);
        }
    }

    /// Whether the first message of the queue may be sent, when all is on disk up to the mark
    /// `durable`. One at QoS 2 may not before it is on disk: if the broker forgot it, its publisher
    /// would send it again, and the client would take it for another one. And its Packet Identifier
    /// may still be in use, by a message that the client has not acknowledged for 65,535 others.
    #[inline]
    pub fn may_send_first(&mut self, durable: u64) -> bool {
        let Some(ordinals) = &mut self.ordinals else { return true };
        let Some(first) = self.queue.first().filter(|first| !first.ordinal.is_none()) else {
            return true;
        };
        let is_on_disk =
            first.qos != QoS::ExactlyOnce || ordinals.is_durable(first.ordinal, durable);
        let packet_id = first.ordinal.packet_id();
        is_on_disk && self.is_free(packet_id)
    }

    /// Whether no message is in flight with this identifier.
    pub fn is_free(&self, packet_id: PacketId) -> bool {
        let place = distance(self.first_id, packet_id);
        self.flights.get(place).is_none_or(|flight| matches!(flight, Flight::Done))
            && !self.late.as_ref().is_some_and(|late| late.contains(packet_id))
    }

    /// The ordinal of the message in flight with this identifier on this connection.
    pub fn ordinal_of(&mut self, packet_id: PacketId) -> Ordinal {
        match self.sent_flight(packet_id) {
            Some(Flight::Sent { queued, .. }) => queued.ordinal,
            Some(Flight::Released { ordinal, .. }) => *ordinal,
            Some(Flight::Done) | None => Ordinal::NONE,
        }
    }

    /// The ordinals of all messages in flight or queued that have one.
    pub fn ordinals(&self) -> impl Iterator<Item = Ordinal> {
        let late = self.late.iter().flat_map(|late| late.flights.values().map(|(_, it)| it));
        let flights = late.chain(&self.flights).filter_map(|flight| match flight {
            Flight::Sent { queued, .. } => Some(queued.ordinal),
            Flight::Released { ordinal, .. } => Some(*ordinal),
            Flight::Done => None,
        });
        let all = flights.chain(self.queue.iter().map(|queued| queued.ordinal));
        all.filter(|ordinal| !ordinal.is_none())
    }

    /// Puts a message in flight that may have been sent before a restart.
    pub fn restore_sent(&mut self, queued: QueuedMessage) {
        self.begin(queued);
    }

    /// Puts a message in flight for which the client has sent PUBREC before a restart.
    pub fn restore_released(&mut self, ordinal: Ordinal) {
        self.make_room_for(ordinal);
        self.flights.push_back(Flight::Released { counted: true, ordinal });
        self.sent += 1;
        self.alive += 1;
        self.outstanding += 1;
    }

    #[cold]
    #[inline(never)]
    fn make_room_for(&mut self, ordinal: Ordinal) {
        if self.late.is_some() || self.flights.len() >= self.span() {
            self.make_room();
        }
        if !ordinal.is_none() {
            self.skip_to(ordinal.packet_id());
        }
    }

    /// Skips identifiers until the next flight gets this one, which is free.
    fn skip_to(&mut self, packet_id: PacketId) {
        let skipped = distance(id_at(self.first_id, self.flights.len()), packet_id);
        if skipped == 0 {
            return;
        }
        if self.flights.len() + skipped >= self.span() {
            while !self.flights.is_empty() {
                self.set_first_apart();
            }
        }
        if self.flights.is_empty() {
            self.first_id = packet_id;
            return;
        }
        self.flights.extend((0..skipped).map(|_| Flight::Done));
        self.sent += u16::try_from(skipped).expect("fewer than there are identifiers");
    }

    /// Puts a message in flight. The caller sends it with the Packet Identifier that this returns.
    pub fn begin(&mut self, queued: QueuedMessage) -> PacketId {
        debug_assert!(!self.is_resending(), "re-sending comes before new messages");
        let is_ordinary = self.ordinals.is_none() && self.late.is_none();
        if !is_ordinary || self.flights.len() >= self.span() {
            self.make_room_for(queued.ordinal);
        }
        let packet_id = id_at(self.first_id, self.flights.len());
        self.flights.push_back(Flight::Sent { queued, counted: true });
        self.sent += 1;
        self.alive += 1;
        self.outstanding += 1;
        packet_id
    }

    fn span(&self) -> usize {
        (usize::from(self.window) * SPAN_PER_WINDOW).min(PACKET_IDS)
    }

    /// Shortens the deque until it has room for one more flight, and skips identifiers in use.
    fn make_room(&mut self) {
        loop {
            while self.flights.len() >= self.span() {
                self.set_first_apart();
            }
            let next = id_at(self.first_id, self.flights.len());
            if !self.late.as_ref().is_some_and(|late| late.contains(next)) {
                return;
            }
            if self.flights.is_empty() {
                self.first_id = id_at(next, 1);
            } else {
                self.flights.push_back(Flight::Done);
                self.sent += 1;
            }
        }
    }

    /// Moves the first flight of the deque, which is not done, to the late ones.
    fn set_first_apart(&mut self) {
        let Some(flight) = self.flights.pop_front() else { return };
        let late = self.late.get_or_insert_default();
        late.push(self.first_id, flight);
        self.first_id = id_at(self.first_id, 1);
        self.sent -= 1;
        self.forget_first_done();
    }

    /// The next flight of an earlier connection, now counted as sent on this one; `None` if there
    /// is none or the window is full. [MQTT-4.4.0-1]
    pub fn resend_next(&mut self) -> Option<Resend<'_>> {
        let full = self.outstanding >= self.window;
        if let Some(late) = self.late.as_mut().filter(|late| late.is_resending()) {
            return late.resend_next(full, &mut self.outstanding);
        }
        while matches!(self.flights.get(usize::from(self.sent)), Some(Flight::Done)) {
            self.sent += 1;
        }
        let packet_id = id_at(self.first_id, usize::from(self.sent));
        let flight = self.flights.get_mut(usize::from(self.sent))?;
        let resend = flight.resend(packet_id, full, &mut self.outstanding)?;
        self.sent += 1;
        Some(resend)
    }

    /// Ends a QoS 1 flight. False: there is none with this identifier.
    pub fn handle_puback(&mut self, packet_id: PacketId) -> bool {
        self.end(packet_id, |flight| match flight {
            Flight::Sent { queued, .. } => queued.qos == QoS::AtLeastOnce,
            Flight::Released { .. } | Flight::Done => false,
        })
    }

    /// The client has received or refused a QoS 2 message. [MQTT-4.3.3-4]
    pub fn handle_pubrec(&mut self, packet_id: PacketId, refused: bool) -> Received {
        let Some(flight) = self.sent_flight(packet_id) else { return Received::Unknown };
        match flight {
            Flight::Sent { queued, .. } if queued.qos != QoS::ExactlyOnce => Received::Unknown,
            Flight::Done => Received::Unknown,
            _ if refused => {
                self.finish(packet_id);
                Received::Refused
            }
            Flight::Sent { counted, queued } => {
                *flight = Flight::Released { counted: *counted, ordinal: queued.ordinal };
                Received::Release
            }
            Flight::Released { .. } => Received::Release,
        }
    }

    /// Ends a QoS 2 flight. False: there is no released one with this identifier.
    pub fn handle_pubcomp(&mut self, packet_id: PacketId) -> bool {
        self.end(packet_id, |flight| matches!(flight, Flight::Released { .. }))
    }

    /// The QoS of the message that is in flight under this identifier on this connection.
    pub fn qos_of(&mut self, packet_id: PacketId) -> Option<QoS> {
        match self.sent_flight(packet_id)? {
            Flight::Sent { queued, .. } => Some(queued.qos),
            Flight::Released { .. } => Some(QoS::ExactlyOnce),
            Flight::Done => None,
        }
    }

    /// Ends a flight that could not be sent after all.
    pub fn abandon(&mut self, packet_id: PacketId) {
        self.finish(packet_id);
    }

    /// The messages that other members of share groups take over when the session ends, oldest
    /// first: unacknowledged and queued ones. A QoS 2 message that has been sent is not among them.
    /// [MQTT-4.8.2-5]
    pub fn into_shared(self) -> impl Iterator<Item = QueuedMessage> {
        let queued = self.queue.into_messages();
        let late = self.late.into_iter().flat_map(|late| late.flights.into_values());
        let flights = late.map(|(_, flight)| flight).chain(self.flights);
        let unfinished = flights.filter_map(|flight| match flight {
            Flight::Sent { queued, .. } if queued.qos != QoS::ExactlyOnce => Some(queued),
            Flight::Sent { .. } | Flight::Released { .. } | Flight::Done => None,
        });
        unfinished.chain(queued).filter(|queued| queued.group.is_some())
    }

    fn end(&mut self, packet_id: PacketId, expected: impl Fn(&Flight) -> bool) -> bool {
        let flight = self.sent_flight(packet_id).filter(|flight| expected(flight));
        let ended = flight.map(std::mem::take);
        if let Some(flight) = &ended {
            self.forget(packet_id, flight);
        }
        ended.is_some()
    }

    fn finish(&mut self, packet_id: PacketId) {
        self.end(packet_id, |_| true);
    }

    /// Updates the counts for a flight that has ended.
    fn forget(&mut self, packet_id: PacketId, flight: &Flight) {
        let (Flight::Sent { counted, .. } | Flight::Released { counted, .. }) = *flight else {
            unreachable!("a flight that is done is not found");
        };
        self.alive -= 1;
        self.outstanding -= u16::from(counted);
        self.late.take_if(|late| late.forget(packet_id));
        self.forget_first_done();
        if self.flights.is_empty() && self.flights.capacity() > IDLE_CAPACITY_MAX {
            self.flights = VecDeque::new();
        }
    }

    fn forget_first_done(&mut self) {
        while matches!(self.flights.front(), Some(Flight::Done)) {
            self.flights.pop_front();
            self.first_id = id_at(self.first_id, 1);
            self.sent = self.sent.saturating_sub(1);
        }
    }

    /// The flight with this identifier, if it was sent on this connection: only then can it be
    /// acknowledged.
    fn sent_flight(&mut self, packet_id: PacketId) -> Option<&mut Flight> {
        let index = distance(self.first_id, packet_id);
        if index < usize::from(self.sent) && !matches!(self.flights[index], Flight::Done) {
            return Some(&mut self.flights[index]);
        }
        self.late.as_mut()?.sent_flight(packet_id)
    }
}

impl Flight {
    /// A new connection begins: the flight no longer counts against the window.
    fn discount(&mut self) {
        match self {
            Flight::Sent { counted, .. } | Flight::Released { counted, .. } => *counted = false,
            Flight::Done => {}
        }
    }

    /// What to send again for this flight; `None` if nothing, or while the window is full.
    fn resend(
        &mut self,
        packet_id: PacketId,
        full: bool,
        outstanding: &mut u16,
    ) -> Option<Resend<'_>> {
        match self {
            Flight::Sent { .. } if full => None,
            Flight::Sent { queued, counted } => {
                *counted = true;
                *outstanding += 1;
                Some(Resend::Publish(packet_id, queued))
            }
            Flight::Released { .. } => Some(Resend::Pubrel(packet_id)),
            Flight::Done => None,
        }
    }
}

/// Flights that have outlasted many later ones, in the order in which they were sent. None is done.
#[derive(Debug, Default)]
struct LateFlights {
    flights: BTreeMap<u64, (PacketId, Flight)>,
    /// The place of each flight in that order.
    places: BTreeMap<PacketId, u64>,
    /// The place of the next flight.
    next: u64,
    /// Flights before this place have been sent on this connection.
    sent: u64,
}

impl LateFlights {
    /// Adds a flight that has been sent on this connection, after all others.
    fn push(&mut self, packet_id: PacketId, flight: Flight) {
        self.flights.insert(self.next, (packet_id, flight));
        self.places.insert(packet_id, self.next);
        self.next += 1;
        self.sent = self.next;
    }

    fn contains(&self, packet_id: PacketId) -> bool {
        self.places.contains_key(&packet_id)
    }

    fn connect(&mut self) {
        self.sent = 0;
        self.flights.values_mut().for_each(|(_, flight)| flight.discount());
    }

    fn is_resending(&self) -> bool {
        self.flights.last_key_value().is_some_and(|(&place, _)| place >= self.sent)
    }

    fn resend_next(&mut self, full: bool, outstanding: &mut u16) -> Option<Resend<'_>> {
        let (&place, (packet_id, flight)) = self.flights.range_mut(self.sent..).next()?;
        let resend = flight.resend(*packet_id, full, outstanding)?;
        self.sent = place + 1;
        Some(resend)
    }

    fn sent_flight(&mut self, packet_id: PacketId) -> Option<&mut Flight> {
        let place = *self.places.get(&packet_id)?;
        let (_, flight) = self.flights.get_mut(&place).filter(|_| place < self.sent)?;
        Some(flight)
    }

    /// Forgets the flight if it is done. True: none is left.
    fn forget(&mut self, packet_id: PacketId) -> bool {
        if let Some(&place) = self.places.get(&packet_id)
            && matches!(self.flights.get(&place), Some((_, Flight::Done)))
        {
            self.flights.remove(&place);
            self.places.remove(&packet_id);
        }
        self.flights.is_empty()
    }
}

/// The identifier `distance` after `first`; after 65,535 comes 1. [MQTT-2.2.1-3]
fn id_at(first: PacketId, distance: usize) -> PacketId {
    let value = (usize::from(first.value()) - 1 + distance) % PACKET_IDS + 1;
    u16::try_from(value).ok().and_then(PacketId::new).expect("from 1 to 65,535")
}

/// How many identifiers lie from `first` to `packet_id`.
#[inline]
fn distance(first: PacketId, packet_id: PacketId) -> usize {
    let from = usize::from(first.value());
    (usize::from(packet_id.value()) + PACKET_IDS - from) % PACKET_IDS
}

/// The memory of a larger deque is freed when nothing is in flight.
const IDLE_CAPACITY_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use crate::base::byte_count::ByteCount;
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::{
        super::{
            message::{CountedMessage, tests::view},
            queue::QueueLimits,
        },
        *,
    };
    use crate::base::time::Moment;
    use crate::topic::{GroupName, ShareName, SharedFilter, TopicFilter};

    fn queued(qos: QoS) -> QueuedMessage {
        let message = Rc::new(CountedMessage::keep(&view("t", b"", qos), &ByteCount::default()));
        QueuedMessage {
            message,
            qos,
            retain: false,
            subscription_ids: None,
            group: None,
            ordinal: Ordinal::NONE,
        }
    }

    fn open(window: u16) -> Outbound {
        let mut outbound = Outbound::default();
        outbound.connect(window);
        outbound
    }

    fn id(value: u16) -> PacketId {
        PacketId::new(value).unwrap()
    }

    /// [MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1] [MQTT-2.3.1-4@3.1.1] [MQTT-4.3.2-1@3.1.1]
    #[test]
    fn identifiers_are_given_in_turn_and_wrap_past_zero() {
        let mut outbound = open(1);
        for round in 0..70_000_u32 {
            let packet_id = outbound.begin(queued(QoS::AtLeastOnce));
            assert_eq!(u32::from(packet_id.value()), round % 65_535 + 1);
            assert!(!outbound.is_open());
            assert!(outbound.handle_puback(packet_id));
            assert!(outbound.is_open());
        }
    }

    /// [MQTT-4.3.3-4] [MQTT-4.3.3-5] [MQTT-4.3.3-1@3.1.1]
    #[test]
    fn qos_2_ends_with_pubcomp_only() {
        let mut outbound = open(1);
        let packet_id = outbound.begin(queued(QoS::ExactlyOnce));
        assert!(!outbound.handle_puback(packet_id));
        assert!(!outbound.handle_pubcomp(packet_id));
        assert_eq!(outbound.handle_pubrec(packet_id, false), Received::Release);
        assert_eq!(outbound.handle_pubrec(packet_id, false), Received::Release);
        assert!(!outbound.is_open());
        assert!(outbound.handle_pubcomp(packet_id));
        assert!(outbound.is_open());
        assert_eq!(outbound.handle_pubrec(packet_id, false), Received::Unknown);
    }

    #[test]
    fn a_refused_message_frees_its_identifier() {
        let mut outbound = open(1);
        let packet_id = outbound.begin(queued(QoS::ExactlyOnce));
        assert_eq!(outbound.handle_pubrec(packet_id, true), Received::Refused);
        assert!(outbound.is_open());
    }

    /// [MQTT-4.3.2-3] [MQTT-4.6.0-1] [MQTT-4.6.0-1@3.1.1]
    #[test]
    fn what_was_in_flight_is_sent_again_in_order_under_the_same_identifiers() {
        let mut outbound = open(10);
        let messages =
            [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].map(queued);
        for message in &messages {
            outbound.begin(message.clone());
        }
        outbound.handle_pubrec(id(2), false);
        outbound.handle_puback(id(3));

        outbound.connect(10);
        assert!(outbound.is_resending());
        assert!(!outbound.handle_puback(id(1)), "not sent on this connection yet");
        assert_eq!(outbound.resend_next(), Some(Resend::Publish(id(1), &messages[0])));
        assert_eq!(outbound.resend_next(), Some(Resend::Pubrel(id(2))));
        assert_eq!(outbound.resend_next(), Some(Resend::Publish(id(4), &messages[3])));
        assert_eq!(outbound.resend_next(), None);
        assert!(outbound.handle_puback(id(1)) && outbound.handle_pubcomp(id(2)));
        assert_eq!(outbound.begin(queued(QoS::AtLeastOnce)), id(5));
    }

    /// [MQTT-3.3.4-9]
    #[test]
    fn re_sending_keeps_to_a_window_that_has_become_smaller() {
        let mut outbound = open(3);
        for _ in 0..3 {
            outbound.begin(queued(QoS::AtLeastOnce));
        }
        outbound.connect(1);
        assert!(outbound.resend_next().is_some());
        assert!(outbound.resend_next().is_none());
        assert!(outbound.is_resending());
        assert!(outbound.handle_puback(id(1)));
        assert!(outbound.resend_next().is_some());
    }

    #[test]
    fn other_members_inherit_what_waits_and_what_was_sent_at_qos_1() {
        let filter = TopicFilter::parse("t").unwrap();
        let shared = SharedFilter { share: ShareName::parse("g").unwrap(), filter };
        let group = Rc::new(GroupName::from(shared));
        let came_by_group = |qos| QueuedMessage { group: Some(Rc::clone(&group)), ..queued(qos) };
        let mut outbound = open(10);
        let first = came_by_group(QoS::AtLeastOnce);
        let waiting = came_by_group(QoS::ExactlyOnce);
        for queued in [
            first.clone(),
            came_by_group(QoS::AtLeastOnce),
            came_by_group(QoS::ExactlyOnce),
            queued(QoS::AtLeastOnce),
        ] {
            outbound.begin(queued);
        }
        assert!(outbound.handle_puback(id(2)));
        for queued in [queued(QoS::AtLeastOnce), waiting.clone()] {
            outbound.queue.push(queued, Moment::from_nanos(0), &QueueLimits::NONE).unwrap();
        }
        assert!(outbound.into_shared().eq([first, waiting]));
    }

    #[test]
    fn one_message_that_is_never_acknowledged_stops_no_other() {
        let mut outbound = open(3);
        let held = outbound.begin(queued(QoS::AtLeastOnce));
        for round in 0..200_000 {
            assert!(outbound.is_open(), "in round {round}");
            let packet_id = outbound.begin(queued(QoS::AtLeastOnce));
            assert_ne!(packet_id, held);
            assert!(outbound.flights.len() <= outbound.span());
            assert!(outbound.handle_puback(packet_id));
        }
        assert_eq!(outbound.in_flight(), 1);
        assert!(outbound.handle_puback(held));
        assert!(!outbound.handle_puback(held));
        assert_eq!((outbound.in_flight(), outbound.late.is_none()), (0, true));
    }

    #[test]
    fn what_was_not_acknowledged_for_long_is_sent_again_first() {
        let mut outbound = open(4);
        let late = [QoS::AtLeastOnce, QoS::ExactlyOnce].map(queued);
        let ids = late.each_ref().map(|queued| outbound.begin(queued.clone()));
        for _ in 0..100 {
            let packet_id = outbound.begin(queued(QoS::AtLeastOnce));
            outbound.handle_puback(packet_id);
        }
        let last = queued(QoS::AtLeastOnce);
        let last_id = outbound.begin(last.clone());
        assert_eq!(outbound.handle_pubrec(ids[1], false), Received::Release);
        outbound.connect(1);
        assert!(!outbound.handle_puback(ids[0]), "not sent on this connection yet");
        assert_eq!(outbound.resend_next(), Some(Resend::Publish(ids[0], &late[0])));
        assert_eq!(outbound.resend_next(), Some(Resend::Pubrel(ids[1])));
        assert!(outbound.is_resending());
        assert_eq!(outbound.resend_next(), None, "the window is full");
        assert!(outbound.handle_puback(ids[0]));
        assert_eq!(outbound.resend_next(), Some(Resend::Publish(last_id, &last)));
        assert!(!outbound.is_resending() && outbound.handle_pubcomp(ids[1]));
        assert!(outbound.handle_puback(last_id));
        assert_eq!(outbound.in_flight(), 0);
    }

    #[test]
    fn nothing_is_sent_without_a_free_identifier() {
        let mut outbound = open(u16::MAX);
        for round in 0..65_535 {
            assert!(outbound.has_room(), "in round {round}");
            let packet_id = outbound.begin(queued(QoS::ExactlyOnce));
            outbound.handle_pubrec(packet_id, false);
        }
        outbound.connect(10);
        assert!(!outbound.has_room());
        while outbound.resend_next().is_some() {}
        assert!(!outbound.has_room());
        assert!(outbound.handle_pubcomp(id(40_000)));
        assert!(outbound.has_room());
        assert_eq!(outbound.begin(queued(QoS::AtLeastOnce)), id(40_000));
        assert!(!outbound.has_room());
    }

    /// What a client may do to the messages that it has been sent.
    #[derive(Clone, Copy, Debug)]
    enum Operation {
        Begin(QoS),
        /// Acknowledges one of those in flight, by its place.
        Acknowledge(usize),
        Connect(u16),
    }

    fn arb_operation() -> impl Strategy<Value = Operation> {
        let qos = prop_oneof![Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)];
        prop_oneof![
            8 => qos.prop_map(Operation::Begin),
            8 => (0..100usize).prop_map(Operation::Acknowledge),
            1 => (1..6u16).prop_map(Operation::Connect),
        ]
    }

    proptest! {
        /// The judge is a list: identifier, QoS, and whether it was released and sent here.
        #[test]
        fn flights_agree_with_a_list(operations in prop::collection::vec(arb_operation(), 0..600)) {
            let mut outbound = open(3);
            let mut window = 3;
            let mut list: Vec<(PacketId, QoS, bool, bool)> = Vec::new();
            for operation in operations {
                match operation {
                    Operation::Begin(qos) if outbound.has_room() && !outbound.is_resending() => {
                        let packet_id = outbound.begin(queued(qos));
                        prop_assert!(list.iter().all(|it| it.0 != packet_id));
                        list.push((packet_id, qos, false, true));
                    }
                    Operation::Acknowledge(at) if !list.is_empty() => {
                        // The oldest is left alone for as long as there are others.
                        let at = (at % list.len()).max(usize::from(list.len() > 1));
                        let (packet_id, qos, released, here) = list[at];
                        if qos == QoS::AtLeastOnce {
                            prop_assert_eq!(outbound.handle_puback(packet_id), here);
                        } else if released {
                            prop_assert_eq!(outbound.handle_pubcomp(packet_id), here);
                        } else {
                            let wanted = if here { Received::Release } else { Received::Unknown };
                            prop_assert_eq!(outbound.handle_pubrec(packet_id, false), wanted);
                            list[at].2 |= here;
                            continue;
                        }
                        if here {
                            list.remove(at);
                        }
                    }
                    Operation::Begin(_) | Operation::Acknowledge(_) => {}
                    Operation::Connect(width) => {
                        window = width;
                        outbound.connect(window);
                        for it in &mut list {
                            it.3 = false;
                        }
                    }
                }
                while let Some(resend) = outbound.resend_next() {
                    let (packet_id, publish) = match resend {
                        Resend::Publish(packet_id, _) => (packet_id, true),
                        Resend::Pubrel(packet_id) => (packet_id, false),
                    };
                    let next = list.iter_mut().find(|it| !it.3).unwrap();
                    prop_assert_eq!((next.0, !next.2), (packet_id, publish));
                    next.3 = true;
                }
                prop_assert_eq!(outbound.in_flight(), list.len());
                prop_assert!(outbound.outstanding() <= window);
            }
        }
    }
}
