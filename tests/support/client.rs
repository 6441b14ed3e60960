//! A client in packets and bytes, of a broker in a process of its own.

use std::{
    fs,
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

use ringmq::mqtt::{
    Connect, Packet, PacketId, QoS, ReasonCode, Subscribe, SubscribeFilters, SubscriptionOptions,
    UserProperties, Version, frame,
};

use crate::{broker::Broker, source::connect_from};

const PATIENCE: Duration = Duration::from_secs(20);

/// A client that says exactly what it is told to.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    version: Version,
    unread: Vec<u8>,
}

impl Client {
    pub(crate) fn open(broker: &Broker, version: Version) -> Client {
        Client::open_from(broker.port(), version, [127, 0, 0, 1])
    }

    /// From this address of the machine.
    pub(crate) fn open_from(port: u16, version: Version, ip: [u8; 4]) -> Client {
        Client::try_open_from(port, version, ip).unwrap()
    }

    /// An error: the broker has closed the connection at once.
    pub(crate) fn try_open_from(port: u16, version: Version, ip: [u8; 4]) -> io::Result<Client> {
        let stream = connect_from(ip.into(), port, PATIENCE)?;
        Ok(Client { stream, version, unread: Vec::new() })
    }

    pub(crate) fn connect(broker: &Broker, version: Version, client_id: &str) -> Client {
        let mut client = Client::open(broker, version);
        client.send(&connect(version, client_id));
        let connack = client.next(
            |packet| matches!(packet, Packet::Connack(c) if c.reason_code == ReasonCode::Success),
        );
        assert_eq!(connack, Some(true));
        client
    }

    pub(crate) fn subscribe(&mut self, filter: &str, qos: QoS) {
        let version = self.version;
        self.send(&subscribe(version, filter, qos));
        assert_eq!(self.next(|packet| matches!(packet, Packet::Suback(_))), Some(true));
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Looks at the next packet; `None` when the broker has closed the connection.
    pub(crate) fn next<T>(&mut self, look: impl FnOnce(Packet<'_>) -> T) -> Option<T> {
        loop {
            if let Some(frame) = frame::split(&self.unread, usize::MAX).unwrap() {
                let len = frame.len;
                let seen = look(Packet::decode(frame, self.version).unwrap());
                self.unread.drain(..len);
                return Some(seen);
            }
            let mut bytes = [0; 16 << 10];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Ok(len) => self.unread.extend_from_slice(&bytes[..len]),
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    /// A round trip: what was sent before it has been handled.
    pub(crate) fn ping(&mut self) {
        self.send(&[0xC0, 0]);
        assert_eq!(self.next(|packet| matches!(packet, Packet::Pingresp)), Some(true));
    }
}

pub(crate) fn encode(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes);
    bytes
}

pub(crate) fn connect(version: Version, client_id: &str) -> Vec<u8> {
    encode(&Packet::Connect(Connect::new(version, client_id)), version)
}

pub(crate) fn subscribe(version: Version, filter: &str, qos: QoS) -> Vec<u8> {
    let filters = [(filter, SubscriptionOptions::with_qos(qos))];
    let subscribe = Subscribe {
        packet_id: PacketId::MIN,
        subscription_identifier: None,
        user_properties: UserProperties::default(),
        filters: SubscribeFilters::List(&filters[..]),
    };
    encode(&Packet::Subscribe(subscribe), version)
}

/// Resident memory of the broker in KiB.
pub(crate) fn resident(broker: &Broker) -> u64 {
    memory(broker, "VmRSS:")
}

/// A figure of the broker's memory in KiB, by its name in `/proc/PID/status`.
pub(crate) fn memory(broker: &Broker, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", broker.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}
