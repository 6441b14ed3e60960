//! CONNECT: finds the home of the client, lets it in or refuses it, and gives it its session.

use std::rc::Rc;

use base64ct::{Base64UrlUnpadded, Encoding};

use super::{
    Handled, Shard,
    admit::{Entrance, Written},
    attempts,
    auth::{Step, conclude_check},
    certificate,
    connack::Accepted,
    end::Cause,
    events::What,
    kept_connect::{KeptConnect, level_of, version_to_refuse},
    log::{self, Claim},
    owed::{Answer, Condition, Verdict},
    ports::{Payer, Ports},
    reason::Reason,
    timers::Timer,
};
use crate::{
    access::{Admission, Policy, Principal},
    base::{
        ids::{ConnectionId, SubscriberId},
        time::Moment,
    },
    mqtt::{Auth, Connect, DecodeError, Frame, Packet, ProtocolError},
    session::{Link, terms::Terms},
};

/// The same CONNECT with a token that came as the User Name in the place of the password. So no
/// line of the log shows it.
fn with_token_as_password<'a>(connect: &Connect<'a>, policy: &Policy) -> Connect<'a> {
    let token = connect.user_name.filter(|name| policy.is_token(name));
    let password = token.map_or(connect.password, |token| Some(token.as_bytes()));
    let user_name = connect.user_name.filter(|_| token.is_none());
    Connect { user_name, password, ..*connect }
}

impl Shard {
    /// Handles a CONNECT: answers it now, keeps it until it can be answered, or hands it to the
    /// home shard of its client.
    pub(super) fn handle_connect(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        ports: &mut impl Ports,
    ) -> Handled {
        let rules = &self.context.rules;
        let connect = &with_token_as_password(connect, &rules.policy);
        let terms = Terms::of(connect, rules.limits.topic_aliases_max);
        let surplus =
            self.connections.connected(id).is_surplus() && !self.connections.may_make_room(id);
        let peer = self.connections.connected(id).principal().peer();
        if self.is_banned_stranger(connect.client_id, peer.ip()) {
            self.refuse_connect(id, Claim::of_packet(connect, terms), Reason::Banned, ports);
            return Handled::Taken;
        }
        let certified = ports.certified(id);
        let named = certificate::named(connect, &certified);
        let connect = &named.connect;
        if let Err(reason) = named.fault.map_or_else(|| rules.judge_connect(connect, surplus), Err)
        {
            self.refuse_connect(id, Claim::of_packet(connect, terms), reason, ports);
            return Handled::Taken;
        }
        let home = self.context.settings.home(connect.client_id);
        if !connect.client_id.is_empty() && home != self.context.settings.shard {
            self.connections.remove(id);
            if let Some(tap) = ports.tap() {
                tap.forget(id);
            }
            ports.hand_over(id, home);
            return Handled::NotTaken;
        }
        // Bytes that came on its earlier connection may contain a DISCONNECT, which decides what
        // becomes of its Will and of its session.
        let earlier = self.sessions.link_of(connect.client_id);
        if earlier.is_some_and(|earlier| !ports.precede(earlier.connection, id)) {
            return Handled::NotTaken;
        }
        let mut kept = Box::new(KeptConnect::keep(connect, terms, &self.context.memory.wills));
        kept.assigned = named.assigned();
        let client = (id, self.connections.connected_mut(id));
        let credentials = named.credentials();
        let step = self.authenticator.begin(client, kept, credentials, &mut self.context, ports);
        let waits = matches!(step, Step::WaitUntil(_));
        self.take_step(id, step, ports);
        if waits { Handled::NotTaken } else { Handled::Taken }
    }

