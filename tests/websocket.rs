//! MQTT over WebSocket, with the broker as its users start it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "the foreign clients' tests use the rest of it")]
mod broker;
#[path = "support/websocket.rs"]
#[expect(dead_code, reason = "the tests of the runtime use the rest of it")]
mod websocket;

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use broker::Broker;
use ringmq::mqtt::{
    Connect, Delivery, Packet, PacketId, Publish, PublishProperties, QoS, ReasonCode, Subscribe,
    SubscribeFilters, SubscriptionOptions, UserProperties, Version, frame,
};
use websocket::{BINARY, CLOSE, REQUEST, WebSocket, request};

fn address(broker: &Broker) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, broker.websocket_port().unwrap()))
}

/// A client of MQTT 5.0 that sends each packet in a frame of its own.
struct Client {
    websocket: WebSocket,
    unread: Vec<u8>,
}

impl Client {
    fn connect(broker: &Broker, client_id: &str) -> Client {
        let mut client = Client { websocket: WebSocket::open(address(broker)), unread: Vec::new() };
        client.send(&Packet::Connect(Connect::new(Version::V5, client_id)));
        let accepted = client.next(
            |packet| matches!(packet, Packet::Connack(it) if it.reason_code == ReasonCode::Success),
        );
        assert_eq!(accepted, Ok(true));
        client
    }

    fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(Version::V5, &mut bytes);
        self.websocket.send(bytes);
    }

    fn subscribe(&mut self, filter: &str) {
        let filters = [(filter, SubscriptionOptions::with_qos(QoS::AtLeastOnce))];
        self.send(&Packet::Subscribe(Subscribe {
            packet_id: PacketId::MIN,
            subscription_identifier: None,
            user_properties: UserProperties::default(),
            filters: SubscribeFilters::List(&filters[..]),
        }));
        assert_eq!(self.next(|packet| matches!(packet, Packet::Suback(_))), Ok(true));
    }

    fn publish(&mut self, topic: &str, payload: &[u8]) {
        self.send(&Packet::Publish(Publish {
            dup: false,
            retain: false,
            delivery: Delivery::AtMostOnce,
            topic,
            properties: PublishProperties::default(),
            payload,
        }));
    }

    /// Looks at the next packet, or says with which code the WebSocket was closed.
    fn next<T>(&mut self, look: impl FnOnce(Packet<'_>) -> T) -> Result<T, u16> {
        loop {
            if let Some(frame) = frame::split(&self.unread, usize::MAX).unwrap() {
                let len = frame.len;
                let seen = look(Packet::decode(frame, Version::V5).unwrap());
                self.unread.drain(..len);
                return Ok(seen);
            }
            match self.websocket.next_frame() {
                Some((BINARY, payload)) => self.unread.extend(payload),
                Some((CLOSE, code)) => {
                    assert_eq!(self.websocket.next_frame(), None);
                    return Err(u16::from_be_bytes(code.try_into().unwrap()));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// The topic and the payload of the next packet, which is a PUBLISH.
    fn message(&mut self) -> (String, Vec<u8>) {
        let message = self.next(|packet| match packet {
            Packet::Publish(publish) => (publish.topic.to_owned(), publish.payload.to_vec()),
            other => panic!("{other:?}"),
        });
        message.unwrap()
    }
}

/// [MQTT-6.0.0-1] [MQTT-6.0.0-1@3.1.1]
#[test]
fn messages_go_from_websocket_to_websocket_across_shards() {
    for shards in [1, 2] {
        let broker = Broker::ringmq_with_websocket(shards, &[]);
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let mut clients = names.map(|name| Client::connect(&broker, name));
        for (client, name) in clients.iter_mut().zip(names) {
            client.subscribe(&format!("to/{name}"));
            client.subscribe("to/all");
        }
        let large: Vec<u8> = (0..=250).cycle().take(300_000).collect();
        for sender in 0..clients.len() {
            let receiver = (sender + 1) % clients.len();
            let topic = format!("to/{}", names[receiver]);
            for payload in [&b""[..], b"small", &large] {
                clients[sender].publish(&topic, payload);
                assert_eq!(clients[receiver].message(), (topic.clone(), payload.to_vec()));
            }
            clients[sender].publish("to/all", b"hello");
            for client in &mut clients {
                assert_eq!(client.message(), ("to/all".to_owned(), b"hello".to_vec()));
            }
        }
        broker.stop();
    }
}

#[test]
fn a_connection_that_ends_says_why_in_both_languages() {
    let mut broker = Broker::ringmq_with_websocket(2, &[]);
    let mut first = Client::connect(&broker, "same");
    let mut second = Client::connect(&broker, "same");
    let mut third = Client::connect(&broker, "other");
    let disconnect = |packet: Packet<'_>| match packet {
        Packet::Disconnect(disconnect) => disconnect.reason_code,
        other => panic!("{other:?}"),
    };
    assert_eq!(first.next(disconnect), Ok(ReasonCode::SessionTakenOver));
    assert_eq!(first.next(disconnect), Err(1000));
    third.websocket.send([0x00, 0x00]);
    assert_eq!(third.next(disconnect), Ok(ReasonCode::MalformedPacket));
    assert_eq!(third.next(disconnect), Err(1000));
    broker.ask_to_stop();
    assert_eq!(second.next(disconnect), Ok(ReasonCode::ServerShuttingDown));
    assert_eq!(second.next(disconnect), Err(1001));
    drop((first, second, third));
    broker.await_end();
}

#[test]
fn the_connect_timeout_is_for_the_handshake_too() {
    let broker = Broker::ringmq_with_websocket(2, &["--connect-timeout", "1"]);
    let mut silent = WebSocket::connect(address(&broker));
    let mut slow = WebSocket::connect(address(&broker));
    slow.say("GET /mqtt HTTP/1.1\r\nHost:");
    let mut open = WebSocket::open(address(&broker));
    assert_eq!((silent.next_frame(), slow.next_frame(), open.next_frame()), (None, None, None));
    broker.stop();
}

#[test]
fn refused_handshakes_and_frames_are_counted_under_sys() {
    let flags = ["--sys-interval", "1", "--websocket-path", "/mqtt"];
    let broker = Broker::ringmq_with_websocket(2, &flags);
    for path in ["/", "/other", "/mqtt/"] {
        let mut lines = REQUEST.to_vec();
        let line = format!("GET {path} HTTP/1.1");
        lines[0] = &line;
        let mut client = WebSocket::connect(address(&broker));
        client.say(request(&lines));
        assert!(client.http_head().starts_with("HTTP/1.1 404 "));
    }
    let mut text = WebSocket::open(address(&broker));
    text.say(websocket::frame(websocket::TEXT, b"text"));
    text.is_closed_with(1003);
    let mut watcher = Client::connect(&broker, "watcher");
    watcher.subscribe("$SYS/broker/connections/#");
    let mut wanted =
        vec![("refused/websocket-handshake", &b"3"[..]), ("ended/websocket-frame", b"1")];
    while !wanted.is_empty() {
        let (topic, payload) = watcher.message();
        let name = topic.strip_prefix("$SYS/broker/connections/").unwrap();
        wanted.retain(|wanted| *wanted != (name, &payload[..]));
    }
    broker.stop();
}

#[test]
fn tcp_and_websocket_keep_to_their_listeners() {
    let broker = Broker::ringmq_with_websocket(1, &[]);
    // MQTT on the listener for WebSocket is answered in HTTP.
    let mut lost = WebSocket::connect(address(&broker));
    let mut connect = Vec::new();
    Packet::Connect(Connect::new(Version::V311, "lost")).encode(Version::V311, &mut connect);
    lost.say(&connect);
    assert!(lost.http_head().starts_with("HTTP/1.1 400 "));
    // HTTP on the listener for TCP is no packet.
    let plain = SocketAddr::from((Ipv4Addr::LOCALHOST, broker.port()));
    drop(TcpStream::connect(plain).unwrap());
    let mut lost = WebSocket::connect(plain);
    lost.say(request(REQUEST));
    assert_eq!(lost.next_frame(), None);
    broker.stop();
}
