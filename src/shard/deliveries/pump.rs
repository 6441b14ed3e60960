//! Sends a session what it is owed, as far as its outbox and its window allow.
//!
//! There are three sources, in this order: messages in flight on an earlier connection, the queue,
//! and retained messages that a new subscription asked for.

use std::rc::Rc;

use super::{
    super::{
        context::Context,
        frames::{Form, Frames},
        ports::Ports,
        recorder::Recorder,
        replays::{Replay, Replays},
        retained::Retained,
        rights::InForce,
        stats::Counters,
    },
    Deliveries,
};
use crate::{
    access::{Principal, topics},
    base::{byte_count::ByteCount, ids::SubscriberId, time::Moment},
    mqtt::{Ack, Packet, PacketId, QoS},
    routing::Step,
    session::{
        Link, Session,
        message::{CountedMessage, Message, MessageView},
        ordinals::Ordinal,
        outbound::Resend,
        queue::{QueueLimits, QueuedMessage},
        sessions::Sessions,
        topic_aliases::TopicAliases,
    },
};

/// Retained messages that one turn looks at for one session.
const LOOKS_PER_TURN: usize = 1024;

/// Why sending to a session has stopped for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pumped {
    /// Nothing more is owed, or an acknowledgement has to come first.
    Done,
    /// There is more, for a later turn.
    Later,
}

impl Deliveries {
    /// Sends a connected session what it is owed. Returns whether other members of its share groups
    /// got messages because its queue was full; `None` if it is no longer connected.
    #[inline]
    pub(in crate::shard) fn pump(
        &mut self,
        subscriber: SubscriberId,
        sessions: &mut Sessions,
        retained: &Retained,
        context: &mut Context,
        ports: &mut impl Ports,
    ) -> Option<bool> {
        // The session may have lost its connection since there was a reason to send to it.
        let session = sessions.get_mut(subscriber)?;
        let link = session.link()?;
        if !session.outbound().owes() && self.replays.is_empty() {
            return Some(false);
        }
        Some(self.send_owed((subscriber, session, link), retained, context, ports))
    }

    /// Sends a session what it is owed. Returns whether other members of its share groups got
    /// messages because its queue was full.
    #[inline(never)]
    fn send_owed(
        &mut self,
        (subscriber, session, link): (SubscriberId, &mut Session, Link),
        retained: &Retained,
        context: &mut Context,
        ports: &mut impl Ports,
    ) -> bool {
        let relieved = session.outbound().queue.is_relieved();
        let (frames, kept) = self.buffers.for_sender();
        let mut sender = Sender {
            link,
            now: context.now,
            replay_room: replay_room(context),
            rights: &mut context.rights,
            frames,
            kept,
            scratch: &mut self.pubrel,
            counters: &mut context.counters,
            recorder: &mut context.recorder,
            undurable: None,
            ports,
        };
        let mut pumped = sender.resend(session);
        if pumped == Pumped::Done {
            pumped = sender.send_queued(session);
        }
        if pumped == Pumped::Done && !self.replays.is_empty() {
            pumped = sender.replay((subscriber, session), &mut self.replays, retained);
        }
        let undurable = sender.undurable;
        if let Some(mark) = undurable {
            self.buffers.note_undurable(subscriber, mark);
        }
        if pumped == Pumped::Later {
            ports.notify_drained(link.connection);
        }
        relieved
    }
}

/// Retained messages fill half of an outbox, or less when memory is short.
fn replay_room(context: &Context) -> usize {
    let maximum = context.rules.limits.outbox_bytes_max;
    (maximum / 2).max(context.memory.scarcity().room_min(maximum))
}

/// Sends kept messages to one client.
struct Sender<'a, P> {
    link: Link,
    now: Moment,
    /// Retained messages are sent while the outbox has so much room.
    replay_room: usize,
    rights: &'a mut InForce,
    frames: &'a mut Frames,
    /// The memory of messages that are queued or in flight.
    kept: &'a ByteCount,
    scratch: &'a mut Vec<u8>,
    counters: &'a mut Counters,
    recorder: &'a mut Recorder,
    /// The mark of messages that were queued until they are on disk.
    undurable: Option<u64>,
    ports: &'a mut P,
}

