//! Fair shares: how much of a pool an account may have when the pool is short.

use super::{Account, AccountName, Kind};
use crate::base::network::Network;

/// Whether so little of a pool is left that accounts are held to their shares.
pub fn is_short(taken: usize, maximum: usize) -> bool {
    taken > maximum - maximum / KEPT_PART
}

/// When less than this part of a pool is left, it is kept for accounts within their shares.
const KEPT_PART: usize = 8;
/// An account has at least this part of a pool.
const SMALLEST_PART: usize = 1024;

impl Account {
    /// How much of a pool the account may have when the pool is short: an equal part for each that
    /// has any, this account included.
    pub fn share(&self, kind: Kind, maximum: usize) -> usize {
        (maximum / self.sharers(kind)).max(maximum / SMALLEST_PART).max(1)
    }

    /// How many accounts have any of a pool, this account included.
    pub fn sharers(&self, kind: Kind) -> usize {
        // Other shards may change one number between the two looks.
        (self.holders(kind) + usize::from(self.held(kind) == 0)).max(1)
    }

    /// Whether the account would have more than its share with so much more.
    pub fn exceeds_share(&self, kind: Kind, more: usize, maximum: usize) -> bool {
        !self.is_exempt() && self.held(kind) + more > self.share(kind, maximum)
    }
}

/// Whether a client of this name may come from the network.
pub(super) fn is_from(network: Network, name: &AccountName) -> bool {
    match *name {
        AccountName::User(_) => false,
        AccountName::Ipv4(ip) => network.has(ip.into()),
        AccountName::Ipv6(ip) => network.meets(ip.into(), 64),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{access::Accounts, base::hash::Seed};

    fn name(ip: &str) -> AccountName {
        AccountName::of_address(ip.parse().unwrap())
    }

    fn network(ip: &str, prefix: Option<u32>) -> Network {
        Network::new(ip.parse().unwrap(), prefix).unwrap()
    }

    #[test]
    fn a_pool_is_short_when_less_than_an_eighth_is_left() {
        assert!(!is_short(70, 80) && is_short(71, 80));
        assert!(!is_short(7, 7) && is_short(8, 7));
    }

    #[test]
    fn the_shares_of_all_accounts_are_equal_and_not_tiny() {
        let accounts = Accounts::default();
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|ip| accounts.of(name(ip)));
        assert_eq!(one.share(Kind::Connections, 100), 100);
        one.add(Kind::Connections, 60);
        assert_eq!(one.share(Kind::Connections, 100), 100, "nobody else has any");
        assert_eq!(other.share(Kind::Connections, 100), 50);
        other.add(Kind::Connections, 1);
        assert!(one.exceeds_share(Kind::Connections, 0, 100));
        assert!(!other.exceeds_share(Kind::Connections, 49, 100));
        assert!(other.exceeds_share(Kind::Connections, 50, 100));
        let many: Vec<Arc<Account>> =
            (0..98).map(|n| accounts.of(AccountName::User(format!("{n}").into()))).collect();
        for it in &many {
            it.add(Kind::Connections, 1);
        }
        assert_eq!(one.share(Kind::Connections, 50), 1);
        assert_eq!(one.share(Kind::Connections, 102_400), 1_024);
    }

    #[test]
    fn listed_addresses_are_exempt() {
        let exempt = vec![network("10.0.0.0", Some(8)), network("2001:db8::5", None)];
        let accounts = Accounts::with_exempt(Seed::new(1), exempt);
        for (ip, is_exempt) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("11.1.2.3", false),
            ("2001:db8::77", true),
            ("2001:db8:0:1::", false),
        ] {
            let account = accounts.of(name(ip));
            assert_eq!(account.is_exempt(), is_exempt, "{ip}");
            account.add(Kind::Sessions, 3);
            accounts.of(AccountName::User("ada".into())).add(Kind::Sessions, 0);
            assert_eq!(account.exceeds_share(Kind::Sessions, 0, 1), !is_exempt, "{ip}");
        }
        assert!(!accounts.of(AccountName::User("10.0.0.1".into())).is_exempt());
        assert!(is_from(network("::", Some(0)), &name("2001:db8::")));
    }
}
