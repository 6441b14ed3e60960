//! rumqttc's two clients, one per version of MQTT, behind one trait.
//!
//! It translates; what is asked and what is expected stands with the scenarios.

use std::time::Duration;

use rumqttc::v5::mqttbytes::v5 as v5_packets;
use rumqttc::{Outgoing, QoS, v5};

/// What a client tells of its connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Connected {
        session_present: bool,
        assigned_client_identifier: Option<String>,
    },
    Granted(Vec<QoS>),
    Unsubscribed,
    /// A PUBLISH of ours is on its way.
    Sent,
    /// A PUBLISH of ours is the broker's.
    Acknowledged,
    Received(Message),
    Pong,
    /// Our DISCONNECT is on its way.
    Disconnecting,
    Ended {
        taken_over: bool,
    },
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) port: u16,
    pub(crate) client_id: String,
    pub(crate) persistent: bool,
    /// Topic and payload, at QoS 1.
    pub(crate) will: Option<(String, &'static str)>,
    pub(crate) keep_alive: Duration,
}

pub(crate) trait Dialect: Sized + Send + 'static {
    const VERSION: &str;
    /// The shortest that this client allows, above one second.
    const KEEP_ALIVE: Duration;
    /// 3.1.1 has no way of saying why the server ends a connection.
    const SERVER_SAYS_WHY: bool;

    fn open(options: Options) -> Self;
    /// The next event, or `None` if there is none for as long as `patience`.
    fn next_event(&mut self, patience: Duration) -> Option<Event>;
    fn publish(&self, message: &Message);
    fn subscribe(&self, topic_filter: &str, qos: QoS);
    fn unsubscribe(&self, topic_filter: &str);
    fn disconnect(&self);
}

pub(crate) struct V311 {
    client: rumqttc::Client,
    connection: rumqttc::Connection,
}

impl Dialect for V311 {
    const VERSION: &str = "3.1.1";
    const KEEP_ALIVE: Duration = Duration::from_secs(2);
    const SERVER_SAYS_WHY: bool = false;

    fn open(options: Options) -> Self {
        let mut ours = rumqttc::MqttOptions::new(options.client_id, LOCALHOST, options.port);
        ours.set_clean_session(!options.persistent)
            .set_keep_alive(options.keep_alive)
            .set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
        if let Some((topic, payload)) = options.will {
            ours.set_last_will(rumqttc::LastWill::new(topic, payload, QoS::AtLeastOnce, false));
        }
        let (client, connection) = rumqttc::Client::new(ours, REQUESTS_MAX);
        Self { client, connection }
    }

    fn next_event(&mut self, patience: Duration) -> Option<Event> {
        Some(match self.connection.recv_timeout(patience).ok()? {
            Ok(rumqttc::Event::Incoming(packet)) => incoming_v311(packet),
            Ok(rumqttc::Event::Outgoing(outgoing)) => outgoing_event(&outgoing),
            Err(_) => Event::Ended { taken_over: false },
        })
    }

    fn publish(&self, message: &Message) {
        let Message { topic, payload, qos, retain } = message.clone();
        self.client.publish(topic, qos, retain, payload).expect("a request is taken");
    }

    fn subscribe(&self, topic_filter: &str, qos: QoS) {
        self.client.subscribe(topic_filter, qos).expect("a request is taken");
    }

    fn unsubscribe(&self, topic_filter: &str) {
        self.client.unsubscribe(topic_filter).expect("a request is taken");
    }

    fn disconnect(&self) {
        self.client.disconnect().expect("a request is taken");
    }
}

fn incoming_v311(packet: rumqttc::Packet) -> Event {
    use rumqttc::{Packet, SubscribeReasonCode};
    match packet {
        Packet::ConnAck(connack) => Event::Connected {
            session_present: connack.session_present,
            assigned_client_identifier: None,
        },
        Packet::SubAck(suback) => Event::Granted(
            suback
                .return_codes
                .into_iter()
                .filter_map(|code| match code {
                    SubscribeReasonCode::Success(qos) => Some(qos),
                    SubscribeReasonCode::Failure => None,
                })
                .collect(),
        ),
        Packet::UnsubAck(_) => Event::Unsubscribed,
        Packet::PubAck(_) | Packet::PubComp(_) => Event::Acknowledged,
        Packet::Publish(publish) => Event::Received(Message {
            topic: publish.topic,
            payload: publish.payload.to_vec(),
            qos: publish.qos,
            retain: publish.retain,
        }),
        Packet::PingResp => Event::Pong,
        _ => Event::Other,
    }
}

pub(crate) struct V5 {
    client: v5::Client,
    connection: v5::Connection,
}

