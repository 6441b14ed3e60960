//! What a shard writes down, so that it survives a restart.
//!
//! ```text
//!   begin_message --> need: for each session that survives --> end_message: the message itself
//!                 \-> aim: for each other shard that may have some --/
//! ```
//! A message is written down only if someone needs it: a session that survives, another shard that
//! may have such a session, or the store of retained messages. Does not know what waits for a
//! record: it says which mark the present answer has to wait for.

use std::{fmt::Write, num::NonZeroU64, sync::Arc};

use super::{ports::Ports, retained::Retention, settings::Settings};
use crate::{
    access::Principal,
    base::{
        ids::ShardId,
        shared_count::SharedCount,
        time::{Moment, WallClock, WallTime},
    },
    mqtt::{PacketId, Publish, QoS},
    session::{
        Session,
        message::{Message, MessageView, Payload},
        ordinals::Ordinal,
        queue::QueuedMessage,
        will::Will,
    },
    storage::{
        List, MessageId, MessageRecord, Record, RefRecord, RetainRecord, SessionNumber,
        SessionRecord, Stamp, Target, WillRecord,
    },
};

/// Writes the records of one shard. Without a store it writes none.
#[derive(Debug)]
pub(super) struct Recorder {
    is_on: bool,
    here: ShardId,
    clock: WallClock,
    /// The numbers of the next session and the next message. Other shards have those between.
    next_session: u64,
    next_message: u64,
    shards: u64,
    /// How many sessions survive a restart, on each shard.
    lasting: Arc<[SharedCount]>,
    /// The message that is being brought to those who want it, once someone needs it, and who has
    /// written it down.
    message: Option<MessageId>,
    origin: Origin,
    /// What a message of another shard is called that goes on to a third one.
    passed_on: Option<MessageId>,
    /// The shards that have to take it, and the share groups that each of them serves.
    targets: Vec<Target>,
    groups: String,
    /// The latest number in the row of messages to each shard.
    sent: Vec<u64>,
    /// The rows of messages from each shard.
    heard: Vec<Heard>,
    /// The mark that the answer to the present packet waits for; 0 for none.
    promise: u64,
    /// The marks of the latest record, and of the latest end of a session.
    latest: u64,
    latest_end: u64,
    /// All records up to this mark are on disk.
    durable: u64,
    /// The store has no room for messages.
    is_full: bool,
}

/// Where the present message is written down already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// Nowhere.
    Here,
    /// On the shard that has sent it by a letter.
    Letter,
    /// In the row of messages that take several turns.
    Row,
}

/// The messages that another shard has written down for this one.
#[derive(Clone, Debug, Default)]
struct Heard {
    /// The number of the latest one.
    latest: u64,
    /// Those that take several turns, in order.
    open: Vec<u64>,
    /// Up to which number it is written down that they were taken.
    told: u64,
}

/// A message that was written down and takes several turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Recorded {
    message: MessageId,
    /// The shard in whose row it stands, and its number there.
    row: (ShardId, u64),
}

impl Recorder {
    pub(super) fn new(settings: &Settings) -> Recorder {
        let own = settings.shard.index() as u64;
        let first = settings.store.as_ref().map_or((0, 0), |store| store.first_numbers);
        Recorder {
            is_on: settings.store.is_some(),
            here: settings.shard,
            clock: settings.wall_clock,
            next_session: first.0 + own,
            next_message: first.1 + own,
            shards: settings.shards as u64,
            lasting: settings.store.as_ref().map_or_else(Arc::default, |it| it.lasting.clone()),
            message: None,
            origin: Origin::Here,
            passed_on: None,
            targets: Vec::new(),
            groups: String::new(),
            sent: vec![0; settings.shards],
            heard: vec![Heard::default(); settings.shards],
            promise: 0,
            latest: 0,
            latest_end: 0,
            durable: 0,
            is_full: false,
        }
    }

