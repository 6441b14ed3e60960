//! Records of all kinds, written and read again.

use std::net::IpAddr;

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::{
    base::{ids::ShardId, time::WallTime},
    mqtt::{PacketId, QoS},
};

/// The parts that the text of a record is borrowed from.
#[derive(Clone, Debug)]
struct Parts {
    kind: u8,
    numbers: [u64; 3],
    texts: [String; 3],
    bytes: [Vec<u8>; 2],
    flags: [bool; 3],
    small: u8,
    ids: Vec<u32>,
    targets: Vec<(u8, u64)>,
    peer: Option<IpAddr>,
}

fn parts() -> impl Strategy<Value = Parts> {
    let texts = [".{0,20}", "[a-z/]{0,200}", "\\PC{0,9}"];
    let numbers = (0u32..64, any::<u64>()).prop_map(|(bits, noise)| noise >> bits);
    let lists = (vec(any::<u32>(), 0..4), vec((0u8..128, any::<u64>()), 0..4));
    let bytes = [vec(any::<u8>(), 0..300), vec(any::<u8>(), 0..20)];
    let scalars = (any::<[bool; 3]>(), any::<u8>(), option::of(any::<IpAddr>()));
    (0u8..14, [numbers.clone(), numbers.clone(), numbers], texts, bytes, scalars, lists).prop_map(
        |(kind, numbers, texts, bytes, (flags, small, peer), (ids, targets))| Parts {
            kind,
            numbers,
            texts,
            bytes,
            flags,
            small,
            ids,
            targets,
            peer,
        },
    )
}

impl Parts {
    fn session(&self) -> SessionNumber {
        SessionNumber(self.numbers[0])
    }

    fn qos(&self) -> QoS {
        QoS::ALL[usize::from(self.small % 3)]
    }

    fn time(&self) -> WallTime {
        WallTime::from_nanos(self.numbers[1])
    }

    fn shard(&self, place: u32) -> ShardId {
        ShardId::new(usize::from(self.small.rotate_left(place) % 128)).unwrap()
    }

    fn packet_id(&self) -> PacketId {
        PacketId::new(u16::from(self.small) + 1).unwrap()
    }

    fn targets(&self) -> Vec<Target> {
        let target = |&(shard, n): &(u8, u64)| Target {
            shard: ShardId::new(usize::from(shard)).unwrap(),
            n,
            to_subscribers: n % 2 == 0,
        };
        self.targets.iter().map(target).collect()
    }

    fn record<'a>(&'a self, targets: &'a [Target]) -> Record<'a> {
        let (session, ordinal) = (self.session(), self.numbers[1]);
        let filter = self.texts[0].as_str();
        match self.kind {
            0 => Record::Epoch { number: self.numbers[0], shards: self.small },
            1 => Record::Session(self.terms()),
            2 => Record::SessionEnd { session },
            3 => Record::Disconnected { session, at: self.time(), keeps_will: self.flags[0] },
            4 => Record::Subscription {
                session,
                filter,
                options: self.small,
                subscription_id: self.ids.first().copied(),
            },
            5 => Record::Unsubscribe { session, filter },
            6 => Record::Message(self.message(targets)),
            7 => Record::Ref(self.reference()),
            8 => Record::Ack { session, ordinal },
            9 => Record::Released { session, ordinal },
            10 => Record::Hold { session, packet_id: self.packet_id() },
            11 => Record::Unhold { session, packet_id: self.packet_id() },
            12 => Record::Retain(RetainRecord {
                topic: filter,
                message: self.flags[0].then_some(MessageId(self.numbers[2])),
                stamp: Stamp { time: self.numbers[0], shard: self.small },
                expires_at: self.flags[1].then(|| self.time()),
            }),
            _ => Record::Taken { from: self.shard(0), to: self.shard(3), n: self.numbers[2] },
        }
    }

