//! Drives a broker with rumqttc, in MQTT 3.1.1 and 5.0.

use std::thread;
use std::time::Duration;

use rumqttc::QoS;

use crate::broker::{Broker, Kind};
use crate::dialects::{Dialect, Message, Options, V5, V311};
use crate::peer::Peer;

pub(crate) fn drive(broker: &Broker) {
    let [old, new] =
        [Place::new::<V311>(broker, "keep-alive"), Place::new::<V5>(broker, "keep-alive")];
    thread::scope(|threads| {
        threads.spawn(|| keep_alive::<V311>(&old));
        threads.spawn(|| keep_alive::<V5>(&new));
        drive_dialect::<V311>(broker);
        drive_dialect::<V5>(broker);
    });
}

fn drive_dialect<D: Dialect>(broker: &Broker) {
    let place = |scenario: &str| Place::new::<D>(broker, scenario);
    connect::<D>(&place("connect"));
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        messages_arrive_in_order::<D>(&place(&format!("qos-{}", qos as u8)), qos);
    }
    retained::<D>(&place("retained"));
    will::<D>(&place("will"));
    resume::<D>(&place("resume"));
    wildcards::<D>(&place("wildcards"));
    unsubscribe::<D>(&place("unsubscribe"));
    takeover::<D>(&place("takeover"), broker.kind());
}

/// Where a scenario happens: a broker, and topics and Client Identifiers of its own.
struct Place {
    port: u16,
    name: String,
}

impl Place {
    fn new<D: Dialect>(broker: &Broker, scenario: &str) -> Self {
        Self { port: broker.port(), name: format!("{}-{scenario}", D::VERSION) }
    }

    fn topic(&self, rest: &str) -> String {
        format!("rumqttc/{}/{rest}", self.name)
    }

    fn message(&self, topic: &str, qos: QoS, payload: impl Into<Vec<u8>>) -> Message {
        Message { topic: self.topic(topic), payload: payload.into(), qos, retain: false }
    }

    fn options(&self, role: &str) -> Options {
        Options {
            port: self.port,
            client_id: format!("{}-{role}", self.name),
            persistent: false,
            will: None,
            keep_alive: Duration::from_mins(1),
        }
    }

    fn peer<D: Dialect>(&self, role: &str) -> Peer<D> {
        Peer::connect(self.options(role))
    }

    fn persistent_peer<D: Dialect>(&self, role: &str) -> Peer<D> {
        Peer::connect(Options { persistent: true, ..self.options(role) })
    }

    fn peer_with_will<D: Dialect>(&self, role: &str, payload: &'static str) -> Peer<D> {
        let will = Some((self.topic(role), payload));
        Peer::connect(Options { will, ..self.options(role) })
    }
}

/// A client that says nothing but PINGREQ while the other scenarios run.
fn keep_alive<D: Dialect>(place: &Place) {
    let mut idler: Peer<D> =
        Peer::connect(Options { keep_alive: D::KEEP_ALIVE, ..place.options("idler") });
    idler.subscribe(&place.topic("t"), QoS::AtLeastOnce);
    idler.hears_pong();
    let message = place.message("t", QoS::AtLeastOnce, "still here");
    idler.publish(&message);
    idler.receives(&message);
    idler.leave();
}

fn connect<D: Dialect>(place: &Place) {
    let named: Peer<D> = place.peer("a");
    assert!(!named.session_present);
    assert_eq!(named.assigned_client_identifier, None);
    named.leave();
    let nameless: Peer<D> =
        Peer::connect(Options { client_id: String::new(), ..place.options("") });
    // [MQTT-3.1.3-7]
    assert_eq!(nameless.assigned_client_identifier.is_some(), D::VERSION == "5.0");
    nameless.leave();
}

fn messages_arrive_in_order<D: Dialect>(place: &Place, qos: QoS) {
    let [mut alice, mut bob]: [Peer<D>; 2] = [place.peer("alice"), place.peer("bob")];
    alice.subscribe(&place.topic("to-alice"), qos);
    bob.subscribe(&place.topic("to-bob"), qos);
    sends_in_order(place, &mut alice, &mut bob, "to-bob", qos);
    sends_in_order(place, &mut bob, &mut alice, "to-alice", qos);
    alice.leave();
    bob.leave();
}

fn sends_in_order<D: Dialect>(
    place: &Place,
    sender: &mut Peer<D>,
    receiver: &mut Peer<D>,
    topic: &str,
    qos: QoS,
) {
    let large = || vec![b'x'; 100 * 1024];
    let counted = (0..20).map(|number| format!("{number:010}").into_bytes());
    let payloads = [vec![], large()].into_iter().chain(counted).chain([large(), vec![]]);
    let messages: Vec<_> = payloads.map(|payload| place.message(topic, qos, payload)).collect();
    sender.publish_all(&messages);
    for message in &messages {
        receiver.receives(message);
    }
}

fn retained<D: Dialect>(place: &Place) {
    let [mut alice, mut watcher]: [Peer<D>; 2] = [place.peer("alice"), place.peer("watcher")];
    watcher.subscribe(&place.topic("t"), QoS::AtLeastOnce);
    for payload in ["first", "second"] {
        let live = place.message("t", QoS::AtLeastOnce, payload);
        let retained = Message { retain: true, ..live.clone() };
        alice.publish(&retained);
        watcher.receives(&live);
        let mut late = late_subscriber::<D>(place);
        late.receives(&retained);
        late.leave();
    }
    delete_retained(place, &mut alice, &mut watcher);
    alice.leave();
    watcher.leave();
}

