//! The sessions that a message is for if several filters match, each session once.

use super::super::{granted::Granted, rights::InForce, stats::Counters};
use crate::{
    base::{
        hash::{Map, Seed},
        ids::SubscriberId,
    },
    routing::Entry,
    session::{message::MessageView, sessions::Sessions},
};

/// Receivers of the message that is being delivered. The memory is reused.
#[derive(Debug)]
pub(super) struct Receivers {
    receivers: Vec<Receiver>,
    place_of: Map<SubscriberId, usize>,
}

/// One session that a message is for, by one or more subscriptions.
#[derive(Debug)]
pub(super) struct Receiver {
    pub(super) subscriber: SubscriberId,
    pub(super) granted: Granted,
    /// The Subscription Identifiers of all these subscriptions; usually none or one.
    pub(super) ids: Vec<u32>,
}

impl Receivers {
    pub(super) fn new(seed: Seed) -> Receivers {
        Receivers { receivers: Vec::new(), place_of: Map::with_hasher(seed) }
    }

    /// Forgets the receivers of the message before.
    pub(super) fn clear(&mut self) {
        self.receivers.clear();
        self.place_of.clear();
    }

    /// Adds subscribers of a matching filter, each session once.
    pub(super) fn join(
        &mut self,
        entries: &[Entry],
        sessions: &mut Sessions,
        view: &MessageView<'_>,
        (rights, counters): (&mut InForce, &mut Counters),
    ) {
        for entry in entries {
            let granted = Granted::unpack(entry.options);
            // [MQTT-3.8.3-3]
            if granted.no_local() && view.publisher == Some(entry.subscriber) {
                continue;
            }
            if granted.is_partly() || rights.checks_all() {
                let Some(session) = sessions.get_mut(entry.subscriber) else { continue };
                if !rights.may_read(session, view.topic) {
                    counters.denied_deliveries += 1;
                    continue;
                }
            }
            let receivers = &mut self.receivers;
            let place = *self.place_of.entry(entry.subscriber).or_insert(receivers.len());
            if place == receivers.len() {
                receivers.push(Receiver::new(entry.subscriber, granted));
            }
            receivers[place].join(granted, entry.subscription_id);
        }
    }

    /// Takes one receiver. No more may be added afterwards.
    pub(super) fn pop(&mut self) -> Option<Receiver> {
        self.receivers.pop()
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Receiver> {
        self.receivers.drain(..)
    }
}

impl Receiver {
    /// The receiver by one subscription.
    pub(super) fn of_entry(entry: Entry) -> Receiver {
        let mut receiver = Receiver::new(entry.subscriber, Granted::unpack(entry.options));
        receiver.ids.extend((entry.subscription_id != 0).then_some(entry.subscription_id));
        receiver
    }

    fn new(subscriber: SubscriberId, granted: Granted) -> Receiver {
        Receiver { subscriber, granted, ids: Vec::new() }
    }

    /// The highest QoS of all subscriptions, and all their identifiers. [MQTT-3.3.4-2]
    /// [MQTT-3.3.4-3]
    fn join(&mut self, granted: Granted, subscription_id: u32) {
        self.granted = self.granted.join(granted);
        if subscription_id != 0 {
            self.ids.push(subscription_id);
        }
    }
}