    /// Whether there is a store.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    pub(super) fn note_room(&mut self, has_room: bool) {
        self.is_full = !has_room;
    }

    /// Whether the store has no room for messages.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Whether a message may have to be written down, although the store has no room: it may be for
    /// a session that survives, or be retained. The deletion of a retained one is always taken.
    pub(super) fn lacks_room_for(&self, publish: &Publish<'_>) -> bool {
        let is_deletion = publish.retain && publish.payload.is_empty();
        let may_last = || publish.retain || self.lasting.iter().any(|lasting| lasting.get() > 0);
        self.is_full && publish.delivery.qos() > QoS::AtMostOnce && !is_deletion && may_last()
    }

    /// The wall time of a moment.
    pub(super) fn time_of(&self, moment: Moment) -> WallTime {
        self.clock.time_of(moment)
    }

    /// A packet begins, whose answer has nothing to wait for yet.
    #[inline]
    pub(super) fn begin_packet(&mut self) {
        self.promise = 0;
    }

    /// Whether that answer has anything to wait for.
    pub(super) fn owes_promise(&self) -> bool {
        self.promise > 0
    }

    /// The mark that the answer to the present packet waits for; 0 for none.
    #[inline]
    pub(super) fn take_promise(&mut self) -> u64 {
        std::mem::take(&mut self.promise)
    }

    /// All records of this shard up to this mark are on disk.
    pub(super) fn note_durable(&mut self, mark: u64) {
        self.durable = mark;
    }

    /// All records of this shard up to this mark are on disk.
    #[inline]
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    fn push(&mut self, record: &Record<'_>, ports: &mut impl Ports) {
        ports.records().push(record);
        self.promise = ports.record_mark();
        self.latest = self.promise;
    }
}

/// Messages.
impl Recorder {
    /// A message begins that nobody needs yet.
    #[inline]
    pub(super) fn begin_message(&mut self) {
        if self.is_on {
            (self.message, self.origin) = (None, Origin::Here);
        }
    }

    /// A message begins that has come by a letter. If its sender has written it down, it is the
    /// next one in the row of that shard.
    #[inline]
    pub(super) fn begin_letter(&mut self, from: ShardId, message: Option<MessageId>) {
        if self.is_on {
            self.begin_again(message, Origin::Letter);
            self.passed_on = None;
            self.heard[from.index()].latest += u64::from(message.is_some());
        }
    }

    /// A message begins that is written down already, if it has an identity.
    #[inline]
    fn begin_again(&mut self, message: Option<MessageId>, origin: Origin) {
        (self.message, self.origin) = (message, message.map_or(Origin::Here, |_| origin));
    }

    /// Someone needs the message: from now on it has an identity.
    fn need(&mut self) -> MessageId {
        if self.message.is_none() {
            self.message = Some(self.new_identity());
        }
        self.message.expect("it has just been given one")
    }

    fn new_identity(&mut self) -> MessageId {
        let id = MessageId(self.next_message);
        self.next_message += self.shards;
        id
    }

    /// The identity of the message at another shard. One that has come by a letter gets a new one:
    /// its record here would take the place of the one that names the targets of its sender.
    fn identity_elsewhere(&mut self) -> MessageId {
        if self.origin != Origin::Letter {
            return self.need();
        }
        let known = self.passed_on.take();
        let id = known.unwrap_or_else(|| self.new_identity());
        self.passed_on = Some(id);
        id
    }

    /// A message that is forwarded to another shard: to its subscribers, if so, and to these share
    /// groups, as a letter has them. Returns its identity, if sessions there may need it.
    #[inline]
    pub(super) fn aim(
        &mut self,
        qos: QoS,
        (shard, to_subscribers): (ShardId, bool),
        groups: &str,
    ) -> Option<MessageId> {
        if !self.is_on || qos == QoS::AtMostOnce {
            return None;
        }
        self.aim_recorded((shard, to_subscribers), groups)
    }

    #[cold]
    #[inline(never)]
    fn aim_recorded(
        &mut self,
        (shard, to_subscribers): (ShardId, bool),
        groups: &str,
    ) -> Option<MessageId> {
        if self.lasting[shard.index()].get() == 0 {
            return None;
        }
        let message = self.identity_elsewhere();
        let n = self.next_in_row(shard);
        self.targets.push(Target { shard, n, to_subscribers });
        self.note_groups(shard, groups);
        Some(message)
    }

