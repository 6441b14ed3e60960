//! Enhanced authentication and re-authentication by AUTH packets.

use std::{num::NonZeroU32, sync::Arc};

use ringmq::{
    access::{Anonymous, Policy, scram::ScramUsers},
    base::time::Span,
    mqtt::{
        Auth, Connack, Connect, ConnectProperties, Delivery, Packet, QoS, ReasonCode,
        ReasonProperties, Version, frame,
    },
};

use crate::{
    join_as,
    packets::{bytes, connect, disconnect, publish, resume, will},
    scram::{SHA_256, SHA_512, Scram},
    subscriber,
    world::{World, limits},
};

const ADA: Scram<'_> = Scram { method: SHA_256, user: "ada", password: "pencil" };
const BOB: Scram<'_> = Scram { method: SHA_512, user: "bob", password: "stylus" };

/// A broker that lets in who is known, and strangers too where they are let in.
fn world(shards: usize, anonymous: Anonymous) -> World {
    let eve = Scram { user: "eve", password: "chalk", ..ADA };
    let file = [ADA.line(), BOB.line(), eve.line()].concat();
    let users = ScramUsers::parse(&file).expect("a SCRAM file");
    // One Client Identifier is used by several users.
    let (scram, shares_sessions) = (Some(Arc::new(users)), true);
    let policy = Policy { scram, anonymous, shares_sessions, ..Policy::default() };
    World::with(shards, &limits(), &policy)
}

/// Tells a story on one and on two shards, to a client that is at home where it landed and to one
/// that is not.
fn everywhere(tell: impl Fn(&mut World, &str)) {
    for shards in [1, 2] {
        for client_id in ["a", "b", "c"] {
            tell(&mut world(shards, Anonymous::Everywhere), client_id);
        }
    }
}

fn auth(reason_code: ReasonCode, method: &str, data: Option<&str>) -> Vec<u8> {
    let properties = ReasonProperties::default();
    let data = data.map(str::as_bytes);
    let auth = Auth { reason_code, method: Some(method), data, properties };
    bytes(&Packet::Auth(auth), Version::V5)
}

fn go_on(method: &str, data: &str) -> Vec<u8> {
    auth(ReasonCode::ContinueAuthentication, method, Some(data))
}

/// A CONNECT that names a method and has the client's first word.
fn connect_by<'a>(client_id: &'a str, method: &'a str, data: Option<&'a str>) -> Connect<'a> {
    let properties = ConnectProperties {
        authentication_method: Some(method),
        authentication_data: data.map(str::as_bytes),
        ..ConnectProperties::default()
    };
    Connect { properties, ..connect(Version::V5, client_id) }
}

fn send_connect(world: &mut World, connect: &Connect<'_>) -> usize {
    let client = world.open(Version::V5);
    world.send(client, &bytes(&Packet::Connect(*connect), Version::V5));
    client
}

/// The one packet that has come: its Reason Code, its method and its data.
fn heard(world: &mut World, client: usize) -> (ReasonCode, String, Option<String>) {
    let bytes = world.received_bytes(client);
    let frame = frame::split(&bytes, 1 << 20).expect("a packet").expect("a whole packet");
    assert_eq!(frame.len, bytes.len(), "one packet");
    let (reason_code, method, data) = match Packet::decode(frame, Version::V5) {
        Ok(Packet::Auth(auth)) => (auth.reason_code, auth.method, auth.data),
        Ok(Packet::Connack(Connack { reason_code, properties, .. })) => {
            (reason_code, properties.authentication_method, properties.authentication_data)
        }
        other => unreachable!("{other:?}"),
    };
    let data = data.map(|data| String::from_utf8(data.to_vec()).expect("text"));
    (reason_code, method.unwrap_or_default().to_owned(), data)
}

/// The challenge that has come.
fn challenge(world: &mut World, client: usize, method: &str) -> String {
    let (reason_code, heard_method, data) = heard(world, client);
    assert_eq!(reason_code, ReasonCode::ContinueAuthentication);
    assert_eq!(heard_method, method);
    data.expect("a challenge")
}

