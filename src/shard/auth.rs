//! Authentication: how a client proves who it is, by a password or by AUTH packets.
//!
//! Knows a CONNECT and what a client has proven. Does not know sessions, nor how a client is let in
//! or refused.

mod exchange;

use std::{rc::Rc, sync::Arc};

pub(super) use self::exchange::Authentication;
use super::{
    attempts,
    budget::Budget,
    checks::{Check, Checks, ChecksFull, Claim, Next, Question, Work},
    connection::{MqttConnection, Stage},
    connections::Connections,
    context::Context,
    kept_connect::{KeptConnect, WAITING_BYTES_MAX, WaitingFull},
    owed::Verdict,
    ports::Ports,
    reason::Reason,
};
use crate::{
    access::{
        Admission, AuthHook, Decision, Finding, Grant, HookCall, Inquiry, Policy, Remembered,
        TokenFault, scram::MESSAGE_BYTES_MAX,
    },
    base::{
        ids::ConnectionId,
        time::{Moment, Span},
    },
    mqtt::{Auth, Connect, ReasonCode, ReasonProperties},
};

/// What a client has proven.
#[derive(Debug, Default)]
pub(super) struct Proof {
    /// The user; `None` for an anonymous client.
    pub(super) user_name: Option<Box<str>>,
    /// What its token holds it to, if it has one.
    pub(super) grant: Option<Arc<Grant>>,
    /// The last Authentication Data of an enhanced authentication, for CONNACK.
    pub(super) data: Option<Vec<u8>>,
}

/// The credentials in a CONNECT.
#[derive(Clone, Copy, Debug)]
pub(super) enum Credentials<'a> {
    Password(Option<&'a [u8]>),
    /// The certificate of the client has proven the User Name.
    Certificate,
    /// An Authentication Method, and the first Authentication Data.
    Method(&'a str, Option<&'a [u8]>),
}

impl<'a> Credentials<'a> {
    pub(super) fn of(connect: &Connect<'a>) -> Credentials<'a> {
        match connect.properties.authentication_method {
            Some(method) => Credentials::Method(method, connect.properties.authentication_data),
            None => Credentials::Password(connect.password),
        }
    }
}

/// The next step for a client that authenticates.
#[derive(Debug)]
pub(super) enum Step {
    /// The client is let in.
    LetIn(Box<KeptConnect>, Proof),
    /// CONNECT is answered after its password has been checked. The check of another connection
    /// may have had to make room.
    Wait(Box<KeptConnect>, Option<ConnectionId>),
    /// CONNECT is answered with a refusal.
    Refuse(Box<KeptConnect>, Reason),
    /// The client is sent an AUTH. It has to answer, or a re-authentication is complete.
    Send(AuthAnswer),
    /// The client has not proven who it is: its connection ends.
    Fail,
    /// The client has gone.
    Leave,
    /// The packet is handed in again at this moment.
    WaitUntil(Moment),
    /// CONNECT is answered with a refusal at this moment: the password or the token was wrong.
    RefuseAt(Box<KeptConnect>, Reason, Moment),
}

/// An AUTH packet of the broker's.
#[derive(Debug)]
pub(super) struct AuthAnswer {
    reason_code: ReasonCode,
    method: Rc<str>,
    data: Option<Vec<u8>>,
}

impl AuthAnswer {
    /// [MQTT-4.12.0-5]
    pub(super) fn packet(&self) -> Auth<'_> {
        Auth {
            reason_code: self.reason_code,
            method: Some(&self.method),
            data: self.data.as_deref(),
            properties: ReasonProperties::default(),
        }
    }

    /// The reason, if the AUTH asks for the client's first message.
    pub(super) fn reason(&self) -> Option<Reason> {
        let is_first = self.reason_code == ReasonCode::ContinueAuthentication;
        (is_first && self.data.is_none()).then_some(Reason::FirstMessageMissing)
    }
}

