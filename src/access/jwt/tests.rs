//! Tokens that are taken, and all that is wrong with others.

use super::*;
use crate::{access::acl::Ways, topic::TopicName};

#[path = "../../../tests/support/jwt.rs"]
mod support;

use self::support::{SECRET, signed, token};

/// In the year 2033.
const NOW: u64 = 2_000_000_000;

fn seconds(seconds: u64) -> WallTime {
    WallTime::from_nanos(seconds * 1_000_000_000)
}

fn tokens(rules: TokenRules) -> Tokens {
    Tokens::with_key(rules, SECRET.as_bytes()).unwrap()
}

fn verify(tokens: &Tokens, token: &str) -> Result<Bearer, TokenFault> {
    tokens.verify(token.as_bytes(), None, seconds(NOW))
}

/// The claims of `ada` with these more.
fn of_ada(more: &str) -> String {
    token(&format!(r#"{{"sub":"ada","exp":{}{more}}}"#, NOW + 60))
}

fn public_key(name: &str) -> Vec<u8> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read(root.join("tests/jwt").join(name)).unwrap()
}

/// Lines of a key, an algorithm and a token for `ada`.
const SIGNED: &str = include_str!("../../../tests/jwt/tokens.txt");

fn signed_tokens() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    SIGNED.lines().map(|line| {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap();
        (word(), word(), word())
    })
}

#[test]
fn each_algorithm_is_verified_with_a_key_of_its_kind_and_no_other() {
    let names = ["rsa.pem", "p256.pem", "p384.pem", "ed25519.pem"];
    for (of, algorithm, token) in signed_tokens() {
        for name in names {
            let tokens = Tokens::with_key(TokenRules::default(), &public_key(name)).unwrap();
            let verified = verify(&tokens, token).map(|bearer| bearer.user_name);
            let fits = name.strip_suffix(".pem") == Some(of);
            let expected = if fits { Ok("ada".into()) } else { Err(TokenFault::Algorithm) };
            assert_eq!(verified, expected, "{algorithm} {name}");
        }
        // One letter in the middle of the signature.
        let (message, signature) = token.rsplit_once('.').unwrap();
        let changed = if signature.as_bytes()[40] == b'A' { 'B' } else { 'A' };
        let forged = format!("{message}.{}{changed}{}", &signature[..40], &signature[41..]);
        let tokens =
            Tokens::with_key(TokenRules::default(), &public_key(&format!("{of}.pem"))).unwrap();
        assert_eq!(verify(&tokens, &forged), Err(TokenFault::Signature), "{algorithm}");
    }
    for algorithm in ["HS256", "HS384", "HS512"] {
        let header = jsonwebtoken::Header::new(algorithm.parse().unwrap());
        let claims = serde_json::json!({"sub": "ada", "exp": NOW + 1});
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes()).unwrap();
        let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
        assert_eq!(&*verify(&tokens(TokenRules::default()), &token).unwrap().user_name, "ada");
    }
}

