//! A listener: one value that flags make, and that runtime and shards use; and all of them, while
//! they come and go.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use super::{tls::ServerTls, websocket::HandshakePolicy};
use crate::base::{
    network::Network,
    rate::{Rate, SharedBucket},
};

/// One place where clients connect, with everything that holds for all of its connections.
///
/// A connection refers to its listener by the place in the list of all listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub address: Address,
    pub protocol: Protocol,
    /// Whether clients without authentication are let in, if that differs from other listeners.
    pub anonymous: Option<bool>,
    /// Who may connect to a Unix socket.
    pub file: FileAccess,
    /// The proxies that it is for, whose headers say who the clients are; `None`: clients come by
    /// themselves.
    pub proxies: Option<Proxies>,
    pub rates: Rates,
}

/// How much may come in a second.
#[derive(Clone, Debug, Default)]
pub struct Rates {
    pub of_client: ClientRates,
    /// Connections to the listener. All shards take from the same bucket.
    pub connections: Option<Arc<SharedBucket>>,
}

/// How much one client may send in a second. `None`: as much as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientRates {
    /// PUBLISH packets.
    pub messages: Option<Rate>,
    /// Bytes of all packets.
    pub bytes: Option<Rate>,
}

impl ClientRates {
    pub fn are_limited(self) -> bool {
        self.messages.is_some() || self.bytes.is_some()
    }
}

impl Rates {
    pub fn new(of_client: ClientRates, connections: Option<Rate>) -> Rates {
        let connections = connections.map(|rate| Arc::new(SharedBucket::new(rate)));
        Rates { of_client, connections }
    }

    /// Connections to the listener in a second, if that is limited.
    pub fn connection_rate(&self) -> Option<Rate> {
        self.connections.as_ref().map(|bucket| bucket.rate())
    }
}

/// The limits are the same, whatever has come.
impl PartialEq for Rates {
    fn eq(&self, other: &Rates) -> bool {
        let rates = |it: &Rates| (it.of_client, it.connection_rate());
        rates(self) == rates(other)
    }
}

impl Eq for Rates {}

/// The proxies of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxies {
    /// Where they come from. Of a Unix socket, the file says who may connect.
    pub networks: Arc<[Network]>,
    /// They say by the common name of a client's certificate which user it is.
    pub name_users: bool,
}

/// The rights of the file of a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileAccess {
    /// As `chmod` takes it: who may write to the file may connect.
    pub mode: u32,
    /// `None`: those of the process.
    pub owner: Option<Owner>,
}

/// Who owns a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: Option<u32>,
}

impl Default for FileAccess {
    fn default() -> FileAccess {
        FileAccess { mode: 0o660, owner: None }
    }
}

/// Where clients reach a listener.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// With port 0 the system picks a port.
    Ip(SocketAddr),
    /// A Unix socket in the file system.
    Unix(Arc<Path>),
}

impl Address {
    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        match self {
            Address::Ip(address) => address.ip().is_loopback(),
            Address::Unix(_) => true,
        }
    }

    /// The address in the network, if it is one.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Address::Ip(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Ip(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What clients of a listener speak below MQTT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    WebSocket(HandshakePolicy),
    Tls(ServerTls),
    SecureWebSocket(ServerTls, HandshakePolicy),
}

impl Listener {
    /// A listener for MQTT directly over TCP.
    pub fn tcp(address: SocketAddr) -> Listener {
        Listener::new(address.into(), Protocol::Tcp)
    }

    /// A listener for MQTT over a Unix socket.
    pub fn unix(path: Arc<Path>, file: FileAccess) -> Listener {
        Listener { file, ..Listener::new(Address::Unix(path), Protocol::Tcp) }
    }

    /// A listener for MQTT over TLS.
    pub fn tls(address: SocketAddr, server: ServerTls) -> Listener {
        Listener::new(address.into(), Protocol::Tls(server))
    }

    pub fn websocket(address: SocketAddr, policy: HandshakePolicy) -> Listener {
        let policy = HandshakePolicy { is_loopback: address.ip().is_loopback(), ..policy };
        Listener::new(address.into(), Protocol::WebSocket(policy))
    }

    /// A listener for MQTT over WebSocket over TLS.
    pub fn secure_websocket(
        address: SocketAddr,
        server: &ServerTls,
        policy: HandshakePolicy,
    ) -> Listener {
        let policy = HandshakePolicy { is_loopback: address.ip().is_loopback(), ..policy };
        let protocol = Protocol::SecureWebSocket(server.for_websocket(), policy);
        Listener::new(address.into(), protocol)
    }

    fn new(address: Address, protocol: Protocol) -> Listener {
        let (anonymous, file, proxies) = (None, FileAccess::default(), None);
        Listener { address, protocol, anonymous, file, proxies, rates: Rates::default() }
    }

    /// The same listener for these proxies: through them, clients of other machines come.
    #[must_use]
    pub fn behind(mut self, proxies: Proxies) -> Listener {
        if let Protocol::WebSocket(policy) | Protocol::SecureWebSocket(_, policy) =
            &mut self.protocol
        {
            policy.is_loopback = false;
        }
        Listener { proxies: Some(proxies), ..self }
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.address.is_loopback() && self.proxies.is_none()
    }

    /// Whether the peer at this address is none of the proxies that the listener is for.
    pub fn is_for_others_than(&self, peer: IpAddr) -> bool {
        let is_network = self.address.ip().is_some();
        let knows = |it: &Proxies| it.networks.iter().any(|network| network.has(peer));
        is_network && self.proxies.as_ref().is_some_and(|proxies| !knows(proxies))
    }
}

