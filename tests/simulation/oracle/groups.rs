//! What share groups are owed: a message that comes while all members are there goes to one.

use std::collections::BTreeSet;

use ringmq::mqtt::QoS;

use super::{
    Oracle,
    model::{Publication, Session},
    sent::{Sight, qos_of},
};
use crate::matching::matches;
use crate::violation::{Violation, ensure};

/// A message that a share group is to have.
#[derive(Debug)]
pub(super) struct Debt {
    emission: usize,
    /// The group, as it was subscribed to.
    text: String,
}

impl Oracle {
    /// A message has been published: notes the groups all of whose members can take it.
    pub(super) fn note_debts(&mut self, emission: usize) {
        let topic = &self.emissions[emission].publication.topic;
        let shared = self.filters.iter().filter(|text| {
            let filter = text.strip_prefix("$share/").and_then(|it| it.split_once('/'));
            filter.is_some_and(|(_, filter)| matches(filter, topic))
        });
        let owed = shared.filter(|text| self.takes_all(text));
        let debts: Vec<Debt> = owed.map(|text| Debt { emission, text: text.clone() }).collect();
        self.debts.extend(debts);
    }

    /// Whether a group has members, all are connected and sane, and all have their SUBACK.
    fn takes_all(&self, text: &str) -> bool {
        let mut members = self.current.values().map(|&at| &self.sessions[at]).flat_map(|session| {
            let ours = session.subscriptions.iter().filter(|it| it.is_current() && it.text == text);
            let able = session.link.is_some() && !session.hostile;
            ours.map(move |it| it.acknowledged_at.is_some() && able)
        });
        members.next().is_some_and(|first| first && members.all(|present| present))
    }

    /// A member has got the message.
    pub(super) fn pay_debt(&mut self, emission: usize, text: &str) {
        self.debts.retain(|debt| debt.emission != emission || debt.text != text);
    }

    /// A member leaves, or cannot be sent anything for a while: what it may have had is not owed.
    pub(super) fn forgive_debts(&mut self, text: &str) {
        self.debts.retain(|debt| debt.text != text);
    }

    pub(super) fn forgive_debts_of(&mut self, session: usize) {
        let Session { subscriptions, .. } = &self.sessions[session];
        let shared = subscriptions.iter().filter(|it| it.share().is_some());
        let texts: Vec<String> = shared.map(|it| it.text.clone()).collect();
        for text in &texts {
            self.forgive_debts(text);
        }
    }

    /// Whether a share group has members on a shard, and all of them are among the full ones.
    pub(super) fn has_full_group(&self, at: usize, full: &BTreeSet<&str>) -> bool {
        self.filters.iter().filter(|text| text.starts_with("$share/")).any(|text| {
            let is_member = |session: &&Session| {
                session.subscriptions.iter().any(|it| it.text == *text && it.is_current())
            };
            let mut members = self.alive_at(at).filter(is_member).peekable();
            members.peek().is_some() && members.all(|it| full.contains(&*it.client_id))
        })
    }

    /// Messages that groups should have got and have not. Those that look like another one, or
    /// whose time has passed, are left out.
    pub(super) fn unpaid(&self) -> Vec<String> {
        let debts = self.debts.iter().filter(|debt| {
            let emission = &self.emissions[debt.emission];
            !emission.again && emission.publication.expires_at.is_none()
        });
        debts
            .map(|debt| {
                let payload = &self.emissions[debt.emission].publication.payload;
                format!("{} to {}", String::from_utf8_lossy(payload).trim(), debt.text)
            })
            .collect()
    }

    /// Whether a share group has given the message to this session, and may have.
    pub(super) fn find_group(&mut self, sight: &Sight<'_>) -> Result<bool, Violation> {
        let session = &self.sessions[sight.session];
        let version = self.conns[sight.link].version;
        let same = |publication: &Publication| {
            publication.topic == sight.topic
                && publication.payload == sight.publish.payload
                && publication.is_said_by(sight.publish, version)
        };
        let emissions: Vec<usize> = (0..self.emissions.len())
            .filter(|&number| same(&self.emissions[number].publication))
            .collect();
        let groups = groups_of(session, sight);
        let mut taken = false;
        for number in emissions {
            for group in &groups {
                let key = (number, group.clone());
                let earlier = self.shared.get(&key).map_or(&[][..], Vec::as_slice);
                let free = earlier.iter().all(|&(holder, qos)| {
                    self.sessions[holder].ended_at.is_some() && qos == QoS::AtLeastOnce
                });
                let fits = self.emissions[number].publication.qos.min(qos_of(group)) == sight.qos;
                if free && fits {
                    self.shared.entry(key).or_default().push((sight.session, sight.qos));
                    self.pay_debt(number, group);
                    return Ok(true);
                }
                taken = true;
            }
        }
        ensure(!taken, "one member of a share group gets a message", || sight.tell())?;
        Ok(false)
    }
}

/// The share groups by which a session may get a message.
fn groups_of(session: &Session, sight: &Sight<'_>) -> Vec<String> {
    let mut groups: Vec<String> = session
        .subscriptions
        .iter()
        .filter(|it| it.share().is_some() && matches(it.filter(), &sight.topic))
        .map(|it| it.text.clone())
        .collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}
