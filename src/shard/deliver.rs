//! From one message to the outboxes and queues of the sessions that it is for.
//!
//! A PUBLISH is encoded once per shape and patched per receiver. Knows sessions and outboxes; does
//! not know how the receivers were found.

use std::rc::Rc;

use super::{
    ports::Ports,
    sessions::{Link, Session},
    settings::Limits,
    stats::Tallies,
};
use crate::{
    base::{
        ids::{ConnectionId, SubscriberId},
        time::Moment,
    },
    mqtt::{PacketId, PublishHead, QoS, SubscriptionOptions, Version},
    session::{
        message::{Message, MessageView, Payload},
        queue::{Parcel, QueueLimits},
    },
    topic::GroupName,
};

/// Frames of the message that is being delivered, one per shape. The memory is used again.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    shapes: [Option<Frame>; SHAPES],
}

/// Where a frame stands in the bytes; without its payload when that is shared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    start: usize,
    end: usize,
    packet_id_at: Option<usize>,
    /// Whether other receivers have the same.
    is_shared: bool,
}

/// More memory than this is not kept from message to message.
const BYTES_KEPT_MAX: usize = 64 << 10;
/// Two kinds of version, three QoS, two values of RETAIN.
const SHAPES: usize = 12;

/// How a message is to be written for one receiver.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form<'a> {
    pub(super) dup: bool,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) subscription_ids: &'a [u32],
}

impl Frames {
    /// Begins with a new message: nothing of it has been encoded.
    pub(super) fn begin(&mut self) {
        self.bytes.clear();
        if self.bytes.capacity() > BYTES_KEPT_MAX {
            self.bytes.shrink_to(BYTES_KEPT_MAX);
        }
        self.shapes = [None; SHAPES];
    }

    /// The frame of the message in this form; encoded now if no earlier receiver had the same.
    fn shaped(
        &mut self,
        view: &MessageView<'_>,
        version: Version,
        form: Form<'_>,
        now: Moment,
    ) -> Frame {
        if !form.subscription_ids.is_empty() {
            return self.encode(view, version, form, now);
        }
        let modern = usize::from(version == Version::V5);
        let shape = (form.qos as usize * 2 + modern) * 2 + usize::from(form.retain);
        if let Some(frame) = self.shapes[shape] {
            return frame;
        }
        let frame = Frame { is_shared: true, ..self.encode(view, version, form, now) };
        self.shapes[shape] = Some(frame);
        frame
    }

    /// Encodes the message behind what is encoded already.
    pub(super) fn encode(
        &mut self,
        view: &MessageView<'_>,
        version: Version,
        form: Form<'_>,
        now: Moment,
    ) -> Frame {
        let start = self.bytes.len();
        let head = PublishHead {
            dup: form.dup,
            qos: form.qos,
            retain: form.retain,
            topic: view.topic,
            application: view.application,
            message_expiry_interval: view.expiry_left(now),
            subscription_identifiers: form.subscription_ids,
            topic_alias: None,
            payload_len: view.payload.len(),
        };
        let packet_id_at = head.encode(version, &mut self.bytes);
        if let Payload::Small(payload) = view.payload {
            self.bytes.extend_from_slice(payload);
        }
        Frame { start, end: self.bytes.len(), packet_id_at, is_shared: false }
    }

    pub(super) fn patch(&mut self, frame: Frame, packet_id: PacketId) {
        if let Some(at) = frame.packet_id_at {
            self.bytes[at..at + 2].copy_from_slice(&packet_id.value().to_be_bytes());
        }
    }

    /// Makes room again behind a frame that only one receiver has.
    fn forget(&mut self, frame: Frame) {
        if !frame.is_shared {
            self.bytes.truncate(frame.start);
        }
    }

    /// Sends a frame of this message to one connection.
    #[inline]
    pub(super) fn send(
        &self,
        frame: Frame,
        view: &MessageView<'_>,
        connection: ConnectionId,
        ports: &mut impl Ports,
    ) {
        let bytes = &self.bytes[frame.start..frame.end];
        match view.payload {
            Payload::Small(_) => ports.send(connection, bytes),
            Payload::Shared(payload) => ports.send_shared(connection, bytes, payload),
        }
    }
}

impl Frame {
    /// Bytes of the whole packet, a shared payload included.
    pub(super) fn len_with(self, view: &MessageView<'_>) -> usize {
        let shared = match view.payload {
            Payload::Small(_) => 0,
            Payload::Shared(payload) => payload.len(),
        };
        self.end - self.start + shared
    }
}

impl Form<'_> {
    /// The message as it waits or flies in this form.
    pub(super) fn parcel(self, message: &Rc<Message>) -> Parcel {
        Parcel {
            message: Rc::clone(message),
            qos: self.qos,
            retain: self.retain,
            subscription_ids: (!self.subscription_ids.is_empty())
                .then(|| self.subscription_ids.into()),
            group: None,
        }
    }
}

/// What deliveries work with and what they leave behind.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    pub(super) frames: Frames,
    /// Sessions that are close to a limit now: their publishers are to be held back.
    pub(super) crowded: Vec<SubscriberId>,
    /// Connected sessions that are beyond a limit: they are to be disconnected.
    pub(super) overrun: Vec<SubscriberId>,
}

/// Where a message comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Publisher,
    /// Another member of a share group, whose session has ended. Whoever inherits it has not asked
    /// for so much, and is not disconnected when it is too much.
    Inherited,
}

impl Origin {
    /// By how often a letter has been passed on.
    pub(super) fn of(hops: u8) -> Origin {
        if hops == 0 { Origin::Publisher } else { Origin::Inherited }
    }
}