    /// Takes the step that follows from what the client has proven so far.
    fn take_step(&mut self, id: ConnectionId, step: Step, ports: &mut impl Ports) {
        match step {
            Step::LetIn(connect, proof) => {
                self.enter(id, Box::new(Entrance::new(*connect, proof)), ports);
            }
            Step::Wait(connect, displaced) => {
                let answer = Answer::Connect(connect);
                self.connections.owe(id, (Condition::Verdict(None), answer), ports);
                if let Some(displaced) = displaced {
                    self.connections.note_verdict(displaced, Verdict::Busy);
                }
                self.watch_check(id);
                self.give_checks(Some(id), ports);
            }
            Step::Refuse(connect, reason) => {
                self.refuse_connect(id, Claim::of(&connect), reason, ports);
            }
            // A challenge cannot be made smaller. A client that does not accept it is not let in.
            Step::Send(auth) => {
                self.answer(id, &Packet::Auth(auth.packet()), auth.reason(), ports);
            }
            Step::Fail => self.end(id, Cause::NotAuthenticated, ports),
            Step::Leave => self.end(id, Cause::Finished, ports),
            Step::WaitUntil(moment) => self.hold_until(id, moment, ports),
            Step::RefuseAt(connect, reason, moment) => {
                self.owe_at(id, moment, Answer::Refusal(connect, reason), ports);
            }
        }
    }

    /// Reads nothing from a connection until this moment.
    pub(super) fn hold_until(&mut self, id: ConnectionId, moment: Moment, ports: &mut impl Ports) {
        self.owe_at(id, moment, Answer::ReadOn, ports);
    }

    /// Owes a connection an answer that is given at this moment.
    fn owe_at(&mut self, id: ConnectionId, moment: Moment, answer: Answer, ports: &mut impl Ports) {
        self.connections.owe(id, (Condition::Delay(false), answer), ports);
        self.context.timers.set(moment, Timer::Delay(id));
    }

    /// Whether an AUTH has to wait, because logins of its user or from its address have failed. It
    /// is not taken, and its connection may have ended.
    pub(super) fn delays_auth(&mut self, id: ConnectionId, ports: &mut impl Ports) -> bool {
        let connection = self.connections.connected_mut(id);
        let Some(user_name) = connection.claimed_user().map(str::to_owned) else { return false };
        match attempts::admit(connection, &user_name, &mut self.context) {
            Admission::Now => return false,
            Admission::At(moment) => self.hold_until(id, moment, ports),
            Admission::Refused => self.end(id, Cause::TooManyFailures, ports),
        }
        true
    }

    /// Ends a connection whose client has not proven to be the user that it claims to be, now or
    /// after a delay.
    fn fail(&mut self, id: ConnectionId, user_name: Option<&str>, ports: &mut impl Ports) {
        let connection = self.connections.connected(id);
        let later = user_name
            .and_then(|user_name| attempts::note_failure(connection, user_name, &mut self.context));
        match later {
            Some(moment) => self.owe_at(id, moment, Answer::Failure, ports),
            None => self.end(id, Cause::NotAuthenticated, ports),
        }
    }

    /// Gives password checks that wait to threads that have none.
    pub(super) fn give_checks(&mut self, latest: Option<ConnectionId>, ports: &mut impl Ports) {
        self.authenticator.go_on(latest, &mut self.connections, &mut self.context, ports);
    }

    /// Before CONNACK a client sends AUTH and DISCONNECT, and nothing else. [MQTT-3.1.2-30]
    pub(super) fn handle_unauthenticated(
        &mut self,
        id: ConnectionId,
        packet: &Packet<'_>,
        ports: &mut impl Ports,
    ) {
        match packet {
            Packet::Auth(auth) => self.handle_auth(id, auth, ports),
            Packet::Disconnect(_) => self.end(id, Cause::Disconnect, ports),
            _ => self.refuse(id, ProtocolError::AuthExpected, ports),
        }
    }

    pub(super) fn handle_auth(
        &mut self,
        id: ConnectionId,
        auth: &Auth<'_>,
        ports: &mut impl Ports,
    ) {
        let connection = self.connections.connected_mut(id);
        let user_name = connection.claimed_user().map(str::to_owned);
        match connection.handle_auth(auth, &self.context.rules.policy, ports) {
            Ok(Step::Fail) => self.fail(id, user_name.as_deref(), ports),
            Ok(step) => {
                if let (Step::LetIn(..), Some(user_name)) = (&step, user_name) {
                    attempts::note_success(connection, &user_name, &self.context);
                }
                self.take_step(id, step, ports);
            }
            Err(error) => self.refuse(id, error, ports),
        }
    }

