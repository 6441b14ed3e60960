//! Which packets a client accepts, as it said in CONNECT, and how answers are written for it.

use crate::mqtt::{Connect, Packet, Version, frame::PACKET_SIZE_MAX};

/// Which packets a client accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Maximum Packet Size.
    packet_size_max: u32,
    /// How many Topic Aliases the broker may use to the client.
    topic_aliases: u16,
    version: Version,
    /// Request Problem Information. [MQTT-3.1.2-29]
    problem_information: bool,
}

impl Terms {
    /// The terms of a client that has asked for nothing, or whose CONNECT cannot be read.
    pub const fn plain(version: Version) -> Terms {
        Terms { packet_size_max: SIZE_MAX, topic_aliases: 0, version, problem_information: true }
    }

    /// The terms of a CONNECT, with at most `topic_aliases_max` Topic Aliases. [MQTT-3.1.2-26]
    pub fn of(connect: &Connect<'_>, topic_aliases_max: u16) -> Terms {
        let maximum = connect.properties.maximum_packet_size;
        Terms {
            packet_size_max: maximum.map_or(SIZE_MAX, |maximum| maximum.get().min(SIZE_MAX)),
            topic_aliases: connect.properties.topic_alias_maximum.min(topic_aliases_max),
            version: connect.version,
            problem_information: connect.properties.request_problem_information,
        }
    }

    #[inline]
    pub const fn version(self) -> Version {
        self.version
    }

    #[inline]
    pub const fn topic_aliases(self) -> u16 {
        self.topic_aliases
    }

    /// Whether the client accepts a packet of `bytes` bytes. [MQTT-3.1.2-24]
    #[inline]
    pub const fn takes(self, bytes: usize) -> bool {
        bytes <= self.packet_size_max as usize
    }

    /// Writes an answer into an empty buffer. The Reason String is left out if the client does not
    /// want any, or if the packet would be too large with it. False: the packet is too large even
    /// without it.
    ///
    /// [MQTT-3.1.2-29] [MQTT-3.2.2-19] [MQTT-3.4.2-2] [MQTT-3.5.2-2] [MQTT-3.6.2-2] [MQTT-3.7.2-2]
    /// [MQTT-3.9.2-1] [MQTT-3.11.2-1] [MQTT-3.14.2-3] [MQTT-3.15.2-2] No answer has User
    /// Properties. [MQTT-3.2.2-20] [MQTT-3.4.2-3] [MQTT-3.5.2-3] [MQTT-3.6.2-3] [MQTT-3.7.2-3]
    /// [MQTT-3.9.2-2] [MQTT-3.11.2-2] [MQTT-3.14.2-4] [MQTT-3.15.2-3]
    pub fn write(
        self,
        packet: &Packet<'_>,
        reason_string: Option<&str>,
        out: &mut Vec<u8>,
    ) -> bool {
        let is_told = self.problem_information && self.version.has_properties();
        if let Some(reason_string) = reason_string.filter(|_| is_told) {
            out.clear();
            packet.with_reason_string(reason_string).encode(self.version, out);
            if self.takes(out.len()) {
                return true;
            }
        }
        out.clear();
        packet.encode(self.version, out);
        self.takes(out.len())
    }
}

/// The size of the largest possible packet.
const SIZE_MAX: u32 = 268_435_460;
const _: () = assert!(SIZE_MAX as usize == PACKET_SIZE_MAX, "that is what frames are made for");