    fn next_in_row(&mut self, shard: ShardId) -> u64 {
        let sent = &mut self.sent[shard.index()];
        *sent += 1;
        *sent
    }

    fn note_groups(&mut self, shard: ShardId, groups: &str) {
        if !groups.is_empty() {
            let length = groups.len();
            write!(self.groups, "{shard} {length} {groups}").expect("text has room");
        }
    }

    /// All who need the message are known: writes it down, if there are any.
    #[inline]
    pub(super) fn end_message(&mut self, view: &MessageView<'_>, ports: &mut impl Ports) {
        if self.is_on && self.message.is_some() {
            self.write_message(view, ports);
        }
    }

    #[cold]
    fn write_message(&mut self, view: &MessageView<'_>, ports: &mut impl Ports) {
        if self.origin != Origin::Here && self.targets.is_empty() {
            return;
        }
        let elsewhere = self.passed_on.take().filter(|_| self.origin == Origin::Letter);
        let id = elsewhere.or(self.message).expect("someone needs it");
        let targets = std::mem::take(&mut self.targets);
        let groups = std::mem::take(&mut self.groups);
        let record = MessageRecord {
            id,
            publisher_hash: view.publisher_hash,
            publisher: SessionNumber(0),
            topic: view.topic.as_str(),
            application: view.application,
            payload: view.payload.as_slice(),
            qos: view.qos,
            retain: view.retain,
            expires_at: view.expires_at.map(|at| self.time_of(at)),
            from: self.here,
            targets: List::Slice(&targets),
            groups: &groups,
        };
        self.push(&Record::Message(record), ports);
        (self.targets, self.groups) = (targets, groups);
        self.targets.clear();
        self.groups.clear();
    }

    /// A session that survives gets the message: as this one, which is queued or sent.
    pub(super) fn note_ref(
        &mut self,
        session: &mut Session,
        queued: &QueuedMessage,
        ports: &mut impl Ports,
    ) {
        let Some(number) = number_of(session) else { return };
        let message = self.need();
        let group = queued.group.as_ref().map(|group| {
            let (share, filter) = group.key();
            format!("{share}/{filter}")
        });
        let record = RefRecord {
            session: number,
            ordinal: queued.ordinal.value(),
            message,
            qos: queued.qos,
            retain: queued.retain,
            subscription_ids: List::Slice(queued.subscription_ids.as_deref().unwrap_or_default()),
            group: group.as_deref(),
        };
        self.push(&Record::Ref(record), ports);
        session.outbound_mut().take_ordinal(ports.record_mark());
    }

    /// A retained message has changed.
    pub(super) fn note_retention(&mut self, change: &Retention, ports: &mut impl Ports) {
        if !self.is_on {
            return;
        }
        let message = change.message().map(|_| self.need());
        let stamp = change.stamp();
        let shard = u8::try_from(stamp.shard.index()).expect("there are at most 128 shards");
        let record = RetainRecord {
            topic: change.topic().as_str(),
            message,
            stamp: Stamp { time: stamp.time, shard },
            expires_at: change.message().and_then(Message::expires_at).map(|at| self.time_of(at)),
        };
        self.push(&Record::Retain(record), ports);
    }
}

/// Messages that other shards have written down.
impl Recorder {
    /// The latest message in the row of a shard takes several turns. Returns its number.
    fn keep_open(&mut self, from: ShardId) -> u64 {
        let heard = &mut self.heard[from.index()];
        heard.open.push(heard.latest);
        heard.latest
    }

    /// Writes down up to which number the messages of another shard have been taken, if there is
    /// news.
    #[inline]
    pub(super) fn tell_taken(&mut self, from: ShardId, ports: &mut impl Ports) {
        let heard = &mut self.heard[from.index()];
        let taken = heard.open.first().map_or(heard.latest, |first| first - 1);
        if taken != heard.told {
            heard.told = taken;
            let to = self.here;
            self.push(&Record::Taken { from, to, n: taken }, ports);
        }
    }
}

