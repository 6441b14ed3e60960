//! How connections end, and sessions: farewells, Wills, expiry.

use tracing::debug;

use super::{
    Shard,
    connection::{MqttConnection, Stage},
    ports::{Closing, Ports},
    reason::Reason,
};
use crate::{
    base::{
        ids::{ConnectionId, SubscriberId},
        time::{Moment, Span},
    },
    mqtt::{Connack, DecodeError, Disconnect, Packet, ProtocolError, ReasonCode, Version},
    session::message::MessageView,
    topic::Subscription,
};

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// DISCONNECT: the client takes its Will along. [MQTT-3.14.4-3]
    Disconnect,
    /// DISCONNECT with Will Message.
    DisconnectWithWill,
    /// The client closed the connection without DISCONNECT.
    Finished,
    Broken,
    /// The bytes or the moment were wrong.
    Error(DecodeError),
    KeepAlive,
    ConnectTimeout,
    TakenOver,
    QuotaExceeded,
    /// What it sent is refused, and no other packet could say so.
    Refused(Reason),
    /// An enhanced authentication has failed.
    NotAuthenticated,
    /// What it asked for has an answer larger than its Maximum Packet Size.
    AnswerTooLarge,
    /// It takes no packet as large as its CONNACK, and nothing comes before that. [MQTT-3.2.0-1]
    ConnackTooLarge,
    ShuttingDown,
}

impl Cause {
    /// What a 5.0 client is told before the connection closes.
    fn farewell(self) -> Option<Reason> {
        match self {
            Cause::Disconnect
            | Cause::DisconnectWithWill
            | Cause::Finished
            | Cause::Broken
            | Cause::ConnackTooLarge
            | Cause::ConnectTimeout => None,
            Cause::Error(error) => Some(Reason::Packet(error)),
            Cause::KeepAlive => Some(Reason::Silent),
            Cause::TakenOver => Some(Reason::TakenOver),
            Cause::QuotaExceeded => Some(Reason::QueueFull),
            Cause::Refused(reason) => Some(reason),
            Cause::NotAuthenticated => Some(Reason::NotAuthenticated),
            Cause::AnswerTooLarge => Some(Reason::AnswerTooLarge),
            Cause::ShuttingDown => Some(Reason::ShuttingDown),
        }
    }

    /// Whether the Will is deleted rather than published. [MQTT-3.1.2-8] [MQTT-3.1.2-10]
    fn deletes_will(self) -> bool {
        matches!(self, Cause::Disconnect)
    }
}

impl Shard {
    pub(super) fn handle_disconnect(
        &mut self,
        id: ConnectionId,
        subscriber: SubscriberId,
        disconnect: &Disconnect<'_>,
        ports: &mut impl Ports,
    ) {
        let Some(session) = self.sessions.get_mut(subscriber) else { return };
        if let Some(interval) = disconnect.session_expiry_interval {
            // A session that was to end with its connection cannot be kept now. [MQTT-3.14.2-2]
            if session.expiry_interval == 0 && interval > 0 {
                let error = ProtocolError::SessionExpiryRaised;
                return self.refuse_packet(id, error, ports);
            }
            session.expiry_interval = interval.min(self.rules.limits.session_expiry_max);
        }
        let cause = if disconnect.reason_code == ReasonCode::Success {
            Cause::Disconnect
        } else {
            Cause::DisconnectWithWill
        };
        self.end(id, cause, ports);
    }

    /// Ends a connection because of what it sent. [MQTT-4.13.1-1]
    pub(super) fn refuse(&mut self, id: ConnectionId, error: DecodeError, ports: &mut impl Ports) {
        self.end(id, Cause::Error(error), ports);
    }

    /// Ends a connection; its session goes on or ends with it.
    pub(super) fn end(&mut self, id: ConnectionId, cause: Cause, ports: &mut impl Ports) {
        let Some(connection) = self.connections.remove(id) else { return };
        self.counters.count_end(cause);
        self.say_farewell(id, &connection, cause, ports);
        debug!(slot = id.slot, generation = id.generation, ?cause, "connection ended");
        match cause {
            Cause::Broken | Cause::ConnectTimeout => ports.close(id, Closing::Abort),
            _ => ports.close(id, Closing::Flush),
        }
        if let Stage::Connected(subscriber) = connection.stage {
            self.detach(subscriber, cause, ports);
        }
    }

