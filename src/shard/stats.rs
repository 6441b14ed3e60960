//! What a shard counts.

use super::{end::Cause, ports::Load, reason::Reason};
use crate::mqtt::DecodeError;

/// Declares the counters once: field, meaning, and the place under `$SYS/broker/`.
macro_rules! counters {
    ($($(#[$meaning:meta])* $field:ident => $topic:literal,)*) => {
        /// Counters of one shard since its start, or the sum of several shards'.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$meaning])* pub $field: u64,)*
        }

        impl Counters {
            /// Adds what another shard has counted.
            pub fn add(&mut self, other: &Counters) {
                $(self.$field += other.$field;)*
            }

            /// Each counter with its topic below `$SYS/broker/`.
            pub fn topics(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$(($topic, self.$field),)*].into_iter()
            }
        }
    };
}

counters! {
    /// PUBLISH packets from clients.
    messages_received => "messages/received",
    /// PUBLISH packets to clients.
    messages_sent => "messages/sent",
    /// QoS 0 messages dropped because the outbox of a subscriber was full.
    dropped_outbox_full => "messages/dropped/outbox-full",
    /// QoS 1 and 2 messages dropped because the queue of a session was full.
    dropped_queue_full => "messages/dropped/queue-full",
    /// Messages larger than the Maximum Packet Size of the subscriber.
    dropped_too_large => "messages/dropped/too-large",
    /// Messages whose Message Expiry Interval passed while they waited.
    dropped_expired => "messages/dropped/expired",
    /// Messages for a share group that had no member left.
    dropped_no_member => "messages/dropped/no-member",
    /// Messages that the client was not allowed to publish.
    refused_publish => "messages/refused",
    /// Retained messages not stored because the store was full.
    refused_retained => "retained/refused",
    /// Bytes from clients.
    bytes_received => "bytes/received",
    /// Bytes to clients.
    bytes_sent => "bytes/sent",
    /// Connections that are open, with or without a CONNECT.
    connections => "connections/open",
    /// Connections whose CONNECT was accepted.
    connections_accepted => "connections/accepted",
    /// Connections closed at once because the broker was full and could not tell more clients so.
    connections_refused => "connections/refused",
    /// Clients with a session and a connection.
    clients_connected => "clients/connected",
    /// Sessions, connected or not.
    clients_total => "clients/total",
    /// Sessions that ended because their Session Expiry Interval passed.
    clients_expired => "clients/expired",
    /// Subscriptions of all sessions.
    subscriptions => "subscriptions/count",
    /// Filters of SUBSCRIBE packets that were refused in SUBACK.
    refused_subscriptions => "subscriptions/refused",
    /// Messages that had to wait in the queue of a session, since the start.
    queued => "messages/queued",
    /// Times that publishers were held back for a subscriber.
    holds => "pressure/holds",
    /// Times that a subscriber did not catch up while its publishers were held back.
    patience_exhausted => "pressure/exhausted",
    /// Connections that ended with DISCONNECT.
    ended_by_client => "connections/ended/disconnect",
    /// Connections that ended without DISCONNECT.
    ended_abruptly => "connections/ended/abrupt",
    /// Connections closed because another client connected with the same Client Identifier.
    ended_taken_over => "connections/ended/taken-over",
    /// Connections closed because nothing came within one and a half times the Keep Alive.
    ended_keep_alive => "connections/ended/keep-alive",
    /// Connections closed because no CONNECT came in time.
    ended_connect_timeout => "connections/ended/connect-timeout",
    /// Connections closed because of a malformed packet.
    ended_malformed => "connections/ended/malformed",
    /// Connections closed because of a packet that is not allowed at that moment.
    ended_protocol_error => "connections/ended/protocol-error",
    /// Connections closed because a packet, or the answer to it, was larger than the Maximum Packet
    /// Size of its receiver.
    ended_too_large => "connections/ended/packet-too-large",
    /// Connections closed because the incomplete packets of a shard took too much memory.
    ended_partial_overflow => "connections/ended/partial-overflow",
    /// Times that the system could not accept a connection.
    accept_errors => "connections/accept-errors",
    /// Connections whose request for a WebSocket was answered with an error.
    refused_handshake => "connections/refused/websocket-handshake",
    /// Connections closed because of invalid WebSocket frames, or of text.
    ended_websocket => "connections/ended/websocket-frame",
    /// Connections closed because the queue of the client was full.
    ended_quota => "connections/ended/quota-exceeded",
    /// Connections closed because a message was refused and no acknowledgement could say so.
    ended_refused => "connections/ended/refused",
    /// Messages, Wills and subscriptions whose topic has too many levels.
    refused_topic_levels => "refused/topic-levels",
    /// Messages and Wills with too many User Properties, or too many bytes of them.
    refused_user_properties => "refused/user-properties",
    /// Topic Aliases for topics that take too many bytes together.
    refused_alias_bytes => "refused/topic-alias-bytes",
    /// Topic Filters beyond those that one SUBSCRIBE may have.
    refused_subscribe_filters => "refused/filters-in-subscribe",
    /// Subscriptions beyond those of one session, or beyond their bytes.
    refused_session_filters => "refused/subscriptions-of-session",
    /// Payloads that are not the UTF-8 text that they are said to be.
    refused_payload_format => "refused/payload-format",
    /// Clients refused for a wrong or missing password, or another failed authentication.
    refused_authentication => "connections/refused/authentication",
    /// Clients that were told to use another server.
    redirected => "connections/redirected",
    /// CONNECT packets refused in CONNACK, for any reason; a wrong password is one of them.
    refused_connect => "connections/refused/connect",
}

