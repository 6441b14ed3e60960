//! Exchanges from the first message to the last, and files.

use super::{verifier::ITERATIONS_MIN, *};

/// The example of RFC 7677, section 3.
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
    s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

/// The user of the example, whose password is `pencil`.
fn line_of_the_example() -> String {
    let salt = Base64::decode_vec("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    format!("user:{}", Verifier::derive(Mechanism::Sha256, b"pencil", &salt, 4096))
}

fn users(file: &str) -> Arc<ScramUsers> {
    Arc::new(ScramUsers::parse(file).unwrap())
}

/// An exchange in which the server says the nonce of the example.
fn begun() -> Exchange {
    Exchange(State::Begun {
        users: users(&line_of_the_example()),
        mechanism: Mechanism::Sha256,
        server_nonce: SERVER_NONCE.into(),
    })
}

fn challenged(client_first: &str) -> (Exchange, String) {
    match begun().step(client_first.as_bytes()) {
        Ok(Outcome::Challenged { exchange, data }) => (exchange, String::from_utf8(data).unwrap()),
        other => panic!("{client_first}: {other:?}"),
    }
}

#[test]
fn the_example_of_rfc_7677_holds() {
    let (exchange, server_first) = challenged(CLIENT_FIRST);
    assert_eq!(server_first, SERVER_FIRST);
    match exchange.step(CLIENT_FINAL.as_bytes()) {
        Ok(Outcome::Proven { user_name, data }) => {
            assert_eq!((user_name.as_str(), data.as_slice()), ("user", SERVER_FINAL.as_bytes()));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn whatever_differs_from_the_proof_is_refused() {
    let proof = CLIENT_FINAL.split_once(",p=").unwrap().1;
    for (client_final, what) in [
        (CLIENT_FINAL.replace("p=dHz", "p=eHz"), "the proof"),
        (CLIENT_FINAL.replace("dVQ=", ""), "its length"),
        (CLIENT_FINAL.replace(proof, ""), "no proof"),
        (CLIENT_FINAL.replace("biws", "eSws"), "the GS2 header"),
        (CLIENT_FINAL.replace("r=rO", "r=rQ"), "the client's nonce"),
        (CLIENT_FINAL.replace("k0,", "k1,"), "the server's nonce"),
        (CLIENT_FINAL.replace(",p=", ",x=1,p="), "what is signed"),
        (CLIENT_FIRST.to_owned(), "the first message again"),
    ] {
        let outcome = challenged(CLIENT_FIRST).0.step(client_final.as_bytes());
        assert_eq!(outcome.err(), Some(Refused), "{what}");
    }
    let other_header = challenged(&CLIENT_FIRST.replace("n,,", "y,,")).0;
    assert_eq!(other_header.step(CLIENT_FINAL.as_bytes()).err(), Some(Refused));
}

#[test]
fn what_is_no_message_is_refused() {
    let too_long = format!("{CLIENT_FIRST}{}", "x".repeat(MESSAGE_BYTES_MAX));
    for first in [&b""[..], b"\xff\xfe", CLIENT_FINAL.as_bytes(), too_long.as_bytes()] {
        assert_eq!(begun().step(first).err(), Some(Refused));
    }
}

/// A made-up stored key consists of zeros: even who knows that has no proof.
#[test]
fn an_unknown_user_is_challenged_like_a_known_one_and_always_refused() {
    let (_, once) = challenged("n,,n=nobody,r=abc");
    let (exchange, again) = challenged("n,,n=nobody,r=abc");
    assert_eq!(once, again);
    let salt = |text: &str| text.split(",s=").nth(1).unwrap().to_owned();
    assert_ne!(salt(&once), salt(SERVER_FIRST));
    assert_ne!(salt(&once), salt(&challenged("n,,n=nobody2,r=abc").1));
    assert_eq!(once.len(), challenged("n,,n=user,r=abc").1.len());

    let nonce = format!("abc{SERVER_NONCE}");
    let without_proof = format!("c=biws,r={nonce}");
    let auth_message = format!("n=nobody,r=abc,{again},{without_proof}");
    let proof = Mechanism::Sha256.hmac(&[0; 32], &[auth_message.as_bytes()]);
    let proof = Base64::encode_string(&proof);
    let outcome = exchange.step(format!("{without_proof},p={proof}").as_bytes());
    assert_eq!(outcome.err(), Some(Refused));
}

#[test]
fn a_file_that_has_changed_tells_unknown_users_the_same() {
    let mock = |users: &ScramUsers| users.find(Mechanism::Sha256, "nobody").0.salt;
    let (before, line) = (users(&line_of_the_example()), line_of_the_example());
    let changed =
        || ScramUsers::parse(&format!("{line}\n{}", line.replace("user:", "another:"))).unwrap();
    assert_ne!(mock(&changed()), mock(&before));
    assert_eq!(mock(&changed().after(Some(&before))), mock(&before));
}

#[test]
fn a_mechanism_without_users_is_not_offered() {
    let users = users(&line_of_the_example());
    assert!(Exchange::begin(&users, Mechanism::Sha256, [0; 16]).is_some());
    assert!(Exchange::begin(&users, Mechanism::Sha512, [0; 16]).is_none());
}

#[test]
fn the_servers_nonce_has_all_of_the_secret() {
    let users = users(&line_of_the_example());
    let mut secrets = vec![[0; 16]; 129];
    for bit in 0..128 {
        secrets[bit + 1][bit / 8] = 1 << (bit % 8);
    }
    let nonce = |secret: &Secret| match Exchange::begin(&users, Mechanism::Sha256, *secret) {
        Some(Exchange(State::Begun { server_nonce, .. })) => server_nonce,
        other => panic!("{other:?}"),
    };
    let mut nonces: Vec<String> = secrets.iter().map(nonce).collect();
    assert!(nonces.iter().all(|nonce| nonce.len() == 22 && !nonce.contains(['=', ','])));
    nonces.sort_unstable();
    nonces.dedup();
    assert_eq!(nonces.len(), secrets.len());
}

#[test]
fn a_verifier_is_read_as_it_was_written() {
    for mechanism in Mechanism::ALL {
        let verifier = Verifier::derive(mechanism, b"secret", b"salt", ITERATIONS_MIN);
        assert_eq!(Verifier::parse(&verifier.to_string()), Ok(verifier));
    }
}

#[test]
fn a_malformed_line_is_named_and_nothing_is_loaded() {
    let user = line_of_the_example();
    let file = format!("# The users of the test.\n\n{user}\n");
    let other = user.replace("user:", "other:");
    let key = other.rsplit_once(':').unwrap().1;
    for (line, expected) in [
        ("other".to_owned(), ScramProblem::NoSeparator),
        (user.replace("user:", ":"), ScramProblem::EmptyName),
        (user.clone(), ScramProblem::DuplicateUser(3)),
        ("other:password".to_owned(), ScramProblem::UnknownMechanism),
        (other.replace("256$", "1$"), ScramProblem::UnknownMechanism),
        (other.replace("4096:", ":"), ScramProblem::Iterations),
        (other.replace("4096:", "4095:"), ScramProblem::Iterations),
        (other.replace("4096:", "+4096:"), ScramProblem::Iterations),
        (other.replace("4096:", "1000001:"), ScramProblem::Iterations),
        (other.replace("W22", "~22"), ScramProblem::Salt),
        (other.replace("W22ZaJ0SNY7soEsUEjb6gQ==", ""), ScramProblem::Salt),
        (other.replace("256$", "512$"), ScramProblem::StoredKey),
        (other.replace(&format!(":{key}"), ""), ScramProblem::StoredKey),
        (other.replace(key, ""), ScramProblem::ServerKey),
        (format!("{other}:"), ScramProblem::ServerKey),
    ] {
        match ScramUsers::parse(&format!("{file}{line}\n")) {
            Err(ScramFileError::Malformed { line: 4, problem }) => {
                assert_eq!(problem, expected, "{line}");
            }
            other => panic!("{line}: {other:?}"),
        }
    }
    let both = Verifier::derive(Mechanism::Sha512, b"pencil", b"salt", ITERATIONS_MIN);
    let both = users(&format!("{file}user:{both}\r\n"));
    assert!(Mechanism::ALL.into_iter().all(|mechanism| both.offer(mechanism)));
}

#[test]
fn a_file_that_is_not_there_is_unreadable() {
    let path = std::path::Path::new("/proc/self/there/is/no/such/file");
    assert!(matches!(ScramUsers::read(path), Err(ScramFileError::Unreadable(_))));
}