/// The share group by which a message comes to one of its members.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share<'a> {
    pub(super) group: &'a Rc<GroupName>,
    pub(super) origin: Origin,
}

/// One message being delivered to any number of sessions.
#[derive(Debug)]
pub(super) struct Delivery<'a, P> {
    now: Moment,
    view: MessageView<'a>,
    limits: &'a Limits,
    outlet: &'a mut Outlet,
    tallies: &'a mut Tallies,
    ports: &'a mut P,
    share: Option<Share<'a>>,
    /// The message as it is kept, once the first session has to keep it.
    kept: Option<Rc<Message>>,
}

impl<'a, P: Ports> Delivery<'a, P> {
    pub(super) fn new(
        now: Moment,
        view: &MessageView<'a>,
        limits: &'a Limits,
        outlet: &'a mut Outlet,
        tallies: &'a mut Tallies,
        ports: &'a mut P,
    ) -> Delivery<'a, P> {
        outlet.frames.begin();
        Delivery { now, view: *view, limits, outlet, tallies, ports, share: None, kept: None }
    }

    /// The same, to a member of a share group.
    pub(super) fn by(self, share: Share<'a>) -> Delivery<'a, P> {
        Delivery { share: Some(share), ..self }
    }

    /// Delivers to one session, as its subscription says.
    pub(super) fn deliver(
        &mut self,
        subscriber: SubscriberId,
        session: &mut Session,
        options: SubscriptionOptions,
        subscription_ids: &[u32],
    ) {
        // [MQTT-3.8.3-3]
        if options.no_local && self.view.publisher == Some(subscriber) {
            return;
        }
        let form = Form {
            dup: false,
            qos: self.view.qos.min(options.qos),
            retain: self.view.retain && options.retain_as_published,
            subscription_ids,
        };
        match session.link {
            Some(link) if form.qos == QoS::AtMostOnce => {
                self.send_qos_0(subscriber, session, link, form);
            }
            Some(link) => self.send_or_queue(subscriber, session, link, form),
            None if form.qos == QoS::AtMostOnce => {}
            None => self.queue(subscriber, session, form),
        }
    }

    fn send_qos_0(
        &mut self,
        subscriber: SubscriberId,
        session: &mut Session,
        link: Link,
        form: Form<'_>,
    ) {
        let frame = self.outlet.frames.shaped(&self.view, link.version, form, self.now);
        let room = self.ports.outbox_room(link.connection);
        if room < self.limits.outbox_bytes_max / 2 {
            self.outlet.crowded.push(subscriber);
        }
        if frame.len_with(&self.view) > link.packet_size_max {
            self.tallies.dropped_too_large += 1;
        } else if room == 0 && !self.has_grace(subscriber, session) {
            self.tallies.dropped_outbox_full += 1;
        } else {
            self.send(link, frame);
        }
    }

    fn send_or_queue(
        &mut self,
        subscriber: SubscriberId,
        session: &mut Session,
        link: Link,
        form: Form<'_>,
    ) {
        if !session.outbound.is_open() || self.ports.outbox_room(link.connection) == 0 {
            self.queue(subscriber, session, form);
            return;
        }
        let frame = self.outlet.frames.shaped(&self.view, link.version, form, self.now);
        if frame.len_with(&self.view) > link.packet_size_max {
            self.tallies.dropped_too_large += 1;
            return;
        }
        let parcel = self.parcel(form);
        let packet_id = session.outbound.begin(parcel);
        self.outlet.frames.patch(frame, packet_id);
        self.send(link, frame);
    }

    fn queue(&mut self, subscriber: SubscriberId, session: &mut Session, form: Form<'_>) {
        // No acknowledgement pumps a queue whose window is open: the drained outbox does.
        if let Some(link) = session.link.filter(|_| session.outbound.has_room()) {
            self.ports.notify_drained(link.connection);
        }
        let parcel = self.parcel(form);
        let queue = &mut session.outbound.queue;
        let full = queue.push(parcel.clone(), &self.limits.queue).is_err();
        if full && self.has_grace(subscriber, session) {
            // A queue without limits is never full.
            let _ = session.outbound.queue.push(parcel, &QueueLimits::NONE);
            self.tallies.queued += 1;
        } else if full {
            self.tallies.dropped_queue_full += 1;
            if session.link.is_some() && !self.is_inherited() {
                self.outlet.overrun.push(subscriber);
            }
        } else {
            self.tallies.queued += 1;
        }
        if session.link.is_some() && session.outbound.queue.is_above(50, &self.limits.queue) {
            self.outlet.crowded.push(subscriber);
        }
    }

    /// Whether this message may go beyond the limits of a session that publishers are held back
    /// for: what they had sent before is to arrive. Whoever publishes to itself is not held back.
    fn has_grace(&self, subscriber: SubscriberId, session: &mut Session) -> bool {
        let size = self.view.topic.len() + self.view.payload.len();
        self.view.publisher != Some(subscriber)
            && session.pressure.as_mut().is_some_and(|pressure| pressure.spend_grace(size))
    }

    fn parcel(&mut self, form: Form<'_>) -> Parcel {
        let message = self.kept.get_or_insert_with(|| Rc::new(Message::keep(&self.view)));
        let group = self.share.map(|share| Rc::clone(share.group));
        Parcel { group, ..form.parcel(message) }
    }

    fn is_inherited(&self) -> bool {
        self.share.is_some_and(|share| share.origin == Origin::Inherited)
    }

    #[inline]
    fn send(&mut self, link: Link, frame: Frame) {
        self.tallies.messages_sent += 1;
        let frames = &mut self.outlet.frames;
        frames.send(frame, &self.view, link.connection, self.ports);
        frames.forget(frame);
    }
}