/// Authenticates clients by the policy.
#[derive(Debug)]
pub(super) struct Authenticator {
    /// Memory of the CONNECT packets that wait to be answered.
    waiting: Budget,
    /// Password checks that wait for a thread, by the account of the client's address.
    checks: Checks<u64>,
    /// Questions to the hook that wait, likewise.
    questions: Checks<u64>,
    /// What the checks are about that the threads work on, and the hook: a few.
    at_work: Vec<AtWork>,
    /// How many of them are questions to the hook.
    asked: usize,
    /// Passwords that were proven lately.
    remembered: Remembered,
}

/// A check that has begun.
#[derive(Debug)]
struct AtWork {
    connection: ConnectionId,
    claim: Claim,
    /// It is a question to the hook.
    is_question: bool,
    /// What follows on it if the hook leaves the decision to others.
    next: Option<Next>,
}

impl Authenticator {
    pub(super) fn new(context: &Context) -> Authenticator {
        let checks_max = context.rules.limits.password_checks_max;
        Authenticator {
            waiting: Budget::new(WAITING_BYTES_MAX),
            checks: Checks::new(checks_max, context.settings.seed),
            questions: Checks::new(checks_max, context.settings.seed),
            at_work: Vec::new(),
            asked: 0,
            remembered: Remembered::new(context.settings.seed),
        }
    }

    /// Counts a CONNECT against the memory of those that wait.
    pub(super) fn have_wait(&self, connect: &mut KeptConnect) -> Result<(), WaitingFull> {
        connect.wait(&self.waiting, 0)
    }

