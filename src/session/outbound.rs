//! The subscriber's half of a session: what is in flight to the client.

use std::collections::VecDeque;

use super::queue::{Queue, QueuedMessage};
use crate::mqtt::{PacketId, QoS};

/// Messages sent at QoS 1 and 2 and not finished with, and those that wait behind them.
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
/// Packet Identifiers are given out in turn, so the flight is dense: a flight's place in the deque
/// is its identifier's distance from the first one. Flights that end out of turn stay as `Done`
/// until those before them end.
#[derive(Debug)]
pub struct Outbound {
    flights: VecDeque<Flight>,
    /// The Packet Identifier of the first flight.
    first_id: PacketId,
    /// How many flights, from the front, have been sent on this connection; there are no more of
    /// them than Packet Identifiers.
    sent: u16,
    /// Flights that count against the window: sent on this connection and not done.
    outstanding: u16,
    /// How many may be outstanding at once. [MQTT-3.3.4-9]
    window: u16,
    pub queue: Queue,
}

#[derive(Debug)]
enum Flight {
    Sent { queued: QueuedMessage, counted: bool },
    Released { counted: bool },
    Done,
}

/// What is to be sent again when a session resumes, in order.
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

/// How a client's PUBREC was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Answer with PUBREL.
    Release,
    /// The client refused the message; its identifier is free again.
    Refused,
    /// No such identifier is in flight at QoS 2.
    Unknown,
}

/// An open window is narrower than this many times its size in identifiers: a client that never
/// acknowledges its oldest message cannot make the flight grow by acknowledging all others.
const SPAN_PER_WINDOW: usize = 8;
const PACKET_IDS: usize = u16::MAX as usize;

impl Default for Outbound {
    fn default() -> Outbound {
        Outbound {
            flights: VecDeque::new(),
            first_id: PacketId::MIN,
            sent: 0,
            outstanding: 0,
            window: 1,
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
        for flight in &mut self.flights {
            match flight {
                Flight::Sent { counted, .. } | Flight::Released { counted } => *counted = false,
                Flight::Done => {}
            }
        }
    }

    /// Whether one more PUBLISH at QoS 1 or 2 may be sent now, ahead of nothing that waits.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.queue.is_empty() && usize::from(self.sent) == self.flights.len() && self.has_room()
    }

    /// Whether the window has room for one more new flight.
    #[inline]
    pub fn has_room(&self) -> bool {
        let span = usize::from(self.window) * SPAN_PER_WINDOW;
        self.outstanding < self.window && self.flights.len() < span.min(PACKET_IDS)
    }

    /// Whether flights of an earlier connection still have to be sent again.
    pub fn is_resending(&self) -> bool {
        usize::from(self.sent) < self.flights.len()
    }

    pub fn outstanding(&self) -> u16 {
        self.outstanding
    }

    pub fn in_flight(&self) -> usize {
        self.flights.iter().filter(|flight| !matches!(flight, Flight::Done)).count()
    }

    /// Takes off: the queued is being sent under the identifier that this returns.
    pub fn begin(&mut self, queued: QueuedMessage) -> PacketId {
        debug_assert!(
            usize::from(self.sent) == self.flights.len(),
            "re-sending comes before new messages"
        );
        let packet_id = id_at(self.first_id, self.flights.len());
        self.flights.push_back(Flight::Sent { queued, counted: true });
        self.sent += 1;
        self.outstanding += 1;
        packet_id
    }