    fn terms(&self) -> SessionRecord<'_> {
        SessionRecord {
            session: self.session(),
            client_id: &self.texts[0],
            user: self.flags[0].then_some(&self.texts[1]),
            peer: self.peer,
            expiry_interval: u32::from(self.small),
            created_at: self.time(),
            connected_at: WallTime::from_nanos(self.numbers[2]),
            will: self.flags[1].then(|| WillRecord {
                topic: &self.texts[1],
                application: &self.bytes[1],
                payload: &self.bytes[0],
                qos: self.qos(),
                retain: self.flags[2],
                delay: u32::MAX,
                message_expiry: self.ids.first().copied(),
            }),
        }
    }

    fn message<'a>(&'a self, targets: &'a [Target]) -> MessageRecord<'a> {
        MessageRecord {
            id: MessageId(self.numbers[0]),
            publisher_hash: u32::from(self.small) << 24,
            publisher: SessionNumber(self.numbers[2]),
            topic: &self.texts[1],
            application: &self.bytes[1],
            payload: &self.bytes[0],
            qos: self.qos(),
            retain: self.flags[0],
            expires_at: self.flags[1].then(|| self.time()),
            from: self.shard(0),
            targets: List::Slice(targets),
            groups: "",
        }
    }

    fn reference(&self) -> RefRecord<'_> {
        RefRecord {
            session: self.session(),
            ordinal: self.numbers[1],
            message: MessageId(self.numbers[2]),
            qos: self.qos(),
            retain: self.flags[0],
            subscription_ids: List::Slice(&self.ids),
            group: self.flags[1].then_some(&self.texts[1]),
        }
    }
}

proptest! {
    #[test]
    fn records_are_read_as_they_were_written(all in vec(parts(), 0..8)) {
        let mut batch = RecordBatch::default();
        for parts in &all {
            batch.push(&parts.record(&parts.targets()));
        }
        let mut records = batch.records();
        for parts in &all {
            let targets = parts.targets();
            prop_assert_eq!(records.next(), Some(Ok(parts.record(&targets))));
        }
        prop_assert_eq!(records.next(), None);
    }

    #[test]
    fn records_that_are_cut_or_changed_are_errors_or_records(
        parts in parts(),
        cut in any::<prop::sample::Index>(),
        flip in any::<u8>(),
    ) {
        let mut batch = RecordBatch::default();
        batch.push(&parts.record(&parts.targets()));
        let mut bytes = batch.as_bytes().to_vec();
        let place = cut.index(bytes.len());
        prop_assert!(Records::new(&bytes[..place]).all(|record| record.is_err()));
        bytes[place] ^= flip;
        for record in Records::new(&bytes).flatten() {
            let mut again = RecordBatch::default();
            again.push(&record);
            prop_assert_eq!(again.records().next(), Some(Ok(record)));
        }
    }

    #[test]
    fn recovery_survives_any_order_of_any_records(all in vec(parts(), 0..40)) {
        let mut recovery = Recovery::new(crate::base::hash::Seed::new(7));
        for (epoch, parts) in (0..).zip(&all) {
            recovery.apply(&parts.record(&parts.targets()), epoch / 8);
        }
        recovery.finish();
    }
}

/// A small broker's life, as records.
mod life {
    use super::*;
    use crate::base::hash::Seed;

    const SESSION: SessionNumber = SessionNumber(5);
    const ONE: MessageId = MessageId(11);
    const FIRST: ShardId = ShardId::FIRST;

    fn second() -> ShardId {
        ShardId::new(1).unwrap()
    }

