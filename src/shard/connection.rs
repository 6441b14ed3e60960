//! One connection, as MQTT sees it.

use std::{net::SocketAddr, num::NonZeroU16, rc::Rc};

use super::{
    auth::{Authentication, Step},
    end::{Cause, Oversize},
    kept_connect::KeptConnect,
    owed::Debt,
    ports::{Arrival, Ports},
    reason::Reason,
    rules::Rules,
    throttle::Throttle,
};
use crate::{
    access::{Accounts, Bearer, Kind, Policy, Principal, Ticket},
    base::{
        ids::SubscriberId,
        time::{Moment, Span},
    },
    mqtt::{Auth, DecodeError, Frame, PacketType, ProtocolError, Publish, Version},
    session::{
        client_aliases::{AliasRoom, ClientAliases},
        terms::Terms,
    },
};

/// One network connection, from its arrival to its end.
///
/// ```text
///            CONNECT                           the password was right
///   Fresh ------------> Waiting ---------------------------------------> Connected
///     |  no password to check, or none needed                              ^  ^
///     +--------------------------------------------------------------------+  |
///     |  CONNECT with an Authentication Method                AUTH, proven    |
///     +---------------------------------> Authenticating ---------------------+
/// ```
#[derive(Debug)]
pub(super) struct MqttConnection {
    /// The rules that held when the connection came; after CONNECT those that held then, because
    /// CONNACK has told them to the client.
    rules: Rc<Rules>,
    /// Who the client is: a stranger until it has been let in.
    principal: Rc<Principal>,
    /// The connection exceeds the limit, and was accepted only to be told so.
    surplus: bool,
    /// How many connections the broker may hold.
    connections_max: u32,
    /// The client is a bridge, as mosquitto marks it in CONNECT.
    is_bridge: bool,
    stage: Stage,
    /// Valid once its CONNECT has been taken.
    terms: Terms,
    /// Bytes of a packet that the client may send: fewer before its CONNECT is accepted.
    packet_size_max: u32,
    /// Seconds; 0 is never.
    keep_alive: u16,
    last_packet: Moment,
    /// What the connection is owed.
    debt: Debt,
    /// The packet by which the client proves who it is has waited, and goes on when it is handed in
    /// again.
    admitted: bool,
    /// Held while a client is connected whose password is remembered.
    ticket: Option<Ticket>,
    extras: Option<Box<Extras>>,
}

/// Its account has one connection fewer.
impl Drop for MqttConnection {
    fn drop(&mut self) {
        self.principal.account().subtract(Kind::Connections, 1);
        if self.subscriber().is_none() {
            self.principal.account().subtract(Kind::Strangers, 1);
        }
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Fresh,
    /// CONNECT has been taken and is answered once the password has been checked.
    Waiting,
    /// CONNECT has been taken and is answered once the client has proven who it is.
    Authenticating,
    Connected(SubscriberId),
}

/// State that most connections never have.
#[derive(Debug, Default)]
struct Extras {
    /// The topics for which the client has set a Topic Alias. [MQTT-3.3.2-7]
    aliases: ClientAliases,
    /// The state of an authentication by AUTH packets.
    authentication: Option<Box<Authentication>>,
    /// Whom the token of the client lets in, until it is let in.
    bearer: Option<Box<Bearer>>,
}

impl MqttConnection {
    pub(super) fn new(
        arrival: Arrival,
        accounts: &Accounts,
        now: Moment,
        rules: Rc<Rules>,
    ) -> MqttConnection {
        let limits = &rules.limits;
        let principal = Principal::stranger(arrival.listener, arrival.peer, accounts);
        principal.account().add(Kind::Connections, 1);
        principal.account().add(Kind::Strangers, 1);
        MqttConnection {
            packet_size_max: small(limits.connect_size_max.min(limits.packet_size_max)),
            rules,
            principal: Rc::new(principal),
            surplus: arrival.surplus,
            connections_max: small(arrival.connections_max),
            is_bridge: false,
            stage: Stage::Fresh,
            terms: Terms::plain(Version::V311),
            keep_alive: 0,
            last_packet: now,
            debt: Debt::default(),
            admitted: false,
            ticket: None,
            extras: None,
        }
    }

    /// Notes that the client has this address, as a proxy says before all else. Its account pays
    /// from now on.
    pub(super) fn come_from(&mut self, peer: SocketAddr, accounts: &Accounts) {
        let principal = Principal::stranger(self.principal.listener(), peer, accounts);
        for kind in [Kind::Connections, Kind::Strangers] {
            principal.account().add(kind, 1);
            self.principal.account().subtract(kind, 1);
        }
        self.principal = Rc::new(principal);
    }

