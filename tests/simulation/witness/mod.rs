//! What a broker with a disk has promised its clients, and whether it keeps that over crashes.
//!
//! The witness sees what clients send, which packets a shard takes, and what it sends. It does not
//! follow the broker step by step, as the oracle does: a crash takes back any part of what was not
//! promised. It knows what must be there, what may be there, and what must have gone.

mod filters;
mod messages;
mod rest;
mod retained;
mod terms;

use std::collections::{BTreeMap, BTreeSet};

use ringmq::{
    base::{hash::Seed, time::Moment},
    mqtt::{self, Delivery, Packet, Version},
    shard::rules::SLICE_STEPS,
};

use self::{
    filters::{Asked, FilterView},
    messages::{Duty, Said, Take},
    retained::Change,
    terms::{Offered, Terms},
};
use crate::{
    client::News,
    oracle::{Event, Seen},
    plan::Plan,
    violation::{Violation, ensure},
    workload::Workload,
};

#[derive(Debug)]
pub(crate) struct Witness {
    seed: Seed,
    shards: usize,
    /// Messages may take several turns.
    splits: bool,
    /// Counts all that the witness sees.
    step: u64,
    /// Counts the processes.
    process: u64,
    clients: Vec<Watched>,
    links: Vec<LinkView>,
    /// By the number in their payload.
    messages: BTreeMap<u64, Said>,
    /// Changes of the retained message of each topic, in the order in which they were taken.
    changes: BTreeMap<String, Vec<Change>>,
    duties: Vec<Duty>,
    /// When each shard has looked at its timers last.
    fired: Vec<Moment>,
}

/// What is known of one client.
#[derive(Debug)]
struct Watched {
    name: String,
    /// It never asks for a new session, nor for one that ends.
    steady: bool,
    version: Version,
    /// It takes part in share groups, and in which.
    group: Option<&'static str>,
    terms: Terms,
    /// Connections whose CONNECT may still change the terms.
    unresolved: Vec<usize>,
    /// The connection that has the session.
    link: Option<usize>,
    filters: BTreeMap<String, FilterView>,
    /// How often each message was handed on at QoS 2 in the present session of the client, and
    /// which messages came at all.
    exactly_once: BTreeMap<u64, u32>,
    received: BTreeSet<u64>,
    /// By Packet Identifier: the message at QoS 2 that was sent last, and whether PUBREL was.
    flights: BTreeMap<u16, (u64, bool)>,
}

#[derive(Debug, Default)]
struct LinkView {
    client: usize,
    offered: Option<Offered>,
    connected: bool,
    /// SUBSCRIBE and UNSUBSCRIBE packets without an answer.
    asked: BTreeMap<u16, Asked>,
    /// PUBLISH packets that were taken, without an answer.
    takes: BTreeMap<u16, Take>,
}

impl Witness {
    pub(crate) fn new(plan: &Plan) -> Witness {
        let client = |at| Watched {
            name: format!("c{at}"),
            steady: is_steady(at),
            version: version_of(at),
            group: (!usize::is_multiple_of(at, 3)).then(|| plan.group_of(at)),
            terms: Terms::Gone,
            unresolved: Vec::new(),
            link: None,
            filters: BTreeMap::new(),
            exactly_once: BTreeMap::new(),
            received: BTreeSet::new(),
            flights: BTreeMap::new(),
        };
        Witness {
            seed: Seed::new(plan.seed),
            shards: plan.shards,
            splits: plan.limits.slice_steps < SLICE_STEPS,
            step: 0,
            process: 0,
            clients: (0..plan.clients).map(client).collect(),
            links: Vec::new(),
            messages: BTreeMap::new(),
            changes: BTreeMap::new(),
            duties: Vec::new(),
            fired: vec![Moment::default(); plan.shards],
        }
    }

    /// A client opens a connection. Returns the version that it will speak.
    pub(crate) fn open(&mut self, client: usize) -> Version {
        self.links.push(LinkView { client, ..LinkView::default() });
        self.clients[client].version
    }

    /// A client sends some packets.
    pub(crate) fn transmitted(&mut self, link: usize, bytes: &[u8]) {
        self.step += 1;
        let version = self.clients[self.links[link].client].version;
        each_packet(bytes, version, |packet| match packet {
            Packet::Connect(connect) => self.offer(link, connect),
            Packet::Publish(publish) => self.note_said(link, publish),
            Packet::Subscribe(subscribe) => self.ask_for(link, subscribe),
            Packet::Unsubscribe(unsubscribe) => self.ask_to_end(link, unsubscribe),
            Packet::Disconnect(disconnect) if disconnect.session_expiry_interval.is_some() => {
                self.doubt(self.links[link].client);
            }
            _ => {}
        });
    }

    /// A client has reset a connection.
    pub(crate) fn reset(&mut self, link: usize) {
        if self.links[link].offered.as_ref().is_some_and(|offered| !offered.taken) {
            self.resolve(link);
        }
    }