    /// Answers a CONNECT whose password has been checked. It waits while a batch of letters is
    /// crowded, because the begin or end of a session is told to other shards.
    pub(super) fn answer_connect(
        &mut self,
        id: ConnectionId,
        connect: Box<KeptConnect>,
        verdict: Verdict,
        ports: &mut impl Ports,
    ) {
        let crowded = self.context.crowded_peer(ports).filter(|_| verdict == Verdict::Passed);
        if let Some(peer) = crowded {
            let answer = Answer::Connect(connect);
            return self.connections.owe_until_posted(id, peer, answer, ports);
        }
        let connection = self.connections.connected_mut(id);
        let step = conclude_check(connection, connect, verdict, &mut self.context);
        self.take_step(id, step, ports);
    }

    /// Lets the client in: takes its session over, resumes it or begins a new one.
    pub(super) fn accept(
        &mut self,
        id: ConnectionId,
        mut entrance: Box<Entrance>,
        ports: &mut impl Ports,
    ) {
        let Entrance { connect, proof, written, .. } = &mut *entrance;
        if connect.client_id.is_empty() && connect.assigned.is_none() {
            connect.assigned = Some(self.assign_client_id(ports).into());
        }
        let client_id = connect.named();
        let stranger = self.connections.connected(id).principal();
        let accounts = &self.context.settings.accounts;
        let user_name = proof.user_name.as_deref();
        let principal = stranger.named(client_id, user_name, accounts);
        let principal = principal.with_grant(proof.grant.clone());
        let principal = Rc::new(self.context.rights.endow(principal));
        if self.is_banned(&principal) {
            return self.refuse_connect(id, Claim::of(connect), Reason::Banned, ports);
        }
        if !self.context.rules.policy.admits(&principal) {
            return self.refuse_connect(id, Claim::of(connect), Reason::UserNotAdmitted, ports);
        }
        if !self.may_have_session(&principal) {
            return self.refuse_connect(id, Claim::of(connect), Reason::SessionOfAnother, ports);
        }
        if !connect.may_leave_will(&principal) {
            return self.refuse_connect(id, Claim::of(connect), Reason::WillForbidden, ports);
        }
        if !Accepted::new(&self.context.rules, connect, false, proof.data.as_deref()).fits() {
            return self.end(id, Cause::ConnackTooLarge, ports);
        }
        let is_more = connect.will.is_some() || self.sessions.find(client_id).is_none();
        if is_more && !self.has_memory_for(principal.account()) {
            return self.refuse_connect(id, Claim::of(connect), Reason::MemoryFull, ports);
        }
        self.end_candidate(client_id, id, ports);
        self.context.recorder.begin_packet();
        let is_new = written.is_none();
        let clean_start = connect.clean_start && is_new;
        self.end_earlier(&principal, (is_new, clean_start), ports);
        let resumed = self.sessions.find(client_id);
        let is_lasting = self.context.rules.session_expiry(connect) > 0;
        if !is_lasting && self.has_ended_storing(resumed, entrance.written, ports) {
            let written = Written { session: None, session_present: resumed.is_some() };
            self.wait_until_durable(id, entrance.after(written), ports);
            if let Some(resumed) = resumed {
                self.look_at_absent(resumed, ports);
            }
            return;
        }
        if resumed.is_none() && !self.take_place(principal.account(), is_lasting, ports) {
            return self.ask_for_place(id, entrance, principal.account(), ports);
        }
        let subscriber = resumed.unwrap_or_else(|| self.sessions.create(Rc::clone(&principal)));
        if is_lasting
            && self.context.recorder.is_on()
            && !entrance.has_written(self.sessions.of_connected_mut(subscriber))
        {
            let session_present = resumed.is_some();
            let client = (subscriber, &*principal, session_present);
            let written = self.write_down(client, &entrance.connect, ports);
            return self.wait_until_durable(id, entrance.after(written), ports);
        }
        self.let_in(id, (subscriber, &principal), (entrance, resumed.is_some()), ports);
    }