    /// What the CONNECT packets take that wait.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting.taken()
    }

    /// Begins with a CONNECT. Its client is let in or refused at once, or the connection waits.
    pub(super) fn begin(
        &mut self,
        (id, connection): (ConnectionId, &mut MqttConnection),
        connect: Box<KeptConnect>,
        credentials: Credentials<'_>,
        context: &mut Context,
        ports: &mut impl Ports,
    ) -> Step {
        match credentials {
            Credentials::Certificate => {
                let proof = Proof { user_name: connect.user_name.clone(), ..Proof::default() };
                Step::LetIn(connect, proof)
            }
            Credentials::Password(password) => {
                self.check_password((id, connection), connect, password, context, ports)
            }
            Credentials::Method(method, data) => {
                self.begin_exchange(connection, connect, (method, data), context, ports)
            }
        }
    }

    fn check_password(
        &mut self,
        (id, connection): (ConnectionId, &mut MqttConnection),
        connect: Box<KeptConnect>,
        password: Option<&[u8]>,
        context: &mut Context,
        ports: &mut impl Ports,
    ) -> Step {
        let anonymous = context.rules.lets_anonymous_in(connection.principal().listener());
        let (policy, now) = (&context.rules.policy, context.wall_now());
        match policy.admit(anonymous, connect.user_name.as_deref(), password, now) {
            Decision::Granted => Step::LetIn(connect, Proof::default()),
            Decision::NotAuthorized => Step::Refuse(connect, Reason::Anonymous),
            Decision::VerifyToken(verification) => {
                let user_name = attempted(connection, &connect).into();
                let claim = Claim { user_name, mark: None, in_turn: false };
                let work = Work::Verify(verification);
                self.check((id, connection), connect, (claim, work), context)
            }
            Decision::Ask(hook, verification) => {
                let next = verification.map(|verification| {
                    let mark = self.claim(&connect, password, policy, ports).mark;
                    Next { verification, mark }
                });
                let user_name = attempted(connection, &connect).into();
                let claim = Claim { user_name, mark: None, in_turn: false };
                let inquiry = Inquiry {
                    client_id: connect.client_id.clone(),
                    user_name: connect.user_name.clone(),
                    password: password.map(Box::from),
                    peer: connection.principal().peer(),
                    protocol_level: connect.terms.version().level(),
                    now,
                };
                let copies = 1 + usize::from(next.is_some());
                let bytes = connect.client_id.len() + copies * password.map_or(0, <[u8]>::len);
                let work = Work::Ask(Question { call: call(hook, inquiry), next, bytes });
                self.check((id, connection), connect, (claim, work), context)
            }
            Decision::Verify(verification) => {
                let claim = self.claim(&connect, password, policy, ports);
                if self.recognizes(&claim, connection, context) {
                    return conclude_check(connection, connect, Verdict::Passed, context);
                }
                let work = Work::Verify(verification);
                self.check((id, connection), connect, (claim, work), context)
            }
        }
    }

    /// Has a claim checked, unless too many logins have failed.
    fn check(
        &mut self,
        (id, connection): (ConnectionId, &mut MqttConnection),
        connect: Box<KeptConnect>,
        (mut claim, work): (Claim, Work),
        context: &mut Context,
    ) -> Step {
        claim.in_turn = attempts::come_in_turn(connection, &claim.user_name, context);
        match attempts::admit(connection, &claim.user_name, context) {
            Admission::Now => {
                let check = Check { connection: id, work, claim };
                self.wait_for_thread(connection, connect, check)
            }
            Admission::At(moment) => Step::WaitUntil(moment),
            Admission::Refused => Step::Refuse(connect, Reason::TooManyFailures),
        }
    }

    /// What a CONNECT with a password claims.
    fn claim(
        &mut self,
        connect: &KeptConnect,
        password: Option<&[u8]>,
        policy: &Policy,
        ports: &mut impl Ports,
    ) -> Claim {
        let user_name = connect.user_name.clone().unwrap_or_default();
        let mark = policy.passwords.as_ref().zip(password).and_then(|(passwords, password)| {
            self.remembered.mark(passwords, &user_name, password, || ports.secret())
        });
        Claim { user_name, mark, in_turn: false }
    }

    /// Whether the password of the client was proven lately.
    fn recognizes(
        &mut self,
        claim: &Claim,
        connection: &mut MqttConnection,
        context: &mut Context,
    ) -> bool {
        let ticket = claim
            .mark
            .and_then(|mark| self.remembered.recognize(&claim.user_name, mark, context.now));
        let is_known = ticket.is_some();
        context.counters.checks_remembered += u64::from(is_known);
        if let Some(ticket) = ticket {
            connection.keep_ticket(ticket);
        }
        is_known
    }

    /// Whether so many logins have failed since CONNECT came that the client cannot be let through
    /// now. So those that came all at once learn as little as those that came one by one.
    fn comes_too_late(
        claim: &Claim,
        connection: &mut MqttConnection,
        context: &mut Context,
    ) -> bool {
        !claim.in_turn
            && attempts::come_in_turn(connection, &claim.user_name, context)
            && attempts::admit(connection, &claim.user_name, context) != Admission::Now
    }

    fn wait_for_thread(
        &mut self,
        connection: &mut MqttConnection,
        mut connect: Box<KeptConnect>,
        check: Check,
    ) -> Step {
        if connect.wait(&self.waiting, check.work.bytes()).is_err() {
            return Step::Refuse(connect, Reason::AuthenticationsFull);
        }
        let row = match check.work {
            Work::Verify(_) => &mut self.checks,
            Work::Ask(..) => &mut self.questions,
        };
        match row.push(address_of(connection), check) {
            Ok(displaced) => {
                connection.wait(Stage::Waiting, connect.terms);
                Step::Wait(connect, displaced)
            }
            Err(ChecksFull) => Step::Refuse(connect, Reason::PasswordChecksFull),
        }
    }

    /// The next check that can begin now.
    fn next_check(&mut self, context: &Context, ports: &impl Ports) -> Option<Check> {
        let check = if ports.can_verify() { self.checks.pop() } else { None };
        check.or_else(|| {
            let can_ask = self.asked < questions_max(context) && ports.can_ask_hook();
            if can_ask { self.questions.pop() } else { None }
        })
    }

    /// Gives checks that wait to the threads and the hook, as many as they take, except those of
    /// clients that have gone. Bytes that came with the CONNECT of `latest` may still be on their
    /// way to the shard, so it is not asked whether that client has gone.
    pub(super) fn go_on(
        &mut self,
        latest: Option<ConnectionId>,
        connections: &mut Connections,
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        while let Some(Check { connection: id, work, claim }) = self.next_check(context, ports) {
            let Some(connection) = connections.get_mut(id) else { continue };
            if latest != Some(id) && ports.has_gone(id) {
                context.counters.checks_dropped += 1;
                connections.note_verdict(id, Verdict::Gone);
            } else if self.recognizes(&claim, connection, context) {
                connections.note_verdict(id, Verdict::Passed);
            } else if Authenticator::comes_too_late(&claim, connection, context) {
                connections.note_verdict(id, Verdict::TooMany);
            } else {
                self.begin_check(Check { connection: id, work, claim }, context, ports);
            }
        }
    }

    fn begin_check(&mut self, check: Check, context: &mut Context, ports: &mut impl Ports) {
        let Check { connection, work, claim } = check;
        match work {
            Work::Verify(verification) => {
                context.counters.checks_run += 1;
                self.at_work.push(AtWork { connection, claim, is_question: false, next: None });
                ports.verify(connection, verification);
            }
            Work::Ask(Question { call, next, .. }) => {
                context.counters.hook_calls += 1;
                self.asked += 1;
                self.at_work.push(AtWork { connection, claim, is_question: true, next });
                ports.ask_hook(connection, call);
            }
        }
    }

    /// Notes what a thread or the hook has found. Its client may have gone meanwhile; a password is
    /// remembered all the same.
    pub(super) fn note_verdict(
        &mut self,
        id: ConnectionId,
        finding: Finding,
        connections: &mut Connections,
        context: &mut Context,
    ) {
        let verdict = Verdict::of(&finding);
        context.counters.hook_failures += u64::from(finding == Finding::Unanswered);
        let place = self.at_work.iter().position(|it| it.connection == id);
        let AtWork { claim, is_question, next, .. } = match place {
            Some(place) => self.at_work.swap_remove(place),
            None => return,
        };
        self.asked -= usize::from(is_question);
        if let (Finding::Ignored, Some(next)) = (&finding, next) {
            return self.go_on_with((id, claim), next, connections);
        }
        if let Claim { user_name, mark: Some(mark), .. } = claim
            && finding == Finding::Right
        {
            let ticket = self.remembered.remember(user_name, mark, context.now);
            if let (Some(ticket), Some(connection)) = (ticket, connections.get_mut(id)) {
                connection.keep_ticket(ticket);
            }
        }
        if let (Finding::Bearer(bearer), Some(connection)) = (finding, connections.get_mut(id)) {
            connection.keep_bearer(bearer);
        }
        connections.note_verdict(id, verdict);
    }

    /// Has a password checked, because the hook leaves the decision to the password file. Its
    /// client may have gone, or may have been refused because the hook has taken too long.
    fn go_on_with(
        &mut self,
        (id, claim): (ConnectionId, Claim),
        Next { verification, mark }: Next,
        connections: &mut Connections,
    ) {
        let connection = connections.get(id).filter(|it| it.stage() == Stage::Waiting);
        let Some(connection) = connection else { return };
        let claim = Claim { mark, ..claim };
        let check = Check { connection: id, work: Work::Verify(verification), claim };
        match self.checks.push(address_of(connection), check) {
            Ok(Some(displaced)) => connections.note_verdict(displaced, Verdict::Busy),
            Ok(None) => {}
            Err(ChecksFull) => connections.note_verdict(id, Verdict::Busy),
        }
    }

    /// Forgets passwords that no connected client has used for a while.
    pub(super) fn forget_unused(&mut self, now: Moment) {
        self.remembered.forget_unused(now, REMEMBERED_SPAN);
    }

    /// Forgets the passwords of users that other rules change.
    pub(super) fn forget_changed(&mut self, before: &Policy, after: &Policy) {
        self.remembered.forget_changed(before.passwords.as_deref(), after.passwords.as_deref());
    }

    /// Forgets the check of a connection that ends, or that has waited for too long.
    pub(super) fn forget_check(&mut self, id: ConnectionId, connection: &MqttConnection) {
        if connection.stage() == Stage::Waiting {
            let address = address_of(connection);
            let _ = self.checks.forget(&address, id) || self.questions.forget(&address, id);
        }
    }

    /// Forgets all checks that wait.
    pub(super) fn forget_checks(&mut self) {
        self.checks.clear();
        self.questions.clear();
    }

    /// Takes a CONNECT that names an Authentication Method. It is kept until it can be answered,
    /// so that AUTH packets can be read after it.
    fn begin_exchange(
        &self,
        connection: &mut MqttConnection,
        mut connect: Box<KeptConnect>,
        (method, data): (&str, Option<&[u8]>),
        context: &Context,
        ports: &mut impl Ports,
    ) -> Step {
        let policy = &context.rules.policy;
        let Some(exchange) = policy.begin_exchange(method, ports.secret()) else {
            // [MQTT-4.12.0-1]
            return Step::Refuse(connect, Reason::AuthenticationMethodUnknown);
        };
        if connect.wait(&self.waiting, EXCHANGE_BYTES_MAX).is_err() {
            return Step::Refuse(connect, Reason::AuthenticationsFull);
        }
        connection.wait(Stage::Authenticating, connect.terms);
        let mut authentication = Authentication::new(method, connect);
        let step = authentication.begin(exchange, data);
        connection.set_authentication(authentication);
        step
    }
}

