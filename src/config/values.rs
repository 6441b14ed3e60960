//! Parsers for single values of the command line.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    str::FromStr,
};

use bytesize::ByteSize;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::tls::ClientCertificates;
use crate::{
    access::topics,
    base::{
        network::{Network, NoNetwork},
        time::Span,
    },
    mqtt::QoS,
    routing::Strategy,
    shard::rules::WhenQueueFull,
    topic::{ShareName, TopicName},
    transport::{
        Address,
        listener::Owner,
        tls::{TlsVersion, UserFrom},
    },
};

/// The port that IANA assigns to MQTT.
pub(super) const PORT: u16 = 1883;

/// The port for MQTT over TLS, as IANA has it.
const TLS_PORT: u16 = 8883;
/// The port that brokers use for WebSocket. IANA assigns none.
const WEBSOCKET_PORT: u16 = 8083;
/// The same for WebSocket over TLS.
const SECURE_WEBSOCKET_PORT: u16 = 8084;
/// The port that mosquitto has for HTTP.
const HTTP_PORT: u16 = 9883;

/// Parses `IP`, `IP:PORT`, `[IPv6]:PORT` or `PORT`. No name is looked up; `localhost` is 127.0.0.1.
pub(super) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    parse_address_with(text, PORT)
}

pub(super) fn parse_tls_address(text: &str) -> Result<SocketAddr, String> {
    parse_address_with(text, TLS_PORT)
}

pub(super) fn parse_secure_websocket_address(text: &str) -> Result<SocketAddr, String> {
    parse_address_with(text, SECURE_WEBSOCKET_PORT)
}

pub(super) fn parse_websocket_address(text: &str) -> Result<SocketAddr, String> {
    parse_address_with(text, WEBSOCKET_PORT)
}

/// Parses an address, or `unix:` and the path of a Unix socket.
pub(super) fn parse_http_address(text: &str) -> Result<Address, String> {
    match text.strip_prefix("unix:") {
        Some("") => Err("unix: needs the path of a file behind it".to_owned()),
        Some(path) => Ok(Address::Unix(Path::new(path).into())),
        None => parse_address_with(text, HTTP_PORT).map(Address::Ip),
    }
}

/// Parses the mode of a file, as chmod takes it in digits.
pub(super) fn parse_mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "not a mode such as 660".to_owned())
}

/// Parses `USER`, `UID`, `USER:GROUP` or `UID:GID`. Names are looked up in `/etc`.
pub(super) fn parse_owner(text: &str) -> Result<Owner, String> {
    let (user, group) = text.split_once(':').map_or((text, None), |(a, b)| (a, Some(b)));
    let uid = numbered(user, "/etc/passwd").ok_or_else(|| format!("no user is named {user}"))?;
    let gid = group.map(|group| {
        numbered(group, "/etc/group").ok_or_else(|| format!("no group is named {group}"))
    });
    Ok(Owner { uid, gid: gid.transpose()? })
}

/// A number, or that of the name in a file whose lines are `NAME:PASSWORD:NUMBER` and more.
fn numbered(name: &str, file: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let lines = fs::read_to_string(file).ok()?;
    let mut fields = lines.lines().map(|line| line.split(':'));
    fields.find_map(|mut fields| (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?)
}

/// Parses the name of a host, without a port. Names are compared in lower case.
pub(super) fn parse_host(text: &str) -> Result<String, String> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = !text.is_empty() && text.bytes().all(is_letter);
    let wrong = || "not a name such as broker.example.com".to_owned();
    if is_name { Ok(text.to_ascii_lowercase()) } else { Err(wrong()) }
}

fn parse_address_with(text: &str, default_port: u16) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse() {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    let numeric = match text.strip_prefix("localhost") {
        Some(rest) if rest.is_empty() || rest.starts_with(':') => format!("127.0.0.1{rest}"),
        _ => text.to_owned(),
    };
    let bare = numeric.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let with_port = || {
        let ip = match bare {
            Some(ip) => ip.parse::<Ipv6Addr>().map(IpAddr::from),
            None => numeric.parse::<IpAddr>(),
        };
        ip.map(|ip| SocketAddr::from((ip, default_port)))
    };
    numeric
        .parse()
        .or_else(|_| with_port())
        .map_err(|_| "not an IP address, IP:PORT, [IPv6]:PORT or PORT".to_owned())
}

/// Parses the path of a URL, as it stands in a request.
pub(super) fn parse_path(text: &str) -> Result<String, String> {
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte));
    let is_path = text.starts_with('/') && printable;
    if is_path { Ok(text.to_owned()) } else { Err("not a path such as /mqtt".to_owned()) }
}

