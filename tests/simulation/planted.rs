//! Faults that are planted between the shards and the world, so that the laws can be seen to find
//! them. Each is something that a broker could get wrong.

use std::collections::{BTreeMap, VecDeque};

use ringmq::{
    mqtt::{
        self, ConnackProperties, Connect, Packet, PacketId, PacketType, QoS, ReasonCode,
        RetainHandling, SubscriptionIdentifiers, SubscriptionOptions, Version,
    },
    shard::{letter::LetterBatch, offer::Offer, rules::Rules},
};

use crate::{
    letters,
    plan::Plan,
    random::{Random, purpose},
};

/// Declares the faults once: the name in the code, and the words in the table.
macro_rules! faults {
    ($fault:ident: $($name:ident = $words:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $fault {
            $($name,)*
        }

        impl $fault {
            pub(crate) const ALL: &[$fault] = &[$($fault::$name,)*];

            pub(crate) fn words(self) -> &'static str {
                match self {
                    $($fault::$name => $words,)*
                }
            }
        }
    };
}
pub(crate) use faults;

faults! { Fault:
    LosePublish = "a PUBLISH at QoS 1 or 2 is not sent",
    LoseQosZero = "a PUBLISH at QoS 0 is dropped and not counted",
    RepeatPublish = "a PUBLISH is sent twice",
    SwapPublishes = "two PUBLISH packets change places",
    ForgetDup = "what is sent again does not say DUP",
    ReuseIdentifier = "a Packet Identifier is used twice",
    SetRetain = "RETAIN is set on what subscribers get live",
    RaiseQos = "a message at QoS 1 is sent at QoS 2",
    LosePuback = "a PUBACK is not sent",
    RepeatPuback = "a PUBACK is sent twice",
    LosePubrel = "a PUBREL is not sent",
    LoseSuback = "a SUBACK is not sent",
    ForgetSessionPresent = "Session Present is not set",
    IgnoreReceiveMaximum = "the client's Receive Maximum is ignored",
    IgnorePacketSize = "the client's Maximum Packet Size is ignored",
    IgnoreCleanStart = "Clean Start is ignored",
    HastenWill = "a Will comes before its delay is over",
    IgnoreNoLocal = "No Local is ignored",
    IgnoreQos = "subscriptions are taken at QoS 0",
    LoseInterest = "another shard does not hear of a filter",
    KeepInterest = "another shard does not hear that a filter is gone",
    LoseGroup = "another shard does not hear of a share group's members",
    EarlySuback = "a SUBACK does not wait for the other shards",
    LoseLetter = "a message for another shard is lost, though acknowledged",
    RepeatLetter = "a message for another shard comes twice",
    SwapBatches = "two batches of letters change places",
    SkipTombstone = "the removal of a retained message is not told to another shard",
    AgeRetained = "a retained message comes to another shard as older than it is",
    LoseEase = "a publisher is not told that it may go on",
    ForgetToResume = "a paused connection is never read from again",
    ForgetDrained = "a drained outbox is not noticed",
    OverfillOutbox = "an outbox is never full",
    HurryClock = "a shard's clock is ahead when timers are looked at",
    ReplayAlways = "Retain Handling 1 sends what is retained to those who have it",
    SkipReplay = "Retain Handling 0 sends nothing that is retained",
    CountInOrder = "a PUBACK counts only after those of all earlier messages",
    LoseMissed = "a retained message that changed during its replay is not sent",
    KeepIdentifier = "a replay goes on with the first Subscription Identifier of its client",
    IgnoreRetainAsPublished = "Retain As Published is ignored",
    LoseIdentifiers = "what waited is sent without its Subscription Identifiers",
    KeepInterval = "the Message Expiry Interval of what waited is still the first one",
    KeepAliases = "Topic Aliases of the connection before are used again",
    LoseApplication = "what a publisher says about its message does not reach another shard",
    TellProblems = "Request Problem Information is ignored",
    IgnoreKeepAlive = "the Keep Alive is ignored",
    LoseWill = "a Will that waits is forgotten",
    KeepWill = "DISCONNECT publishes the Will",
    DropWill = "DISCONNECT with Will Message takes the Will along",
    IgnoreLastExpiry = "the Session Expiry Interval of DISCONNECT is ignored",
    KeepSessions = "sessions never expire",
    LoseInherited = "what a member of a share group leaves behind is lost",
    RepeatInherited = "what a member of a share group leaves behind comes twice",
    LoseShared = "a message at QoS 0 is lost on its way to a share group",
    IgnoreAbsence = "another shard takes all members of a share group for present",
    IgnoreOffer = "the broker does not keep to what it offers",
    HideOffer = "CONNACK does not say what the broker offers",
    HalveQueue = "a session's queue is full before its limit",
    HalveRetained = "retained messages are too many before their limit",
    UnboundQueue = "a session's queue is never full",
    UnboundRetained = "retained messages are never too many",
    ForgetToClose = "a connection is not closed",
    OvertakeBytes = "a takeover does not wait for what has arrived on the earlier connection",
    CountMoved = "a connection that another shard hands over is counted as a new one",
    RefuseMessage = "a PUBACK says that a message was refused, though it was not",
}

