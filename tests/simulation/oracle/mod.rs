//! A naive broker that watches the real one: after every call it takes the same packets and the
//! same letters, and says of each packet that was sent whether it may or must have been.
//!
//! It has one list of sessions with one list of subscriptions each, and matches by section 4.7.

mod connack;
mod evicted;
mod groups;
mod limits;
mod model;
mod precedence;
mod replays;
mod replicas;
mod routing;
mod sent;
mod sessions;
mod silence;
mod splits;
mod taken;
mod told;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ringmq::{
    base::{
        hash::Seed,
        time::{Moment, Span},
    },
    mqtt::{self, Packet, Version},
    shard::{
        letter::LetterBatch,
        offer::Offer,
        rules::{Limits, SLICE_STEPS, WhenQueueFull},
        stats::Counters,
    },
};

use self::model::{Conn, Emission, Session};
use crate::{
    plan::Plan,
    ports::Effects,
    violation::{Violation, ensure},
};

/// One call of one shard.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) step: u64,
    pub(crate) now: Moment,
    pub(crate) shard: usize,
    pub(crate) event: Event<'a>,
    pub(crate) effects: &'a Effects,
    /// Before and after.
    pub(crate) counters: (&'a Counters, &'a Counters),
    /// The Client Identifiers of all sessions after the call, if any had to go for others.
    pub(crate) survivors: Option<&'a BTreeSet<String>>,
}

/// What a shard was called for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'a> {
    Accepted {
        link: usize,
    },
    /// Bytes that the shard has taken.
    Bytes {
        link: usize,
        bytes: &'a [u8],
    },
    Ended {
        link: usize,
    },
    Drained {
        link: usize,
    },
    /// So many letters of a batch; with its last one, everything that a shard has said up to this
    /// step.
    Letters {
        from: usize,
        batch: &'a LetterBatch,
        handled: usize,
        upto: u64,
    },
    Posted,
    Verdict,
    Rules,
    Time,
    Stop,
    /// The shard begins, with what it finds in the store.
    Start,
    /// It is told that records are on disk.
    Durable,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub(crate) struct Oracle {
    shards: usize,
    seed: Seed,
    limits: Limits,
    offer: Offer,
    addresses: usize,
    with_passwords: bool,
    tells_sys: bool,
    /// The clients from this one on misbehave at times.
    hostile_from: usize,
    conns: Vec<Conn>,
    sessions: Vec<Session>,
    /// The session of each Client Identifier.
    current: BTreeMap<String, usize>,
    /// Sessions that had to go in this call, and have not been ended here.
    evicted: VecDeque<usize>,
    /// How often a client has gone.
    absences: u64,
    emissions: Vec<Emission>,
    /// From each shard to each: what is not known to have arrived.
    underway: Vec<Vec<VecDeque<usize>>>,
    retained: Vec<routing::Replica>,
    /// Who was given a message by which share group.
    shared: BTreeMap<(usize, String), Vec<(usize, mqtt::QoS)>>,
    /// Messages for share groups all of whose members were there to take them.
    debts: Vec<groups::Debt>,
    /// Names of all filters and groups that were ever subscribed to.
    filters: BTreeSet<String>,
    /// Messages begun at QoS 2, by the client and the payload.
    begun_exactly: BTreeMap<(usize, Vec<u8>), u32>,
    /// How often bytes have arrived.
    arrivals: u64,
    trace: u64,
    steps: u64,
    telling: bool,
    story: Vec<String>,
    /// It writes the story and judges nothing: a crash takes back what it has seen.
    is_blind: bool,
}

impl Oracle {
    pub(crate) fn new(plan: &Plan) -> Oracle {
        let row = || vec![VecDeque::new(); plan.shards];
        Oracle {
            shards: plan.shards,
            seed: Seed::new(plan.seed),
            limits: plan.limits.clone(),
            offer: plan.offer.clone(),
            addresses: plan.addresses(),
            with_passwords: plan.with_passwords,
            hostile_from: plan.clients - plan.hostile,
            tells_sys: plan.sys_interval.is_some(),
            conns: Vec::new(),
            sessions: Vec::new(),
            current: BTreeMap::new(),
            evicted: VecDeque::new(),
            absences: 0,
            emissions: Vec::new(),
            underway: (0..plan.shards).map(|_| row()).collect(),
            retained: (0..plan.shards).map(|_| routing::Replica::default()).collect(),
            shared: BTreeMap::new(),
            debts: Vec::new(),
            filters: BTreeSet::new(),
            begun_exactly: BTreeMap::new(),
            arrivals: 0,
            trace: 0,
            steps: 0,
            telling: false,
            story: Vec::new(),
            is_blind: plan.disk.is_some(),
        }
    }