/// A client that has been challenged, and the challenge.
fn challenged(world: &mut World, client_id: &str, scram: &Scram<'_>) -> (usize, String) {
    let first = scram.client_first();
    let client = send_connect(world, &connect_by(client_id, scram.method, Some(&first)));
    let server_first = challenge(world, client, scram.method);
    (client, server_first)
}

/// A client that has been let in by its proof.
fn authenticated(world: &mut World, client_id: &str, scram: &Scram<'_>) -> usize {
    let (client, server_first) = challenged(world, client_id, scram);
    let finish = scram.finish(&server_first);
    world.send(client, &go_on(scram.method, &finish.client_final));
    let expected = (ReasonCode::Success, scram.method.to_owned(), Some(finish.server_final));
    assert_eq!(heard(world, client), expected);
    client
}

/// [MQTT-4.12.0-2] [MQTT-4.12.0-5]
#[test]
fn who_proves_to_know_the_password_is_let_in() {
    everywhere(|world, client_id| {
        for scram in [ADA, BOB] {
            let client = authenticated(world, client_id, &scram);
            world.send(client, &bytes(&Packet::Pingreq, Version::V5));
            assert_eq!(world.received(client), ["PINGRESP"]);
        }
        assert_eq!(world.counters().clients_connected, 1);
    });
}

#[test]
fn what_connect_asked_for_holds_after_the_exchange() {
    everywhere(|world, client_id| {
        let observer = subscriber(world, Version::V5, "observer", "#", QoS::AtMostOnce);
        join_as(world, Version::V5, client_id);
        let first = ADA.client_first();
        let asked = Connect {
            clean_start: false,
            keep_alive: 10,
            will: Some(will("gone", b"bye")),
            user_name: Some("ada"),
            ..connect_by(client_id, SHA_256, Some(&first))
        };
        let client = send_connect(world, &asked);
        let server_first = challenge(world, client, SHA_256);
        world.send(client, &go_on(SHA_256, &ADA.finish(&server_first).client_final));
        assert_eq!(world.received(client), ["CONNACK Success"]);
        world.pass(Span::from_secs(16));
        assert_eq!(world.received(client), ["DISCONNECT KeepAliveTimeout"]);
        assert_eq!(world.received(observer), ["PUBLISH gone 'bye'"]);
    });
}

#[test]
fn a_session_is_resumed_by_a_proof_and_not_before_it() {
    everywhere(|world, client_id| {
        let first = ADA.client_first();
        let properties = ConnectProperties {
            session_expiry_interval: Some(u32::MAX),
            ..connect_by(client_id, SHA_256, Some(&first)).properties
        };
        let earlier = Connect { properties, ..resume(Version::V5, client_id) };
        let mut clients = Vec::new();
        for expected in ["CONNACK Success", "CONNACK Success session present"] {
            let client = send_connect(world, &earlier);
            let server_first = challenge(world, client, SHA_256);
            assert!(clients.iter().all(|&client| !world.is_closed(client)));
            world.send(client, &go_on(SHA_256, &ADA.finish(&server_first).client_final));
            assert_eq!(world.received(client), [expected]);
            clients.push(client);
        }
        assert!(world.is_closed(clients[0]));
        assert_eq!(world.received(clients[0]), ["DISCONNECT SessionTakenOver"]);
    });
}

#[test]
fn a_client_without_a_first_word_is_asked_for_it() {
    everywhere(|world, client_id| {
        let client = send_connect(world, &connect_by(client_id, SHA_512, None));
        let asked = (ReasonCode::ContinueAuthentication, SHA_512.to_owned(), None);
        assert_eq!(heard(world, client), asked);
        world.send(client, &go_on(SHA_512, &BOB.client_first()));
        let server_first = challenge(world, client, SHA_512);
        world.send(client, &go_on(SHA_512, &BOB.finish(&server_first).client_final));
        assert_eq!(world.received(client), ["CONNACK Success"]);
    });
}

