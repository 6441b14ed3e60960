//! Accounts: who pays for what the broker keeps for clients.
//!
//! Knows what each account holds. Does not know limits, nor what happens beyond them.
//!
//! The accounts are the same for all shards. A lock is taken when a connection comes, when its
//! client is let in, and when the last holder of an account goes; never for a message.

use std::{
    fmt::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{
        Arc, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use super::share;
use crate::base::{
    hash::{Map, Seed},
    network::Network,
};

/// The name of who pays: a proven User Name, or the address of a client that is anonymous or has
/// not proven who it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AccountName {
    User(Box<str>),
    Ipv4(Ipv4Addr),
    /// An IPv6 address without its last 64 bits: one customer has all that begin alike.
    Ipv6(Ipv6Addr),
}

impl AccountName {
    pub fn of(user_name: Option<&str>, ip: IpAddr) -> AccountName {
        user_name.map_or_else(|| AccountName::of_address(ip), |name| AccountName::User(name.into()))
    }

    /// An IPv4-mapped IPv6 address counts as the IPv4 address.
    pub fn of_address(ip: IpAddr) -> AccountName {
        match ip.to_canonical() {
            IpAddr::V4(ip) => AccountName::Ipv4(ip),
            IpAddr::V6(ip) => AccountName::Ipv6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        }
    }
}

/// For the log, on one line and escaped.
impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccountName::User(name) => {
                f.write_str("user ")?;
                name.escape_debug().try_for_each(|character| f.write_char(character))
            }
            AccountName::Ipv4(ip) => write!(f, "address {ip}"),
            AccountName::Ipv6(network) => write!(f, "network {network}/64"),
        }
    }
}

/// What an account can hold, each in a number of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Connections,
    /// The connections among these whose clients have not been let in.
    Strangers,
    Sessions,
}

impl Kind {
    const COUNT: usize = 3;
}

/// What one payer holds in the whole broker. It lasts as long as anyone refers to it.
#[derive(Debug)]
pub struct Account {
    name: AccountName,
    number: u64,
    is_exempt: bool,
    held: [AtomicUsize; Kind::COUNT],
    registry: Arc<Registry>,
}

impl Account {
    pub fn name(&self) -> &AccountName {
        &self.name
    }

    /// A number that no other account of the broker has or has had.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether it comes from an address that is held to no share.
    pub fn is_exempt(&self) -> bool {
        self.is_exempt
    }

    /// How many connections all accounts have.
    pub fn connections(&self) -> usize {
        self.registry.connections.load(Ordering::Relaxed)
    }

    /// How much the account holds now.
    pub fn held(&self, kind: Kind) -> usize {
        // Relaxed, here and below: the numbers guard no other memory.
        self.held[kind as usize].load(Ordering::Relaxed)
    }

    /// How many accounts hold any of this kind now.
    pub fn holders(&self, kind: Kind) -> usize {
        self.registry.holders[kind as usize].load(Ordering::Relaxed)
    }

