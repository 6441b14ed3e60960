//! Debian's mosquitto bridging to ringmq, and clients of both: what is published at one is read at
//! the other, once, whichever of them starts again. `scripts/test.sh` installs mosquitto.

#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "other tests ask more of it")]
mod broker;
#[path = "foreign/dialects.rs"]
#[expect(dead_code, reason = "other tests ask more of it")]
mod dialects;
#[path = "foreign/peer.rs"]
#[expect(dead_code, reason = "other tests ask more of it")]
mod peer;

use std::{fs, path::PathBuf, time::Duration};

use broker::Broker;
use dialects::{Message, Options, V311};
use peer::Peer;
use rumqttc::QoS;

type Client = Peer<V311>;

const MESSAGES: usize = 50;

#[test]
fn a_bridge_of_3_1_brings_everything_once() {
    drive("mqttv31", true);
}

#[test]
fn a_bridge_of_3_1_1_brings_everything_once() {
    drive("mqttv311", true);
}

#[test]
fn a_bridge_of_5_0_brings_everything_once() {
    drive("mqttv50", true);
}

#[test]
fn a_bridge_of_3_1_without_notifications_brings_everything_once() {
    drive("mqttv31", false);
}

#[test]
fn a_bridge_of_3_1_1_without_notifications_brings_everything_once() {
    drive("mqttv311", false);
}

#[test]
fn a_bridge_of_5_0_without_notifications_brings_everything_once() {
    drive("mqttv50", false);
}

fn drive(protocol: &str, notifies: bool) {
    let mut bridge = Bridge::start(protocol, notifies);
    bridge.carries_everything_once("first");
    bridge.restart_mosquitto();
    bridge.carries_everything_once("second");
    bridge.restart_ringmq();
    bridge.carries_everything_once("third");
    bridge.mosquitto.stop();
    bridge.ringmq.stop();
}

/// Both brokers.
struct Bridge {
    ringmq: Broker,
    mosquitto: Broker,
    /// What mosquitto is told of the bridge, and of the folder in which it keeps its sessions.
    lines: String,
    notifies: bool,
    /// The bridge's session at ringmq outlives its connection.
    lasts: bool,
}

