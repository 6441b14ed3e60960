//! Answers that are owed to connections, and what each of them waits for.
//!
//! ```text
//!            owe                    a condition has come to hold
//!   packet -------> Debt, Owed ------------------------------> sent, or handled
//! ```
//! Each connection has a [`Debt`] with three queues of answers. The first one holds the
//! acknowledgements of PUBLISH packets while the publisher is pressed, the second one packets that
//! wait until records are on disk; the client is read from while they wait. The third one holds all
//! other answers; nothing is read from the client until they have been given. Each queue keeps its
//! order. No connection waits for the answers of another one.
//!
//! | what is owed | its limit, and what happens then |
//! |---|---|
//! | acknowledgements | [`ACKNOWLEDGEMENT_BYTES_MAX`]: then the next PUBLISH is not taken |
//! | packets that wait for the disk | one for each packet read; publishers wait for the disk, too |
//! | other answers of a connection | those of one packet: nothing more is read |
//! | CONNECT packets of a shard that wait for a verdict | those of [`super::kept_connect`] |
//!
//! Knows which condition each answer waits for. Does not know how an answer is sent.

use std::collections::{BTreeMap, VecDeque};

use super::{
    admit::Entrance, kept_connect::KeptConnect, patience::Patience, reason::Reason,
    throttle::Throttle, waits::Waits,
};
use crate::{
    access::{Finding, TokenFault},
    base::{
        ids::{ConnectionId, ShardId},
        time::Moment,
    },
    mqtt::{Frame, PacketType},
};

/// What an answer waits for.
///
/// To wait for a PUBLISH that other shards have applied, add a variant with a running number, and
/// have [`Owed::has_come`] compare it with the number reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// All other shards have applied what this shard has told them up to this number.
    Applied(u64),
    /// This many crowded batches have been posted to that shard.
    Posted(ShardId, u64),
    /// All records of this shard up to this mark are on disk.
    Durable(u64),
    /// The password has been checked, or will not be; `None` until then.
    Verdict(Option<Verdict>),
    /// Another shard has been asked for a place for a session, and has answered.
    Place { is_told: bool },
    /// A delay after failed logins, or because too much has come; true once it is over.
    Delay(bool),
    /// The store has room for messages.
    StoreRoom,
}

impl Condition {
    /// A CONNECT that waits for something else has passed its check before.
    fn verdict(self) -> Verdict {
        match self {
            Condition::Verdict(Some(verdict)) => verdict,
            _ => Verdict::Passed,
        }
    }
}

/// What has become of the check of a password or a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Passed,
    Wrong,
    BadToken(TokenFault),
    /// The hook gave no answer.
    Unanswered,
    /// The check would take too long.
    Busy,
    /// Too many logins have failed meanwhile.
    TooMany,
    /// The client has gone, and was not waited for.
    Gone,
}

impl Verdict {
    pub(super) fn of(finding: &Finding) -> Verdict {
        match finding {
            Finding::Right | Finding::Bearer(_) => Verdict::Passed,
            // After the last way to prove a user there is no other.
            Finding::Wrong | Finding::Ignored => Verdict::Wrong,
            Finding::BadToken(fault) => Verdict::BadToken(*fault),
            Finding::Unanswered => Verdict::Unanswered,
        }
    }
}

/// What is done for a connection once its condition has come to hold.
#[derive(Debug)]
pub(super) enum Answer {
    /// The shard reads from the connection again.
    ReadOn,
    /// The shard sends these packets.
    Packets(Vec<u8>),
    /// The shard lets the client in, or refuses it: as the verdict says.
    Connect(Box<KeptConnect>),
    /// The shard lets the client in, if there is a place for its session.
    Enter(Box<Entrance>),
    /// The shard says that the password or the token was wrong.
    Refusal(Box<KeptConnect>, Reason),
    /// The shard says that the authentication has failed.
    Failure,
}

/// What one connection is owed. Most connections are owed nothing, and pay one pointer for that.
#[derive(Debug, Default)]
pub(super) struct Debt(Option<Box<Rows>>);

