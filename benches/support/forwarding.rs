//! One PUBLISH that goes through a whole shard, again and again.

use ringmq::{
    base::ids::ConnectionId,
    mqtt::{Delivery, PacketId, QoS, Version},
};

use crate::workbench::{Workbench, publish};

pub(crate) const VERSION: Version = Version::V311;
pub(crate) const TOPIC: &str = "site/7/temperature";
pub(crate) const PAYLOAD: [u8; 64] = [b'x'; 64];

/// A message at QoS 0 to each of so many subscribers.
pub(crate) fn qos_0(subscribers: u64) -> impl FnMut() {
    let mut bench = Workbench::new(1);
    let publisher = bench.client(VERSION);
    for _ in 0..subscribers {
        subscriber(&mut bench, QoS::AtMostOnce);
    }
    let publish = publish(VERSION, Delivery::AtMostOnce, TOPIC, &PAYLOAD);
    move || {
        let before = bench.ports.sent;
        bench.hand_in(publisher, &publish);
        assert_eq!(bench.ports.sent - before, subscribers);
    }
}

/// A message at QoS 1 to one subscriber, acknowledged both ways.
pub(crate) fn qos_1() -> impl FnMut() {
    let mut bench = Workbench::new(1);
    let publisher = bench.client(VERSION);
    let subscriber = subscriber(&mut bench, QoS::AtLeastOnce);
    let publish = publish(VERSION, Delivery::AtLeastOnce(PacketId::MIN), TOPIC, &PAYLOAD);
    let packet_id_at = 2 + 2 + TOPIC.len();
    move || {
        let before = bench.ports.sent;
        bench.hand_in(publisher, &publish);
        // One PUBLISH, and after it the PUBACK to the publisher.
        assert_eq!(bench.ports.sent - before, 2);
        let outbox = &bench.ports.outbox;
        let puback = [0x40, 2, outbox[packet_id_at], outbox[packet_id_at + 1]];
        bench.hand_in(subscriber, &puback);
    }
}

pub(crate) fn subscriber(bench: &mut Workbench, qos: QoS) -> ConnectionId {
    let id = bench.client(VERSION);
    bench.subscribe(id, VERSION, TOPIC, qos);
    id
}
