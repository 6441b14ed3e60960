//! Decides what a client is granted of a subscription, by the rules that its CONNACK has told it.
//! Changes nothing.

use super::{connection::MqttConnection, granted::Granted, reason::Reason};
use crate::{
    access::topics::Subscribable,
    mqtt::{ProtocolError, SubscriptionOptions, Version},
    topic::Subscription,
};

/// A subscription as a SUBSCRIBE asks for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) subscription: Subscription<'a>,
    pub(super) options: SubscriptionOptions,
    pub(super) has_identifier: bool,
    /// How many of the matching messages the client may read.
    pub(super) readable: Subscribable,
}

/// Why it is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotGranted {
    /// SUBACK tells the client.
    Refused(Reason),
    /// CONNACK has told the client that the feature is missing, so this is a Protocol Error.
    Wrong(ProtocolError),
}

impl Wanted<'_> {
    pub(super) fn grant(&self, connection: &MqttConnection) -> Result<Granted, NotGranted> {
        let offer = &connection.rules().offer;
        let offered = offer.check_subscription(self.subscription, self.has_identifier);
        offered.map_err(|error| match connection.terms().version() {
            Version::V5 => NotGranted::Wrong(error),
            Version::V31 | Version::V311 => NotGranted::Refused(Reason::Packet(error.into())),
        })?;
        // A lower QoS than asked for is granted. [MQTT-3.2.2-10]
        let qos = self.options.qos.min(offer.maximum_qos);
        let mut options = SubscriptionOptions { qos, ..self.options };
        if connection.is_bridge() {
            // A bridge does not get its own messages back. Shared subscriptions cannot have that.
            options.no_local = matches!(self.subscription, Subscription::Plain(_));
            options.retain_as_published = true;
        }
        let is_silent = connection.rules().policy.grants_unreadable;
        let is_partly = self.is_partly(is_silent).map_err(NotGranted::Refused)?;
        Ok(Granted::new(options, is_partly))
    }

    /// Whether the client may read only some of the messages. `is_silent`: one that may read none
    /// of them is not told, and gets none.
    fn is_partly(&self, is_silent: bool) -> Result<bool, Reason> {
        match self.readable {
            Subscribable::Whole => Ok(false),
            Subscribable::Partly => Ok(true),
            Subscribable::No if is_silent => Ok(true),
            Subscribable::No | Subscribable::Forbidden => Err(Reason::SubscribeForbidden),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            connection::tests::{connected, connection},
            rules::tests::rules,
        },
        *,
    };
    use crate::mqtt::{Connect, QoS};

    fn wanted(filter: &str) -> Wanted<'_> {
        let subscription = Subscription::parse(filter).unwrap();
        let options = SubscriptionOptions::with_qos(QoS::ExactlyOnce);
        let readable = Subscribable::Whole;
        Wanted { subscription, options, has_identifier: false, readable }
    }

    #[test]
    fn no_more_is_granted_than_the_client_was_told() {
        let mut told = rules();
        told.offer.maximum_qos = QoS::AtLeastOnce;
        told.offer.shared_subscriptions = false;
        let modern = connected(&Connect::new(Version::V5, "client"), told.clone());
        let granted = wanted("a").grant(&modern).unwrap();
        assert_eq!((granted.qos(), granted.no_local()), (QoS::AtLeastOnce, false));
        let error = ProtocolError::SharedSubscriptionsNotSupported;
        assert_eq!(wanted("$share/g/a").grant(&modern), Err(NotGranted::Wrong(error)));
        let earlier = connected(&Connect::new(Version::V311, "client"), told);
        let refused = NotGranted::Refused(Reason::Packet(error.into()));
        assert_eq!(wanted("$share/g/a").grant(&earlier), Err(refused));
    }

    #[test]
    fn what_the_client_may_not_read_is_refused_or_granted_without_a_word() {
        let granted = |readable, is_silent| {
            let mut told = rules();
            told.policy.grants_unreadable = is_silent;
            let client = connected(&Connect::new(Version::V5, "client"), told);
            Wanted { readable, ..wanted("a") }.grant(&client).map(Granted::is_partly)
        };
        let refused = NotGranted::Refused(Reason::SubscribeForbidden);
        for is_silent in [false, true] {
            assert_eq!(granted(Subscribable::Whole, is_silent), Ok(false));
            assert_eq!(granted(Subscribable::Partly, is_silent), Ok(true));
        }
        assert_eq!(granted(Subscribable::No, false), Err(refused));
        assert_eq!(granted(Subscribable::No, true), Ok(true));
        assert_eq!(granted(Subscribable::Forbidden, true), Err(refused));
    }

    #[test]
    fn a_bridge_is_not_sent_what_it_brings() {
        let connect = Connect { is_bridge: true, ..Connect::new(Version::V311, "bridge") };
        let bridge = connected(&connect, rules());
        for (filter, no_local) in [("a", true), ("$share/g/a", false)] {
            let granted = wanted(filter).grant(&bridge).unwrap();
            assert_eq!((granted.no_local(), granted.retain_as_published()), (no_local, true));
        }
        assert!(!wanted("a").grant(&connection()).unwrap().no_local());
    }
}
