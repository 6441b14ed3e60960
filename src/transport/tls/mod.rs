//! The server's half of TLS 1.2 and 1.3, by rustls: received bytes in, MQTT bytes and bytes to send
//! out. And whom the broker trusts where it is a client.

mod chooser;
mod client;
mod der;
mod failure;
mod names;
mod server;

use std::{fmt, mem, sync::Arc};

use rustls::{
    HandshakeKind,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeTlsData, UnbufferedStatus, WriteTraffic},
};

pub use self::{
    client::{ClientTls, ClientTlsFault},
    failure::TlsFailure,
    names::UserFrom,
    server::{
        CertificateError, CertificateSource, ClientSource, Naming, ServerTls, TlsError, TlsOptions,
        TlsSource, TlsVersion,
    },
};

/// Bytes of plaintext in a record, at most.
pub const RECORD_BYTES_MAX: usize = 16 << 10;
/// Bytes that a record is larger than its plaintext, at most, with a `KeyUpdate` before it.
pub const RECORD_OVERHEAD: usize = 256;
/// The type of a record that holds a handshake.
const HANDSHAKE: u8 = 22;
/// The first byte of a CONNECT.
const CONNECT: u8 = 0x10;

/// Memory of an idle connection, in bytes: [`Tls`], and what rustls keeps behind it.
pub const STATE_BYTES: usize = size_of::<Tls>() + (1 << 10);

/// TLS on one connection.
pub struct Tls {
    connection: UnbufferedServerConnection,
    /// The beginning of an incomplete record or handshake message.
    held: Vec<u8>,
    /// Handshake messages and alerts that have to be sent before all else.
    owed: Vec<u8>,
    naming: Option<Naming>,
    begun: bool,
    /// TLS has failed: nothing is sealed any more.
    failed: bool,
    close_sent: bool,
}

/// What received bytes contained.
#[derive(Debug, Default)]
pub struct Opened {
    pub mqtt: Vec<u8>,
    /// The handshake that these bytes have completed.
    pub handshake: Option<Handshake>,
    pub end: Option<TlsEnd>,
}

/// A handshake that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    Full,
    /// By a ticket of an earlier session.
    Resumed,
}

/// Why the input has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsEnd {
    /// The client has sent its `close_notify`.
    Closed,
    Failed(TlsFailure),
}

/// Who a client is by its certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Certified {
    /// The client has none, or certificates name nobody here.
    #[default]
    Nobody,
    /// The certificate has no name of the kind that is asked for.
    Nameless,
    User {
        name: Box<str>,
        /// The name has to be the Client Identifier as well.
        is_client_id: bool,
    },
}

impl Tls {
    /// The end of a new connection.
    pub fn new(server: &ServerTls) -> Tls {
        let connection = UnbufferedServerConnection::new(Arc::clone(&server.config));
        Tls {
            connection: connection.expect("the configuration was checked when it was made"),
            held: Vec::new(),
            owed: Vec::new(),
            naming: server.naming,
            begun: false,
            failed: false,
            close_sent: false,
        }
    }

    /// Who the client is by its certificate. It is known once the handshake is over.
    pub fn certified(&self) -> Certified {
        let certificate = self.connection.peer_certificates().and_then(|chain| chain.first());
        let (Some(certificate), Some(naming)) = (certificate, self.naming) else {
            return Certified::Nobody;
        };
        match names::user_name(certificate, naming.user_from) {
            Some(name) => Certified::User { name, is_client_id: naming.fixes_client_id },
            None => Certified::Nameless,
        }
    }

    /// Takes all received bytes.
    pub fn receive(&mut self, bytes: &mut [u8]) -> Opened {
        if self.failed {
            return Opened::default();
        }
        let first = self.held.first().or_else(|| bytes.first());
        if let Some(&first) = first.filter(|_| !mem::replace(&mut self.begun, true))
            && first != HANDSHAKE
        {
            let failure = match first {
                CONNECT => TlsFailure::PlainMqtt,
                b'A'..=b'Z' => TlsFailure::PlainHttp,
                _ => TlsFailure::NotTls,
            };
            self.failed = true;
            self.held = Vec::new();
            return Opened { end: Some(TlsEnd::Failed(failure)), ..Opened::default() };
        }
        let was_shaking = self.connection.is_handshaking();
        let mut opened = Opened::default();
        if self.held.is_empty() {
            let used = self.open(bytes, &mut opened);
            self.held.extend_from_slice(&bytes[used..]);
        } else {
            let mut held = mem::take(&mut self.held);
            held.extend_from_slice(bytes);
            let used = self.open(&mut held, &mut opened);
            held.drain(..used);
            // An idle connection owns no buffer, and the rest of a record no large one.
            held.shrink_to_fit();
            self.held = held;
        }
        if opened.end.is_some() {
            self.forget_held();
        }
        if was_shaking && !self.connection.is_handshaking() {
            opened.handshake = Some(match self.connection.handshake_kind() {
                Some(HandshakeKind::Resumed) => Handshake::Resumed,
                _ => Handshake::Full,
            });
        }
        opened
    }

