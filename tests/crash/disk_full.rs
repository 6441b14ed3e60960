//! A disk without room: the system refuses what the store wants to write.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, ErrorKind, Write},
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
};

use ringmq::mqtt::{Packet, PacketId, QoS, ReasonCode, Version};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::{
    broker::Broker,
    client::{Client, connect},
    full::{come_back, message, publish, take_messages},
    http::get,
    ringmq_store,
};

/// A disk of a few MiB: a tmpfs in a place of its own, which a process keeps until the end.
struct SmallDisk {
    holder: Child,
    mounted_at: PathBuf,
}

impl SmallDisk {
    /// `None` if this machine lets ordinary users mount nothing.
    fn mount(name: &str, mebibytes: usize) -> Option<SmallDisk> {
        let mounted_at = own_folder(name);
        fs::create_dir_all(&mounted_at).unwrap();
        let mount = format!("mount -t tmpfs -o size={mebibytes}m tmpfs \"$0\"");
        let mut holder = Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c"])
            .arg(format!("{mount} && echo mounted && exec cat"))
            .arg(&mounted_at)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut line = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let disk = SmallDisk { holder, mounted_at };
        (line == "mounted\n").then_some(disk)
    }

    /// As processes see it that are outside.
    fn path(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.mounted_at.strip_prefix("/").unwrap())
    }

    /// Another program takes all that is left.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("other");
        let mut file = File::create(&path).unwrap();
        loop {
            match file.write_all(&[1; 4096]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return path,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        drop(self.holder.wait());
        drop(fs::remove_dir(&self.mounted_at));
    }
}

fn own_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", process::id()))
}

/// Publishes until the broker has no room. Returns how many messages it has taken.
fn publish_until_full(writer: &mut Client) -> usize {
    let is_taken = |writer: &mut Client| match publish(writer) {
        Some(ReasonCode::QuotaExceeded) => false,
        Some(ReasonCode::Success) => true,
        other => panic!("{other:?}"),
    };
    (0..2_000).take_while(|_| is_taken(writer)).count()
}

/// A broker with two shards, a session that waits for `t`, and a client that publishes.
fn begin(flags: &[&str]) -> (Broker, Client) {
    let broker = Broker::ringmq_with(2, flags);
    let (mut sleeper, _) = come_back(&broker);
    sleeper.subscribe("t", QoS::AtLeastOnce);
    drop(sleeper);
    let writer = Client::connect(&broker, Version::V5, "writer");
    (broker, writer)
}

/// The sleeper takes so many messages, which makes room.
fn drain(broker: &mut Broker, count: usize) {
    let (mut sleeper, present) = come_back(broker);
    assert_eq!(present, Some(true));
    take_messages(&mut sleeper, count);
    broker.await_words("the store has room again");
    // All of them have come: nothing is between them and the answer.
    sleeper.ping();
}

#[test]
fn a_full_disk_refuses_messages_and_loses_none_whoever_has_filled_it() {
    let Some(disk) = SmallDisk::mount("small-disk", 32) else {
        println!("no small disk can be mounted here: not tested");
        return;
    };
    let folder = disk.path();
    let flags = ["--data-dir", folder.to_str().unwrap(), "--store-segment-bytes", "1MiB"];
    let flags = [&flags[..], &["--max-queued", "10000", "--max-queued-bytes", "1GiB"]].concat();
    let flags = [&flags[..], &["--listen-http", "127.0.0.1:0"]].concat();
    let (mut broker, mut writer) = begin(&flags);
    let port = broker.await_port("http");
    let other = disk.fill();
    let first = publish_until_full(&mut writer);
    assert!(first < 5 * 16, "{first} messages of 64 KiB in segments that were ready");
    let said = broker.await_words("the store is full");
    assert!(said.contains("No space left on device"), "{said}");
    let metrics = get(port, "/metrics").body;
    assert!(metrics.contains("\nringmq_store_condition{condition=\"full\"} 1\n"), "{metrics}");
    // A client of 3.1.1 waits with its message.
    let mut old = Client::open(&broker, Version::V311);
    old.send(&[connect(Version::V311, "old"), message(PacketId::MAX, Version::V311)].concat());
    assert_eq!(old.next(|packet| matches!(packet, Packet::Connack(_))), Some(true));
    assert_eq!(publish(&mut writer), Some(ReasonCode::QuotaExceeded));
    fs::remove_file(other).unwrap();
    broker.await_words("the store has room again");
    assert_eq!(old.next(|packet| matches!(packet, Packet::Puback(_))), Some(true));
    // Now the store fills the disk by itself.
    let second = publish_until_full(&mut writer);
    assert!((200..500).contains(&second), "{second} messages of 64 KiB in 32 MiB");
    // A start finds no room, but segments that were ready.
    drop(broker);
    let mut broker = Broker::ringmq_with(1, &flags);
    drain(&mut broker, first + 1 + second);
    let mut writer = Client::connect(&broker, Version::V5, "writer");
    assert_eq!(publish(&mut writer), Some(ReasonCode::Success));
    broker.stop();
    assert!(ringmq_store("verify", &folder));
}

/// Twice as much comes and goes as the disk has, and more than a third of it waits at any time.
#[test]
fn a_small_disk_is_cleaned_before_it_is_full() {
    let Some(disk) = SmallDisk::mount("cleaned-disk", 32) else {
        println!("no small disk can be mounted here: not tested");
        return;
    };
    let folder = disk.path();
    let flags = ["--data-dir", folder.to_str().unwrap(), "--store-segment-bytes", "1MiB"];
    let flags = [&flags[..], &["--max-queued-bytes", "1GiB"]].concat();
    let flags = [&flags[..], &["--listen-http", "127.0.0.1:0"]].concat();
    let (mut broker, mut writer) = begin(&flags);
    let port = broker.await_port("http");
    let mut put = |count| {
        for _ in 0..count {
            assert_eq!(publish(&mut writer), Some(ReasonCode::Success));
        }
    };
    put(190);
    let (mut sleeper, _) = come_back(&broker);
    for _ in 0..80 {
        put(10);
        take_messages(&mut sleeper, 10);
    }
    let metrics = get(port, "/metrics").body;
    assert!(metrics.contains("\nringmq_store_filled_total 0\n"), "{metrics}");
    take_messages(&mut sleeper, 190);
    broker.stop();
    assert!(ringmq_store("verify", &folder));
}

/// No file may grow beyond 1 MiB, and new segments would have 2 MiB when 8 MiB count.
#[test]
fn a_limit_to_the_size_of_files_is_a_full_disk() {
    let folder = own_folder("file-size");
    let flags = ["--data-dir", folder.to_str().unwrap(), "--max-queued-bytes", "1GiB"];
    let (mut broker, mut writer) = begin(&flags);
    let limit = Rlimit { current: Some(1 << 20), ..getrlimit(Resource::Fsize) };
    let pid = Pid::from_raw(broker.pid().try_into().unwrap());
    prlimit(pid, Resource::Fsize, limit).unwrap();
    let taken = publish_until_full(&mut writer);
    assert!((100..256).contains(&taken), "{taken} messages of 64 KiB");
    let said = broker.await_words("the store is full");
    assert!(said.contains("File too large"), "{said}");
    drain(&mut broker, taken);
    assert_eq!(publish(&mut writer), Some(ReasonCode::Success));
    broker.stop();
    assert!(ringmq_store("verify", &folder));
    fs::remove_dir_all(folder).unwrap();
}
