//! How one value is written on the command line.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use tracing_subscriber::EnvFilter;

use crate::{base::time::Span, routing::Strategy, topic::ShareName};

/// The port that MQTT has at IANA.
pub(super) const PORT: u16 = 1883;

/// Parses `IP`, `IP:PORT`, `[IPv6]:PORT` or `PORT`. No name is looked up; `localhost` is 127.0.0.1.
pub(super) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse() {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    let numeric = match text.strip_prefix("localhost") {
        Some(rest) if rest.is_empty() || rest.starts_with(':') => format!("127.0.0.1{rest}"),
        _ => text.to_owned(),
    };
    let with_port = || numeric.parse::<IpAddr>().map(|ip| SocketAddr::from((ip, PORT)));
    numeric
        .parse()
        .or_else(|_| with_port())
        .map_err(|_| "not an IP address, IP:PORT, [IPv6]:PORT or PORT".to_owned())
}

pub(super) fn parse_count(
    min: usize,
    max: usize,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync {
    move |text| in_range(parse_number(text)?, min as u64, max as u64)
}

/// Parses bytes: a number, or one with KiB, MiB or GiB right after it.
pub(super) fn parse_bytes<T: TryFrom<u64>>(
    min: u64,
    max: u64,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync {
    move |text| {
        let (number, shift) = UNITS
            .iter()
            .find_map(|&(unit, shift)| Some((text.strip_suffix(unit)?, shift)))
            .unwrap_or((text, 0));
        let bytes = parse_number(number)?.checked_mul(1 << shift);
        in_range(bytes.unwrap_or(u64::MAX), min, max)
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

pub(super) fn parse_log_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// Parses the name of one strategy; clap lists them.
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
        format!("{name:?} is none of {names}")
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
        .ok_or_else(|| format!("not from {min} to {max}"))
}

const STRATEGIES: [(&str, Strategy); 6] = [
    ("round-robin", Strategy::RoundRobin),
    ("random", Strategy::Random),
    ("least-in-flight", Strategy::LeastInFlight),
    ("sticky", Strategy::Sticky),
    ("hash-client", Strategy::HashClient),
    ("hash-topic", Strategy::HashTopic),
];

/// Each unit, and how far it shifts a number of bytes.
const UNITS: [(&str, u32); 3] = [("KiB", 10), ("MiB", 20), ("GiB", 30)];

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
            ("[::]:1884", "[::]:1884"),
        ] {
            assert_eq!(parse_address(text).map(|address| address.to_string()), Ok(expected.into()));
        }
        for text in ["", ":1883", "65536", "example.com", "localhosts:1", "1.2.3:1", "::1:x"] {
            assert!(parse_address(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn bytes_are_read_with_and_without_a_unit() {
        let parse = parse_bytes::<u64>(1, 1 << 40);
        for (text, expected) in
            [("1", 1), ("64KiB", 64 << 10), ("1MiB", 1 << 20), ("2GiB", 2 << 30)]
        {
            assert_eq!(parse(text), Ok(expected));
        }
        for text in ["", "KiB", "0", "1 MiB", "1mib", "1KB", "-1", "1.5MiB", "9999999999999GiB"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused_with_the_range() {
        assert_eq!(parse_seconds(1, 9)("10"), Err("not from 1 to 9".into()));
        assert_eq!(parse_seconds(1, 9)("9"), Ok(Span::from_secs(9)));
        assert_eq!(parse_millis(0, 9)("9"), Ok(Span::from_millis(9)));
        assert_eq!(parse_micros(0, 9)("9"), Ok(Span::from_micros(9)));
        assert_eq!(parse_count(1, 9)("0"), Err("not from 1 to 9".into()));
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
    fn a_log_filter_must_be_one() {
        assert!(parse_log_filter("warn,ringmq::shard=debug").is_ok());
        assert!(parse_log_filter("ringmq=loud").is_err());
    }
}
