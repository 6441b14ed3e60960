//! From one message to the outboxes and queues of the sessions that it is for.
//!
//! Knows sessions and outboxes; does not know how the receivers were found.

use std::{collections::VecDeque, rc::Rc};

use super::{
    context::Context,
    drops::Drops,
    frames::{Form, Frames, PreparedFrame},
    granted::{Conditions, Granted},
    memory::Scarcity,
    notices::{Notice, Notices},
    ports::Ports,
    pressure::Pressure,
    recorder::Recorder,
    replays::Replays,
    rights::InForce,
    rules::{Limits, WhenQueueFull},
    stats::Counters,
};
use crate::{
    access::topics,
    base::{byte_count::ByteCount, hash::Seed, ids::SubscriberId, time::Moment},
    mqtt::QoS,
    session::{
        Link, Session,
        message::{CountedMessage, MessageView},
        ordinals::Ordinal,
        queue::{QueueLimits, QueuedMessage},
    },
    topic::GroupName,
};

impl Form<'_> {
    /// The message in this form, to be queued or in flight, from this share group if it came by
    /// one.
    #[inline]
    pub(super) fn queued(
        self,
        message: &Rc<CountedMessage>,
        group: Option<Rc<GroupName>>,
        ordinal: Ordinal,
    ) -> QueuedMessage {
        QueuedMessage {
            message: Rc::clone(message),
            qos: self.qos,
            retain: self.retain,
            subscription_ids: (!self.subscription_ids.is_empty())
                .then(|| self.subscription_ids.into()),
            group,
            ordinal,
        }
    }
}

/// What deliveries work with and what they leave behind.
#[derive(Debug)]
pub(super) struct DeliveryBuffers {
    frames: Frames,
    /// Sessions that are close to a limit, so that their publishers are to be held back.
    crowded: Vec<SubscriberId>,
    /// Connected sessions that are to be disconnected because their queue is full.
    overrun: Vec<SubscriberId>,
    /// Connected sessions with messages that are not sent before they are on disk, by their marks.
    undurable: VecDeque<(u64, SubscriberId)>,
    /// Events that are too frequent for one log line each.
    notices: Notices,
    /// For which sessions messages were dropped.
    drops: Drops,
    /// The memory of messages that are queued or in flight.
    kept: ByteCount,
}

/// Why a message was not delivered to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dropped {
    /// The message is at QoS 0, and the client is not connected.
    Absent,
    OutboxFull,
    QueueFull,
    TooLarge,
    /// Memory is short, and more waits for the client than may then.
    MemoryShort,
    /// The client may not read the message.
    Forbidden,
}

impl Dropped {
    fn notice(self) -> Option<Notice<'static>> {
        match self {
            Dropped::Absent | Dropped::Forbidden => None,
            Dropped::OutboxFull => Some(Notice::OutboxFull),
            Dropped::QueueFull => Some(Notice::QueueFull),
            Dropped::TooLarge => Some(Notice::TooLarge),
            Dropped::MemoryShort => Some(Notice::MemoryFull),
        }
    }
}

impl Counters {
    pub(super) fn count_drop(&mut self, dropped: Dropped) {
        self.other_steps += 1;
        match dropped {
            Dropped::Absent => {}
            Dropped::OutboxFull => self.dropped_outbox_full += 1,
            Dropped::QueueFull => self.dropped_queue_full += 1,
            Dropped::TooLarge => self.dropped_too_large += 1,
            Dropped::MemoryShort => self.dropped_memory += 1,
            Dropped::Forbidden => self.denied_deliveries += 1,
        }
    }
}

impl DeliveryBuffers {
    pub(super) fn new(seed: Seed) -> DeliveryBuffers {
        DeliveryBuffers {
            frames: Frames::new(seed),
            crowded: Vec::new(),
            overrun: Vec::new(),
            undurable: VecDeque::new(),
            notices: Notices::default(),
            drops: Drops::new(seed),
            kept: ByteCount::default(),
        }
    }

    pub(super) fn notices_mut(&mut self) -> &mut Notices {
        &mut self.notices
    }

