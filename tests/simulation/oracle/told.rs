//! The story of a run, as lines that a person reads.

use ringmq::mqtt::Packet;

use super::{Event, Oracle, Seen, packets};
use crate::story;

impl Oracle {
    pub(super) fn tell_call(&mut self, seen: &Seen<'_>) {
        let millis = seen.now.as_nanos() / 1_000;
        let head = format!("{:>5} {millis:>9} us  shard {}", seen.step, seen.shard);
        let event = match seen.event {
            Event::Bytes { link, bytes } => format!("link {link}: {} bytes taken", bytes.len()),
            Event::Accepted { link } => format!("link {link} has come"),
            Event::Drained { link } => format!("link {link} has drained"),
            Event::Ended { link } => format!("link {link} has ended"),
            other => format!("{other:?}"),
        };
        self.story.push(format!("{head}  {event}"));
        if let Event::Bytes { link, bytes } = seen.event {
            self.tell_packets(link, bytes, "→");
        }
        for (link, bytes) in seen.effects.sent() {
            self.tell_packets(link, bytes, "←");
        }
        for link in seen.effects.closed() {
            self.story.push(format!("        c{} (link {link}) closed", self.conns[link].client));
        }
    }

    fn tell_packets(&mut self, link: usize, bytes: &[u8], arrow: &str) {
        let conn = &self.conns[link];
        let client = conn.client;
        let version = conn.version;
        let mut lines = Vec::new();
        let told = packets(bytes, version, |packet, _| {
            lines.push(match packet {
                Ok(packet) => tell(&packet),
                Err(error) => format!("{error:?}"),
            });
            Ok(())
        });
        debug_assert!(told.is_ok(), "telling finds no fault");
        for line in lines {
            self.story.push(format!("        c{client} (link {link}) {arrow} {line}"));
        }
    }
}

fn tell(packet: &Packet<'_>) -> String {
    let line = match packet {
        Packet::Connect(connect) => format!(
            "CONNECT {} clean {} keep alive {} will {:?} expiry {:?} maximum {:?} size {:?}",
            connect.client_id,
            connect.clean_start,
            connect.keep_alive,
            connect.will.map(|will| (will.topic, will.qos, will.properties.will_delay_interval)),
            connect.properties.session_expiry_interval,
            connect.properties.receive_maximum,
            connect.properties.maximum_packet_size,
        ),
        Packet::Subscribe(subscribe) => {
            format!("SUBSCRIBE {} {:?}", subscribe.packet_id.value(), subscribe.filters)
        }
        other => story::tell(other),
    };
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}