impl Bridge {
    fn start(protocol: &str, notifies: bool) -> Bridge {
        let ringmq = Broker::ringmq(2);
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("bridge-{protocol}-{notifies}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("the folder for temporary files is writable");
        let notifications = if notifies { "" } else { "notifications false\n" };
        let lines = format!(
            "user root\npersistence true\npersistence_location {}/\n\
             connection bridge\naddress 127.0.0.1:{}\nbridge_protocol_version {protocol}\n\
             cleansession false\nrestart_timeout 1\n\
             topic down/# in 1\ntopic up/# out 1\ntopic both/# both 1\n{notifications}",
            folder.display(),
            ringmq.port()
        );
        let mosquitto = Broker::mosquitto_with(&lines);
        // Mosquitto 2.0 sends no Session Expiry Interval: in 5.0 its session ends with it.
        let lasts = protocol != "mqttv50";
        Bridge { ringmq, mosquitto, lines, notifies, lasts }
    }

    /// Both ways, by each of the three rules, as many messages as were sent, in their order.
    fn carries_everything_once(&self, round: &str) {
        self.is_subscribed(round);
        let (ringmq, mosquitto) = (&self.ringmq, &self.mosquitto);
        carries(ringmq, mosquitto, &format!("down/{round}"));
        carries(mosquitto, ringmq, &format!("up/{round}"));
        for (from, to, way) in [(ringmq, mosquitto, "there"), (mosquitto, ringmq, "back")] {
            let topic = format!("both/{round}/{way}");
            let near = carries(from, to, &topic);
            comes_back_once(near, to, from, &topic);
        }
    }

    /// The bridge has subscribed when it brings what is retained; and says that it is connected.
    fn is_subscribed(&self, round: &str) {
        let ready = Message { retain: true, ..message("down/ready", round) };
        let mut writer = client(&self.ringmq, "ready-writer", false);
        writer.publish(&ready);
        writer.leave();
        let mut reader = client(&self.mosquitto, "ready-reader", false);
        reader.subscribe("down/ready", QoS::AtLeastOnce);
        while reader.receive().payload != ready.payload {}
        reader.vanish();
        if self.notifies {
            let mut watcher = client(&self.ringmq, "watcher", false);
            watcher.subscribe("$SYS/broker/connection/+/state", QoS::AtLeastOnce);
            let state = watcher.receive();
            assert_eq!((&state.payload[..], state.retain), (&b"1"[..], true), "{}", state.topic);
            watcher.leave();
        }
    }

    /// What is published here meanwhile waits for a bridge whose session lasts.
    fn restart_mosquitto(&mut self) {
        let mut reader = client(&self.mosquitto, "lasting", true);
        reader.subscribe("down/meanwhile", QoS::AtLeastOnce);
        reader.leave();
        self.mosquitto.ask_to_stop();
        self.mosquitto.await_end();
        let mut writer = client(&self.ringmq, "writer", false);
        writer.publish_all(&messages("down/meanwhile"));
        writer.leave();
        self.mosquitto = Broker::mosquitto_with(&self.lines);
        let mut reader = client(&self.mosquitto, "lasting", true);
        assert!(reader.session_present);
        if self.lasts {
            reads(&mut reader, "down/meanwhile");
        }
        reader.leave();
    }

    /// What is published there meanwhile waits, too. Mosquitto is stopped until it has a reader
    /// here.
    fn restart_ringmq(&mut self) {
        let port = self.ringmq.port();
        self.ringmq.ask_to_stop();
        self.ringmq.await_end();
        let mut writer = client(&self.mosquitto, "writer", false);
        writer.publish_all(&messages("up/meanwhile"));
        writer.leave();
        self.mosquitto.signal("STOP");
        self.ringmq = Broker::ringmq_at(2, &format!("127.0.0.1:{port}"), &[]);
        let mut reader = client(&self.ringmq, "reader", false);
        reader.subscribe("up/meanwhile", QoS::AtLeastOnce);
        self.mosquitto.signal("CONT");
        reads(&mut reader, "up/meanwhile");
        reader.leave();
    }
}

/// Publishes at one broker, and reads at both of them. The reader at the first is given back.
fn carries(from: &Broker, to: &Broker, topic: &str) -> Client {
    let [mut near, mut far] = [(from, "near"), (to, "far")].map(|(broker, role)| {
        let mut reader = client(broker, role, false);
        reader.subscribe(topic, QoS::AtLeastOnce);
        reader
    });
    let mut writer = client(from, "writer", false);
    writer.publish_all(&messages(topic));
    reads(&mut near, topic);
    reads(&mut far, topic);
    far.leave();
    writer.leave();
    near
}

/// What goes the other way after it comes next: nothing of it has been sent back.
fn comes_back_once(mut near: Client, from: &Broker, to: &Broker, topic: &str) {
    let mut far = client(from, "far", false);
    far.subscribe(topic, QoS::AtLeastOnce);
    let last = message(topic, "last");
    let mut writer = client(from, "writer", false);
    writer.publish(&last);
    near.receives(&last);
    far.receives(&last);
    let [mut writer_there, again] = [client(to, "writer-there", false), writer];
    let end = message(topic, "end");
    writer_there.publish(&end);
    near.receives(&end);
    far.receives(&end);
    for client in [near, far, again, writer_there] {
        client.leave();
    }
}

fn reads(reader: &mut Client, topic: &str) {
    for message in messages(topic) {
        reader.receives(&message);
    }
}

fn messages(topic: &str) -> Vec<Message> {
    (0..MESSAGES).map(|n| message(topic, &n.to_string())).collect()
}

fn message(topic: &str, payload: &str) -> Message {
    Message { topic: topic.into(), payload: payload.into(), qos: QoS::AtLeastOnce, retain: false }
}

fn client(broker: &Broker, role: &str, persistent: bool) -> Client {
    Client::connect(Options {
        port: broker.port(),
        client_id: role.into(),
        persistent,
        will: None,
        keep_alive: Duration::from_secs(30),
    })
}
