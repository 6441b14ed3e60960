//! What a shard counts.

use super::{end::Cause, ports::Load, reason::Reason};
use crate::{
    base::time::Moment,
    mqtt::{DecodeError, ProtocolError},
    session::queue::Queue,
};

/// Declares the counters once: field, meaning, and the place under `$SYS/broker/`.
macro_rules! counters {
    ($($(#[doc = $meaning:literal])* $field:ident => $topic:literal,)*) => {
        /// Counters of one shard since its start, or the sum of several shards'.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[doc = $meaning])* pub $field: u64,)*
            /// Steps that no other counter tells: what a queue took or gave, a walk through many
            /// filters, a message that was dropped. Not published.
            pub other_steps: u64,
        }

        impl Counters {
            /// Adds what another shard has counted.
            pub fn add(&mut self, other: &Counters) {
                $(self.$field += other.$field;)*
                self.other_steps += other.other_steps;
            }

            /// Each counter with its topic below `$SYS/broker/`.
            pub fn topics(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$(($topic, self.$field),)*].into_iter()
            }

            /// The same order: what each counter means, in a sentence.
            pub fn meanings() -> impl Iterator<Item = &'static str> {
                [$(concat!($($meaning),*),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Packets of all types from clients.
    messages_received => "messages/received",
    /// Packets of all types to clients, without PUBLISH packets of `$SYS`.
    messages_sent => "messages/sent",
    /// PUBLISH packets from clients.
    publishes_received => "publish/messages/received",
    /// PUBLISH packets to clients, without those of `$SYS`.
    publishes_sent => "publish/messages/sent",
    /// QoS 0 messages dropped because the outbox of a subscriber was full.
    dropped_outbox_full => "messages/dropped/outbox-full",
    /// QoS 1 and 2 messages dropped because the queue of a session was full.
    dropped_queue_full => "messages/dropped/queue-full",
    /// Messages dropped because memory was short and much waited for their client.
    dropped_memory => "messages/dropped/memory",
    /// Messages larger than the Maximum Packet Size of the subscriber.
    dropped_too_large => "messages/dropped/too-large",
    /// Messages whose Message Expiry Interval passed while they waited.
    dropped_expired => "messages/dropped/expired",
    /// Messages for a share group that had no member left.
    dropped_no_member => "messages/dropped/no-member",
    /// Messages that took several turns to reach all who want them.
    split_messages => "messages/split",
    /// Messages from other shards that nobody wanted here, or nobody any longer.
    letters_in_vain => "messages/in-vain",
    /// Messages that the client was not allowed to publish.
    refused_publish => "messages/refused",
    /// Messages of clients that had no right to publish them.
    denied_publish => "rights/denied/publish",
    /// Wills that were not published, for the same reason.
    denied_wills => "rights/denied/will",
    /// Filters of SUBSCRIBE packets of which the client may read nothing.
    denied_subscriptions => "rights/denied/subscribe",
    /// Messages that matched a subscription, and that the client may not read.
    denied_deliveries => "rights/denied/deliver",
    /// Retained messages not replayed, because their publishers may no longer write to the topic.
    denied_replays => "rights/denied/retained",
    /// Retained messages not stored because the store was full.
    refused_retained => "retained/refused",
    /// Messages refused because the store was full.
    refused_store_full => "store/refused",
    /// Times that a client before 5.0 had to wait with a message because the store was full.
    held_store_full => "store/held-back",
    /// Bytes from clients.
    bytes_received => "bytes/received",
    /// Bytes to clients.
    bytes_sent => "bytes/sent",
    /// Connections that are open, with or without a CONNECT.
    connections => "connections/open",
    /// Connections that have come: as many as are open, and have ended or been refused.
    connections_accepted => "connections/accepted",
    /// Times that a CONNECT was accepted.
    clients_accepted => "clients/accepted",
    /// Clients with a session and a connection.
    clients_connected => "clients/connected",
    /// Sessions, connected or not.
    clients_total => "clients/total",
    /// Sessions that ended because their Session Expiry Interval passed.
    clients_expired => "clients/expired",
    /// Absent sessions that ended because the limit of sessions was reached.
    clients_evicted => "clients/evicted",
    /// Subscriptions of all sessions.
    subscriptions => "subscriptions/count",
    /// Filters of SUBSCRIBE packets that were refused in SUBACK.
    refused_subscriptions => "subscriptions/refused",
    /// Messages that wait in the queues of sessions.
    queued => "messages/queued",
    /// CONNECT packets and subscriptions refused because memory was short.
    refused_memory => "memory/refused",
    /// Bytes of all kinds that clients have caused the broker to take.
    memory_total => "memory/total",
    /// Bytes that connections take by themselves.
    memory_connections => "memory/connections",
    /// Bytes that sessions take by themselves, with aliases, identifiers and CONNECT packets.
    memory_sessions => "memory/sessions",
    /// Bytes of messages that are queued or in flight, without large payloads.
    memory_queues => "memory/queues",
    /// Bytes of Wills.
    memory_wills => "memory/wills",
    /// Bytes of subscriptions.
    memory_subscriptions => "memory/subscriptions",
    /// Bytes of retained messages on all shards, without large payloads.
    memory_retained => "memory/retained",
    /// Unsent bytes, without large payloads.
    memory_outboxes => "memory/outboxes",
    /// Bytes of incomplete packets.
    memory_incomplete => "memory/incomplete",
    /// Bytes of large payloads, each counted once.
    memory_payloads => "memory/payloads",
    /// Bytes of letters to other shards that were not read.
    memory_letters => "memory/letters",
    /// Times that clients were held back because they had sent too much in a second.
    held_rate => "rates/held-back",
    /// Connections that had to wait because many had come to their listener in a short time.
    delayed_rate => "rates/connections-delayed",
    /// Times that publishers were held back for a subscriber.
    holds => "pressure/holds",
    /// Times that a subscriber did not catch up while its publishers were held back.
    patience_exhausted => "pressure/exhausted",
    /// Times that a publisher went on because it had waited long enough for slow subscribers.
    waits_ended => "pressure/waits-ended",
    /// Connections that ended with DISCONNECT.
    ended_by_client => "connections/ended/disconnect",
    /// Connections that the client closed without DISCONNECT, or that broke.
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
    /// Connections closed because incomplete packets took too much memory, most of it for the
    /// account of the client.
    ended_partial_overflow => "connections/ended/partial-overflow",
    /// Connections closed because a packet stayed incomplete for too long.
    ended_packet_timeout => "connections/ended/packet-timeout",
    /// Connections closed because the client did not read what waited for it.
    ended_stalled => "connections/ended/stalled",
    /// Times that the system could not accept a connection.
    accept_errors => "connections/accept-errors",
    /// Connections whose request for a WebSocket was answered with an error.
    refused_handshake => "connections/refused/websocket-handshake",
    /// Connections to a listener for proxies that did not begin with a valid header of one of them.
    refused_proxy => "connections/refused/proxy-header",
    /// Connections closed because of invalid WebSocket frames, or of text.
    ended_websocket => "connections/ended/websocket-frame",
    /// Connections closed because TLS failed, or because what came was not TLS.
    ended_tls => "connections/ended/tls",
    /// TLS handshakes that were completed without an earlier session.
    handshakes_full => "tls/handshakes/full",
    /// TLS handshakes that resumed an earlier session by a ticket.
    handshakes_resumed => "tls/handshakes/resumed",
    /// TLS handshakes that were begun and not completed, however their connection ended.
    handshakes_failed => "tls/handshakes/failed",
    /// Connections closed because the queue of the client was full.
    ended_quota => "connections/ended/quota-exceeded",
    /// Connections closed in favour of others, because their account had most of them.
    ended_share => "connections/ended/share",
    /// Connections closed because a message was refused and no acknowledgement could say so.
    ended_refused => "connections/ended/refused",
    /// Connections closed because their clients have sent too much in a second, for too long.
    ended_rate => "connections/ended/rate",
    /// Connections that an administrator has ended.
    ended_kicked => "connections/ended/kicked",
    /// Connections ended because the token of their client had expired, or what the hook had
    /// allowed.
    ended_token => "connections/ended/token-expired",
    /// Connections that ended because their clients were banned meanwhile.
    ended_banned => "connections/ended/banned",
    /// Connections closed because the broker stops.
    ended_shutting_down => "connections/ended/shutting-down",
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
    /// Subscriptions whose patterns of text and `+` were more than one session may have.
    refused_wildcard_patterns => "refused/wildcard-patterns",
    /// Payloads that are not the UTF-8 text that they are said to be.
    refused_payload_format => "refused/payload-format",
    /// Connections refused because the broker held as many as it may.
    refused_connections => "connections/refused/too-many-connections",
    /// Connections refused because what was left was kept for others than their account.
    refused_share => "connections/refused/share",
    /// Connections refused because the broker held as many sessions as it may.
    refused_sessions => "connections/refused/too-many-sessions",
    /// Connections refused because too many clients waited to be authenticated, or the hook gave no
    /// answer.
    refused_busy => "connections/refused/busy",
    /// Connections closed because a packet before CONNACK was larger than such a packet may be.
    refused_connect_size => "connections/refused/connect-too-large",
    /// Connections refused for a wrong or missing password, or another failed authentication.
    refused_authentication => "connections/refused/authentication",
    /// Connections refused because too many logins had failed before.
    refused_failures => "connections/refused/too-many-failures",
    /// Connections refused because the session of their Client Identifier is another user's.
    refused_other_user => "connections/refused/other-user",
    /// Connections refused because too many had come to their listener in a short time.
    refused_rate => "connections/refused/rate",
    /// Connections refused because the client, its user or its address was banned.
    refused_banned => "connections/refused/banned",
    /// Connections refused in CONNACK for any other reason.
    refused_connect => "connections/refused/connect",
    /// Logins that failed because the client had not proven to be its user.
    logins_failed => "logins/failed",
    /// Tokens that were refused, for whatever reason.
    tokens_refused => "logins/tokens-refused",
    /// Logins that had to wait because earlier ones had failed.
    logins_delayed => "logins/delayed",
    /// Passwords and tokens that a thread has begun to check.
    checks_run => "logins/password-checks",
    /// Questions about clients to the server of `--auth-http-url`.
    hook_calls => "logins/hook-calls",
    /// Questions to that server that had no answer, or none that could be understood.
    hook_failures => "logins/hook-failures",
    /// Passwords that were not checked, because they had been proven lately.
    checks_remembered => "logins/remembered",
    /// Password checks that were not begun, because their client had gone.
    checks_dropped => "logins/dropped",
    /// Clients that were told to use another server. Why they were refused is counted, too.
    redirected => "connections/redirected",
}

impl Counters {
    /// The same with what only the runtime counts.
    #[must_use]
    pub(super) fn with_load(self, load: &Load) -> Counters {
        Counters {
            bytes_received: load.bytes_received,
            bytes_sent: load.bytes_sent,
            connections_accepted: self.connections_accepted + load.connections_refused,
            refused_connections: self.refused_connections + load.connections_refused,
            ended_abruptly: self.ended_abruptly + load.ended_moving,
            accept_errors: load.accept_errors,
            handshakes_full: load.handshakes_full,
            handshakes_resumed: load.handshakes_resumed,
            handshakes_failed: load.handshakes_failed,
            ..self
        }
    }

    /// The steps that were done for what packets have caused: messages that were sent to clients,
    /// and what no other counter tells.
    #[inline]
    pub(super) fn caused_steps(&self) -> u64 {
        self.publishes_sent + self.other_steps
    }

    /// All steps that the shard has done since it began.
    pub(super) fn steps(&self) -> u64 {
        self.messages_received + self.caused_steps()
    }

    /// Connections that have ended or been refused: the sum of all ways, each of which counts by
    /// itself.
    pub fn ended(&self) -> u64 {
        let ways = ["connections/ended/", "connections/refused/"];
        let is_way = |topic: &str| ways.iter().any(|way| topic.starts_with(way));
        self.topics().filter(|(topic, _)| is_way(topic)).map(|(_, count)| count).sum()
    }

    /// Notes how many messages the queue of a session had before, and how many it has now.
    pub(super) fn note_queue(&mut self, before: usize, now: usize) {
        self.queued = self.queued + now as u64 - before as u64;
        self.other_steps += 1;
    }

    /// Drops what has expired in the queue of a session.
    pub(super) fn drop_expired(&mut self, queue: &mut Queue, now: Moment) {
        let before = queue.len();
        self.dropped_expired += queue.expire(now) as u64;
        self.note_queue(before, queue.len());
    }

    pub(super) fn count_end(&mut self, cause: Cause) {
        match cause {
            Cause::Disconnect | Cause::DisconnectWithWill => self.ended_by_client += 1,
            Cause::Finished | Cause::Broken => self.ended_abruptly += 1,
            Cause::Error(error) => self.count_error(error),
            Cause::HttpCame | Cause::TlsCame => {
                self.count_error(ProtocolError::ConnectExpected.into());
            }
            Cause::ConnectTooLarge(_) => self.refused_connect_size += 1,
            Cause::KeepAlive => self.ended_keep_alive += 1,
            Cause::ConnectTimeout => self.ended_connect_timeout += 1,
            Cause::TakenOver(_) => self.ended_taken_over += 1,
            Cause::Share => self.ended_share += 1,
            Cause::QuotaExceeded => self.ended_quota += 1,
            Cause::Refused(_) => self.ended_refused += 1,
            Cause::NotAuthenticated => self.refused_authentication += 1,
            Cause::TooManyFailures => self.refused_failures += 1,
            Cause::TooLarge(_) | Cause::AnswerTooLarge | Cause::ConnackTooLarge => {
                self.ended_too_large += 1;
            }
            Cause::HandshakeRefused => self.refused_handshake += 1,
            Cause::FramesRefused => self.ended_websocket += 1,
            Cause::TlsFailed(_) => self.ended_tls += 1,
            Cause::ProxyRefused(_) => self.refused_proxy += 1,
            Cause::PartialOverflow => self.ended_partial_overflow += 1,
            Cause::PacketTimeout => self.ended_packet_timeout += 1,
            Cause::Stalled => self.ended_stalled += 1,
            Cause::TooFast => self.ended_rate += 1,
            Cause::TokenEnded => self.ended_token += 1,
            Cause::Kicked => self.ended_kicked += 1,
            Cause::Banned => self.ended_banned += 1,
            Cause::ShuttingDown => self.ended_shutting_down += 1,
        }
    }

    /// Counts a connection whose CONNECT was refused for this reason.
    pub(super) fn count_refused_connect(&mut self, reason: Reason) {
        match reason {
            // A client cannot know which features are missing before its CONNACK.
            Reason::Packet(DecodeError::Protocol(
                ProtocolError::QosNotSupported | ProtocolError::RetainNotSupported,
            )) => self.refused_connect += 1,
            Reason::Packet(error) => self.count_error(error),
            Reason::ConnectionsFull => self.refused_connections += 1,
            Reason::ConnectionShare => self.refused_share += 1,
            Reason::SessionsFull => self.refused_sessions += 1,
            Reason::AuthenticationsFull
            | Reason::PasswordChecksFull
            | Reason::HookSilent
            | Reason::TokenKeysMissing => self.refused_busy += 1,
            Reason::SessionOfAnother => self.refused_other_user += 1,
            Reason::TooManyFailures => self.refused_failures += 1,
            Reason::Banned => self.refused_banned += 1,
            reason if reason.is_about_token() => {
                self.tokens_refused += 1;
                self.refused_authentication += 1;
            }
            Reason::Anonymous | Reason::PasswordWrong | Reason::AuthenticationMethodUnknown => {
                self.refused_authentication += 1;
            }
            _ => self.refused_connect += 1,
        }
    }

    /// Counts what was refused by the limit or the check that it did not pass.
    pub(super) fn count_refusal(&mut self, reason: Reason) {
        match reason {
            Reason::PublishDenied => self.denied_publish += 1,
            Reason::SubscribeForbidden => self.denied_subscriptions += 1,
            Reason::PayloadNotText => self.refused_payload_format += 1,
            Reason::TopicTooDeep | Reason::FilterTooDeep => self.refused_topic_levels += 1,
            Reason::UserPropertiesFull => self.refused_user_properties += 1,
            Reason::AliasesFull => self.refused_alias_bytes += 1,
            Reason::MemoryFull => self.refused_memory += 1,
            Reason::RetainedFull => self.refused_retained += 1,
            Reason::StoreFull => self.refused_store_full += 1,
            Reason::SubscribeTooLong => self.refused_subscribe_filters += 1,
            Reason::SubscriptionsFull => self.refused_session_filters += 1,
            Reason::PatternsFull => self.refused_wildcard_patterns += 1,
            _ => {}
        }
    }

    fn count_error(&mut self, error: DecodeError) {
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