/// The planted fault of a run, if any, and what it has to remember.
#[derive(Debug)]
pub(crate) struct Planted {
    fault: Option<Fault>,
    random: Random,
    held_frames: BTreeMap<usize, Vec<u8>>,
    held_batches: BTreeMap<(usize, usize), LetterBatch>,
    /// Changes of interest that each shard has told each other.
    told: BTreeMap<(usize, usize), u64>,
    forging: bool,
    /// The Message Expiry Interval of each payload, as it was published.
    intervals: BTreeMap<Vec<u8>, u32>,
    /// The Topic Aliases of each client, and the connection on which each was told last.
    aliases: BTreeMap<(usize, u16), (String, usize)>,
    /// The messages at QoS 1 on each link, and which of them were acknowledged.
    unacknowledged: BTreeMap<usize, VecDeque<(PacketId, bool)>>,
    /// The number of the latest message.
    newest: u64,
    /// What that was when each link subscribed last.
    asked_at: BTreeMap<usize, u64>,
    /// The first Subscription Identifier that each client was sent a message by.
    identifiers: BTreeMap<usize, u32>,
}

/// Whom a packet is sent to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipient {
    pub(crate) link: usize,
    pub(crate) client: usize,
    pub(crate) version: Version,
}

/// What a shard is handed instead of what has come, and how long each packet was and is.
#[derive(Debug, Default)]
pub(crate) struct Misread {
    pub(crate) bytes: Vec<u8>,
    lengths: Vec<(usize, usize)>,
}

impl Misread {
    /// How much has really been taken when so much of the altered bytes was.
    pub(crate) fn taken(&self, taken: usize, all: usize) -> usize {
        if taken == self.bytes.len() {
            return all;
        }
        let (mut altered, mut came) = (0, 0);
        for (before, after) in &self.lengths {
            if altered + after > taken {
                break;
            }
            (altered, came) = (altered + after, came + before);
        }
        came + (taken - altered)
    }
}

impl Planted {
    pub(crate) fn new(plan: &Plan) -> Planted {
        Planted {
            fault: plan.planted,
            random: Random::new(plan.seed, purpose::PLANTED),
            held_frames: BTreeMap::new(),
            held_batches: BTreeMap::new(),
            told: BTreeMap::new(),
            forging: false,
            intervals: BTreeMap::new(),
            aliases: BTreeMap::new(),
            unacknowledged: BTreeMap::new(),
            newest: 0,
            asked_at: BTreeMap::new(),
            identifiers: BTreeMap::new(),
        }
    }

