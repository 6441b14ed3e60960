//! What a subscription was granted: the options that it was given, and whether its client may read
//! all of what matches.

use crate::{
    access::{Principal, topics},
    mqtt::SubscriptionOptions,
    routing::Options,
    topic::TopicName,
};

/// A subscription's grant, which the trie keeps as one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) options: SubscriptionOptions,
    /// Its client may not read everything that matches: each message is asked for.
    pub(super) is_partly: bool,
}

/// The specification reserves this bit of the Subscription Options.
const PARTLY: u8 = 0b0100_0000;

impl Granted {
    pub(super) fn pack(self) -> Options {
        Options(self.options.to_bits() | if self.is_partly { PARTLY } else { 0 })
    }

    #[inline]
    pub(super) fn unpack(packed: Options) -> Granted {
        let options = SubscriptionOptions::from_bits(packed.0 & !PARTLY)
            .expect("the options were packed by the subscription");
        Granted { options, is_partly: packed.0 & PARTLY != 0 }
    }

    /// Whether a message with this topic is for the client that was granted this.
    #[inline]
    pub(super) fn admits(self, principal: &Principal, topic: TopicName<'_>) -> bool {
        !self.is_partly || topics::may_read(principal, topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::{QoS, RetainHandling};

    #[test]
    fn a_grant_is_unpacked_as_it_was_packed() {
        for qos in QoS::ALL {
            for is_partly in [false, true] {
                let options = SubscriptionOptions {
                    no_local: true,
                    retain_as_published: true,
                    retain_handling: RetainHandling::DoNotSend,
                    ..SubscriptionOptions::with_qos(qos)
                };
                let granted = Granted { options, is_partly };
                assert_eq!(Granted::unpack(granted.pack()), granted);
            }
        }
    }
}
