//! What the broker says, and whether it may.

use std::num::NonZeroU16;

use ringmq::{
    base::time::{Moment, Span},
    mqtt::{Ack, Delivery, Packet, Publish, QoS, ReasonCode, Version},
};

use super::{
    Oracle, Seen,
    model::{Expected, Flight, Publication, Reply},
    packets,
};
use crate::matching::matches;
use crate::violation::{Violation, ensure};

/// One PUBLISH as a subscriber sees it.
pub(super) struct Sight<'a> {
    pub(super) link: usize,
    pub(super) session: usize,
    pub(super) topic: String,
    pub(super) qos: QoS,
    pub(super) publish: &'a Publish<'a>,
    pub(super) identifiers: Vec<u32>,
}

impl Oracle {
    pub(super) fn sent_bytes(
        &mut self,
        seen: &Seen<'_>,
        link: usize,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        let version = self.conns[link].version;
        packets(bytes, version, |packet, len| {
            let packet = packet.map_err(|error| {
                Violation::new("the broker sends whole packets", format!("{error:?}: {bytes:?}"))
            })?;
            self.sent_packet(seen, link, &packet, len)
        })
    }

    fn sent_packet(
        &mut self,
        seen: &Seen<'_>,
        link: usize,
        packet: &Packet<'_>,
        len: usize,
    ) -> Result<(), Violation> {
        let conn = &mut self.conns[link];
        let told = || format!("link {link}: {packet:?}");
        ensure(!conn.dismissed, "nothing follows DISCONNECT", told)?;
        ensure(
            conn.connected || matches!(packet, Packet::Connack(_)),
            "nothing comes before CONNACK",
            told,
        )?;
        // The largest answers are to a CONNECT that says so: CONNACK is judged by the session.
        ensure(len <= conn.packet_size_max, "no packet is larger than the client takes", told)?;
        let spares = conn.wants_reasons || !explains(packet);
        ensure(spares, "reasons are for those who want them", told)?;
        match packet {
            Packet::Connack(_) => Ok(()),
            Packet::Disconnect(disconnect) => {
                conn.dismissed = true;
                conn.farewell = Some(disconnect.reason_code);
                ensure(conn.version == Version::V5, "before 5.0 servers do not disconnect", told)
            }
            Packet::Publish(publish) => self.sent_publish(seen, link, publish, len),
            Packet::Pubrel(ack) => self.sent_pubrel(link, ack),
            Packet::Suback(suback) => {
                let id = suback.packet_id.value();
                self.replied(link, &Reply::Suback(id, suback.reason_codes.to_vec()))?;
                self.note_suback(seen, link, id);
                Ok(())
            }
            Packet::Unsuback(unsuback) => {
                let codes = unsuback.reason_codes.to_vec();
                self.replied(link, &Reply::Unsuback(unsuback.packet_id.value(), codes))
            }
            Packet::Puback(ack) => {
                let refused = ack.reason_code.is_error();
                self.replied(link, &Reply::Puback(ack.packet_id.value(), refused))
            }
            Packet::Pubrec(ack) => {
                let refused = ack.reason_code.is_error();
                self.replied(link, &Reply::Pubrec(ack.packet_id.value(), refused))
            }
            Packet::Pubcomp(ack) => self.replied(link, &Reply::Pubcomp(ack.packet_id.value())),
            Packet::Pingresp => self.replied(link, &Reply::Pingresp),
            _ => Err(Violation::new("a server sends what servers send", told())),
        }
    }

    /// Answers of one kind come in the order of what they answer. [MQTT-4.6.0-2] [MQTT-4.6.0-3]
    fn replied(&mut self, link: usize, reply: &Reply) -> Result<(), Violation> {
        let replies = &mut self.conns[link].replies;
        let kind = std::mem::discriminant(reply);
        let first = replies.iter().position(|owed| std::mem::discriminant(owed) == kind);
        let owed = first.and_then(|first| replies.remove(first));
        ensure(owed.as_ref() == Some(reply), "an answer is owed, once and in order", || {
            format!("link {link}: {reply:?} instead of {owed:?}")
        })
    }

    fn note_suback(&mut self, seen: &Seen<'_>, link: usize, packet_id: u16) {
        let Some(at) = self.conns[link].session else { return };
        for subscription in &mut self.sessions[at].subscriptions {
            if subscription.packet_id == (link, packet_id) {
                subscription.acknowledged_at.get_or_insert(seen.step);
            }
        }
    }

