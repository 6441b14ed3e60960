//! The broker, its clients, and their lives between two kills.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process,
};

use ringmq::mqtt::{Packet, QoS, Version};
use rustix::event::{Timespec, poll};

use crate::{
    actor::{Actor, PATIENCE, Role},
    broker::Broker,
    client::{Client, subscribe},
    ledger::Ledger,
    random::Random,
    roles::{Content, Leaver, Publisher, Receiver},
};

pub(crate) struct World {
    folder: PathBuf,
    random: Random,
    broker: Option<Broker>,
    actors: Vec<Actor>,
    ledger: Ledger,
    bytes: usize,
}

impl World {
    pub(crate) fn begin(seed: u64) -> World {
        let name = format!("crash-{}-{seed}", process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let mut ledger = Ledger::default();
        let actors = cast(&mut ledger);
        let random = Random::new(seed, 0);
        let mut world = World { folder, random, broker: None, actors, ledger, bytes: 0 };
        world.start();
        world.open_all();
        world.go_on_until(true, |world| world.actors.iter().all(Actor::is_idle));
        world
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn findings(&self) -> &[String] {
        &self.ledger.findings
    }

    pub(crate) fn sum(&self) -> String {
        let Ledger { acknowledgements, messages, .. } = &self.ledger;
        format!("{acknowledgements} acknowledgements, {messages} of them of messages and deletions")
    }

    /// Lives until a random number of acknowledgements or bytes has come, and starts again.
    pub(crate) fn live_and_die(&mut self) {
        let acknowledgements = self.ledger.acknowledgements + self.random.below(600) as u64;
        let bytes = self.bytes + self.random.below(200_000);
        self.go_on_until(false, |world| {
            world.ledger.acknowledgements > acknowledgements || world.bytes > bytes
        });
        self.kill();
        while self.random.chance(15) {
            self.start_and_kill();
        }
        self.start();
        self.check_retained();
        let port = self.port();
        for actor in &mut self.actors {
            if !actor.is_lazy || self.random.chance(50) {
                actor.open(port, &mut self.random);
            }
        }
    }

    /// All that is owed comes, and nothing else.
    pub(crate) fn audit(&mut self) {
        self.open_all();
        self.go_on_until(true, |world| {
            world.ledger.owed == 0 && world.actors.iter().all(Actor::is_idle)
        });
        if self.ledger.owed > 0 {
            self.ledger.find_lost();
        }
        let pongs: Vec<usize> = self.actors.iter().map(|actor| actor.pongs).collect();
        self.actors.iter_mut().for_each(Actor::ping);
        self.go_on_until(true, |world| {
            let mut actors = world.actors.iter().zip(&pongs);
            actors.all(|(actor, pongs)| actor.pongs > *pongs)
        });
    }

    /// Ends the broker in order. Returns its folder.
    pub(crate) fn stop(mut self) -> PathBuf {
        self.actors.iter_mut().for_each(Actor::close);
        self.broker.take().expect("it runs").stop();
        self.folder.clone()
    }

    fn port(&self) -> u16 {
        self.broker.as_ref().expect("it runs").port()
    }

    fn start(&mut self) {
        let (shards, flags) = self.flags();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        self.broker = Some(Broker::ringmq_with(shards, &flags));
    }

    /// Kills a broker that may not have read its store yet.
    fn start_and_kill(&mut self) {
        let (shards, flags) = self.flags();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let starting = Broker::ringmq_about_to_listen(shards, "127.0.0.1:0", &flags);
        for _ in 0..self.random.below(LOOKS_MAX) {
            drop(fs::read_dir(&self.folder));
        }
        drop(starting);
    }

    fn flags(&mut self) -> (usize, Vec<String>) {
        let durability = self.random.pick(&["always", "always", "interval=20", "none"]);
        let segment = self.random.pick(&["1MiB", "2MiB"]);
        let folder = self.folder.display().to_string();
        let flags = [
            ["--data-dir", &folder],
            ["--durability", durability],
            ["--store-segment-bytes", segment],
            // What is full is another test.
            ["--max-queued", "1000000"],
            ["--max-queued-bytes", "1GiB"],
            ["--log", "warn"],
        ];
        (self.random.between(1, 4), flags.concat().into_iter().map(str::to_owned).collect())
    }

    /// Also takes what the broker has sent before.
    fn kill(&mut self) {
        self.broker = None;
        for actor in &mut self.actors {
            self.bytes += actor.pump(&mut self.ledger);
            actor.close();
        }
    }

    fn open_all(&mut self) {
        let port = self.port();
        for actor in self.actors.iter_mut().filter(|actor| actor.link().is_none()) {
            actor.open(port, &mut self.random);
        }
    }

    /// Goes on until `is_enough`, or until nothing comes any more. Calm clients begin nothing.
    fn go_on_until(&mut self, calm: bool, is_enough: impl Fn(&World) -> bool) {
        let port = self.port();
        while !is_enough(self) {
            for actor in &mut self.actors {
                actor.act(calm, &mut self.random, &mut self.ledger);
            }
            if !calm && self.random.chance(1) {
                let at = self.random.below(self.actors.len());
                self.disturb(at, port);
            }
            if !self.wait() {
                return self.ledger.find("nothing comes any more");
            }
            self.take();
        }
    }

    /// A client connects again: after its connection has gone, or while it is there. Of two CONNECT
    /// packets that are under way the broker may take the later one first, so the former connection
    /// has to be in.
    fn disturb(&mut self, at: usize, port: u16) {
        let actor = &mut self.actors[at];
        if actor.is_connecting() {
            return;
        }
        if self.random.chance(40) {
            actor.close();
        }
        if !actor.is_lazy || self.random.chance(70) {
            actor.open(port, &mut self.random);
        }
    }

    /// Waits until a connection can be read or written.
    fn wait(&self) -> bool {
        let links = self.actors.iter().filter_map(Actor::link);
        let mut interests: Vec<_> = links.map(|link| link.interest()).collect();
        let patience = Timespec::try_from(PATIENCE).expect("some seconds");
        poll(&mut interests, Some(&patience)).unwrap() > 0
    }

    fn take(&mut self) {
        for actor in &mut self.actors {
            self.bytes += actor.pump(&mut self.ledger);
            if actor.close_broken() {
                self.ledger.find(format!("the broker has ended the connection of {}", actor.name));
            }
        }
    }

    /// Looks at all retained messages while nobody publishes.
    fn check_retained(&mut self) {
        let mut client = Client::connect(self.broker.as_ref().unwrap(), Version::V311, "watcher");
        client.send(&subscribe(Version::V311, "r/#", QoS::AtMostOnce));
        let mut seen = BTreeMap::new();
        for _ in 0..PINGS_MAX {
            client.send(&[0xC0, 0]);
            while client.next(|packet| note_retained(&packet, &mut seen)) != Some(true) {}
            if self.ledger.has_all_retained(&seen) {
                break;
            }
        }
        self.ledger.check_retained(&seen);
    }
}

/// True for the answer to a PINGREQ.
fn note_retained(packet: &Packet<'_>, seen: &mut BTreeMap<String, usize>) -> bool {
    if let Packet::Publish(publish) = packet {
        let value = std::str::from_utf8(publish.payload).unwrap().parse().unwrap();
        seen.insert(publish.topic.to_owned(), value);
    }
    matches!(packet, Packet::Pingresp)
}

fn cast(ledger: &mut Ledger) -> Vec<Actor> {
    let mut actors = receivers(ledger);
    actors.extend(publishers(ledger));
    for (name, version) in [("retain 1", Version::V311), ("retain 2", Version::V5)] {
        let is_first = name == "retain 1";
        let (prefix, qos) =
            if is_first { ("r/1", QoS::AtLeastOnce) } else { ("r/2", QoS::ExactlyOnce) };
        let content = Content::Retained { prefix, values: Vec::new() };
        actors.push(actor(name, version, Publisher::new(version, qos, content)));
    }
    for (name, version) in [("leaver 1", Version::V311), ("leaver 2", Version::V5)] {
        actors.push(actor(name, version, Leaver::new(version)));
    }
    actors
}

fn actor(name: &'static str, version: Version, role: impl Role + 'static) -> Actor {
    Actor::new(name, version, Box::new(role))
}

fn publishers(ledger: &mut Ledger) -> Vec<Actor> {
    let mut add = |name, version, qos, is_fleeting| {
        let publisher = ledger.add_publisher(qos);
        let content = Content::Messages { topic: name, publisher };
        let role = Publisher::new(version, qos, content);
        actor(name, version, if is_fleeting { role.fleeting() } else { role })
    };
    vec![
        add("d/0", Version::V5, QoS::AtMostOnce, true),
        add("d/1 old", Version::V311, QoS::AtLeastOnce, false),
        add("d/1 new", Version::V5, QoS::AtLeastOnce, false),
        add("d/1 fleeting", Version::V5, QoS::AtLeastOnce, true),
        add("d/2 old", Version::V311, QoS::ExactlyOnce, false),
        add("d/2 new", Version::V5, QoS::ExactlyOnce, false),
        add("d/2 fleeting", Version::V311, QoS::ExactlyOnce, true),
    ]
}

fn receivers(ledger: &mut Ledger) -> Vec<Actor> {
    let mut actors = Vec::new();
    let alone: [(&str, Version, QoS, &[&str]); 3] = [
        ("all", Version::V5, QoS::ExactlyOnce, &["d/#"]),
        ("overlapping", Version::V311, QoS::ExactlyOnce, &["d/+", "d/2 old", "d/#"]),
        ("at least once", Version::V311, QoS::AtLeastOnce, &["d/+"]),
    ];
    for (name, version, qos, filters) in alone {
        let entry = ledger.add_receiver(name, qos, false);
        actors.push(actor(name, version, Receiver::new(version, entry, qos, filters)).lazy());
    }
    let group = ledger.add_receiver("group", QoS::ExactlyOnce, true);
    for name in ["member 1", "member 2", "member 3"] {
        let version = if name == "member 1" { Version::V311 } else { Version::V5 };
        let role = Receiver::new(version, group, QoS::ExactlyOnce, &["$share/group/d/#"]);
        actors.push(actor(name, version, role).lazy());
    }
    actors
}

/// How often the folder is looked at, at most, before a starting broker is killed.
const LOOKS_MAX: usize = 4_000;
/// Round trips after which no retained message comes any more.
const PINGS_MAX: usize = 200;