    pub fn add(&self, kind: Kind, amount: usize) {
        if kind == Kind::Connections {
            self.registry.connections.fetch_add(amount, Ordering::Relaxed);
        }
        let before = self.held[kind as usize].fetch_add(amount, Ordering::Relaxed);
        if before == 0 && amount > 0 {
            self.registry.holders[kind as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// # Panics
    /// If the account holds less.
    pub fn subtract(&self, kind: Kind, amount: usize) {
        let before = self.held[kind as usize].fetch_sub(amount, Ordering::Relaxed);
        assert!(before >= amount, "each subtraction answers an addition");
        if kind == Kind::Connections {
            self.registry.connections.fetch_sub(amount, Ordering::Relaxed);
        }
        if before == amount && amount > 0 {
            self.registry.holders[kind as usize].fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The last holder forgets the account.
impl Drop for Account {
    fn drop(&mut self) {
        let mut known = self.registry.lock();
        // Another account of the same payer may have begun meanwhile.
        if known.get(&self.name).is_some_and(|account| account.strong_count() == 0) {
            known.remove(&self.name);
        }
    }
}

/// The accounts of a broker: as many as have something, or a connection. All clones are the same.
#[derive(Clone, Debug)]
pub struct Accounts(Arc<Registry>);

impl Accounts {
    pub fn new(seed: Seed) -> Accounts {
        Accounts::with_exempt(seed, Vec::new())
    }

    /// The same. Addresses of these networks are held to no share.
    pub fn with_exempt(seed: Seed, exempt: Vec<Network>) -> Accounts {
        Accounts(Arc::new(Registry {
            known: Lock::new(Map::with_hasher(seed)),
            holders: Default::default(),
            begun: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
            exempt,
        }))
    }

    /// The account of this payer, which begins if there is none.
    pub fn of(&self, name: AccountName) -> Arc<Account> {
        let mut known = self.0.lock();
        if let Some(account) = known.get(&name).and_then(Weak::upgrade) {
            return account;
        }
        let account = Arc::new(Account {
            name: name.clone(),
            number: self.0.begun.fetch_add(1, Ordering::Relaxed),
            is_exempt: self.0.exempt.iter().any(|network| share::is_from(*network, &name)),
            held: Default::default(),
            registry: Arc::clone(&self.0),
        });
        known.insert(name, Arc::downgrade(&account));
        account
    }

    /// The number of accounts.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
impl Default for Accounts {
    fn default() -> Accounts {
        Accounts::new(Seed::new(1))
    }
}

#[derive(Debug)]
struct Registry {
    known: Lock<Map<AccountName, Weak<Account>>>,
    /// How many accounts hold any of a kind.
    holders: [AtomicUsize; Kind::COUNT],
    /// How many accounts have begun.
    begun: AtomicU64,
    /// How many connections all accounts have.
    connections: AtomicUsize,
    exempt: Vec<Network>,
}

impl Registry {
    /// A thread that has panicked left the map whole: it holds the lock for one operation only.
    fn lock(&self) -> MutexGuard<'_, Map<AccountName, Weak<Account>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::disallowed_types, reason = "taken at CONNECT only, for a few operations")]
type Lock<T> = std::sync::Mutex<T>;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> AccountName {
        AccountName::of(None, text.parse().unwrap())
    }

    #[test]
    fn a_client_pays_by_its_proven_name_else_by_its_address_or_network() {
        let user = AccountName::of(Some("al\nice"), "192.0.2.1".parse().unwrap());
        assert_eq!(user.to_string(), r"user al\nice");
        assert_eq!(address("192.0.2.1").to_string(), "address 192.0.2.1");
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
        assert_eq!(address("2001:db8:1:2:3:4:5:6"), address("2001:db8:1:2::"));
        assert_ne!(address("2001:db8:1:2::"), address("2001:db8:1:3::"));
        assert_eq!(address("2001:db8:1:2:3::").to_string(), "network 2001:db8:1:2::/64");
    }

    #[test]
    fn a_payer_has_one_account_which_is_forgotten_after_its_last_holder() {
        let accounts = Accounts::default();
        let first = accounts.of(address("192.0.2.1"));
        let again = accounts.of(address("192.0.2.1"));
        let other = accounts.of(address("192.0.2.2"));
        assert!(Arc::ptr_eq(&first, &again) && !Arc::ptr_eq(&first, &other));
        let last = Arc::clone(&first);
        last.add(Kind::Sessions, 1);
        drop((first, other));
        assert_eq!((accounts.len(), again.held(Kind::Sessions)), (1, 1));
        drop(again);
        assert_eq!((accounts.len(), last.held(Kind::Sessions)), (1, 1));
        drop(last);
        assert!(accounts.is_empty());
    }

    #[test]
    fn an_account_counts_what_it_holds_and_the_broker_who_holds_any() {
        let accounts = Accounts::default();
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|ip| accounts.of(address(ip)));
        for account in [&one, &one, &other] {
            account.add(Kind::Connections, 1);
        }
        one.add(Kind::Sessions, 70);
        assert_eq!((one.held(Kind::Connections), one.held(Kind::Sessions)), (2, 70));
        assert_eq!((one.holders(Kind::Connections), other.holders(Kind::Sessions)), (2, 1));
        for account in [&one, &one, &other] {
            account.subtract(Kind::Connections, 1);
        }
        one.subtract(Kind::Sessions, 70);
        assert_eq!((one.holders(Kind::Connections), one.holders(Kind::Sessions)), (0, 0));
    }
}
