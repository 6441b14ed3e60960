//! The versions of the protocol.

/// The version that a connection uses, by the Protocol Version of its CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    V31,
    V311,
    V5,
}

impl Version {
    pub const ALL: [Version; 3] = [Version::V31, Version::V311, Version::V5];

    /// The byte that stands for it in a CONNECT.
    pub const fn level(self) -> u8 {
        match self {
            Version::V31 => 3,
            Version::V311 => 4,
            Version::V5 => 5,
        }
    }

    /// What people call it.
    pub const fn words(self) -> &'static str {
        match self {
            Version::V31 => "3.1",
            Version::V311 => "3.1.1",
            Version::V5 => "5.0",
        }
    }

    /// The Protocol Name that stands before the level.
    pub const fn protocol_name(self) -> &'static str {
        match self {
            Version::V31 => "MQIsdp",
            Version::V311 | Version::V5 => "MQTT",
        }
    }

    /// The version that a CONNECT with this name and level speaks.
    pub(super) fn from_name_and_level(name: &[u8], level: u8) -> Option<Version> {
        Version::ALL
            .into_iter()
            .find(|version| version.protocol_name().as_bytes() == name && version.level() == level)
    }

    /// The version in which to tell a client that its own version is not supported. `None`: by the
    /// Protocol Name, it is no MQTT client.
    pub(super) fn nearest(name: &[u8], level: u8) -> Option<Version> {
        match name {
            b"MQIsdp" => Some(Version::V31),
            b"MQTT" if level >= Version::V5.level() => Some(Version::V5),
            b"MQTT" => Some(Version::V311),
            _ => None,
        }
    }

    /// Whether packets carry properties and Reason Codes.
    #[inline]
    pub const fn has_properties(self) -> bool {
        matches!(self, Version::V5)
    }
}