#[derive(Debug, Default)]
struct Rows {
    /// For which subscribers this connection waits, because they cannot keep up with it.
    waits: Waits,
    /// A PUBLISH has come that is not taken while the connection is pressed.
    stalled: bool,
    /// A message of the connection is being brought to those who want it, which presses it, too.
    is_placing: bool,
    /// A trace may be about the connection. Here, because it is looked at for each packet anyway.
    is_traced: bool,
    /// What the client has sent, if its rates are limited. Here, for the same reason.
    throttle: Option<Box<Throttle>>,
    /// PUBACK and PUBREC packets that are kept back while the connection is pressed. Without them
    /// a publisher with a window stops by itself. Its other packets are still read.
    acknowledgements: Vec<u8>,
    /// Packets that wait until records are on disk, and packets that came after those.
    undurable: Undurable,
    /// Everything else, oldest first.
    answers: VecDeque<(Condition, Answer)>,
}

/// Packets that wait until the records that they promise are on disk, oldest first.
#[derive(Debug, Default)]
struct Undurable {
    packets: Vec<u8>,
    /// The marks that they wait for, and where the packets of each mark end.
    marks: VecDeque<(u64, usize)>,
}

impl Undurable {
    fn push(&mut self, mark: u64, packet: &[u8]) {
        self.packets.extend_from_slice(packet);
        let end = self.packets.len();
        match self.marks.back_mut() {
            Some(last) if last.0 >= mark => last.1 = end,
            _ => self.marks.push_back((mark, end)),
        }
    }

    /// Takes the packets that wait for this mark or an earlier one.
    fn take(&mut self, mark: u64) -> Vec<u8> {
        let mut end = 0;
        while let Some((_, upto)) = self.marks.pop_front_if(|(waits_for, _)| *waits_for <= mark) {
            end = upto;
        }
        self.marks.iter_mut().for_each(|(_, upto)| *upto -= end);
        let rest = self.packets.split_off(end);
        std::mem::replace(&mut self.packets, rest)
    }
}

/// The QoS of a PUBLISH in the first byte of its frame.
const QOS_BITS: u8 = 0b110;
/// About sixty acknowledgements. The windows of most clients are smaller.
pub(super) const ACKNOWLEDGEMENT_BYTES_MAX: usize = 256;

impl Debt {
    /// Whether nothing is read from the connection now.
    #[inline]
    pub(super) fn is_held(&self) -> bool {
        self.0.as_ref().is_some_and(|rows| rows.is_held())
    }

    /// Whether the connection is held, or acknowledgements of it are kept back.
    pub(super) fn is_held_back(&self) -> bool {
        self.0.as_ref().is_some_and(|rows| rows.waits.is_waiting()) || self.is_held()
    }

    /// Whether this packet is a PUBLISH that cannot be taken while the connection is pressed. It is
    /// handed in again afterwards.
    #[inline]
    pub(super) fn stalls(&mut self, frame: &Frame<'_>) -> bool {
        self.0.as_mut().is_some_and(|rows| rows.stalls(frame))
    }

    /// Keeps an acknowledgement back, if the connection is pressed. True: it was kept.
    #[inline]
    pub(super) fn keeps_back(&mut self, acknowledgement: &[u8]) -> bool {
        self.0.as_mut().is_some_and(|rows| rows.keeps_back(acknowledgement))
    }

    /// Whether a trace may be about the connection.
    #[inline]
    pub(super) fn is_traced(&self) -> bool {
        self.0.as_ref().is_some_and(|rows| rows.is_traced)
    }

    pub(super) fn set_traced(&mut self, is_traced: bool) {
        if is_traced || self.is_traced() {
            self.0.get_or_insert_default().is_traced = is_traced;
            self.forget_empty_rows();
        }
    }

    /// What the client has sent, if its rates are limited.
    pub(super) fn throttle(&mut self) -> Option<&mut Throttle> {
        self.0.as_mut()?.throttle.as_deref_mut()
    }

