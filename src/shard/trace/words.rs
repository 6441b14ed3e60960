//! A packet in words. Passwords and the data of authentications are never among them.

use std::fmt::Write;

use bytes::Bytes;

use crate::mqtt::{
    Ack, ApplicationProperties, Connack, Connect, Disconnect, Frame, Packet, PacketType, Publish,
    QoS, ReasonCode, Suback, Subscribe, Unsuback, Version,
};

/// A packet that is to be described.
#[derive(Clone, Copy)]
pub(super) struct Described<'a> {
    /// `None`: it cannot be read.
    pub(super) packet: Option<&'a Packet<'a>>,
    pub(super) frame: Frame<'a>,
    /// What the Topic Alias of a PUBLISH stands for, as far as is known.
    pub(super) topic: Option<&'a str>,
    /// The payload, if it is not part of the frame.
    pub(super) shared: Option<&'a Bytes>,
}

impl<'a> Described<'a> {
    /// The topic, if the packet is a PUBLISH whose topic is known.
    pub(super) fn topic_of_publish(&self) -> Option<&'a str> {
        match self.packet {
            Some(Packet::Publish(publish)) if !publish.topic.is_empty() => Some(publish.topic),
            Some(Packet::Publish(_)) => self.topic.filter(|topic| !topic.is_empty()),
            _ => None,
        }
    }

    /// Appends it, with so many bytes of its payload at the most.
    pub(super) fn push(&self, payload_bytes: usize, out: &mut String) {
        out.push_str(PacketType::name_of(self.frame.first));
        match self.packet {
            None => put(out, format_args!(" unreadable, {} bytes", self.frame.len)),
            Some(Packet::Connect(connect)) => push_connect(connect, out),
            Some(Packet::Connack(connack)) => push_connack(connack, out),
            Some(Packet::Publish(publish)) => self.push_publish(publish, payload_bytes, out),
            Some(
                Packet::Puback(ack)
                | Packet::Pubrec(ack)
                | Packet::Pubrel(ack)
                | Packet::Pubcomp(ack),
            ) => push_ack(ack, out),
            Some(Packet::Subscribe(subscribe)) => push_subscribe(subscribe, out),
            Some(Packet::Suback(suback)) => push_suback(suback, out),
            Some(Packet::Unsubscribe(unsubscribe)) => {
                put(out, format_args!(" id {}", unsubscribe.packet_id.value()));
                push_each(unsubscribe.filters.iter(), out, push_word);
            }
            Some(Packet::Unsuback(unsuback)) => push_unsuback(unsuback, out),
            Some(Packet::Pingreq | Packet::Pingresp) => {}
            Some(Packet::Disconnect(disconnect)) => push_disconnect(disconnect, out),
            Some(Packet::Auth(auth)) => {
                push_reason(auth.reason_code, out);
                push_text(" method ", auth.method, out);
                push_hidden(" data", auth.data.is_some(), out);
                push_text(" because ", auth.properties.reason_string, out);
            }
        }
    }

    fn push_publish(&self, publish: &Publish<'_>, payload_bytes: usize, out: &mut String) {
        out.push(' ');
        match self.topic_of_publish() {
            Some(topic) => push_word(topic, out),
            None => out.push_str("(unknown topic)"),
        }
        put(out, format_args!(" qos {}", publish.delivery.qos() as u8));
        push_flag(" dup", publish.dup, out);
        push_flag(" retain", publish.retain, out);
        if let Some(id) = publish.delivery.packet_id() {
            put(out, format_args!(" id {}", id.value()));
        }
        let payload = self.shared.map_or(publish.payload, |shared| shared);
        put(out, format_args!(" {} bytes", payload.len()));
        let properties = &publish.properties;
        if let Some(alias) = properties.topic_alias {
            put(out, format_args!(" alias {alias}"));
        }
        if let Some(seconds) = properties.message_expiry_interval {
            put(out, format_args!(" expiry {seconds} s"));
        }
        push_application(&properties.application, out);
        for id in properties.subscription_identifiers.iter() {
            put(out, format_args!(" subscription-id {id}"));
        }
        let is_secret = self.topic_of_publish().is_some_and(|topic| topic.starts_with("$CONTROL/"));
        if is_secret {
            push_hidden(" payload", payload_bytes > 0, out);
        } else if payload_bytes > 0 {
            let shown = &payload[..payload.len().min(payload_bytes)];
            let more = if shown.len() < payload.len() { "…" } else { "" };
            put(out, format_args!(" payload \"{}\"{more}", shown.escape_ascii()));
        }
    }
}

