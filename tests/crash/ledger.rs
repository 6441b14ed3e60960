//! What the broker has promised, and what has become of it.

use std::{collections::BTreeMap, fmt::Display};

use ringmq::mqtt::QoS;

#[derive(Default)]
pub(crate) struct Ledger {
    publishers: Vec<Published>,
    receivers: Vec<Received>,
    retained: BTreeMap<String, Retained>,
    /// Acknowledgements that have come: CONNACK, SUBACK, UNSUBACK, PUBACK, PUBREC, PUBCOMP.
    pub(crate) acknowledgements: u64,
    /// Messages that were acknowledged, and deletions of retained ones.
    pub(crate) messages: u64,
    /// Messages that are acknowledged and have not come to a receiver, for all receivers.
    pub(crate) owed: u64,
    pub(crate) findings: Vec<String>,
}

/// The messages of one publisher, from 0.
struct Published {
    qos: QoS,
    is_acknowledged: Vec<bool>,
}

/// The messages that have come to one session, or to one share group.
struct Received {
    name: &'static str,
    qos: QoS,
    is_group: bool,
    /// How often each message of each publisher has come.
    times: Vec<Vec<u8>>,
    /// The latest message of each publisher.
    latest: Vec<usize>,
}

/// What may be retained on one topic. A value of `None` is nothing.
#[derive(Default)]
struct Retained {
    acknowledged: Option<usize>,
    pending: Option<Pending>,
}

/// What was sent and not acknowledged.
#[derive(Clone, Copy, PartialEq)]
struct Pending {
    value: Option<usize>,
}

impl Ledger {
    pub(crate) fn add_publisher(&mut self, qos: QoS) -> usize {
        self.publishers.push(Published { qos, is_acknowledged: Vec::new() });
        for receiver in &mut self.receivers {
            receiver.times.push(Vec::new());
            receiver.latest.push(0);
        }
        self.publishers.len() - 1
    }

    pub(crate) fn add_receiver(&mut self, name: &'static str, qos: QoS, is_group: bool) -> usize {
        let publishers = self.publishers.len();
        let (times, latest) = (vec![Vec::new(); publishers], vec![0; publishers]);
        self.receivers.push(Received { name, qos, is_group, times, latest });
        self.receivers.len() - 1
    }

    pub(crate) fn find(&mut self, finding: impl Display) {
        self.findings.push(finding.to_string());
    }

    /// How many messages each publisher has sent.
    pub(crate) fn sent(&self) -> Vec<usize> {
        self.publishers.iter().map(|it| it.is_acknowledged.len()).collect()
    }

    /// The next message of a publisher.
    pub(crate) fn send(&mut self, publisher: usize) -> usize {
        let messages = &mut self.publishers[publisher].is_acknowledged;
        messages.push(false);
        for receiver in &mut self.receivers {
            receiver.times[publisher].push(0);
        }
        messages.len() - 1
    }

    pub(crate) fn acknowledge(&mut self, publisher: usize, message: usize) {
        let was = &mut self.publishers[publisher].is_acknowledged[message];
        if !std::mem::replace(was, true) {
            self.messages += 1;
            let owed = self.receivers.iter().filter(|it| it.times[publisher][message] == 0);
            self.owed += owed.count() as u64;
        }
    }

    pub(crate) fn receive(&mut self, receiver: usize, payload: &[u8]) {
        let Some((publisher, message)) = read_payload(payload) else {
            return self.find("a payload is not what was sent");
        };
        let Published { qos, is_acknowledged } = &self.publishers[publisher];
        let to = &mut self.receivers[receiver];
        let times = &mut to.times[publisher][message];
        *times = times.saturating_add(1);
        let at_most_once = qos.min(&to.qos) != &QoS::AtLeastOnce;
        if *times == 1 {
            self.owed -= u64::from(is_acknowledged[message]);
            let latest = std::mem::replace(&mut to.latest[publisher], message);
            if message < latest && !to.is_group {
                let name = to.name;
                self.find(format!("disorder: {message} of {publisher} after {latest} to {name}"));
            }
        } else if at_most_once {
            let name = to.name;
            self.find(format!("duplicate: {message} of {publisher} to {name}"));
        }
    }

    /// Names what is acknowledged and has not come.
    pub(crate) fn find_lost(&mut self) {
        let mut lost = Vec::new();
        for to in &self.receivers {
            for (publisher, it) in self.publishers.iter().enumerate() {
                let messages = it.is_acknowledged.iter().zip(&to.times[publisher]).enumerate();
                let gone =
                    messages.filter(|(_, (acknowledged, times))| **acknowledged && **times == 0);
                lost.extend(gone.map(|(n, _)| format!("lost: {n} of {publisher} to {}", to.name)));
            }
        }
        self.findings.extend(lost);
    }

    /// A retained message was sent, or with `None` its deletion.
    pub(crate) fn send_retained(&mut self, topic: &str, value: Option<usize>) {
        self.retained.entry(topic.to_owned()).or_default().pending = Some(Pending { value });
    }

    pub(crate) fn acknowledge_retained(&mut self, topic: &str) {
        self.messages += 1;
        let retained = self.retained.get_mut(topic).expect("it was sent");
        if let Some(Pending { value }) = retained.pending.take() {
            retained.acknowledged = value;
        }
    }

    /// Whether all that is retained for certain is there.
    pub(crate) fn has_all_retained(&self, seen: &BTreeMap<String, usize>) -> bool {
        self.retained.iter().all(|(topic, it)| {
            it.pending.is_some() || it.acknowledged.is_none() || seen.contains_key(topic)
        })
    }

    /// Compares what a new subscription was sent with what may be retained.
    pub(crate) fn check_retained(&mut self, seen: &BTreeMap<String, usize>) {
        let mut findings = Vec::new();
        for (topic, it) in &self.retained {
            let value = seen.get(topic).copied();
            if value != it.acknowledged && it.pending != Some(Pending { value }) {
                let what = if it.acknowledged.is_some() { "lost" } else { "resurrected" };
                let wanted = it.acknowledged;
                findings.push(format!("{what}: {topic} has {value:?}, not {wanted:?}"));
            }
        }
        let strange = seen.keys().filter(|topic| !self.retained.contains_key(*topic));
        findings.extend(strange.map(|topic| format!("resurrected: {topic} was never sent")));
        self.findings.extend(findings);
    }
}

/// The payload of a message: its publisher and number, and up to 3 KiB that follow from them.
pub(crate) fn payload(publisher: usize, message: usize) -> Vec<u8> {
    let mut payload = format!("{publisher} {message} ").into_bytes();
    let mixed = message.wrapping_mul(2_654_435_761).wrapping_add(publisher);
    let more = if mixed.is_multiple_of(8) { mixed / 8 % 3_000 } else { mixed % 50 };
    payload.extend((0..more).map(|at| mixed.wrapping_add(at).to_le_bytes()[0]));
    payload
}

/// The publisher and the number, if all of it is right.
pub(crate) fn read_payload(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut words = bytes.splitn(3, |byte| *byte == b' ');
    let mut number = || std::str::from_utf8(words.next()?).ok()?.parse().ok();
    let (publisher, message) = (number()?, number()?);
    (payload(publisher, message) == bytes).then_some((publisher, message))
}