    /// A PUBREL answers a PUBREC, or is sent again on a new connection.
    fn sent_pubrel(&mut self, link: usize, ack: &Ack<'_>) -> Result<(), Violation> {
        let id = ack.packet_id.value();
        let at = self.conns[link].session.expect("it is connected");
        let known = ack.reason_code != ReasonCode::PacketIdentifierNotFound;
        let flights = &mut self.sessions[at].flights;
        let again = flights
            .iter_mut()
            .find(|flight| flight.packet_id == id && flight.released && flight.link != link);
        if let Some(flight) = again {
            flight.link = link;
            return Ok(());
        }
        let modern = self.conns[link].version == Version::V5;
        let known = if modern {
            known
        } else {
            self.conns[link].replies.contains(&Reply::Pubrel(id, true))
        };
        self.replied(link, &Reply::Pubrel(id, known))
    }

    fn sent_publish(
        &mut self,
        seen: &Seen<'_>,
        link: usize,
        publish: &Publish<'_>,
        len: usize,
    ) -> Result<(), Violation> {
        let topic = self.resolve_outgoing(link, publish)?;
        if topic.starts_with("$SYS/") {
            return self.told_of_broker(seen, link, publish, &topic);
        }
        let session = self.conns[link].session.expect("it is connected");
        let qos = publish.delivery.qos();
        let mut identifiers: Vec<u32> =
            publish.properties.subscription_identifiers.iter().collect();
        identifiers.sort_unstable();
        let sight = Sight { link, session, topic, qos, publish, identifiers };
        let (Delivery::AtLeastOnce(id) | Delivery::ExactlyOnce(id)) = publish.delivery else {
            ensure(!publish.dup, "DUP is of QoS 1 and 2", || sight.tell())?;
            return self.delivered(seen, &sight);
        };
        let id = id.value();
        let flights = &self.sessions[session].flights;
        let Some(place) = flights.iter().position(|flight| flight.packet_id == id) else {
            return self.begun(seen, &sight, id, len);
        };
        let flight = &flights[place];
        if flight.doubtful && flight.payload != publish.payload {
            self.sessions[session].flights.remove(place);
            return self.begun(seen, &sight, id, len);
        }
        let same =
            flight.topic == sight.topic && flight.payload == publish.payload && flight.qos == qos;
        ensure(same, "no Packet Identifier is in use twice", || sight.tell())?;
        ensure(!flight.released, "what was received is not sent again", || sight.tell())?;
        ensure(flight.link != link, "a message is sent again on a new connection only", || {
            sight.tell()
        })?;
        ensure(publish.dup, "what is sent again says so", || sight.tell())?;
        self.check_resend_order(link, session, place)?;
        let flight = &mut self.sessions[session].flights[place];
        (flight.link, flight.published_on) = (link, link);
        self.check_window(link, session)
    }

    /// What the broker says of itself is for those who have asked, and at QoS 0.
    fn told_of_broker(
        &self,
        seen: &Seen<'_>,
        link: usize,
        publish: &Publish<'_>,
        topic: &str,
    ) -> Result<(), Violation> {
        let session = &self.sessions[self.conns[link].session.expect("it is connected")];
        // What is on its way over several turns still comes when the subscription has ended.
        let lasts = |until: u64| until >= seen.step || self.splits();
        let asked = session
            .subscriptions
            .iter()
            .any(|it| it.until.is_none_or(lasts) && matches(&it.text, topic));
        let plain = publish.delivery == Delivery::AtMostOnce && !publish.payload.is_empty();
        ensure(self.tells_sys && asked && plain, "nothing comes that no filter asked for", || {
            format!("link {link}: {publish:?}")
        })
    }

    /// What is sent again goes in its first order. [MQTT-4.6.0-1]
    fn check_resend_order(
        &self,
        link: usize,
        session: usize,
        place: usize,
    ) -> Result<(), Violation> {
        let later = &self.sessions[session].flights[place + 1..];
        ensure(
            later.iter().all(|flight| flight.link != link),
            "what is sent again keeps its order",
            || format!("link {link}"),
        )?;
        let earlier = &self.sessions[session].flights[..place];
        ensure(
            earlier.iter().all(|flight| flight.link == link || flight.doubtful),
            "what is sent again keeps its order",
            || format!("link {link}"),
        )
    }

