//! The publisher's half of a session.

use crate::{
    base::hash::{Map, Seed},
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
/// QoS 1 leaves no trace here: a session does not wait for anything between PUBLISH and PUBACK.
#[derive(Debug, Default)]
pub struct Inbound {
    /// Packet Identifiers between PUBREC and PUBREL, and whether they came on this connection;
    /// absent while there are none.
    held: Option<Box<Map<PacketId, bool>>>,
    /// How many came on this connection.
    fresh: u16,
}

/// What becomes of a PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is new: route it, then acknowledge it as its QoS asks.
    Route,
    /// It was routed when it first came: only acknowledge it again.
    AcknowledgeOnly,
    /// The client has more unacknowledged than the Receive Maximum allows.
    QuotaExceeded,
}

impl Inbound {
    /// A connection begins: its quota is whole, whatever is held from earlier ones.
    pub fn connect(&mut self) {
        self.fresh = 0;
        self.held.iter_mut().flat_map(|held| held.values_mut()).for_each(|fresh| *fresh = false);
    }

    /// Judges a PUBLISH, and holds its Packet Identifier when it is to be delivered exactly once.
    ///
    /// The client may not run ahead of the Receive Maximum that it was told. [MQTT-3.3.4-9]
    pub fn handle_publish(
        &mut self,
        delivery: Delivery,
        receive_maximum: u16,
        seed: Seed,
    ) -> Admission {
        let Delivery::ExactlyOnce(packet_id) = delivery else { return Admission::Route };
        let held = self.held.get_or_insert_with(|| Box::new(Map::with_hasher(seed)));
        // Held already: a re-send. Acknowledge it again, route it never. [MQTT-4.3.3-10]
        if held.contains_key(&packet_id) {
            return Admission::AcknowledgeOnly;
        }
        if self.fresh >= receive_maximum {
            return Admission::QuotaExceeded;
        }
        held.insert(packet_id, true);
        self.fresh += 1;
        Admission::Route
    }

    /// Forgets a message that was refused: its PUBREC carried an error and no PUBREL will come.
    pub fn refuse(&mut self, packet_id: PacketId) {
        self.handle_pubrel(packet_id);
    }

    /// Releases a Packet Identifier. False when it was not held.
    pub fn handle_pubrel(&mut self, packet_id: PacketId) -> bool {
        let Some(held) = &mut self.held else { return false };
        let released = held.remove(&packet_id);
        if held.is_empty() {
            self.held = None;
        }
        self.fresh -= u16::from(released == Some(true));
        released.is_some()
    }

    /// How many Packet Identifiers are held.
    pub fn held(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: Seed = Seed::new(1);
    const ID: PacketId = PacketId::MIN;

    /// [MQTT-4.3.3-10] [MQTT-4.3.3-2@3.1.1]
    #[test]
    fn a_qos_2_resend_is_acknowledged_again_and_routed_once() {
        let mut inbound = Inbound::default();
        let publish = Delivery::ExactlyOnce(ID);
        assert_eq!(inbound.handle_publish(publish, 1, SEED), Admission::Route);
        assert_eq!(inbound.handle_publish(publish, 1, SEED), Admission::AcknowledgeOnly);
        assert!(inbound.handle_pubrel(ID));
        assert!(!inbound.handle_pubrel(ID));
        assert_eq!(inbound.handle_publish(publish, 1, SEED), Admission::Route);
    }

    /// [MQTT-3.3.4-7]
    #[test]
    fn a_client_may_not_run_ahead_of_the_receive_maximum() {
        let mut inbound = Inbound::default();
        for value in 1..=3 {
            let id = PacketId::new(value).unwrap();
            let admission = inbound.handle_publish(Delivery::ExactlyOnce(id), 2, SEED);
            assert_eq!(admission == Admission::QuotaExceeded, value == 3);
        }
        assert_eq!(inbound.handle_publish(Delivery::AtLeastOnce(ID), 2, SEED), Admission::Route);
        assert_eq!(inbound.held(), 2);
    }

    #[test]
    fn what_is_held_from_an_earlier_connection_does_not_count() {
        let mut inbound = Inbound::default();
        let [first, second] = [1, 2].map(|value| PacketId::new(value).unwrap());
        inbound.handle_publish(Delivery::ExactlyOnce(first), 1, SEED);
        inbound.connect();
        let fresh = Delivery::ExactlyOnce(second);
        assert_eq!(inbound.handle_publish(fresh, 1, SEED), Admission::Route);
        assert!(inbound.handle_pubrel(first) && inbound.handle_pubrel(second));
        assert_eq!(inbound.handle_publish(fresh, 1, SEED), Admission::Route);
    }

    #[test]
    fn a_session_with_nothing_held_owns_no_memory_for_it() {
        let mut inbound = Inbound::default();
        inbound.handle_publish(Delivery::ExactlyOnce(ID), 1, SEED);
        inbound.refuse(ID);
        assert!(inbound.held.is_none());
    }
}
