//! What a session is owed, sent as far as its outbox and its window allow.
//!
//! Three sources, in this order: flights of an earlier connection, the queue, and retained
//! messages that a new subscription asked for.

use std::rc::Rc;

use super::{
    Shard,
    deliver::{Form, send_kept},
    ports::Ports,
    sessions::Link,
};
use crate::{
    base::{ids::SubscriberId, time::Moment},
    mqtt::{Ack, Packet, PacketId, QoS, ReasonCode, ReasonProperties, Version},
    routing::{Cursor, Stamp, Step},
    session::{
        message::{Message, MessageView},
        outbound::Resend,
        queue::Parcel,
    },
    topic::TopicName,
};

/// Retained messages on their way to one subscription.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) cursor: Cursor,
    pub(super) qos: QoS,
    /// 0 for none.
    pub(super) subscription_id: u32,
}

/// Retained messages that one turn looks at for one session.
const LOOKS_PER_TURN: usize = 1024;

impl Shard {
    /// Sends to a connected session what it is owed, and eases the pressure that it causes.
    pub(super) fn pump(&mut self, now: Moment, subscriber: SubscriberId, ports: &mut impl Ports) {
        let link = self.sessions.get(subscriber).and_then(|session| session.link);
        let Some(link) = link else { return };
        self.resend(now, subscriber, link, ports);
        self.send_queued(now, subscriber, link, ports);
        self.replay(now, subscriber, link, ports);
        self.ease(subscriber, ports);
    }

    /// [MQTT-4.4.0-1]
    fn resend(
        &mut self,
        now: Moment,
        subscriber: SubscriberId,
        link: Link,
        ports: &mut impl Ports,
    ) {
        let Some(session) = self.sessions.get_mut(subscriber) else { return };
        while session.outbound.is_resending() {
            if ports.outbox_room(link.connection) == 0 {
                ports.notify_drained(link.connection);
                return;
            }
            match session.outbound.resend_next() {
                Some(Resend::Pubrel(packet_id)) => {
                    send_pubrel(packet_id, link.version, &mut self.scratch, link, ports);
                }
                Some(Resend::Publish(packet_id, parcel)) => {
                    let form = Form { dup: true, ..form_of(parcel) };
                    let view = parcel.message.view();
                    let id = Some(packet_id);
                    if send_kept(&mut self.outlet.frames, ports, link, &view, form, id, now) {
                        self.tallies.messages_sent += 1;
                    } else {
                        // It was small enough for the connection before: as if acknowledged.
                        self.tallies.dropped_too_large += 1;
                        session.outbound.abandon(packet_id);
                    }
                }
                None => return,
            }
        }
    }

    fn send_queued(
        &mut self,
        now: Moment,
        subscriber: SubscriberId,
        link: Link,
        ports: &mut impl Ports,
    ) {
        let Some(session) = self.sessions.get_mut(subscriber) else { return };
        let outbound = &mut session.outbound;
        while !outbound.queue.is_empty() && !outbound.is_resending() && outbound.has_room() {
            if ports.outbox_room(link.connection) == 0 {
                ports.notify_drained(link.connection);
                return;
            }
            let (parcel, expired) = outbound.queue.pop(now);
            self.tallies.dropped_expired += expired as u64;
            let Some(parcel) = parcel else { return };
            let message = Rc::clone(&parcel.message);
            let ids = parcel.subscription_ids.clone();
            let form = Form { subscription_ids: ids.as_deref().unwrap_or(&[]), ..form_of(&parcel) };
            let packet_id = outbound.begin(parcel);
            let id = Some(packet_id);
            if send_kept(&mut self.outlet.frames, ports, link, &message.view(), form, id, now) {
                self.tallies.messages_sent += 1;
            } else {
                self.tallies.dropped_too_large += 1;
                outbound.abandon(packet_id);
            }
        }
    }

    /// Advances the oldest replay as far as outbox and window allow. [MQTT-3.3.1-6]
    fn replay(
        &mut self,
        now: Moment,
        subscriber: SubscriberId,
        link: Link,
        ports: &mut impl Ports,
    ) {
        let Some(session) = self.sessions.get_mut(subscriber) else { return };
        let Some(replays) = &mut session.replays else { return };
        let mut looks = LOOKS_PER_TURN;
        while let Some(replay) = replays.front_mut() {
            if ports.outbox_room(link.connection) < self.settings.limits.outbox_bytes_max / 2 {
                ports.notify_drained(link.connection);
                return;
            }
            // An acknowledgement opens the window again, and pumps.
            if replay.qos > QoS::AtMostOnce && !session.outbound.is_open() {
                return;
            }
            let message = match self.retained.next(&mut replay.cursor, &mut looks) {
                Step::Found(_, message) => Rc::clone(message),
                Step::Pause => {
                    ports.notify_drained(link.connection);
                    return;
                }
                Step::End => {
                    replays.pop_front();
                    continue;
                }
            };
            if message.has_expired(now) {
                continue;
            }
            let ids = [replay.subscription_id];
            let form = Form {
                dup: false,
                qos: replay.qos.min(message.view().qos),
                retain: true,
                subscription_ids: if replay.subscription_id == 0 { &[] } else { &ids },
            };
            let packet_id = (form.qos > QoS::AtMostOnce)
                .then(|| session.outbound.begin(parcel_of(&message, form)));
            if send_kept(
                &mut self.outlet.frames,
                ports,
                link,
                &message.view(),
                form,
                packet_id,
                now,
            ) {
                self.tallies.messages_sent += 1;
            } else {
                self.tallies.dropped_too_large += 1;
                packet_id.inspect(|&id| session.outbound.abandon(id));
            }
        }
        session.replays = None;
    }

    /// Applies a change to the retained message of a topic, if the limits allow it.
    /// [MQTT-3.3.1-5] [MQTT-3.3.1-6]
    pub(super) fn retain(&mut self, name: TopicName<'_>, view: &MessageView<'_>, stamp: Stamp) {
        self.retained_at = self.retained_at.max(stamp.time);
        let deletes = view.payload.is_empty();
        let limits = &self.settings.limits;
        let full = self.retained.len() >= limits.retained_max
            || self.retained.bytes() + view.payload.len() > limits.retained_bytes_max;
        if !deletes && full && self.retained.get(name).is_none() {
            self.tallies.refused_retained += 1;
            return;
        }
        let message = (!deletes).then(|| Rc::new(Message::keep(view)));
        self.retained.apply(name, message, stamp);
    }
}

fn form_of(parcel: &Parcel) -> Form<'_> {
    Form {
        dup: false,
        qos: parcel.qos,
        retain: parcel.retain,
        subscription_ids: parcel.subscription_ids.as_deref().unwrap_or(&[]),
    }
}

fn parcel_of(message: &Rc<Message>, form: Form<'_>) -> Parcel {
    let ids = (!form.subscription_ids.is_empty()).then(|| form.subscription_ids.into());
    Parcel {
        message: Rc::clone(message),
        qos: form.qos,
        retain: form.retain,
        subscription_ids: ids,
    }
}

/// [MQTT-4.3.3-8]
fn send_pubrel(
    packet_id: PacketId,
    version: Version,
    scratch: &mut Vec<u8>,
    link: Link,
    ports: &mut impl Ports,
) {
    let ack = Ack {
        packet_id,
        reason_code: ReasonCode::Success,
        properties: ReasonProperties::default(),
    };
    scratch.clear();
    Packet::Pubrel(ack).encode(version, scratch);
    ports.send(link.connection, scratch);
}