    /// The rules that the client has been told, or those that held when the connection came.
    #[inline]
    pub(super) fn rules(&self) -> &Rc<Rules> {
        &self.rules
    }

    /// Who the client is: a stranger until it has been let in.
    #[inline]
    pub(super) fn principal(&self) -> &Rc<Principal> {
        &self.principal
    }

    /// Whether the connection exceeds the limit, and was accepted only to be told so.
    pub(super) fn is_surplus(&self) -> bool {
        self.surplus
    }

    /// How many connections the broker may hold.
    pub(super) fn connections_max(&self) -> usize {
        self.connections_max as usize
    }

    pub(super) fn is_bridge(&self) -> bool {
        self.is_bridge
    }

    #[inline]
    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// The terms of the client. Valid once its CONNECT has been taken.
    #[inline]
    pub(super) fn terms(&self) -> Terms {
        self.terms
    }

    /// Bytes of a packet that the client may send now.
    #[inline]
    pub(super) fn packet_size_max(&self) -> usize {
        self.packet_size_max as usize
    }

    /// Why the connection ends when the fixed header of these bytes has this error. The first bytes
    /// may be of another protocol, such as HTTP, and are then no CONNECT rather than a wrong one.
    #[cold]
    pub(super) fn cause_of(&self, bytes: &[u8], error: DecodeError) -> Cause {
        let is_connect = bytes[0] >> 4 == PacketType::Connect as u8;
        match (self.stage, error) {
            (Stage::Fresh, _) if !is_connect => Cause::of_first_bytes(bytes),
            (Stage::Connected(_), DecodeError::PacketTooLarge) => {
                Cause::TooLarge(Oversize::of(bytes))
            }
            (Stage::Connected(_), _) => Cause::Error(error),
            (_, DecodeError::PacketTooLarge) => Cause::ConnectTooLarge(Oversize::of(bytes)),
            _ => Cause::Error(error),
        }
    }

    pub(super) fn subscriber(&self) -> Option<SubscriberId> {
        match self.stage {
            Stage::Connected(subscriber) => Some(subscriber),
            _ => None,
        }
    }

    /// How many unreleased QoS 2 messages the client may have. A client before 5.0 is told no
    /// limit, so only the number of Packet Identifiers limits it.
    pub(super) fn receive_maximum(&self) -> u16 {
        match self.terms.version() {
            Version::V5 => self.rules.limits.receive_maximum,
            Version::V31 | Version::V311 => u16::MAX,
        }
    }

    /// Notes that CONNECT has been taken and is answered once the client has proven who it is.
    pub(super) fn wait(&mut self, stage: Stage, terms: Terms) {
        self.stage = stage;
        self.terms = terms;
    }

    /// Lets the client in as this principal, under these rules.
    pub(super) fn connect(
        &mut self,
        (subscriber, principal): (SubscriberId, Rc<Principal>),
        connect: &KeptConnect,
        rules: Rc<Rules>,
    ) {
        self.stage = Stage::Connected(subscriber);
        principal.account().add(Kind::Connections, 1);
        self.principal.account().subtract(Kind::Connections, 1);
        self.principal.account().subtract(Kind::Strangers, 1);
        self.principal = principal;
        self.terms = connect.terms;
        self.is_bridge = connect.is_bridge;
        self.keep_alive = rules.keep_alive(connect);
        self.packet_size_max = small(rules.limits.packet_size_max);
        self.debt.set_throttle(rules.throttle_on(self.principal.listener()));
        self.rules = rules;
    }

    /// Notes that a packet has come, or that the broker itself did not read from the client.
    #[inline]
    pub(super) fn touch(&mut self, now: Moment) {
        self.last_packet = now;
    }

    /// Seconds; 0 is never.
    pub(super) fn keep_alive(&self) -> u16 {
        self.keep_alive
    }

    /// When the client will have been silent for too long: one and a half times its Keep Alive.
    /// [MQTT-3.1.2-22]
    pub(super) fn keep_alive_deadline(&self) -> Option<Moment> {
        let span = Span::from_millis(u64::from(self.keep_alive) * 1_500);
        (self.keep_alive > 0).then(|| self.last_packet + span)
    }

    /// The same. While the shard does not read from the connection, its silence does not count.
    pub(super) fn silent_until(&mut self, now: Moment) -> Option<Moment> {
        if self.is_held() {
            self.touch(now);
        }
        self.keep_alive_deadline()
    }

    /// Whether nothing is read from it now.
    #[inline]
    pub(super) fn is_held(&self) -> bool {
        self.debt.is_held()
    }

    /// Whether this packet has to wait. It is then handed in again later.
    #[inline]
    pub(super) fn stalls(&mut self, frame: &Frame<'_>) -> bool {
        self.debt.stalls(frame)
    }

