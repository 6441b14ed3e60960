//! MQTT over WebSocket: the server's half of RFC 6455, and section 6 of MQTT.
//!
//! ```text
//!              request                  Close, either way
//!   Requested ---------> Open ----------------------------> Closed
//!       |     refused                                          ^
//!       +------------------------------------------------------+
//! ```
//! No extension is supported, so there is no compression. Applications can compress their payloads.

mod frame;
mod handshake;
mod reader;
#[cfg(test)]
mod tests;

use std::{mem, ops::Range};

use self::reader::FrameReader;
pub use self::{
    frame::{CloseCode, Failure, HEAD_ROOM, write_head},
    handshake::{Handshake, HandshakePolicy, Refusal},
    reader::{Control, FramesEnd},
};
use super::{Received, TransportEnd};

/// The server's end of one WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    reader: FrameReader,
    stage: Stage,
    /// The code of the Close frame to send.
    close: CloseCode,
    /// The input has ended: further bytes of the client are ignored.
    ended: bool,
    /// The bytes of the request, while it is incomplete.
    request: Option<Box<Request>>,
}

#[derive(Debug, Default)]
struct Request {
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Requested,
    Open,
    Closed,
}

// Most WebSockets are idle most of the time.
const _: () = assert!(size_of::<WebSocket>() <= 64, "an idle one takes one cache line");

impl Default for WebSocket {
    /// A new connection, before its request.
    fn default() -> WebSocket {
        WebSocket {
            reader: FrameReader::new(),
            stage: Stage::Requested,
            close: CloseCode::NORMAL,
            ended: false,
            request: None,
        }
    }
}

impl WebSocket {
    /// Whether the request has not been answered yet.
    pub fn is_requested(&self) -> bool {
        self.stage == Stage::Requested
    }

    /// Takes received bytes: first the request, then frames.
    pub(super) fn receive(&mut self, bytes: &mut [u8], policy: &HandshakePolicy) -> Received {
        if self.is_requested() {
            self.receive_request(bytes, policy)
        } else {
            self.receive_frames(bytes, 0)
        }
    }

    /// Collects the request, and answers it when it is complete.
    fn receive_request(&mut self, bytes: &mut [u8], policy: &HandshakePolicy) -> Received {
        let mut request = self.request.take().unwrap_or_default();
        let searched = request.bytes.len();
        request.bytes.extend_from_slice(bytes);
        match handshake::read(&request.bytes, searched, policy) {
            Handshake::Incomplete => {
                self.request = Some(request);
                Received::default()
            }
            Handshake::Accepted { taken, answer } => {
                self.stage = Stage::Open;
                // A client may send frames before it has the answer.
                Received { answer, ..self.receive_frames(bytes, taken - searched) }
            }
            Handshake::Refused(refusal) => {
                self.stage = Stage::Closed;
                let end = Some(TransportEnd::Refused(refusal));
                Received { answer: refusal.answer(), end, ..Received::default() }
            }
        }
    }

    fn receive_frames(&mut self, bytes: &mut [u8], from: usize) -> Received {
        let (data, end) = self.read(&mut bytes[from..]);
        let end = end.map(|end| match end {
            FramesEnd::Closed(_) => TransportEnd::Closed,
            FramesEnd::Failed(failure) => TransportEnd::Failed(failure),
        });
        let mqtt = from + data.start..from + data.end;
        Received { mqtt, owes: self.reader.pong.is_some(), end, ..Received::default() }
    }

    /// Bytes of an incomplete request.
    pub(super) fn held_bytes(&self) -> usize {
        self.request.as_ref().map_or(0, |request| request.bytes.capacity())
    }

    pub(super) fn forget_held(&mut self) {
        drop(mem::take(&mut self.request));
    }

    /// Takes received bytes out of their frames. The MQTT bytes are moved together, to the range of
    /// `bytes` that is returned.
    pub fn read(&mut self, bytes: &mut [u8]) -> (Range<usize>, Option<FramesEnd>) {
        if self.ended || self.stage != Stage::Open {
            return (0..0, None);
        }
        let (data, end) = self.reader.read(bytes);
        if let Some(end) = end {
            self.ended = true;
            self.close = match end {
                FramesEnd::Closed(code) => code,
                FramesEnd::Failed(failure) => failure.close_code(),
            };
        }
        (data, end)
    }

    /// Takes the answer to the latest Ping. Never more than one waits.
    pub fn take_pong(&mut self) -> Option<Box<Control>> {
        self.reader.pong.take().filter(|_| self.stage == Stage::Open)
    }

    /// Sets the code to close with, unless the client or an invalid frame has determined it.
    pub fn set_close(&mut self, code: CloseCode) {
        if !self.ended {
            self.close = code;
        }
    }

    /// Takes the Close frame, once. No frame may follow it.
    pub fn take_close(&mut self) -> Option<[u8; 4]> {
        let was_open = self.stage == Stage::Open;
        self.stage = Stage::Closed;
        was_open.then(|| self.close.frame())
    }
}