    pub(crate) fn is(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub(crate) fn is_on(&self) -> bool {
        self.fault.is_some()
    }

    /// What is sent instead of some packets, which may have waited for the recipient.
    pub(crate) fn alter(&mut self, to: Recipient, waited: bool, frames: &[u8]) -> Vec<Vec<u8>> {
        let mut altered = Vec::new();
        let mut rest = frames;
        while let Ok(Some(frame)) = mqtt::frame::split(rest, 1 << 28) {
            let (one, more) = rest.split_at(frame.len);
            rest = more;
            if let Ok(Packet::Publish(publish)) = Packet::decode(frame, to.version)
                && let mqtt::Delivery::AtLeastOnce(packet_id) = publish.delivery
            {
                self.unacknowledged.entry(to.link).or_default().push_back((packet_id, false));
            }
            let rewritten = match Packet::decode(frame, to.version) {
                Ok(packet) if waited && self.loses(to, &packet) => continue,
                Ok(packet) => self.rewrite(to, waited, &packet),
                Err(_) => None,
            };
            let one = rewritten.unwrap_or_else(|| one.to_vec());
            self.alter_one(to, frame.packet_type(), one, &mut altered);
        }
        altered
    }

    /// Whether a packet that waited is not sent.
    fn loses(&self, to: Recipient, packet: &Packet<'_>) -> bool {
        let Packet::Publish(publish) = packet else { return false };
        let asked_at = self.asked_at.get(&to.link).copied().unwrap_or(u64::MAX);
        self.is(Fault::LoseMissed)
            && publish.delivery.qos() == QoS::AtMostOnce
            && publish.retain
            && number_of(publish.payload).is_some_and(|number| number > asked_at)
    }

    /// The acknowledgements that are not older than one that is missing.
    fn count_in_order(&mut self, link: usize, packet_id: PacketId) -> Vec<u8> {
        let mut out = Vec::new();
        let Some(sent) = self.unacknowledged.get_mut(&link) else { return out };
        if let Some(place) = sent.iter().position(|&(sent, known)| sent == packet_id && !known) {
            sent[place].1 = true;
        }
        while let Some((packet_id, _)) = sent.pop_front_if(|it| it.1) {
            Packet::Puback(mqtt::Ack::success(packet_id)).encode(Version::V311, &mut out);
        }
        out
    }

    /// The packet anew, if the fault is in what it says.
    fn rewrite(&mut self, to: Recipient, waited: bool, packet: &Packet<'_>) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match (self.fault?, *packet) {
            (Fault::LoseIdentifiers, Packet::Publish(mut publish)) if waited => {
                publish.properties.subscription_identifiers = SubscriptionIdentifiers::default();
                publish.encode(to.version, &mut out);
            }
            (Fault::KeepIdentifier, Packet::Publish(mut publish)) if waited && publish.retain => {
                let now = publish.properties.subscription_identifiers.iter().next()?;
                let first = [*self.identifiers.entry(to.client).or_insert(now)];
                publish.properties.subscription_identifiers = SubscriptionIdentifiers::List(&first);
                publish.encode(to.version, &mut out);
            }
            (Fault::KeepInterval, Packet::Publish(mut publish)) => {
                let first = self.intervals.get(publish.payload)?;
                *publish.properties.message_expiry_interval.as_mut()? = *first;
                publish.encode(to.version, &mut out);
            }
            (Fault::KeepAliases, Packet::Publish(mut publish)) => {
                let alias = publish.properties.topic_alias?;
                if publish.topic.is_empty() {
                    return None;
                }
                let told = (publish.topic.to_owned(), to.link);
                let before = self.aliases.insert((to.client, alias.get()), told);
                let known =
                    |(topic, link): (String, usize)| topic == publish.topic && link != to.link;
                if before.is_some_and(known) {
                    publish.topic = "";
                }
                publish.encode(to.version, &mut out);
            }
            (Fault::HideOffer, Packet::Connack(mut connack)) => {
                connack.properties = ConnackProperties {
                    receive_maximum: connack.properties.receive_maximum,
                    topic_alias_maximum: connack.properties.topic_alias_maximum,
                    ..ConnackProperties::default()
                };
                connack.encode(to.version, &mut out);
            }
            (Fault::RefuseMessage, Packet::Puback(ack)) if to.version == Version::V5 => {
                let refused = mqtt::Ack::with_reason(ack.packet_id, ReasonCode::QuotaExceeded);
                Packet::Puback(refused).encode(to.version, &mut out);
            }
            _ => return None,
        }
        Some(out)
    }