    fn resolve_outgoing(
        &mut self,
        link: usize,
        publish: &Publish<'_>,
    ) -> Result<String, Violation> {
        let conn = &mut self.conns[link];
        let Some(alias) = publish.properties.topic_alias.map(NonZeroU16::get) else {
            return Ok(publish.topic.to_owned());
        };
        ensure(alias <= conn.alias_max, "aliases are within the client's maximum", || {
            format!("link {link}: {alias}")
        })?;
        if publish.topic.is_empty() {
            let known = conn.aliases_out.get(&alias).cloned();
            return known.ok_or_else(|| Violation::new("an alias is known", format!("{alias}")));
        }
        conn.aliases_out.insert(alias, publish.topic.to_owned());
        Ok(publish.topic.to_owned())
    }

    fn begun(
        &mut self,
        seen: &Seen<'_>,
        sight: &Sight<'_>,
        packet_id: u16,
        len: usize,
    ) -> Result<(), Violation> {
        let Sight { link, session, publish, qos, .. } = *sight;
        ensure(!publish.dup, "what is new does not say DUP", || sight.tell())?;
        let flights = &mut self.sessions[session].flights;
        flights.retain(|flight| flight.link == link || !flight.doubtful);
        ensure(
            flights.iter().all(|flight| flight.link == link),
            "what was sent before goes first",
            || sight.tell(),
        )?;
        flights.push(Flight {
            packet_id,
            qos,
            topic: sight.topic.clone(),
            payload: publish.payload.to_vec(),
            released: false,
            link,
            published_on: link,
            doubtful: false,
            len,
        });
        if qos == QoS::ExactlyOnce {
            let client = self.conns[link].client;
            *self.begun_exactly.entry((client, publish.payload.to_vec())).or_default() += 1;
        }
        self.check_window(link, session)?;
        self.delivered(seen, sight)
    }

    /// [MQTT-3.3.4-9]
    fn check_window(&self, link: usize, session: usize) -> Result<(), Violation> {
        let flights = &self.sessions[session].flights;
        let outstanding = flights.iter().filter(|flight| flight.published_on == link).count();
        let window = self.conns[link].window;
        ensure(outstanding <= window, "in flight is no more than the Receive Maximum", || {
            format!("link {link}: {outstanding} of {window}")
        })
    }

    /// A message is given to a session for the first time. What it must be is preferred to what
    /// it may be.
    fn delivered(&mut self, seen: &Seen<'_>, sight: &Sight<'_>) -> Result<(), Violation> {
        if let Some(place) = self.find_last_chance(seen, sight) {
            self.excuse_twin(seen, sight);
            return self.use_ticket(seen, sight, place);
        }
        for certain in [true, false] {
            if let Some(place) = self.find_expected(seen, sight, certain) {
                let expected = self.sessions[sight.session].expected.remove(place);
                self.check_interval(seen, sight, expected.emission)?;
                let number = expected.emission;
                self.doubt_replay(seen, sight, expected);
                self.sessions[sight.session].got.insert(number);
                self.settle_split(sight, number);
                self.note_order(sight, number);
                return Ok(());
            }
            if let Some(place) = self.find_ticket(seen, sight, certain) {
                return self.use_ticket(seen, sight, place);
            }
        }
        if self.find_split(sight) {
            return Ok(());
        }
        if self.find_group(sight)? {
            return Ok(());
        }
        Err(self.explain(seen, sight))
    }

    fn use_ticket(
        &mut self,
        seen: &Seen<'_>,
        sight: &Sight<'_>,
        place: usize,
    ) -> Result<(), Violation> {
        let ended = |&place: &usize| self.sessions[sight.session].tickets[place].until.is_some();
        let certain = self.find_tickets(seen, sight, true);
        let uncertain = self.find_tickets(seen, sight, false);
        let place = certain.chain(uncertain).find(ended).unwrap_or(place);
        let alike = self.find_tickets(seen, sight, true);
        let alike: Vec<usize> = alike.chain(self.find_tickets(seen, sight, false)).collect();
        let session = &mut self.sessions[sight.session];
        let ticket = session.tickets[place].clone();
        let emission = ticket.emission;
        session.use_up(place, &alike);
        session.got.insert(emission);
        self.doubt_live(sight, ticket);
        self.check_interval(seen, sight, emission)
    }

    /// A retained message that was replaced or removed in this very call: it was sent before that,
    /// or never.
    fn find_last_chance(&self, seen: &Seen<'_>, sight: &Sight<'_>) -> Option<usize> {
        let place = self.find_ticket(seen, sight, true)?;
        let ticket = &self.sessions[sight.session].tickets[place];
        let expected = self.find_expected(seen, sight, true);
        let at_once =
            expected.is_some_and(|place| self.sessions[sight.session].expected[place].immediate);
        (!at_once && !self.is_retained(seen.shard, ticket.emission)).then_some(place)
    }

