//! Files as mosquitto writes them, and damaged ones.

use super::*;
use crate::{base::hash::Seed, storage::Recovery};

const NOW: WallTime = WallTime::from_nanos(1_000 * NANOS);

/// A file of this version, chunk by chunk.
struct Written(Vec<u8>);

impl Written {
    fn new(version: u32) -> Written {
        let mut file = Written(b"\x00\xB5\x00mosquitto db\0\0\0\0".to_vec());
        file.0.extend(version.to_be_bytes());
        file.chunk(1, &[&7_u64.to_le_bytes(), &[1, 8], &[0; 6]])
    }

    fn chunk(mut self, kind: u32, parts: &[&[u8]]) -> Written {
        let body = parts.concat();
        self.0.extend(kind.to_be_bytes());
        self.0.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        self.0.extend(body);
        self
    }

    fn message(self, id: u64, expiry: i64, topic: &str, (qos, retain): (u8, u8)) -> Written {
        let payload = format!("p{id}");
        let properties = [5, 0x03, 0, 2, b't', b'x'];
        let lengths: Vec<u8> =
            [[0, 9].as_slice(), &[0, 1], &[0, 1], &len(topic), &[7, 91], &[qos, retain]].concat();
        let payload_len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let fixed = [&id.to_le_bytes()[..], &expiry.to_le_bytes(), &payload_len, &lengths].concat();
        self.chunk(2, &[&fixed, b"s", b"u", topic.as_bytes(), payload.as_bytes(), &properties])
    }

    fn client(self, id: &str, (expiry, interval): (i64, u32), user: &str) -> Written {
        let fixed =
            [&expiry.to_le_bytes()[..], &interval.to_be_bytes(), &[0, 3], &len(id)].concat();
        self.chunk(6, &[&fixed, &[7, 91], &len(user), &[0; 4], id.as_bytes(), user.as_bytes()])
    }

    fn old_client(self, id: &str) -> Written {
        let fixed = [&[0; 8][..], &[0xFF; 4], &[0, 3], &len(id)].concat();
        self.chunk(6, &[&fixed, id.as_bytes()])
    }

    fn subscription(
        self,
        client: &str,
        filter: &str,
        (qos, options, id): (u8, u8, u32),
    ) -> Written {
        let fixed = [&id.to_be_bytes()[..], &len(client), &len(filter), &[qos, options, 0, 0]];
        self.chunk(5, &[&fixed.concat(), client.as_bytes(), filter.as_bytes()])
    }

    fn delivery(
        self,
        client: &str,
        (message, packet_id): (u64, u16),
        (qos, state, direction): (u8, u8, u8),
        properties: &[u8],
    ) -> Written {
        let fixed = [
            &message.to_le_bytes()[..],
            &packet_id.to_be_bytes(),
            &len(client),
            &[qos, state, 0x10, direction],
        ];
        self.chunk(3, &[&fixed.concat(), client.as_bytes(), properties])
    }

    fn retained(self, message: u64) -> Written {
        self.chunk(4, &[&message.to_le_bytes()])
    }

