//! The counters that a broker tells under `$SYS`.

use std::str;

use ringmq::mqtt::{Packet, QoS, Version};

use crate::client::{Client, subscribe};

/// A broker with `--sys-interval=1` tells a counter once a second.
const COUNTS_MAX: usize = 20;

/// Waits until this counter below `$SYS/broker` has reached the value, and says what it is then.
pub(crate) fn await_count(mut watcher: Client, topic: &str, value: u64) -> u64 {
    // A count may come before SUBACK.
    let filter = format!("$SYS/broker/{topic}");
    watcher.send(&subscribe(Version::V5, &filter, QoS::AtMostOnce));
    for _ in 0..COUNTS_MAX {
        let count = watcher.next(|packet| match packet {
            Packet::Publish(publish) => str::from_utf8(publish.payload).unwrap().parse().unwrap(),
            _ => 0,
        });
        if let Some(count) = count.filter(|count| *count >= value) {
            return count;
        }
    }
    panic!("{topic} does not reach {value}")
}