/// Parses an Origin as browsers write it: without a path, and in lower case.
pub(super) fn parse_origin(text: &str) -> Result<String, String> {
    let host = text.split_once("://").filter(|(scheme, _)| !scheme.is_empty());
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && !byte.is_ascii_uppercase();
    match host {
        Some((_, host)) if !host.is_empty() && host.bytes().all(is_plain) => Ok(text.to_owned()),
        _ => Err("not an origin such as https://example.com".to_owned()),
    }
}

pub(super) fn parse_count(
    min: usize,
    max: usize,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync {
    move |text| in_range(parse_number(text)?, min as u64, max as u64)
}

/// Parses a number of events in a second.
pub(super) fn parse_rate(text: &str) -> Result<u64, String> {
    in_range(parse_number(text)?, 0, 1_000_000_000)
}

/// Parses bytes: a number, or one with a unit such as KiB (1,024) or kB (1,000).
pub(super) fn parse_bytes<T: TryFrom<u64>>(
    min: u64,
    max: u64,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync {
    move |text| {
        let bytes: ByteSize =
            text.parse().map_err(|_| "not a size such as 65536, 64KiB or 16MB".to_owned())?;
        in_range(bytes.as_u64(), min, max)
    }
}

pub(super) fn parse_power_of_two<T: TryFrom<u64>>(
    min: u64,
    max: u64,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync {
    move |text| {
        let number = parse_number(text)?;
        if !number.is_power_of_two() {
            return Err(format!("{number} is not a power of two"));
        }
        in_range(number, min, max)
    }
}

pub(super) fn parse_seconds(
    min: u64,
    max: u64,
) -> impl Fn(&str) -> Result<Span, String> + Clone + Send + Sync {
    move |text| in_range(parse_number(text)?, min, max).map(Span::from_secs)
}

pub(super) fn parse_millis(
    min: u64,
    max: u64,
) -> impl Fn(&str) -> Result<Span, String> + Clone + Send + Sync {
    move |text| in_range(parse_number(text)?, min, max).map(Span::from_millis)
}

pub(super) fn parse_micros(
    min: u64,
    max: u64,
) -> impl Fn(&str) -> Result<Span, String> + Clone + Send + Sync {
    move |text| in_range(parse_number(text)?, min, max).map(Span::from_micros)
}

/// When an acknowledgement may leave that promises that something survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurabilityMode {
    /// When it is on disk.
    Always,
    /// When it is written. It is on disk after this time.
    Interval(Span),
    /// When it is written.
    None,
}

pub(super) fn parse_durability(text: &str) -> Result<DurabilityMode, String> {
    match text {
        "always" => return Ok(DurabilityMode::Always),
        "none" => return Ok(DurabilityMode::None),
        _ => {}
    }
    let millis = text.strip_prefix("interval=").ok_or("always, none or interval=MS")?;
    parse_millis(1, 3_600_000)(millis).map(DurabilityMode::Interval)
}

/// How the lines of the log are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line for people: time, level, what has happened, fields.
    Text,
    /// One JSON object a line.
    Json,
}

pub(super) fn log_format_parser() -> impl TypedValueParser<Value = LogFormat> {
    PossibleValuesParser::new(["text", "json"]).map(|name| match name.as_str() {
        "json" => LogFormat::Json,
        _ => LogFormat::Text,
    })
}

/// Parses a filter in the syntax of tracing's `EnvFilter`, which accepts any word as the name of a
/// part. Here a word has to be a level or a part of the broker.
pub(super) fn parse_log_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map_err(|error| error.to_string())?;
    match text.split(',').map(str::trim).find(|directive| !is_known_directive(directive)) {
        None => Ok(text.to_owned()),
        Some(unknown) => Err(format!(
            "{unknown:?} is neither a level (error, warn, info, debug, trace, off) nor the level \
             of a part of the broker (for example ringmq::shard=debug)"
        )),
    }
}

/// Whether a directive of a filter is a level, or is about a crate that logs.
fn is_known_directive(directive: &str) -> bool {
    let part = directive.split(['=', '[']).next().unwrap_or_default();
    let crate_name = part.split("::").next().unwrap_or_default();
    let is_level = !directive.is_empty() && directive.parse::<LevelFilter>().is_ok();
    is_level || LOGGING_CRATES.contains(&crate_name)
}

/// Crates that log.
const LOGGING_CRATES: [&str; 2] = ["ringmq", "glommio"];