    /// Whether the answer to CONNECT has to wait because a session does not survive a restart any
    /// more: one that has expired or was before a clean start, or this one, which ends with its
    /// connection from now on.
    fn has_ended_storing(
        &mut self,
        resumed: Option<SubscriberId>,
        written: Option<Written>,
        ports: &mut impl Ports,
    ) -> bool {
        if let Some(session) = resumed.and_then(|resumed| self.sessions.get_mut(resumed)) {
            self.context.recorder.note_session_end(session, ports);
        }
        self.context.recorder.await_ends();
        let has_to_wait = written.is_none() && self.context.recorder.owes_promise();
        let waiting = resumed.filter(|_| has_to_wait);
        if let Some(session) = waiting.and_then(|resumed| self.sessions.get_mut(resumed)) {
            // If the client does not wait for the answer, its session has ended.
            session.set_terms(0, None);
            session.disconnect(self.context.now, false);
        }
        has_to_wait
    }

    /// Writes down the session of a client that is let in once that is on disk. Until then the
    /// session is one of an absent client.
    fn write_down(
        &mut self,
        (subscriber, principal, session_present): (SubscriberId, &Principal, bool),
        connect: &KeptConnect,
        ports: &mut impl Ports,
    ) -> Written {
        let (now, context) = (self.context.now, &mut self.context);
        let expiry = context.rules.session_expiry(connect);
        let session = self.sessions.of_connected_mut(subscriber);
        session.set_terms(expiry, None);
        let terms = (principal, expiry, connect.will.as_deref());
        context.recorder.note_session(session, terms, now, ports);
        session.disconnect(now, false);
        let written = Written { session: Some(session.number()), session_present };
        if !self.look_at_absent(subscriber, ports) && !session_present {
            self.sessions.note_absent(subscriber);
        }
        written
    }

    /// Lets a client in whose session is there: answers CONNECT, and sends what waits.
    fn let_in(
        &mut self,
        id: ConnectionId,
        (subscriber, principal): (SubscriberId, &Rc<Principal>),
        (mut entrance, resumed): (Box<Entrance>, bool),
        ports: &mut impl Ports,
    ) {
        let session_present = entrance.written.map_or(resumed, |it| it.session_present);
        let Entrance { connect, proof, .. } = &mut *entrance;
        let account = principal.account().number();
        ports.bill(id, Payer { account, is_let_in: true });
        if let Some(earlier) = self.sessions.get(subscriber) {
            self.context.rights.note_taken_over(earlier.principal(), principal);
        }
        self.attach(id, (subscriber, Rc::clone(principal)), connect);
        if self.connections.connected(id).is_traced() {
            self.tap_connection(id, ports);
        }
        let data = proof.data.as_deref();
        let accepted = Accepted::new(&self.context.rules, connect, session_present, data);
        let answered = self.connections.answer(id, &accepted.connack(), None, ports);
        answered.expect("the size of the CONNACK has been looked at");
        let listener = self.context.rules.listener_address(principal.listener());
        let keep_alive = self.context.rules.keep_alive(connect);
        let terms = (connect.terms.version(), keep_alive);
        log::connected(principal, &listener, terms, session_present);
        let event = self.is_watched(ports).then(|| {
            let way = self.way(principal, terms.0);
            let clean_start = connect.clean_start;
            let what = What::Connected { way, keep_alive, clean_start, session_present };
            self.event(principal, what)
        });
        self.router.set_members_online(subscriber, &self.sessions, &self.context, ports);
        self.pump(subscriber, ports);
        self.tell(event, ports);
    }

