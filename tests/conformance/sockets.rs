//! A broker in a process of its own, over TCP, with many connections at once.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpStream},
    path::Path,
    time::Duration,
};

use crate::{
    book::{Book, Case},
    broker::Broker,
    play::{ADA, Play, Wire},
    source::connect_from,
};

struct Socket {
    stream: TcpStream,
    received: Vec<u8>,
    closed: bool,
}

impl Socket {
    fn open((source, port): (Ipv4Addr, u16)) -> Result<Socket, String> {
        let stream = connect_from(source, port, PATIENCE);
        let stream = stream.map_err(|error| format!("no connection: {error}"))?;
        Ok(Socket { stream, received: Vec::new(), closed: false })
    }

    fn read(&mut self) -> Result<(), String> {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.closed = true,
            Ok(len) => self.received.extend_from_slice(&bytes[..len]),
            // It was closed while we had sent more than was read.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => self.closed = true,
            Err(error) => return Err(format!("after {:02x?}: {error}", self.received)),
        }
        Ok(())
    }
}

impl Wire for Socket {
    fn send(&mut self, bytes: &[u8]) {
        // What cannot be sent finds the connection closed, which is seen when it is read.
        let _ = self.stream.write_all(bytes);
    }

    fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    fn receive(&mut self, enough: &dyn Fn(&[u8]) -> bool) -> Result<(Vec<u8>, bool), String> {
        while !self.closed && !enough(&self.received) {
            self.read()?;
        }
        Ok((std::mem::take(&mut self.received), self.closed))
    }
}

/// Plays all cases on so many shards, and says what is wrong.
pub(crate) fn play(book: &Book, shards: usize) -> Vec<String> {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("vectors-{shards}.scram"));
    fs::write(&file, ADA.line()).expect("the folder for temporary files is writable");
    let file = file.to_string_lossy();
    let start = |flags: &[&str]| Broker::ringmq_with(shards, &[&PACKETS[..], flags].concat());
    let open = start(&[]);
    let scram = start(&["--scram-file", &file, "--allow-anonymous"]);
    let apart = start(&[]);
    // The broker slows an address down after some logins have failed, so each has its own.
    let mut addresses = (1..).map(|n| Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + n));
    let mut ends = |case: &Case| {
        let needs_scram = book.state(&case.state).is_ok_and(|state| state.scram);
        let broker = if case.alone { &apart } else { &open };
        if needs_scram {
            (addresses.next().expect("there are 16 million"), scram.port())
        } else {
            (Ipv4Addr::LOCALHOST, broker.port())
        }
    };
    let (alone, together): (Vec<&Case>, Vec<&Case>) =
        book.cases.iter().partition(|case| case.alone);
    let mut wrong = Vec::new();
    for batch in together.chunks(AT_ONCE).chain(alone.chunks(1)) {
        play_batch(book, batch, &mut ends, &mut wrong);
    }
    [open, scram, apart].into_iter().for_each(Broker::stop);
    wrong
}

fn play_batch(
    book: &Book,
    batch: &[&Case],
    mut ends: impl FnMut(&Case) -> (Ipv4Addr, u16),
    wrong: &mut Vec<String>,
) {
    let mut plays = Vec::new();
    for &case in batch {
        let play = Socket::open(ends(case)).and_then(|wire| Play::begin(book, case, wire));
        match play {
            Ok(play) => plays.push((case, play)),
            Err(error) => wrong.push(tell(case, &error)),
        }
    }
    plays.retain_mut(|(case, play)| {
        let entered = play.enter();
        if let Err(error) = &entered {
            wrong.push(tell(case, error));
        }
        entered.is_ok()
    });
    for (_, play) in &mut plays {
        play.go_on();
    }
    for (case, play) in plays {
        if let Err(error) = play.judge() {
            wrong.push(tell(case, &error));
        }
    }
}

fn tell(case: &Case, error: &str) -> String {
    format!("{}: {error}", case.name)
}

/// Only a broker that does not answer makes anyone wait that long.
/// The vectors know this limit.
const PACKETS: [&str; 2] = ["--max-packet-size", "1MiB"];
const PATIENCE: Duration = Duration::from_secs(10);
const AT_ONCE: usize = 500;
