//! Headers as proxies write them, cut, and wrong.

use super::*;

/// A header of version 2.
fn binary(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [SIGNATURE.as_slice(), &[command, family], &length, content].concat()
}

fn field(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind], length.as_slice(), value].concat()
}

/// A field about TLS, with this in its first byte, and what follows.
fn tls(client: u8, verify: u8, fields: &[u8]) -> Vec<u8> {
    field(0x20, &[&[client, 0, 0, 0, verify], fields].concat())
}

fn ipv4(fields: &[u8]) -> Vec<u8> {
    [&[192, 0, 2, 7, 10, 0, 0, 1, 0x9C, 0x40, 0x07, 0x5B], fields].concat()
}

fn ipv6(fields: &[u8]) -> Vec<u8> {
    let source = "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets();
    [source.as_slice(), &[1; 16], &[0x9C, 0x40, 0x07, 0x5B], fields].concat()
}

const V4: &str = "192.0.2.7:40000";
const V6: &str = "[2001:db8::7]:40000";

/// Headers, and the addresses that they tell.
fn valid() -> Vec<(Vec<u8>, Option<&'static str>)> {
    let lines = [
        ("PROXY TCP4 192.0.2.7 10.0.0.1 40000 1883\r\n", Some(V4)),
        ("PROXY TCP6 2001:db8::7 ::1 40000 1883\r\n", Some(V6)),
        ("PROXY TCP6 ::ffff:192.0.2.7 ::1 40000 0\r\n", Some(V4)),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff:f...f:ffff whatever 65535 65535\r\n", None),
    ];
    let fields = [tls(7, 0, &field(0x22, b"ada")), field(4, &[0; 90])].concat();
    let mapped = [[0; 10].as_slice(), &[255, 255, 192, 0, 2, 7], &[0; 16], &[156, 64, 0, 0]];
    let binaries = [
        (binary(0x21, 0x11, &ipv4(b"")), Some(V4)),
        (binary(0x21, 0x11, &ipv4(&fields)), Some(V4)),
        // What is no list of fields is skipped as well.
        (binary(0x21, 0x12, &ipv4(b"\x01\xFF")), Some(V4)),
        (binary(0x21, 0x21, &ipv6(b"")), Some(V6)),
        (binary(0x21, 0x22, &ipv6(&fields)), Some(V6)),
        (binary(0x21, 0x21, &mapped.concat()), Some(V4)),
        (binary(0x21, 0x31, &[b'/'; 216]), None),
        (binary(0x21, 0x32, &[&[b'/'; 216], fields.as_slice()].concat()), None),
        (binary(0x21, 0x00, b""), None),
        (binary(0x21, 0x01, b"any"), None),
        (binary(0x20, 0x00, b""), None),
        (binary(0x20, 0x11, &ipv4(b"")), None),
        (binary(0x20, 0xFF, b"any"), None),
        (binary(0x20, 0, &[0; HEADER_BYTES_MAX - FIXED_BYTES]), None),
    ];
    let lines = lines.map(|(line, client)| (line.as_bytes().to_vec(), client));
    lines.into_iter().chain(binaries).collect()
}

#[test]
fn headers_of_both_versions_tell_the_client() {
    for (header, client) in valid() {
        let behind = [header.as_slice(), b"\x10\x0cMQTT"].concat();
        for bytes in [&header, &behind] {
            let parsed = parse(bytes, false).unwrap().unwrap();
            let expected = client.map(|client| client.parse().unwrap());
            let said = Header { client: expected, certified: Certified::Nobody };
            assert_eq!(parsed, (said, header.len()), "{header:?}");
        }
    }
}

#[test]
fn a_header_is_complete_with_its_last_byte() {
    for (header, _) in valid() {
        for end in 0..header.len() {
            assert_eq!(parse(&header[..end], true), Ok(None), "{:?}", &header[..end]);
        }
    }
}

#[test]
fn however_a_header_is_split_the_same_is_read() {
    for (header, _) in valid().into_iter().filter(|(header, _)| header.len() < 512) {
        let whole = parse(&header, false).unwrap().map(|(header, _)| header);
        let bytes = [header.as_slice(), b"behind"].concat();
        for cut in 1..header.len() {
            let mut reader = HeaderReader::new(false);
            assert_eq!(reader.receive(&bytes[..cut]), Ok(None));
            assert_eq!(reader.held_bytes(), cut);
            let (read, taken) = reader.receive(&bytes[cut..]).unwrap().unwrap();
            assert_eq!((Some(read), cut + taken), (whole.clone(), header.len()));
        }
        let mut reader = HeaderReader::default();
        for &byte in &header[..header.len() - 1] {
            assert_eq!(reader.receive(&[byte]), Ok(None));
        }
        let (read, taken) = reader.receive(&bytes[header.len() - 1..]).unwrap().unwrap();
        assert_eq!((Some(read), taken), (whole, 1));
        reader.forget_held();
        assert_eq!(reader.held_bytes(), 0);
    }
}