fn delete_retained<D: Dialect>(place: &Place, alice: &mut Peer<D>, watcher: &mut Peer<D>) {
    let empty = place.message("t", QoS::AtLeastOnce, "");
    alice.publish(&Message { retain: true, ..empty.clone() });
    watcher.receives(&empty);
    let mut late = late_subscriber::<D>(place);
    let live = place.message("t", QoS::AtLeastOnce, "live");
    alice.publish(&live);
    late.receives(&live);
    late.leave();
    watcher.receives(&live);
}

fn late_subscriber<D: Dialect>(place: &Place) -> Peer<D> {
    let mut late = place.peer("late");
    late.subscribe(&place.topic("#"), QoS::AtLeastOnce);
    late
}

fn will<D: Dialect>(place: &Place) {
    let mut watcher: Peer<D> = place.peer("watcher");
    watcher.subscribe(&place.topic("+"), QoS::AtLeastOnce);
    place.peer_with_will::<D>("polite", "unsaid").leave();
    place.peer_with_will::<D>("abrupt", "said").vanish();
    watcher.receives(&place.message("abrupt", QoS::AtLeastOnce, "said"));
    watcher.leave();
}

fn resume<D: Dialect>(place: &Place) {
    let mut alice: Peer<D> = place.peer("alice");
    let mut bob: Peer<D> = place.persistent_peer("bob");
    assert!(!bob.session_present);
    bob.subscribe(&place.topic("+"), QoS::ExactlyOnce);
    bob.leave();
    let [once, exactly] = [missed(place, QoS::AtLeastOnce), missed(place, QoS::ExactlyOnce)];
    alice.publish_all(&once);
    alice.publish_all(&exactly);
    alice.leave();
    let mut bob: Peer<D> = place.persistent_peer("bob");
    assert!(bob.session_present);
    let received: Vec<_> = (0..20).map(|_| bob.receive()).collect();
    bob.leave();
    let (of_once, of_exactly): (Vec<_>, Vec<_>) =
        received.into_iter().partition(|message| message.qos == QoS::AtLeastOnce);
    assert_eq!(of_once, once);
    assert_eq!(of_exactly, exactly);
    forgets::<D>(place);
}

fn missed(place: &Place, qos: QoS) -> Vec<Message> {
    let topic = (qos as u8).to_string();
    (0..10).map(|number| place.message(&topic, qos, number.to_string())).collect()
}

/// A clean start ends the session, subscriptions and all.
fn forgets<D: Dialect>(place: &Place) {
    let mut clean: Peer<D> = place.peer("bob");
    assert!(!clean.session_present);
    clean.publish(&place.message("1", QoS::AtLeastOnce, "to nobody"));
    clean.leave();
    let persistent: Peer<D> = place.persistent_peer("bob");
    assert!(!persistent.session_present);
    persistent.leave();
}

fn wildcards<D: Dialect>(place: &Place) {
    let [mut alice, mut bob]: [Peer<D>; 2] = [place.peer("alice"), place.peer("bob")];
    bob.subscribe(&place.topic("one/+/end"), QoS::AtLeastOnce);
    bob.subscribe(&place.topic("many/#"), QoS::AtLeastOnce);
    let named = |name: &&str| place.message(name, QoS::AtLeastOnce, *name);
    let matching = ["one/a/end", "one//end", "many", "many/a", "many/a/b"];
    for name in ["one/end", "one/a/b/end", "one/a", "manya"].iter().chain(&matching) {
        alice.publish(&named(name));
    }
    for name in &matching {
        bob.receives(&named(name));
    }
    alice.leave();
    bob.leave();
}

fn unsubscribe<D: Dialect>(place: &Place) {
    let [mut alice, mut bob]: [Peer<D>; 2] = [place.peer("alice"), place.peer("bob")];
    let [left, kept] = ["left", "kept"].map(|name| place.message(name, QoS::AtLeastOnce, name));
    bob.subscribe(&left.topic, QoS::AtLeastOnce);
    bob.subscribe(&kept.topic, QoS::AtLeastOnce);
    alice.publish(&left);
    bob.receives(&left);
    bob.unsubscribe(&left.topic);
    alice.publish(&left);
    alice.publish(&kept);
    bob.receives(&kept);
    alice.leave();
    bob.leave();
}

fn takeover<D: Dialect>(place: &Place, kind: Kind) {
    let mut first: Peer<D> = place.peer("same");
    first.subscribe(&place.topic("first"), QoS::AtLeastOnce);
    let mut second: Peer<D> = place.peer("same");
    // Debian's mosquitto closes without a DISCONNECT. [MQTT-3.1.4-3]
    let says_why = D::SERVER_SAYS_WHY && kind == Kind::Ringmq;
    assert_eq!(first.ends(), says_why);
    let mine = place.message("second", QoS::AtLeastOnce, "mine");
    second.subscribe(&mine.topic, QoS::AtLeastOnce);
    second.publish(&place.message("first", QoS::AtLeastOnce, "nobody's"));
    second.publish(&mine);
    second.receives(&mine);
    second.leave();
}