    fn session(client_id: &str) -> Record<'_> {
        Record::Session(SessionRecord {
            session: SESSION,
            client_id,
            user: None,
            peer: None,
            expiry_interval: 60,
            created_at: WallTime::from_nanos(1),
            connected_at: WallTime::from_nanos(2),
            will: None,
        })
    }

    fn message(id: MessageId, targets: &[Target]) -> Record<'_> {
        Record::Message(MessageRecord {
            id,
            publisher_hash: 0,
            publisher: SessionNumber(0),
            topic: "t",
            application: &[],
            payload: b"payload",
            qos: QoS::AtLeastOnce,
            retain: false,
            expires_at: None,
            from: FIRST,
            targets: List::Slice(targets),
            groups: "",
        })
    }

    fn reference(ordinal: u64, message: MessageId) -> Record<'static> {
        Record::Ref(RefRecord {
            session: SESSION,
            ordinal,
            message,
            qos: QoS::AtLeastOnce,
            retain: false,
            subscription_ids: List::default(),
            group: None,
        })
    }

    fn subscription(filter: &str) -> Record<'_> {
        Record::Subscription { session: SESSION, filter, options: 1, subscription_id: None }
    }

    fn retain(topic: &str, message: Option<MessageId>, time: u64) -> Record<'_> {
        let stamp = Stamp { time, shard: 0 };
        Record::Retain(RetainRecord { topic, message, stamp, expires_at: None })
    }

    fn restored(records: &[Record<'_>]) -> Restored {
        let mut recovery = Recovery::new(Seed::new(1));
        for record in records {
            recovery.apply(record, 3);
        }
        recovery.finish()
    }

    fn records(kept: &[Kept]) -> Vec<Record<'_>> {
        kept.iter().map(Kept::record).collect()
    }

    #[test]
    fn a_session_comes_back_with_what_it_has() {
        let packet_id = PacketId::MIN;
        let log = [
            Record::Epoch { number: 3, shards: 2 },
            session("c"),
            subscription("a/#"),
            subscription("b"),
            Record::Unsubscribe { session: SESSION, filter: "a/#" },
            message(ONE, &[]),
            reference(7, ONE),
            Record::Hold { session: SESSION, packet_id },
            Record::Disconnected { session: SESSION, at: WallTime::default(), keeps_will: true },
        ];
        let restored = restored(&log);
        assert_eq!((restored.epoch, restored.shards), (3, 2));
        let [session] = &restored.sessions[..] else { panic!("one session") };
        assert_eq!(session.terms.record(), log[1]);
        assert_eq!(records(&session.subscriptions), [log[3]]);
        assert_eq!(records(&session.refs), [log[6]]);
        assert_eq!(session.holds, [1]);
        assert_eq!(session.disconnected, Some((WallTime::default(), true)));
        assert_eq!(session.next_ordinal, 8);
        assert_eq!(records(&restored.messages), [log[5]]);
        assert_eq!((restored.next_session, restored.next_message), (6, 12));
    }

    #[test]
    fn what_has_ended_does_not_come_back() {
        let ended = restored(&[
            session("c"),
            message(ONE, &[]),
            reference(7, ONE),
            Record::SessionEnd { session: SESSION },
        ]);
        assert!(ended.sessions.is_empty() && ended.messages.is_empty());
        let acked = [message(ONE, &[]), session("c"), reference(7, ONE)];
        let ack = Record::Ack { session: SESSION, ordinal: 7 };
        let acked = restored(&[&acked[..], &[ack]].concat());
        assert!(acked.sessions[0].refs.is_empty() && acked.messages.is_empty());
        let again = restored(&[session("c"), session("c")]);
        assert_eq!(again.sessions[0].disconnected, None);
    }

    #[test]
    fn a_released_message_needs_no_body() {
        let released = Record::Released { session: SESSION, ordinal: 7 };
        let restored = restored(&[session("c"), message(ONE, &[]), reference(7, ONE), released]);
        assert_eq!(records(&restored.sessions[0].refs), [released]);
        assert!(restored.messages.is_empty());
    }

    #[test]
    fn what_was_written_again_behind_newer_records_is_understood() {
        let restored =
            restored(&[reference(7, ONE), subscription("a"), message(ONE, &[]), session("c")]);
        assert_eq!(restored.sessions[0].refs.len(), 1);
        assert_eq!(restored.sessions[0].subscriptions.len(), 1);
        assert_eq!(restored.messages.len(), 1);
    }

    #[test]
    fn of_two_changes_of_a_topic_the_larger_stamp_counts() {
        let two = MessageId(12);
        let log = [
            message(ONE, &[]),
            message(two, &[]),
            retain("t", Some(two), 9),
            retain("t", Some(ONE), 8),
        ];
        let kept = restored(&log);
        assert_eq!(kept.retained[0].record.record(), log[2]);
        assert_eq!(records(&kept.messages), [log[1]]);
        let removed = restored(&[&log[..], &[retain("t", None, 10)]].concat());
        assert_eq!(removed.retained[0].record.record(), retain("t", None, 10));
        assert!(removed.messages.is_empty());
    }

    #[test]
    fn a_target_that_has_not_taken_a_message_is_asked_again() {
        let target = |n| [Target { shard: second(), n, to_subscribers: true }];
        let two = MessageId(12);
        let (first, later) = (target(1), target(2));
        let taken = Record::Taken { from: FIRST, to: second(), n: 1 };
        let log = [message(ONE, &first), message(two, &later), taken];
        let open = restored(&log);
        let intent = Intent { from: FIRST, to: second(), n: 2, message: two };
        assert_eq!(open.intents, [intent]);
        assert_eq!(records(&open.messages), [log[1]]);
        // The next process has asked for them, or has found that they ask for nothing.
        let mut recovery = Recovery::new(Seed::new(1));
        for record in &log {
            recovery.apply(record, 3);
        }
        recovery.apply(&Record::Epoch { number: 4, shards: 1 }, 4);
        let void = recovery.finish();
        assert!(void.intents.is_empty() && void.messages.is_empty());
    }
}
