//! The headers of proxies: however the bytes are split, the same comes out, and no more is kept
//! than a header may have.

use ringmq::transport::proxy::{HEADER_BYTES_MAX, HeaderReader, LINE_BYTES_MAX, parse};

/// The first byte says whether names are looked for, and the second how the rest is split.
pub(super) fn check(input: &[u8]) {
    let &[names_users, step, ref bytes @ ..] = input else { return };
    let names_users = names_users & 1 == 1;
    let whole = parse(bytes, names_users);
    let (step, mut taken) = (usize::from(step).max(1), 0);
    let mut reader = HeaderReader::new(names_users);
    let split = bytes.chunks(step).find_map(|part| {
        let read = reader.receive(part).transpose();
        assert!(reader.held_bytes() <= HEADER_BYTES_MAX, "{input:?}");
        taken += part.len();
        read.map(|read| read.map(|(header, used)| (header, taken - part.len() + used)))
    });
    assert_eq!(split.transpose(), whole, "{input:?}");
    match whole {
        Ok(Some((header, length))) => {
            assert!(length <= bytes.len() && length <= HEADER_BYTES_MAX);
            let client = header.client.map(|client| client.ip());
            assert!(client.is_none_or(|ip| ip == ip.to_canonical() && !ip.is_multicast()));
            // What comes behind it changes nothing, and with less it is incomplete.
            assert_eq!(parse(&bytes[..length], names_users), Ok(Some((header, length))));
            assert_eq!(parse(&bytes[..length - 1], names_users), Ok(None));
        }
        Ok(None) => {
            let max = if bytes.first() == Some(&b'P') { LINE_BYTES_MAX } else { HEADER_BYTES_MAX };
            assert!(bytes.len() < max, "{input:?}");
        }
        Err(_) => {}
    }
}
