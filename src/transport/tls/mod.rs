//! The server's half of TLS 1.2 and 1.3, by rustls: received bytes in, MQTT bytes and bytes to send
//! out.

mod certificate;

use std::{fmt, mem, sync::Arc};

use rustls::{
    AlertDescription, Error,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeTlsData, UnbufferedStatus},
};

pub use self::certificate::{CertificateError, ServerTls};

/// Bytes of plaintext in a record, at most.
pub const RECORD_BYTES_MAX: usize = 16 << 10;
/// Bytes that a record is larger than its plaintext, at most, with a `KeyUpdate` before it.
pub const RECORD_OVERHEAD: usize = 256;
/// The type of a record that holds a handshake.
const HANDSHAKE: u8 = 22;
/// The first byte of a CONNECT.
const CONNECT: u8 = 0x10;

/// TLS on one connection.
pub struct Tls {
    connection: UnbufferedServerConnection,
    /// The beginning of an incomplete record or handshake message.
    held: Vec<u8>,
    /// Handshake messages and alerts that have to be sent before all else.
    owed: Vec<u8>,
    begun: bool,
    close_sent: bool,
}

/// What received bytes contained.
#[derive(Debug, Default)]
pub struct Opened {
    pub mqtt: Vec<u8>,
    pub end: Option<TlsEnd>,
}

/// Why the input has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsEnd {
    /// The client has sent its `close_notify`.
    Closed,
    Failed(TlsFailure),
}

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFailure {
    PlainMqtt,
    NotTls,
    /// The client's alert is about the certificate.
    Distrusted,
    /// Another alert of the client.
    Alert,
    NothingInCommon,
    Wrong,
}

impl TlsFailure {
    /// The failure in words.
    pub fn text(self) -> &'static str {
        match self {
            TlsFailure::PlainMqtt => "plain MQTT on a TLS port",
            TlsFailure::NotTls => "the first bytes are not TLS: this listener speaks TLS",
            TlsFailure::Distrusted => "the client does not trust the certificate of the broker",
            TlsFailure::Alert => "the client ended TLS with an alert",
            TlsFailure::NothingInCommon => "no TLS version or cipher suite in common",
            TlsFailure::Wrong => "the TLS records of the client are wrong",
        }
    }
}

impl Tls {
    /// The end of a new connection.
    pub fn new(server: &ServerTls) -> Tls {
        let connection = UnbufferedServerConnection::new(Arc::clone(&server.config));
        Tls {
            connection: connection.expect("the configuration was checked when it was made"),
            held: Vec::new(),
            owed: Vec::new(),
            begun: false,
            close_sent: false,
        }
    }

    /// Takes all received bytes.
    pub fn receive(&mut self, bytes: &mut [u8]) -> Opened {
        if let Some(&first) = bytes.first().filter(|_| !mem::replace(&mut self.begun, true))
            && first != HANDSHAKE
        {
            let plain = first == CONNECT;
            let failure = if plain { TlsFailure::PlainMqtt } else { TlsFailure::NotTls };
            return Opened { end: Some(TlsEnd::Failed(failure)), ..Opened::default() };
        }
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
        opened
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
        loop {
            match self.connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let start = out.len();
                    out.resize(start + plain.len() + RECORD_OVERHEAD, 0);
                    let sealed = traffic.encrypt(plain, &mut out[start..]).unwrap_or(0);
                    out.truncate(start + sealed);
                    return sealed > 0;
                }
                _ => return false,
            }
        }
    }

    /// The `close_notify`, once; empty if there is none to send.
    pub fn take_close(&mut self) -> Vec<u8> {
        let mut close = Vec::new();
        if mem::replace(&mut self.close_sent, true) {
            return close;
        }
        let status = self.connection.process_tls_records(&mut []);
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state {
            close.resize(RECORD_OVERHEAD, 0);
            let sealed = traffic.queue_close_notify(&mut close).unwrap_or(0);
            close.truncate(sealed);
        }
        close
    }

    /// Memory for an incomplete record or handshake message, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.held.capacity()
    }

    pub fn forget_held(&mut self) {
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
            self.collect_alert();
        }
        used
    }

    /// Collects the alert that tells the client why.
    fn collect_alert(&mut self) {
        loop {
            match self.connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.owed),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                _ => return,
            }
        }
    }
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

impl From<&Error> for TlsFailure {
    fn from(error: &Error) -> TlsFailure {
        match error {
            Error::AlertReceived(
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired,
            ) => TlsFailure::Distrusted,
            Error::AlertReceived(_) => TlsFailure::Alert,
            Error::PeerIncompatible(_) => TlsFailure::NothingInCommon,
            _ => TlsFailure::Wrong,
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
