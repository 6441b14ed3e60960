//! Which messages were acknowledged, for whom, and what has come of them.

use ringmq::mqtt::{Ack, Publish, QoS};

use super::{Terms, Witness, filters::filter_of, named, number_of};
use crate::{
    matching::matches,
    oracle::Seen,
    violation::{Violation, ensure},
};

/// A message, as its publisher has said it.
#[derive(Debug)]
pub(super) struct Said {
    publisher: usize,
    pub(super) topic: String,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) expires: bool,
    /// The step in which a shard has taken it first. A Will is published at any time.
    taken: Option<u64>,
    is_will: bool,
}

impl Said {
    pub(super) fn will(publisher: usize, topic: &str, expiry: Option<u32>) -> Said {
        Said {
            publisher,
            topic: topic.to_owned(),
            qos: QoS::AtMostOnce,
            retain: false,
            expires: expiry.is_some(),
            taken: None,
            is_will: true,
        }
    }
}

/// A PUBLISH that a shard has taken.
#[derive(Debug)]
pub(super) struct Take {
    number: Option<u64>,
    step: u64,
    /// The change of the retained message that it asks for.
    change: Option<(String, usize)>,
}

/// A message that has to come to somebody.
#[derive(Debug)]
pub(super) struct Duty {
    number: u64,
    topic: String,
    to: To,
}

#[derive(Debug, PartialEq, Eq)]
enum To {
    Client(usize),
    /// Any member of it.
    Group(String),
}

impl Witness {
    /// A client sends a message.
    pub(super) fn note_said(&mut self, link: usize, publish: &Publish<'_>) {
        let Some(number) = number_of(publish.payload) else { return };
        let said = Said {
            publisher: self.links[link].client,
            topic: publish.topic.to_owned(),
            qos: publish.delivery.qos(),
            retain: publish.retain,
            expires: publish.properties.message_expiry_interval.is_some(),
            taken: None,
            is_will: false,
        };
        self.messages.entry(number).or_insert(said);
    }

    /// A shard has taken a PUBLISH.
    pub(super) fn take_publish(&mut self, seen: &Seen<'_>, link: usize, publish: &Publish<'_>) {
        let number = number_of(publish.payload);
        if let Some(said) = number.and_then(|number| self.messages.get_mut(&number)) {
            said.taken.get_or_insert(self.step);
        }
        let change = publish.retain.then(|| self.take_change(seen, link, publish));
        if let Some((packet_id, _)) = named(publish.delivery) {
            let take = Take { number, step: self.step, change };
            self.links[link].takes.insert(packet_id, take);
        }
    }

    /// The broker sends PUBACK or PUBREC.
    pub(super) fn acknowledge(&mut self, link: usize, ack: &Ack<'_>) -> Result<(), Violation> {
        let take = self.links[link].takes.remove(&ack.packet_id.value());
        ensure(take.is_some(), "an answer has a request", || format!("link {link}: {ack:?}"))?;
        let Some(take) = take.filter(|_| !ack.reason_code.is_error()) else { return Ok(()) };
        if let Some((topic, change)) = &take.change {
            self.acknowledge_change(topic, *change);
        }
        let Some(number) = take.number else { return Ok(()) };
        let said = &self.messages[&number];
        // A QoS 2 message that is sent again was routed when it was taken first.
        let taken = match said.qos {
            QoS::ExactlyOnce => said.taken.unwrap_or(take.step),
            _ => take.step,
        };
        if !said.expires {
            self.owe(number, taken);
        }
        Ok(())
    }

    /// Whoever had a subscription before a message was taken has to get it.
    fn owe(&mut self, number: u64, taken: u64) {
        let said = &self.messages[&number];
        let mut duties = Vec::new();
        let duty = |to| Duty { number, topic: said.topic.clone(), to };
        for (at, client) in self.clients.iter().enumerate() {
            let wants = |(text, view): (&String, &super::FilterView)| {
                !text.starts_with("$share/")
                    && matches(text, &said.topic)
                    && view.sure.is_some_and(|sure| sure.qos > 0 && sure.since < taken)
            };
            let is_sure = client.terms == Terms::Lasting && client.steady;
            // Its own message may be kept from it.
            if at != said.publisher
                && is_sure
                && client.filters.iter().any(wants)
                && !client.received.contains(&number)
            {
                duties.push(duty(To::Client(at)));
            }
        }
        for text in self.steady_groups(&said.topic, taken) {
            if !self.has_come_to_group(number, &text) {
                duties.push(duty(To::Group(text)));
            }
        }
        self.duties.extend(duties);
    }

