//! Frames: where a packet ends, known from any part of it.

use ringmq::mqtt::{
    DecodeError,
    frame::{Frame, packet_size, split},
};

type Outcome<'a> = Result<Option<Frame<'a>>, DecodeError>;

/// Two bytes say how large a packet may be; the others are what has come.
pub(super) fn check(input: &[u8]) {
    let Some((limit, bytes)) = input.split_first_chunk() else { return };
    let limit = usize::from(u16::from_be_bytes(*limit));
    let whole = split(bytes, limit);
    if let Ok(Some(frame)) = &whole {
        assert!(frame.len <= limit);
        assert!(bytes[..frame.len].ends_with(frame.body));
        assert_eq!((frame.first, packet_size(bytes)), (bytes[0], Some(frame.len)));
    }
    for end in 0..bytes.len() {
        check_part(&split(&bytes[..end], limit), &whole, end);
    }
}

/// What has come in part is waited for, or already what it will be.
fn check_part(part: &Outcome<'_>, whole: &Outcome<'_>, end: usize) {
    match (part, whole) {
        (Ok(None), Ok(Some(frame))) => assert!(end < frame.len, "nothing more is needed"),
        (Ok(None), _) => {}
        (Ok(Some(part)), Ok(Some(whole))) => {
            assert!(whole.len <= end);
            assert_eq!((part.len, part.body), (whole.len, whole.body));
        }
        (Err(part), Err(whole)) => assert_eq!(part, whole),
        (part, whole) => unreachable!("{part:?} of {whole:?}"),
    }
}