    /// A connection will speak this version.
    pub(crate) fn set_version(&mut self, link: usize, version: Version) {
        self.conns[link].version = version;
    }

    pub(crate) fn opened(&mut self, link: usize, client: usize) {
        assert_eq!(link, self.conns.len(), "links are numbered in their order");
        self.conns.push(Conn::new(client));
    }

    /// Takes note of one call, and judges it.
    pub(crate) fn observe(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        self.steps += 1;
        self.note(seen);
        let judged = if self.is_blind { Ok(()) } else { self.judge(seen) };
        // By now it is known which version a client speaks.
        if self.telling {
            self.tell_call(seen);
        }
        judged
    }

    fn judge(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        self.note_arrivals(seen);
        self.note_evicted(seen)?;
        self.take_answered(seen)?;
        match seen.event {
            Event::Bytes { link, bytes } => self.take_bytes(seen, link, bytes)?,
            Event::Letters { from, batch, handled, upto } => {
                let is_whole = handled == batch.iter().count();
                // A session that has to go is gone for the letters behind the one that asks.
                if !is_whole || !self.evicted.is_empty() || self.splits() {
                    self.take_one_by_one(seen, from, (batch, handled));
                }
                if is_whole {
                    self.take_letters(seen, from, upto);
                }
                self.evict_for_others(seen)?;
            }
            Event::Time => self.take_time(seen),
            Event::Accepted { link } => self.conns[link].accept(seen),
            _ => {}
        }
        for link in seen.effects.closed() {
            self.close(seen, link)?;
        }
        for (link, bytes, room) in seen.effects.sent_with_room() {
            self.check_room(link, bytes, room)?;
            self.sent_bytes(seen, link, bytes)?;
        }
        self.check_immediate(seen)?;
        self.note_turns(seen);
        match seen.event {
            Event::Time => self.check_silence(seen),
            Event::Stop => self.check_farewells(seen),
            _ => self.check_dismissed(seen),
        }
    }

    /// A message is sent while there is room; beyond that only while publishers are held back for
    /// the subscriber.
    fn check_room(&self, link: usize, bytes: &[u8], room: usize) -> Result<(), Violation> {
        let publishes = bytes.first().is_some_and(|first| first >> 4 == 3);
        let may_overrun = !self.limits.patience.is_zero() && bytes[0] & QOS_BITS == 0;
        ensure(room > 0 || !publishes || may_overrun, "an outbox keeps to its limit", || {
            format!("link {link}")
        })
    }

    /// The version of the packets that a link brings, which its CONNECT may be among.
    pub(crate) fn version_of(&self, link: usize, bytes: &[u8]) -> Version {
        let first = mqtt::frame::split(bytes, 1 << 28).ok().flatten();
        let connect = first.filter(|frame| frame.packet_type() == mqtt::PacketType::Connect);
        let version = connect.and_then(|frame| mqtt::connect::peek_version(frame.body));
        version.unwrap_or(self.conns[link].version)
    }

    /// Who has broken the protocol was disconnected in the same breath.
    fn check_dismissed(&self, seen: &Seen<'_>) -> Result<(), Violation> {
        let Event::Bytes { link, .. } = seen.event else { return Ok(()) };
        let conn = &self.conns[link];
        ensure(!conn.misbehaved || conn.closed, "who breaks the protocol is disconnected", || {
            format!("link {link}")
        })
    }

    /// The connection has been closed by the shard.
    fn close(&mut self, seen: &Seen<'_>, link: usize) -> Result<(), Violation> {
        let conn = &mut self.conns[link];
        ensure(!conn.closed, "a connection is closed once", || format!("link {link}"))?;
        conn.closed = true;
        self.check_reason_to_close(seen, link)?;
        if let Some(session) = self.conns[link].session
            && self.sessions[session].link == Some(link)
        {
            self.detach(seen, session, false);
        }
        Ok(())
    }

