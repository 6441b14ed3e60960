use std::sync::Arc;

use super::{
    super::{
        ports::{
            Arrival,
            fake::{Done, FakePorts},
        },
        rules::Rules,
    },
    *,
};
use crate::{
    access::{Accounts, Anonymous, Passwords, scram::ScramUsers},
    base::{byte_count::ByteCount, time::Moment},
    mqtt::{ProtocolError, Version},
    session::terms::Terms,
};

const ONE: ConnectionId = ConnectionId { slot: 0, generation: 0 };
const METHOD: &str = "SCRAM-SHA-256";
const PASSWORDS: &str = "alice:$7$101$PxkC23maIR3STJZx$\
    WWEGb43HNXbS9iXF693jd7G6h0EPrnoWMNoi/SVtX584YaWxQ8xbiKQiYwnC4bBitImJS1+K6nAlFjiYcDg3DA==";
const SCRAM_USERS: &str = "ada:SCRAM-SHA-256$4096:YSBzYWx0IG9mIGl0cyBvd24=$\
    JO96JgZWPlnt3gA/ua5Xx260Z/GBP1layqcJnM5vX1k=:QnjrS93xZ1ghKtX1MWwLiGAA/DvOqvqxtvYAF6ZPTok=";

fn context(change: impl FnOnce(&mut Policy)) -> Context {
    let mut context = Context::of_shard(1);
    change(&mut Rc::make_mut(&mut context.rules).policy);
    context
}

fn connection(rules: &Rc<Rules>) -> MqttConnection {
    let peer = "127.0.0.1:1".parse().unwrap();
    let (surplus, connections_max) = (false, 10_000);
    let arrival = Arrival { listener: 0, peer, surplus, connections_max, handed_over: false };
    MqttConnection::new(arrival, &Accounts::default(), Moment::default(), Rc::clone(rules))
}

fn kept(user_name: Option<&str>) -> KeptConnect {
    let connect = Connect { user_name, ..Connect::new(Version::V5, "client") };
    KeptConnect::keep(&connect, Terms::plain(Version::V5), &ByteCount::default())
}

fn begin(
    context: &mut Context,
    connection: &mut MqttConnection,
    user_name: Option<&str>,
    credentials: Credentials<'_>,
    ports: &mut FakePorts,
) -> Step {
    let mut authenticator = Authenticator::new(context);
    authenticator.begin((ONE, connection), Box::new(kept(user_name)), credentials, context, ports)
}

#[test]
fn a_client_without_a_name_is_let_in_where_the_policy_says() {
    let mut ports = FakePorts::new(1);
    for (anonymous, is_let_in) in [(Anonymous::Everywhere, true), (Anonymous::Refused, false)] {
        let mut context = context(|policy| policy.anonymous = anonymous);
        let mut connection = connection(&context.rules);
        let password = Credentials::Password(None);
        match begin(&mut context, &mut connection, None, password, &mut ports) {
            Step::LetIn(_, proof) => assert!(is_let_in && proof.user_name.is_none()),
            Step::Refuse(_, reason) => assert!(!is_let_in && reason == Reason::Anonymous),
            other => panic!("{other:?}"),
        }
        assert_eq!(connection.stage(), Stage::Fresh);
    }
}

#[test]
fn a_password_is_checked_before_the_client_is_let_in() {
    let passwords = Arc::new(Passwords::parse(PASSWORDS).unwrap());
    let mut context = context(|policy| policy.passwords = Some(passwords));
    let mut connection = connection(&context.rules);
    let password = Credentials::Password(Some(b"correct-horse"));
    let mut ports = FakePorts::new(1);
    let step = begin(&mut context, &mut connection, Some("alice"), password, &mut ports);
    let Step::Wait(connect, None) = step else { panic!("{step:?}") };
    assert_eq!(connection.stage(), Stage::Waiting);
    let let_in = conclude_check(&mut connection, connect, Verdict::Passed, &mut context);
    let Step::LetIn(connect, proof) = let_in else { panic!("{let_in:?}") };
    assert_eq!(proof.user_name.as_deref(), Some("alice"));
    let wrong = conclude_check(&mut connection, connect, Verdict::Wrong, &mut context);
    let Step::Refuse(connect, Reason::PasswordWrong) = wrong else { panic!("{wrong:?}") };
    let busy = conclude_check(&mut connection, connect, Verdict::Busy, &mut context);
    let Step::Refuse(connect, Reason::PasswordChecksFull) = busy else { panic!("{busy:?}") };
    assert!(matches!(
        conclude_check(&mut connection, connect, Verdict::Gone, &mut context),
        Step::Leave
    ));
}

