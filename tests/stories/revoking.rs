//! Rights that change at random while clients come and go: nobody is sent what it may not read.
//!
//! A seed makes a story of a few hundred steps. After each of them every message that was sent is
//! judged by a list of the rules in force, walked naively.

use std::sync::Arc;

use ringmq::{
    access::{Acl, Policy},
    base::time::Span,
    mqtt::{
        Connect, ConnectProperties, Delivery, Packet, PacketId, Publish, QoS, Version, Will,
        WillProperties,
    },
};

use self::twin::may;
use crate::{
    packets::{ack, at, bytes, connect, disconnect, publish, subscribe},
    world::{World, limits},
};

#[path = "../support/matching.rs"]
mod matching;
#[path = "../support/rights.rs"]
mod twin;

const SEEDS: u64 = 40;
const STEPS: usize = 250;
const NAMES: [&str; 5] = ["c0", "c1", "c2", "c3", "c4"];
const TOPICS: [&str; 8] = ["a", "a/b", "b/c", "b/c1", "to/c0/x", "to/c1/x", "to/c2", "$x/a"];
const FILTERS: [&str; 10] =
    ["#", "a/#", "+/b", "b/+", "to/#", "to/c1/#", "$x/#", "$share/g/#", "$share/g/to/#", "a"];
const RULES: [&str; 10] = [
    "topic read #",
    "topic a/#",
    "topic deny a/b",
    "topic read b/+",
    "topic deny b/c1",
    "pattern to/%c/#",
    "pattern deny to/+/x",
    "topic read $x/#",
    "pattern read b/%c",
    "topic read to/#",
];

/// What goes wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// A change of the rights is not told.
    ForgetChange,
}

/// A small generator of numbers: `SplitMix64`.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::from((mixed >> 48) as u16) % bound
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

struct Story {
    dice: Dice,
    world: World,
    /// The connection of each client.
    links: [Option<usize>; NAMES.len()],
    writer: usize,
    rules: String,
    sent: usize,
}

impl Story {
    fn new(seed: u64) -> Story {
        let mut dice = Dice(seed);
        let rules = all_rules();
        let mut world = World::with([1, 2, 4][dice.below(3)], &limits(), &policy(&rules));
        let writer = crate::join_as(&mut world, Version::V5, "writer");
        Story { dice, world, links: [None; NAMES.len()], writer, rules, sent: 0 }
    }

    fn step(&mut self, fault: Fault) -> Result<(), String> {
        let client = self.dice.below(NAMES.len());
        match (self.dice.below(12), self.links[client]) {
            (0, _) => return self.change(fault),
            (1..=2, Some(link)) => self.leave(client, link),
            (_, None) => self.come(client),
            (3..=4, Some(link)) => {
                let qos = QoS::ALL[self.dice.below(2)];
                let filter = self.dice.pick(&FILTERS);
                self.world.send(link, &subscribe(Version::V5, 7, &[(filter, at(qos))]));
            }
            (5, _) => self.world.pass(Span::from_secs(2)),
            (6, Some(link)) => self.acknowledge(link),
            _ => self.publish(),
        }
        self.judge()
    }

    fn come(&mut self, client: usize) {
        let link = self.world.open(Version::V5);
        let topic = self.dice.pick(&TOPICS);
        let properties = WillProperties { will_delay_interval: 3, ..WillProperties::default() };
        let will = Will { properties, ..crate::packets::will(topic, topic.as_bytes()) };
        let connect = Connect {
            clean_start: self.dice.below(4) == 0,
            will: Some(will).filter(|_| self.dice.below(2) == 0),
            properties: ConnectProperties {
                session_expiry_interval: Some(1_000),
                receive_maximum: std::num::NonZeroU16::new(2),
                ..ConnectProperties::default()
            },
            ..connect(Version::V5, NAMES[client])
        };
        self.world.send(link, &bytes(&Packet::Connect(connect), Version::V5));
        self.links[client] = Some(link);
    }

    fn leave(&mut self, client: usize, link: usize) {
        if self.dice.below(2) == 0 {
            self.world.break_off(link);
        } else {
            self.world.send(link, &disconnect(Version::V5));
        }
        self.links[client] = None;
    }

    /// Some Packet Identifiers are free again, so that what waits is sent.
    fn acknowledge(&mut self, link: usize) {
        for packet_id in 1..=4 {
            let first = 1 + 4 * u16::try_from(self.dice.below(8)).expect("a few");
            let puback = Packet::Puback(ack(first + packet_id - 1));
            self.world.send(link, &bytes(&puback, Version::V5));
        }
    }

    fn publish(&mut self) {
        self.sent += 1;
        let topic = self.dice.pick(&TOPICS);
        let packet_id = PacketId::new(1 + u16::try_from(self.sent % 60_000).expect("small"));
        let delivery = Delivery::AtLeastOnce(packet_id.expect("not zero"));
        let retain = self.dice.below(4) == 0;
        let message = Publish { retain, ..publish(topic, delivery, topic) };
        self.world.send(self.writer, &bytes(&Packet::Publish(message), Version::V5));
    }

    /// The rights change. What has been sent before was judged before.
    fn change(&mut self, fault: Fault) -> Result<(), String> {
        self.world.run();
        self.judge()?;
        let some = RULES.iter().filter(|_| self.dice.below(2) == 0);
        self.rules = some.copied().collect::<Vec<_>>().join("\n") + "\nuser nobody\n";
        self.rules.insert_str(0, "pattern write #\npattern write $x/#\n");
        if fault == Fault::None {
            let policy = policy(&self.rules);
            self.world.change_rules(|rules| rules.policy = policy);
        }
        Ok(())
    }

    /// Whoever was sent a message may read it.
    fn judge(&mut self) -> Result<(), String> {
        self.world.received(self.writer);
        for (client, link) in self.links.iter_mut().enumerate() {
            let Some(open) = *link else { continue };
            for line in self.world.received(open) {
                let Some(rest) = line.strip_prefix("PUBLISH ") else { continue };
                let topic = rest.split(' ').next().unwrap_or_default();
                if !may(&self.rules, (None, NAMES[client]), "read", topic) {
                    return Err(format!("{} was sent {line}\n{}", NAMES[client], self.rules));
                }
            }
            if self.world.is_closed(open) {
                *link = None;
            }
        }
        Ok(())
    }
}

fn all_rules() -> String {
    "topic #\npattern $x/#\n".to_owned()
}

fn policy(rules: &str) -> Policy {
    let acl = Acl::parse(rules.as_bytes()).expect("an ACL file");
    Policy { acl: Some(Arc::new(acl)), ..Policy::default() }
}

fn tell(seed: u64, fault: Fault) -> Result<(u64, u64), String> {
    let mut story = Story::new(seed);
    for step in 0..STEPS {
        story.step(fault).map_err(|error| format!("seed {seed}, step {step}: {error}"))?;
    }
    let counters = story.world.counters();
    Ok((counters.publishes_sent, counters.denied_deliveries + counters.denied_wills))
}

#[test]
fn nobody_is_sent_what_it_may_not_read_whenever_the_rights_change() {
    let (mut sent, mut denied) = (0, 0);
    for seed in 0..SEEDS {
        match tell(seed, Fault::None) {
            Ok(counted) => (sent, denied) = (sent + counted.0, denied + counted.1),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(sent > 50 * SEEDS && denied > 20 * SEEDS, "{sent} were sent, {denied} were not");
}

#[test]
fn a_change_of_the_rights_that_is_forgotten_is_found() {
    assert!((0..5).all(|seed| tell(seed, Fault::ForgetChange).is_err()));
}
