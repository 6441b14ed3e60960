//! What clients do: connect, subscribe, publish and leave, as each seed weighs it.

use std::num::{NonZeroU16, NonZeroU32};

use ringmq::{
    mqtt::{
        Ack, ApplicationProperties, Connect, ConnectProperties, Delivery, Disconnect, Packet,
        PacketId, Publish, PublishProperties, QoS, ReasonCode, RetainHandling, Subscribe,
        SubscribeFilters, SubscriptionOptions, Unsubscribe, UnsubscribeFilters, UserProperties,
        Version, Will, WillProperties,
    },
    shard::offer::Offer,
};

use crate::{
    client::{Client, Outgoing, Stage},
    plan::Plan,
    random::Random,
};

/// What a client may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Connect,
    Subscribe,
    Publish,
    Unsubscribe,
    Disconnect,
    Ping,
    Misbehave,
}

pub(crate) const OPERATIONS: [Operation; 7] = [
    Operation::Connect,
    Operation::Subscribe,
    Operation::Publish,
    Operation::Unsubscribe,
    Operation::Disconnect,
    Operation::Ping,
    Operation::Misbehave,
];

/// How often each of them, usually.
pub(crate) const USUAL: [usize; 7] = [6, 8, 40, 3, 2, 2, 1];

/// The clients' choices.
#[derive(Debug)]
pub(crate) struct Workload {
    random: Random,
    messages: u64,
    payload_max: usize,
    with_passwords: bool,
    with_sys: bool,
    /// No Will is retained: nobody knows when it was.
    with_disk: bool,
    offer: Offer,
}

impl Workload {
    pub(crate) fn new(plan: &Plan, random: Random) -> Workload {
        let Plan { payload_max, with_passwords, sys_interval, .. } = *plan;
        let (with_sys, offer) = (sys_interval.is_some(), plan.offer.clone());
        let with_disk = plan.disk.is_some();
        Workload { random, messages: 0, payload_max, with_passwords, with_sys, with_disk, offer }
    }

    /// A payload that no other message has.
    fn payload(&mut self) -> Vec<u8> {
        self.messages += 1;
        let mut payload = format!("m{}.", self.messages).into_bytes();
        payload.resize(payload.len() + self.random.below(self.payload_max), b' ');
        payload
    }

    pub(crate) fn version_for(client: usize) -> Version {
        match client % 5 {
            0 => Version::V311,
            4 => Version::V31,
            _ => Version::V5,
        }
    }

    /// CONNECT; the client has been told that it begins anew if it does.
    pub(crate) fn connect(
        &mut self,
        client: &mut Client,
        version: Version,
        link: usize,
    ) -> Vec<u8> {
        let chosen = self.random.chance(30);
        let clean_start = !client.steady && (chosen || client.watched && client.wants_new);
        let expiry = self.random.pick(&[0, 1, 3, 30, u32::MAX]);
        let expiry = if client.steady { u32::MAX } else { expiry };
        let lasting = if version == Version::V5 { expiry > 0 } else { !clean_start };
        client.begin(link, version, clean_start, lasting);
        // Whoever has never been there may let the broker choose the name.
        let nameless = client.is_new && version == Version::V5 && self.random.chance(10);
        client.nameless = nameless;
        client.is_new &= nameless;
        let expiry = if nameless { expiry.min(30) } else { expiry };
        let name = if nameless { String::new() } else { client.name.clone() };
        let payload = self.payload();
        let topic = self.random.pick(&TOPICS);
        let will = self.random.chance(30).then(|| self.will(version, topic, &payload));
        let mut connect = Connect::new(version, &name);
        connect.clean_start = clean_start;
        connect.keep_alive = if self.random.chance(20) { 5 } else { 0 };
        connect.will = will;
        if self.with_passwords && self.random.chance(50) {
            connect.user_name = Some("alice");
            let password: &[u8] = if self.random.chance(80) { b"correct-horse" } else { b"wrong" };
            connect.password = Some(password);
        }
        if version == Version::V5 {
            connect.properties = self.connect_properties(expiry);
            if client.steady {
                connect.properties.maximum_packet_size = None;
            }
        }
        encode(&Packet::Connect(connect), version)
    }

    /// CONNECT of a client that comes back for what it is owed, and asks for nothing special.
    pub(crate) fn come_back(client: &mut Client, version: Version, link: usize) -> Vec<u8> {
        let clean_start = client.watched && client.wants_new;
        client.begin(link, version, clean_start, true);
        client.is_new = false;
        let mut connect = Connect::new(version, &client.name);
        connect.clean_start = clean_start;
        if version == Version::V5 {
            connect.properties.session_expiry_interval = Some(u32::MAX);
        }
        encode(&Packet::Connect(connect), version)
    }