pub(super) fn parse_when_queue_full(text: &str) -> Result<WhenQueueFull, String> {
    match text {
        "drop" => Ok(WhenQueueFull::Drop),
        "disconnect" => Ok(WhenQueueFull::Disconnect),
        _ => Err("not drop or disconnect".to_owned()),
    }
}

pub(super) fn parse_qos(text: &str) -> Result<QoS, String> {
    let bits = text.parse().map_err(|_| "not 0, 1 or 2".to_owned())?;
    QoS::from_bits(bits).ok_or_else(|| "not 0, 1 or 2".to_owned())
}

/// What a SUBSCRIBE gets for a filter of which the client may read nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AclSubscribe {
    Refuse,
    Silent,
}

pub(super) fn parse_acl_subscribe(text: &str) -> Result<AclSubscribe, String> {
    match text {
        "refuse" => Ok(AclSubscribe::Refuse),
        "silent" => Ok(AclSubscribe::Silent),
        _ => Err("not refuse or silent".to_owned()),
    }
}

/// By what the shards wait for their sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoChoice {
    /// The ring where it is allowed.
    Auto,
    Ring,
    Poll,
}

pub(super) fn parse_io(text: &str) -> Result<IoChoice, String> {
    match text {
        "auto" => Ok(IoChoice::Auto),
        "ring" => Ok(IoChoice::Ring),
        "poll" => Ok(IoChoice::Poll),
        _ => Err("not auto, ring or poll".to_owned()),
    }
}

/// Who may take over a session by its Client Identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takeover {
    SameUser,
    Anyone,
}

pub(super) fn parse_takeover(text: &str) -> Result<Takeover, String> {
    match text {
        "same-user" => Ok(Takeover::SameUser),
        "anyone" => Ok(Takeover::Anyone),
        _ => Err("not same-user or anyone".to_owned()),
    }
}

/// Whether something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switch {
    On,
    Off,
}

pub(super) fn parse_switch(text: &str) -> Result<Switch, String> {
    match text {
        "on" => Ok(Switch::On),
        "off" => Ok(Switch::Off),
        _ => Err("not on or off".to_owned()),
    }
}

/// An optional feature of MQTT that a server may leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feature {
    Retain,
    WildcardSubscriptions,
    SubscriptionIdentifiers,
    SharedSubscriptions,
}

/// Parses the name of one feature; clap lists the names.
pub(super) fn feature_parser() -> impl TypedValueParser<Value = Feature> {
    PossibleValuesParser::new(FEATURES.map(|(name, _)| name)).map(|name| {
        let part = FEATURES.iter().find(|(known, _)| *known == name);
        part.expect("clap lets no other name through").1
    })
}

/// Parses one server of a Server Reference in the form that the specification recommends: a name
/// and perhaps a port, the name in brackets if it has colons. No name is looked up.
pub(super) fn parse_server(text: &str) -> Result<String, String> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (name, port) = rest.split_once(']').ok_or("the closing bracket is missing")?;
            (name, if port.is_empty() { None } else { Some(port) })
        }
        None => match text.find(':') {
            Some(colon) => (&text[..colon], Some(&text[colon..])),
            None => (text, None),
        },
    };
    let is_word = |name: &str| !name.contains(|c: char| c.is_whitespace() || c.is_control());
    if name.is_empty() || !is_word(name) || text.len() > SERVER_BYTES_MAX {
        return Err(format!("not a name of 1 to {SERVER_BYTES_MAX} bytes without spaces"));
    }
    if let Some(port) = port {
        let number = port.strip_prefix(':').and_then(|digits| digits.parse::<u16>().ok());
        number.filter(|&number| number > 0).ok_or("not NAME, NAME:PORT or [IPv6]:PORT")?;
    }
    Ok(text.to_owned())
}

/// Parses ADDRESS or ADDRESS/PREFIX.
pub(super) fn parse_network(text: &str) -> Result<Network, String> {
    text.parse().map_err(|NoNetwork| NO_NETWORK.to_owned())
}

const NO_NETWORK: &str = "not an address, such as 192.0.2.1, or a network, such as 2001:db8::/48";

/// Parses a Topic Name that clients may publish to and that longer topics can begin with.
pub(super) fn parse_topic_name(text: &str) -> Result<Box<str>, String> {
    let name = TopicName::parse(text).map_err(|error| error.to_string())?;
    if text.ends_with('/') || topics::is_brokers_own(name) || text.len() > PREFIX_BYTES_MAX {
        return Err(format!(
            "must not begin with $SYS or $share or end with /, and has at most \
             {PREFIX_BYTES_MAX} bytes"
        ));
    }
    Ok(text.into())
}

