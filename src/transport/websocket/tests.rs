//! Frames as a client writes them, against the reader; and what a hostile one writes.

use proptest::prelude::*;

use super::*;

/// A frame of a client, with the shortest length unless `length_bytes` says otherwise.
fn frame_with(first: u8, payload: &[u8], mask: [u8; 4], length_bytes: usize) -> Vec<u8> {
    let length = payload.len() as u64;
    let mut bytes = match length_bytes {
        0 => vec![first, 0x80 | u8::try_from(length).unwrap()],
        2 => vec![first, 0xFE],
        _ => vec![first, 0xFF],
    };
    bytes.extend_from_slice(&length.to_be_bytes()[8 - length_bytes..]);
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length_bytes = match payload.len() {
        0..126 => 0,
        126..65_536 => 2,
        _ => 8,
    };
    frame_with(first, payload, [0xA1, 0x00, 0x5C, 0xFF], length_bytes)
}

fn open() -> WebSocket {
    let mut websocket = WebSocket::default();
    let mut request =
        *b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n\
        Sec-WebSocket-Version: 13\r\n\r\n";
    assert!(websocket.is_requested());
    let received = websocket.receive(&mut request, &HandshakePolicy::default());
    assert!(received.end.is_none() && received.answer.starts_with("HTTP/1.1 101 "));
    assert!(!websocket.is_requested());
    websocket
}

/// What a WebSocket has made of bytes: data, the pong that it owes, and the end with its Close.
#[derive(Debug, PartialEq)]
struct Outcome {
    data: Vec<u8>,
    pong: Option<Vec<u8>>,
    end: Option<FramesEnd>,
    close: Option<[u8; 4]>,
}

/// Hands `bytes` in, in pieces that begin at the places in `cuts`.
fn read(bytes: &[u8], cuts: &[usize]) -> Outcome {
    let mut websocket = open();
    let mut outcome = Outcome { data: Vec::new(), pong: None, end: None, close: None };
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    for piece in cuts.windows(2) {
        let mut piece = bytes[piece[0]..piece[1]].to_vec();
        let (data, end) = websocket.read(&mut piece);
        outcome.data.extend_from_slice(&piece[data]);
        assert!(end.is_none() || outcome.end.is_none(), "there is one end");
        outcome.end = outcome.end.or(end);
    }
    outcome.pong = websocket.take_pong().map(|pong| pong.frame().to_vec());
    outcome.close = websocket.take_close();
    assert_eq!(websocket.take_close(), None);
    assert!(websocket.take_pong().is_none());
    outcome
}

fn every_byte(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len()).collect()
}

/// [MQTT-6.0.0-2] [MQTT-6.0.0-2@3.1.1]
#[test]
fn packets_and_frames_need_not_end_together() {
    let frames = [
        // Half of a packet, the other half and a second one, a third one in fragments.
        frame(0x82, b"\x30\x05\0\x01a"),
        frame(0x82, b"20\xC0\0"),
        frame(0x02, b"\xC0"),
        frame(0x89, b"in between"),
        frame(0x00, b""),
        frame(0x80, b"\0"),
        frame(0x82, b""),
    ]
    .concat();
    for cuts in [Vec::new(), every_byte(&frames)] {
        let outcome = read(&frames, &cuts);
        assert_eq!(outcome.data, b"\x30\x05\0\x01a20\xC0\0\xC0\0");
        assert_eq!(outcome.pong.as_deref(), Some(&b"\x8A\x0Ain between"[..]));
        assert_eq!(outcome.end, None);
    }
}

/// [MQTT-6.0.0-1] [MQTT-6.0.0-1@3.1.1]
#[test]
fn a_text_frame_closes_the_connection() {
    for first in [0x81, 0x01] {
        let outcome = read(&[frame(0x82, b"\xC0\0"), frame(first, b"\xC0\0")].concat(), &[]);
        assert_eq!(outcome.data, b"\xC0\0");
        assert_eq!(outcome.end, Some(FramesEnd::Failed(Failure::Text)));
        assert_eq!(outcome.close, Some([0x88, 2, 0x03, 0xEB]));
    }
}

