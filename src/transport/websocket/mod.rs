//! MQTT over WebSocket: RFC 6455 as a server speaks it, and section 6 of MQTT.
//!
//! ```text
//!              request                  Close, either way
//!   Requested ---------> Open ----------------------------> Closed
//!       |     refused                                          ^
//!       +------------------------------------------------------+
//! ```
//! Extensions are not offered: MQTT that is worth compressing is compressed by those who know it.

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
    /// The code of the Close frame that is owed.
    close: CloseCode,
    /// Nothing more of what the client sends is looked at.
    ended: bool,
    /// The request as far as it has come, if that is not all of it.
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

// Most WebSockets do nothing most of the time.
const _: () = assert!(size_of::<WebSocket>() <= 64, "an idle one takes one cache line");

impl Default for WebSocket {
    /// One that has been connected to, and was asked nothing yet.
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
    /// Whether there has been no answer to the request.
    pub fn is_requested(&self) -> bool {
        self.stage == Stage::Requested
    }

    /// Takes received bytes: of the request, and of frames once that has been answered.
    pub(super) fn receive(&mut self, bytes: &mut [u8], policy: &HandshakePolicy) -> Received {
        if self.is_requested() {
            self.receive_request(bytes, policy)
        } else {
            self.receive_frames(bytes, 0)
        }
    }

    /// Collects the request, and answers it when it is whole.
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
                // A client that did not wait for the answer has sent frames already.
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

    /// Bytes of a request that is not whole.
    pub(super) fn held_bytes(&self) -> usize {
        self.request.as_ref().map_or(0, |request| request.bytes.capacity())
    }

    pub(super) fn forget_held(&mut self) {
        drop(mem::take(&mut self.request));
    }

    /// Takes received bytes out of their frames. The MQTT bytes lie together afterwards, in the
    /// range of `bytes` that is returned.
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

    /// The answer to the latest Ping, if it has not been taken. There is never more than one.
    pub fn take_pong(&mut self) -> Option<Box<Control>> {
        self.reader.pong.take().filter(|_| self.stage == Stage::Open)
    }

    /// Says with which code to close, unless the client or its frames have said so.
    pub fn set_close(&mut self, code: CloseCode) {
        if !self.ended {
            self.close = code;
        }
    }

    /// The Close frame, once; no frame may follow it.
    pub fn take_close(&mut self) -> Option<[u8; 4]> {
        let was_open = self.stage == Stage::Open;
        self.stage = Stage::Closed;
        was_open.then(|| self.close.frame())
    }
}