    pub(super) fn set_throttle(&mut self, throttle: Option<Throttle>) {
        if let Some(throttle) = throttle {
            self.0.get_or_insert_default().throttle = Some(Box::new(throttle));
        }
    }

    /// Whether the connection is owed anything, was held back a short while ago, is traced, or may
    /// send so much in a second only.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a packet to the connection has to wait: for a record, or behind one that waits.
    #[inline]
    pub(super) fn owes_records(&self) -> bool {
        self.0.as_ref().is_some_and(|rows| !rows.undurable.marks.is_empty())
    }

    /// Keeps a packet until all records up to `mark` are on disk, and those before it are sent.
    pub(super) fn keep_until_durable(&mut self, mark: u64, packet: &[u8]) {
        self.0.get_or_insert_default().undurable.push(mark, packet);
    }

    /// Takes the packets that wait for this mark or an earlier one.
    pub(super) fn take_durable(&mut self, mark: u64) -> Vec<u8> {
        let Some(rows) = &mut self.0 else { return Vec::new() };
        let packets = rows.undurable.take(mark);
        self.forget_empty_rows();
        packets
    }

    /// One more subscriber presses the connection. Returns when the wait for it is over, if it is
    /// limited.
    pub(super) fn press(&mut self, patience: Patience, now: Moment) -> Option<Moment> {
        self.0.get_or_insert_default().waits.press(patience, now)
    }

    /// A message of the connection is brought to those who want it over several turns. Until then
    /// nothing is read from it, and the message is not acknowledged.
    pub(super) fn begin_placing(&mut self, now: Moment) {
        let rows = self.0.get_or_insert_default();
        rows.waits.press(Patience::Earned, now);
        rows.is_placing = true;
    }

    /// The message has come to all who want it. Returns what [`Debt::ease`] does.
    pub(super) fn end_placing(&mut self, now: Moment) -> Vec<u8> {
        self.0.as_mut().expect("the placing has begun").is_placing = false;
        self.ease(Patience::Earned, now)
    }

    /// One subscriber fewer presses the connection. After the last one, returns the
    /// acknowledgements that were kept back, and takes a PUBLISH again.
    pub(super) fn ease(&mut self, patience: Patience, now: Moment) -> Vec<u8> {
        let rows = self.0.as_mut().expect("each easing answers one press");
        rows.waits.ease(patience, now);
        let acknowledgements = rows.go_on();
        self.forget_empty_rows();
        acknowledgements
    }

    /// Ends the wait for subscribers that read slowly, if it has been long enough. Returns what
    /// [`Debt::ease`] does. `None`: it has not, or has ended before.
    pub(super) fn end_wait(&mut self, now: Moment) -> Option<Vec<u8>> {
        let rows = self.0.as_mut()?;
        rows.waits.end_if_over(now).then(|| rows.go_on())
    }

    fn forget_empty_rows(&mut self) {
        self.0.take_if(|rows| {
            !rows.is_traced
                && rows.throttle.is_none()
                && rows.answers.is_empty()
                && rows.undurable.marks.is_empty()
                && rows.waits.are_forgotten()
        });
    }
}

impl Rows {
    fn is_held(&self) -> bool {
        self.stalled || self.is_placing || !self.answers.is_empty()
    }

    /// At QoS 0 there is no acknowledgement to keep back.
    fn stalls(&mut self, frame: &Frame<'_>) -> bool {
        self.stalled = self.waits.is_waiting()
            && frame.packet_type() == PacketType::Publish
            && (frame.first & QOS_BITS == 0
                || self.acknowledgements.len() + self.undurable.packets.len()
                    >= ACKNOWLEDGEMENT_BYTES_MAX);
        self.stalled
    }

    fn keeps_back(&mut self, acknowledgement: &[u8]) -> bool {
        if self.waits.is_waiting() {
            self.acknowledgements.extend_from_slice(acknowledgement);
        }
        self.waits.is_waiting()
    }

