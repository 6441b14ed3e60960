//! What a subscription was granted: its options, and whether its client may read every message that
//! matches.

use crate::{
    mqtt::{QoS, SubscriptionOptions},
    routing::Options,
};

/// A subscription's grant, in the byte that the trie keeps. Deliveries read its bits one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granted(u8);

const QOS: u8 = 0b0000_0011;
const NO_LOCAL: u8 = 0b0000_0100;
const RETAIN_AS_PUBLISHED: u8 = 0b0000_1000;
/// The client may read only some matching messages, so its rights are asked about each one. The
/// specification reserves this bit of the Subscription Options.
const PARTLY: u8 = 0b0100_0000;

/// What the deliveries of a message depend on besides their grants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conditions(u8);

impl Conditions {
    pub(super) const NONE: Conditions = Conditions(0);
    /// Each delivery is looked at, as if the client could read only some messages.
    pub(super) const EACH: Conditions = Conditions(PARTLY);
}

impl Granted {
    pub(super) const fn new(options: SubscriptionOptions, is_partly: bool) -> Granted {
        Granted(options.to_bits() | if is_partly { PARTLY } else { 0 })
    }

    /// Reverses [`Granted::pack`].
    #[inline]
    pub(super) const fn unpack(packed: Options) -> Granted {
        Granted(packed.0)
    }

    pub(super) const fn pack(self) -> Options {
        Options(self.0)
    }

    pub(super) fn options(self) -> SubscriptionOptions {
        SubscriptionOptions::from_bits(self.0 & !PARTLY)
            .expect("the options were packed by the subscription")
    }

    #[inline]
    pub(super) const fn qos(self) -> QoS {
        match self.0 & QOS {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    #[inline]
    pub(super) const fn no_local(self) -> bool {
        self.0 & NO_LOCAL != 0
    }

    #[inline]
    pub(super) const fn retain_as_published(self) -> bool {
        self.0 & RETAIN_AS_PUBLISHED != 0
    }

    #[inline]
    pub(super) const fn is_partly(self) -> bool {
        self.0 & PARTLY != 0
    }

    /// Whether a message is delivered by this grant whoever has published it and whatever its topic
    /// is, as far as these conditions let it.
    #[inline]
    pub(super) const fn is_unconditional(self, also: Conditions) -> bool {
        (self.0 | also.0) & (NO_LOCAL | PARTLY) == 0
    }

    /// Joins the grants of two subscriptions of one client that match the same message. The message
    /// is sent at the higher QoS, and with its RETAIN flag if one of them asks for that.
    /// [MQTT-3.3.4-2]
    #[must_use]
    pub(super) fn join(self, other: Granted) -> Granted {
        let qos = (self.0 & QOS).max(other.0 & QOS);
        Granted((self.0 & !QOS) | qos | (other.0 & RETAIN_AS_PUBLISHED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::RetainHandling;

    fn options(qos: QoS, retain_as_published: bool) -> SubscriptionOptions {
        SubscriptionOptions {
            no_local: true,
            retain_as_published,
            retain_handling: RetainHandling::DoNotSend,
            ..SubscriptionOptions::with_qos(qos)
        }
    }

    #[test]
    fn a_grant_is_unpacked_as_it_was_packed() {
        for qos in QoS::ALL {
            for (retain_as_published, is_partly) in [(false, true), (true, false)] {
                let options = options(qos, retain_as_published);
                let granted = Granted::unpack(Granted::new(options, is_partly).pack());
                assert_eq!((granted.options(), granted.is_partly()), (options, is_partly));
                assert_eq!((granted.qos(), granted.no_local()), (qos, true));
                assert_eq!(granted.retain_as_published(), retain_as_published);
            }
        }
    }

    #[test]
    fn the_highest_qos_and_retain_as_published_of_two_grants_hold() {
        for first in QoS::ALL {
            for second in QoS::ALL {
                for (one, other) in [(false, false), (true, false), (false, true), (true, true)] {
                    let granted = Granted::new(options(first, one), false);
                    let joined = granted.join(Granted::new(options(second, other), false));
                    let expected = options(first.max(second), one || other);
                    assert_eq!(joined.options(), expected);
                }
            }
        }
    }
}