    fn lines(&self) -> (Vec<String>, Counts) {
        let takeover = take_over(&self.0, NOW).unwrap();
        let mut recovery = Recovery::new(Seed::new(1));
        for batch in &takeover.batches {
            recovery.apply_all(batch.as_bytes(), 1).unwrap();
        }
        let mut out = Vec::new();
        crate::storage::portrait::export(&recovery.finish(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        (text.lines().map(str::to_owned).collect(), takeover.counts)
    }
}

fn len(text: &str) -> [u8; 2] {
    u16::try_from(text.len()).unwrap().to_be_bytes()
}

fn left_out(counts: &Counts) -> Vec<(u64, &'static str)> {
    counts.left_out().collect()
}

/// One of everything.
fn whole() -> Written {
    Written::new(6)
        .message(1, 0, "a/b", (1, 1))
        .message(2, 1_060, "a/c", (2, 0))
        .message(3, 999, "a/d", (1, 1))
        .client("one", (0, u32::MAX), "alice")
        .client("two", (1_100, 200), "")
        .client("gone", (990, 50), "")
        .client("short", (0, 0), "")
        .subscription("one", "a/#", (2, 0b1000, 7))
        .subscription("two", "$share/g/a/+", (1, 0b0100, 0))
        .subscription("nobody", "x", (1, 0, 0))
        .delivery("one", (2, 65_535), (2, 5, 1), &[2, 0x0B, 7])
        .delivery("one", (1, 1), (1, 3, 1), &[])
        .delivery("one", (2, 2), (2, 9, 1), &[])
        .delivery("one", (1, 0), (1, 11, 1), &[])
        .delivery("one", (3, 4), (1, 11, 1), &[])
        .delivery("one", (1, 0), (0, 1, 1), &[])
        .delivery("nobody", (1, 1), (1, 11, 1), &[])
        .retained(1)
        .retained(3)
        .chunk(99, &[b"new"])
}

#[test]
fn all_that_ringmq_has_a_place_for_is_taken_over_and_the_rest_is_told() {
    let (lines, counts) = whole().lines();
    let message = |topic, payload, qos| {
        let properties = "\"properties\":\"AwACdHg=\"";
        format!("\"topic\":\"{topic}\",\"qos\":{qos},{properties},\"payload\":\"{payload}\"")
    };
    let (one, two) = (message("a/b", "cDE=", 1), message("a/c", "cDI=", 2));
    let expected = [
        "{\"session\":\"one\",\"user\":\"alice\",\"expiry\":4294967295,\"will\":null,\
         \"subscriptions\":[{\"filter\":\"a/#\",\"options\":10,\"id\":7}],\"held\":[]}"
            .to_owned(),
        format!(
            "{{\"to\":\"one\",\"place\":0,\"granted\":2,\"retain\":true,\"group\":null,{two}}}"
        ),
        format!(
            "{{\"to\":\"one\",\"place\":1,\"granted\":1,\"retain\":true,\"group\":null,{one}}}"
        ),
        "{\"to\":\"one\",\"place\":2,\"released\":true}".to_owned(),
        format!(
            "{{\"to\":\"one\",\"place\":3,\"granted\":1,\"retain\":true,\"group\":null,{one}}}"
        ),
        "{\"session\":\"two\",\"user\":null,\"expiry\":200,\"will\":null,\
         \"subscriptions\":[{\"filter\":\"$share/g/a/+\",\"options\":5,\"id\":0}],\"held\":[]}"
            .to_owned(),
        format!("{{\"retained\":\"a/b\",{one}}}"),
    ];
    assert_eq!(lines, expected, "{lines:#?}");
    let Counts { sessions, subscriptions, messages, retained, .. } = counts;
    assert_eq!((sessions, subscriptions, messages, retained), (2, 2, 4, 1));
    let expected = [
        (1, LEFT_OUT[Left::ExpiredSessions as usize]),
        (1, LEFT_OUT[Left::EndedSessions as usize]),
        (1, LEFT_OUT[Left::Subscriptions as usize]),
        (1, LEFT_OUT[Left::ExpiredMessages as usize]),
        (1, LEFT_OUT[Left::QosZero as usize]),
        (1, LEFT_OUT[Left::Homeless as usize]),
        (1, LEFT_OUT[Left::Chunks as usize]),
    ];
    assert_eq!(left_out(&counts), expected);
}

#[test]
fn a_message_in_flight_keeps_its_packet_identifier() {
    for (packet_id, from, expected) in [
        (1, FIRST, FIRST),
        (65_535, FIRST, FIRST + 65_534),
        (1, FIRST + 65_535, FIRST + 65_535),
        (2, FIRST, FIRST + 1),
        (1, FIRST + 1, FIRST + 65_535),
    ] {
        let ordinal = ordinal_of(packet_id, from);
        assert_eq!(ordinal, expected, "{packet_id} {from}");
        assert_eq!(ordinal % 65_535 + 1, u64::from(packet_id));
    }
}

#[test]
fn a_message_that_its_sender_has_not_released_goes_to_those_who_want_it() {
    let file = Written::new(6)
        .message(1, 0, "a/b", (2, 1))
        .client("sender", (0, u32::MAX), "")
        .client("twice", (0, u32::MAX), "")
        .client("member", (0, u32::MAX), "")
        .client("other", (0, u32::MAX), "")
        .subscription("sender", "a/b", (2, 0b0100, 0))
        .subscription("twice", "a/#", (1, 0, 3))
        .subscription("twice", "+/b", (2, 0, 4))
        .subscription("member", "$share/g/a/b", (1, 0, 0))
        .subscription("other", "$share/g/a/b", (1, 0, 0))
        .delivery("sender", (1, 77), (2, 7, 0), &[]);
    let (lines, counts) = file.lines();
    assert_eq!((counts.unreleased, left_out(&counts)), (1, Vec::new()));
    let to = |client: &str| {
        lines.iter().filter(|line| line.contains(&format!("\"to\":\"{client}\""))).count()
    };
    assert_eq!(["sender", "twice", "member", "other"].map(to), [0, 1, 1, 0], "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("\"held\":[77]")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("{\"retained\":\"a/b\"")), "{lines:#?}");
}

#[test]
fn the_version_before_has_no_users() {
    let (lines, _) = Written::new(5).old_client("one").lines();
    assert!(lines[0].starts_with("{\"session\":\"one\",\"user\":null,\"expiry\":4294967295"));
}

#[test]
fn a_damaged_file_is_told_with_the_place_and_nothing_panics() {
    let whole = whole().0;
    let said =
        |bytes: &[u8]| take_over(bytes, NOW).map(drop).map_err(|damaged| damaged.to_string());
    assert_eq!(said(&whole), Ok(()));
    assert_eq!(said(b"").unwrap_err(), "offset 0: this is no persistence file of mosquitto");
    let short = said(&whole[..whole.len() - 1]).unwrap_err();
    let begin = whole.len() - 11;
    assert_eq!(short, format!("offset {begin}: the file ends before this chunk does"));
    let version = Written::new(4).0;
    assert!(said(&version).unwrap_err().starts_with("offset 19: the format is not version 5 or 6"));
    let mut ends = 0;
    for end in 0..whole.len() {
        ends += usize::from(said(&whole[..end]).is_ok());
    }
    // Where a chunk ends, the file may.
    assert_eq!(ends, 21);
    for at in 0..whole.len() {
        for bits in [1, 0x80, 0xFF] {
            let mut bytes = whole.clone();
            bytes[at] ^= bits;
            if let Err(damaged) = take_over(&bytes, NOW) {
                assert!(damaged.offset <= bytes.len());
            }
        }
    }
}
