//! What clients say, as the shard has taken it.

use ringmq::mqtt::{
    self, Ack, Delivery, Disconnect, Packet, Publish, QoS, ReasonCode, Subscribe,
    SubscriptionOptions, Unsubscribe, Version,
};

use super::{
    Oracle, Seen,
    model::{Conn, Publication, Reply, Subscription, Ticket, written},
};
use crate::violation::Violation;

impl Oracle {
    pub(super) fn take_bytes(
        &mut self,
        seen: &Seen<'_>,
        link: usize,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut rest = bytes;
        while !rest.is_empty() && !self.conns[link].misbehaved {
            // CONNECT says in which version the packets after it are written.
            let Conn { version, connected, .. } = self.conns[link];
            let Ok(Some(frame)) = mqtt::frame::split(rest, self.limits.packet_size_max) else {
                self.misbehave(link);
                break;
            };
            rest = &rest[frame.len..];
            match Packet::decode(frame, version) {
                Ok(packet) => self.take_packet(seen, link, connected, &packet)?,
                Err(_) => self.misbehave(link),
            }
        }
        self.conns[link].last_packet = seen.now;
        Ok(())
    }

    fn misbehave(&mut self, link: usize) {
        self.conns[link].misbehaved = true;
    }

    fn take_packet(
        &mut self,
        seen: &Seen<'_>,
        link: usize,
        connected: bool,
        packet: &Packet<'_>,
    ) -> Result<(), Violation> {
        match packet {
            Packet::Connect(connect) if !connected => {
                return self.take_connect(seen, link, connect);
            }
            Packet::Publish(publish) if connected => self.take_publish(seen, link, publish),
            Packet::Subscribe(subscribe) if connected => {
                self.take_subscribe(seen, link, subscribe);
            }
            Packet::Unsubscribe(unsubscribe) if connected => {
                self.take_unsubscribe(seen, link, unsubscribe);
            }
            Packet::Puback(ack) if connected => self.finish_flight(link, ack, QoS::AtLeastOnce),
            Packet::Pubrec(ack) if connected => self.take_pubrec(link, ack),
            Packet::Pubrel(ack) if connected => self.take_pubrel(link, ack),
            Packet::Pubcomp(ack) if connected => self.finish_flight(link, ack, QoS::ExactlyOnce),
            Packet::Pingreq if connected => self.conns[link].replies.push_back(Reply::Pingresp),
            Packet::Disconnect(disconnect) if connected => {
                self.take_disconnect(seen, link, disconnect);
            }
            _ => self.misbehave(link),
        }
        Ok(())
    }

    fn session_of(&self, link: usize) -> usize {
        self.conns[link].session.expect("who is connected has a session")
    }

    fn take_publish(&mut self, seen: &Seen<'_>, link: usize, publish: &Publish<'_>) {
        if self.exceeds_offer(publish) || !publish.properties.subscription_identifiers.is_empty() {
            return self.misbehave(link);
        }
        let Some(topic) = self.resolve_alias(link, publish) else { return self.misbehave(link) };
        let at = self.session_of(link);
        let no_text = self.offer.validates_payload_format
            && publish.properties.application.payload_format_indicator == Some(1)
            && std::str::from_utf8(publish.payload).is_err();
        let full = self.has_no_room(seen, link, publish, &topic);
        let reserved = topic.starts_with("$SYS/");
        let refused = reserved || no_text || full;
        let told = refused && self.conns[link].version == Version::V5;
        let mut again = false;
        if let Delivery::ExactlyOnce(id) = publish.delivery {
            let id = id.value();
            let held = &mut self.sessions[at].held;
            again = held.contains_key(&id);
            let fresh = held.values().filter(|&&on| on == link).count();
            let limited = self.conns[link].version == Version::V5;
            if !again && limited && fresh >= usize::from(self.limits.receive_maximum) {
                return self.misbehave(link);
            }
            if !refused || self.conns[link].version != Version::V5 {
                held.entry(id).or_insert(link);
            }
        }
        match publish.delivery {
            // Only DISCONNECT could say so; what is not the client's to publish is not worth it.
            Delivery::AtMostOnce if no_text && !reserved => return self.misbehave(link),
            Delivery::AtMostOnce => {}
            Delivery::AtLeastOnce(id) => self.owe(link, Reply::Puback(id.value(), told)),
            Delivery::ExactlyOnce(id) => {
                self.owe(link, Reply::Pubrec(id.value(), told && !again));
            }
        }
        if again || refused {
            return;
        }
        let expiry = publish.properties.message_expiry_interval;
        let publication = Publication {
            topic,
            payload: publish.payload.to_vec(),
            application: written(publish.properties.application),
            qos: publish.delivery.qos(),
            retain: publish.retain,
            expires_at: expiry
                .map(|expiry| seen.now + ringmq::base::time::Span::from_secs(u64::from(expiry))),
            publisher: self.sessions[at].client_id.clone(),
        };
        self.route(seen, publication);
    }

