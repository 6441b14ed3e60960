//! One case, played on a connection, whatever the connection is made of.

use ringmq::mqtt::Version;

use crate::{
    book::{Book, Case, Sends, State},
    hearing::{Answer, compare, count_packets, property_of},
    notation::{Setting, encode},
    scram::{SHA_256, Scram},
};

/// Who proves to be who it is in the state `auth`.
pub(crate) const ADA: Scram<'_> = Scram { method: SHA_256, user: "ada", password: "pencil" };

/// A client's end of a connection.
pub(crate) trait Wire {
    fn send(&mut self, bytes: &[u8]);

    /// Nothing more is sent.
    fn finish(&mut self);

    /// Everything that has come since the last look, once it is enough or the connection is
    /// closed; and whether it is.
    fn receive(&mut self, enough: &dyn Fn(&[u8]) -> bool) -> Result<(Vec<u8>, bool), String>;
}

/// A case on its way.
pub(crate) struct Play<'a, W> {
    book: &'a Book,
    case: &'a Case,
    state: &'a State,
    wire: W,
    parts: std::vec::IntoIter<Vec<u8>>,
}

impl<'a, W: Wire> Play<'a, W> {
    /// Sends what brings the connection to the state of the case.
    pub(crate) fn begin(book: &'a Book, case: &'a Case, mut wire: W) -> Result<Self, String> {
        let state = book.state(&case.state)?;
        if let Some(text) = &state.send {
            wire.send(&encode(text, setting(case))?);
        }
        Ok(Play { book, case, state, wire, parts: Vec::new().into_iter() })
    }

    /// Reads what the broker says to that, and sends the first part of the case.
    pub(crate) fn enter(&mut self) -> Result<(), String> {
        let mut challenge = Vec::new();
        if let Some(answer) = &self.state.answer {
            let enough = |bytes: &[u8]| count_packets(bytes) > 0;
            let (bytes, _) = self.wire.receive(&enough)?;
            let version = self.case.version;
            self.check(&bytes, &[Answer::parse(answer, version)?], version)?;
            challenge = bytes;
        }
        let mut parts = match &self.case.sends {
            Sends::Parts { parts, .. } => parts.clone(),
            Sends::Proof => vec![self.prove(&challenge)?],
        };
        if let Some(before) = &self.state.before {
            parts[0].splice(0..0, encode(before, setting(self.case))?);
        }
        self.parts = parts.into_iter();
        self.send_part();
        Ok(())
    }

    /// Sends the rest of the case, and what shows that the connection is alive if it is to be.
    pub(crate) fn go_on(&mut self) {
        while self.send_part() {}
        if matches!(self.case.sends, Sends::Parts { finish: true, .. }) {
            self.wire.finish();
        } else if !self.case.expect.closes {
            self.wire.send(&PINGREQ);
        }
    }

    /// Compares what the broker does with what is expected.
    pub(crate) fn judge(mut self) -> Result<(), String> {
        let expect = &self.case.expect;
        let mut answers = expect.answers.clone();
        let mut closes = expect.closes;
        if !closes {
            let (answer, then_closes) = self.sign_of_life();
            answers.push(Answer::parse(answer, self.case.version)?);
            closes = then_closes;
        }
        let count = answers.len();
        let enough = |bytes: &[u8]| !closes && count_packets(bytes) >= count;
        let (bytes, closed) = self.wire.receive(&enough)?;
        self.check(&bytes, &answers, expect.version)?;
        match (closed, closes) {
            (true, false) => Err("the connection is closed".to_owned()),
            (false, true) => Err("the connection is not closed".to_owned()),
            _ => Ok(()),
        }
    }

    /// What a PINGREQ is answered where the connection is, and whether that is its end: a client
    /// that is to prove who it is may not send one.
    fn sign_of_life(&self) -> (&'static str, bool) {
        let let_in = self.case.expect.answers.iter().any(|answer| answer.is("CONNACK 00"));
        if self.state.scram && !let_in { ("CONNACK 82", true) } else { ("PINGRESP", false) }
    }

    fn send_part(&mut self) -> bool {
        let part = self.parts.next();
        part.inspect(|part| self.wire.send(part)).is_some()
    }

    fn check(&self, bytes: &[u8], answers: &[Answer], version: Version) -> Result<(), String> {
        compare(bytes, version, &self.book.properties, answers)
    }

    /// The AUTH packet that answers this challenge.
    fn prove(&self, challenge: &[u8]) -> Result<Vec<u8>, String> {
        let data = property_of(challenge, "AuthenticationData", &self.book.properties);
        // Behind the length of the data.
        let server_first = data.and_then(|data| String::from_utf8(data.get(2..)?.to_vec()).ok());
        let finish = ADA.finish(&server_first.ok_or("no challenge")?);
        let hole = finish.client_final.as_bytes();
        let setting = Setting { hole, ..Setting::new(Version::V5, 0) };
        encode("f0 [ 18 < 15 \"SCRAM-SHA-256\" 16 {@} > ]", setting)
    }
}

fn setting(case: &Case) -> Setting<'static> {
    Setting::new(case.version, case.number)
}

const PINGREQ: [u8; 2] = [0xC0, 0];
