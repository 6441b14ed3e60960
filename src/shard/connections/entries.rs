//! Connections by their slots, each with its generation.

use super::super::connection::MqttConnection;
use crate::base::ids::ConnectionId;

/// Connections by their slots, each with its generation.
#[derive(Debug, Default)]
pub(super) struct Entries {
    slots: Vec<Option<(u32, MqttConnection)>>,
    count: usize,
    /// Where the next look at some of them begins.
    look_at: usize,
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn insert(&mut self, id: ConnectionId, connection: MqttConnection) {
        let slot = id.slot as usize;
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        let earlier = self.slots[slot].replace((id.generation, connection));
        assert!(earlier.is_none(), "the runtime gives a place away only after its end was told");
        self.count += 1;
    }

    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<MqttConnection> {
        self.get(id)?;
        self.count -= 1;
        self.slots[id.slot as usize].take().map(|(_, connection)| connection)
    }

    #[inline]
    pub(super) fn get(&self, id: ConnectionId) -> Option<&MqttConnection> {
        match self.slots.get(id.slot as usize)? {
            Some((generation, connection)) if *generation == id.generation => Some(connection),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut MqttConnection> {
        match self.slots.get_mut(id.slot as usize)? {
            Some((generation, connection)) if *generation == id.generation => Some(connection),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn connected_mut(&mut self, id: ConnectionId) -> &mut MqttConnection {
        self.get_mut(id).expect("it lasts until its packet has been handled")
    }

    /// The connections in some slots: each time the next ones.
    pub(super) fn some(
        &mut self,
        slots: usize,
    ) -> impl Iterator<Item = (ConnectionId, &MqttConnection)> {
        let slots = slots.min(self.slots.len());
        let from = if self.look_at < self.slots.len() { self.look_at } else { 0 };
        self.look_at = from + slots;
        let numbered = || self.slots.iter().zip(0u32..);
        let round = numbered().skip(from).chain(numbered());
        round.take(slots).filter_map(|(entry, slot)| {
            let (generation, connection) = entry.as_ref()?;
            Some((ConnectionId { slot, generation: *generation }, connection))
        })
    }

    pub(super) fn slots(&self) -> u32 {
        u32::try_from(self.slots.len()).expect("a slot has a number of 32 bits")
    }

    pub(super) fn in_slot(&self, slot: u32) -> Option<ConnectionId> {
        let (generation, _) = self.slots.get(slot as usize)?.as_ref()?;
        Some(ConnectionId { slot, generation: *generation })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnectionId, &MqttConnection)> {
        self.slots.iter().zip(0u32..).filter_map(|(entry, slot)| {
            let (generation, connection) = entry.as_ref()?;
            Some((ConnectionId { slot, generation: *generation }, connection))
        })
    }
}