/// All listeners that a broker has had, each in a place of its own. A connection names its listener
/// by the place, so a listener that was removed keeps it, and the address of a place never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listeners {
    places: Arc<[Place]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    listener: Listener,
    /// Whether it takes connections.
    open: bool,
}

impl From<Vec<Listener>> for Listeners {
    fn from(listeners: Vec<Listener>) -> Listeners {
        let place = |listener| Place { listener, open: true };
        Listeners { places: listeners.into_iter().map(place).collect() }
    }
}

impl Listeners {
    /// The same places with these listeners open, and no others. A listener whose address has a
    /// place takes it; its other settings hold for later connections. `None`: the broker has had
    /// as many addresses as it can number.
    pub fn renewed(&self, wanted: Vec<Listener>) -> Option<Listeners> {
        let mut places = self.places.to_vec();
        for place in &mut places {
            place.open = false;
        }
        for listener in wanted {
            // An address with port 0 may be wanted more than once.
            let is_free =
                |place: &&mut Place| !place.open && place.listener.address == listener.address;
            match places.iter_mut().find(is_free) {
                Some(place) => *place = Place { listener, open: true },
                None => places.push(Place { listener, open: true }),
            }
        }
        let fits = u16::try_from(places.len()).is_ok();
        fits.then(|| Listeners { places: places.into() })
    }

    /// The listener in this place, if there has been one.
    pub fn get(&self, place: u16) -> Option<&Listener> {
        self.places.get(usize::from(place)).map(|place| &place.listener)
    }

    /// Whether the listener in this place takes connections.
    pub fn is_open(&self, place: u16) -> bool {
        self.places.get(usize::from(place)).is_some_and(|place| place.open)
    }

    /// All places with their listeners, removed ones too.
    pub fn all(&self) -> impl Iterator<Item = (u16, &Listener)> {
        (0..).zip(self.places.iter().map(|place| &place.listener))
    }

    /// Those that take connections.
    pub fn open(&self) -> impl Iterator<Item = (u16, &Listener)> {
        self.all().filter(|&(place, _)| self.is_open(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listeners(ports: &[u16]) -> Vec<Listener> {
        ports.iter().map(|&port| Listener::tcp(([127, 0, 0, 1], port).into())).collect()
    }

    fn open(listeners: &Listeners) -> Vec<(u16, u16)> {
        let port = |listener: &Listener| listener.address.ip().unwrap().port();
        listeners.open().map(|(place, listener)| (place, port(listener))).collect()
    }

    #[test]
    fn a_listener_keeps_its_place_whatever_comes_and_goes() {
        let first = Listeners::from(listeners(&[1, 2, 3]));
        let second = first.renewed(listeners(&[4, 3, 1])).unwrap();
        assert_eq!(open(&second), [(0, 1), (2, 3), (3, 4)]);
        assert_eq!(second.get(1).unwrap().address.ip().unwrap().port(), 2);
        assert!(!second.is_open(1) && !second.is_open(9));
        let third = second.renewed(listeners(&[2])).unwrap();
        assert_eq!((open(&third), third.all().count()), (vec![(1, 2)], 4));
        assert!(third.get(4).is_none());
    }

    #[test]
    fn other_settings_of_an_address_take_its_place() {
        let address = ([127, 0, 0, 1], 1).into();
        let first = Listeners::from(listeners(&[1, 2]));
        let websocket = Listener::websocket(address, HandshakePolicy::default());
        let second = first.renewed(vec![websocket.clone()]).unwrap();
        assert_eq!(second.open().collect::<Vec<_>>(), [(0, &websocket)]);
    }

    #[test]
    fn a_listener_for_proxies_is_reached_by_their_clients_and_by_no_other_peer() {
        let networks = [Network::new([10, 0, 0, 0].into(), Some(8)).unwrap()].into();
        let proxies = Proxies { networks, name_users: false };
        let peers = ["10.1.2.3", "127.0.0.1", "ff00::1"].map(|ip| ip.parse().unwrap());
        let address = ([127, 0, 0, 1], 1).into();
        let websocket = Listener::websocket(address, HandshakePolicy::default());
        let unix = Listener::unix(Path::new("/s").into(), FileAccess::default());
        for (listener, refused) in [(websocket, [false, true, true]), (unix, [false; 3])] {
            assert_eq!(peers.map(|peer| listener.is_for_others_than(peer)), [false; 3]);
            assert!(listener.is_loopback());
            let behind = listener.behind(proxies.clone());
            assert_eq!(peers.map(|peer| behind.is_for_others_than(peer)), refused);
            assert!(!behind.is_loopback());
            let Protocol::WebSocket(policy) = &behind.protocol else { continue };
            assert!(!policy.is_loopback);
        }
    }

    #[test]
    fn each_listener_on_port_0_has_a_place() {
        let first = Listeners::from(listeners(&[0, 0]));
        assert_eq!(open(&first.renewed(listeners(&[0, 0])).unwrap()), [(0, 0), (1, 0)]);
        assert_eq!(open(&first.renewed(listeners(&[0, 0, 0])).unwrap()).len(), 3);
        assert_eq!(open(&first.renewed(listeners(&[0])).unwrap()), [(0, 0)]);
    }

    #[test]
    fn there_are_no_more_places_than_numbers() {
        let many: Vec<u16> = (1..=u16::MAX).collect();
        let first = Listeners::from(listeners(&many));
        assert!(first.renewed(listeners(&many)).is_some());
        assert!(first.renewed(listeners(&[0])).is_none());
    }
}
