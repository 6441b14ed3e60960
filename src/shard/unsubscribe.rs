//! UNSUBSCRIBE, and the end of all subscriptions of a session.

use super::{Client, Shard, ports::Ports, reason::Reason, suback::FilterAnswers};
use crate::{
    mqtt::{Malformed, ReasonCode, Unsubscribe},
    topic::Subscription,
};

impl Shard {
    pub(super) fn handle_unsubscribe(
        &mut self,
        client: Client,
        unsubscribe: &Unsubscribe<'_>,
        ports: &mut impl Ports,
    ) {
        let Client { connection: id, subscriber } = client;
        let version = self.connections.connected(id).terms().version();
        let mut answers = FilterAnswers::new(version, unsubscribe.filters.count());
        self.context.recorder.begin_packet();
        for text in unsubscribe.filters.iter() {
            let Ok(subscription) = Subscription::parse(text) else {
                // [MQTT-4.7.1-1] [MQTT-4.8.2-1]
                return self.refuse(id, Malformed::TopicFilter, ports);
            };
            let session = self.sessions.of_connected_mut(subscriber);
            if !self.context.rights.may_unsubscribe(session, text) {
                answers.push(Err(Reason::UnsubscribeForbidden));
                continue;
            }
            let (sessions, context) = (&mut self.sessions, &mut self.context);
            let filter = (text, subscription);
            let ended = self.router.unsubscribe(filter, subscriber, sessions, context, ports);
            answers.push(ended.map(|()| ReasonCode::Success));
        }
        // [MQTT-3.10.4-4] [MQTT-3.10.4-5]
        let unsuback = answers.unsuback(unsubscribe.packet_id);
        let mark = self.context.recorder.take_promise();
        self.answer_recorded(id, mark, (&unsuback, answers.reason()), ports);
    }
}