    /// CONNECT of a client that comes to leave nothing behind.
    pub(crate) fn come_to_go(client: &mut Client, version: Version, link: usize) -> Vec<u8> {
        client.begin(link, version, true, false);
        client.is_new = false;
        encode(&Packet::Connect(Connect::new(version, &client.name)), version)
    }

    fn connect_properties(&mut self, expiry: u32) -> ConnectProperties<'static> {
        ConnectProperties {
            session_expiry_interval: (expiry > 0).then_some(expiry),
            receive_maximum: NonZeroU16::new(self.random.pick(&[0, 0, 1, 2, 10])),
            maximum_packet_size: NonZeroU32::new(self.random.pick(&[0, 0, 0, 60, 100, 1000])),
            topic_alias_maximum: self.random.pick(&[0, 0, 1, 4]),
            request_problem_information: self.random.chance(80),
            request_response_information: self.random.chance(30),
            ..ConnectProperties::default()
        }
    }

    fn will<'a>(&mut self, version: Version, topic: &'a str, payload: &'a [u8]) -> Will<'a> {
        let mut properties = WillProperties::default();
        if version == Version::V5 {
            properties.will_delay_interval = self.random.pick(&[0, 0, 1, 2, 10]);
            properties.message_expiry_interval =
                self.random.chance(10).then(|| self.random.pick(&[1, 5]));
            properties.application = self.application();
        }
        let qos = self.random.pick(&QoS::ALL).min(self.offer.maximum_qos);
        let retain = self.random.chance(25) && self.offer.retain && !self.with_disk;
        Will { qos, retain, topic, payload, properties }
    }

    pub(crate) fn publish(&mut self, client: &mut Client) -> Vec<u8> {
        let topic = self.random.pick(&TOPICS);
        let wanted = self.random.pick(&QoS::ALL).min(self.offer.maximum_qos);
        let qos = if client.may_publish() { wanted } else { QoS::AtMostOnce };
        let retain = self.random.chance(25) && self.offer.retain;
        let payload = if retain && self.random.chance(30) { Vec::new() } else { self.payload() };
        let expiry = (client.version == Version::V5 && self.random.chance(10))
            .then(|| self.random.pick(&[1, 2, 10]));
        let delivery = Self::delivery(client, qos);
        // Messages without a payload are not told apart by it.
        let modern = client.version == Version::V5 && !payload.is_empty();
        let application =
            if modern { self.application() } else { ApplicationProperties::default() };
        let mut publish = Publish {
            dup: false,
            retain,
            delivery,
            topic,
            properties: PublishProperties::default(),
            payload: &payload,
        };
        publish.properties.message_expiry_interval = expiry;
        publish.properties.application = application;
        self.use_alias(client, &mut publish);
        let bytes = encode(&Packet::Publish(publish), client.version);
        if let Some(packet_id) = delivery.packet_id() {
            client.outgoing.push(Outgoing {
                packet_id: packet_id.value(),
                released: false,
                qos,
                topic: topic.to_owned(),
                payload,
                retain,
                expiry,
                application,
            });
        }
        bytes
    }

    /// What an application may say about its message.
    fn application(&mut self) -> ApplicationProperties<'static> {
        if !self.random.chance(20) {
            return ApplicationProperties::default();
        }
        ApplicationProperties {
            payload_format_indicator: self.random.pick(&[None, Some(0), Some(1)]),
            content_type: self.random.pick(&[None, Some("text/plain")]),
            response_topic: self.random.pick(&[None, Some("answers/c1")]),
            correlation_data: self.random.pick(&[None, Some(&b"17"[..])]),
            user_properties: UserProperties::Pairs(
                self.random.pick(&[&[][..], &[("k", "v"), ("k", "w")][..]]),
            ),
        }
    }

    fn delivery(client: &mut Client, qos: QoS) -> Delivery {
        let mut id = || PacketId::new(client.fresh_id()).expect("not zero");
        match qos {
            QoS::AtMostOnce => Delivery::AtMostOnce,
            QoS::AtLeastOnce => Delivery::AtLeastOnce(id()),
            QoS::ExactlyOnce => Delivery::ExactlyOnce(id()),
        }
    }

    fn use_alias(&mut self, client: &mut Client, publish: &mut Publish<'_>) {
        let most = usize::from(client.alias_maximum).min(3);
        if client.version != Version::V5 || most == 0 || !self.random.chance(30) {
            return;
        }
        client.aliases.resize(most, String::new());
        let at = self.random.below(most);
        publish.properties.topic_alias = u16::try_from(at + 1).ok().and_then(NonZeroU16::new);
        if client.aliases[at] == publish.topic {
            publish.topic = "";
        } else {
            publish.topic.clone_into(&mut client.aliases[at]);
        }
    }

    pub(crate) fn subscribe(&mut self, client: &mut Client) -> Vec<u8> {
        let count = self.random.between(1, 3);
        let filters: Vec<(&str, SubscriptionOptions)> =
            (0..count).map(|_| self.filter(client)).collect();
        let packet_id = client.fresh_id();
        client.asking.insert(packet_id);
        let modern = client.version == Version::V5;
        let identified = modern && self.offer.subscription_identifiers;
        let identifier = if identified { self.random.below(5) } else { 0 };
        let subscribe = Subscribe {
            packet_id: PacketId::new(packet_id).expect("not zero"),
            subscription_identifier: u32::try_from(identifier).ok().and_then(NonZeroU32::new),
            user_properties: UserProperties::default(),
            filters: SubscribeFilters::List(&filters),
        };
        encode(&Packet::Subscribe(subscribe), client.version)
    }

    fn filter(&mut self, client: &Client) -> (&'static str, SubscriptionOptions) {
        let mut options = SubscriptionOptions::with_qos(self.random.pick(&QoS::ALL));
        let modern = client.version == Version::V5;
        if self.with_sys && self.random.chance(10) {
            let about = ["$SYS/#", "$SYS/broker/uptime"];
            let wild = self.offer.wildcard_subscriptions;
            return (if wild { self.random.pick(&about) } else { about[1] }, options);
        }
        // 5.0 clients are told what they cannot have; others are refused it.
        let shared = self.offer.shared_subscriptions
            && (self.offer.wildcard_subscriptions || client.group % SHARED.len() == 2);
        if client.shares && (shared || !modern) && self.random.chance(60) {
            // One group for each client: nobody could say by which of two a message came.
            let (filter, qos) = SHARED[client.group % SHARED.len()];
            options.qos = qos;
            return (filter, options);
        }
        if modern {
            options.no_local = self.random.chance(20);
            options.retain_as_published = self.random.chance(30);
            options.retain_handling = self.random.pick(&[
                RetainHandling::SendAtSubscribe,
                RetainHandling::SendIfNew,
                RetainHandling::DoNotSend,
            ]);
        }
        let tame = modern && !self.offer.wildcard_subscriptions;
        let filters = match client.shares {
            _ if tame => &FILTERS[..WITHOUT_WILDCARDS],
            true => &FILTERS[..NOT_OF_JOBS],
            false => &FILTERS[..],
        };
        (self.random.pick(filters), options)
    }

    pub(crate) fn unsubscribe(&mut self, client: &mut Client) -> Vec<u8> {
        let packet_id = client.fresh_id();
        client.asking.insert(packet_id);
        let filter = self.filter(client).0;
        let unsubscribe = Unsubscribe {
            packet_id: PacketId::new(packet_id).expect("not zero"),
            user_properties: UserProperties::default(),
            filters: UnsubscribeFilters::List(&[filter]),
        };
        encode(&Packet::Unsubscribe(unsubscribe), client.version)
    }

    pub(crate) fn disconnect(&mut self, client: &Client) -> Vec<u8> {
        let mut disconnect = Disconnect::with_reason(ReasonCode::NORMAL_DISCONNECTION);
        if client.version == Version::V5 {
            if self.random.chance(30) {
                disconnect.reason_code = ReasonCode::DisconnectWithWillMessage;
            }
            if client.lasting && self.random.chance(30) {
                let interval = self.random.pick(&[0, 2]);
                disconnect.session_expiry_interval = (!client.steady).then_some(interval);
            }
        }
        encode(&Packet::Disconnect(disconnect), client.version)
    }

    pub(crate) fn ping(client: &Client) -> Vec<u8> {
        encode(&Packet::Pingreq, client.version)
    }

    /// Something that no client should send.
    pub(crate) fn misbehave(&mut self, client: &Client) -> Vec<u8> {
        match self.random.below(11) {
            0 => (0..self.random.between(1, 30)).map(|_| self.byte()).collect(),
            1 => encode(&Packet::Connect(Connect::new(Version::V5, "another")), Version::V5),
            2 => encode(&Packet::Pingresp, client.version),
            // A PUBACK, a PUBREC, a PUBREL and a PUBCOMP of nothing.
            3 => vec![0x40, 2, 0x7f, 1, 0x50, 2, 0x7f, 2, 0x62, 2, 0x7f, 3, 0x70, 2, 0x7f, 4],
            4 => vec![0x82, 6, 0, 1, 0, 1, b'#', 3],
            5 => vec![0x30, 7, 0, 3, b'a', b'/', b'#', 0, 0],
            // What only the broker may publish, at each QoS.
            6 => self.forge(client, "$SYS/a", None),
            // Text that is none.
            7 => self.forge(client, "a", Some(1)),
            // More than may be offered, and an alias that is too large.
            8 => vec![0x31, 4, 0, 1, b'a', 0],
            9 => vec![0x30, 7, 0, 1, b'a', 3, 35, 0xff, 0xff],
            _ => {
                let mut many = Vec::new();
                for id in 400..440 {
                    let delivery = Delivery::ExactlyOnce(PacketId::new(id).expect("not zero"));
                    let payload = self.payload();
                    let publish = Publish {
                        dup: false,
                        retain: false,
                        delivery,
                        topic: "a",
                        properties: PublishProperties::default(),
                        payload: &payload,
                    };
                    many.extend(encode(&Packet::Publish(publish), client.version));
                }
                many
            }
        }
    }

    /// A message that is to be refused, and its release.
    fn forge(&mut self, client: &Client, topic: &str, format: Option<u8>) -> Vec<u8> {
        let id = PacketId::new(450).expect("not zero");
        let delivery = self.random.pick(&[
            Delivery::AtMostOnce,
            Delivery::AtLeastOnce(id),
            Delivery::ExactlyOnce(id),
        ]);
        let mut publish = Publish {
            dup: false,
            retain: false,
            delivery,
            topic,
            properties: PublishProperties::default(),
            payload: b"\xff",
        };
        publish.properties.application.payload_format_indicator = format;
        let mut bytes = encode(&Packet::Publish(publish), client.version);
        if delivery == Delivery::ExactlyOnce(id) {
            bytes.extend(encode(&Packet::Pubrel(Ack::success(id)), client.version));
        }
        bytes
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.random.below(256)).expect("less than 256")
    }

    /// Who does what next.
    pub(crate) fn choose(&mut self, plan: &Plan, clients: &[Client]) -> (usize, Operation) {
        let client = self.random.below(clients.len());
        let operation = match clients[client].stage {
            Stage::Connecting if self.random.chance(95) => Operation::Ping,
            Stage::Off | Stage::Connecting => Operation::Connect,
            Stage::Connected => OPERATIONS[self.random.weighted(&plan.operations)],
        };
        (client, operation)
    }

    /// Whether a client that is connected opens another connection all the same.
    pub(crate) fn takes_over(&mut self) -> bool {
        self.random.chance(8)
    }

    pub(crate) fn shard(&mut self, shards: usize) -> usize {
        self.random.below(shards)
    }
}

