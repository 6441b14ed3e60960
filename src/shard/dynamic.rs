//! Commands of dynamic security: a shard takes them from a client, and keeps to what comes of them.
//!
//! Knows neither their text nor the file. Another thread does them, and asks the shard for the
//! rest.

use bytes::Bytes;

use super::{Client, Shard, ask::Answer, end::Cause, ports::Ports, reason::Reason};
use crate::{
    access::{
        Principal,
        dynamic::{ANSWERS_TOPIC, COMMAND_BYTES_MAX, COMMANDS_TOPIC, Kicks, Request, Users},
    },
    mqtt::QoS,
    session::message::{MessageView, Payload, shared_payload},
    topic::TopicName,
};

impl Shard {
    /// Takes a message to a topic for commands. It is for no client.
    #[cold]
    #[inline(never)]
    pub(super) fn take_commands(
        &mut self,
        client: Client,
        topic: TopicName<'_>,
        payload: &[u8],
    ) -> Result<(), Reason> {
        let desk = self.context.rules.policy.desk.as_ref();
        let desk = desk.filter(|_| topic.as_str() == COMMANDS_TOPIC);
        let desk = desk.ok_or(Reason::PublishForbidden)?;
        if payload.len() > COMMAND_BYTES_MAX {
            return Err(Reason::CommandTooLarge);
        }
        let principal = self.connections.connected(client.connection).principal();
        let request = Request {
            client_id: principal.client_id().into(),
            user_name: principal.user_name().map(Box::from),
            home: self.context.settings.shard.index(),
            payload: payload.into(),
        };
        if desk.submit(request) { Ok(()) } else { Err(Reason::CommandsFull) }
    }

    /// The users and rights that hold from now on.
    pub(super) fn adopt_users(&mut self, users: &Users) -> Answer {
        let mut rules = (*self.context.rules).clone();
        rules.policy.passwords = Some(users.passwords.clone());
        rules.policy.acl = Some(users.acl.clone());
        self.adopt(&rules);
        Answer::Done
    }

    /// Disconnects the clients of these users among some sessions, from this place on.
    pub(super) fn end_users(&mut self, kicks: &Kicks, from: u32, ports: &mut impl Ports) -> Answer {
        let is_meant = |_: &Shard, principal: &Principal| match principal.user_name() {
            Some(user) => kicks.users.contains(user),
            None => kicks.anonymous,
        };
        self.end_some(from, Cause::Kicked, is_meant, ports)
    }

    /// Sends a client the answer to its commands, if it has subscribed to that and may read it.
    pub(super) fn answer_commands(
        &mut self,
        client_id: &str,
        payload: &Bytes,
        ports: &mut impl Ports,
    ) -> Answer {
        let topic = TopicName::from_valid(ANSWERS_TOPIC);
        let Some(subscriber) = self.sessions.find(client_id) else { return Answer::Nothing };
        let session = self.sessions.get_mut(subscriber).filter(|it| it.link().is_some());
        let Some(session) = session else { return Answer::Nothing };
        if !self.context.rights.may_read(session, topic) {
            return Answer::Nothing;
        }
        let shared = shared_payload(payload, |payload| ports.share(payload));
        let view = MessageView {
            topic,
            application: &[],
            payload: shared.as_ref().map_or(Payload::Small(payload), Payload::Shared),
            qos: QoS::AtMostOnce,
            retain: false,
            expires_at: None,
            publisher: None,
            publisher_hash: 0,
        };
        let (sessions, context) = (&mut self.sessions, &mut self.context);
        self.router.route_to(subscriber, &view, sessions, context, ports);
        Answer::Done
    }
}
