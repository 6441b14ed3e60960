//! What happens to clients, for those who watch: who has come, who has left, and why.
//!
//! Nothing is made of it while nobody watches.

use std::net::SocketAddr;

use super::{
    Shard,
    connection::MqttConnection,
    end::{Cause, Leaves},
    log::{Claim, beginning},
    offer::push_level,
    ports::Ports,
    reason::Reason,
};
use crate::{
    access::Principal,
    base::{
        ids::{ConnectionId, SubscriberId},
        json::Object,
        local::Peer,
        time::WallTime,
    },
    mqtt::{DecodeError, Version},
    topic::TopicName,
    transport::Address,
};

/// Someone who watches. Told on the thread of a shard, so it never waits.
pub trait Watcher {
    fn tell(&self, event: Event);
}

/// Something that has happened to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: WallTime,
    /// The beginning of its Client Identifier. `None`: its CONNECT could not be read.
    pub client_id: Option<String>,
    /// The beginning of the User Name that it has proven; of one that was refused, as it said.
    pub user: Option<String>,
    pub peer: SocketAddr,
    pub what: What,
    /// Its Client Identifier as one level of a topic; `None` if it has none, or a long one.
    level: Option<String>,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Connected {
        way: Way,
        /// Seconds; 0 is none.
        keep_alive: u16,
        clean_start: bool,
        session_present: bool,
    },
    /// The connection of a client that was let in has ended.
    Disconnected {
        way: Way,
        why: Why,
        /// `kept`, or `ended` with the connection.
        session: &'static str,
        /// What becomes of the Will, if there is one.
        will: Option<&'static str>,
        /// The address of the connection that has taken over.
        new_peer: Option<SocketAddr>,
    },
    /// CONNECT was refused.
    Refused { listener: Address, version: Option<Version>, why: Why },
    /// The session of a client that was away has ended, for this cause.
    SessionEnded(&'static str),
}

/// The listener of a client, and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    pub listener: Address,
    pub version: Version,
}

/// Why, in a word and in the words of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Why {
    /// As under `$SYS/broker/connections/ended/`, where it is counted.
    pub cause: Option<&'static str>,
    pub reason: &'static str,
    pub flag: Option<&'static str>,
}

/// How clients that come and go are announced under `$SYS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    #[default]
    Off,
    /// To those who subscribe at that moment.
    Live,
    /// As long as a client is connected, also to those who subscribe later.
    Retained,
}

impl Event {
    /// Who the client is, and what has happened to it.
    pub(super) fn of(principal: &Principal, at: WallTime, what: What) -> Event {
        let (client_id, user) = (principal.client_id(), principal.user_name());
        Event::new((Some(client_id), user), principal.peer(), at, what)
    }

    /// A CONNECT that was refused.
    pub(super) fn refused(
        principal: &Principal,
        claim: Claim<'_>,
        listener: Address,
        (reason, flag): (Reason, Option<&'static str>),
        at: WallTime,
    ) -> Event {
        let (client, user) = claim.names();
        let version = client.map(|_| claim.terms.version());
        let why = Why { cause: None, reason: reason.text(), flag };
        let what = What::Refused { listener, version, why };
        Event::new((client, user), principal.peer(), at, what)
    }

    fn new(
        (client, user): (Option<&str>, Option<&str>),
        peer: SocketAddr,
        at: WallTime,
        what: What,
    ) -> Event {
        let whole = client.filter(|it| !it.is_empty() && beginning(it).len() == it.len());
        let owned = |text: &str| beginning(text).to_owned();
        Event {
            at,
            client_id: client.map(owned),
            user: user.map(owned),
            peer,
            what,
            level: whole.map(level_of),
        }
    }

    /// What has happened, in a word.
    pub fn name(&self) -> &'static str {
        match self.what {
            What::Connected { .. } => "connected",
            What::Disconnected { .. } => "disconnected",
            What::Refused { .. } => "refused",
            What::SessionEnded(_) => "session-ended",
        }
    }