impl Dialect for V5 {
    const VERSION: &str = "5.0";
    const KEEP_ALIVE: Duration = Duration::from_secs(5);
    const SERVER_SAYS_WHY: bool = true;

    fn open(options: Options) -> Self {
        let mut ours = v5::MqttOptions::new(options.client_id, LOCALHOST, options.port);
        ours.set_clean_start(!options.persistent)
            .set_keep_alive(options.keep_alive)
            .set_session_expiry_interval(options.persistent.then_some(3600))
            .set_max_packet_size(u32::try_from(PACKET_BYTES_MAX).ok());
        if let Some((topic, payload)) = options.will {
            let will = v5_packets::LastWill::new(
                topic,
                payload,
                v5::mqttbytes::QoS::AtLeastOnce,
                false,
                None,
            );
            ours.set_last_will(will);
        }
        let (client, connection) = v5::Client::new(ours, REQUESTS_MAX);
        Self { client, connection }
    }

    fn next_event(&mut self, patience: Duration) -> Option<Event> {
        Some(match self.connection.recv_timeout(patience).ok()? {
            Ok(v5::Event::Incoming(packet)) => incoming_v5(packet),
            Ok(v5::Event::Outgoing(outgoing)) => outgoing_event(&outgoing),
            Err(error) => Event::Ended { taken_over: is_taken_over(&error) },
        })
    }

    fn publish(&self, message: &Message) {
        let Message { topic, payload, qos, retain } = message.clone();
        self.client.publish(topic, to_v5(qos), retain, payload).expect("a request is taken");
    }

    fn subscribe(&self, topic_filter: &str, qos: QoS) {
        self.client.subscribe(topic_filter, to_v5(qos)).expect("a request is taken");
    }

    fn unsubscribe(&self, topic_filter: &str) {
        self.client.unsubscribe(topic_filter).expect("a request is taken");
    }

    fn disconnect(&self) {
        self.client.disconnect().expect("a request is taken");
    }
}

fn incoming_v5(packet: v5_packets::Packet) -> Event {
    use v5_packets::{Packet, SubscribeReasonCode};
    match packet {
        Packet::ConnAck(connack) => Event::Connected {
            session_present: connack.session_present,
            assigned_client_identifier: connack
                .properties
                .and_then(|properties| properties.assigned_client_identifier),
        },
        Packet::SubAck(suback) => Event::Granted(
            suback
                .return_codes
                .into_iter()
                .filter_map(|code| match code {
                    SubscribeReasonCode::Success(qos) => Some(from_v5(qos)),
                    _ => None,
                })
                .collect(),
        ),
        Packet::UnsubAck(_) => Event::Unsubscribed,
        Packet::PubAck(_) | Packet::PubComp(_) => Event::Acknowledged,
        Packet::Publish(publish) => Event::Received(Message {
            topic: String::from_utf8(publish.topic.to_vec()).expect("a Topic Name is UTF-8"),
            payload: publish.payload.to_vec(),
            qos: from_v5(publish.qos),
            retain: publish.retain,
        }),
        Packet::PingResp(_) => Event::Pong,
        _ => Event::Other,
    }
}

fn is_taken_over(error: &v5::ConnectionError) -> bool {
    use v5_packets::DisconnectReasonCode::SessionTakenOver;
    matches!(
        error,
        v5::ConnectionError::MqttState(v5::StateError::ServerDisconnect {
            reason_code: SessionTakenOver,
            ..
        })
    )
}

fn outgoing_event(outgoing: &Outgoing) -> Event {
    match outgoing {
        Outgoing::Publish(_) => Event::Sent,
        Outgoing::Disconnect => Event::Disconnecting,
        _ => Event::Other,
    }
}

fn to_v5(qos: QoS) -> v5::mqttbytes::QoS {
    match qos {
        QoS::AtMostOnce => v5::mqttbytes::QoS::AtMostOnce,
        QoS::AtLeastOnce => v5::mqttbytes::QoS::AtLeastOnce,
        QoS::ExactlyOnce => v5::mqttbytes::QoS::ExactlyOnce,
    }
}

fn from_v5(qos: v5::mqttbytes::QoS) -> QoS {
    match qos {
        v5::mqttbytes::QoS::AtMostOnce => QoS::AtMostOnce,
        v5::mqttbytes::QoS::AtLeastOnce => QoS::AtLeastOnce,
        v5::mqttbytes::QoS::ExactlyOnce => QoS::ExactlyOnce,
    }
}

const LOCALHOST: &str = "127.0.0.1";
const PACKET_BYTES_MAX: usize = 1 << 20;
const REQUESTS_MAX: usize = 64;