    /// The next flight of an earlier connection, now counted as sent on this one; `None` when
    /// there is none or the window is full. [MQTT-4.4.0-1]
    pub fn resend_next(&mut self) -> Option<Resend<'_>> {
        while matches!(self.flights.get(usize::from(self.sent)), Some(Flight::Done)) {
            self.sent += 1;
        }
        let full = self.outstanding >= self.window;
        let packet_id = id_at(self.first_id, usize::from(self.sent));
        match self.flights.get_mut(usize::from(self.sent))? {
            Flight::Sent { .. } if full => None,
            Flight::Sent { queued, counted } => {
                *counted = true;
                self.outstanding += 1;
                self.sent += 1;
                Some(Resend::Publish(packet_id, queued))
            }
            Flight::Released { .. } => {
                self.sent += 1;
                Some(Resend::Pubrel(packet_id))
            }
            Flight::Done => None,
        }
    }

    /// Ends a QoS 1 flight. False when there is none with this identifier.
    pub fn handle_puback(&mut self, packet_id: PacketId) -> bool {
        self.end(packet_id, |flight| match flight {
            Flight::Sent { queued, .. } => queued.qos == QoS::AtLeastOnce,
            Flight::Released { .. } | Flight::Done => false,
        })
    }

    /// The client has a QoS 2 message, or has refused it. [MQTT-4.3.3-4]
    pub fn handle_pubrec(&mut self, packet_id: PacketId, refused: bool) -> Received {
        let Some(index) = self.index(packet_id) else { return Received::Unknown };
        match &self.flights[index] {
            Flight::Sent { queued, .. } if queued.qos != QoS::ExactlyOnce => Received::Unknown,
            Flight::Done => Received::Unknown,
            _ if refused => {
                self.finish(index);
                Received::Refused
            }
            Flight::Sent { counted, .. } | Flight::Released { counted } => {
                self.flights[index] = Flight::Released { counted: *counted };
                Received::Release
            }
        }
    }

    /// Ends a QoS 2 flight. False when there is none released with this identifier.
    pub fn handle_pubcomp(&mut self, packet_id: PacketId) -> bool {
        self.end(packet_id, |flight| matches!(flight, Flight::Released { .. }))
    }

    /// The QoS of the message that is in flight under this identifier on this connection.
    pub fn qos_of(&self, packet_id: PacketId) -> Option<QoS> {
        match &self.flights[self.index(packet_id)?] {
            Flight::Sent { queued, .. } => Some(queued.qos),
            Flight::Released { .. } => Some(QoS::ExactlyOnce),
            Flight::Done => None,
        }
    }

    /// Ends a flight that could not be sent after all.
    pub fn abandon(&mut self, packet_id: PacketId) {
        if let Some(index) = self.index(packet_id) {
            self.finish(index);
        }
    }

    /// What is left at the session's end to the other members of share groups, oldest first: what
    /// has not been acknowledged, and what waits. A QoS 2 message that has been sent is for nobody
    /// else. [MQTT-4.8.2-5]
    pub fn into_shared(self) -> impl Iterator<Item = QueuedMessage> {
        let queued = self.queue.into_parcels();
        let unfinished = self.flights.into_iter().filter_map(|flight| match flight {
            Flight::Sent { queued, .. } if queued.qos != QoS::ExactlyOnce => Some(queued),
            Flight::Sent { .. } | Flight::Released { .. } | Flight::Done => None,
        });
        unfinished.chain(queued).filter(|queued| queued.group.is_some())
    }

    fn end(&mut self, packet_id: PacketId, expected: impl Fn(&Flight) -> bool) -> bool {
        let Some(index) = self.index(packet_id) else { return false };
        if !expected(&self.flights[index]) {
            return false;
        }
        self.finish(index);
        true
    }

    fn finish(&mut self, index: usize) {
        if let Flight::Sent { counted: true, .. } | Flight::Released { counted: true } =
            self.flights[index]
        {
            self.outstanding -= 1;
        }
        self.flights[index] = Flight::Done;
        while matches!(self.flights.front(), Some(Flight::Done)) {
            self.flights.pop_front();
            self.first_id = id_at(self.first_id, 1);
            self.sent = self.sent.saturating_sub(1);
        }
        if self.flights.is_empty() && self.flights.capacity() > IDLE_CAPACITY_MAX {
            self.flights = VecDeque::new();
        }
    }

    /// Where the flight with this identifier is. What was not sent on this connection cannot be
    /// acknowledged on it.
    fn index(&self, packet_id: PacketId) -> Option<usize> {
        let from = usize::from(self.first_id.value());
        let index = (usize::from(packet_id.value()) + PACKET_IDS - from) % PACKET_IDS;
        (index < usize::from(self.sent)).then_some(index)
    }
}

/// The identifier `distance` after `first`; after 65,535 comes 1. [MQTT-2.2.1-3]
fn id_at(first: PacketId, distance: usize) -> PacketId {
    let value = (usize::from(first.value()) - 1 + distance) % PACKET_IDS + 1;
    u16::try_from(value).ok().and_then(PacketId::new).expect("from 1 to 65,535")
}

/// A deque larger than this is given back when nothing is in flight.
const IDLE_CAPACITY_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::{
        super::{
            message::{Message, tests::view},
            queue::QueueLimits,
        },
        *,
    };
    use crate::topic::{GroupName, ShareName, SharedFilter, TopicFilter};

    fn queued(qos: QoS) -> QueuedMessage {
        let message = Rc::new(Message::keep(&view("t", b"", qos)));
        QueuedMessage { message, qos, retain: false, subscription_ids: None, group: None }
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
            outbound.queue.push(queued, &QueueLimits::NONE).unwrap();
        }
        assert!(outbound.into_shared().eq([first, waiting]));
    }

    #[test]
    fn a_client_that_skips_its_oldest_message_cannot_make_the_flight_grow() {
        let mut outbound = open(2);
        outbound.begin(queued(QoS::AtLeastOnce));
        let mut begun = 1;
        while outbound.has_room() {
            let packet_id = outbound.begin(queued(QoS::AtLeastOnce));
            assert!(outbound.handle_puback(packet_id));
            begun += 1;
        }
        assert_eq!(begun, 2 * SPAN_PER_WINDOW);
        assert!(outbound.handle_puback(id(1)));
        assert!(outbound.has_room());
        assert_eq!(outbound.in_flight(), 0);
    }
}