    /// The whole of it on one line.
    pub fn json(&self) -> String {
        let object = Object::default()
            .number("time", self.at.as_nanos() / 1_000_000)
            .text("event", self.name())
            .text("client_id", self.client_id.as_deref())
            .text("user", self.user.as_deref())
            .text("peer", &*Peer(self.peer).to_string());
        let object = match &self.what {
            What::Connected { way, keep_alive, clean_start, session_present } => way
                .tell(object)
                .number("keep_alive", *keep_alive)
                .truth("clean_start", *clean_start)
                .truth("session_present", *session_present),
            What::Disconnected { way, why, session, will, new_peer } => {
                let new_peer = new_peer.map(|peer| Peer(peer).to_string());
                why.tell(way.tell(object).text("cause", why.cause))
                    .text("session", *session)
                    .text("will", *will)
                    .text("new_peer", new_peer.as_deref())
            }
            What::Refused { listener, version, why } => why.tell(
                object
                    .text("listener", &*listener.to_string())
                    .text("version", version.map(Version::words)),
            ),
            What::SessionEnded(cause) => object.text("cause", *cause),
        };
        object.finish()
    }
}

impl Way {
    fn tell(&self, object: Object) -> Object {
        object.text("listener", &*self.listener.to_string()).text("version", self.version.words())
    }
}

impl Why {
    fn tell(&self, object: Object) -> Object {
        object.text("reason", self.reason).text("flag", self.flag)
    }
}

fn level_of(client_id: &str) -> String {
    let mut level = String::new();
    push_level(client_id, &mut level);
    level
}

impl Shard {
    /// Whether anyone wants to know who comes and goes.
    pub(super) fn is_watched(&self, ports: &impl Ports) -> bool {
        self.context.rules.presence != Presence::Off
            || self.has_announced
            || ports.watcher().is_some()
    }

    /// Tells those who watch, and announces it under `$SYS`. `None`: nobody watches.
    #[inline]
    pub(super) fn tell(&mut self, event: Option<Event>, ports: &mut impl Ports) {
        if let Some(event) = event {
            self.tell_watchers(event, ports);
        }
    }

    #[cold]
    #[inline(never)]
    fn tell_watchers(&mut self, event: Event, ports: &mut impl Ports) {
        self.announce(&event, ports);
        if let Some(watcher) = ports.watcher() {
            watcher.tell(event);
        }
    }

    /// Where a client of this listener has come in.
    pub(super) fn way(&self, principal: &Principal, version: Version) -> Way {
        let listener = self.context.rules.listener_address(principal.listener());
        Way { listener, version }
    }

    pub(super) fn event(&self, principal: &Principal, what: What) -> Event {
        Event::of(principal, self.wall_now(), what)
    }

    pub(super) fn wall_now(&self) -> WallTime {
        self.context.wall_now()
    }

    /// What is to be told when the connection of a client ends; `None` if nobody watches.
    pub(super) fn leaving(
        &self,
        id: ConnectionId,
        (cause, leaves): (Cause, Option<Leaves>),
        ports: &impl Ports,
    ) -> Option<Event> {
        let leaves = leaves.filter(|_| self.is_watched(ports))?;
        let connection: &MqttConnection = self.connections.get(id)?;
        let principal = connection.principal();
        let why = Why { cause: Some(word_of(cause)), reason: cause.text(), flag: cause.flag() };
        let what = What::Disconnected {
            way: self.way(principal, connection.terms().version()),
            why,
            session: leaves.session(),
            will: leaves.will(),
            new_peer: cause.new_peer(),
        };
        Some(self.event(principal, what))
    }

    /// What is to be told when the session of an absent client ends; `None` if nobody watches.
    pub(super) fn ending(
        &self,
        subscriber: SubscriberId,
        cause: &'static str,
        ports: &impl Ports,
    ) -> Option<Event> {
        ports.watcher()?;
        let session = self.sessions.get(subscriber)?;
        Some(self.event(session.principal(), What::SessionEnded(cause)))
    }

    /// Ends the session of an absent client for this cause, and tells those who watch.
    pub(super) fn end_absent(
        &mut self,
        subscriber: SubscriberId,
        cause: &'static str,
        ports: &mut impl Ports,
    ) {
        let event = self.ending(subscriber, cause, ports);
        self.end_session(subscriber, ports);
        self.tell(event, ports);
    }

