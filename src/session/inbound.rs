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
/// QoS 1 messages are not kept here: a session waits for nothing between PUBLISH and PUBACK.
#[derive(Debug, Default)]
pub struct Inbound {
    /// Packet Identifiers between PUBREC and PUBREL, and whether each came on this connection;
    /// `None` while there are none.
    held: Option<Box<Map<PacketId, bool>>>,
    /// How many of them came on this connection.
    fresh: u16,
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
        self.held.iter_mut().flat_map(|held| held.values_mut()).for_each(|fresh| *fresh = false);
    }

    /// Decides what to do with a PUBLISH, and holds its Packet Identifier at QoS 2.
    ///
    /// The client may not exceed the Receive Maximum that it was told. [MQTT-3.3.4-9]
    pub fn handle_publish(
        &mut self,
        delivery: Delivery,
        receive_maximum: u16,
        seed: Seed,
    ) -> Admission {
        let Delivery::ExactlyOnce(packet_id) = delivery else { return Admission::Route };
        let held = self.held.get_or_insert_with(|| Box::new(Map::with_hasher(seed)));
        // Held already, so the client has sent it again. [MQTT-4.3.3-10]
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
