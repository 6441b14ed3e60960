//! The fields of records as bytes: integers of variable length, text, lists.

use std::{fmt, marker::PhantomData};

use super::codec::Unreadable;
use crate::base::ids::ShardId;

/// Takes one field after the other from the front of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Unreadable::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Unreadable> {
        let (&byte, rest) = self.rest.split_first().ok_or(Unreadable::Truncated)?;
        self.rest = rest;
        Ok(byte)
    }

    pub(super) fn flag(&mut self) -> Result<bool, Unreadable> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Unreadable::Value),
        }
    }

    /// An integer in groups of seven bits, the lowest first.
    #[inline]
    pub(super) fn u64(&mut self) -> Result<u64, Unreadable> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7F);
            if bits << shift >> shift != bits {
                return Err(Unreadable::Value);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Unreadable::Value)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Unreadable> {
        u32::try_from(self.u64()?).map_err(|_| Unreadable::Value)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Unreadable> {
        let len = usize::try_from(self.u64()?).map_err(|_| Unreadable::Truncated)?;
        self.take(len)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Unreadable> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Unreadable::Value)
    }

    pub(super) fn shard(&mut self) -> Result<ShardId, Unreadable> {
        ShardId::new(usize::from(self.u8()?)).ok_or(Unreadable::Value)
    }

    /// `None` or a value, by a flag before it.
    pub(super) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, Unreadable>,
    ) -> Result<Option<T>, Unreadable> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }
}

#[inline]
pub(super) fn put_u64(out: &mut Vec<u8>, value: u64) {
    let mut rest = value;
    while rest >= 0x80 {
        out.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    out.push(rest.to_le_bytes()[0]);
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn put_shard(out: &mut Vec<u8>, shard: ShardId) {
    out.push(u8::try_from(shard.index()).expect("there are at most 128 shards"));
}

pub(super) fn put_option<T>(
    out: &mut Vec<u8>,
    value: Option<T>,
    put: impl FnOnce(&mut Vec<u8>, T),
) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

/// A shard that has to take a message, and the number of the message in the row to it. The numbers
/// of a row grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub shard: ShardId,
    pub n: u64,
    /// Whether all subscribers there get the message, and not only share groups.
    pub to_subscribers: bool,
}

/// What a [`List`] has.
pub trait Item: Copy + PartialEq + fmt::Debug {
    #[doc(hidden)]
    fn put(self, out: &mut Vec<u8>);
    #[doc(hidden)]
    fn take(bytes: &[u8]) -> Result<(Self, &[u8]), Unreadable>;
}

impl Item for u32 {
    fn put(self, out: &mut Vec<u8>) {
        put_u64(out, self.into());
    }

    fn take(bytes: &[u8]) -> Result<(u32, &[u8]), Unreadable> {
        let mut reader = Reader::new(bytes);
        Ok((reader.u32()?, reader.rest()))
    }
}

impl Item for Target {
    fn put(self, out: &mut Vec<u8>) {
        put_shard(out, self.shard);
        put_u64(out, self.n);
        out.push(u8::from(self.to_subscribers));
    }

    fn take(bytes: &[u8]) -> Result<(Target, &[u8]), Unreadable> {
        let mut reader = Reader::new(bytes);
        let (shard, n, to_subscribers) = (reader.shard()?, reader.u64()?, reader.flag()?);
        Ok((Target { shard, n, to_subscribers }, reader.rest()))
    }
}

/// A list in a record: a slice when it is written, bytes when it is read.
#[derive(Clone, Copy, Debug)]
pub enum List<'a, T> {
    Slice(&'a [T]),
    /// Encoded items that have been checked.
    Encoded(Encoded<'a, T>),
}

/// The bytes of a list whose items can all be read.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a, T> {
    bytes: &'a [u8],
    items: PhantomData<T>,
}

impl<T> Default for List<'_, T> {
    fn default() -> Self {
        List::Slice(&[])
    }
}

impl<'a, T: Item> List<'a, T> {
    pub fn iter(self) -> impl Iterator<Item = T> + use<'a, T> {
        let (slice, mut bytes) = match self {
            List::Slice(slice) => (slice, &[][..]),
            List::Encoded(encoded) => (&[][..], encoded.bytes),
        };
        let encoded = std::iter::from_fn(move || {
            let (item, rest) = T::take(bytes).ok()?;
            bytes = rest;
            Some(item)
        });
        slice.iter().copied().chain(encoded)
    }

    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    pub(super) fn put(self, out: &mut Vec<u8>) {
        put_u64(out, self.iter().count() as u64);
        self.iter().for_each(|item| item.put(out));
    }

    pub(super) fn read(reader: &mut Reader<'a>) -> Result<List<'a, T>, Unreadable> {
        let count = reader.u64()?;
        let all = reader.rest();
        let mut rest = all;
        for _ in 0..count {
            rest = T::take(rest)?.1;
        }
        let bytes = reader.take(all.len() - rest.len())?;
        Ok(List::Encoded(Encoded { bytes, items: PhantomData }))
    }
}

impl<T: Item> PartialEq for List<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}