fn push_connect(connect: &Connect<'_>, out: &mut String) {
    put(out, format_args!(" {}", connect.version.words()));
    let clean = if connect.version == Version::V5 { " clean-start" } else { " clean-session" };
    push_flag(clean, connect.clean_start, out);
    put(out, format_args!(" keep-alive {} s", connect.keep_alive));
    push_flag(" bridge", connect.is_bridge, out);
    push_text(" user ", connect.user_name, out);
    push_hidden(" password", connect.password.is_some(), out);
    let properties = &connect.properties;
    if let Some(seconds) = properties.session_expiry_interval {
        put(out, format_args!(" session-expiry {seconds} s"));
    }
    if let Some(maximum) = properties.receive_maximum {
        put(out, format_args!(" receive-maximum {maximum}"));
    }
    if let Some(maximum) = properties.maximum_packet_size {
        put(out, format_args!(" maximum-packet-size {maximum}"));
    }
    if properties.topic_alias_maximum > 0 {
        put(out, format_args!(" topic-alias-maximum {}", properties.topic_alias_maximum));
    }
    push_text(" method ", properties.authentication_method, out);
    push_hidden(" data", properties.authentication_data.is_some(), out);
    if let Some(will) = &connect.will {
        out.push_str(" will ");
        push_word(will.topic, out);
        put(out, format_args!(" qos {} {} bytes", will.qos as u8, will.payload.len()));
        push_flag(" retain", will.retain, out);
        if will.properties.will_delay_interval > 0 {
            put(out, format_args!(" delay {} s", will.properties.will_delay_interval));
        }
    }
}

fn push_connack(connack: &Connack<'_>, out: &mut String) {
    push_reason(connack.reason_code, out);
    push_flag(" session-present", connack.session_present, out);
    let properties = &connack.properties;
    push_text(" assigned ", properties.assigned_client_identifier, out);
    if let Some(seconds) = properties.server_keep_alive {
        put(out, format_args!(" keep-alive {seconds} s"));
    }
    if let Some(seconds) = properties.session_expiry_interval {
        put(out, format_args!(" session-expiry {seconds} s"));
    }
    push_text(" server-reference ", properties.server_reference, out);
    push_text(" method ", properties.authentication_method, out);
    push_hidden(" data", properties.authentication_data.is_some(), out);
    push_text(" because ", properties.reason_string, out);
}

fn push_ack(ack: &Ack<'_>, out: &mut String) {
    put(out, format_args!(" id {}", ack.packet_id.value()));
    if ack.reason_code != ReasonCode::Success {
        push_reason(ack.reason_code, out);
    }
    push_text(" because ", ack.properties.reason_string, out);
}

fn push_subscribe(subscribe: &Subscribe<'_>, out: &mut String) {
    put(out, format_args!(" id {}", subscribe.packet_id.value()));
    if let Some(id) = subscribe.subscription_identifier {
        put(out, format_args!(" subscription-id {id}"));
    }
    push_each(subscribe.filters.iter(), out, |(filter, options), out| {
        push_word(filter, out);
        put(out, format_args!(" qos {}", options.qos as u8));
        push_flag(" no-local", options.no_local, out);
        push_flag(" retain-as-published", options.retain_as_published, out);
        let handling = options.retain_handling as u8;
        if handling > 0 {
            put(out, format_args!(" retain-handling {handling}"));
        }
    });
}

fn push_suback(suback: &Suback<'_>, out: &mut String) {
    put(out, format_args!(" id {}", suback.packet_id.value()));
    push_each(suback.reason_codes.iter(), out, |&code, out| match code {
        0..=2 => put(out, format_args!("qos {code}")),
        _ => push_code(code, out),
    });
    push_text(" because ", suback.properties.reason_string, out);
}

