//! PUBLISH while not every message is taken: the broker stops, or the store has no room.

use super::{Client, Shard, Unhandled, ports::Ports, reason::Reason};
use crate::{
    mqtt::{Delivery, Publish, Version},
    topic::TopicName,
};

impl Shard {
    /// Handles a PUBLISH while the broker stops or the store has no room. A message that may have
    /// to be written down is refused with Quota exceeded; before 5.0 its client waits.
    #[cold]
    #[inline(never)]
    pub(super) fn handle_restrained(
        &mut self,
        client: Client,
        publish: &Publish<'_>,
        ports: &mut impl Ports,
    ) -> Result<(), Unhandled> {
        if self.context.stopping {
            // It is not acknowledged, so a client that needs it sends it again.
            self.context.counters.publishes_received += 1;
            return Ok(());
        }
        let Some(topic) = self.topic_without_room(client, publish) else {
            self.handle_publish(client, publish, ports);
            return Ok(());
        };
        let id = client.connection;
        if self.connections.connected(id).terms().version() < Version::V5 {
            self.context.counters.held_store_full += 1;
            self.connections.hold_until_store_room(id, ports);
            return Err(Unhandled::NotNow);
        }
        self.context.counters.publishes_received += 1;
        let message = (TopicName::from_valid(&topic), publish.delivery);
        self.refuse_message(client, message, Reason::StoreFull, ports);
        Ok(())
    }

    /// The topic of a message that may be published, and that the store has no room for.
    fn topic_without_room(&mut self, client: Client, publish: &Publish<'_>) -> Option<String> {
        let session = self.sessions.of_connected_mut(client.subscriber);
        let is_known = match publish.delivery {
            Delivery::ExactlyOnce(packet_id) => session.inbound_mut().holds(packet_id),
            _ => false,
        };
        if is_known || !self.context.recorder.lacks_room_for(publish) {
            return None;
        }
        let connection = self.connections.connected_mut(client.connection);
        connection.check_publish(publish).ok()?;
        let mut topic = publish.topic.to_owned();
        if let Some(alias) = publish.properties.topic_alias {
            let room = self.context.memory.alias_room();
            connection.resolve_topic(alias, &mut topic, room).ok()?;
        }
        let name = TopicName::from_valid(&topic);
        let way = || (publish.delivery.qos(), publish.retain);
        self.context.rights.judge_publish(session, name, way).ok()?;
        Some(topic)
    }
}
