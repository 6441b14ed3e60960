//! Blocks of properties, and lists that are read from a block only when they are needed.

use std::fmt;

use super::{
    error::{DecodeError, Malformed, ProtocolError},
    primitive::{Reader, put_with_length},
    property::{
        ACK, Identifier, PUBLISH, Places, Property, SUBSCRIPTION_IDENTIFIER, USER_PROPERTY, places,
    },
    version::Version,
};

/// Reads the properties of one place, and checks each one.
///
/// Once all have been read without an error, the lists are valid.
#[derive(Debug)]
pub(super) struct PropertyReader<'a> {
    block: &'a [u8],
    reader: Reader<'a>,
    place: Places,
    /// One bit for each identifier that has occurred.
    seen: u64,
}

impl<'a> PropertyReader<'a> {
    /// Takes a Property Length and as many bytes from the packet.
    #[inline]
    pub(super) fn take_from(
        packet: &mut Reader<'a>,
        place: Places,
    ) -> Result<PropertyReader<'a>, Malformed> {
        let length = packet.variable()?;
        Ok(PropertyReader::new(packet.take(length as usize)?, place))
    }

    pub(super) const fn new(block: &'a [u8], place: Places) -> PropertyReader<'a> {
        PropertyReader { block, reader: Reader::new(block), place, seen: 0 }
    }

    fn decode_next(&mut self) -> Result<Property<'a>, DecodeError> {
        let id = self.reader.u8()?;
        if places(id) & self.place == 0 {
            return Err(Malformed::PropertyIdentifier.into());
        }
        if self.seen >> id & 1 == 1 && !self.may_repeat(id) {
            return Err(ProtocolError::PropertyTwice.into());
        }
        self.seen |= 1 << id;
        Property::decode(id, &mut self.reader)
    }

    fn may_repeat(&self, id: u8) -> bool {
        id == USER_PROPERTY || (id == SUBSCRIPTION_IDENTIFIER && self.place == PUBLISH)
    }

    pub(super) fn user_properties(&self) -> UserProperties<'a> {
        if self.seen >> USER_PROPERTY & 1 == 0 {
            return UserProperties::default();
        }
        UserProperties::Received(PropertyBlock(self.block))
    }

    pub(super) fn subscription_identifiers(&self) -> SubscriptionIdentifiers<'a> {
        if self.seen >> SUBSCRIPTION_IDENTIFIER & 1 == 0 {
            return SubscriptionIdentifiers::default();
        }
        SubscriptionIdentifiers::Received(PropertyBlock(self.block))
    }
}

impl<'a> Iterator for PropertyReader<'a> {
    type Item = Result<Property<'a>, DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Result<Property<'a>, DecodeError>> {
        if self.reader.is_empty() {
            return None;
        }
        Some(self.decode_next())
    }
}

/// Appends a Property Length and the properties that `write` writes. [MQTT-2.2.2-1]
pub(super) fn encode(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    put_with_length(out, 0, write);
}

/// Appends a property that may be absent.
#[inline]
pub(super) fn put(out: &mut Vec<u8>, property: Option<Property<'_>>) {
    if let Some(property) = property {
        property.encode(out);
    }
}

/// The bytes of properties that have been found valid.
#[derive(Clone, Copy)]
pub struct PropertyBlock<'a>(&'a [u8]);

impl<'a> PropertyBlock<'a> {
    fn iter(self) -> impl Iterator<Item = Property<'a>> {
        let mut reader = Reader::new(self.0);
        std::iter::from_fn(move || {
            let id = reader.u8().ok()?;
            Property::decode(id, &mut reader).ok()
        })
    }
}

/// User Properties: pairs of name and value, in order. The same name may occur several times.
#[derive(Clone, Copy)]
pub enum UserProperties<'a> {
    /// To be sent.
    Pairs(&'a [(&'a str, &'a str)]),
    /// As they came, among other properties.
    Received(PropertyBlock<'a>),
}

impl Default for UserProperties<'_> {
    fn default() -> Self {
        UserProperties::Pairs(&[])
    }
}

