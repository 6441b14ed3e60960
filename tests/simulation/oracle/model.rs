//! What the oracle remembers of connections, sessions and messages.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ringmq::{
    base::time::Moment,
    mqtt::{
        ApplicationProperties, Publish, QoS, ReasonCode, RetainHandling, SubscriptionOptions,
        Version,
    },
};

use super::{Seen, precedence::Arrivals};

/// One connection.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub(super) struct Conn {
    pub(super) client: usize,
    pub(super) session: Option<usize>,
    pub(super) version: Version,
    /// The shard that has it, and since when.
    pub(super) at: Option<usize>,
    pub(super) accepted_at: Moment,
    /// It is not read from now.
    pub(super) paused: bool,
    /// CONNACK has said success.
    pub(super) connected: bool,
    pub(super) closed: bool,
    /// It has sent DISCONNECT, or another has taken its session over.
    pub(super) leaving: bool,
    pub(super) misbehaved: bool,
    /// A farewell was sent.
    pub(super) dismissed: bool,
    pub(super) window: usize,
    pub(super) packet_size_max: usize,
    pub(super) alias_max: u16,
    pub(super) keep_alive: u16,
    /// It wants to hear in words why something went wrong.
    pub(super) wants_reasons: bool,
    /// The Reason Code of its farewell.
    pub(super) farewell: Option<ReasonCode>,
    pub(super) last_packet: Moment,
    /// Its CONNECT, which is answered once its password has been checked.
    pub(super) waiting: Option<Vec<u8>>,
    /// Answers that the broker owes it, in order.
    pub(super) replies: VecDeque<Reply>,
    pub(super) arrivals: Arrivals,
    pub(super) aliases_in: BTreeMap<u16, String>,
    pub(super) aliases_out: BTreeMap<u16, String>,
}

/// An answer that is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// And whether the message is refused.
    Puback(u16, bool),
    Pubrec(u16, bool),
    Pubrel(u16, bool),
    Pubcomp(u16),
    Suback(u16, Vec<u8>),
    Unsuback(u16, Vec<u8>),
    Pingresp,
}

impl Conn {
    pub(super) fn new(client: usize) -> Conn {
        Conn {
            client,
            session: None,
            version: Version::V5,
            at: None,
            accepted_at: Moment::default(),
            paused: false,
            connected: false,
            closed: false,
            leaving: false,
            misbehaved: false,
            dismissed: false,
            window: 0,
            packet_size_max: usize::MAX,
            alias_max: 0,
            keep_alive: 0,
            wants_reasons: true,
            farewell: None,
            last_packet: Moment::default(),
            waiting: None,
            replies: VecDeque::new(),
            arrivals: Arrivals::default(),
            aliases_in: BTreeMap::new(),
            aliases_out: BTreeMap::new(),
        }
    }
}

impl Conn {
    /// A shard has it now.
    pub(super) fn accept(&mut self, seen: &Seen<'_>) {
        (self.at, self.accepted_at) = (Some(seen.shard), seen.now);
        self.paused = false;
    }
}

/// One session, from its beginning to its end.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client_id: String,
    /// Its client misbehaves at times, and may have begun a packet that swallows all others.
    pub(super) hostile: bool,
    pub(super) home: usize,
    /// Who pays for it.
    pub(super) account: String,
    /// The larger, the later its client has gone.
    pub(super) absent_since: u64,
    pub(super) link: Option<usize>,
    pub(super) ended_at: Option<u64>,
    pub(super) expiry: u32,
    pub(super) ends_at: Option<Moment>,
    pub(super) will: Option<Will>,
    pub(super) subscriptions: Vec<Subscription>,
    /// QoS 2 messages from the client that were not released, and the connection of each.
    pub(super) held: BTreeMap<u16, usize>,
    pub(super) flights: Vec<Flight>,
    /// What was routed to it and not sent yet, in order.
    pub(super) expected: Vec<Expected>,
    pub(super) tickets: Vec<Ticket>,
    pub(super) used: Vec<UsedTicket>,
    /// The last message sent of each publisher, topic and pair of QoS.
    pub(super) last: BTreeMap<(String, String, u8, u8), usize>,
    /// Everything that was sent to it, by emission.
    pub(super) got: BTreeSet<usize>,
}

impl Session {
    /// How many patterns of text and `+` its filters begin with, if it subscribes to one more; 0 if
    /// that one adds none.
    pub(super) fn patterns_with(&self, text: &str) -> usize {
        let current = self.subscriptions.iter().filter(|it| it.is_current());
        let mut all: BTreeSet<Vec<bool>> =
            current.flat_map(|it| patterns(filter_of(&it.text))).collect();
        let before = all.len();
        all.extend(patterns(filter_of(text)));
        if all.len() > before { all.len() } else { 0 }
    }
}

