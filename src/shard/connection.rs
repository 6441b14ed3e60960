//! The connections of a shard, as MQTT sees them.

use std::num::NonZeroU16;

use crate::{
    base::{
        ids::{ConnectionId, SubscriberId},
        time::{Moment, Span},
    },
    mqtt::Version,
};

/// One network connection, from its arrival to its end.
///
/// ```text
///            CONNECT             verdict            CONNECT again
///   Fresh ------------> Verifying ------> Verified ---------------> Connected
///     |  no password to check, or none needed                           ^
///     +-----------------------------------------------------------------+
/// ```
#[derive(Debug)]
pub(super) struct Connection {
    /// Which listener it came by.
    pub(super) listener: u16,
    pub(super) stage: Stage,
    /// Valid once Connected.
    pub(super) version: Version,
    /// Seconds; 0 is never.
    pub(super) keep_alive: u16,
    /// Whether Reason Strings may be sent. [MQTT-3.1.2-29]
    pub(super) problem_information: bool,
    /// For how many reasons nothing is read from it now.
    pub(super) holds: u16,
    pub(super) last_packet: Moment,
    aliases: Option<Box<Aliases>>,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Fresh,
    Verifying,
    Verified { passed: bool },
    Connected(SubscriberId),
}

/// The topics for which a client has set a Topic Alias on this connection. [MQTT-3.3.2-7]
#[derive(Debug, Default)]
pub(super) struct Aliases {
    topics: Vec<Option<Box<str>>>,
}

impl Connection {
    pub(super) fn new(listener: u16, now: Moment) -> Connection {
        Connection {
            listener,
            stage: Stage::Fresh,
            version: Version::V311,
            keep_alive: 0,
            problem_information: true,
            holds: 0,
            last_packet: now,
            aliases: None,
        }
    }

    pub(super) fn subscriber(&self) -> Option<SubscriberId> {
        match self.stage {
            Stage::Connected(subscriber) => Some(subscriber),
            _ => None,
        }
    }

    /// When the client will have been silent for too long: one and a half times its Keep Alive.
    /// [MQTT-3.1.2-22]
    pub(super) fn keep_alive_deadline(&self) -> Option<Moment> {
        let span = Span::from_millis(u64::from(self.keep_alive) * 1_500);
        (self.keep_alive > 0).then(|| self.last_packet + span)
    }

    pub(super) fn set_alias(&mut self, alias: NonZeroU16, topic: &str) {
        let topics = &mut self.aliases.get_or_insert_default().topics;
        let index = usize::from(alias.get()) - 1;
        if topics.len() <= index {
            topics.resize_with(index + 1, || None);
        }
        topics[index] = Some(topic.into());
    }

    pub(super) fn alias(&self, alias: NonZeroU16) -> Option<&str> {
        self.aliases.as_ref()?.topics.get(usize::from(alias.get()) - 1)?.as_deref()
    }
}

/// Connections by the identity that the runtime gave them.
#[derive(Debug, Default)]
pub(super) struct Connections {
    entries: Vec<Option<(u32, Connection)>>,
    count: usize,
}

impl Connections {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn insert(&mut self, id: ConnectionId, connection: Connection) {
        let slot = id.slot as usize;
        if self.entries.len() <= slot {
            self.entries.resize_with(slot + 1, || None);
        }
        let earlier = self.entries[slot].replace((id.generation, connection));
        assert!(earlier.is_none(), "the runtime gives a place away only after its end was told");
        self.count += 1;
    }

    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        self.get(id)?;
        self.count -= 1;
        self.entries[id.slot as usize].take().map(|(_, connection)| connection)
    }

    #[inline]
    pub(super) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        match self.entries.get(id.slot as usize)? {
            Some((generation, connection)) if *generation == id.generation => Some(connection),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        match self.entries.get_mut(id.slot as usize)? {
            Some((generation, connection)) if *generation == id.generation => Some(connection),
            _ => None,
        }
    }

    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        let present = self.entries.iter().zip(0u32..);
        present
            .filter_map(|(entry, slot)| {
                entry.as_ref().map(|&(generation, _)| ConnectionId { slot, generation })
            })
            .collect()
    }
}