    /// For which sessions messages were dropped.
    pub(super) fn drops(&self) -> &Drops {
        &self.drops
    }

    /// The memory of messages that are queued or in flight.
    pub(super) fn kept(&self) -> &ByteCount {
        &self.kept
    }

    /// What a sender of kept messages needs: the frames, and where it counts what it keeps.
    pub(super) fn for_sender(&mut self) -> (&mut Frames, &ByteCount) {
        (&mut self.frames, &self.kept)
    }

    /// Whether the last deliveries have brought a session close to a limit.
    #[inline]
    pub(super) fn has_crowded(&self) -> bool {
        !self.crowded.is_empty()
    }

    /// Takes the sessions that the last deliveries have brought close to a limit.
    pub(super) fn take_crowded(&mut self) -> Vec<SubscriberId> {
        std::mem::take(&mut self.crowded)
    }

    /// Takes their memory back.
    pub(super) fn give_back(&mut self, mut crowded: Vec<SubscriberId>) {
        crowded.clear();
        self.crowded = crowded;
    }

    /// A connected session is to be disconnected because its queue is full.
    pub(super) fn note_overrun(&mut self, subscriber: SubscriberId) {
        self.overrun.push(subscriber);
    }

    /// A message for a connected session is sent once all is on disk up to this mark.
    pub(super) fn note_undurable(&mut self, subscriber: SubscriberId, mark: u64) {
        if self.undurable.back() != Some(&(mark, subscriber)) {
            self.undurable.push_back((mark, subscriber));
        }
    }

    /// The next session that waits for no larger mark than this one. It may have gone meanwhile.
    pub(super) fn next_durable(&mut self, mark: u64) -> Option<SubscriberId> {
        let first = self.undurable.pop_front_if(|(waits_for, _)| *waits_for <= mark);
        first.map(|(_, subscriber)| subscriber)
    }

    #[inline]
    pub(super) fn has_overrun(&self) -> bool {
        !self.overrun.is_empty()
    }

    /// Takes one of the connected sessions that are to be disconnected.
    pub(super) fn next_overrun(&mut self) -> Option<SubscriberId> {
        self.overrun.pop()
    }
}

/// Where a message comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Publisher,
    /// A member of a share group whose session has ended. The member that takes the message over
    /// is not disconnected if its queue is full.
    Orphaned,
}

impl Origin {
    /// The origin of a message that has been passed on this many times.
    pub(super) fn of(hops: u8) -> Origin {
        if hops == 0 { Origin::Publisher } else { Origin::Orphaned }
    }
}

/// The share group by which a message comes to one of its members.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share<'a> {
    pub(super) group: &'a Rc<GroupName>,
    pub(super) origin: Origin,
}

/// What a delivery asks, uses and changes besides the sessions.
#[derive(Debug)]
pub(super) struct Means<'a> {
    pub(super) now: Moment,
    pub(super) limits: &'a Limits,
    pub(super) scarcity: Scarcity,
    pub(super) rights: &'a mut InForce,
    pub(super) buffers: &'a mut DeliveryBuffers,
    pub(super) pressure: &'a mut Pressure,
    pub(super) counters: &'a mut Counters,
    pub(super) recorder: &'a mut Recorder,
}

impl<'a> Means<'a> {
    #[inline]
    pub(super) fn new(
        context: &'a mut Context,
        buffers: &'a mut DeliveryBuffers,
        pressure: &'a mut Pressure,
    ) -> Means<'a> {
        let Context { rules, rights, counters, memory, now, recorder, .. } = context;
        let (limits, scarcity) = (&rules.limits, memory.scarcity());
        Means { now: *now, limits, scarcity, rights, buffers, pressure, counters, recorder }
    }
}