/// The account of a client that has not proven who it is: that of its address.
fn address_of(connection: &MqttConnection) -> u64 {
    connection.principal().account().number()
}

/// The question about a client.
fn call(hook: Arc<dyn AuthHook>, inquiry: Inquiry) -> HookCall {
    Box::new(move |reply| hook.ask(inquiry, reply))
}

/// Questions of one shard to the hook at a time. Together the shards keep all its connections busy,
/// and a question waits for few others.
fn questions_max(context: &Context) -> usize {
    let connections =
        context.rules.policy.hook.as_ref().map_or(1, |hook| hook.settings().connections);
    (2 * connections).div_ceil(context.settings.shards).max(2)
}

/// The user whose logins a CONNECT counts among. One that leaves its name to its token is among
/// those of its address, so that others cannot make it wait.
fn attempted(connection: &MqttConnection, connect: &KeptConnect) -> String {
    let named = connect.user_name.as_deref().filter(|name| !name.is_empty());
    named.map_or_else(|| connection.principal().peer().ip().to_string(), str::to_owned)
}

/// A CONNECT whose password or token has been checked, or will not be.
pub(super) fn conclude_check(
    connection: &mut MqttConnection,
    mut connect: Box<KeptConnect>,
    verdict: Verdict,
    context: &mut Context,
) -> Step {
    match verdict {
        Verdict::Passed => {
            attempts::note_success(connection, &attempted(connection, &connect), context);
            let grant = connection.take_bearer().and_then(|bearer| {
                connect.user_name = Some(bearer.user_name).filter(|name| !name.is_empty());
                bearer.grant
            });
            let proof = Proof { user_name: connect.user_name.clone(), grant, data: None };
            Step::LetIn(connect, proof)
        }
        Verdict::Wrong => refuse_failed(connection, connect, Reason::PasswordWrong, context),
        Verdict::BadToken(TokenFault::KeysMissing) => {
            Step::Refuse(connect, Reason::TokenKeysMissing)
        }
        Verdict::BadToken(fault) => refuse_failed(connection, connect, fault.into(), context),
        Verdict::Unanswered => Step::Refuse(connect, Reason::HookSilent),
        Verdict::Busy => Step::Refuse(connect, Reason::PasswordChecksFull),
        Verdict::TooMany => Step::Refuse(connect, Reason::TooManyFailures),
        Verdict::Gone => Step::Leave,
    }
}

/// Refuses a client whose login has failed, now or after a delay.
fn refuse_failed(
    connection: &MqttConnection,
    mut connect: Box<KeptConnect>,
    reason: Reason,
    context: &mut Context,
) -> Step {
    match attempts::note_failure(connection, &attempted(connection, &connect), context) {
        Some(moment) => {
            connect.keep_claim_only();
            Step::RefuseAt(connect, reason, moment)
        }
        None => Step::Refuse(connect, reason),
    }
}

/// How long a password is remembered after its last client has gone.
const REMEMBERED_SPAN: Span = Span::from_secs(15 * 60);
/// Bytes that an exchange may hold, of the client's messages and its own.
const EXCHANGE_BYTES_MAX: usize = 4 * MESSAGE_BYTES_MAX;

#[cfg(test)]
mod tests;