/// Messages that take several turns.
impl Recorder {
    /// The present message takes several turns. `from` has sent it, if it came by a letter. A
    /// message of this shard stands in the row of the shard to itself, and is for all until it has
    /// been taken from there.
    pub(super) fn set_apart(
        &mut self,
        from: Option<ShardId>,
        view: &MessageView<'_>,
        ports: &mut impl Ports,
    ) -> Option<Recorded> {
        if self.origin != Origin::Here {
            self.end_message(view, ports);
            let message = self.message.take()?;
            let from = from?;
            return Some(Recorded { message, row: (from, self.keep_open(from)) });
        }
        let lasts = || self.lasting.iter().any(|lasting| lasting.get() > 0);
        if from.is_some() || !self.is_on || view.qos == QoS::AtMostOnce || !lasts() {
            self.end_message(view, ports);
            return None;
        }
        let (message, here) = (self.need(), self.here);
        let n = self.next_in_row(here);
        self.heard[here.index()].latest = n;
        self.keep_open(here);
        self.targets.push(Target { shard: here, n, to_subscribers: true });
        self.end_message(view, ports);
        self.message = None;
        Some(Recorded { message, row: (here, n) })
    }

    /// The present message is this one again.
    pub(super) fn go_on(&mut self, recorded: Option<Recorded>) {
        self.begin_again(recorded.map(|recorded| recorded.message), Origin::Row);
        self.passed_on = None;
    }

    /// A message that took several turns has come to all who want it here.
    pub(super) fn end_apart(&mut self, recorded: Option<Recorded>, ports: &mut impl Ports) {
        let Some(Recorded { row: (from, n), .. }) = recorded else { return };
        self.heard[from.index()].open.retain(|&open| open != n);
        self.tell_taken(from, ports);
    }
}

/// Sessions.
impl Recorder {
    /// Writes down the terms of a session, with a new number if it has none.
    pub(super) fn note_session(
        &mut self,
        session: &mut Session,
        (principal, expiry_interval, will): (&Principal, u32, Option<&Will>),
        now: Moment,
        ports: &mut impl Ports,
    ) {
        if session.stored().is_none() {
            let number = NonZeroU64::new(self.next_session).expect("numbers begin at 1");
            self.next_session += self.shards;
            session.begin_storing(number, Ordinal::FIRST);
            self.count_lasting();
        }
        let Some(number) = number_of(session) else { return };
        let now = self.time_of(now);
        let record = SessionRecord {
            session: number,
            client_id: principal.client_id(),
            user: principal.user_name(),
            peer: Some(principal.peer().ip()),
            expiry_interval,
            created_at: now,
            connected_at: now,
            will: will.map(will_record),
        };
        self.push(&Record::Session(record), ports);
    }

    /// A session is restored that survives again.
    pub(super) fn count_lasting(&self) {
        self.lasting[self.here.index()].try_add(usize::MAX);
    }

    /// The session does not survive any more, or is over.
    pub(super) fn note_session_end(&mut self, session: &mut Session, ports: &mut impl Ports) {
        if let Some(number) = number_of(session) {
            session.end_storing();
            self.lasting[self.here.index()].remove();
            self.push(&Record::SessionEnd { session: number }, ports);
            self.latest_end = self.promise;
        }
    }

    /// The answer to the present packet waits until all sessions that have ended are gone for good.
    pub(super) fn await_ends(&mut self) {
        if self.latest_end > self.durable {
            self.promise = self.latest;
        }
    }

    /// The client of a session has no connection any more; or its Will has been published.
    pub(super) fn note_absence(&mut self, session: &Session, now: Moment, ports: &mut impl Ports) {
        if let Some(number) = number_of(session) {
            let keeps_will = session.will().is_some();
            let at = self.time_of(session.absent_since(now));
            self.push(&Record::Disconnected { session: number, at, keeps_will }, ports);
        }
    }

    /// The session has a new subscription, or one with new options.
    pub(super) fn note_subscription(
        &mut self,
        session: &Session,
        filter: &str,
        (options, subscription_id): (u8, u32),
        ports: &mut impl Ports,
    ) {
        if let Some(session) = number_of(session) {
            let subscription_id = (subscription_id != 0).then_some(subscription_id);
            let record = Record::Subscription { session, filter, options, subscription_id };
            self.push(&record, ports);
        }
    }