    /// Whether no other user has a session with the Client Identifier of this client.
    fn may_have_session(&self, principal: &Principal) -> bool {
        let earlier = self.sessions.find(principal.client_id());
        let earlier = earlier.and_then(|earlier| self.sessions.get(earlier));
        self.context.rules.policy.shares_sessions
            || earlier.is_none_or(|earlier| earlier.principal().is_user_of(principal))
    }

    /// Ends the client's earlier connection, and its session if it wants a clean start. `is_new`:
    /// the CONNECT has not waited for the disk. [MQTT-3.1.4-3] [MQTT-3.1.2-4]
    fn end_earlier(
        &mut self,
        principal: &Principal,
        (is_new, clean_start): (bool, bool),
        ports: &mut impl Ports,
    ) {
        let client_id = principal.client_id();
        if let Some(link) = self.sessions.link_of(client_id) {
            self.end(link.connection, Cause::TakenOver(principal.peer()), ports);
        }
        // The session may have ended together with its connection. One that was to end with the
        // connection of a client that has waited for the disk ends now.
        let Some(earlier) = self.sessions.find(client_id) else { return };
        let is_over = || self.sessions.get(earlier).is_some_and(|it| !it.outlasts_connection());
        if clean_start || (is_new && is_over()) {
            let cause = if clean_start { "clean-start" } else { "expired" };
            self.end_absent(earlier, cause, ports);
        }
    }

    /// Ties connection and session together.
    fn attach(
        &mut self,
        id: ConnectionId,
        (subscriber, principal): (SubscriberId, Rc<Principal>),
        connect: &mut KeptConnect,
    ) {
        let rules = &self.context.rules;
        let connection = self.connections.connected_mut(id);
        let known = (subscriber, Rc::clone(&principal));
        connection.connect(known, connect, Rc::clone(rules));
        let deadline = connection.keep_alive_deadline();
        let window = connect.receive_maximum.min(rules.limits.inflight_max);
        self.sessions.note_present(subscriber);
        let session = self.sessions.get_mut(subscriber).expect("it was found or created");
        let link = Link { connection: id, terms: connect.terms };
        let (expiry, will) = (rules.session_expiry(connect), connect.will.take());
        session.connect(principal, link, window, expiry, will);
        self.context.counters.clients_connected += 1;
        self.context.counters.clients_accepted += 1;
        if let Some(deadline) = deadline {
            self.watch_silence(id, deadline);
        }
        self.watch_token(id);
    }

    /// An unused Client Identifier whose home is this shard. It is unpredictable, because a client
    /// that knows one can take over its session. [MQTT-3.1.3-6]
    fn assign_client_id(&self, ports: &mut impl Ports) -> String {
        loop {
            let client_id = format!("ringmq-{}", Base64UrlUnpadded::encode_string(&ports.secret()));
            let is_home = self.context.settings.home(&client_id) == self.context.settings.shard;
            if is_home && self.sessions.find(&client_id).is_none() {
                return client_id;
            }
        }
    }

    pub(super) fn refuse_connect(
        &mut self,
        id: ConnectionId,
        claim: Claim<'_>,
        reason: Reason,
        ports: &mut impl Ports,
    ) {
        self.connections.refuse(id, claim, reason, &mut self.context, ports);
    }

    /// Answers an invalid CONNECT, in the version that it names if that can be read.
    pub(super) fn refuse_connect_bytes(
        &mut self,
        id: ConnectionId,
        frame: Frame<'_>,
        error: DecodeError,
        ports: &mut impl Ports,
    ) {
        match version_to_refuse(frame, error) {
            Some(version) => {
                self.refuse_connect(
                    id,
                    Claim::unread(version, level_of(frame, error)),
                    Reason::Packet(error),
                    ports,
                );
            }
            // A TLS record begins like a CONNECT with reserved flags.
            None if frame.first & 0xf != 0 => {
                self.end(id, Cause::of_first_frame(frame), ports);
            }
            None => self.refuse(id, error, ports),
        }
    }
}