    /// What looks like a message that had its last chance may have been sent in its stead: it may
    /// still come, and need not. A message that waits in the queue goes first, because it is owed
    /// in any case; a ticket ends with its message.
    fn excuse_twin(&mut self, seen: &Seen<'_>, sight: &Sight<'_>) {
        let expected = self.find_expected(seen, sight, true);
        let ticket = self.find_ticket_that_lasts(seen, sight);
        let session = &mut self.sessions[sight.session];
        if let Some(place) = expected {
            session.expected[place].certain = false;
        } else if let Some(place) = ticket {
            session.tickets[place].certain = false;
        }
    }

    /// The place of a message among those that the session is to get. One that was dropped stays
    /// among them; a PUBLISH that comes too late to be that one may still be a retained message.
    fn find_expected(&self, seen: &Seen<'_>, sight: &Sight<'_>, certain: bool) -> Option<usize> {
        let session = &self.sessions[sight.session];
        let fitting: Vec<usize> = (0..session.expected.len())
            .filter(|&place| {
                let expected = &session.expected[place];
                self.fits(seen, sight, expected) && self.keeps_order(sight, expected.emission)
            })
            .collect();
        let in_order = |place: usize| self.is_in_order(sight, session.expected[place].emission);
        // What is in its turn is preferred.
        let first = |wanted: &dyn Fn(usize) -> bool| {
            let places = fitting.iter().copied().filter(|&place| wanted(place));
            places.min_by_key(|&place| (!in_order(place), place))
        };
        let chosen = first(&|place| session.expected[place].certain == certain)?;
        // What looks alike and expires sooner may be what was sent, but cannot be what comes later.
        let expiry = |place: usize| {
            let emission = session.expected[place].emission;
            self.emissions[emission].publication.expires_at
        };
        let sooner = |place: usize| {
            let limit = expiry(chosen);
            expiry(place).is_some_and(|at| limit.is_none_or(|limit| at < limit))
        };
        let is_kept = !session.expected[chosen].immediate;
        first(&|place| is_kept && sooner(place)).or(Some(chosen))
    }

    /// Whether a message that the session is to get is the one that was sent. [MQTT-3.3.2-5]
    fn fits(&self, seen: &Seen<'_>, sight: &Sight<'_>, expected: &Expected) -> bool {
        let version = self.conns[sight.link].version;
        let publication = &self.emissions[expected.emission].publication;
        publication.topic == sight.topic
            && publication.payload == sight.publish.payload
            && publication.is_said_by(sight.publish, version)
            && expected.qos == sight.qos
            && expected.retain == sight.publish.retain
            && (version != Version::V5 || expected.identifiers == sight.identifiers)
            && (expected.since == seen.step || !has_expired(publication, seen.now))
    }

    fn order_key(&self, sight: &Sight<'_>, emission: usize) -> (String, String, u8, u8) {
        let publication = &self.emissions[emission].publication;
        let publisher = publication.publisher.clone();
        (publisher, sight.topic.clone(), publication.qos as u8, sight.qos as u8)
    }

    fn is_in_order(&self, sight: &Sight<'_>, emission: usize) -> bool {
        let last = self.sessions[sight.session].last.get(&self.order_key(sight, emission));
        last.is_none_or(|&last| last < emission)
    }

    /// Of messages that look alike, nobody knows which one came. [MQTT-4.6.0-5] [MQTT-4.6.0-6]
    pub(super) fn keeps_order(&self, sight: &Sight<'_>, emission: usize) -> bool {
        self.emissions[emission].again || self.is_in_order(sight, emission)
    }

    pub(super) fn note_order(&mut self, sight: &Sight<'_>, emission: usize) {
        // With RETAIN, what took several turns may be a replayed message, and comes at any time.
        let is_replayed = self.splits() && sight.publish.retain;
        if !self.emissions[emission].again && !is_replayed {
            let key = self.order_key(sight, emission);
            self.sessions[sight.session].last.insert(key, emission);
        }
    }

    /// [MQTT-3.3.2-6]
    fn check_interval(
        &self,
        seen: &Seen<'_>,
        sight: &Sight<'_>,
        emission: usize,
    ) -> Result<(), Violation> {
        let expires_at = self.emissions[emission].publication.expires_at;
        let told = sight.publish.properties.message_expiry_interval;
        let left = expires_at.map(|at| seconds_left(at, seen.now));
        // Of messages that look alike, one may have been taken for another.
        let checked =
            self.conns[sight.link].version == Version::V5 && !self.emissions[emission].again;
        ensure(!checked || told == left, "the interval sent on is what is left", || {
            format!("{told:?} instead of {left:?}, {}", sight.tell())
        })
    }

