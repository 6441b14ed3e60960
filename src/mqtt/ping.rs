//! PINGREQ and PINGRESP, which have no content.

use super::{error::Malformed, frame::Frame, primitive::Reader};

pub const PINGREQ: [u8; 2] = [0xC0, 0x00];
pub const PINGRESP: [u8; 2] = [0xD0, 0x00];

/// Neither of the two has a body. [Section 3.12] [Section 3.13]
#[inline]
pub fn decode(frame: Frame<'_>) -> Result<(), Malformed> {
    Reader::new(frame.body).finish()
}