    fn alter_one(
        &mut self,
        to: Recipient,
        packet_type: PacketType,
        mut frame: Vec<u8>,
        out: &mut Vec<Vec<u8>>,
    ) {
        let Some(fault) = self.fault else { return out.push(frame) };
        let qos = frame[0] >> 1 & 3;
        let strikes = self.random.chance(25);
        let loses = match (fault, packet_type) {
            (Fault::LosePublish, PacketType::Publish) => qos > 0,
            (Fault::LoseQosZero, PacketType::Publish) => qos == 0,
            (Fault::LosePuback, PacketType::Puback)
            | (Fault::LosePubrel, PacketType::Pubrel)
            | (Fault::LoseSuback, PacketType::Suback) => true,
            _ => false,
        };
        if loses && strikes {
            return;
        }
        match (fault, packet_type) {
            (Fault::RepeatPublish, PacketType::Publish)
            | (Fault::RepeatPuback, PacketType::Puback)
                if strikes =>
            {
                out.push(frame.clone());
            }
            (Fault::SwapPublishes, PacketType::Publish) => {
                if let Some(held) = self.held_frames.remove(&to.link) {
                    out.push(frame);
                    return out.push(held);
                }
                if strikes {
                    self.held_frames.insert(to.link, frame);
                    return;
                }
            }
            (Fault::ForgetDup, PacketType::Publish) => frame[0] &= !8,
            (Fault::SetRetain, PacketType::Publish) if strikes => frame[0] |= 1,
            (Fault::RaiseQos, PacketType::Publish) if qos == 1 => frame[0] ^= 0b110,
            (Fault::ReuseIdentifier, PacketType::Publish) if qos > 0 && strikes => {
                let at = packet_id_at(&frame);
                frame[at..at + 2].copy_from_slice(&[0, 1]);
            }
            (Fault::ForgetSessionPresent, PacketType::Connack) => frame[2] = 0,
            _ => {}
        }
        out.push(frame);
    }

    /// What a shard is handed instead of what has come.
    pub(crate) fn misread(&mut self, link: usize, bytes: &[u8], version: Version) -> Misread {
        let mut misread = Misread::default();
        let mut rest = bytes;
        while let Ok(Some(frame)) = mqtt::frame::split(rest, 1 << 28) {
            let (one, more) = rest.split_at(frame.len);
            let altered = match Packet::decode(frame, version) {
                Ok(packet) => {
                    self.note(link, &packet);
                    self.misread_one(link, &packet, version)
                }
                Err(_) => None,
            };
            let altered = altered.as_deref().unwrap_or(one);
            misread.bytes.extend(altered);
            misread.lengths.push((one.len(), altered.len()));
            rest = more;
        }
        misread.bytes.extend(rest);
        misread
    }

    fn note(&mut self, link: usize, packet: &Packet<'_>) {
        match packet {
            Packet::Publish(publish) => {
                self.newest = self.newest.max(number_of(publish.payload).unwrap_or_default());
            }
            Packet::Subscribe(_) => drop(self.asked_at.insert(link, self.newest)),
            _ => {}
        }
    }

