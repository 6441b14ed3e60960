//! What one client may send in a second: PUBLISH packets, and bytes of all packets.
//!
//! ```text
//!   packet --> within the rates ----------------------------------------> handled
//!                 | no
//!                 '--> nothing is read from the client for a while --> looked at again
//!                        | for longer than `--rate-timeout`
//!                        '--> disconnected with Message rate too high
//! ```
//! The time of a client that is held back ends when half of what one second brings may come again.
//! Does not know how a connection is held.

use super::{
    Shard,
    connection::MqttConnection,
    end::Cause,
    notices::Notice,
    ports::Ports,
    timers::{HORIZON, Timers},
};
use crate::{
    base::{
        ids::ConnectionId,
        rate::Bucket,
        time::{Moment, Span},
    },
    mqtt::{Frame, PacketType},
    transport::listener::ClientRates,
};

/// What a client with limited rates has sent.
#[derive(Debug)]
pub(super) struct Throttle {
    rates: ClientRates,
    messages: Bucket,
    bytes: Bucket,
    /// Since when it has been held back again and again.
    held_since: Option<Moment>,
}

/// The verdict on a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    Within,
    /// It may come after this time.
    TooFast(Span),
}

/// A client that is held back is not read from for so long at least: a wake-up for each packet
/// would cost more than the packet.
const HOLD_MIN: Span = Span::from_millis(20);

impl Throttle {
    /// `None`: the rates have no limits.
    pub(super) fn new(rates: ClientRates) -> Option<Throttle> {
        let (messages, bytes) = (Bucket::default(), Bucket::default());
        rates.are_limited().then_some(Throttle { rates, messages, bytes, held_since: None })
    }

    /// Judges a packet that has come. One that is within the rates counts.
    fn judge(&mut self, frame: &Frame<'_>, now: Moment) -> Pace {
        let is_message = frame.packet_type() == PacketType::Publish;
        let messages = self.rates.messages.filter(|_| is_message);
        let (bytes, length) = (self.rates.bytes, frame.len as u64);
        let by_messages = messages.map_or(Span::ZERO, |rate| self.messages.delay(1, rate, now));
        let by_bytes = bytes.map_or(Span::ZERO, |rate| self.bytes.delay(length, rate, now));
        let delay = by_messages.max(by_bytes);
        if !delay.is_zero() {
            self.held_since.get_or_insert(now);
            return Pace::TooFast(delay.max(HOLD_MIN));
        }
        if let Some(rate) = messages {
            self.messages.take(1, rate, now);
        }
        if let Some(rate) = bytes {
            self.bytes.take(length, rate, now);
        }
        if self.messages.is_half_full(now) && self.bytes.is_half_full(now) {
            self.held_since = None;
        }
        Pace::Within
    }

    /// For how long the client has been held back again and again.
    fn held_for(&self, now: Moment) -> Span {
        self.held_since.map_or(Span::ZERO, |since| now.since(since))
    }
}

impl Shard {
    /// Whether a packet comes too early by the rates of its client. Then the client is held back,
    /// or disconnected.
    pub(super) fn comes_too_early(
        &mut self,
        id: ConnectionId,
        frame: &Frame<'_>,
        ports: &mut impl Ports,
    ) -> bool {
        let now = self.context.now;
        let connection = self.connections.get_mut(id);
        let throttle = connection.and_then(MqttConnection::throttle);
        let Some(throttle) = throttle else { return false };
        let Pace::TooFast(delay) = throttle.judge(frame, now) else { return false };
        let timeout = self.context.rules.limits.rate_timeout;
        if !timeout.is_zero() && throttle.held_for(now) >= timeout {
            self.end(id, Cause::TooFast, ports);
            return true;
        }
        self.context.counters.held_rate += 1;
        // It is judged again then, so that its time does not end late.
        let delay = if timeout.is_zero() { delay } else { delay.min(timeout) };
        self.hold_until(id, Timers::before(now, now + delay), ports);
        true
    }

    /// How long a new connection to this listener has to wait; `None`: too long.
    pub(super) fn wait_for_turn(&self, listener: u16) -> Option<Span> {
        let rules = &self.context.rules;
        let Some(bucket) =
            rules.listeners.get(listener).and_then(|it| it.rates.connections.as_ref())
        else {
            return Some(Span::ZERO);
        };
        let timeout = rules.limits.rate_timeout;
        let longest = if timeout.is_zero() { HORIZON } else { timeout.min(HORIZON) };
        bucket.take(self.context.now, longest)
    }

    /// Closes a connection that has come while too many came to its listener.
    pub(super) fn refuse_rate(
        &mut self,
        id: ConnectionId,
        refused: &MqttConnection,
        ports: &mut impl Ports,
    ) {
        self.context.counters.refused_rate += 1;
        let principal = refused.principal();
        let listener = self.context.rules.listener_address(principal.listener()).to_string();
        self.close_unheard(id, Notice::TooManyConnections(&listener), principal, ports);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::rate::Rate, mqtt::frame};

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(1 << 40) + Span::from_millis(millis)
    }

    fn judge(throttle: &mut Throttle, packet: &[u8], millis: u64) -> Pace {
        let frame = frame::split(packet, 1 << 20).unwrap().unwrap();
        throttle.judge(&frame, at(millis))
    }

    fn throttle(messages: u64, bytes: u64) -> Throttle {
        let rates = ClientRates { messages: Rate::new(messages), bytes: Rate::new(bytes) };
        Throttle::new(rates).unwrap()
    }

    const PUBLISH: &[u8] = &[0x30, 3, 0, 1, b'a'];
    const PINGREQ: &[u8] = &[0xC0, 0];

    #[test]
    fn messages_count_by_number_and_all_packets_by_bytes() {
        let mut by_messages = throttle(2, 0);
        for packet in [PUBLISH, PUBLISH, PINGREQ] {
            assert_eq!(judge(&mut by_messages, packet, 0), Pace::Within);
        }
        assert_eq!(judge(&mut by_messages, PUBLISH, 0), Pace::TooFast(Span::from_millis(500)));
        assert_eq!(judge(&mut by_messages, PUBLISH, 500), Pace::Within);
        let mut by_bytes = throttle(0, 7);
        assert_eq!(judge(&mut by_bytes, PUBLISH, 0), Pace::Within);
        assert_eq!(judge(&mut by_bytes, PINGREQ, 0), Pace::Within);
        assert!(matches!(judge(&mut by_bytes, PINGREQ, 0), Pace::TooFast(_)));
        assert!(Throttle::new(ClientRates::default()).is_none());
    }

    #[test]
    fn the_time_of_being_held_back_ends_once_the_client_has_slowed_down() {
        let mut throttle = throttle(10, 0);
        let mut now = 0;
        while now < 5_000 {
            now += match judge(&mut throttle, PUBLISH, now) {
                Pace::Within => 1,
                Pace::TooFast(delay) => delay.as_millis() + 1,
            };
        }
        assert!(throttle.held_for(at(now)) > Span::from_secs(4));
        assert_eq!(judge(&mut throttle, PUBLISH, now + 1_000), Pace::Within);
        assert!(throttle.held_for(at(now + 1_000)).is_zero());
    }
}