    /// Unless the connection waits for anyone, returns the acknowledgements that were kept back,
    /// and takes a PUBLISH again.
    fn go_on(&mut self) -> Vec<u8> {
        if self.waits.is_waiting() {
            return Vec::new();
        }
        self.stalled = false;
        std::mem::take(&mut self.acknowledgements)
    }
}

/// How far each condition has come on a shard, and the connections that wait.
#[derive(Debug)]
pub(super) struct Owed {
    /// The number up to which all other shards have applied what they were told.
    applied: u64,
    /// Connections that wait for a larger number, by that number and then by age.
    waiting_for_applied: BTreeMap<(u64, u64), ConnectionId>,
    /// How many answers have ever waited for such a number.
    waited: u64,
    posted: Vec<Posted>,
    /// The records of this shard up to this mark are on disk.
    durable: u64,
    /// Connections that wait for a larger mark, in the order of marks.
    waiting_for_durable: VecDeque<(u64, ConnectionId)>,
    /// The store has room for messages, and connections that wait until it has.
    has_store_room: bool,
    waiting_for_store_room: Vec<ConnectionId>,
    /// Connections that something may be due for.
    ready: VecDeque<ConnectionId>,
}

/// The crowded batches to one other shard.
#[derive(Debug, Default)]
struct Posted {
    batches: u64,
    waiting: Vec<ConnectionId>,
}

impl Owed {
    /// Nothing owed, on a shard of a broker with `shards` shards.
    pub(super) fn new(shards: usize) -> Owed {
        Owed {
            applied: 0,
            waiting_for_applied: BTreeMap::new(),
            waited: 0,
            posted: (0..shards).map(|_| Posted::default()).collect(),
            durable: 0,
            waiting_for_durable: VecDeque::new(),
            has_store_room: true,
            waiting_for_store_room: Vec::new(),
            ready: VecDeque::new(),
        }
    }

    /// The condition that holds once the present batch to a shard has been posted.
    pub(super) fn posting(&self, to: ShardId) -> Condition {
        Condition::Posted(to, self.posted[to.index()].batches + 1)
    }

    /// Owes a connection an answer. The caller must read nothing from it while
    /// [`Debt::is_held`].
    pub(super) fn owe(
        &mut self,
        connection: ConnectionId,
        debt: &mut Debt,
        condition: Condition,
        answer: Answer,
    ) {
        match condition {
            Condition::Applied(number) => {
                self.waited += 1;
                self.waiting_for_applied.insert((number, self.waited), connection);
            }
            Condition::Posted(to, _) => self.posted[to.index()].waiting.push(connection),
            Condition::Durable(mark) => self.wait_for_durable(connection, mark),
            Condition::StoreRoom => self.waiting_for_store_room.push(connection),
            // What they wait for names the connection.
            Condition::Verdict(_) | Condition::Place { .. } | Condition::Delay(_) => {}
        }
        debt.0.get_or_insert_default().answers.push_back((condition, answer));
    }

    /// All other shards have applied what they were told up to this number.
    pub(super) fn note_applied(&mut self, upto: u64) {
        self.applied = upto;
        while let Some(first) = self.waiting_for_applied.first_entry()
            && first.key().0 <= upto
        {
            self.ready.push_back(first.remove());
        }
    }

    /// Whether a packet that waits for the records up to `mark` has nothing to wait for.
    #[inline]
    pub(super) fn lets_pass(&self, debt: &Debt, mark: u64) -> bool {
        mark <= self.durable && !debt.is_open()
    }

    /// Owes a connection a packet once all records up to `mark` are on disk. Marks never become
    /// smaller.
    pub(super) fn owe_packet(
        &mut self,
        connection: ConnectionId,
        debt: &mut Debt,
        mark: u64,
        packet: &[u8],
    ) {
        debt.keep_until_durable(mark, packet);
        if mark > self.durable {
            self.wait_for_durable(connection, mark);
        }
    }

