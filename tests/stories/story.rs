//! Packets as lines that a person reads.

use ringmq::mqtt::{Ack, Delivery, Packet, Publish, ReasonCode};

/// One line for one packet.
pub(crate) fn tell(packet: &Packet<'_>) -> String {
    match packet {
        Packet::Connack(connack) => {
            let present = if connack.session_present { " session present" } else { "" };
            format!("CONNACK {:?}{present}", connack.reason_code)
        }
        Packet::Publish(publish) => tell_publish(publish),
        Packet::Puback(ack) => tell_ack("PUBACK", ack),
        Packet::Pubrec(ack) => tell_ack("PUBREC", ack),
        Packet::Pubrel(ack) => tell_ack("PUBREL", ack),
        Packet::Pubcomp(ack) => tell_ack("PUBCOMP", ack),
        Packet::Suback(suback) => {
            format!("SUBACK {} {:02x?}", suback.packet_id.value(), suback.reason_codes)
        }
        Packet::Unsuback(unsuback) => {
            format!("UNSUBACK {} {:02x?}", unsuback.packet_id.value(), unsuback.reason_codes)
        }
        Packet::Pingresp => "PINGRESP".into(),
        Packet::Auth(auth) => {
            format!("AUTH {:?} {}", auth.reason_code, auth.method.unwrap_or_default())
        }
        Packet::Disconnect(disconnect) => format!("DISCONNECT {:?}", disconnect.reason_code),
        other => format!("{other:?}"),
    }
}

fn tell_publish(publish: &Publish<'_>) -> String {
    let mut words = vec!["PUBLISH".to_owned()];
    let alias = publish.properties.topic_alias;
    words.extend((alias.is_none() || !publish.topic.is_empty()).then(|| publish.topic.to_owned()));
    words.extend(alias.map(|alias| format!("alias {alias}")));
    match publish.delivery {
        Delivery::AtMostOnce => {}
        Delivery::AtLeastOnce(id) => words.push(format!("qos1 #{}", id.value())),
        Delivery::ExactlyOnce(id) => words.push(format!("qos2 #{}", id.value())),
    }
    words.extend(publish.dup.then(|| "dup".to_owned()));
    words.extend(publish.retain.then(|| "retain".to_owned()));
    let properties = &publish.properties;
    words.extend(properties.message_expiry_interval.map(|seconds| format!("expires {seconds}s")));
    let ids: Vec<u32> = properties.subscription_identifiers.iter().collect();
    words.extend((!ids.is_empty()).then(|| format!("ids {ids:?}")));
    let pairs = properties.application.user_properties.iter();
    words.extend(pairs.map(|(name, value)| format!("{name}={value}")));
    words.push(format!("'{}'", String::from_utf8_lossy(publish.payload)));
    words.join(" ")
}

fn tell_ack(name: &str, ack: &Ack<'_>) -> String {
    match ack.reason_code {
        ReasonCode::Success => format!("{name} {}", ack.packet_id.value()),
        reason_code => format!("{name} {} {reason_code:?}", ack.packet_id.value()),
    }
}