/// For each beginning of a filter that has a `+`: which of its levels are one.
fn patterns(filter: &str) -> impl Iterator<Item = Vec<bool>> {
    let levels: Vec<&str> = filter.split('/').take_while(|level| *level != "#").collect();
    let beginnings = (1..=levels.len()).map(move |len| levels[..len].to_vec());
    beginnings
        .filter(|levels| levels.contains(&"+"))
        .map(|levels| levels.iter().map(|level| *level == "+").collect())
}

/// A Topic Filter without the share group.
fn filter_of(text: &str) -> &str {
    text.strip_prefix("$share/").and_then(|it| it.split_once('/')).map_or(text, |(_, it)| it)
}

#[derive(Clone, Debug)]
pub(super) struct Will {
    pub(super) publication: Publication,
    pub(super) delay: u32,
    pub(super) expiry: Option<u32>,
    pub(super) due_at: Option<Moment>,
}

#[derive(Clone, Debug)]
pub(super) struct Subscription {
    /// As it was subscribed, `$share` included.
    pub(super) text: String,
    pub(super) options: SubscriptionOptions,
    pub(super) identifier: u32,
    /// The step in which its SUBACK was sent.
    pub(super) acknowledged_at: Option<u64>,
    pub(super) packet_id: (usize, u16),
    pub(super) until: Option<u64>,
    /// It has asked for retained messages, or has taken the place of one that has.
    pub(super) has_asked: bool,
}

impl Subscription {
    /// The Topic Filter without the share group.
    pub(super) fn filter(&self) -> &str {
        self.share().map_or(&self.text, |(_, filter)| filter)
    }

    pub(super) fn share(&self) -> Option<(&str, &str)> {
        self.text.strip_prefix("$share/")?.split_once('/')
    }

    pub(super) fn is_current(&self) -> bool {
        self.until.is_none()
    }

    pub(super) fn wants_retained(&self, known: bool) -> bool {
        match self.options.retain_handling {
            RetainHandling::SendAtSubscribe => true,
            RetainHandling::SendIfNew => !known,
            RetainHandling::DoNotSend => false,
        }
    }
}

/// A message as its publisher meant it.
#[derive(Clone, Debug)]
pub(super) struct Publication {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    /// What the publisher says about it, as 5.0 writes that.
    pub(super) application: Vec<u8>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) expires_at: Option<Moment>,
    pub(super) publisher: String,
}

impl Publication {
    pub(super) fn has_expired(&self, now: Moment) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Whether a PUBLISH to a client of this version says what the publisher has said.
    pub(super) fn is_said_by(&self, publish: &Publish<'_>, version: Version) -> bool {
        let said = written(publish.properties.application);
        said == if version == Version::V5 { &self.application[..] } else { &[] }
    }
}

/// What an application says about a message, as bytes.
pub(super) fn written(application: ApplicationProperties<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    application.encode(&mut bytes);
    bytes
}

/// One routing of a message. A message that is sent again at QoS 1 is routed again.
#[derive(Debug)]
pub(super) struct Emission {
    pub(super) publication: Publication,
    pub(super) shard: usize,
    pub(super) step: u64,
    /// When and where the retained message changes, and whether it is removed.
    pub(super) retention: Option<(u64, bool)>,
    /// Whether the same payload has been routed before or after.
    pub(super) again: bool,
}

/// A message in flight to a client.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) packet_id: u16,
    pub(super) qos: QoS,
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) released: bool,
    /// The connection on which it was sent last.
    pub(super) link: usize,
    /// The connection on which its PUBLISH was sent last: there it counts.
    pub(super) published_on: usize,
    /// Its client has had a Maximum Packet Size since that it is larger than: it may have been
    /// given up.
    pub(super) doubtful: bool,
    pub(super) len: usize,
}

/// A message that a session is to get.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) emission: usize,
    /// Whether the broker must have known that it is for this session.
    pub(super) certain: bool,
    pub(super) qos: QoS,
    /// Whether it must be sent in this very call, because nobody keeps it.
    pub(super) immediate: bool,
    pub(super) retain: bool,
    pub(super) identifiers: Vec<u32>,
    pub(super) since: u64,
}

/// A retained message that a subscription asks for.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub(super) emission: usize,
    pub(super) qos: QoS,
    pub(super) identifier: u32,
    pub(super) filter: String,
    /// Nothing has happened that could have made it void.
    pub(super) certain: bool,
    /// The step in which the subscription asked for it.
    pub(super) since: u64,
    /// The step in which the subscription has ended or was replaced.
    pub(super) until: Option<u64>,
    /// The message has come after the subscription, and may come by its replay if this session
    /// has missed what should have come live.
    pub(super) live: Option<Live>,
    /// The message is no longer retained, and none that the subscription wants has taken its place
    /// for good: a replay may come to the topic when there is nothing to send.
    pub(super) waived: bool,
}

/// How a retained message should have come when it was new.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live {
    pub(super) qos: QoS,
    pub(super) retain: bool,
}

/// A ticket by which a message has come, as far as is known: others looked alike.
#[derive(Debug)]
pub(super) struct UsedTicket {
    pub(super) ticket: Ticket,
    /// The filters of the others.
    pub(super) others: Vec<String>,
}