#[test]
fn a_frame_that_is_none_closes_the_connection_with_a_protocol_error() {
    let head = |bytes: &[u8]| bytes.to_vec();
    let long = [0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    for (bytes, failure) in [
        (frame(0xC2, b"x"), Failure::ReservedBits),
        (frame(0xA2, b"x"), Failure::ReservedBits),
        (frame(0x92, b"x"), Failure::ReservedBits),
        (frame(0x83, b"x"), Failure::Opcode),
        (frame(0x8B, b"x"), Failure::Opcode),
        (head(b"\x82\x01x"), Failure::Unmasked),
        (head(b"\x88\x00"), Failure::Unmasked),
        (frame(0x89, &[0; 126]), Failure::ControlTooLong),
        (frame(0x88, &[0; 126]), Failure::ControlTooLong),
        (frame(0x09, b"x"), Failure::ControlFragmented),
        (frame(0x08, b""), Failure::ControlFragmented),
        (frame_with(0x82, &[0; 125], [1; 4], 2), Failure::Length),
        (frame_with(0x82, &vec![0; 65_535], [1; 4], 8), Failure::Length),
        (head(&long), Failure::Length),
        (frame(0x80, b"x"), Failure::NothingToContinue),
        (frame(0x00, b"x"), Failure::NothingToContinue),
        ([frame(0x02, b"x"), frame(0x82, b"y")].concat(), Failure::MessageInMessage),
        ([frame(0x82, b"x"), frame(0x80, b"y")].concat(), Failure::NothingToContinue),
        (frame(0x88, b"x"), Failure::CloseCode),
        (frame(0x88, &999u16.to_be_bytes()), Failure::CloseCode),
        (frame(0x88, &1004u16.to_be_bytes()), Failure::CloseCode),
        (frame(0x88, &1005u16.to_be_bytes()), Failure::CloseCode),
        (frame(0x88, &1006u16.to_be_bytes()), Failure::CloseCode),
        (frame(0x88, &1015u16.to_be_bytes()), Failure::CloseCode),
        (frame(0x88, &5000u16.to_be_bytes()), Failure::CloseCode),
        (frame(0x88, b"\x03\xE8\xFF"), Failure::CloseReason),
    ] {
        let code = if failure == Failure::CloseReason { 1007u16 } else { 1002 }.to_be_bytes();
        for cuts in [Vec::new(), every_byte(&bytes)] {
            let mut outcome = read(&[&bytes[..], &frame(0x82, b"later")].concat(), &cuts);
            assert_eq!(outcome.end, Some(FramesEnd::Failed(failure)), "{bytes:x?}");
            assert_eq!(outcome.close.take(), Some([0x88, 2, code[0], code[1]]), "{bytes:x?}");
            assert!(!outcome.data.ends_with(b"later"), "{bytes:x?}");
        }
    }
}

#[test]
fn a_close_is_answered_with_its_code_and_nothing_is_read_after_it() {
    for (payload, code) in [
        (&b""[..], 1000u16),
        (b"\x03\xE8", 1000),
        (b"\x03\xE9leaving the page", 1001),
        (b"\x0F\xA0", 4000),
    ] {
        let bytes = [frame(0x82, b"before"), frame(0x88, payload), frame(0x82, b"after")].concat();
        for cuts in [Vec::new(), every_byte(&bytes)] {
            let outcome = read(&bytes, &cuts);
            assert_eq!(outcome.data, b"before");
            assert!(matches!(outcome.end, Some(FramesEnd::Closed(_))));
            let [high, low] = code.to_be_bytes();
            assert_eq!(outcome.close, Some([0x88, 2, high, low]));
        }
    }
}

#[test]
fn the_side_that_closes_first_says_why() {
    let mut websocket = open();
    websocket.set_close(CloseCode::GOING_AWAY);
    websocket.read(&mut frame(0x89, b"ping"));
    assert_eq!(websocket.take_close(), Some([0x88, 2, 0x03, 0xE9]));
    assert!(websocket.take_pong().is_none(), "nothing comes after a Close");
    let mut websocket = open();
    websocket.read(&mut frame(0x88, b"\x0F\xA0"));
    websocket.set_close(CloseCode::GOING_AWAY);
    assert_eq!(websocket.take_close(), Some([0x88, 2, 0x0F, 0xA0]));
    assert_eq!(WebSocket::default().take_close(), None, "there is no WebSocket to close yet");
}

#[test]
fn many_pings_are_answered_by_one_pong() {
    let mut websocket = open();
    let mut pings = Vec::new();
    for number in 0..1_000u32 {
        pings.extend(frame(0x89, &number.to_be_bytes()));
        // What nobody asked for is nothing to answer.
        pings.extend(frame(0x8A, b"unasked"));
    }
    assert_eq!(websocket.read(&mut pings), (0..0, None));
    let pong = websocket.take_pong().unwrap();
    assert_eq!(pong.frame(), [&[0x8A, 4][..], &999u32.to_be_bytes()].concat());
    assert!(websocket.take_pong().is_none());
}

#[test]
fn a_single_frame_is_not_moved_and_many_are_moved_together() {
    let mut websocket = open();
    let mut one = frame(0x82, &[7; 1000]);
    assert_eq!(websocket.read(&mut one), (8..1008, None));
    let mut many = [frame(0x82, b"abc"), frame(0x8A, b"x"), frame(0x82, b"defg")].concat();
    assert_eq!(websocket.read(&mut many), (6..13, None));
    assert_eq!(&many[6..13], b"abcdefg");
}

/// A frame of any kind that may come, with what it carries.
fn any_frame() -> impl Strategy<Value = (u8, Vec<u8>, [u8; 4])> {
    let first = prop_oneof![6 => Just(0x82), 2 => Just(0x89), 1 => Just(0x8A)];
    let payload = prop_oneof![
        8 => proptest::collection::vec(any::<u8>(), 0..126),
        2 => proptest::collection::vec(any::<u8>(), 126..400),
        1 => Just(vec![0xAB; 65_600]),
    ];
    (first, payload, any::<[u8; 4]>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// [MQTT-6.0.0-2] [MQTT-6.0.0-2@3.1.1]
    #[test]
    fn any_splitting_gives_the_same_bytes(
        frames in proptest::collection::vec((any_frame(), 0..4usize), 0..12),
        cuts in proptest::collection::vec(any::<usize>(), 0..40),
    ) {
        let (mut bytes, mut data, mut pong) = (Vec::new(), Vec::new(), None);
        for ((first, payload, mask), fragments) in &frames {
            let control = first & 0x08 != 0;
            let payload = if control { &payload[..payload.len().min(125)] } else { payload };
            if *first == 0x89 {
                let head = [0x8A, u8::try_from(payload.len()).unwrap()];
                pong = Some([&head[..], payload].concat());
            }
            if control {
                bytes.extend(frame_with(*first, payload, *mask, 0));
                continue;
            }
            data.extend_from_slice(payload);
            let step = payload.len() / (fragments + 1) + 1;
            let pieces: Vec<&[u8]> = payload.chunks(step).collect();
            for (place, piece) in pieces.iter().enumerate() {
                let last = if place + 1 == pieces.len() { 0x80 } else { 0 };
                let opcode = if place == 0 { 0x02 } else { 0x00 };
                bytes.extend(frame(last | opcode, piece));
            }
        }
        let outcome = read(&bytes, &cuts);
        prop_assert_eq!(&outcome.data, &data);
        prop_assert_eq!(&outcome.pong, &pong);
        prop_assert_eq!(outcome.end, None);
    }

    #[test]
    fn no_input_panics_and_its_splitting_does_not_matter(
        starts in proptest::collection::vec((any::<u8>(), 0..=255u8, any::<[u8; 7]>()), 0..20),
        plausible in any::<bool>(),
        cuts in proptest::collection::vec(any::<usize>(), 0..40),
    ) {
        let mut bytes = Vec::new();
        for (first, second, rest) in starts {
            // Most random heads fail at once, plausible ones later.
            let (keep, set) = if plausible { (0x8F, 0x80) } else { (0xFF, 0) };
            bytes.extend([first & keep, second | set]);
            bytes.extend(rest);
        }
        let whole = read(&bytes, &[]);
        prop_assert_eq!(&whole, &read(&bytes, &cuts));
        prop_assert_eq!(&whole, &read(&bytes, &every_byte(&bytes)));
    }

    #[test]
    fn no_request_panics(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        searched in 0..300usize,
    ) {
        let request = [b"GET / HTTP/1.1\r\n".as_slice(), &bytes, b"\r\n\r\n"].concat();
        let rules = HandshakePolicy::default();
        let handshake = handshake::read(&request, searched.min(request.len()), &rules);
        let accepted = matches!(handshake, Handshake::Accepted { .. });
        prop_assert!(!accepted);
    }
}