/// One message being delivered to any number of sessions.
#[derive(Debug)]
pub(super) struct Fanout<'a, P> {
    now: Moment,
    view: MessageView<'a>,
    limits: &'a Limits,
    scarcity: Scarcity,
    /// The room that an outbox must have for one more message at QoS 0, less one.
    room_min: usize,
    rights: &'a mut InForce,
    /// What each delivery depends on, whatever its grant says.
    conditions: Conditions,
    buffers: &'a mut DeliveryBuffers,
    pressure: &'a mut Pressure,
    counters: &'a mut Counters,
    recorder: &'a mut Recorder,
    ports: &'a mut P,
    share: Option<Share<'a>>,
    /// The number of the update of retained messages that this message has made, and the replays
    /// that may miss it.
    update: Option<(u64, &'a mut Replays)>,
    /// The message as it is kept, once the first session has to keep it.
    kept: Option<Rc<CountedMessage>>,
    /// What it adds to the number of PUBLISH packets sent: the broker's own count for nothing.
    weight: u64,
}

impl<'a, P: Ports> Fanout<'a, P> {
    pub(super) fn new(view: &MessageView<'a>, means: Means<'a>, ports: &'a mut P) -> Fanout<'a, P> {
        let Means { now, limits, scarcity, rights, buffers, pressure, counters, recorder } = means;
        let room_min = scarcity.room_min(limits.outbox_bytes_max);
        buffers.frames.begin();
        let weight = u64::from(!topics::is_of_the_broker(view.topic));
        let (view, share, update, kept) = (*view, None, None, None);
        let conditions = if rights.checks_all() { Conditions::EACH } else { Conditions::NONE };
        Fanout {
            now,
            view,
            limits,
            scarcity,
            room_min,
            rights,
            conditions,
            buffers,
            pressure,
            counters,
            recorder,
            ports,
            share,
            update,
            kept,
            weight,
        }
    }

    /// As this, for a message that has made this update of the retained messages.
    pub(super) fn of_update(self, update: u64, replays: &'a mut Replays) -> Fanout<'a, P> {
        let conditions = Conditions::EACH;
        Fanout { update: Some((update, replays)), conditions, ..self }
    }

    /// As this, for a message that is kept already.
    pub(super) fn of_kept(self, message: &Rc<CountedMessage>) -> Fanout<'a, P> {
        Fanout { kept: Some(Rc::clone(message)), ..self }
    }

    /// As this, to a member of a share group.
    pub(super) fn by(self, share: Share<'a>) -> Fanout<'a, P> {
        Fanout { share: Some(share), ..self }
    }

    /// Whether the client of a session may read the message, which matches a subscription of this
    /// grant.
    #[inline]
    pub(super) fn admits(&mut self, granted: Granted, session: &mut Session) -> bool {
        let is_checked = granted.is_partly() || self.rights.checks_all();
        !is_checked || self.rights.may_read(session, self.view.topic)
    }

    /// Delivers to one session, as its subscription says. What cannot be delivered is dropped and
    /// counted.
    #[inline]
    pub(super) fn deliver(
        &mut self,
        subscriber: SubscriberId,
        session: &mut Session,
        granted: Granted,
        subscription_ids: &[u32],
    ) {
        let delivered = if granted.is_unconditional(self.conditions) {
            self.offer(subscriber, session, granted, subscription_ids)
        } else {
            self.offer_if_allowed(subscriber, session, granted, subscription_ids)
        };
        if let Err(dropped) = delivered {
            self.drop(subscriber, session, dropped);
        }
    }

    /// As [`Fanout::offer`], unless the client does not want its own messages or may not read this
    /// one. Sessions with open replays are noted.
    #[inline(never)]
    fn offer_if_allowed(
        &mut self,
        subscriber: SubscriberId,
        session: &mut Session,
        granted: Granted,
        subscription_ids: &[u32],
    ) -> Result<(), Dropped> {
        // [MQTT-3.8.3-3]
        if granted.no_local() && self.view.publisher == Some(subscriber) {
            return Ok(());
        }
        if !self.admits(granted, session) {
            return Err(Dropped::Forbidden);
        }
        let delivered = self.offer(subscriber, session, granted, subscription_ids);
        if self.update.is_some() {
            self.note_update(subscriber, delivered.is_ok());
        }
        delivered
    }

    /// Notes whether a session with open replays has got an update of the retained messages.
    #[cold]
    fn note_update(&mut self, subscriber: SubscriberId, delivered: bool) {
        if let Some((update, replays)) = &mut self.update {
            let own = self.view.publisher == Some(subscriber);
            replays.note(subscriber, *update, own, delivered);
        }
    }

    /// Counts a message that is not delivered. A connected client whose queue is full may be
    /// disconnected, but not for an orphaned message.
    #[cold]
    pub(super) fn drop(&mut self, subscriber: SubscriberId, session: &Session, dropped: Dropped) {
        self.counters.count_drop(dropped);
        if let Some(notice) = dropped.notice() {
            self.buffers.notices.note(notice, session.principal(), self.now);
            self.buffers.drops.note(subscriber, session);
        }
        if dropped != Dropped::QueueFull {
            return;
        }
        let disconnects = self.limits.when_queue_full == WhenQueueFull::Disconnect;
        if disconnects && session.link().is_some() && !self.is_orphaned() {
            self.buffers.overrun.push(subscriber);
        }
    }

    /// As [`Fanout::deliver`], but returns an error instead of dropping the message. A message that
    /// has expired and that cannot be sent at once is counted and not queued.
    #[inline]
    pub(super) fn offer(
        &mut self,
        subscriber: SubscriberId,
        session: &mut Session,
        granted: Granted,
        subscription_ids: &[u32],
    ) -> Result<(), Dropped> {
        let form = Form {
            dup: false,
            qos: self.view.qos.min(granted.qos()),
            retain: self.view.retain && granted.retain_as_published(),
            subscription_ids,
        };
        match session.link() {
            Some(link) if form.qos == QoS::AtMostOnce && link.terms.topic_aliases() == 0 => {
                self.send_qos_0::<false>(subscriber, session, link, form)
            }
            Some(link) if form.qos == QoS::AtMostOnce => {
                self.send_qos_0::<true>(subscriber, session, link, form)
            }
            Some(link) => self.send_or_queue(subscriber, session, link, form),
            None if form.qos == QoS::AtMostOnce => Err(Dropped::Absent),
            None => self.queue(subscriber, session, form),
        }
    }

    /// Sends a QoS 0 message. The function is compiled twice, so that clients without Topic Aliases
    /// do not pay for those with them.
    fn send_qos_0<const ALIASES: bool>(
        &mut self,
        subscriber: SubscriberId,
        session: &mut Session,
        link: Link,
        form: Form<'_>,
    ) -> Result<(), Dropped> {
        let aliases = session.sending().1;
        let frame = if ALIASES {
            self.buffers.frames.ready(&self.view, link, aliases, form, self.now)
        } else {
            self.buffers.frames.in_full(&self.view, link.terms.version(), form, self.now)
        };
        let room = self.ports.outbox_room(link.connection);
        if room < self.limits.outbox_bytes_max / 2 {
            self.buffers.crowded.push(subscriber);
        }
        if !link.terms.takes(self.buffers.frames.len_with(frame, &self.view)) {
            self.buffers.frames.forget(frame);
            return Err(Dropped::TooLarge);
        } else if room <= self.room_min && (self.room_min > 0 || !self.has_grace(subscriber)) {
            self.buffers.frames.forget(frame);
            return Err(if room == 0 { Dropped::OutboxFull } else { Dropped::MemoryShort });
        }
        self.send(session, link, frame);
        Ok(())
    }

    #[inline(never)]
    fn send_or_queue(
        &mut self,
        subscriber: SubscriberId,
        session: &mut Session,
        link: Link,
        form: Form<'_>,
    ) -> Result<(), Dropped> {
        let is_open = session.outbound().is_open() && self.ports.outbox_room(link.connection) > 0;
        // A message that has to be on disk first waits in the queue.
        if !is_open || (session.stored().is_some() && !may_be_sent_at_once(session, form.qos)) {
            return self.queue(subscriber, session, form);
        }
        let aliases = session.sending().1;
        let frame = self.buffers.frames.ready(&self.view, link, aliases, form, self.now);
        if !link.terms.takes(self.buffers.frames.len_with(frame, &self.view)) {
            self.buffers.frames.forget(frame);
            return Err(Dropped::TooLarge);
        }
        let queued = self.queued(session, form);
        if session.stored().is_some() {
            self.recorder.note_ref(session, &queued, self.ports);
        }
        let packet_id = session.outbound_mut().begin(queued);
        self.buffers.frames.patch(frame, packet_id);
        self.send(session, link, frame);
        Ok(())
    }

    fn queue(
        &mut self,
        subscriber: SubscriberId,
        session: &mut Session,
        form: Form<'_>,
    ) -> Result<(), Dropped> {
        if self.view.has_expired(self.now) {
            // It may have expired on its way from another shard. [MQTT-3.3.2-5]
            self.counters.dropped_expired += 1;
            return Ok(());
        }
        // While the window is open, no acknowledgement may come that sends the queue. So ask to be
        // told when the outbox drains.
        if let Some(link) = session.link().filter(|_| session.outbound().has_room()) {
            self.ports.notify_drained(link.connection);
        }
        let queued = self.queued(session, form);
        let limits = self.scarcity.queue(&self.limits.queue);
        let queue = &mut session.outbound_mut().queue;
        let before = queue.len();
        self.counters.dropped_expired += queue.expire(self.now) as u64;
        let mut taken = queue.push(queued.clone(), self.now, &limits).is_ok();
        if !taken && !self.scarcity.is_full() && self.has_grace(subscriber) {
            // Without limits the queue takes every message.
            taken = queue.push(queued.clone(), self.now, &QueueLimits::NONE).is_ok();
        }
        if taken && session.stored().is_some() {
            self.record(subscriber, session, &queued);
        }
        let queue = &session.outbound().queue;
        self.counters.note_queue(before, queue.len());
        if session.link().is_some() && queue.is_crowded(self.now, &self.limits.queue) {
            self.buffers.crowded.push(subscriber);
        }
        match taken {
            true => Ok(()),
            false if self.scarcity.is_full() => Err(Dropped::MemoryShort),
            false => Err(Dropped::QueueFull),
        }
    }

    /// Whether this message may exceed the limits of a session for which publishers are held back,
    /// so that messages sent before that still arrive. A client that publishes to itself is not
    /// held back, so its messages may not.
    fn has_grace(&mut self, subscriber: SubscriberId) -> bool {
        let size = self.view.topic.as_str().len() + self.view.payload.len();
        self.view.publisher != Some(subscriber) && self.pressure.spend_grace(subscriber, size)
    }

    /// Writes down that the message waits for a session that survives a restart. If it waits until
    /// it is on disk only, it is sent then.
    #[cold]
    fn record(&mut self, subscriber: SubscriberId, session: &mut Session, queued: &QueuedMessage) {
        self.recorder.note_ref(session, queued, self.ports);
        if session.link().is_some() && queued.qos == QoS::ExactlyOnce {
            self.buffers.note_undurable(subscriber, self.ports.record_mark());
        }
    }

    fn queued(&mut self, session: &Session, form: Form<'_>) -> QueuedMessage {
        let tally = &self.buffers.kept;
        let message =
            self.kept.get_or_insert_with(|| Rc::new(CountedMessage::keep(&self.view, tally)));
        let group = self.share.map(|share| Rc::clone(share.group));
        form.queued(message, group, session.outbound().next_ordinal())
    }

    fn is_orphaned(&self) -> bool {
        self.share.is_some_and(|share| share.origin == Origin::Orphaned)
    }

    #[inline]
    fn send(&mut self, session: &mut Session, link: Link, frame: PreparedFrame) {
        self.counters.publishes_sent += self.weight;
        let (frames, aliases) = (&mut self.buffers.frames, session.sending().1);
        frames.send(frame, &self.view, link.connection, aliases, self.ports);
    }
}

/// Whether a message may be sent to a session that survives a restart before it is on disk, as far
/// as its Packet Identifier is free.
#[cold]
fn may_be_sent_at_once(session: &Session, qos: QoS) -> bool {
    let outbound = session.outbound();
    qos != QoS::ExactlyOnce && outbound.is_free(outbound.next_ordinal().packet_id())
}