    fn exceeds_offer(&self, publish: &Publish<'_>) -> bool {
        publish.delivery.qos() > self.offer.maximum_qos || (publish.retain && !self.offer.retain)
    }

    /// A client that can be told so is refused a retained message that could not be kept.
    fn has_no_room(
        &self,
        seen: &Seen<'_>,
        link: usize,
        publish: &Publish<'_>,
        topic: &str,
    ) -> bool {
        let told =
            self.conns[link].version == Version::V5 && publish.delivery.qos() > QoS::AtMostOnce;
        let kept = publish.retain && !publish.payload.is_empty();
        let replica = &self.retained[seen.shard];
        let former = replica.message(topic);
        told && kept
            && replica.count(&self.emissions, seen.now) >= self.limits.retained_max
            && former.is_none_or(|it| self.emissions[it].publication.has_expired(seen.now))
    }

    fn resolve_alias(&mut self, link: usize, publish: &Publish<'_>) -> Option<String> {
        let Some(alias) = publish.properties.topic_alias else {
            return Some(publish.topic.to_owned());
        };
        let alias = alias.get();
        let aliases = &mut self.conns[link].aliases_in;
        if alias > self.limits.topic_alias_maximum {
            return None;
        }
        if publish.topic.is_empty() {
            return aliases.get(&alias).cloned();
        }
        aliases.insert(alias, publish.topic.to_owned());
        Some(publish.topic.to_owned())
    }

    fn owe(&mut self, link: usize, reply: Reply) {
        self.conns[link].replies.push_back(reply);
    }

    fn take_subscribe(&mut self, seen: &Seen<'_>, link: usize, subscribe: &Subscribe<'_>) {
        let at = self.session_of(link);
        let packet_id = subscribe.packet_id.value();
        let identifier = subscribe.subscription_identifier.map_or(0, u32::from);
        let mut codes = Vec::new();
        for (index, (text, options)) in subscribe.filters.iter().enumerate() {
            if ringmq::topic::Subscription::parse(text).is_err() {
                return self.misbehave(link);
            }
            let modern = self.conns[link].version == Version::V5;
            if !self.is_offered(text, identifier) {
                if modern {
                    return self.misbehave(link);
                }
                codes.push(0x80);
                continue;
            }
            let options =
                SubscriptionOptions { qos: options.qos.min(self.offer.maximum_qos), ..options };
            self.filters.insert(text.to_owned());
            let session = &mut self.sessions[at];
            let known =
                session.subscriptions.iter().position(|it| it.is_current() && it.text == text);
            let held = session.subscriptions.iter().filter(|it| it.is_current()).count();
            let beyond = session.patterns_with(text) > self.limits.wildcard_patterns_max;
            let too_many = held >= self.limits.subscriptions_max || beyond;
            if (known.is_none() && too_many) || index >= self.limits.subscribe_filters_max {
                codes.push(if modern { ReasonCode::QuotaExceeded.value() } else { 0x80 });
                continue;
            }
            codes.push(options.qos as u8);
            let mut subscription = Subscription {
                text: text.to_owned(),
                options,
                identifier,
                acknowledged_at: None,
                packet_id: (link, packet_id),
                until: None,
                has_asked: false,
            };
            let asks = !text.starts_with("$share/") && subscription.wants_retained(known.is_some());
            subscription.has_asked = asks;
            if let Some(known) = known {
                let earlier = &mut session.subscriptions[known];
                earlier.until = Some(seen.step);
                subscription.acknowledged_at = earlier.acknowledged_at;
                subscription.has_asked |= earlier.has_asked;
                session.replace_tickets(seen.step, &subscription, asks);
            }
            session.subscriptions.push(subscription);
            if asks {
                self.ask_for_retained(seen, at, text, options.qos, identifier);
            }
        }
        self.owe(link, Reply::Suback(packet_id, codes));
    }