/// One client waits while the threads have enough to do, and makes room for one of another address.
#[test]
fn checks_wait_for_a_thread_and_those_of_clients_that_have_gone_are_dropped() {
    let passwords = Arc::new(Passwords::parse(PASSWORDS).unwrap());
    let mut context = context(|policy| policy.passwords = Some(passwords));
    Rc::make_mut(&mut context.rules).limits.password_checks_max = 3;
    let mut authenticator = Authenticator::new(&context);
    let mut connections = Connections::new(1);
    let mut ports = FakePorts::new(1);
    let id = |slot| ConnectionId { slot, generation: 0 };
    let password = Credentials::Password(Some(b"correct-horse"));
    let peers = ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"];
    let mut answers = Vec::new();
    for (slot, peer) in (0..).zip(peers) {
        let peer = format!("{peer}:1").parse().unwrap();
        let (surplus, connections_max) = (false, 10_000);
        let arrival = Arrival { listener: 0, peer, surplus, connections_max, handed_over: false };
        let rules = Rc::clone(&context.rules);
        let accounts = &context.settings.accounts;
        let connection = MqttConnection::new(arrival, accounts, context.now, rules);
        connections.insert(id(slot), connection);
        let client = (id(slot), connections.connected_mut(id(slot)));
        let connect = Box::new(kept(Some("alice")));
        answers.push(
            match authenticator.begin(client, connect, password, &mut context, &mut ports) {
                Step::Wait(_, displaced) => displaced.map_or(-1, |id| i64::from(id.slot)),
                Step::Refuse(_, Reason::PasswordChecksFull) => -2,
                other => panic!("{other:?}"),
            },
        );
    }
    assert_eq!(answers, [-1, -1, -1, -2, 2]);
    authenticator.forget_check(id(0), connections.connected(id(0)));
    authenticator.go_on(None, &mut connections, &mut context, &mut ports);
    assert!(ports.done.is_empty());
    (ports.verifies, ports.gone) = (true, Some(id(1)));
    authenticator.go_on(None, &mut connections, &mut context, &mut ports);
    assert_eq!(ports.done, [Done::Verifies(id(4))]);
    assert_eq!((context.counters.checks_run, context.counters.checks_dropped), (1, 1));
}

#[test]
fn an_exchange_goes_on_by_the_method_that_it_began_with() {
    let users = Arc::new(ScramUsers::parse(SCRAM_USERS).unwrap());
    let mut context = context(|policy| policy.scram = Some(users));
    let mut ports = FakePorts::new(1);
    let mut connection = connection(&context.rules);
    let other = Credentials::Method("PLAIN", None);
    let refused = begin(&mut context, &mut connection, None, other, &mut ports);
    assert!(matches!(refused, Step::Refuse(_, Reason::AuthenticationMethodUnknown)));
    let step =
        begin(&mut context, &mut connection, None, Credentials::Method(METHOD, None), &mut ports);
    let Step::Send(asked) = step else { panic!("{step:?}") };
    assert_eq!((asked.packet().method, asked.packet().data), (Some(METHOD), None));
    assert_eq!(asked.reason(), Some(Reason::FirstMessageMissing));
    assert_eq!(connection.stage(), Stage::Authenticating);
    let mut answer = |method, data| {
        let (reason_code, method) = (ReasonCode::ContinueAuthentication, Some(method));
        let properties = ReasonProperties::default();
        let auth = Auth { reason_code, method, data, properties };
        connection.handle_auth(&auth, &context.rules.policy, &mut ports)
    };
    let changed = answer("SCRAM-SHA-512", None);
    assert!(matches!(changed, Err(ProtocolError::AuthenticationMethodChanged)));
    let challenged = answer(METHOD, Some(&b"n,,n=ada,r=nonce"[..]));
    assert!(matches!(challenged, Ok(Step::Send(answer)) if answer.reason().is_none()));
    assert!(matches!(answer(METHOD, Some(b"c=biws,r=wrong,p=wrong")), Ok(Step::Fail)));
    assert!(matches!(answer(METHOD, None), Err(ProtocolError::UnexpectedAuth)));
}