    /// Keeps received bytes that belong to a handshake. False: the handshake is over.
    pub fn hold_handshake(&mut self, bytes: &[u8]) -> bool {
        let holds = self.connection.is_handshaking() && !self.failed;
        if holds {
            self.held.extend_from_slice(bytes);
        }
        holds
    }

    /// Whether the client has begun a handshake that is not complete.
    pub fn is_shaking_hands(&self) -> bool {
        self.connection.is_handshaking() && (self.begun || !self.held.is_empty())
    }

    /// Bytes of an incomplete record.
    pub fn record_bytes(&self) -> usize {
        self.held.len()
    }

    /// Whether [`Tls::take_owed`] has something.
    pub fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Bytes to send before what is sealed from now on.
    pub fn take_owed(&mut self) -> Vec<u8> {
        mem::take(&mut self.owed)
    }

    /// Appends at most [`RECORD_BYTES_MAX`] bytes to `out` as a record. False: nothing can be
    /// sealed. The handshake has not come so far, the connection has ended, or its keys have
    /// sealed as many records as they may.
    #[must_use]
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> bool {
        self.write(out, |mut traffic, out| {
            let start = out.len();
            out.resize(start + plain.len() + RECORD_OVERHEAD, 0);
            let sealed = traffic.encrypt(plain, &mut out[start..]).unwrap_or(0);
            out.truncate(start + sealed);
            sealed > 0
        })
    }

    /// The `close_notify`, once; empty if there is none to send.
    pub fn take_close(&mut self) -> Vec<u8> {
        let mut close = Vec::new();
        if !mem::replace(&mut self.close_sent, true) {
            self.write(&mut close, |mut traffic, close| {
                let start = close.len();
                close.resize(start + RECORD_OVERHEAD, 0);
                let sealed = traffic.queue_close_notify(&mut close[start..]).unwrap_or(0);
                close.truncate(start + sealed);
                sealed > 0
            });
        }
        close
    }

    /// Appends what rustls has ready, then what `write` writes. False: the handshake has not come
    /// so far, or the connection has ended.
    fn write(
        &mut self,
        out: &mut Vec<u8>,
        write: impl FnOnce(WriteTraffic<'_, ServerConnectionData>, &mut Vec<u8>) -> bool,
    ) -> bool {
        loop {
            if self.failed {
                return false;
            }
            // rustls refers to parts of a handshake message by their places among the held bytes,
            // and panics when they are not there.
            match self.connection.process_tls_records(&mut self.held).state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::WriteTraffic(traffic)) => return write(traffic, out),
                _ => return false,
            }
        }
    }

    /// Memory for an incomplete record or handshake message, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.held.capacity()
    }

    pub fn forget_held(&mut self) {
        // rustls still refers to a whole record among them: it has begun a handshake message.
        self.failed |= begins_whole(&self.held);
        self.held = Vec::new();
    }

    /// Handles all complete records at the front, and returns how many bytes are done with.
    fn open(&mut self, bytes: &mut [u8], opened: &mut Opened) -> usize {
        let mut used = 0;
        loop {
            let UnbufferedStatus { discard, state, .. } =
                self.connection.process_tls_records(&mut bytes[used..]);
            let mut ends = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        opened.mqtt.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.owed),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    opened.end = Some(TlsEnd::Closed);
                    ends = true;
                }
                Ok(_) => ends = true,
                Err(error) => {
                    opened.end = Some(TlsEnd::Failed(TlsFailure::from(&error)));
                    ends = true;
                }
            }
            used += discard;
            if ends {
                break;
            }
        }
        if let Some(TlsEnd::Failed(_)) = opened.end {
            self.failed = true;
            self.take_alert(&mut bytes[used..]);
        }
        used
    }

    /// Takes the alert that tells the client why. `rest` is what came after the wrong bytes.
    ///
    /// rustls is asked once: it would look at the rest, and panics at a second alert.
    fn take_alert(&mut self, rest: &mut [u8]) {
        if let Ok(ConnectionState::EncodeTlsData(data)) =
            self.connection.process_tls_records(rest).state
        {
            encode(data, &mut self.owed);
        }
    }
}

/// Whether the bytes begin with a whole record.
fn begins_whole(bytes: &[u8]) -> bool {
    let &[_, _, _, high, low, ref rest @ ..] = bytes else { return false };
    rest.len() >= usize::from(u16::from_be_bytes([high, low]))
}

/// Appends a message that rustls has ready.
fn encode<Data>(mut data: EncodeTlsData<'_, Data>, owed: &mut Vec<u8>) {
    use rustls::unbuffered::EncodeError;
    let start = owed.len();
    if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
        owed.resize(start + size.required_size, 0);
        let written = data.encode(&mut owed[start..]).unwrap_or(0);
        owed.truncate(start + written);
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