#[test]
fn the_common_name_is_told_of_a_verified_certificate_only() {
    let ada = field(0x22, b"ada");
    let user = |name: &str| Ok(Certified::User { name: name.into(), is_client_id: false });
    for (fields, expected) in [
        (Vec::new(), Ok(Certified::Nobody)),
        (tls(1, 0, &ada), Ok(Certified::Nobody)),
        (tls(7, 0, &ada), user("ada")),
        (tls(3, 0, &ada), user("ada")),
        (tls(5, 0, &ada), user("ada")),
        (tls(7, 1, &ada), Ok(Certified::Nobody)),
        (tls(7, 0, b""), Ok(Certified::Nameless)),
        (tls(7, 0, &field(0x22, b"")), Ok(Certified::Nameless)),
        (tls(7, 0, &field(0x22, b"a\0b")), Ok(Certified::Nameless)),
        (tls(7, 0, &field(0x22, b"\xFF")), Ok(Certified::Nameless)),
        // The first one counts, whatever comes before and after it.
        ([field(1, b"h2"), tls(7, 0, &ada), tls(7, 0, &field(0x22, b"eve"))].concat(), user("ada")),
        (tls(7, 0, &[field(0x21, b"TLSv1.3"), ada.clone()].concat()), user("ada")),
        (field(0x20, b"\x07\0\0"), Err(ProxyFailure::Malformed)),
        (b"\x20".to_vec(), Err(ProxyFailure::Malformed)),
        (b"\x20\xFF\xFF\0".to_vec(), Err(ProxyFailure::Malformed)),
        (tls(7, 0, b"\x22\0\x09ada"), Err(ProxyFailure::Malformed)),
        ([tls(7, 0, &ada), b"\x01\0".to_vec()].concat(), Err(ProxyFailure::Malformed)),
    ] {
        for header in [binary(0x21, 0x11, &ipv4(&fields)), binary(0x21, 0x21, &ipv6(&fields))] {
            let read = parse(&header, true).map(|read| read.unwrap().0.certified);
            assert_eq!(read, expected, "{fields:?}");
            assert_eq!(parse(&header, false).unwrap().unwrap().0.certified, Certified::Nobody);
        }
        let local = parse(&binary(0x20, 0x11, &ipv4(&fields)), true);
        assert_eq!(local.unwrap().unwrap().0, Header::default());
    }
}

#[test]
fn what_is_no_header_is_refused_with_its_first_wrong_byte() {
    for bytes in [
        b"\x10\x0c".as_slice(),
        b"\x16\x03\x01",
        b"GET / HTTP/1.1\r\n",
        b"PROXX",
        b"\r\n\r\n\0\r\nQUIZ",
    ] {
        assert_eq!(parse(bytes, true), Err(ProxyFailure::Missing), "{bytes:?}");
    }
}

#[test]
fn wrong_lines_are_refused() {
    for line in [
        "PROXY TCP4 192.0.2.7 10.0.0.1 40000 1883\n",
        "PROXY UNKNOWN\n",
        "PROXY \r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY TCP5 192.0.2.7 10.0.0.1 40000 1883\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 40000\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 40000 1883 1\r\n",
        "PROXY TCP4  192.0.2.7 10.0.0.1 40000 1883\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 40000 1883 \r\n",
        "PROXY TCP4 192.0.2.07 10.0.0.1 40000 1883\r\n",
        "PROXY TCP4 192.0.2 10.0.0.1 40000 1883\r\n",
        "PROXY TCP4 192.0.2.7 nowhere 40000 1883\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 65536 1883\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 +400 1883\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 0400 1883\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 40000 -1\r\n",
        "PROXY TCP4 2001:db8::7 ::1 40000 1883\r\n",
        "PROXY TCP6 192.0.2.7 10.0.0.1 40000 1883\r\n",
        "PROXY TCP4 224.0.0.1 10.0.0.1 40000 1883\r\n",
        "PROXY TCP6 ff00:0:3e8::1 ::1 40000 1883\r\n",
    ] {
        assert_eq!(parse(line.as_bytes(), true), Err(ProxyFailure::Malformed), "{line:?}");
    }
    assert_eq!(parse(b"PROXY UNKNOWN \xFF\r\n", true), Err(ProxyFailure::Malformed));
    let mut line = format!("PROXY UNKNOWN {}", "x".repeat(200)).into_bytes();
    assert_eq!(parse(&line[..LINE_BYTES_MAX - 1], true), Ok(None));
    assert_eq!(parse(&line[..LINE_BYTES_MAX], true), Err(ProxyFailure::TooLong));
    line[LINE_BYTES_MAX - 2..LINE_BYTES_MAX].copy_from_slice(b"\r\n");
    assert_eq!(parse(&line, true).unwrap().unwrap().1, LINE_BYTES_MAX);
}

#[test]
fn wrong_binary_headers_are_refused() {
    for (command, family, content) in [
        (0x11, 0x11, ipv4(b"")),
        (0x31, 0x11, ipv4(b"")),
        (0x22, 0x11, ipv4(b"")),
        (0x2F, 0x11, ipv4(b"")),
        (0x21, 0x13, ipv4(b"")),
        (0x21, 0x1F, ipv4(b"")),
        (0x21, 0x03, Vec::new()),
        (0x21, 0x41, ipv6(b"")),
        (0x21, 0xF1, ipv6(b"")),
        (0x21, 0x11, ipv4(b"")[..11].to_vec()),
        (0x21, 0x11, Vec::new()),
        (0x21, 0x21, ipv6(b"")[..35].to_vec()),
        (0x21, 0x31, vec![0; 215]),
        (0x21, 0x11, vec![239; 12]),
        (0x21, 0x21, vec![0xFF; 36]),
    ] {
        let header = binary(command, family, &content);
        assert_eq!(parse(&header, true), Err(ProxyFailure::Malformed), "{header:?}");
    }
}

/// The length alone decides, so that nothing is kept for such a header.
#[test]
fn a_header_that_says_that_it_is_too_long_is_refused_at_once() {
    for length in [HEADER_BYTES_MAX - FIXED_BYTES + 1, usize::from(u16::MAX)] {
        let header = binary(0x21, 0x11, &vec![0; length]);
        let mut reader = HeaderReader::new(true);
        let (fixed, content) = header.split_at(FIXED_BYTES - 1);
        assert_eq!(reader.receive(fixed), Ok(None));
        assert_eq!(reader.receive(&content[..1]), Err(ProxyFailure::TooLong));
        assert!(reader.held_bytes() <= FIXED_BYTES);
    }
}
