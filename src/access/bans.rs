//! Bans: who is not let in, and until when.
//!
//! A ban may name a Client Identifier, a user or a network. Shards look at the list when a client
//! comes, never for a message.

use std::{collections::BTreeMap, net::IpAddr};

use super::Principal;
use crate::base::{network::Network, time::WallTime};

/// Whom a ban is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Banned {
    Client(Box<str>),
    User(Box<str>),
    Address(IpAddr),
    Network(Network),
}

/// All bans of a broker, as shards look at them.
#[derive(Clone, Debug, Default)]
pub struct Bans {
    clients: BTreeMap<Box<str>, WallTime>,
    users: BTreeMap<Box<str>, WallTime>,
    addresses: BTreeMap<IpAddr, WallTime>,
    networks: Vec<(Network, WallTime)>,
}

impl Bans {
    /// Of bans with their ends; one without an end is for ever.
    pub fn of(bans: impl Iterator<Item = (Banned, Option<WallTime>)>) -> Bans {
        let mut all = Bans::default();
        for (banned, until) in bans {
            let until = until.unwrap_or(WallTime::from_nanos(u64::MAX));
            match banned {
                Banned::Client(client_id) => drop(all.clients.insert(client_id, until)),
                Banned::User(user) => drop(all.users.insert(user, until)),
                Banned::Address(ip) => drop(all.addresses.insert(ip.to_canonical(), until)),
                Banned::Network(network) => all.networks.push((network, until)),
            }
        }
        all
    }

    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
            && self.users.is_empty()
            && self.addresses.is_empty()
            && self.networks.is_empty()
    }

    /// Whether the address, or a network that it is in, is banned now.
    pub fn has_address(&self, ip: IpAddr, now: WallTime) -> bool {
        let is_in = |&(network, until): &(Network, WallTime)| now < until && network.has(ip);
        self.addresses.get(&ip.to_canonical()).is_some_and(|&until| now < until)
            || self.networks.iter().any(is_in)
    }

    pub fn has_client(&self, client_id: &str, now: WallTime) -> bool {
        self.clients.get(client_id).is_some_and(|&until| now < until)
    }

    /// Whether a client is banned now by its Client Identifier, its proven user or its address.
    pub fn has(&self, principal: &Principal, now: WallTime) -> bool {
        let user = principal.user_name().and_then(|user| self.users.get(user));
        self.has_client(principal.client_id(), now)
            || user.is_some_and(|&until| now < until)
            || self.has_address(principal.peer().ip(), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Accounts;

    const NOW: WallTime = WallTime::from_nanos(1_000);

    fn principal(client_id: &str, user: Option<&str>, ip: &str) -> Principal {
        let accounts = Accounts::default();
        let peer = (ip.parse::<IpAddr>().unwrap(), 1).into();
        Principal::stranger(0, peer, &accounts).named(client_id, user, &accounts)
    }

    #[test]
    fn a_client_is_banned_by_its_name_its_user_its_address_or_a_network_until_the_end() {
        let network = Network::new("192.0.2.0".parse().unwrap(), Some(24)).unwrap();
        let bans = [
            (Banned::Client("a".into()), None),
            (Banned::User("ada".into()), Some(WallTime::from_nanos(1_001))),
            (Banned::User("bob".into()), Some(NOW)),
            (Banned::Address("::ffff:198.51.100.7".parse().unwrap()), None),
            (Banned::Network(network), None),
        ];
        let bans = Bans::of(bans.into_iter());
        for (client_id, user, ip, expected) in [
            ("a", None, "127.0.0.1", true),
            ("b", None, "127.0.0.1", false),
            ("b", Some("ada"), "127.0.0.1", true),
            ("b", Some("bob"), "127.0.0.1", false),
            ("b", Some("a"), "127.0.0.1", false),
            ("b", None, "198.51.100.7", true),
            ("b", None, "198.51.100.8", false),
            ("b", None, "192.0.2.255", true),
            ("b", None, "::ffff:192.0.2.1", true),
            ("b", None, "192.0.3.1", false),
        ] {
            let principal = principal(client_id, user, ip);
            assert_eq!(bans.has(&principal, NOW), expected, "{client_id} {user:?} {ip}");
        }
        assert!(!bans.is_empty() && Bans::default().is_empty());
    }
}
