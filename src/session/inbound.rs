//! The publisher's half of a session.

use crate::{
    base::{
        byte_count::ByteCount,
        hash::{Map, Seed},
    },
    mqtt::{Delivery, PacketId},
};

/// What the client has sent at QoS 2 and not yet released.
///
/// ```text
///            PUBLISH           PUBREL
///   (free) ----------> held ----------> (free)
///            PUBREC    |  ^    PUBCOMP
///                      +--+
///             PUBLISH again: PUBREC, not routed
/// ```
///
/// QoS 1 messages are not kept here: a session waits for nothing between PUBLISH and PUBACK.
#[derive(Debug, Default)]
pub struct Inbound {
    /// Packet Identifiers between PUBREC and PUBREL, and whether each came on this connection;
    /// `None` while there are none.
    held: Option<Box<Held>>,
    /// How many of them came on this connection.
    fresh: u16,
}

/// Packet Identifiers, and where their memory is counted.
#[derive(Debug)]
struct Held {
    ids: Map<PacketId, bool>,
    tally: ByteCount,
}

/// What a Packet Identifier takes that is held.
const HELD_BYTES: usize = 8;

impl Held {
    fn new(seed: Seed, tally: &ByteCount) -> Held {
        Held { ids: Map::with_hasher(seed), tally: tally.clone() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.tally.subtract(self.ids.len() * HELD_BYTES);
    }
}

/// What becomes of a PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The message is new: route it, then acknowledge it by its QoS.
    Route,
    /// The message was routed when it first came: acknowledge it again, and do not route it.
    AcknowledgeOnly,
    /// The client has more unreleased messages than the Receive Maximum allows.
    QuotaExceeded,
}

impl Inbound {
    /// A connection begins with its full quota, even if messages of earlier connections are held.
    pub fn connect(&mut self) {
        self.fresh = 0;
        let held = self.held.iter_mut().flat_map(|held| held.ids.values_mut());
        held.for_each(|fresh| *fresh = false);
    }

    /// Decides what to do with a PUBLISH, and holds its Packet Identifier at QoS 2.
    ///
    /// The client may not exceed the Receive Maximum that it was told. [MQTT-3.3.4-9] The memory of
    /// the identifiers is counted in `tally`, until they are released or the session ends.
    pub fn handle_publish(
        &mut self,
        delivery: Delivery,
        receive_maximum: u16,
        (seed, tally): (Seed, &ByteCount),
    ) -> Admission {
        let Delivery::ExactlyOnce(packet_id) = delivery else { return Admission::Route };
        let held = self.held.get_or_insert_with(|| Box::new(Held::new(seed, tally)));
        // Held already, so the client has sent it again. [MQTT-4.3.3-10]
        if held.ids.contains_key(&packet_id) {
            return Admission::AcknowledgeOnly;
        }
        if self.fresh >= receive_maximum {
            return Admission::QuotaExceeded;
        }
        held.ids.insert(packet_id, true);
        held.tally.add(HELD_BYTES);
        self.fresh += 1;
        Admission::Route
    }

    /// Whether a message with this Packet Identifier waits for its release.
    pub fn holds(&self, packet_id: PacketId) -> bool {
        self.held.as_ref().is_some_and(|held| held.ids.contains_key(&packet_id))
    }

    /// Holds a Packet Identifier that was held before a restart.
    pub fn restore(&mut self, packet_id: PacketId, (seed, tally): (Seed, &ByteCount)) {
        let held = self.held.get_or_insert_with(|| Box::new(Held::new(seed, tally)));
        if held.ids.insert(packet_id, false).is_none() {
            held.tally.add(HELD_BYTES);
        }
    }

    /// Forgets a message that was refused: its PUBREC carried an error and no PUBREL will come.
    pub fn refuse(&mut self, packet_id: PacketId) {
        self.handle_pubrel(packet_id);
    }

    /// Releases a Packet Identifier. False when it was not held.
    pub fn handle_pubrel(&mut self, packet_id: PacketId) -> bool {
        let Some(held) = &mut self.held else { return false };
        let released = held.ids.remove(&packet_id);
        held.tally.subtract(if released.is_some() { HELD_BYTES } else { 0 });
        if held.ids.is_empty() {
            self.held = None;
        }
        self.fresh -= u16::from(released == Some(true));
        released.is_some()
    }

    /// How many Packet Identifiers are held.
    pub fn held(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.ids.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: Seed = Seed::new(1);
    const ID: PacketId = PacketId::MIN;

    fn admit(inbound: &mut Inbound, delivery: Delivery, receive_maximum: u16) -> Admission {
        inbound.handle_publish(delivery, receive_maximum, (SEED, &ByteCount::default()))
    }

    /// [MQTT-4.3.3-10] [MQTT-4.3.3-2@3.1.1]
    #[test]
    fn a_qos_2_resend_is_acknowledged_again_and_routed_once() {
        let mut inbound = Inbound::default();
        let publish = Delivery::ExactlyOnce(ID);
        assert_eq!(admit(&mut inbound, publish, 1), Admission::Route);
        assert_eq!(admit(&mut inbound, publish, 1), Admission::AcknowledgeOnly);
        assert!(inbound.handle_pubrel(ID));
        assert!(!inbound.handle_pubrel(ID));
        assert_eq!(admit(&mut inbound, publish, 1), Admission::Route);
    }

    #[test]
    fn what_is_held_is_counted_until_it_is_released_or_the_session_ends() {
        let (mut inbound, tally) = (Inbound::default(), ByteCount::default());
        for id in [1, 2, 3, 3] {
            let publish = Delivery::ExactlyOnce(PacketId::new(id).unwrap());
            inbound.handle_publish(publish, 9, (SEED, &tally));
        }
        assert_eq!(tally.bytes(), 3 * HELD_BYTES);
        inbound.handle_pubrel(ID);
        inbound.handle_pubrel(ID);
        assert_eq!(tally.bytes(), 2 * HELD_BYTES);
        drop(inbound);
        assert_eq!(tally.bytes(), 0);
    }

    /// [MQTT-3.3.4-7]
    #[test]
    fn a_client_may_not_run_ahead_of_the_receive_maximum() {
        let mut inbound = Inbound::default();
        for value in 1..=3 {
            let id = PacketId::new(value).unwrap();
            let admission = admit(&mut inbound, Delivery::ExactlyOnce(id), 2);
            assert_eq!(admission == Admission::QuotaExceeded, value == 3);
        }
        assert_eq!(admit(&mut inbound, Delivery::AtLeastOnce(ID), 2), Admission::Route);
        assert_eq!(inbound.held(), 2);
    }

    #[test]
    fn what_is_held_from_an_earlier_connection_does_not_count() {
        let mut inbound = Inbound::default();
        let [first, second] = [1, 2].map(|value| PacketId::new(value).unwrap());
        admit(&mut inbound, Delivery::ExactlyOnce(first), 1);
        inbound.connect();
        let fresh = Delivery::ExactlyOnce(second);
        assert_eq!(admit(&mut inbound, fresh, 1), Admission::Route);
        assert!(inbound.handle_pubrel(first) && inbound.handle_pubrel(second));
        assert_eq!(admit(&mut inbound, fresh, 1), Admission::Route);
    }

    #[test]
    fn a_session_with_nothing_held_owns_no_memory_for_it() {
        let mut inbound = Inbound::default();
        admit(&mut inbound, Delivery::ExactlyOnce(ID), 1);
        inbound.refuse(ID);
        assert!(inbound.held.is_none());
    }
}