    /// Keeps an acknowledgement of a PUBLISH back, if the publisher is pressed. True: it was kept.
    #[inline]
    pub(super) fn keeps_back(&mut self, acknowledgement: &[u8]) -> bool {
        self.debt.keeps_back(acknowledgement)
    }

    pub(super) fn give_admission(&mut self) {
        self.admitted = true;
    }

    /// Whether there was one.
    pub(super) fn take_admission(&mut self) -> bool {
        std::mem::take(&mut self.admitted)
    }

    /// The token of the client has been found good.
    pub(super) fn keep_bearer(&mut self, bearer: Box<Bearer>) {
        self.extras.get_or_insert_default().bearer = Some(bearer);
    }

    pub(super) fn take_bearer(&mut self) -> Option<Box<Bearer>> {
        let extras = self.extras.as_mut()?;
        let bearer = extras.bearer.take()?;
        // Before CONNECT is taken there are no Topic Aliases.
        if extras.authentication.is_none() {
            self.extras = None;
        }
        Some(bearer)
    }

    /// The user that the client has to prove to be with its next AUTH.
    pub(super) fn claimed_user(&self) -> Option<&str> {
        self.extras.as_ref()?.authentication.as_ref()?.claimed_user()
    }

    /// Keeps this ticket for as long as the connection lasts.
    pub(super) fn keep_ticket(&mut self, ticket: Ticket) {
        self.ticket = Some(ticket);
    }

    /// Whether a trace may be about it.
    #[inline]
    pub(super) fn is_traced(&self) -> bool {
        self.debt.is_traced()
    }

    /// What the client has sent, if its rates are limited.
    pub(super) fn throttle(&mut self) -> Option<&mut Throttle> {
        self.debt.throttle()
    }

    pub(super) fn set_traced(&mut self, is_traced: bool) {
        self.debt.set_traced(is_traced);
    }

    /// The topic that the client has set this alias to.
    pub(super) fn topic_behind(&self, alias: NonZeroU16) -> Option<&str> {
        self.extras.as_ref()?.aliases.topic(alias)
    }

    /// What the connection is owed.
    #[inline]
    pub(super) fn debt(&self) -> &Debt {
        &self.debt
    }

    #[inline]
    pub(super) fn debt_mut(&mut self) -> &mut Debt {
        &mut self.debt
    }

    /// Handles an AUTH of the client.
    pub(super) fn handle_auth(
        &mut self,
        auth: &Auth<'_>,
        policy: &Policy,
        ports: &mut impl Ports,
    ) -> Result<Step, ProtocolError> {
        let authentication = self.extras.as_mut().and_then(|it| it.authentication.as_mut());
        // [MQTT-4.12.0-7]
        let authentication = authentication.ok_or(ProtocolError::UnexpectedAuth)?;
        authentication.handle_auth(auth, policy, ports)
    }

    pub(super) fn set_authentication(&mut self, authentication: Authentication) {
        self.extras.get_or_insert_default().authentication = Some(Box::new(authentication));
    }

    /// Whether its client may send a PUBLISH like this, as its CONNACK has told it.
    #[inline]
    pub(super) fn check_publish(&self, publish: &Publish<'_>) -> Result<(), ProtocolError> {
        if !publish.properties.subscription_identifiers.is_empty() {
            // [MQTT-3.3.4-6]
            return Err(ProtocolError::SubscriptionIdentifierFromClient);
        }
        self.rules.offer.check_message(publish.delivery.qos(), publish.retain)
    }

    /// Sets a Topic Alias, or fills in the topic that an alias stands for. [MQTT-3.3.2-8]
    pub(super) fn resolve_topic(
        &mut self,
        alias: NonZeroU16,
        topic: &mut String,
        room: AliasRoom<'_>,
    ) -> Result<(), Cause> {
        let wrong = |error: ProtocolError| Cause::Error(error.into());
        if alias.get() > self.rules.limits.topic_alias_maximum {
            return Err(wrong(ProtocolError::TopicAliasInvalid));
        }
        if !topic.is_empty() {
            let aliases = &mut self.extras.get_or_insert_default().aliases;
            let set = aliases.set(alias, topic, room);
            return set.map_err(|_| Cause::Refused(Reason::AliasesFull));
        }
        let known = self.extras.as_ref().and_then(|extras| extras.aliases.topic(alias));
        topic.push_str(known.ok_or_else(|| wrong(ProtocolError::TopicAliasUnknown))?);
        Ok(())
    }

    /// How many Topic Aliases the client has set.
    pub(super) fn alias_count(&self) -> usize {
        self.extras.as_ref().map_or(0, |extras| extras.aliases.count())
    }
}

/// A limit in four bytes.
fn small(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(super) mod tests;