    fn wait_for_durable(&mut self, connection: ConnectionId, mark: u64) {
        let latest = self.waiting_for_durable.back();
        if latest != Some(&(mark, connection)) {
            debug_assert!(latest.is_none_or(|&(upto, _)| upto <= mark), "marks grow");
            self.waiting_for_durable.push_back((mark, connection));
        }
    }

    /// All records of this shard up to `mark` are on disk.
    pub(super) fn note_durable(&mut self, mark: u64) {
        self.durable = self.durable.max(mark);
    }

    /// The store has room for messages, or has none.
    pub(super) fn note_store_room(&mut self, has_room: bool) {
        self.has_store_room = has_room;
        if has_room {
            self.ready.extend(self.waiting_for_store_room.drain(..));
        }
    }

    /// Forgets connections that have gone, if more wait for room than there are.
    pub(super) fn forget_gone(&mut self, count: usize, is_there: impl Fn(ConnectionId) -> bool) {
        if self.waiting_for_store_room.len() > 2 * count {
            self.waiting_for_store_room.retain(|&id| is_there(id));
        }
    }

    /// The next connection that waits for no larger mark than what is on disk. It may have gone
    /// meanwhile. What is owed to it besides packets may be due.
    pub(super) fn next_durable(&mut self) -> Option<ConnectionId> {
        let durable = self.durable;
        let (_, connection) =
            self.waiting_for_durable.pop_front_if(|(mark, _)| *mark <= durable)?;
        self.ready.push_back(connection);
        Some(connection)
    }

    /// The records of this shard up to this mark are on disk.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    /// A crowded batch has been posted to a shard.
    pub(super) fn note_posted(&mut self, to: ShardId) {
        let posted = &mut self.posted[to.index()];
        posted.batches += 1;
        self.ready.extend(posted.waiting.drain(..));
    }

    /// Something that names the connection has come to hold: an answer that waits for `from` waits
    /// no longer.
    pub(super) fn settle(
        &mut self,
        connection: ConnectionId,
        debt: &mut Debt,
        from: Condition,
        to: Condition,
    ) {
        let answers = debt.0.iter_mut().flat_map(|rows| &mut rows.answers);
        for (condition, _) in answers.filter(|(condition, _)| *condition == from) {
            *condition = to;
        }
        self.ready.push_back(connection);
    }

    /// Whether something may be due for anyone.
    #[inline]
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next connection that something may be due for. It may have gone meanwhile.
    pub(super) fn next_ready(&mut self) -> Option<ConnectionId> {
        self.ready.pop_front()
    }

    /// Takes the oldest answer of a connection, if it no longer has to wait, with the verdict of
    /// what it waited for. The next answer is checked afterwards.
    pub(super) fn take_due(
        &mut self,
        connection: ConnectionId,
        debt: &mut Debt,
    ) -> Option<(Answer, Verdict)> {
        let answers = &mut debt.0.as_mut()?.answers;
        let (condition, answer) =
            answers.pop_front_if(|(condition, _)| self.has_come(*condition))?;
        if !answers.is_empty() {
            self.ready.push_front(connection);
        }
        debt.forget_empty_rows();
        Some((answer, condition.verdict()))
    }

    fn has_come(&self, condition: Condition) -> bool {
        match condition {
            Condition::Applied(number) => number <= self.applied,
            Condition::Posted(to, batches) => batches <= self.posted[to.index()].batches,
            Condition::Durable(mark) => mark <= self.durable,
            Condition::Verdict(verdict) => verdict.is_some(),
            Condition::Place { is_told } => is_told,
            Condition::Delay(over) => over,
            Condition::StoreRoom => self.has_store_room,
        }
    }

    /// How many wait for other shards to have applied something.
    pub(super) fn waiting_for_applied(&self) -> usize {
        self.waiting_for_applied.len()
    }

    /// How many wait for a batch to be posted.
    pub(super) fn waiting_for_posted(&self) -> usize {
        self.posted.iter().map(|posted| posted.waiting.len()).sum()
    }
}

#[cfg(test)]
mod tests;