fn encode(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes);
    bytes
}

/// Some are long enough for a Topic Alias of the broker's.
const TOPICS: [&str; 11] = [
    "a",
    "a",
    "a/b",
    "a/a/long/topic",
    "b",
    "b/b",
    "b/another/long/topic",
    "job/1",
    "job/2",
    "job/number/3",
    "$x/a",
];

/// The first of these have no wildcards, and the next ones match no job either.
pub(crate) const FILTERS: [&str; 15] = [
    "a",
    "a/b",
    "a/a/long/topic",
    "b/another/long/topic",
    "a/+",
    "a/#",
    "b/#",
    "b/+",
    "$x/#",
    "a/b",
    "#",
    "+",
    "+/b",
    "job/#",
    "+/+",
];
const WITHOUT_WILDCARDS: usize = 4;
const NOT_OF_JOBS: usize = 10;

/// Each group has one QoS.
pub(crate) const SHARED: [(&str, QoS); 5] = [
    ("$share/g0/job/#", QoS::AtMostOnce),
    ("$share/g1/job/#", QoS::AtLeastOnce),
    ("$share/g1/job/1", QoS::AtLeastOnce),
    ("$share/g2/job/+", QoS::ExactlyOnce),
    ("$share/g2/job/1", QoS::ExactlyOnce),
];
