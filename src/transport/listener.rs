//! A listener: one value that flags make, and that runtime and shards use; and all of them, while
//! they come and go.

use std::{net::SocketAddr, sync::Arc};

use super::{tls::ServerTls, websocket::HandshakePolicy};

/// One place where clients connect, with everything that holds for all of its connections.
///
/// A connection refers to its listener by the place in the list of all listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// With port 0 the system picks a port.
    pub address: SocketAddr,
    pub protocol: Protocol,
    /// Whether clients without authentication are let in, if that differs from other listeners.
    pub anonymous: Option<bool>,
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
        Listener { address, protocol: Protocol::Tcp, anonymous: None }
    }

    /// A listener for MQTT over TLS.
    pub fn tls(address: SocketAddr, server: ServerTls) -> Listener {
        Listener { address, protocol: Protocol::Tls(server), anonymous: None }
    }

    pub fn websocket(address: SocketAddr, policy: HandshakePolicy) -> Listener {
        let policy = HandshakePolicy { is_loopback: address.ip().is_loopback(), ..policy };
        Listener { address, protocol: Protocol::WebSocket(policy), anonymous: None }
    }

    /// A listener for MQTT over WebSocket over TLS.
    pub fn secure_websocket(
        address: SocketAddr,
        server: &ServerTls,
        policy: HandshakePolicy,
    ) -> Listener {
        let policy = HandshakePolicy { is_loopback: address.ip().is_loopback(), ..policy };
        let protocol = Protocol::SecureWebSocket(server.for_websocket(), policy);
        Listener { address, protocol, anonymous: None }
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.address.ip().is_loopback()
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
        listeners.open().map(|(place, listener)| (place, listener.address.port())).collect()
    }

    #[test]
    fn a_listener_keeps_its_place_whatever_comes_and_goes() {
        let first = Listeners::from(listeners(&[1, 2, 3]));
        let second = first.renewed(listeners(&[4, 3, 1])).unwrap();
        assert_eq!(open(&second), [(0, 1), (2, 3), (3, 4)]);
        assert_eq!(second.get(1).unwrap().address.port(), 2);
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
