//! Where a running broker is reached, and one request there.

use std::{
    fmt::Write as _,
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    time::Duration,
};

use anyhow::{Result, bail};

use crate::{config::Remote, transport::Address};

/// The address that was named, or else the only usual one at which a broker answers.
pub(super) fn of(remote: &Remote) -> Result<Address> {
    match &remote.at {
        Some(at) => Ok(at.clone()),
        None => find(Remote::usual_sockets(), Remote::usual_address()),
    }
}

/// One of the control sockets, if one program alone listens on any; or else this address.
fn find(sockets: [Address; 2], last: Address) -> Result<Address> {
    let mut looked = String::new();
    let mut found = Vec::new();
    for place in sockets {
        match Stream::open(&place) {
            Ok(_) => found.push(place),
            Err(error) => write!(looked, "\n  {place}: {error}")?,
        }
    }
    match &found[..] {
        [] => {}
        [place] => return Ok(place.clone()),
        [one, other, ..] => bail!("brokers answer at {one} and at {other}: say which by --at"),
    }
    let Err(error) = Stream::open(&last) else { return Ok(last) };
    bail!("no broker answers at the usual places: say where by --at{looked}\n  {last}: {error}");
}

/// Sends a request by its line, such as `GET /metrics`, and returns the whole answer.
pub(super) fn send(place: &Address, line: &str, token: Option<&str>, body: &str) -> Result<String> {
    let mut stream = begin(place, line, (token, body), PATIENCE)?;
    let mut answer = String::new();
    stream.0.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Sends a request whose answer goes on, and returns its lines as they come.
pub(super) fn follow(
    place: &Address,
    line: &str,
    token: Option<&str>,
) -> Result<impl Iterator<Item = io::Result<String>> + use<>> {
    let stream = begin(place, line, (token, ""), LONG_PATIENCE)?;
    Ok(BufReader::new(stream.0).lines())
}

fn begin(
    place: &Address,
    line: &str,
    (token, body): (Option<&str>, &str),
    patience: Duration,
) -> Result<Stream> {
    let host = place.ip().map_or_else(|| "localhost".to_owned(), |address| address.to_string());
    let mut head = format!("{line} HTTP/1.0\r\nHost: {host}\r\n");
    if let Some(token) = token {
        write!(head, "Authorization: Bearer {token}\r\n")?;
    }
    if !body.is_empty() {
        write!(head, "Content-Length: {}\r\n", body.len())?;
    }
    let mut stream = Stream::open_for(place, patience)?;
    stream.0.write_all(format!("{head}\r\n{body}").as_bytes())?;
    Ok(stream)
}

trait ReadWrite: Read + Write {}

impl<T: Read + Write> ReadWrite for T {}

/// A connection to a broker.
struct Stream(Box<dyn ReadWrite>);

impl Stream {
    fn open(place: &Address) -> io::Result<Stream> {
        Stream::open_for(place, PATIENCE)
    }

    fn open_for(place: &Address, patience: Duration) -> io::Result<Stream> {
        Ok(match place {
            Address::Ip(address) => {
                let stream = TcpStream::connect_timeout(address, PATIENCE)?;
                stream.set_read_timeout(Some(patience))?;
                Stream(Box::new(stream))
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(patience))?;
                Stream(Box::new(stream))
            }
        })
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
/// More than the time between two signs of life of an answer that goes on.
const LONG_PATIENCE: Duration = Duration::from_mins(1);
