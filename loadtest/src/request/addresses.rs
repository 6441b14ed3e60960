//! Lists of local addresses to connect from.

use std::net::{IpAddr, Ipv4Addr};

/// Reads a list such as `127.0.0.2,127.1.0.0/24`; a prefix stands for its hosts.
pub fn parse_list(text: &str) -> Result<Vec<IpAddr>, String> {
    let mut addresses = Vec::new();
    for part in text.split(',') {
        match part.split_once('/') {
            Some((network, bits)) => addresses.extend(hosts(network, bits)?),
            None => addresses.push(parse(part)?),
        }
    }
    Ok(addresses)
}

/// All addresses of a network but its first and its last.
fn hosts(network: &str, bits: &str) -> Result<impl Iterator<Item = IpAddr>, String> {
    let network: Ipv4Addr = parse(network)?;
    let bits: u32 = parse(bits)?;
    if !(BITS_MIN..=30).contains(&bits) {
        return Err(format!("a network has {BITS_MIN} to 30 bits"));
    }
    let size = 1u32 << (32 - bits);
    let first = network.to_bits() & !(size - 1);
    Ok((1..size - 1).map(move |host| Ipv4Addr::from_bits(first + host).into()))
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| format!("not an address: {text:?}"))
}

/// The shortest prefix: such a network has addresses for four billion connections.
const BITS_MIN: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_addresses_and_networks() {
        let list = |text| {
            let addresses: Vec<_> =
                parse_list(text).unwrap().iter().map(ToString::to_string).collect();
            addresses.join(" ")
        };
        assert_eq!(list("127.0.0.1, ::1"), "127.0.0.1 ::1");
        assert_eq!(list("127.3.0.6/30,127.0.0.9"), "127.3.0.5 127.3.0.6 127.0.0.9");
        assert_eq!(parse_list("127.0.0.0/16").unwrap().len(), 65_534);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for wrong in ["", "localhost", "127.0.0.0/8", "127.0.0.0/31", "::1/64", "1.2.3.4,"] {
            assert!(parse_list(wrong).is_err(), "{wrong}");
        }
    }
}
