//! A client that speaks plain HTTP/1.1, one request on each connection.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use crate::broker::Broker;

/// A broker with a control thread, and the port of that.
pub(crate) fn controlled(shards: usize, flags: &[&str]) -> (Broker, u16) {
    let flags = [&["--listen-http", "127.0.0.1:0"], flags].concat();
    let mut broker = Broker::ringmq_with(shards, &flags);
    let port = broker.await_port("http");
    (broker, port)
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|(found, _)| found == name);
        field.map(|(_, value)| value.as_str())
    }
}

/// Sends a request, such as `GET /metrics`, with more fields, each a whole line.
pub(crate) fn request(port: u16, line: &str, fields: &[&str], body: &str) -> Answer {
    let mut lines = vec![format!("{line} HTTP/1.1")];
    lines.push(format!("Host: 127.0.0.1:{port}"));
    lines.push("Connection: close".to_owned());
    lines.extend(fields.iter().map(|&field| field.to_owned()));
    if !body.is_empty() {
        lines.push(format!("Content-Length: {}", body.len()));
    }
    let head = lines.join("\r\n");
    raw(port, &format!("{head}\r\n\r\n{body}"))
}

pub(crate) fn get(port: u16, path: &str) -> Answer {
    request(port, &format!("GET {path}"), &[], "")
}

/// Sends these bytes, and reads until the broker closes the connection. Of events, which never end,
/// it reads the beginning.
pub(crate) fn raw(port: u16, bytes: &str) -> Answer {
    let mut stream = open(port);
    // The broker may answer and close before it has read everything.
    let _ = stream.write_all(bytes.as_bytes());
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    while !begins_events(&answer)
        && let Ok(bytes @ 1..) = stream.read(&mut part)
    {
        answer.extend_from_slice(&part[..bytes]);
    }
    parse(&String::from_utf8(answer).unwrap())
}

fn begins_events(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    text.split_once("\r\n\r\n").is_some_and(|(head, _)| head.contains("text/event-stream"))
}

pub(crate) fn open(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn parse(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let field = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    };
    Answer { status, fields: lines.map(field).collect(), body: body.to_owned() }
}