/// Parses the name of one strategy; clap lists the names.
/// Parses one of these names into its value.
fn named<T: Clone + Send + Sync + 'static>(
    names: &'static [(&'static str, T)],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(names.iter().map(|(name, _)| *name)).map(|name| {
        let found = names.iter().find(|(known, _)| **known == *name);
        found.expect("clap lets no other name through").1.clone()
    })
}

pub(super) fn client_certs_parser() -> impl TypedValueParser<Value = ClientCertificates> {
    named(&[
        ("none", ClientCertificates::None),
        ("optional", ClientCertificates::Optional),
        ("required", ClientCertificates::Required),
    ])
}

pub(super) fn tls_version_parser() -> impl TypedValueParser<Value = TlsVersion> {
    named(&[("1.2", TlsVersion::V12), ("1.3", TlsVersion::V13)])
}

pub(super) fn tls_user_parser() -> impl TypedValueParser<Value = UserFrom> {
    named(&[
        ("cn", UserFrom::CommonName),
        ("subject", UserFrom::Subject),
        ("san", UserFrom::AlternativeName),
    ])
}

/// Parses the name of an ALPN protocol.
pub(super) fn parse_alpn(text: &str) -> Result<String, String> {
    let fits = (1..=255).contains(&text.len());
    fits.then(|| text.to_owned()).ok_or_else(|| "not a name of 1 to 255 bytes".to_owned())
}

pub(super) fn strategy_parser() -> impl TypedValueParser<Value = Strategy> {
    PossibleValuesParser::new(STRATEGIES.map(|(name, _)| name))
        .map(|name| strategy(&name).expect("clap lets no other name through"))
}

/// Parses `SHARENAME=STRATEGY`. A `ShareName` may contain `=`, a strategy does not.
pub(super) fn parse_share_group(text: &str) -> Result<(Box<str>, Strategy), String> {
    let (share, name) = text.rsplit_once('=').ok_or("not SHARENAME=STRATEGY")?;
    ShareName::parse(share).map_err(|error| error.to_string())?;
    let strategy = strategy(name).ok_or_else(|| {
        let names = STRATEGIES.map(|(name, _)| name).join(", ");
        format!("{name:?} is not a strategy: use one of {names}")
    })?;
    Ok((share.into(), strategy))
}

fn strategy(name: &str) -> Option<Strategy> {
    STRATEGIES.iter().find(|(known, _)| *known == name).map(|&(_, strategy)| strategy)
}

fn parse_number(text: &str) -> Result<u64, String> {
    u64::from_str(text).map_err(|error| error.to_string())
}

fn in_range<T: TryFrom<u64>>(number: u64, min: u64, max: u64) -> Result<T, String> {
    let fitting = Some(number).filter(|number| (min..=max).contains(number));
    fitting
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("must be from {min} to {max}"))
}

const STRATEGIES: [(&str, Strategy); 6] = [
    ("round-robin", Strategy::RoundRobin),
    ("random", Strategy::Random),
    ("least-in-flight", Strategy::LeastInFlight),
    ("sticky", Strategy::Sticky),
    ("hash-client", Strategy::HashClient),
    ("hash-topic", Strategy::HashTopic),
];

/// Maximum length of the topic that Response Information is made from.
const PREFIX_BYTES_MAX: usize = 1024;

/// Maximum length of one server in a Server Reference.
const SERVER_BYTES_MAX: usize = 255;

