//! Reads the frames of an open WebSocket: frames in, MQTT bytes out.
//!
//! ```text
//!            head is whole               payload is whole
//!   (head) -----------------> (payload) ------------------> (head)
//!     |      and its payload empty                            ^
//!     +-------------------------------------------------------+
//! ```
//! Payload is passed on as it comes. Only a control frame, of at most 125 bytes, waits for its end.

use std::{ops::Range, str};

use super::frame::{
    CONTROL_BYTES_MAX, CloseCode, Failure, HEAD_BYTES_MAX, Opcode, Start, decode_rest, unmask,
};

/// Reads the frames of one client, however their bytes are split.
#[derive(Debug)]
pub(super) struct FrameReader {
    /// Bytes of the frame's payload that have not come.
    left: u64,
    mask: [u8; 4],
    opcode: Opcode,
    /// The bytes of an incomplete head.
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: u8,
    /// A fragmented message has begun, and its last frame has not come.
    in_message: bool,
    /// An incomplete Ping or Close.
    control: Option<Box<Control>>,
    /// The answer to the latest Ping. It answers all earlier ones, too.
    pub(super) pong: Option<Box<Control>>,
}

/// Why reading has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramesEnd {
    /// The client has closed, with this code.
    Closed(CloseCode),
    Failed(Failure),
}

/// A control frame to be sent.
pub struct Control {
    frame: [u8; 2 + CONTROL_BYTES_MAX],
}

impl FrameReader {
    pub(super) fn new() -> FrameReader {
        FrameReader {
            left: 0,
            mask: [0; 4],
            opcode: Opcode::Continuation,
            head: [0; HEAD_BYTES_MAX],
            head_bytes: 0,
            in_message: false,
            control: None,
            pong: None,
        }
    }

    /// Takes all bytes, or those up to the end of the WebSocket. The MQTT bytes among them are
    /// moved together, to the range of `bytes` that is returned. [MQTT-6.0.0-2]
    /// [MQTT-6.0.0-2@3.1.1]
    pub(super) fn read(&mut self, bytes: &mut [u8]) -> (Range<usize>, Option<FramesEnd>) {
        let mut data = 0..0;
        let mut at = 0;
        while at < bytes.len() {
            let step = if self.left == 0 {
                self.read_head(&bytes[at..])
            } else {
                self.read_payload(bytes, at, &mut data)
            };
            match step {
                Ok(taken) => at += taken,
                Err(end) => return (data, Some(end)),
            }
        }
        (data, None)
    }

    /// Takes bytes of a head, and returns how many.
    fn read_head(&mut self, bytes: &[u8]) -> Result<usize, FramesEnd> {
        let have = usize::from(self.head_bytes);
        let start = [self.head[0], self.head[1]];
        let start =
            (have >= 2).then(|| Start::decode(start)).transpose().map_err(FramesEnd::Failed)?;
        let wanted = start.map_or(2, Start::head_bytes);
        let taken = bytes.len().min(wanted - have);
        self.head[have..have + taken].copy_from_slice(&bytes[..taken]);
        let have = have + taken;
        self.head_bytes = u8::try_from(have).expect("a head is short");
        match start {
            Some(start) if have == wanted => self.begin(start)?,
            None if have == 2 => {
                self.admit([self.head[0], self.head[1]]).map_err(FramesEnd::Failed)?;
            }
            _ => {}
        }
        Ok(taken)
    }

    /// Checks whether a frame that begins like this may come now. Text is never allowed.
    /// [MQTT-6.0.0-1] [MQTT-6.0.0-1@3.1.1]
    fn admit(&self, start: [u8; 2]) -> Result<(), Failure> {
        match (Start::decode(start)?.opcode, self.in_message) {
            (Opcode::Text, _) => Err(Failure::Text),
            (Opcode::Continuation, false) => Err(Failure::NothingToContinue),
            (Opcode::Binary, true) => Err(Failure::MessageInMessage),
            _ => Ok(()),
        }
    }

    /// The head is complete.
    fn begin(&mut self, start: Start) -> Result<(), FramesEnd> {
        let rest = &self.head[2..usize::from(self.head_bytes)];
        (self.left, self.mask) = decode_rest(start, rest).map_err(FramesEnd::Failed)?;
        self.head_bytes = 0;
        self.opcode = start.opcode;
        match start.opcode {
            Opcode::Ping | Opcode::Close => self.control = Some(Box::new(Control::pong())),
            Opcode::Pong => {}
            Opcode::Binary | Opcode::Continuation | Opcode::Text => self.in_message = !start.last,
        }
        if self.left == 0 { self.finish() } else { Ok(()) }
    }

    /// Takes payload from `at` on, and returns how many bytes.
    fn read_payload(
        &mut self,
        bytes: &mut [u8],
        at: usize,
        data: &mut Range<usize>,
    ) -> Result<usize, FramesEnd> {
        let rest = bytes.len() - at;
        let taken = usize::try_from(self.left).map_or(rest, |left| left.min(rest));
        let payload = &mut bytes[at..at + taken];
        unmask(payload, self.mask);
        self.mask.rotate_left(taken % 4);
        self.left -= taken as u64;
        if !self.opcode.is_control() {
            join(bytes, data, at..at + taken);
        } else if let Some(control) = &mut self.control {
            control.append(payload);
        }
        if self.left == 0 {
            self.finish()?;
        }
        Ok(taken)
    }

    /// The payload is complete.
    fn finish(&mut self) -> Result<(), FramesEnd> {
        match self.opcode {
            Opcode::Ping => self.pong = self.control.take(),
            Opcode::Close => {
                let control = self.control.take();
                let payload = control.as_ref().map_or(&[][..], |control| control.payload());
                return Err(decode_close(payload).map_or_else(FramesEnd::Failed, FramesEnd::Closed));
            }
            Opcode::Pong | Opcode::Binary | Opcode::Continuation | Opcode::Text => {}
        }
        Ok(())
    }
}

impl Control {
    /// A Pong without a payload.
    fn pong() -> Control {
        let mut frame = [0; 2 + CONTROL_BYTES_MAX];
        frame[0] = Opcode::Pong.first_byte();
        Control { frame }
    }

    fn append(&mut self, payload: &[u8]) {
        let end = 2 + usize::from(self.frame[1]);
        self.frame[end..end + payload.len()].copy_from_slice(payload);
        self.frame[1] += u8::try_from(payload.len()).expect("its head has said that it is short");
    }

    fn payload(&self) -> &[u8] {
        &self.frame()[2..]
    }

    /// The bytes of the frame.
    pub fn frame(&self) -> &[u8] {
        &self.frame[..2 + usize::from(self.frame[1])]
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Control").field(&self.payload()).finish()
    }
}

/// Moves a piece of data behind the data before, and extends the range.
fn join(bytes: &mut [u8], data: &mut Range<usize>, piece: Range<usize>) {
    if data.start == data.end {
        *data = piece;
        return;
    }
    let length = piece.len();
    if piece.start != data.end {
        bytes.copy_within(piece, data.end);
    }
    data.end += length;
}

/// The code of a Close frame. Without a code, it is a normal closure.
fn decode_close(payload: &[u8]) -> Result<CloseCode, Failure> {
    match payload {
        [] => Ok(CloseCode::NORMAL),
        [_] => Err(Failure::CloseCode),
        [high, low, reason @ ..] => {
            str::from_utf8(reason).map_err(|_| Failure::CloseReason)?;
            CloseCode::decode(u16::from_be_bytes([*high, *low])).ok_or(Failure::CloseCode)
        }
    }
}