impl<P: Ports> Sender<'_, P> {
    /// [MQTT-4.4.0-1]
    fn resend(&mut self, session: &mut Session) -> Pumped {
        let checked = self.rights.checked(session);
        let mut over = Ordinal::NONE;
        loop {
            if !over.is_none() {
                self.recorder.note_ack(session, over, self.ports);
            }
            let (outbound, topic_aliases) = session.sending();
            if !outbound.is_resending() {
                break;
            }
            if self.room() == 0 {
                return Pumped::Later;
            }
            over = Ordinal::NONE;
            match outbound.resend_next() {
                Some(Resend::Pubrel(packet_id)) => self.send_pubrel(packet_id),
                Some(Resend::Publish(packet_id, queued)) => {
                    let form = Form { dup: true, ..form_of(queued) };
                    let view = queued.message.view();
                    let ordinal = queued.ordinal;
                    if !self.may_read(checked.as_deref(), &view)
                        || !self.send(topic_aliases, &view, form, Some(packet_id))
                    {
                        // Forbidden or too large now, though not when it was sent first: treat the
                        // message as acknowledged.
                        over = ordinal;
                        outbound.abandon(packet_id);
                    }
                }
                None => return Pumped::Done,
            }
        }
        Pumped::Done
    }

    fn send_queued(&mut self, session: &mut Session) -> Pumped {
        let checked = self.rights.checked(session);
        let durable = self.recorder.durable();
        if session.stored().is_some() {
            // Whether the first message may be sent is asked before it is taken out.
            self.counters.drop_expired(&mut session.outbound_mut().queue, self.now);
        }
        loop {
            let (outbound, topic_aliases) = session.sending();
            let is_next = !outbound.queue.is_empty()
                && !outbound.is_resending()
                && outbound.has_room()
                && outbound.may_send_first(durable);
            if !is_next {
                break;
            }
            if self.room() == 0 {
                return Pumped::Later;
            }
            let before = outbound.queue.len();
            let (queued, expired) = outbound.queue.pop(self.now);
            self.counters.note_queue(before, outbound.queue.len());
            self.counters.dropped_expired += expired as u64;
            let Some(queued) = queued else { break };
            if !self.may_read(checked.as_deref(), &queued.message.view()) {
                self.recorder.note_ack(session, queued.ordinal, self.ports);
                continue;
            }
            let packet_id = outbound.begin(queued.clone());
            let view = queued.message.view();
            if !self.send(topic_aliases, &view, form_of(&queued), Some(packet_id)) {
                outbound.abandon(packet_id);
                self.recorder.note_ack(session, queued.ordinal, self.ports);
            }
        }
        Pumped::Done
    }

    /// Whether the client may read a message that has waited for it. `checked` is its principal if
    /// rights have changed.
    fn may_read(&mut self, checked: Option<&Principal>, view: &MessageView<'_>) -> bool {
        let may_read = checked.is_none_or(|principal| self.rights.let_read(principal, view.topic));
        self.counters.denied_deliveries += u64::from(!may_read);
        may_read
    }

    /// Advances the replays, oldest first. [MQTT-3.3.1-9]
    fn replay(
        &mut self,
        (subscriber, session): (SubscriberId, &mut Session),
        replays: &mut Replays,
        retained: &Retained,
    ) -> Pumped {
        let mut looks = LOOKS_PER_TURN;
        while let Some((replay, missed)) = replays.of(subscriber).and_then(|it| it.oldest()) {
            if self.room() < self.replay_room {
                return Pumped::Later;
            }
            // While the window is closed, the next acknowledgement continues here. Queued messages
            // are older than missed ones, so they go first.
            let waits = !missed.is_empty() && !session.outbound().queue.is_empty();
            if waits || (replay.qos > QoS::AtMostOnce && !takes_retained(session)) {
                return Pumped::Done;
            }
            match retained.next(&mut replay.cursor, missed, &mut looks) {
                Step::Found(_, message) => self.send_retained(session, replay, message),
                Step::Pause => return Pumped::Later,
                Step::End => replays.end_oldest(subscriber),
            }
        }
        Pumped::Done
    }

    /// [MQTT-3.3.1-8@3.1.1]
    fn send_retained(&mut self, session: &mut Session, replay: &Replay, message: &Message) {
        if message.has_expired(self.now) {
            return;
        }
        if !self.rights.lets_stand(message) {
            self.counters.denied_replays += 1;
            return;
        }
        if replay.is_partly || self.rights.checks_all() {
            let may_read = self.rights.may_read(session, message.view().topic);
            if !may_read {
                self.counters.denied_deliveries += 1;
                return;
            }
        }
        let ids = [replay.subscription_id];
        let form = Form {
            dup: false,
            qos: replay.qos.min(message.view().qos),
            retain: true,
            subscription_ids: if replay.subscription_id == 0 { &[] } else { &ids },
        };
        let view = message.view();
        if form.qos == QoS::AtMostOnce {
            self.send(session.sending().1, &view, form, None);
            return;
        }
        // The session may keep it for longer than it is retained.
        let kept = Rc::new(CountedMessage::keep(&view, self.kept));
        if session.stored().is_some() {
            return self.send_recorded(session, &view, form.queued(&kept, None, Ordinal::NONE));
        }
        let (outbound, topic_aliases) = session.sending();
        let packet_id = outbound.begin(form.queued(&kept, None, Ordinal::NONE));
        if !self.send(topic_aliases, &view, form, Some(packet_id)) {
            outbound.abandon(packet_id);
        }
    }

    /// Sends a retained message to a session that survives a restart, or queues it until it is on
    /// disk.
    #[cold]
    fn send_recorded(
        &mut self,
        session: &mut Session,
        view: &MessageView<'_>,
        queued: QueuedMessage,
    ) {
        let ordinal = session.outbound().next_ordinal();
        let queued = QueuedMessage { ordinal, ..queued };
        self.recorder.begin_message();
        self.recorder.note_ref(session, &queued, self.ports);
        self.recorder.end_message(view, self.ports);
        let queue = &mut session.outbound_mut().queue;
        let before = queue.len();
        // The window has room, so the queue needs no limit.
        let pushed = queue.push(queued, self.now, &QueueLimits::NONE);
        debug_assert!(pushed.is_ok(), "there is no limit");
        self.counters.note_queue(before, queue.len());
        self.send_queued(session);
        if !session.outbound().queue.is_empty() {
            self.undurable = Some(self.ports.record_mark());
        }
    }

    /// Sends one message and counts it. False when it is larger than the client takes.
    fn send(
        &mut self,
        topic_aliases: &mut Option<Box<TopicAliases>>,
        view: &MessageView<'_>,
        form: Form<'_>,
        packet_id: Option<PacketId>,
    ) -> bool {
        self.frames.begin();
        let frame = self.frames.ready(view, self.link, topic_aliases, form, self.now);
        if !self.link.terms.takes(self.frames.len_with(frame, view)) {
            self.counters.dropped_too_large += 1;
            return false;
        }
        if let Some(packet_id) = packet_id {
            self.frames.patch(frame, packet_id);
        }
        self.counters.publishes_sent += u64::from(!topics::is_of_the_broker(view.topic));
        self.frames.send(frame, view, self.link.connection, topic_aliases, self.ports);
        true
    }

    /// [MQTT-4.3.3-8]
    fn send_pubrel(&mut self, packet_id: PacketId) {
        let pubrel = Packet::Pubrel(Ack::success(packet_id));
        self.scratch.clear();
        pubrel.encode(self.link.terms.version(), self.scratch);
        self.ports.send(self.link.connection, self.scratch);
        self.counters.messages_sent += 1;
    }

    fn room(&self) -> usize {
        self.ports.outbox_room(self.link.connection)
    }
}

/// Whether a session takes one more retained message. Some may wait until they are on disk.
fn takes_retained(session: &Session) -> bool {
    let outbound = session.outbound();
    outbound.is_open()
        || (session.stored().is_some()
            && outbound.has_room()
            && !outbound.is_resending()
            && outbound.queue.len() < UNDURABLE_MAX)
}

/// Retained messages of one session that wait until they are on disk.
const UNDURABLE_MAX: usize = 64;

fn form_of(queued: &QueuedMessage) -> Form<'_> {
    Form {
        dup: false,
        qos: queued.qos,
        retain: queued.retain,
        subscription_ids: queued.subscription_ids.as_deref().unwrap_or(&[]),
    }
}
