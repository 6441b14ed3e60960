//! What the shards wait by: `io_uring`, or epoll where the system forbids that.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "the tests of foreign clients use the rest of it")]
mod broker;
#[path = "support/client.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod client;
#[path = "support/source.rs"]
mod source;

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Command, Output},
};

use broker::Broker;
use client::{Client, encode};
use ringmq::mqtt::{Delivery, Packet, Publish, PublishProperties, QoS, Version};

/// The flag comes before the variable with which all tests can be run by epoll.
#[test]
fn the_first_lines_say_what_the_shards_wait_by() {
    for (mode, io) in [("ring", "io_uring"), ("poll", "epoll"), ("auto", "io_uring")] {
        let mut broker = Broker::ringmq_with(1, &["--io", mode]);
        relay(&broker);
        end(&mut broker);
        assert!(broker.has_said(&format!(", by {io}")), "{mode}");
    }
}

#[test]
fn auto_serves_by_epoll_where_io_uring_is_forbidden_and_says_so() {
    let mut broker = Broker::ringmq_by(&mut without_rings(), &["--io", "auto", "--shards", "2"]);
    relay(&broker);
    end(&mut broker);
    let why = "io_uring is forbidden here (Operation not permitted): epoll is used; it costs";
    assert!(broker.has_said(why) && broker.has_said("2 shards") && broker.has_said(", by epoll"));
}

#[test]
fn auto_serves_by_epoll_where_too_little_memory_may_be_locked() {
    let mut command = Command::new("sh");
    let limited = "ulimit -l 64 && exec \"$0\" \"$@\"";
    command.args(["-c", limited, env!("CARGO_BIN_EXE_ringmq")]);
    let mut broker = Broker::ringmq_by(&mut command, &["--io", "auto", "--shards", "1"]);
    relay(&broker);
    end(&mut broker);
    assert!(broker.has_said("of locked memory (`ulimit -l`), and 65536 are allowed: epoll is"));
}

#[test]
fn without_io_uring_a_broker_that_needs_it_says_so_and_does_not_start() {
    let output = refused(&mut without_rings(), &["--io", "ring"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("io_uring is not permitted"), "{told}");
    assert!(told.contains("--io auto"), "{told}");
}

#[test]
fn flags_of_rings_that_do_nothing_with_epoll_are_told() {
    let flags = ["--io", "poll", "--ring-entries", "256", "--recv-buffers", "64"];
    let mut broker = Broker::ringmq_with(1, &flags);
    relay(&broker);
    end(&mut broker);
    assert!(broker.has_said("--ring-entries has no effect with epoll"));
    assert!(broker.has_said("--recv-buffers has no effect with epoll"));
    let mut broker = Broker::ringmq_with(1, &["--io", "poll"]);
    end(&mut broker);
    assert!(!broker.has_said("has no effect"), "nothing was given");
}

#[test]
fn an_unknown_way_is_refused() {
    let output = refused(&mut ringmq(), &["--io", "select"]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("not auto, ring or poll"), "{told}");
}

/// One client receives what another sends, small and large.
fn relay(broker: &Broker) {
    let mut subscriber = Client::connect(broker, Version::V5, "subscriber");
    subscriber.subscribe("a/+", QoS::AtMostOnce);
    let mut publisher = Client::connect(broker, Version::V5, "publisher");
    for size in [1, 100_000, 3 << 20] {
        let payload: Vec<u8> = (0..=250).cycle().take(size).collect();
        let publish = Packet::Publish(Publish {
            dup: false,
            retain: false,
            delivery: Delivery::AtMostOnce,
            topic: "a/b",
            properties: PublishProperties::default(),
            payload: &payload,
        });
        publisher.send(&encode(&publish, Version::V5));
        let same = subscriber.next(|packet| match packet {
            Packet::Publish(publish) => publish.payload == payload,
            _ => false,
        });
        assert_eq!(same, Some(true), "{size} bytes");
    }
}

/// Everything that it says has been read then.
fn end(broker: &mut Broker) {
    broker.ask_to_stop();
    broker.await_end();
}

fn ringmq() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ringmq"))
}

/// A broker that does not start.
fn refused(command: &mut Command, flags: &[&str]) -> Output {
    let output = command.args(["--listen", "127.0.0.1:0"]).args(flags).output().unwrap();
    assert!(!output.status.success());
    output
}

/// A broker for which the kernel answers `io_uring_setup` with EPERM, as in a container.
#[expect(unsafe_code, reason = "only a child process can be kept from making rings")]
fn without_rings() -> Command {
    let mut command = ringmq();
    // SAFETY: between fork and exec it makes two system calls, and allocates nothing.
    unsafe { command.pre_exec(forbid_rings) };
    command
}

/// Forbids `io_uring` for this thread and the program that it becomes.
#[expect(unsafe_code, reason = "the two calls have no safe name")]
fn forbid_rings() -> io::Result<()> {
    let setup = u32::try_from(libc::SYS_io_uring_setup).expect("system calls have small numbers");
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    // Loads the number of the system call, which is the first field of what a filter sees; skips a
    // step if it is another one; refuses; allows.
    let mut steps = [(0x20, 0, 0), (0x15, 1, setup), (0x06, 0, refuse), (0x06, 0, ALLOW)]
        .map(|(code, jf, k)| libc::sock_filter { code, jt: 0, jf, k });
    let filter = libc::sock_fprog { len: 4, filter: steps.as_mut_ptr() };
    // SAFETY: the call takes numbers only.
    let prepared = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: the kernel copies the filter, which is there until the end of this function.
    let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter) };
    if prepared == 0 && done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
