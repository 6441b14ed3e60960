//! A store without room: 5.0 clients are told, earlier ones wait, and nothing is lost.

use std::{fs, path::Path, process};

use ringmq::mqtt::{
    Ack, Connect, Delivery, Packet, PacketId, Publish, PublishProperties, QoS, ReasonCode, Version,
};

use crate::{
    broker::Broker,
    client::{Client, connect, encode},
};

/// A client whose session stays, and whether the broker had it.
pub(crate) fn come_back(broker: &Broker) -> (Client, Option<bool>) {
    let mut client = Client::open(broker, Version::V5);
    let mut connect = Connect::new(Version::V5, "sleeper");
    connect.clean_start = false;
    connect.properties.session_expiry_interval = Some(600);
    client.send(&encode(&Packet::Connect(connect), Version::V5));
    let present = client.next(|packet| match packet {
        Packet::Connack(connack) => connack.session_present,
        other => panic!("{other:?}"),
    });
    (client, present)
}

/// A message of 64 KiB.
pub(crate) fn message(id: PacketId, version: Version) -> Vec<u8> {
    let publish = Publish {
        dup: false,
        retain: false,
        delivery: Delivery::AtLeastOnce(id),
        topic: "t",
        properties: PublishProperties::default(),
        payload: &vec![7; 64 << 10],
    };
    encode(&Packet::Publish(publish), version)
}

pub(crate) fn publish(client: &mut Client) -> Option<ReasonCode> {
    client.send(&message(PacketId::MIN, Version::V5));
    client.next(|packet| match packet {
        Packet::Puback(ack) => ack.reason_code,
        other => panic!("{other:?}"),
    })
}

/// Receives so many messages, and acknowledges each.
pub(crate) fn take_messages(client: &mut Client, count: usize) {
    for _ in 0..count {
        let id = client.next(|packet| match packet {
            Packet::Publish(publish) => publish.delivery.packet_id().unwrap(),
            other => panic!("{other:?}"),
        });
        let ack = Packet::Puback(Ack::success(id.unwrap()));
        client.send(&encode(&ack, Version::V5));
    }
}

#[test]
fn a_full_store_tells_clients_and_takes_messages_again_when_there_is_room() {
    let name = format!("full-{}", process::id());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let flags = ["--data-dir", folder.to_str().unwrap(), "--max-store-bytes", "16MiB"];
    let flags = [&flags[..], &["--store-segment-bytes", "1MiB"]].concat();
    let flags = [&flags[..], &["--max-queued-bytes", "1GiB"]].concat();
    let mut broker = Broker::ringmq_with(2, &flags);
    let (mut sleeper, _) = come_back(&broker);
    sleeper.subscribe("t", QoS::AtLeastOnce);
    drop(sleeper);
    let mut writer = Client::connect(&broker, Version::V5, "writer");
    let taken = (0..1_000).take_while(|_| publish(&mut writer) != Some(ReasonCode::QuotaExceeded));
    let taken = taken.count();
    assert!((50..256).contains(&taken), "{taken} messages of 64 KiB in 16 MiB");
    broker.await_words("the store is full");
    // A client of 3.1.1 waits with its message, and hears nothing meanwhile.
    let mut old = Client::open(&broker, Version::V311);
    old.send(&[connect(Version::V311, "old"), message(PacketId::MAX, Version::V311)].concat());
    assert_eq!(old.next(|packet| matches!(packet, Packet::Connack(_))), Some(true));
    assert_eq!(publish(&mut writer), Some(ReasonCode::QuotaExceeded));
    writer.ping();
    let (mut sleeper, present) = come_back(&broker);
    assert_eq!(present, Some(true));
    // The last one is that of the client that waits.
    take_messages(&mut sleeper, taken + 1);
    broker.await_words("the store has room again");
    assert_eq!(old.next(|packet| matches!(packet, Packet::Puback(_))), Some(true));
    assert_eq!(publish(&mut writer), Some(ReasonCode::Success));
    broker.stop();
    fs::remove_dir_all(folder).unwrap();
}
