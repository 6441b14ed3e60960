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

use std::ops::Range;

use self::reader::FrameReader;
pub use self::{
    frame::{CloseCode, Failure, HEAD_ROOM, write_head},
    handshake::{Handshake, HandshakePolicy, Refusal},
    reader::{Control, FramesEnd},
};

/// The server's end of one WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    reader: FrameReader,
    stage: Stage,
    /// The code of the Close frame that is owed.
    close: CloseCode,
    /// Nothing more of what the client sends is looked at.
    ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Requested {
        /// Bytes of the request in which its end has not been found.
        searched: u16,
    },
    Open,
    Closed,
}

// Most WebSockets do nothing most of the time.
const _: () = assert!(size_of::<WebSocket>() <= 64, "an idle one takes one cache line");
const _: () = assert!(handshake::REQUEST_BYTES_MAX <= u16::MAX as usize);

impl Default for WebSocket {
    /// One that has been connected to, and was asked nothing yet.
    fn default() -> WebSocket {
        WebSocket {
            reader: FrameReader::new(),
            stage: Stage::Requested { searched: 0 },
            close: CloseCode::NORMAL,
            ended: false,
        }
    }
}

impl WebSocket {
    /// Whether there has been no answer to the request.
    pub fn is_requested(&self) -> bool {
        matches!(self.stage, Stage::Requested { .. })
    }

    /// Reads the request from all bytes that have come so far. What follows it is for
    /// [`WebSocket::read`].
    pub fn handle_request(&mut self, bytes: &[u8], rules: &HandshakePolicy) -> Handshake {
        let Stage::Requested { searched } = self.stage else { return Handshake::Incomplete };
        let handshake = handshake::read(bytes, usize::from(searched), rules);
        self.stage = match handshake {
            Handshake::Incomplete => {
                Stage::Requested { searched: u16::try_from(bytes.len()).unwrap_or(u16::MAX) }
            }
            Handshake::Accepted { .. } => Stage::Open,
            Handshake::Refused(_) => Stage::Closed,
        };
        handshake
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