    /// Publishes who has come or gone, if the rules want it.
    fn announce(&mut self, event: &Event, ports: &mut impl Ports) {
        let presence = self.context.rules.presence;
        let Some(level) = event.level.as_deref().filter(|_| !self.context.stopping) else { return };
        let topic = |end: &str| format!("$SYS/broker/clients/{level}/{end}");
        match event.what {
            What::Connected { .. } if presence != Presence::Off => {
                let retains = presence == Presence::Retained && self.context.rules.offer.retain;
                self.has_announced |= retains;
                self.publish_own((&topic("connected"), &event.json(), retains), ports);
            }
            What::Disconnected { .. } => {
                // It may have been retained under other rules.
                if self.has_announced {
                    self.publish_own((&topic("connected"), "", true), ports);
                }
                if presence != Presence::Off {
                    self.publish_own((&topic("disconnected"), &event.json(), false), ports);
                }
            }
            _ => {}
        }
    }

    fn publish_own(
        &mut self,
        (topic, payload, retain): (&str, &str, bool),
        ports: &mut impl Ports,
    ) {
        let Ok(topic) = TopicName::parse(topic) else { return };
        let clients = (&mut self.sessions, &mut self.connections);
        self.router.publish_value((topic, payload, retain), clients, &mut self.context, ports);
    }
}

/// The end of the topic under `$SYS` where the cause is counted.
fn word_of(cause: Cause) -> &'static str {
    match cause {
        Cause::Disconnect | Cause::DisconnectWithWill => "disconnect",
        Cause::Finished | Cause::Broken => "abrupt",
        Cause::Error(DecodeError::Malformed(_)) => "malformed",
        Cause::TooLarge(_)
        | Cause::AnswerTooLarge
        | Cause::ConnackTooLarge
        | Cause::Error(DecodeError::PacketTooLarge) => "packet-too-large",
        Cause::Error(_) | Cause::HttpCame | Cause::TlsCame => "protocol-error",
        Cause::KeepAlive => "keep-alive",
        Cause::ConnectTimeout => "connect-timeout",
        Cause::TakenOver(_) => "taken-over",
        Cause::Share => "share",
        Cause::QuotaExceeded => "quota-exceeded",
        Cause::Refused(_) => "refused",
        Cause::NotAuthenticated => "authentication",
        Cause::TooManyFailures => "too-many-failures",
        Cause::ConnectTooLarge(_) => "connect-too-large",
        Cause::HandshakeRefused => "websocket-handshake",
        Cause::FramesRefused => "websocket-frame",
        Cause::TlsFailed(_) => "tls",
        Cause::ProxyRefused(_) => "proxy-header",
        Cause::PartialOverflow => "partial-overflow",
        Cause::PacketTimeout => "packet-timeout",
        Cause::Stalled => "stalled",
        Cause::TooFast => "rate",
        Cause::TokenEnded => "token-expired",
        Cause::Kicked => "kicked",
        Cause::Banned => "banned",
        Cause::ShuttingDown => "shutting-down",
    }
}

/// An event of a client with this name, for tests of those who watch.
#[cfg(test)]
pub(crate) fn sample(client_id: &str) -> Event {
    let peer = ([127, 0, 0, 1], 7).into();
    Event::new((Some(client_id), None), peer, WallTime::default(), What::SessionEnded("expired"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mqtt::{Malformed, ProtocolError},
        shard::stats::Counters,
    };

    #[test]
    fn each_cause_has_the_word_under_which_it_is_counted() {
        let causes = [
            Cause::Disconnect,
            Cause::Broken,
            Cause::Error(Malformed::ALL[0].into()),
            Cause::Error(ProtocolError::SecondConnect.into()),
            Cause::Error(DecodeError::PacketTooLarge),
            Cause::AnswerTooLarge,
            Cause::KeepAlive,
            Cause::ConnectTimeout,
            Cause::TakenOver(([127, 0, 0, 1], 1).into()),
            Cause::Share,
            Cause::QuotaExceeded,
            Cause::Refused(Reason::RetainedFull),
            Cause::NotAuthenticated,
            Cause::TooManyFailures,
            Cause::HandshakeRefused,
            Cause::FramesRefused,
            Cause::PartialOverflow,
            Cause::PacketTimeout,
            Cause::Stalled,
            Cause::TooFast,
            Cause::Kicked,
            Cause::Banned,
            Cause::ShuttingDown,
        ];
        for cause in causes {
            let mut counters = Counters::default();
            counters.count_end(cause);
            let counted = counters.topics().find(|&(_, count)| count > 0);
            let (topic, _) = counted.expect("each cause is counted");
            assert_eq!(topic.rsplit('/').next(), Some(word_of(cause)), "{cause:?}");
        }
    }
}