    /// Before CONNACK nothing but CONNACK may say why. [MQTT-3.14.0-1] [MQTT-4.12.0-4]
    fn say_farewell(
        &mut self,
        id: ConnectionId,
        connection: &MqttConnection,
        cause: Cause,
        ports: &mut impl Ports,
    ) {
        let Some(reason) = cause.farewell() else { return };
        let reason = self.rules.referral.instead_of(reason);
        let farewell = match connection.stage {
            Stage::Connected(_) => Packet::Disconnect(Disconnect::with_reason(reason.code())),
            Stage::Authenticating => Packet::Connack(Connack::refusal(reason.code())),
            _ => return,
        };
        // A client that does not even take the few bytes of the code is not told. [MQTT-3.1.2-24]
        if connection.terms.version == Version::V5
            && self.write_last(connection.terms, &farewell, reason)
        {
            ports.send(id, &self.scratch);
        }
    }

    /// The session is without a connection from now on.
    fn detach(&mut self, subscriber: SubscriberId, cause: Cause, ports: &mut impl Ports) {
        self.give_up(subscriber, ports);
        self.counters.clients_connected -= 1;
        let Some(session) = self.sessions.get_mut(subscriber) else { return };
        session.link = None;
        session.topic_aliases = None;
        let lasts = Span::from_secs(u64::from(session.expiry_interval));
        session.ends_at = (session.expiry_interval != u32::MAX).then(|| self.now + lasts);
        if cause.deletes_will() {
            session.will = None;
        }
        // The Will comes after its delay or with the session's end. [MQTT-3.1.3-9]
        let will_due_at = session.will.as_mut().map(|will| {
            let due_at = self.now + will.delay;
            will.due_at = Some(due_at);
            due_at
        });
        let looks = [will_due_at, session.ends_at];
        self.set_members_online(subscriber, false, ports);
        if let Some(soonest) = looks.into_iter().flatten().filter(|&at| at > self.now).min() {
            self.watch_absence(subscriber, soonest);
        }
        let now = self.now;
        let due = |moment: Option<Moment>| moment.is_some_and(|moment| moment <= now);
        if due(looks[0]) {
            self.publish_will(subscriber, ports);
        }
        if due(looks[1]) {
            self.end_session(subscriber, ports);
        }
    }

    /// Ends a session and all that it held. [MQTT-3.1.2-23] [MQTT-4.1.0-2]
    pub(super) fn end_session(&mut self, subscriber: SubscriberId, ports: &mut impl Ports) {
        self.publish_will(subscriber, ports);
        let Some(session) = self.sessions.get_mut(subscriber) else { return };
        for text in session.filters.take() {
            self.undo(subscriber, Subscription::from_valid(&text), ports);
        }
        if let Some(session) = self.sessions.remove(subscriber) {
            self.orphan(session.outbound);
        }
    }

    /// Publishes the Will of a session, once. [MQTT-3.1.2-8] [MQTT-3.1.2-14] [MQTT-3.1.2-15]
    pub(super) fn publish_will(&mut self, subscriber: SubscriberId, ports: &mut impl Ports) {
        let Some(session) = self.sessions.get_mut(subscriber) else { return };
        let Some(will) = session.will.take() else { return };
        let view = MessageView {
            expires_at: will.message_expiry.map(|span| self.now + span),
            publisher: Some(subscriber),
            publisher_hash: session.client_hash,
            ..will.message.view()
        };
        self.route(&view, None, ports);
    }

    /// Tells the share groups of a session whether it can be sent anything now.
    pub(super) fn set_members_online(
        &mut self,
        subscriber: SubscriberId,
        online: bool,
        ports: &mut impl Ports,
    ) {
        let Some(session) = self.sessions.get(subscriber) else { return };
        if session.shared_filters == 0 {
            return;
        }
        for text in session.filters.shared() {
            let Subscription::Shared(shared) = Subscription::from_valid(&text) else { continue };
            let Some(group) = self.groups.find(shared) else { continue };
            if self.groups.set_online(group, subscriber, online) {
                self.tell_members(shared, group, ports);
            }
        }
    }
}