impl Counters {
    /// The same with what only the runtime counts.
    #[must_use]
    pub(super) fn with_load(self, load: &Load) -> Counters {
        Counters {
            bytes_received: load.bytes_received,
            bytes_sent: load.bytes_sent,
            connections_refused: load.connections_refused,
            ended_partial_overflow: load.partial_overflows,
            accept_errors: load.accept_errors,
            refused_handshake: load.handshakes_refused,
            ended_websocket: load.frames_refused,
            ..self
        }
    }

    pub(super) fn count_end(&mut self, cause: Cause) {
        match cause {
            Cause::Disconnect | Cause::DisconnectWithWill => self.ended_by_client += 1,
            Cause::Finished | Cause::Broken => self.ended_abruptly += 1,
            Cause::Error(error) => self.count_error(error),
            Cause::KeepAlive => self.ended_keep_alive += 1,
            Cause::ConnectTimeout => self.ended_connect_timeout += 1,
            Cause::TakenOver => self.ended_taken_over += 1,
            Cause::QuotaExceeded => self.ended_quota += 1,
            Cause::Refused(_) => self.ended_refused += 1,
            Cause::NotAuthenticated => self.refused_authentication += 1,
            Cause::AnswerTooLarge | Cause::ConnackTooLarge => self.ended_too_large += 1,
            Cause::ShuttingDown => {}
        }
    }

    /// Counts what was refused by the limit or the check that it did not pass.
    pub(super) fn count_refusal(&mut self, reason: Reason) {
        match reason {
            Reason::PasswordWrong
            | Reason::Anonymous
            | Reason::PasswordChecksFull
            | Reason::AuthenticationsFull
            | Reason::AuthenticationMethodUnknown => self.refused_authentication += 1,
            Reason::PayloadNotText => self.refused_payload_format += 1,
            Reason::TopicTooDeep | Reason::FilterTooDeep => self.refused_topic_levels += 1,
            Reason::UserPropertiesFull => self.refused_user_properties += 1,
            Reason::AliasesFull => self.refused_alias_bytes += 1,
            Reason::RetainedFull => self.refused_retained += 1,
            Reason::SubscribeTooLong => self.refused_subscribe_filters += 1,
            Reason::SubscriptionsFull => self.refused_session_filters += 1,
            _ => {}
        }
    }

    pub(super) fn count_error(&mut self, error: DecodeError) {
        match error {
            DecodeError::Malformed(_) => self.ended_malformed += 1,
            DecodeError::Protocol(_)
            | DecodeError::UnsupportedProtocolName
            | DecodeError::UnsupportedProtocolVersion => {
                self.ended_protocol_error += 1;
            }
            DecodeError::PacketTooLarge => self.ended_too_large += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_a_topic_of_its_own() {
        let mut topics: Vec<_> = Counters::default().topics().map(|(topic, _)| topic).collect();
        let count = topics.len();
        topics.sort_unstable();
        topics.dedup();
        assert_eq!(topics.len(), count);
    }

    #[test]
    fn sums_are_taken_counter_by_counter() {
        let mut sum = Counters { queued: 1, ..Counters::default() };
        sum.add(&Counters { queued: 2, holds: 5, ..Counters::default() });
        assert_eq!(sum, Counters { queued: 3, holds: 5, ..Counters::default() });
    }
}