    pub(super) fn note_unsubscribed(
        &mut self,
        session: &Session,
        filter: &str,
        ports: &mut impl Ports,
    ) {
        if let Some(session) = number_of(session) {
            self.push(&Record::Unsubscribe { session, filter }, ports);
        }
    }

    /// The session needs a message no more.
    pub(super) fn note_ack(&mut self, session: &Session, ordinal: Ordinal, ports: &mut impl Ports) {
        if let Some(session) = number_of(session).filter(|_| !ordinal.is_none()) {
            // Nobody waits for it.
            let promise = self.promise;
            self.push(&Record::Ack { session, ordinal: ordinal.value() }, ports);
            self.promise = promise;
        }
    }

    /// The client has sent PUBREC.
    pub(super) fn note_released(
        &mut self,
        session: &Session,
        ordinal: Ordinal,
        ports: &mut impl Ports,
    ) {
        if let Some(session) = number_of(session).filter(|_| !ordinal.is_none()) {
            self.push(&Record::Released { session, ordinal: ordinal.value() }, ports);
        }
    }

    /// A QoS 2 message of the client has been taken.
    pub(super) fn note_hold(
        &mut self,
        session: &Session,
        packet_id: PacketId,
        ports: &mut impl Ports,
    ) {
        if let Some(session) = number_of(session) {
            self.push(&Record::Hold { session, packet_id }, ports);
        }
    }

    pub(super) fn note_unhold(
        &mut self,
        session: &Session,
        packet_id: PacketId,
        ports: &mut impl Ports,
    ) {
        if let Some(session) = number_of(session) {
            self.push(&Record::Unhold { session, packet_id }, ports);
        }
    }
}

fn number_of(session: &Session) -> Option<SessionNumber> {
    session.stored().map(|number| SessionNumber(number.get()))
}

fn will_record(will: &Will) -> WillRecord<'_> {
    let view = will.message.view();
    let payload = match view.payload {
        Payload::Small(bytes) => bytes,
        Payload::Shared(bytes) => bytes,
    };
    let seconds = |secs: u64| u32::try_from(secs).unwrap_or(u32::MAX);
    WillRecord {
        topic: view.topic.as_str(),
        application: view.application,
        payload,
        qos: view.qos,
        retain: view.retain,
        delay: seconds(will.delay.as_secs()),
        message_expiry: will.message_expiry.map(|span| seconds(span.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::time::Span,
        session::message::tests::view,
        shard::{context::Context, ports::fake::FakePorts, settings::StoreSettings},
    };

    /// A restart looks into the record of a message for its targets. So a message that goes on to a
    /// third shard has a record of its own there.
    #[test]
    fn a_message_that_is_passed_on_does_not_replace_the_record_of_its_sender() {
        let mut settings = Context::of_shard(3).settings;
        let lasting = (0..3).map(|_| SharedCount::default()).collect();
        let (first_numbers, will_grace) = ((1, 1), Span::ZERO);
        settings.store = Some(StoreSettings { first_numbers, lasting, will_grace });
        let mut recorder = Recorder::new(&settings);
        assert!(recorder.lasting.iter().all(|lasting| lasting.try_add(9)));
        let [second, third] = [1, 2].map(|index| ShardId::new(index).unwrap());
        let mut ports = FakePorts::new(3);
        let view = view("t", b"1", QoS::AtLeastOnce);
        recorder.begin_letter(second, Some(MessageId(77)));
        let elsewhere = recorder.aim(QoS::AtLeastOnce, (third, false), "").unwrap();
        assert_eq!(recorder.aim(QoS::AtLeastOnce, (second, false), ""), Some(elsewhere));
        assert_ne!(elsewhere, MessageId(77));
        recorder.end_message(&view, &mut ports);
        let written: Vec<_> = ports.records.records().map(Result::unwrap).collect();
        let [Record::Message(record)] = &*written else { panic!("{written:?}") };
        assert_eq!((record.id, record.targets.iter().count()), (elsewhere, 2));
        assert_eq!(recorder.need(), MessageId(77), "sessions here know it as its sender does");
    }
}