/// [MQTT-4.12.0-1]
#[test]
fn a_method_that_nobody_can_use_is_refused_by_its_name() {
    everywhere(|world, client_id| {
        for method in ["SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "scram-sha-256", "PLAIN", ""] {
            let client = send_connect(world, &connect_by(client_id, method, Some("n,,n=a,r=b")));
            assert_eq!(world.received(client), ["CONNACK BadAuthenticationMethod"], "{method}");
            assert!(world.is_closed(client));
        }
        assert_eq!(world.counters().refused_authentication, 5);
    });
    let mut without_users = World::new(1);
    let client = send_connect(&mut without_users, &connect_by("a", SHA_256, None));
    assert_eq!(without_users.received(client), ["CONNACK BadAuthenticationMethod"]);
}

/// [MQTT-4.12.0-4]
#[test]
fn a_wrong_password_and_an_unknown_user_look_the_same() {
    everywhere(|world, client_id| {
        for wrong in [
            Scram { password: "pencils", ..ADA },
            Scram { user: "adb", ..ADA },
            // A user of the other method is nobody here.
            Scram { user: "bob", ..ADA },
        ] {
            let (client, server_first) = challenged(world, client_id, &wrong);
            assert!(server_first.ends_with(",i=4096"), "{server_first}");
            world.send(client, &go_on(SHA_256, &wrong.finish(&server_first).client_final));
            assert_eq!(world.received(client), ["CONNACK NotAuthorized"], "{wrong:?}");
            assert!(world.is_closed(client));
        }
        assert_eq!(world.counters().refused_authentication, 3);
        assert_eq!(world.counters().clients_connected, 0);
    });
}

#[test]
fn what_is_no_scram_message_is_refused() {
    everywhere(|world, client_id| {
        let client = send_connect(world, &connect_by(client_id, SHA_256, Some("n,,n=ada")));
        assert_eq!(world.received(client), ["CONNACK NotAuthorized"]);
        assert!(world.is_closed(client));
        let (client, _) = challenged(world, client_id, &ADA);
        world.send(client, &auth(ReasonCode::ContinueAuthentication, SHA_256, None));
        assert_eq!(world.received(client), ["CONNACK NotAuthorized"]);
        assert!(world.is_closed(client));
    });
}

#[test]
fn a_proof_of_one_exchange_is_worth_nothing_in_another() {
    everywhere(|world, client_id| {
        let (first, server_first) = challenged(world, client_id, &ADA);
        let (second, another) = challenged(world, client_id, &ADA);
        assert_ne!(server_first, another);
        let stolen = ADA.finish(&server_first).client_final;
        world.send(second, &go_on(SHA_256, &stolen));
        assert_eq!(world.received(second), ["CONNACK NotAuthorized"]);
        world.send(first, &go_on(SHA_256, &stolen));
        assert_eq!(world.received(first), ["CONNACK Success"]);
    });
}

#[test]
fn a_user_name_beside_the_proof_has_to_be_the_same() {
    everywhere(|world, client_id| {
        let first = ADA.client_first();
        let asked = connect_by(client_id, SHA_256, Some(&first));
        let client = send_connect(world, &Connect { user_name: Some("bob"), ..asked });
        let server_first = challenge(world, client, SHA_256);
        world.send(client, &go_on(SHA_256, &ADA.finish(&server_first).client_final));
        assert_eq!(world.received(client), ["CONNACK NotAuthorized"]);
        assert!(world.is_closed(client));
    });
}