#[test]
fn a_forged_token_of_a_key_in_a_file_is_one_while_no_keys_have_been_fetched() {
    let address = KeyAddress { url: String::new(), interval: Span::ZERO, authorities: Vec::new() };
    let fetched = Arc::new(FetchedKeys::new(address, || {}));
    let tokens = tokens(TokenRules::default()).with_fetched(Some(fetched));
    let claims = format!(r#"{{"sub":"ada","exp":{}}}"#, NOW + 60);
    let forged = signed(r#"{"alg":"HS256"}"#, &claims, "another secret, as long as the right one");
    assert_eq!(verify(&tokens, &forged), Err(TokenFault::Signature));
    let (_, _, of_others) = signed_tokens().next().unwrap();
    assert_eq!(verify(&tokens, of_others), Err(TokenFault::KeysMissing));
}

#[test]
fn a_public_key_is_no_secret() {
    for name in ["rsa.pem", "p256.pem", "ed25519.pem"] {
        let pem = String::from_utf8(public_key(name)).unwrap();
        let tokens = Tokens::with_key(TokenRules::default(), pem.as_bytes()).unwrap();
        let claims = format!(r#"{{"sub":"ada","exp":{}}}"#, NOW + 60);
        for secret in [pem.as_str(), pem.trim()] {
            let forged = signed(r#"{"alg":"HS256"}"#, &claims, secret);
            assert_eq!(verify(&tokens, &forged), Err(TokenFault::Algorithm), "{name}");
        }
        // Nor without the lines of PEM, nor as DER.
        let bare: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = base64ct::Base64::decode_vec(&bare).unwrap();
        for content in [bare.as_bytes(), &der] {
            let refused = Tokens::with_key(TokenRules::default(), content);
            assert!(matches!(refused, Err(KeyFault::NoPem)), "{name}");
        }
    }
}

#[test]
fn what_is_wrong_with_a_token_is_told() {
    let good = of_ada("");
    let with_header = |header: &str| signed(header, r#"{"sub":"ada","exp":4000000000}"#, SECRET);
    let [unsigned, none] = [r#"{"alg":"none"}"#, r#"{"alg":"nOnE","typ":"JWT"}"#].map(with_header);
    let unsigned = format!("{}.", unsigned.rsplit_once('.').unwrap().0);
    let deep = format!("{}{}", r#"{"alg":"HS256","x":"#, "[".repeat(5_000));
    for (token, expected) in [
        ("", TokenFault::Malformed),
        ("eyJ", TokenFault::Malformed),
        ("..", TokenFault::Malformed),
        ("a.b.c.d", TokenFault::Malformed),
        ("\u{e4}.b.c", TokenFault::Malformed),
        (&"eyJhbGciOiJIUzI1NiJ9.".repeat(3), TokenFault::Malformed),
        (&unsigned, TokenFault::Algorithm),
        (&none, TokenFault::Algorithm),
        (&with_header(r#"{"alg":"ES512"}"#), TokenFault::Algorithm),
        (&with_header(r#"{"alg":"RS256"}"#), TokenFault::Algorithm),
        (&with_header(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#), TokenFault::Algorithm),
        (&with_header(r#"{"alg":"HS512"}"#), TokenFault::Signature),
        (&with_header(r#"{"typ":"JWT"}"#), TokenFault::Malformed),
        (&with_header(r#"{"alg":"HS256","kid":7}"#), TokenFault::Malformed),
        (&with_header("[]"), TokenFault::Malformed),
        (&with_header(&deep), TokenFault::Malformed),
        (&signed(r#"{"alg":"HS256"}"#, "{}", &SECRET.replace('a', "b")), TokenFault::Signature),
        (&good[..good.len() - 1], TokenFault::Signature),
        (&format!("{good}="), TokenFault::Signature),
        (&token("[]"), TokenFault::Malformed),
        (&token("{"), TokenFault::Malformed),
        (&token(r#"{"sub":"ada","exp":"soon"}"#), TokenFault::Malformed),
        (&token(r#"{"sub":"ada","exp":2000000000}"#), TokenFault::Expired),
        (&token(r#"{"sub":"ada","exp":1}"#), TokenFault::Expired),
        (&token(r#"{"sub":"ada","exp":-1e300}"#), TokenFault::Expired),
        (&token(r#"{"sub":"ada"}"#), TokenFault::Endless),
        (&token(r#"{"exp":4000000000}"#), TokenFault::Nameless),
        (&token(r#"{"exp":4000000000,"sub":7}"#), TokenFault::Nameless),
        (&token(r#"{"exp":4000000000,"sub":""}"#), TokenFault::Nameless),
        (&token(r#"{"exp":4000000000,"sub":"a\u0000"}"#), TokenFault::Nameless),
        (&of_ada(r#","nbf":2000000001"#), TokenFault::TooEarly),
        (&of_ada(r#","acl":"all""#), TokenFault::Rights),
        (&of_ada(&format!(r#","x":"{}""#, "x".repeat(TOKEN_BYTES_MAX))), TokenFault::TooLong),
    ] {
        assert_eq!(verify(&tokens(TokenRules::default()), token), Err(expected), "{token:.200}");
    }
    assert_eq!(&*verify(&tokens(TokenRules::default()), &good).unwrap().user_name, "ada");
    assert_eq!(
        &*verify(&tokens(TokenRules::default()), &with_header(r#"{"alg":"HS256"}"#))
            .unwrap()
            .user_name,
        "ada"
    );
}

#[test]
fn issuer_and_audience_are_those_that_were_asked_for() {
    let asks = |issuer: Option<&str>, audience: Option<&str>| {
        let [issuer, audience] = [issuer, audience].map(|it| it.map(str::to_owned));
        tokens(TokenRules { issuer, audience, ..TokenRules::default() })
    };
    let issuer = asks(Some("idp"), None);
    assert!(verify(&issuer, &of_ada(r#","iss":"idp""#)).is_ok());
    for claim in [r#","iss":"other""#, r#","iss":["idp"]"#, ""] {
        assert_eq!(verify(&issuer, &of_ada(claim)), Err(TokenFault::Issuer));
    }
    let audience = asks(None, Some("mqtt"));
    for claim in [r#","aud":"mqtt""#, r#","aud":["web","mqtt"]"#] {
        assert!(verify(&audience, &of_ada(claim)).is_ok());
    }
    for claim in [r#","aud":"web""#, r#","aud":[]"#, r#","aud":{"mqtt":1}"#, ""] {
        assert_eq!(verify(&audience, &of_ada(claim)), Err(TokenFault::Audience));
    }
}

#[test]
fn clocks_may_differ_by_the_leeway() {
    let lenient = tokens(TokenRules { leeway: Span::from_secs(5), ..TokenRules::default() });
    let expiring = token(r#"{"sub":"ada","exp":1999999996,"nbf":2000000005}"#);
    let grant = verify(&lenient, &expiring).unwrap().grant.unwrap();
    assert_eq!(grant.ends_at, Some(seconds(NOW + 1)));
    assert!(!grant.has_ended(seconds(NOW)) && grant.has_ended(seconds(NOW + 1)));
    let expired = token(r#"{"sub":"ada","exp":1999999995}"#);
    assert_eq!(verify(&lenient, &expired), Err(TokenFault::Expired));
    let early = token(r#"{"sub":"ada","exp":4000000000,"nbf":2000000006}"#);
    assert_eq!(verify(&lenient, &early), Err(TokenFault::TooEarly));
    let fractions = token(r#"{"sub":"ada","exp":2000000000.5,"nbf":1e9}"#);
    let grant = verify(&tokens(TokenRules::default()), &fractions).unwrap().grant.unwrap();
    assert_eq!(grant.ends_at, Some(WallTime::from_nanos(2_000_000_000_500_000_000)));
    assert!(verify(&lenient, &token(r#"{"sub":"ada","exp":1e300}"#)).is_ok());
    assert!(verify(&lenient, &token(r#"{"sub":"ada","exp":18446744073709551615}"#)).is_ok());
}

#[test]
fn a_client_calls_itself_as_its_token_does_or_not_at_all() {
    let tokens =
        Arc::new(tokens(TokenRules { user_claim: "name".to_owned(), ..TokenRules::default() }));
    let token = token(r#"{"sub":"ada","name":"bob","exp":4000000000}"#);
    let check =
        |token: &str, name| Tokens::verification(&tokens, token.as_bytes(), name, seconds(NOW))();
    for name in [None, Some(""), Some("bob")] {
        let Finding::Bearer(bearer) = check(&token, name) else { panic!("{name:?}") };
        assert_eq!(&*bearer.user_name, "bob");
    }
    assert_eq!(check(&token, Some("ada")), Finding::BadToken(TokenFault::OfAnother));
    let long = "x".repeat(TOKEN_BYTES_MAX + 1);
    assert_eq!(check(&long, None), Finding::BadToken(TokenFault::TooLong));
}

#[test]
fn a_token_without_expiry_is_taken_if_that_is_allowed() {
    let endless = token(r#"{"sub":"ada"}"#);
    let lenient = tokens(TokenRules { requires_expiry: false, ..TokenRules::default() });
    assert_eq!(verify(&lenient, &endless).unwrap().grant, None);
    let lasting = tokens(TokenRules { ends_connections: false, ..TokenRules::default() });
    assert_eq!(verify(&lasting, &of_ada("")).unwrap().grant, None);
    let grant = verify(&lasting, &of_ada(r#","acl":{"pub":["a"]}"#)).unwrap().grant.unwrap();
    assert!(grant.outlasts_rights() && grant.rules.is_some());
}

#[test]
fn keys_of_a_set_are_chosen_by_their_identifiers() {
    let set = String::from_utf8(public_key("jwks.json")).unwrap();
    let tokens = Tokens::with_key(TokenRules::default(), set.as_bytes()).unwrap();
    assert_eq!(tokens.key_count(), 3);
    for (_, algorithm, token) in signed_tokens() {
        let expected = match algorithm {
            // The only key without an identifier.
            "EdDSA" => Ok("ada".into()),
            _ => Err(TokenFault::Algorithm),
        };
        assert_eq!(verify(&tokens, token).map(|bearer| bearer.user_name), expected, "{algorithm}");
    }
    let only_named = set.replace("\"OKP\"", "\"OKPX\"");
    let tokens = Tokens::with_key(TokenRules::default(), only_named.as_bytes()).unwrap();
    let (.., token) = signed_tokens().next().unwrap();
    assert_eq!(verify(&tokens, token), Err(TokenFault::KeyUnknown));
    let all = set.replace("\"kid\": \"one\"", "\"x5t\": \"one\"");
    let tokens = Tokens::with_key(TokenRules::default(), all.as_bytes()).unwrap();
    assert!(verify(&tokens, token).is_ok());
    let secret = format!(
        r#"{{"kty":"oct","kid":"k","alg":"HS256","k":"{}"}}"#,
        Base64UrlUnpadded::encode_string(SECRET.as_bytes())
    );
    let tokens = Tokens::with_key(TokenRules::default(), secret.as_bytes()).unwrap();
    let claims = r#"{"sub":"ada","exp":4000000000}"#;
    for (header, expected) in [
        (r#"{"alg":"HS256","kid":"k"}"#, None),
        (r#"{"alg":"HS256"}"#, Some(TokenFault::KeyUnknown)),
        (r#"{"alg":"HS256","kid":"other"}"#, Some(TokenFault::KeyUnknown)),
        (r#"{"alg":"HS512","kid":"k"}"#, Some(TokenFault::Algorithm)),
    ] {
        assert_eq!(verify(&tokens, &signed(header, claims, SECRET)).err(), expected, "{header}");
    }
}

#[test]
fn a_file_that_is_no_key_is_refused() {
    let set = String::from_utf8(public_key("jwks.json")).unwrap();
    let pem = String::from_utf8(public_key("p256.pem")).unwrap();
    let repeated = set.replace("\"two\"", "\"one\"");
    let private = set.replace("\"kid\": \"two\"", "\"d\": \"AAAA\"");
    for (content, words) in [
        ("short", "less than 32 bytes"),
        ("", "less than 32 bytes"),
        ("{\"keys\": [", "cannot be read"),
        ("{\"keys\": []}", "no key"),
        (&repeated, "\"one\" is there twice"),
        (&private, "private key"),
        (r#"{"kty":"oct","k":"c2hvcnQ"}"#, "less than 32 bytes"),
        ("-----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----", "private key"),
        ("-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----", "a certificate"),
        ("-----BEGIN PUBLIC KEY-----\nMA==\n-----END PUBLIC KEY-----", "none of RSA"),
        (&String::from_utf8(public_key("weak.pem")).unwrap(), "none of RSA"),
        (&pem.repeat(2), "several keys"),
    ] {
        let said =
            Tokens::with_key(TokenRules::default(), content.as_bytes()).unwrap_err().to_string();
        assert!(said.contains(words), "{content:.40}: {said}");
    }
    let missing = TokenRules { key_files: vec!["/nowhere/key".into()], ..TokenRules::default() };
    let said = Tokens::read(&missing).unwrap_err().to_string();
    assert!(said.starts_with("/nowhere/key: "), "{said}");
    // A line break at the end is no part of a secret.
    let tokens =
        Tokens::with_key(TokenRules::default(), format!("{SECRET}\r\n").as_bytes()).unwrap();
    assert!(verify(&tokens, &of_ada("")).is_ok());
    assert!(!format!("{tokens:?}").contains("guesses"), "the secret is not shown");
}

#[test]
fn rights_are_read_as_emqx_reads_them() {
    let permits = |acl: &str| {
        let bearer = verify(&tokens(TokenRules::default()), &of_ada(&format!(r#","acl":{acl}"#)));
        let bearer = bearer.unwrap_or_else(|fault| panic!("{acl}: {fault}"));
        let grant = bearer.grant.unwrap();
        let rights = grant.rules.as_ref().unwrap().rights_of(Some("ada"), "one", None);
        move |topic: &str, way: Ways| rights.permits(TopicName::parse(topic).unwrap()).any(way)
    };
    let lists = permits(r#"{"pub":["p/#"],"sub":["s/${clientid}"],"all":["a/%u"]}"#);
    for (topic, read, write) in [
        ("p/x", false, true),
        ("s/one", true, false),
        ("s/two", false, false),
        ("a/ada", true, true),
    ] {
        assert_eq!((lists(topic, Ways::READ), lists(topic, Ways::WRITE)), (read, write), "{topic}");
    }
    let rules = permits(
        r#"[{"permission":"deny","action":"publish","topic":"a/secret"},
            {"permission":"allow","action":"all","topics":["a/#","b"]},
            {"permission":"allow","action":"publish","topic":"c","qos":[0,1],"retain":false},
            {"permission":"allow","action":"subscribe","topic":"d","qos":2}]"#,
    );
    for (topic, way, expected) in [
        ("a/secret", Ways::WRITE, false),
        ("a/secret", Ways::READ, true),
        ("a/b", Ways::WRITE, true),
        ("b", Ways::read(0), true),
        ("c", Ways::write(1, false), true),
        ("c", Ways::write(2, false), false),
        ("c", Ways::write(0, true), false),
        ("c", Ways::READ, false),
        ("d", Ways::read(2), true),
        ("d", Ways::read(0), false),
        ("e", Ways::ALL, false),
    ] {
        assert_eq!(rules(topic, way), expected, "{topic} {way:?}");
    }
    for acl in [
        "7",
        r#"{"publish":["a"]}"#,
        r#"{"pub":7}"#,
        r#"{"pub":["a/#/b"]}"#,
        r#"{"pub":[7]}"#,
        "[7]",
        r#"[{"permission":"allow","action":"all"}]"#,
        r#"[{"permission":"perhaps","action":"all","topic":"a"}]"#,
        r#"[{"permission":"allow","action":"fly","topic":"a"}]"#,
        r#"[{"permission":"allow","action":"all","topic":"a","qos":3}]"#,
        r#"[{"permission":"allow","action":"all","topic":"a","retain":"no"}]"#,
        r#"[{"permission":"allow","action":"all","topic":"a","ipaddr":"10.0.0.1"}]"#,
        r#"[{"permission":"allow","action":"all","topic":"a","topics":["b"]}]"#,
    ] {
        let token = of_ada(&format!(r#","acl":{acl}"#));
        assert_eq!(
            verify(&tokens(TokenRules::default()), &token),
            Err(TokenFault::Rights),
            "{acl}"
        );
    }
}

#[test]
fn a_token_is_known_by_its_form() {
    for text in [of_ada("").as_str(), "eyJh.e30.", "ewog.e30.x"] {
        assert!(Tokens::has_form(text.as_bytes()), "{text}");
    }
    for text in ["", "secret", "a.b.c", "eyJh.e30", "eyJh.e3!.x", "eyJh.e30.x.y"] {
        assert!(!Tokens::has_form(text.as_bytes()), "{text}");
    }
}