    fn is_offered(&self, text: &str, identifier: u32) -> bool {
        let offer = &self.offer;
        (offer.subscription_identifiers || identifier == 0)
            && (offer.shared_subscriptions || !text.starts_with("$share/"))
            && (offer.wildcard_subscriptions || !text.contains(['+', '#']))
    }

    fn ask_for_retained(
        &mut self,
        seen: &Seen<'_>,
        at: usize,
        filter: &str,
        qos: QoS,
        identifier: u32,
    ) {
        for emission in self.retained_for(seen.shard, filter) {
            self.sessions[at].tickets.push(Ticket {
                emission,
                qos,
                identifier,
                filter: filter.to_owned(),
                certain: true,
                since: seen.step,
                until: None,
                live: None,
                waived: false,
            });
        }
    }

    fn take_unsubscribe(&mut self, seen: &Seen<'_>, link: usize, unsubscribe: &Unsubscribe<'_>) {
        let at = self.session_of(link);
        let mut codes = Vec::new();
        for text in unsubscribe.filters.iter() {
            let session = &mut self.sessions[at];
            let current =
                session.subscriptions.iter_mut().find(|it| it.is_current() && it.text == text);
            codes.push(if current.is_some() { 0 } else { 0x11 });
            if let Some(current) = current {
                current.until = Some(seen.step);
            }
            self.forgive_debts(text);
            let session = &mut self.sessions[at];
            session.end_tickets(seen.step, text);
        }
        let codes = if self.conns[link].version == Version::V5 { codes } else { Vec::new() };
        self.owe(link, Reply::Unsuback(unsubscribe.packet_id.value(), codes));
    }

    /// A flight comes to its end; what is not in flight on this connection is passed over.
    fn finish_flight(&mut self, link: usize, ack: &Ack<'_>, qos: QoS) {
        let at = self.session_of(link);
        let id = ack.packet_id.value();
        self.sessions[at].flights.retain(|flight| {
            !(flight.packet_id == id
                && flight.link == link
                && flight.qos == qos
                && flight.released == (qos == QoS::ExactlyOnce))
        });
    }

    fn take_pubrec(&mut self, link: usize, ack: &Ack<'_>) {
        let at = self.session_of(link);
        let id = ack.packet_id.value();
        let flights = &mut self.sessions[at].flights;
        let place = flights.iter().position(|flight| {
            flight.packet_id == id && flight.link == link && flight.qos == QoS::ExactlyOnce
        });
        let refused = ack.reason_code.is_error();
        match place {
            Some(place) if refused => drop(flights.remove(place)),
            Some(place) => {
                flights[place].released = true;
                self.owe(link, Reply::Pubrel(id, true));
            }
            None if refused => {}
            None => self.owe(link, Reply::Pubrel(id, false)),
        }
    }

    fn take_pubrel(&mut self, link: usize, ack: &Ack<'_>) {
        let at = self.session_of(link);
        let id = ack.packet_id.value();
        self.sessions[at].held.remove(&id);
        self.owe(link, Reply::Pubcomp(id));
    }

    fn take_disconnect(&mut self, seen: &Seen<'_>, link: usize, disconnect: &Disconnect<'_>) {
        let at = self.session_of(link);
        if let Some(interval) = disconnect.session_expiry_interval {
            let session = &mut self.sessions[at];
            if session.expiry == 0 && interval > 0 {
                return self.misbehave(link);
            }
            session.expiry = interval.min(self.limits.session_expiry_max);
        }
        self.conns[link].leaving = true;
        self.detach(seen, at, disconnect.reason_code == ReasonCode::Success);
    }
}
