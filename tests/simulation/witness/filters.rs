//! Which subscriptions clients were promised, which they may have, and which have ended.

use ringmq::mqtt::{QoS, Suback, Subscribe, SubscriptionOptions, Unsubscribe};

use super::{Terms, Witness};
use crate::{
    matching::matches,
    violation::{Violation, ensure},
};

/// What is known of one filter of a client.
#[derive(Debug, Default)]
pub(super) struct FilterView {
    /// It may be subscribed to.
    pub(super) is_open: bool,
    /// The step in which it was surely not subscribed to any more.
    ended: u64,
    /// The subscription was acknowledged, and nothing was asked for since.
    pub(super) sure: Option<Sure>,
    /// The step of the latest SUBSCRIBE or UNSUBSCRIBE.
    latest: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sure {
    options: SubscriptionOptions,
    /// What was granted: 0 to 2.
    pub(super) qos: u8,
    pub(super) since: u64,
}

impl FilterView {
    pub(super) fn end(&mut self, step: u64) {
        if self.is_open {
            (self.is_open, self.ended, self.sure) = (false, step, None);
        }
    }

    /// Whether it may have been subscribed to at or after a step.
    pub(super) fn was_open_since(&self, step: u64) -> bool {
        self.is_open || self.ended >= step
    }
}

/// A SUBSCRIBE or UNSUBSCRIBE packet without an answer.
#[derive(Debug)]
pub(super) struct Asked {
    step: u64,
    filters: Vec<(String, SubscriptionOptions)>,
}

impl Witness {
    /// A client sends SUBSCRIBE.
    pub(super) fn ask_for(&mut self, link: usize, subscribe: &Subscribe<'_>) {
        let (at, step) = (self.links[link].client, self.step);
        let filters = subscribe.filters.iter().map(|(text, it)| (text.to_owned(), it));
        let filters: Vec<(String, SubscriptionOptions)> = filters.collect();
        for (text, options) in &filters {
            let view = self.clients[at].filters.entry(text.clone()).or_default();
            (view.is_open, view.latest) = (true, step);
            let changes = view.sure.take_if(|sure| sure.options != *options).is_some();
            if changes {
                self.void(at, |topic| matches(filter_of(text), topic));
            }
            self.void_group(text);
        }
        let packet_id = subscribe.packet_id.value();
        self.links[link].asked.insert(packet_id, Asked { step, filters });
    }

    /// A client sends UNSUBSCRIBE.
    pub(super) fn ask_to_end(&mut self, link: usize, unsubscribe: &Unsubscribe<'_>) {
        let (at, step) = (self.links[link].client, self.step);
        let mut filters = Vec::new();
        for text in unsubscribe.filters.iter() {
            let view = self.clients[at].filters.entry(text.to_owned()).or_default();
            (view.latest, view.sure) = (step, None);
            self.void(at, |topic| matches(filter_of(text), topic));
            self.void_group(text);
            filters.push((text.to_owned(), SubscriptionOptions::with_qos(QoS::AtMostOnce)));
        }
        let packet_id = unsubscribe.packet_id.value();
        self.links[link].asked.insert(packet_id, Asked { step, filters });
    }

    /// The broker sends SUBACK.
    pub(super) fn grant(&mut self, link: usize, suback: &Suback<'_>) -> Result<(), Violation> {
        let Asked { step, filters } = self.take_asked(link, suback.packet_id.value())?;
        let now = self.step;
        let client = &mut self.clients[self.links[link].client];
        for ((text, options), code) in filters.into_iter().zip(suback.reason_codes) {
            let view = client.filters.entry(text).or_default();
            let is_settled = view.latest == step && client.terms == Terms::Lasting;
            if is_settled && *code < 0x80 {
                let since = view.sure.map_or(now, |sure| sure.since);
                view.sure = Some(Sure { options, qos: *code, since });
            }
        }
        Ok(())
    }

    /// The broker sends UNSUBACK.
    pub(super) fn end_filters(&mut self, link: usize, packet_id: u16) -> Result<(), Violation> {
        let Asked { step, filters } = self.take_asked(link, packet_id)?;
        let now = self.step;
        let client = &mut self.clients[self.links[link].client];
        for (text, _) in filters {
            let view = client.filters.entry(text).or_default();
            if view.latest == step {
                view.end(now);
            }
        }
        Ok(())
    }

    fn take_asked(&mut self, link: usize, packet_id: u16) -> Result<Asked, Violation> {
        let asked = self.links[link].asked.remove(&packet_id);
        ensure(asked.is_some(), "an answer has a request", || format!("link {link}: {packet_id}"))?;
        Ok(asked.expect("it has just been looked at"))
    }
}

/// A Topic Filter without the share group.
pub(super) fn filter_of(text: &str) -> &str {
    text.strip_prefix("$share/").and_then(|it| it.split_once('/')).map_or(text, |(_, it)| it)
}