/// [MQTT-3.1.2-30] [MQTT-3.1.4-6] [MQTT-4.12.0-3] [MQTT-3.15.1-1] [MQTT-3.15.2-1]
#[test]
fn only_the_next_auth_or_a_disconnect_may_follow_a_challenge() {
    everywhere(|world, client_id| {
        let first = ADA.client_first();
        let message = publish("t", Delivery::AtMostOnce, "early");
        let mut flags = go_on(SHA_256, "x");
        flags[0] |= 1;
        let cases: [(Vec<u8>, &str); 10] = [
            (bytes(&Packet::Publish(message), Version::V5), "ProtocolError"),
            (bytes(&Packet::Pingreq, Version::V5), "ProtocolError"),
            (
                bytes(&Packet::Connect(connect(Version::V5, client_id)), Version::V5),
                "ProtocolError",
            ),
            (auth(ReasonCode::ReAuthenticate, SHA_256, Some(&first)), "ProtocolError"),
            (auth(ReasonCode::Success, SHA_256, Some(&first)), "ProtocolError"),
            (b"\xf0\x00".to_vec(), "ProtocolError"),
            (b"\xf0\x02\x18\x00".to_vec(), "ProtocolError"),
            (go_on(SHA_512, &first), "BadAuthenticationMethod"),
            (flags, "MalformedPacket"),
            (b"\xf0\xff\xff\xff\x7f".to_vec(), "PacketTooLarge"),
        ];
        for (packet, reason) in cases {
            let (client, _) = challenged(world, client_id, &ADA);
            world.send(client, &packet);
            assert_eq!(world.received(client), [format!("CONNACK {reason}")], "{packet:x?}");
            assert!(world.is_closed(client));
        }
        let (client, _) = challenged(world, client_id, &ADA);
        world.send(client, &disconnect(Version::V5));
        assert_eq!(world.received(client), [""; 0]);
        assert!(world.is_closed(client));
        assert_eq!(world.counters().clients_total, 0);
    });
}

/// [MQTT-4.12.0-6] [MQTT-4.12.0-7]
#[test]
fn auth_is_for_those_who_began_with_it() {
    everywhere(|world, client_id| {
        let early = world.open(Version::V5);
        world.send(early, &go_on(SHA_256, &ADA.client_first()));
        assert_eq!(world.received(early), [""; 0]);
        assert!(world.is_closed(early));

        let plain = send_connect(world, &connect(Version::V5, client_id));
        assert_eq!(heard(world, plain), (ReasonCode::Success, String::new(), None));
        world.send(plain, &auth(ReasonCode::ReAuthenticate, SHA_256, Some("n,,n=ada,r=x")));
        assert_eq!(world.received(plain), ["DISCONNECT ProtocolError"]);
        assert!(world.is_closed(plain));

        let old = join_as(world, Version::V311, client_id);
        world.send(old, &go_on(SHA_256, &ADA.client_first()));
        assert!(world.is_closed(old));
    });
}

#[test]
fn a_broker_that_knows_its_users_asks_everyone_for_a_proof() {
    for shards in [1, 2] {
        let mut world = world(shards, Anonymous::Refused);
        for user_name in [None, Some("ada")] {
            let stranger = Connect { user_name, ..connect(Version::V5, "c") };
            let stranger = send_connect(&mut world, &stranger);
            assert_eq!(world.received(stranger), ["CONNACK NotAuthorized"]);
        }
        authenticated(&mut world, "c", &ADA);
    }
}

#[test]
fn the_whole_exchange_has_the_time_of_one_connect() {
    everywhere(|world, client_id| {
        let client = send_connect(world, &connect_by(client_id, SHA_256, None));
        world.pass(Span::from_secs(6));
        world.send(client, &go_on(SHA_256, &ADA.client_first()));
        world.pass(Span::from_secs(3));
        assert!(!world.is_closed(client));
        world.pass(Span::from_secs(2));
        assert!(world.is_closed(client));
        assert_eq!(world.counters().ended_connect_timeout, 1);
    });
}

#[test]
fn who_goes_away_during_the_exchange_leaves_nothing_behind() {
    everywhere(|world, client_id| {
        let (broken, _) = challenged(world, client_id, &ADA);
        world.break_off(broken);
        let (finished, _) = challenged(world, client_id, &ADA);
        world.finish(finished);
        assert!(world.is_closed(finished));
        let (waiting, _) = challenged(world, client_id, &ADA);
        world.stop();
        assert!(world.is_closed(waiting));
        assert_eq!((world.counters().connections, world.counters().clients_total), (0, 0));
    });
}

/// [MQTT-3.1.2-24]
#[test]
fn a_client_that_takes_no_challenge_is_told_so() {
    everywhere(|world, client_id| {
        let first = ADA.client_first();
        let asked = connect_by(client_id, SHA_256, Some(&first));
        let maximum_packet_size = NonZeroU32::new(40);
        let properties = ConnectProperties { maximum_packet_size, ..asked.properties };
        let client = send_connect(world, &Connect { properties, ..asked });
        assert_eq!(world.received(client), ["CONNACK PacketTooLarge"]);
        assert!(world.is_closed(client));
    });
}