    fn misread_one(
        &mut self,
        link: usize,
        packet: &Packet<'_>,
        version: Version,
    ) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match *packet {
            Packet::Puback(ack) if self.fault? == Fault::CountInOrder => {
                return Some(self.count_in_order(link, ack.packet_id));
            }
            Packet::Connect(connect) => self.misread_connect(connect)?.encode(&mut out),
            Packet::Publish(publish) if self.fault? == Fault::KeepInterval => {
                let interval = publish.properties.message_expiry_interval?;
                self.intervals.insert(publish.payload.to_vec(), interval);
                return None;
            }
            Packet::Disconnect(mut disconnect) => {
                match (self.fault?, disconnect.reason_code) {
                    (Fault::KeepWill, ReasonCode::Success) => {
                        disconnect.reason_code = ReasonCode::DisconnectWithWillMessage;
                    }
                    (Fault::DropWill, _) => disconnect.reason_code = ReasonCode::Success,
                    (Fault::IgnoreLastExpiry, _) => disconnect.session_expiry_interval = None,
                    _ => return None,
                }
                disconnect.encode(version, &mut out);
            }
            Packet::Subscribe(subscribe) => {
                let options = |options| self.misread_options(options);
                let filters: Vec<_> = subscribe
                    .filters
                    .iter()
                    .map(|(filter, asked)| (filter, options(asked)))
                    .collect();
                let filters = mqtt::SubscribeFilters::List(&filters);
                mqtt::Subscribe { filters, ..subscribe }.encode(version, &mut out);
            }
            _ => return None,
        }
        Some(out)
    }

    fn misread_connect<'a>(&self, mut connect: Connect<'a>) -> Option<Connect<'a>> {
        let properties = &mut connect.properties;
        match self.fault? {
            Fault::IgnoreReceiveMaximum => properties.receive_maximum = None,
            Fault::IgnorePacketSize => properties.maximum_packet_size = None,
            Fault::IgnoreCleanStart => connect.clean_start = false,
            Fault::HastenWill => connect.will.as_mut()?.properties.will_delay_interval = 1,
            Fault::LoseWill if connect.will?.properties.will_delay_interval > 0 => {
                connect.will = None;
            }
            Fault::TellProblems => properties.request_problem_information = true,
            Fault::IgnoreKeepAlive => connect.keep_alive = 0,
            Fault::KeepSessions => *properties.session_expiry_interval.as_mut()? = u32::MAX,
            _ => return None,
        }
        Some(connect)
    }

    fn misread_options(&self, mut options: SubscriptionOptions) -> SubscriptionOptions {
        match self.fault {
            Some(Fault::IgnoreNoLocal) => options.no_local = false,
            Some(Fault::IgnoreQos) => options.qos = QoS::AtMostOnce,
            Some(Fault::IgnoreRetainAsPublished) => options.retain_as_published = false,
            Some(Fault::ReplayAlways) if options.retain_handling == RetainHandling::SendIfNew => {
                options.retain_handling = RetainHandling::SendAtSubscribe;
            }
            Some(Fault::SkipReplay)
                if options.retain_handling == RetainHandling::SendAtSubscribe =>
            {
                options.retain_handling = RetainHandling::DoNotSend;
            }
            _ => {}
        }
        options
    }

    /// The rules that a shard is told instead of its own.
    pub(crate) fn misset(&self, rules: &mut Rules) {
        match self.fault {
            Some(Fault::IgnoreOffer) => rules.offer = Offer::default(),
            Some(Fault::HalveQueue) => rules.limits.queue.messages_max /= 2,
            Some(Fault::HalveRetained) => rules.limits.retained_max /= 2,
            Some(Fault::UnboundQueue) => rules.limits.queue.messages_max = usize::MAX,
            Some(Fault::UnboundRetained) => rules.limits.retained_max = usize::MAX,
            _ => {}
        }
    }

    pub(crate) fn forgets_to_close(&mut self) -> bool {
        self.is(Fault::ForgetToClose) && self.random.chance(25)
    }

    pub(crate) fn forgets_to_resume(&mut self) -> bool {
        self.is(Fault::ForgetToResume) && self.random.chance(25)
    }

    /// What is posted instead of a batch of letters.
    pub(crate) fn alter_batch(
        &mut self,
        from: usize,
        to: usize,
        batch: LetterBatch,
    ) -> Vec<LetterBatch> {
        let Some(fault) = self.fault else { return vec![batch] };
        *self.told.entry((from, to)).or_default() += letters::told_in(&batch);
        self.forging = fault == Fault::EarlySuback && letters::told_in(&batch) > 0;
        if fault == Fault::SwapBatches {
            if let Some(held) = self.held_batches.remove(&(from, to)) {
                return vec![batch, held];
            }
            if self.random.chance(50) {
                self.held_batches.insert((from, to), batch);
                return Vec::new();
            }
            return vec![batch];
        }
        vec![letters::altered(&batch, fault, &mut self.random)]
    }

    /// The answer of a shard that has not read what it answers.
    pub(crate) fn forge_answer(&mut self, from: usize, to: usize) -> Option<LetterBatch> {
        if !std::mem::take(&mut self.forging) {
            return None;
        }
        let upto = self.told.get(&(from, to)).copied().unwrap_or_default();
        Some(letters::applied(upto))
    }
}

/// The number of a message, which its payload begins with.
fn number_of(payload: &[u8]) -> Option<u64> {
    let digits = payload.strip_prefix(b"m")?.split(|&byte| byte == b'.').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Where the Packet Identifier of a PUBLISH stands.
fn packet_id_at(frame: &[u8]) -> usize {
    let length = frame[1..].iter().position(|byte| byte & 0x80 == 0).unwrap_or(0) + 1;
    let topic = 1 + length;
    topic + 2 + usize::from(u16::from_be_bytes([frame[topic], frame[topic + 1]]))
}