fn push_unsuback(unsuback: &Unsuback<'_>, out: &mut String) {
    put(out, format_args!(" id {}", unsuback.packet_id.value()));
    push_each(unsuback.reason_codes.iter(), out, |&code, out| push_code(code, out));
    push_text(" because ", unsuback.properties.reason_string, out);
}

fn push_disconnect(disconnect: &Disconnect<'_>, out: &mut String) {
    push_reason(disconnect.reason_code, out);
    if let Some(seconds) = disconnect.session_expiry_interval {
        put(out, format_args!(" session-expiry {seconds} s"));
    }
    push_text(" server-reference ", disconnect.server_reference, out);
    push_text(" because ", disconnect.properties.reason_string, out);
}

fn push_application(application: &ApplicationProperties<'_>, out: &mut String) {
    push_flag(" utf-8", application.payload_format_indicator == Some(1), out);
    push_text(" content-type ", application.content_type, out);
    push_text(" response-topic ", application.response_topic, out);
    if let Some(data) = application.correlation_data {
        put(out, format_args!(" correlation {} bytes", data.len()));
    }
    match application.user_properties.count() {
        0 => {}
        count => put(out, format_args!(" user-properties {count}")),
    }
}

/// The items with commas between them, as many as a line has room for.
fn push_each<T>(
    items: impl Iterator<Item = T>,
    out: &mut String,
    mut push: impl FnMut(T, &mut String),
) {
    for (place, item) in items.take(ITEMS_MAX).enumerate() {
        out.push_str(if place == 0 { " " } else { ", " });
        push(item, out);
    }
}

fn push_reason(reason_code: ReasonCode, out: &mut String) {
    put(out, format_args!(" reason 0x{:02X} {}", reason_code.value(), Words(reason_code)));
}

fn push_code(code: u8, out: &mut String) {
    match ReasonCode::from_u8(code) {
        Some(known) => put(out, format_args!("0x{code:02X} {}", Words(known))),
        None => put(out, format_args!("0x{code:02X}")),
    }
}

/// A Reason Code as the specification writes it, such as `No matching subscribers`.
struct Words(ReasonCode);

impl std::fmt::Display for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, letter) in format!("{:?}", self.0).char_indices() {
            if place > 0 && letter.is_ascii_uppercase() {
                write!(f, " {}", letter.to_ascii_lowercase())?;
            } else {
                f.write_char(letter)?;
            }
        }
        Ok(())
    }
}

fn push_flag(word: &str, holds: bool, out: &mut String) {
    out.push_str(if holds { word } else { "" });
}

/// Says that there is something, and not what.
fn push_hidden(word: &str, is_there: bool, out: &mut String) {
    if is_there {
        out.push_str(word);
        out.push_str(" (hidden)");
    }
}

fn push_text(word: &str, text: Option<&str>, out: &mut String) {
    if let Some(text) = text {
        out.push_str(word);
        push_word(text, out);
    }
}

/// Appends a text of a client as one word: as it is if it is plain, or else between quotes, with
/// escapes. So no text ends a line, moves a terminal's cursor or looks like another part of the
/// line.
pub(super) fn push_word(text: &str, out: &mut String) {
    let shown = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"\\',*".contains(&byte);
    if !text.is_empty() && shown.len() == text.len() && text.bytes().all(is_plain) {
        return out.push_str(text);
    }
    let more = if shown.len() < text.len() { "…" } else { "" };
    put(out, format_args!("\"{}\"{more}", shown.escape_debug()));
}

fn put(out: &mut String, words: std::fmt::Arguments<'_>) {
    out.write_fmt(words).expect("a String takes all that is written to it");
}

/// Bytes of one text of a client that a line shows.
const TEXT_BYTES_MAX: usize = 512;
/// Topic Filters, or codes, that a line shows.
const ITEMS_MAX: usize = 64;

/// The QoS is written as its number.
const _: () = assert!(QoS::ExactlyOnce as u8 == 2, "its number in the specification");