    fn find_ticket(&self, seen: &Seen<'_>, sight: &Sight<'_>, certain: bool) -> Option<usize> {
        self.find_tickets(seen, sight, certain).next()
    }

    /// A ticket for a message that is still retained after this call.
    fn find_ticket_that_lasts(&self, seen: &Seen<'_>, sight: &Sight<'_>) -> Option<usize> {
        let tickets = &self.sessions[sight.session].tickets;
        let lasts = |&place: &usize| self.is_retained(seen.shard, tickets[place].emission);
        self.find_tickets(seen, sight, true).find(lasts)
    }

    pub(super) fn find_tickets(
        &self,
        seen: &Seen<'_>,
        sight: &Sight<'_>,
        certain: bool,
    ) -> impl Iterator<Item = usize> {
        let session = &self.sessions[sight.session];
        let modern = self.conns[sight.link].version == Version::V5;
        let fits = move |place: &usize| {
            let ticket = &session.tickets[*place];
            let publication = &self.emissions[ticket.emission].publication;
            let identifiers: &[u32] =
                if ticket.identifier > 0 { &[ticket.identifier] } else { &[] };
            sight.publish.retain
                && ticket.certain == certain
                && ticket.until.is_none_or(|until| until >= seen.step)
                && !has_expired(publication, seen.now)
                && publication.topic == sight.topic
                && publication.payload == sight.publish.payload
                && publication.is_said_by(sight.publish, self.conns[sight.link].version)
                && publication.qos.min(ticket.qos) == sight.qos
                && (!modern || identifiers == sight.identifiers)
                && self.was_retained(seen, ticket.emission)
        };
        (0..session.tickets.len()).filter(fits)
    }

    /// Why a message may not have been sent.
    fn explain(&self, seen: &Seen<'_>, sight: &Sight<'_>) -> Violation {
        let session = &self.sessions[sight.session];
        let same = |number: usize| {
            let publication = &self.emissions[number].publication;
            publication.topic == sight.topic && publication.payload == sight.publish.payload
        };
        let expired = |expected: &Expected| {
            same(expected.emission)
                && self.emissions[expected.emission].publication.expires_at.is_some()
        };
        let law = if session.expected.iter().any(|expected| self.fits(seen, sight, expected)) {
            "messages keep their order"
        } else if session.expected.iter().any(expired) {
            "what has expired is not sent, and the rest as its subscription says"
        } else if session.expected.iter().any(|expected| same(expected.emission)) {
            "a message arrives as its subscription says"
        } else if session.got.iter().any(|&number| same(number)) {
            "a message is delivered once"
        } else {
            "nothing comes that no filter asked for"
        };
        Violation::new(law, sight.tell())
    }
}

impl Sight<'_> {
    pub(super) fn tell(&self) -> String {
        let Sight { link, session, topic, qos, publish, .. } = self;
        let payload = String::from_utf8_lossy(&publish.payload[..publish.payload.len().min(12)]);
        let (dup, retain) = (publish.dup, publish.retain);
        format!(
            "link {link}, session {session}: {topic} {qos:?} dup {dup} retain {retain} {:?} \
             identifiers {:?} '{payload}'",
            publish.delivery, self.identifiers,
        )
    }
}

/// The groups of the workload say in their names at which QoS they are subscribed to.
pub(super) fn qos_of(group: &str) -> QoS {
    let digit = group.as_bytes()["$share/g".len()];
    QoS::from_bits(digit - b'0').expect("a group is named by its QoS")
}

/// Whether a packet says in words why something went wrong. CONNACK and DISCONNECT may say so to
/// anyone. [MQTT-3.1.2-29]
fn explains(packet: &Packet<'_>) -> bool {
    let properties = match packet {
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
            ack.properties
        }
        Packet::Suback(suback) => suback.properties,
        Packet::Unsuback(unsuback) => unsuback.properties,
        _ => return false,
    };
    properties.reason_string.is_some() || !properties.user_properties.is_empty()
}

fn has_expired(publication: &Publication, now: Moment) -> bool {
    publication.expires_at.is_some_and(|at| at <= now)
}

fn seconds_left(at: Moment, now: Moment) -> u32 {
    let left = at.since(now) + Span::from_nanos(999_999_999);
    u32::try_from(left.as_secs()).unwrap_or(u32::MAX)
}
