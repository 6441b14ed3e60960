//! Sessions: how they begin, are taken over, resumed, left and ended, and their Wills.

use ringmq::{
    base::{
        time::{Moment, Span},
        wheel::TICK,
    },
    mqtt::{self, Connect, ReasonCode, Version},
};

use super::{
    Oracle, Seen,
    connack::Answer,
    model::{Publication, Session, Will, written},
};
use crate::violation::{Violation, ensure};

impl Oracle {
    /// The CONNECT packets whose passwords have been checked are answered, in whatever call.
    pub(super) fn take_answered(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        let mut answered: Vec<usize> = seen.effects.sent().map(|(link, _)| link).collect();
        answered.dedup();
        for link in answered {
            let Some(bytes) = self.conns[link].waiting.take() else { continue };
            let frame = mqtt::frame::split(&bytes, bytes.len()).ok().flatten();
            let connect = frame.and_then(|frame| Connect::decode(frame).ok());
            let connect = connect.expect("it was decoded, and encoded to be kept");
            if self.connack_of(seen, link, &connect)?.is_some() {
                self.take_connect(seen, link, &connect)?;
                self.conns[link].last_packet = seen.now;
            } else {
                self.conns[link].waiting = Some(bytes);
            }
        }
        Ok(())
    }

    /// CONNECT was taken: the answer is among the effects of the same call, unless a password has
    /// to be checked first.
    pub(super) fn take_connect(
        &mut self,
        seen: &Seen<'_>,
        link: usize,
        connect: &Connect<'_>,
    ) -> Result<(), Violation> {
        self.conns[link].version = connect.version;
        let Some(answer) = self.connack_of(seen, link, connect)? else {
            let is_new = !self.current.contains_key(connect.client_id);
            if connect.password.is_some() || (is_new && !self.has_place()) {
                let mut bytes = Vec::new();
                connect.encode(&mut bytes);
                self.conns[link].waiting = Some(bytes);
                return Ok(());
            }
            // A CONNACK with an Assigned Client Identifier is larger. [MQTT-3.2.2-16]
            // Nothing has come of the CONNECT then.
            let assigned = if connect.client_id.is_empty() { super::ASSIGNED } else { 0 };
            let maximum = connect.properties.maximum_packet_size;
            let excused = maximum.is_some_and(|it| (it.get() as usize) < super::SMALL + assigned);
            return ensure(excused, "CONNECT is answered", || format!("link {link}"));
        };
        let Answer { reason_code, present, assigned } = answer;
        let named = !connect.client_id.is_empty();
        let client_id = assigned.as_deref().unwrap_or(connect.client_id);
        let known = self.current.get(client_id).copied();
        if reason_code != ReasonCode::Success {
            return self.check_refusal(connect, reason_code, known.is_some());
        }
        ensure(named || known.is_none(), "a name that the broker chooses is new", || {
            client_id.to_owned()
        })?;
        ensure(self.home(client_id) == seen.shard, "a session lives on its home shard", || {
            client_id.to_owned()
        })?;
        if let Some(session) = known {
            self.take_over(seen, session, link, connect.clean_start)?;
        }
        let resumed = self.current.get(client_id).copied();
        ensure(
            connect.version == Version::V31 || present == resumed.is_some(),
            "Session Present says whether there is one",
            || format!("{client_id} is told {present}"),
        )?;
        if resumed.is_none() {
            self.evict_for_place(seen)?;
        }
        let session = resumed.unwrap_or_else(|| self.create(client_id, self.conns[link].client));
        self.attach(seen, link, session, connect);
        Ok(())
    }

    fn check_refusal(
        &self,
        connect: &Connect<'_>,
        reason_code: ReasonCode,
        known: bool,
    ) -> Result<(), Violation> {
        let full = !known && !self.has_place();
        let wrong = connect.user_name.is_some();
        // A clean start may find the store full after it has ended its own session.
        let excused = match reason_code {
            ReasonCode::QuotaExceeded => full,
            // A password may have to wait for too long.
            ReasonCode::ServerUnavailable => full || wrong,
            ReasonCode::ServerBusy | ReasonCode::BadUserNameOrPassword => wrong,
            _ => false,
        };
        ensure(excused, "a client is refused for a reason", || {
            format!("{} is told {reason_code:?}", connect.client_id)
        })
    }

    /// The client's earlier connection ends, and its session if it wants a clean start.
    fn take_over(
        &mut self,
        seen: &Seen<'_>,
        session: usize,
        link: usize,
        clean_start: bool,
    ) -> Result<(), Violation> {
        if let Some(earlier) = self.sessions[session].link {
            self.check_precedence(seen, earlier, link)?;
            self.conns[earlier].leaving = true;
            ensure(
                seen.effects.closed().any(|closed| closed == earlier),
                "one connection per Client Identifier",
                || format!("link {earlier} is left open"),
            )?;
            self.detach(seen, session, false);
        }
        if clean_start && self.sessions[session].ended_at.is_none() {
            self.end_session(seen, session);
        }
        Ok(())
    }

    fn create(&mut self, client_id: &str, client: usize) -> usize {
        let home = self.home(client_id);
        self.sessions.push(Session {
            client_id: client_id.to_owned(),
            hostile: client >= self.hostile_from,
            home,
            account: String::new(),
            absent_since: 0,
            link: None,
            ended_at: None,
            expiry: 0,
            ends_at: None,
            will: None,
            subscriptions: Vec::new(),
            held: std::collections::BTreeMap::new(),
            flights: Vec::new(),
            expected: Vec::new(),
            tickets: Vec::new(),
            used: Vec::new(),
            last: std::collections::BTreeMap::new(),
            got: std::collections::BTreeSet::new(),
        });
        self.current.insert(client_id.to_owned(), self.sessions.len() - 1);
        self.sessions.len() - 1
    }

