//! A store that an earlier ringmq has written, with every kind of record. Each later version of the
//! same major format reads it as it was read then.
//!
//! `UPDATE_GOLDEN=1` writes a store of the present format. Do that in a new folder for a new
//! format, and keep the folders of the formats that are still read.

use std::{env, fs, path::Path};

use super::{tests::Place, tools, *};
use crate::{
    base::{ids::ShardId, time::WallTime},
    mqtt::{PacketId, QoS},
    storage::{
        List, MessageId, MessageRecord, Record, RecordBatch, RefRecord, RetainRecord,
        SessionNumber, SessionRecord, Stamp, Target, WillRecord,
    },
};

/// The folders of the formats that are read. The last one is of the present format.
const FOLDERS: [&str; 2] = ["tests/store/format-1.0", "tests/store/format-1.1"];

#[test]
fn a_store_of_each_format_is_read_as_it_was_written() {
    let golden = FOLDERS.map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
    if env::var_os("UPDATE_GOLDEN").is_some() {
        write_golden(&golden[FOLDERS.len() - 1]);
    }
    for golden in &golden {
        check_golden(golden);
    }
}

fn check_golden(golden: &Path) {
    let place = Place::new();
    fs::create_dir(place.path().join("store")).unwrap();
    fs::copy(golden.join("1.seg"), place.path().join("store/1.seg")).unwrap();
    let mut read = Vec::new();
    tools::inspect(place.path(), &mut read).unwrap();
    tools::export(place.path(), &mut read).unwrap();
    tools::digest(place.path(), &mut read).unwrap();
    let read = String::from_utf8(read).unwrap();
    let expected = fs::read_to_string(golden.join("read.txt")).unwrap();
    assert_eq!(read, expected);
    // A broker goes on with it.
    let opened = open(&place.config(), 1).unwrap();
    assert_eq!((opened.seed, opened.epoch, opened.restored.sessions.len()), (77, 2, 2));
}

fn write_golden(golden: &Path) {
    let place = Place::new();
    let Store { mut writer, .. } = open(&place.config(), 77).unwrap().store;
    let mut batch = RecordBatch::default();
    every_record(|record| batch.push(record));
    writer.append_records(batch.as_bytes());
    let bells = Bells::new(2).unwrap();
    let (_handles, posts, _ender) = queue(&bells);
    writer.write_group(&posts).unwrap();
    let used = writer.active.offset;
    drop(writer);
    // What follows is zeros.
    let segment = fs::read(place.segment(1)).unwrap();
    fs::create_dir_all(golden).unwrap();
    fs::write(golden.join("1.seg"), &segment[..used]).unwrap();
    let mut read = Vec::new();
    tools::inspect(place.path(), &mut read).unwrap();
    tools::export(place.path(), &mut read).unwrap();
    tools::digest(place.path(), &mut read).unwrap();
    fs::write(golden.join("read.txt"), read).unwrap();
}

/// Two sessions, messages that wait, are in flight, released, retained and on their way between
/// shards, and what has ended.
fn every_record(mut write: impl FnMut(&Record<'_>)) {
    let number = SessionNumber;
    let time = WallTime::from_nanos;
    let will = WillRecord {
        topic: "will",
        application: &[],
        payload: b"gone",
        qos: QoS::AtLeastOnce,
        retain: true,
        delay: 5,
        message_expiry: Some(60),
    };
    let session = |session, client_id, will| {
        Record::Session(SessionRecord {
            session,
            client_id,
            user: Some("user"),
            peer: Some([192, 0, 2, 1].into()),
            expiry_interval: u32::MAX,
            created_at: time(1_700_000_000_000_000_000),
            connected_at: time(1_700_000_001_000_000_000),
            will,
        })
    };
    write(&Record::Epoch { number: 1, shards: 2 });
    write(&session(number(1), "first", Some(will)));
    write(&session(number(2), "second", None));
    write(&session(number(3), "ended", None));
    write(&Record::SessionEnd { session: number(3) });
    let at = time(1_700_000_002_000_000_000);
    write(&Record::Disconnected { session: number(2), at, keeps_will: false });
    for (filter, subscription_id) in [("a/#", Some(7)), ("$share/group/b", None), ("c", None)] {
        let (session, options) = (number(1), 0b10_1110);
        write(&Record::Subscription { session, filter, options, subscription_id });
    }
    write(&Record::Unsubscribe { session: number(1), filter: "c" });
    for n in 1..=5 {
        messages(n, &mut write);
    }
    write(&Record::Ack { session: number(1), ordinal: 1 });
    write(&Record::Released { session: number(1), ordinal: 2 });
    for id in [5, 6] {
        let packet_id = PacketId::new(id).unwrap();
        write(&Record::Hold { session: number(2), packet_id });
    }
    write(&Record::Unhold { session: number(2), packet_id: PacketId::new(6).unwrap() });
    let stamp = |time| Stamp { time, shard: 1 };
    for (topic, message) in [("r", Some(MessageId(4))), ("removed", None)] {
        let expires_at = None;
        let retain = RetainRecord { topic, message, stamp: stamp(9), expires_at };
        write(&Record::Retain(retain));
    }
    write(&Record::Taken { from: ShardId::FIRST, to: ShardId::new(1).unwrap(), n: 4 });
}

fn messages(n: u64, write: &mut impl FnMut(&Record<'_>)) {
    let targets = [Target { shard: ShardId::new(1).unwrap(), n, to_subscribers: true }];
    let group = (n == 3).then_some("group/b");
    write(&Record::Ref(RefRecord {
        session: SessionNumber(1),
        ordinal: n,
        message: MessageId(n),
        qos: QoS::ExactlyOnce,
        retain: n == 2,
        subscription_ids: List::Slice(&[7]),
        group,
    }));
    write(&Record::Message(MessageRecord {
        id: MessageId(n),
        publisher_hash: 5,
        publisher: SessionNumber(0),
        topic: "a/b",
        // A Content Type.
        application: &[3, 0, 1, b't'],
        payload: b"payload",
        qos: QoS::ExactlyOnce,
        retain: n == 4,
        expires_at: None,
        from: ShardId::FIRST,
        targets: List::Slice(&targets),
        groups: "",
    }));
}