const FEATURES: [(&str, Feature); 4] = [
    ("retain", Feature::Retain),
    ("wildcard-subscriptions", Feature::WildcardSubscriptions),
    ("subscription-identifiers", Feature::SubscriptionIdentifiers),
    ("shared-subscriptions", Feature::SharedSubscriptions),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_every_form() {
        for (text, expected) in [
            ("1884", "127.0.0.1:1884"),
            ("0", "127.0.0.1:0"),
            ("localhost", "127.0.0.1:1883"),
            ("localhost:1", "127.0.0.1:1"),
            ("10.0.0.1", "10.0.0.1:1883"),
            ("0.0.0.0:1884", "0.0.0.0:1884"),
            ("::1", "[::1]:1883"),
            ("[::1]", "[::1]:1883"),
            ("[::]:1884", "[::]:1884"),
        ] {
            assert_eq!(parse_address(text).map(|address| address.to_string()), Ok(expected.into()));
        }
        for text in [
            "",
            ":1883",
            "65536",
            "example.com",
            "localhosts:1",
            "1.2.3:1",
            "::1:x",
            "[1.2.3.4]",
            "[::1",
        ] {
            assert!(parse_address(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_websocket_has_another_port_a_path_and_origins() {
        let address = |text| parse_websocket_address(text).map(|address| address.to_string());
        assert_eq!(address("0.0.0.0"), Ok("0.0.0.0:8083".into()));
        assert_eq!(address("[::1]:80"), Ok("[::1]:80".into()));
        for (text, is_path) in [("/", true), ("/mqtt", true), ("/a/b%20c", true), ("mqtt", false)] {
            assert_eq!(parse_path(text).is_ok(), is_path, "{text}");
        }
        for text in ["", "/a b", "/a?b", "/ä", "/a\r\n"] {
            assert!(parse_path(text).is_err(), "{text}");
        }
        for text in ["https://example.com", "http://localhost:3000", "http://[::1]"] {
            assert_eq!(parse_origin(text), Ok(text.into()));
        }
        for text in ["", "example.com", "https://", "https://a/", "://a", "https://A.example"] {
            assert!(parse_origin(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_are_read_with_and_without_a_unit() {
        let parse = parse_bytes::<u64>(1, 1 << 40);
        for (text, expected) in [
            ("1", 1),
            ("64KiB", 64 << 10),
            ("1 MiB", 1 << 20),
            ("2GiB", 2 << 30),
            ("16MB", 16_000_000),
            ("1.5mib", 3 << 19),
        ] {
            assert_eq!(parse(text), Ok(expected));
        }
        for text in ["", "KiB", "0", "-1", "1 bit", "0x10", "9999999999999GiB"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused_with_the_range() {
        assert_eq!(parse_seconds(1, 9)("10"), Err("must be from 1 to 9".into()));
        assert_eq!(parse_seconds(1, 9)("9"), Ok(Span::from_secs(9)));
        assert_eq!(parse_millis(0, 9)("9"), Ok(Span::from_millis(9)));
        assert_eq!(parse_micros(0, 9)("9"), Ok(Span::from_micros(9)));
        assert_eq!(parse_count(1, 9)("0"), Err("must be from 1 to 9".into()));
        assert_eq!(
            parse_power_of_two::<u16>(1, 1 << 15)("48"),
            Err("48 is not a power of two".into())
        );
        assert_eq!(parse_power_of_two::<u16>(1, 1 << 15)("64"), Ok(64));
    }

    #[test]
    fn a_group_is_named_with_its_strategy() {
        let parsed =
            |text| parse_share_group(text).map(|(share, strategy)| (share.into_string(), strategy));
        assert_eq!(parsed("jobs=sticky"), Ok(("jobs".into(), Strategy::Sticky)));
        assert_eq!(parsed("a=b=hash-topic"), Ok(("a=b".into(), Strategy::HashTopic)));
        for text in ["", "jobs", "=sticky", "a/b=sticky", "jobs=", "jobs=fair"] {
            assert!(parsed(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_server_is_a_name_and_perhaps_a_port() {
        for text in [
            "myserver.xyz.org",
            "myserver.xyz.org:8883",
            "10.10.151.22:8883",
            "[fe80::9610:3eff:fe1c]:1883",
            "[::1]",
        ] {
            assert_eq!(parse_server(text), Ok(text.to_owned()));
        }
        let long = "x".repeat(256);
        for text in
            ["", ":1", "a b", "a:0", "a:65536", "a:b", "::1", "[::1", "[]:1", "[::1]1883", &long]
        {
            assert!(parse_server(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_network_has_an_address_and_a_prefix_that_fits() {
        for text in ["192.0.2.1", "10.0.0.0/8", "::/0", "2001:db8::/48", "::1/128"] {
            assert!(parse_network(text).is_ok(), "{text:?}");
        }
        for text in ["", "localhost", "10.0.0.0/33", "10.0.0.0/", "::/129", "::/-1", "1.2.3"] {
            assert!(parse_network(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_topic_name_is_one_that_clients_can_use() {
        for text in ["reply", "$reply", "a/b", "/a"] {
            assert_eq!(parse_topic_name(text), Ok(text.into()));
        }
        let long = "x".repeat(1025);
        for text in ["", "a/", "/", "a/#", "+", "$SYS/reply", "$share/a", &long] {
            assert!(parse_topic_name(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_log_filter_must_be_one() {
        assert!(parse_log_filter("warn,ringmq::shard=debug").is_ok());
        for wrong in ["ringmq=loud", "loud", "debug,loud=info", "info,"] {
            assert!(parse_log_filter(wrong).is_err(), "{wrong}");
        }
    }
}