    fn attach(&mut self, seen: &Seen<'_>, link: usize, at: usize, connect: &Connect<'_>) {
        let keep_alive = self.keep_alive(connect);
        let account = self.account_of(self.conns[link].client, connect);
        let conn = &mut self.conns[link];
        let properties = &connect.properties;
        conn.session = Some(at);
        conn.connected = true;
        conn.keep_alive = keep_alive;
        conn.wants_reasons = properties.request_problem_information;
        conn.last_packet = seen.now;
        conn.alias_max = properties.topic_alias_maximum.min(self.limits.topic_aliases_max);
        conn.packet_size_max =
            properties.maximum_packet_size.map_or(usize::MAX, |it| it.get() as usize);
        let receive_maximum = properties.receive_maximum.map_or(u16::MAX, std::num::NonZero::get);
        conn.window = usize::from(receive_maximum.min(self.limits.inflight_max));
        let asked = match connect.version {
            Version::V5 => properties.session_expiry_interval.unwrap_or(0),
            _ if connect.clean_start => 0,
            _ => u32::MAX,
        };
        let packet_size_max = conn.packet_size_max;
        let session = &mut self.sessions[at];
        for flight in session.flights.iter_mut().filter(|flight| !flight.released) {
            flight.doubtful |= flight.len + LENGTH_SLACK > packet_size_max;
        }
        session.account = account;
        session.link = Some(link);
        session.expiry = asked.min(self.limits.session_expiry_max);
        session.ends_at = None;
        session.will = connect.will.as_ref().map(|will| Will {
            publication: Publication {
                topic: will.topic.to_owned(),
                payload: will.payload.to_vec(),
                application: written(will.properties.application),
                qos: will.qos,
                retain: will.retain,
                expires_at: None,
                publisher: session.client_id.clone(),
            },
            delay: will.properties.will_delay_interval,
            expiry: will.properties.message_expiry_interval,
            due_at: None,
        });
    }

    /// Who pays for the session of a client that was let in.
    fn account_of(&self, client: usize, connect: &Connect<'_>) -> String {
        let user = connect.user_name.filter(|_| self.with_passwords);
        let address = || format!("address {}", client % self.addresses);
        user.map_or_else(address, |user| format!("user {user}"))
    }

    /// The session is without a connection now.
    pub(super) fn detach(&mut self, seen: &Seen<'_>, at: usize, deletes_will: bool) {
        self.forgive_debts_of(at);
        self.absences += 1;
        let session = &mut self.sessions[at];
        session.link = None;
        session.absent_since = self.absences;
        let lasts = seconds(session.expiry);
        session.ends_at = (session.expiry != u32::MAX).then(|| seen.now + lasts);
        if deletes_will {
            session.will = None;
        }
        if let Some(will) = &mut session.will {
            will.due_at = Some(seen.now + seconds(will.delay));
        }
        let will_due = session.will.as_ref().and_then(|will| will.due_at);
        if will_due.is_some_and(|due| due <= seen.now) {
            self.publish_will(seen, at);
        }
        if self.sessions[at].ends_at.is_some_and(|ends| ends <= seen.now) {
            self.end_session(seen, at);
        }
    }

    pub(super) fn end_session(&mut self, seen: &Seen<'_>, at: usize) {
        self.publish_will(seen, at);
        self.forgive_debts_of(at);
        let session = &mut self.sessions[at];
        session.ended_at = Some(seen.step);
        for subscription in &mut session.subscriptions {
            subscription.until.get_or_insert(seen.step);
        }
        self.current.remove(&session.client_id);
    }

    fn publish_will(&mut self, seen: &Seen<'_>, at: usize) {
        let Some(will) = self.sessions[at].will.take() else { return };
        let expires_at = will.expiry.map(|expiry| seen.now + seconds(expiry));
        self.route(seen, Publication { expires_at, ..will.publication });
    }

    /// What the clock has made due.
    pub(super) fn take_time(&mut self, seen: &Seen<'_>) {
        self.sweep(seen);
        let present: Vec<usize> = self.current.values().copied().collect();
        for at in present {
            let session = &self.sessions[at];
            if session.home != seen.shard || session.link.is_some() {
                continue;
            }
            let will_due = session.will.as_ref().and_then(|will| will.due_at);
            let ends_at = session.ends_at;
            if will_due.is_some_and(|due| has_struck(due, seen.now)) {
                self.publish_will(seen, at);
            }
            if ends_at.is_some_and(|ends| has_struck(ends, seen.now)) {
                self.end_session(seen, at);
            }
        }
    }
}

/// Whether a timer for this moment has fired: the wheel tells time in ticks.
pub(super) fn has_struck(due: Moment, now: Moment) -> bool {
    due.as_nanos().div_ceil(TICK.as_nanos()) <= now.as_nanos() / TICK.as_nanos()
}

fn seconds(seconds: u32) -> Span {
    Span::from_secs(u64::from(seconds))
}

/// How much longer a packet may be when it is sent again, to a client of another version.
const LENGTH_SLACK: usize = 30;