    /// Takes note of one call. So many batches had been posted to the disk after it.
    pub(crate) fn observe(&mut self, seen: &Seen<'_>, posted: u64) -> Result<(), Violation> {
        self.step += 1;
        match seen.event {
            Event::Bytes { link, bytes } => self.take_bytes(seen, link, bytes),
            Event::Start => {
                self.fired[seen.shard] = seen.now;
                for at in 0..self.clients.len() {
                    if self.home(at) == seen.shard {
                        self.clients[at].terms.note_start(posted);
                    }
                }
            }
            Event::Time => self.fired[seen.shard] = seen.now,
            Event::Ended { link } => self.end_link(link, seen.now, posted),
            _ => {}
        }
        for link in seen.effects.closed() {
            self.end_link(link, seen.now, posted);
        }
        for (link, bytes) in seen.effects.sent() {
            self.sent_bytes(seen, link, bytes)?;
        }
        Ok(())
    }

    fn take_bytes(&mut self, seen: &Seen<'_>, link: usize, bytes: &[u8]) {
        let version = self.clients[self.links[link].client].version;
        each_packet(bytes, version, |packet| match packet {
            Packet::Connect(_) => {
                if let Some(offered) = &mut self.links[link].offered {
                    offered.taken = true;
                }
            }
            Packet::Publish(publish) => self.take_publish(seen, link, publish),
            _ => {}
        });
    }

    fn sent_bytes(&mut self, seen: &Seen<'_>, link: usize, bytes: &[u8]) -> Result<(), Violation> {
        let version = self.clients[self.links[link].client].version;
        let mut verdict = Ok(());
        each_packet(bytes, version, |packet| {
            if verdict.is_ok() {
                verdict = self.sent_packet(seen, link, packet);
            }
        });
        verdict
    }

    fn sent_packet(
        &mut self,
        seen: &Seen<'_>,
        link: usize,
        packet: &Packet<'_>,
    ) -> Result<(), Violation> {
        let connected = self.links[link].connected;
        let first = matches!(packet, Packet::Connack(_) | Packet::Disconnect(_));
        ensure(connected || first, "nothing comes before CONNACK", || {
            format!("link {link}: {packet:?}")
        })?;
        match packet {
            Packet::Connack(connack) => self.settle(link, connack, seen.now),
            Packet::Puback(ack) | Packet::Pubrec(ack) => self.acknowledge(link, ack),
            Packet::Publish(publish) => self.check_sent(link, publish),
            Packet::Pubrel(ack) => {
                let client = &mut self.clients[self.links[link].client];
                let flight = client.flights.get_mut(&ack.packet_id.value());
                if let Some(flight) = flight {
                    flight.1 = true;
                }
                Ok(())
            }
            Packet::Suback(suback) => self.grant(link, suback),
            Packet::Unsuback(unsuback) => self.end_filters(link, unsuback.packet_id.value()),
            _ => Ok(()),
        }
    }

    /// What has come to a client.
    pub(crate) fn take_news(&mut self, client: usize, news: News) -> Result<(), Violation> {
        match news {
            News::NewSession => {
                self.clients[client].exactly_once.clear();
                self.clients[client].received.clear();
                Ok(())
            }
            News::Message { payload, retain, exactly_once, .. } => {
                let Some(number) = number_of(&payload) else { return Ok(()) };
                self.receive(client, number, retain, exactly_once)
            }
        }
    }

    /// Another process begins. It has all batches up to this one, counted from the first process.
    pub(crate) fn note_restart(&mut self, kept: u64, now: Moment, shards: usize) {
        self.process += 1;
        self.shards = shards;
        self.fired = vec![Moment::default(); shards];
        for link in &mut self.links {
            link.connected = false;
            link.asked.clear();
            link.takes.clear();
        }
        for client in &mut self.clients {
            client.unresolved.clear();
            client.link = None;
            client.terms.crash(kept, now);
        }
    }

    fn home(&self, client: usize) -> usize {
        let shards = u64::try_from(self.shards).expect("few shards");
        let home = self.seed.hash(&*self.clients[client].name) % shards;
        usize::try_from(home).expect("few shards")
    }
}

/// Every second client keeps its session for ever.
pub(crate) fn is_steady(client: usize) -> bool {
    client.is_multiple_of(2)
}

/// No client speaks 3.1, where CONNACK does not say whether there is a session.
pub(crate) fn version_of(client: usize) -> Version {
    match Workload::version_for(client) {
        Version::V31 => Version::V311,
        version => version,
    }
}

fn each_packet(bytes: &[u8], version: Version, mut see: impl FnMut(&Packet<'_>)) {
    let mut rest = bytes;
    while let Ok(Some(frame)) = mqtt::frame::split(rest, 1 << 28) {
        rest = &rest[frame.len..];
        if let Ok(packet) = Packet::decode(frame, version) {
            see(&packet);
        }
    }
}

/// The number of a message, which its payload begins with.
fn number_of(payload: &[u8]) -> Option<u64> {
    let digits = payload.strip_prefix(b"m")?.split(|&byte| byte == b'.').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The Packet Identifier of a PUBLISH, and whether it is at QoS 2.
fn named(delivery: Delivery) -> Option<(u16, bool)> {
    match delivery {
        Delivery::AtMostOnce => None,
        Delivery::AtLeastOnce(id) => Some((id.value(), false)),
        Delivery::ExactlyOnce(id) => Some((id.value(), true)),
    }
}