impl<'a> UserProperties<'a> {
    /// All pairs, in order. [MQTT-3.3.2-18]
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let (pairs, block) = match self {
            UserProperties::Pairs(pairs) => (pairs, PropertyBlock(&[])),
            UserProperties::Received(block) => (&[][..], block),
        };
        pairs.iter().copied().chain(block.iter().filter_map(|property| match property {
            Property::UserProperty(pair) => Some(pair),
            _ => None,
        }))
    }

    pub const fn is_empty(self) -> bool {
        // A block is kept only if it has at least one pair.
        matches!(self, UserProperties::Pairs([]))
    }

    pub fn count(self) -> usize {
        self.iter().count()
    }

    /// How many bytes they take in a packet.
    pub fn bytes(self) -> usize {
        self.iter().map(|(name, value)| 1 + 2 + name.len() + 2 + value.len()).sum()
    }

    pub(super) fn encode(self, out: &mut Vec<u8>) {
        if self.is_empty() {
            return;
        }
        for pair in self.iter() {
            Property::UserProperty(pair).encode(out);
        }
    }
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &UserProperties<'_>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for UserProperties<'_> {}

impl fmt::Debug for UserProperties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The identifiers of the subscriptions that a PUBLISH answers. Only servers send them.
#[derive(Clone, Copy)]
pub enum SubscriptionIdentifiers<'a> {
    /// To be sent; zeros are left out, since no subscription has that identifier.
    List(&'a [u32]),
    /// As they came, among other properties.
    Received(PropertyBlock<'a>),
}

impl Default for SubscriptionIdentifiers<'_> {
    fn default() -> Self {
        SubscriptionIdentifiers::List(&[])
    }
}

impl<'a> SubscriptionIdentifiers<'a> {
    pub fn iter(self) -> impl Iterator<Item = u32> + use<'a> {
        let (list, block) = match self {
            SubscriptionIdentifiers::List(list) => (list, PropertyBlock(&[])),
            SubscriptionIdentifiers::Received(block) => (&[][..], block),
        };
        let listed = list.iter().copied().filter(|&identifier| identifier != 0);
        listed.chain(block.iter().filter_map(|property| match property {
            Property::SubscriptionIdentifier(Identifier(value)) => Some(value.get()),
            _ => None,
        }))
    }

    #[inline]
    pub fn is_empty(self) -> bool {
        let is_bare = match self {
            SubscriptionIdentifiers::List(list) => list.is_empty(),
            SubscriptionIdentifiers::Received(block) => block.0.is_empty(),
        };
        is_bare || self.iter().next().is_none()
    }

    pub(super) fn encode(self, out: &mut Vec<u8>) {
        for identifier in self.iter().filter_map(std::num::NonZeroU32::new) {
            Property::SubscriptionIdentifier(Identifier(identifier)).encode(out);
        }
    }
}

impl PartialEq for SubscriptionIdentifiers<'_> {
    fn eq(&self, other: &SubscriptionIdentifiers<'_>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for SubscriptionIdentifiers<'_> {}

impl fmt::Debug for SubscriptionIdentifiers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Debug for PropertyBlock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The properties of an answer besides its Reason Code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReasonProperties<'a> {
    /// For people to read, not for programs.
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
}

impl<'a> ReasonProperties<'a> {
    pub const fn is_empty(&self) -> bool {
        self.reason_string.is_none() && self.user_properties.is_empty()
    }

    /// Takes the properties of an acknowledgement, if its version has any.
    pub(super) fn decode(
        packet: &mut Reader<'a>,
        version: Version,
    ) -> Result<ReasonProperties<'a>, DecodeError> {
        let mut properties = ReasonProperties::default();
        if !version.has_properties() {
            return Ok(properties);
        }
        let mut reader = PropertyReader::take_from(packet, ACK)?;
        for property in &mut reader {
            properties.set(property?);
        }
        properties.user_properties = reader.user_properties();
        Ok(properties)
    }

    /// Keeps a property if it is one of these.
    pub(super) fn set(&mut self, property: Property<'a>) {
        if let Property::ReasonString(reason) = property {
            self.reason_string = Some(reason);
        }
    }

    /// Appends Property Length and properties, if the version has any.
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version.has_properties() {
            encode(out, |out| self.encode_each(out));
        }
    }

    /// Appends the properties only, for packets that have others besides.
    pub(super) fn encode_each(&self, out: &mut Vec<u8>) {
        put(out, self.reason_string.map(Property::ReasonString));
        self.user_properties.encode(out);
    }
}