    /// A client that keeps to the rules stays connected.
    fn check_reason_to_close(&self, seen: &Seen<'_>, link: usize) -> Result<(), Violation> {
        let conn = &self.conns[link];
        let (before, after) = seen.counters;
        let silence = Span::from_millis(u64::from(conn.keep_alive) * 1_500);
        let silent = conn.keep_alive > 0 && conn.last_packet + silence <= seen.now;
        let excused = !conn.connected
            || conn.misbehaved
            || conn.leaving
            || matches!(seen.event, Event::Stop)
            || matches!(seen.event, Event::Ended { link: ended } if ended == link)
            || (silent && after.ended_keep_alive > before.ended_keep_alive)
            || (after.ended_quota > before.ended_quota && self.may_be_cut(link))
            || (conn.packet_size_max < SMALL && after.ended_too_large > before.ended_too_large);
        ensure(excused, "a client that keeps to the rules stays connected", || {
            format!("link {link} of client {}", conn.client)
        })
    }

    /// Whether a client is disconnected when its queue is full: as the limits say, or because other
    /// members of its share groups are to have what it holds.
    fn may_be_cut(&self, link: usize) -> bool {
        let session = self.conns[link].session.map(|session| &self.sessions[session]);
        self.limits.when_queue_full == WhenQueueFull::Disconnect
            || session.is_some_and(|it| it.subscriptions.iter().any(|it| it.share().is_some()))
    }

    /// Adds a call to the digest, and to the story.
    fn note(&mut self, seen: &Seen<'_>) {
        let mut add = |bytes: &[u8]| {
            for chunk in bytes.chunks(8) {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                self.trace = (self.trace ^ u64::from_le_bytes(word))
                    .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                    .rotate_left(29);
            }
        };
        add(&seen.step.to_le_bytes());
        add(&seen.now.as_nanos().to_le_bytes());
        add(&[u8::try_from(seen.shard).unwrap_or(u8::MAX)]);
        if let Event::Bytes { bytes, .. } = seen.event {
            add(bytes);
        }
        for (_, bytes) in seen.effects.sent() {
            add(bytes);
        }
        add(&[u8::try_from(seen.effects.closed().count()).unwrap_or(u8::MAX)]);
    }

    pub(crate) fn trace(&self) -> u64 {
        self.trace
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// Whether messages may take several turns to come to all who want them.
    pub(crate) fn splits(&self) -> bool {
        self.limits.slice_steps < SLICE_STEPS
    }

    pub(crate) fn tells_sys(&self) -> bool {
        self.tells_sys
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether a story is written.
    pub(crate) fn tell(&mut self, telling: bool) {
        self.telling = telling;
    }

    pub(crate) fn take_story(&mut self) -> Vec<String> {
        std::mem::take(&mut self.story)
    }

    /// The shard where a Client Identifier is at home.
    fn home(&self, client_id: &str) -> usize {
        let shards = u64::try_from(self.shards).expect("few shards");
        usize::try_from(self.seed.hash(client_id) % shards).expect("few shards")
    }
}

/// The packets in some bytes, as far as they are packets.
fn packets(
    bytes: &[u8],
    version: Version,
    mut see: impl FnMut(Result<Packet<'_>, mqtt::DecodeError>, usize) -> Result<(), Violation>,
) -> Result<(), Violation> {
    let mut rest = bytes;
    loop {
        match mqtt::frame::split(rest, 1 << 28) {
            Ok(Some(frame)) => {
                rest = &rest[frame.len..];
                see(Packet::decode(frame, version), frame.len)?;
            }
            Ok(None) => return Ok(()),
            Err(error) => return see(Err(error), 0),
        }
    }
}

/// A Maximum Packet Size for which answers may be too large.
const SMALL: usize = 40;
/// Bytes of an Assigned Client Identifier in CONNACK.
const ASSIGNED: usize = 32;
/// The QoS of a PUBLISH in its first byte.
const QOS_BITS: u8 = 0b110;