#[test]
fn connects_that_wait_are_kept_within_a_limit() {
    let mut world = world(1, Anonymous::Everywhere);
    let payload = vec![b'x'; 65_535];
    let waiting = |world: &mut World| {
        let asked = connect_by("c", SHA_256, None);
        send_connect(world, &Connect { will: Some(will("t", &payload)), ..asked })
    };
    let clients: Vec<usize> = (0..1100).map(|_| waiting(&mut world)).collect();
    let last = world.received(*clients.last().unwrap());
    assert_eq!(last, ["CONNACK ServerBusy"]);
    assert!(!world.is_closed(clients[0]) && !world.is_closed(clients[400]));

    world.pass(Span::from_secs(11));
    assert!(world.is_closed(clients[0]));
    let client = waiting(&mut world);
    assert_eq!(world.received(client), [format!("AUTH ContinueAuthentication {SHA_256}")]);
}

fn begin_again(world: &mut World, client: usize, scram: &Scram<'_>) {
    let first = scram.client_first();
    world.send(client, &auth(ReasonCode::ReAuthenticate, scram.method, Some(&first)));
}

#[test]
fn a_client_proves_itself_again_while_everything_goes_on() {
    everywhere(|world, client_id| {
        let client = authenticated(world, client_id, &BOB);
        for _ in 0..2 {
            begin_again(world, client, &BOB);
            let server_first = challenge(world, client, SHA_512);
            world.send(client, &bytes(&Packet::Pingreq, Version::V5));
            assert_eq!(world.received(client), ["PINGRESP"]);
            let finish = BOB.finish(&server_first);
            world.send(client, &go_on(SHA_512, &finish.client_final));
            let done = (ReasonCode::Success, SHA_512.to_owned(), Some(finish.server_final));
            assert_eq!(heard(world, client), done);
        }
        assert!(!world.is_closed(client));
    });
}

/// [MQTT-4.12.1-2]
#[test]
fn a_client_that_fails_to_prove_itself_again_is_disconnected() {
    everywhere(|world, client_id| {
        let wrong_password = Scram { password: "chalk", ..ADA };
        // A user who is known, but is not the one who was let in.
        let other_user = Scram { user: "eve", password: "chalk", ..ADA };
        for scram in [wrong_password, other_user] {
            let client = authenticated(world, client_id, &ADA);
            begin_again(world, client, &scram);
            let server_first = challenge(world, client, SHA_256);
            world.send(client, &go_on(SHA_256, &scram.finish(&server_first).client_final));
            assert_eq!(world.received(client), ["DISCONNECT NotAuthorized"]);
            assert!(world.is_closed(client));
        }
        assert_eq!(world.counters().refused_authentication, 2);
    });
}

/// [MQTT-4.12.1-1]
#[test]
fn a_client_proves_itself_again_by_the_same_method_and_in_order() {
    everywhere(|world, client_id| {
        let first = ADA.client_first();
        for (packet, reason) in [
            (auth(ReasonCode::ReAuthenticate, SHA_512, Some(&first)), "BadAuthenticationMethod"),
            (auth(ReasonCode::ReAuthenticate, "PLAIN", Some(&first)), "BadAuthenticationMethod"),
            (go_on(SHA_256, &first), "ProtocolError"),
            (auth(ReasonCode::Success, SHA_256, None), "ProtocolError"),
            (b"\xf0\x00".to_vec(), "ProtocolError"),
        ] {
            let client = authenticated(world, client_id, &ADA);
            world.send(client, &packet);
            assert_eq!(world.received(client), [format!("DISCONNECT {reason}")], "{packet:x?}");
            assert!(world.is_closed(client));
        }
        let client = authenticated(world, client_id, &ADA);
        begin_again(world, client, &ADA);
        challenge(world, client, SHA_256);
        begin_again(world, client, &ADA);
        assert_eq!(world.received(client), ["DISCONNECT ProtocolError"]);
    });
}
