//! Who a client is.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{Account, AccountName, Accounts, Grant, Rights};

/// Who a client is, from its CONNECT to the end of its session: a Will is published after its
/// connection has gone, and messages are kept for a client that is not connected.
///
/// What a client may do depends on this value only.
#[derive(Clone, Debug)]
pub struct Principal {
    /// Empty until CONNECT has been taken.
    client_id: Box<str>,
    /// Which of the configured listeners accepted its connection, counted from zero.
    listener: u16,
    /// Its peer address. IP and port are separate fields, because a `SocketAddr` is larger.
    peer_ip: IpAddr,
    peer_port: u16,
    /// Who pays for what the broker keeps for it: the proven user, else the address.
    account: Arc<Account>,
    /// What it may read and write; `None` if that is everything, and before CONNECT.
    rights: Option<Arc<Rights>>,
    /// What its token holds it to, if it has one.
    grant: Option<Arc<Grant>>,
    /// It is of a session that was read from a store.
    is_restored: bool,
}

impl Principal {
    /// The principal of a connection before its CONNECT.
    pub fn stranger(listener: u16, peer: SocketAddr, accounts: &Accounts) -> Principal {
        let (peer_ip, peer_port) = (peer.ip(), peer.port());
        let account = accounts.of(AccountName::of_address(peer_ip));
        let client_id = Box::default();
        let (rights, grant, is_restored) = (None, None, false);
        Principal { client_id, listener, peer_ip, peer_port, account, rights, grant, is_restored }
    }

    /// The principal of the same connection after its CONNECT.
    #[must_use]
    pub fn named(
        &self,
        client_id: &str,
        user_name: Option<&str>,
        accounts: &Accounts,
    ) -> Principal {
        let user = user_name.map(|name| accounts.of(AccountName::User(name.into())));
        let account = user.unwrap_or_else(|| Arc::clone(&self.account));
        Principal { client_id: client_id.into(), account, ..self.clone() }
    }

    /// The same principal with these rights.
    #[must_use]
    pub fn with_rights(self, rights: Option<Arc<Rights>>) -> Principal {
        Principal { rights, ..self }
    }

    /// The same principal, held to this.
    #[must_use]
    pub fn with_grant(self, grant: Option<Arc<Grant>>) -> Principal {
        Principal { grant, ..self }
    }

    /// What its token holds it to, if it has one.
    pub fn grant(&self) -> Option<&Arc<Grant>> {
        self.grant.as_ref()
    }

    /// What it may read and write; `None` if that is everything, and before CONNECT.
    #[inline]
    pub fn rights(&self) -> Option<&Rights> {
        self.rights.as_deref()
    }

    /// The same principal, of a session that was read from a store: its listener is not known.
    #[must_use]
    pub fn restored(self) -> Principal {
        Principal { is_restored: true, ..self }
    }

    /// Whether both are the same user. Anonymous clients are one user for each listener, and one
    /// whose listener is not known may be any of them.
    pub fn is_user_of(&self, other: &Principal) -> bool {
        match (self.user_name(), other.user_name()) {
            (None, None) => {
                self.is_restored || other.is_restored || self.listener == other.listener
            }
            (one, another) => one == another,
        }
    }

    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The User Name that the client has proven to be; `None` for an anonymous one, even if it has
    /// sent a name.
    pub fn user_name(&self) -> Option<&str> {
        match self.account.name() {
            AccountName::User(name) => Some(name),
            AccountName::Ipv4(_) | AccountName::Ipv6(_) => None,
        }
    }

    /// Which of the configured listeners accepted its connection, counted from zero.
    pub fn listener(&self) -> u16 {
        self.listener
    }

    pub fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.peer_ip, self.peer_port)
    }

    /// Who pays for what the broker keeps for the client: the proven user, else its address.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }
}