    /// The groups that want messages of a topic, whose members have all joined before a step, and
    /// stay.
    fn steady_groups(&self, topic: &str, taken: u64) -> Vec<String> {
        let mut groups: Vec<&str> = self.clients.iter().filter_map(|it| it.group).collect();
        groups.sort_unstable();
        groups.dedup();
        let is_steady = |text: &&str| {
            let views = || self.clients.iter().map(|client| (client, client.filters.get(*text)));
            let was_open = |view: &super::FilterView| view.was_open_since(taken);
            let open = || views().filter(|(_, view)| view.is_some_and(was_open));
            let stays = |(client, view): (&super::Watched, Option<&super::FilterView>)| {
                let sure = view.and_then(|view| view.sure);
                client.steady
                    && client.terms == Terms::Lasting
                    && sure.is_some_and(|sure| sure.qos > 0 && sure.since < taken)
            };
            open().next().is_some() && open().all(stays)
        };
        let matching = groups.into_iter().filter(|text| matches(filter_of(text), topic));
        matching.filter(is_steady).map(str::to_owned).collect()
    }

    fn has_come_to_group(&self, number: u64, text: &str) -> bool {
        let members = self.clients.iter().filter(|it| it.group == Some(text));
        members.into_iter().any(|member| member.received.contains(&number))
    }

    /// What a client has to get of these topics it need not get any more.
    pub(super) fn void(&mut self, client: usize, concerns: impl Fn(&str) -> bool) {
        self.duties.retain(|duty| duty.to != To::Client(client) || !concerns(&duty.topic));
        let group = self.clients[client].group.unwrap_or("");
        self.duties.retain(|duty| duty.to != To::Group(group.to_owned()));
    }

    /// The members of a group change.
    pub(super) fn void_group(&mut self, text: &str) {
        self.duties.retain(|duty| duty.to != To::Group(text.to_owned()));
    }

    /// The broker sends a message. At QoS 2 it is not sent again after PUBREL. [MQTT-4.3.3-6]
    pub(super) fn check_sent(
        &mut self,
        link: usize,
        publish: &Publish<'_>,
    ) -> Result<(), Violation> {
        let Some((packet_id, true)) = named(publish.delivery) else { return Ok(()) };
        let Some(number) = number_of(publish.payload) else { return Ok(()) };
        let client = &mut self.clients[self.links[link].client];
        let former = client.flights.insert(packet_id, (number, false));
        let is_again = publish.dup && former == Some((number, true));
        ensure(!is_again, "what was received is not sent again", || {
            format!("m{number} for {}", client.name)
        })
    }

    /// A message has come to a client.
    pub(super) fn receive(
        &mut self,
        client: usize,
        number: u64,
        retain: bool,
        exactly_once: bool,
    ) -> Result<(), Violation> {
        let Some(said) = self.messages.get(&number) else { return Ok(()) };
        let watched = &mut self.clients[client];
        let told = || format!("m{number} ({}) for {}", said.topic, watched.name);
        let taken = said.taken.unwrap_or(0);
        let asks = |(text, view): (&String, &super::FilterView)| {
            matches(filter_of(text), &said.topic) && view.was_open_since(taken)
        };
        ensure(watched.filters.iter().any(asks), "a filter that has ended asks for nothing", told)?;
        ensure(retain || said.taken.is_some() || said.is_will, "what comes was published", told)?;
        let is_exact = !said.retain && (self.clients[said.publisher].steady || said.is_will);
        let watched = &mut self.clients[client];
        watched.received.insert(number);
        if exactly_once {
            let count = watched.exactly_once.entry(number).or_default();
            *count += 1;
            let is_once = *count == 1;
            ensure(is_once || !is_exact, "QoS 2 is exactly once", || {
                format!("m{number} for {}", watched.name)
            })?;
        }
        let group = watched.group.unwrap_or("");
        self.duties.retain(|duty| {
            let has_come = duty.to == To::Client(client) || duty.to == To::Group(group.to_owned());
            duty.number != number || !has_come
        });
        Ok(())
    }

    /// Everyone is there and has taken all: nothing is owed any more.
    pub(crate) fn check_delivered(&self) -> Result<(), Violation> {
        ensure(self.duties.is_empty(), "acknowledged means there", || {
            let told = |duty: &Duty| format!("m{} ({}) to {:?}", duty.number, duty.topic, duty.to);
            format!("{:?}", self.duties.iter().map(told).collect::<Vec<_>>())
        })
    }
}
