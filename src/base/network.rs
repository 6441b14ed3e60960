//! Networks: addresses that begin alike.

use std::{
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

/// The addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// An IPv4 address is IPv4-mapped.
    base: u128,
    /// How many bits they have in common.
    prefix: u32,
}

impl Network {
    /// The addresses that have the first `prefix` bits of this one; `None` if it has not so many.
    pub fn new(ip: IpAddr, prefix: Option<u32>) -> Option<Network> {
        let (base, all) = bits(ip);
        let prefix = prefix.map_or(Some(128), |prefix| (prefix <= all).then(|| 128 - all + prefix));
        prefix.map(|prefix| Network { base, prefix })
    }

    /// Whether the address is in the network.
    pub fn has(self, ip: IpAddr) -> bool {
        self.meets(ip, 128)
    }

    /// Whether an address with the first `own` bits of this one, of 128, may be in the network.
    pub fn meets(self, ip: IpAddr, own: u32) -> bool {
        let common = self.prefix.min(own);
        (self.base ^ bits(ip).0).checked_shr(128 - common).unwrap_or(0) == 0
    }
}

/// Reads ADDRESS or ADDRESS/PREFIX.
impl FromStr for Network {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Network, NoNetwork> {
        let (ip, prefix) = match text.split_once('/') {
            Some((ip, prefix)) => (ip, Some(prefix.parse().map_err(|_| NoNetwork)?)),
            None => (text, None),
        };
        let ip = ip.parse().map_err(|_| NoNetwork)?;
        Network::new(ip, prefix).ok_or(NoNetwork)
    }
}

/// A text is neither an address nor a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoNetwork;

/// An address as IPv6, and how many bits it has by itself.
fn bits(ip: IpAddr) -> (u128, u32) {
    match ip.to_canonical() {
        IpAddr::V4(ip) => (Ipv6Addr::to_bits(ip.to_ipv6_mapped()), 32),
        IpAddr::V6(ip) => (ip.to_bits(), 128),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_that_begin_like_it() {
        for (base, prefix, ip, expected) in [
            ("10.0.0.0", Some(8), "10.1.2.3", true),
            ("10.0.0.0", Some(8), "::ffff:10.1.2.3", true),
            ("10.0.0.0", Some(8), "11.1.2.3", false),
            ("10.0.0.7", None, "10.0.0.7", true),
            ("10.0.0.7", None, "10.0.0.6", false),
            ("0.0.0.0", Some(0), "192.0.2.1", true),
            ("0.0.0.0", Some(0), "2001:db8::1", false),
            ("::", Some(0), "2001:db8::1", true),
            ("2001:db8::", Some(32), "2001:db8:1::1", true),
            ("2001:db8::", Some(32), "2001:db9::1", false),
        ] {
            let network = Network::new(base.parse().unwrap(), prefix).unwrap();
            assert_eq!(network.has(ip.parse().unwrap()), expected, "{base}/{prefix:?} {ip}");
        }
        assert!(Network::new("10.0.0.0".parse().unwrap(), Some(33)).is_none());
    }
}
