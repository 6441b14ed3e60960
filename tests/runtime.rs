//! The runtime with a toy brain, over real sockets.

mod runtime_toy;

use std::{
    io::{ErrorKind, Read, Write},
    iter,
    net::Shutdown,
    thread,
    time::Duration,
};

use ringmq::{
    base::time::Span,
    runtime::{HangUps, RuntimeConfig},
};
use runtime_toy::{Client, config, start};
use signal_hook::{consts::SIGTERM, low_level};

/// [MQTT-4.2-1] [MQTT-7.1.1-1@3.1.1]
#[test]
fn a_line_is_echoed_however_it_is_split() {
    for shards in [1, 2] {
        let broker = start(config(shards));
        let mut client = broker.connect();
        assert_eq!(client.ask("hello"), "hello");
        for byte in b"split\nlines\n" {
            client.say([*byte]);
        }
        assert_eq!(client.line(), "split");
        assert_eq!(client.line(), "lines");
        broker.stop().unwrap();
    }
}

#[test]
fn a_thousand_clients_are_served_at_once() {
    let broker = start(config(2));
    let mut clients: Vec<Client> = (0..1_000).map(|_| broker.connect()).collect();
    for round in 0..3 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.say(format!("{round} {number}\n"));
        }
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.line(), format!("{round} {number}"));
        }
    }
}

/// [MQTT-4.2-1] [MQTT-7.1.1-1@3.1.1]
#[test]
fn large_payloads_arrive_whole_both_ways() {
    let broker = start(config(1));
    let mut client = broker.connect();
    client.say("!give 3000000\n");
    let given = client.read(3_000_000);
    assert!(given.iter().copied().eq((0..=250).cycle().take(given.len())));

    let mut line = vec![b'y'; 1_000_000];
    line.push(b'\n');
    client.say(&line);
    assert_eq!(client.read(line.len()), line);
}

#[test]
fn a_slow_reader_gets_everything_and_slows_nobody() {
    let broker = start(config(1));
    let mut slow = broker.connect();
    slow.say("!fill 20000\n");
    let mut quick = broker.connect();
    for round in 0..200 {
        assert_eq!(quick.ask(&format!("{round}")), format!("{round}"));
    }
    assert!(slow.read(20_000_000).iter().all(|&byte| byte == b'x'));
    assert_eq!(slow.ask("after"), "after");
}

#[test]
fn a_client_that_does_not_read_its_answers_is_not_read_from() {
    let broker = start(config(1));
    let mut deaf = broker.connect();
    deaf.socket.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let line = [b"z".repeat(999), b"\n".to_vec()].concat();
    let mut written = 0;
    // The broker stops reading when its outbox is full, and then the socket takes no more.
    while let Ok(count) = deaf.socket.write(&line[written % 1_000..]) {
        written += count;
        assert!(written < 200 << 20, "the broker would read for ever");
    }
    let whole = written / 1_000;
    assert!(deaf.read(whole * 1_000).chunks(1_000).all(|echo| echo == line));
    deaf.say(&line[written % 1_000..]);
    assert_eq!(deaf.read(1_000), line);
    assert_eq!(deaf.ask("better"), "better");
}

#[test]
fn a_pause_loses_nothing() {
    let broker = start(config(1));
    let mut client = broker.connect();
    for round in 0..5 {
        client.say("before\n!pause\nduring\n");
        client.say(format!("later {round}\n"));
        assert_eq!(client.line(), "before");
        assert_eq!(client.line(), "during");
        assert_eq!(client.line(), format!("later {round}"));
    }
    client.say("!pause\nlast\n");
    client.socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.line(), "last");
    assert_eq!(client.line(), "");
}

/// A client that closes with answers unread resets its connection.
#[test]
fn a_reset_does_not_overtake_what_came_before_it() {
    let broker = start(config(1));
    let mut witness = broker.connect();
    for round in 1..=20 {
        let mut client = broker.connect();
        client.say("!give 1000\n!pause\n!note\n");
        // An answer has come, and is not read.
        assert_eq!(client.socket.peek(&mut [0; 1]).unwrap(), 1);
        drop(client);
        let noted = format!("noted {round}");
        let is_noted = (0..500).any(|_| {
            thread::park_timeout(Duration::from_millis(2));
            witness.ask("!noted") == noted
        });
        assert!(is_noted, "the note of round {round} is lost");
    }
}

#[test]
fn a_half_closed_client_gets_what_it_is_owed() {
    let broker = start(config(1));
    let mut client = broker.connect();
    client.say("!fill 3000\none\nhalf a line");
    client.socket.shutdown(Shutdown::Write).unwrap();
    // The brain closes with a flush at the end of the bytes: what it had queued arrives.
    let mut received = Vec::new();
    client.socket.read_to_end(&mut received).unwrap();
    assert!(received.len() >= 256_000);
}

#[test]
fn a_farewell_arrives_although_the_client_goes_on_talking() {
    let broker = start(config(1));
    for _ in 0..200 {
        let mut client = broker.connect();
        client.say("!bye\n");
        for _ in 0..20 {
            // The broker may have closed by now.
            drop(client.socket.write(&[b'n'; 500]));
        }
        assert_eq!(client.line(), "bye");
    }
}

#[test]
fn an_aborted_connection_ends_at_once() {
    let broker = start(config(1));
    let mut client = broker.connect();
    assert_eq!(client.ask("here"), "here");
    client.say("!abort\n");
    assert_eq!(client.socket.read(&mut [0; 8]).unwrap_or(0), 0);
}

#[test]
fn a_connection_moves_home_with_its_bytes() {
    let broker = start(config(2));
    for round in 0..200 {
        let home = round % 2;
        let mut client = broker.connect();
        client.say(format!("!home {home}\nfirst\nsec"));
        client.say("ond\n");
        assert_eq!(client.line(), format!("!home {home}"));
        assert_eq!(client.line(), "first");
        assert_eq!(client.line(), "second");
        // A connection that has settled moves, too.
        assert_eq!(client.ask(&format!("!home {}", 1 - home)), format!("!home {}", 1 - home));
        assert_eq!(client.ask("there"), "there");
    }
}

#[test]
fn letters_go_to_another_shard_and_back() {
    let broker = start(config(2));
    let mut clients: Vec<Client> = (0..50).map(|_| broker.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        // Whoever is at home at one shard asks the other.
        let home = number % 2;
        client.say(format!("!home {home}\n"));
        assert_eq!(client.line(), format!("!home {home}"));
    }
    for _ in 0..20 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.say(format!("!relay {}\n", 1 - number % 2));
        }
        for client in &mut clients {
            assert_eq!(client.line(), "relayed");
        }
    }
    // One at a time, both shards fall asleep in between.
    for (number, client) in clients.iter_mut().enumerate() {
        thread::park_timeout(Duration::from_millis(5));
        assert_eq!(client.ask(&format!("!relay {}", 1 - number % 2)), "relayed");
    }
}

#[test]
fn a_verdict_comes_back_to_its_connection() {
    let broker = start(config(2));
    let mut clients: Vec<Client> = (0..50).map(|_| broker.connect()).collect();
    for client in &mut clients {
        client.say("!verify\nnext\n");
    }
    for client in &mut clients {
        assert_eq!(client.line(), "passed");
        assert_eq!(client.line(), "next");
    }
}

#[test]
fn connections_beyond_the_limit_are_closed_and_counted() {
    let broker = start(RuntimeConfig { connections_max: 3, ..config(1) });
    let mut clients: Vec<Client> = (0..3).map(|_| broker.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.ask("in"), "in");
    }
    let mut refused = broker.connect();
    assert_eq!(refused.socket.read(&mut [0; 8]).unwrap_or(0), 0);
    assert_eq!(clients[0].ask("!tell"), "finished 0 broken 0 refused 1");
}

#[test]
fn incomplete_packets_have_a_budget() {
    let limited = RuntimeConfig { partial_bytes_max: 100_000, ..config(1) };
    let broker = start(limited);
    let mut modest = broker.connect();
    modest.say([b'm'; 10_000]);
    let mut greedy = broker.connect();
    // The broker may have ended the connection before all is written.
    drop(greedy.socket.write_all(&vec![b'g'; 200_000]));
    assert_eq!(greedy.socket.read(&mut [0; 8]).unwrap_or(0), 0);
    modest.say("\n");
    assert_eq!(modest.read(10_001).len(), 10_001);
    assert_eq!(modest.ask("!tell"), "finished 0 broken 1 refused 0");
}

#[test]
fn a_packet_that_does_not_come_along_ends_its_connection() {
    let hasty = RuntimeConfig { packet_timeout: Span::from_millis(100), ..config(1) };
    let broker = start(hasty);
    let mut idle = broker.connect();
    assert_eq!(idle.ask("whole"), "whole");
    let mut stuck = broker.connect();
    stuck.say("\n half a line");
    assert_eq!(stuck.line(), "");
    assert_eq!(stuck.line(), "", "closed");
    assert_eq!(idle.ask("idle"), "idle");
    let mut large = broker.connect();
    large.say(&block(600_000)[..100_000]);
    assert_eq!(large.line(), "");
    assert_eq!(idle.ask("!tell"), "finished 0 broken 2 refused 0");
}

/// Its neighbour has as much waiting for it, and reads a little now and then.
#[test]
fn a_client_that_reads_nothing_of_what_waits_is_ended() {
    let hasty = RuntimeConfig { stalled_timeout: Span::from_millis(400), ..config(1) };
    let broker = start(hasty);
    let mut idle = broker.connect();
    assert_eq!(idle.ask("idle"), "idle");
    let [mut deaf, mut slow] = [broker.connect(), broker.connect()];
    deaf.say("!give 50000000\n");
    slow.say("!give 50000000\n");
    let mut left = 50_000_000;
    while !idle.ask("!tell").starts_with("finished 0 broken 1 ") {
        left -= slow.read(200_000.min(left)).len();
        assert!(left > 0, "the deaf client is still there");
        thread::park_timeout(Duration::from_millis(20));
    }
    assert_eq!(slow.read(left).len(), left);
    assert_eq!(slow.ask("after"), "after");
}

#[test]
fn a_stop_flushes_what_is_owed() {
    let broker = start(config(2));
    let mut clients: Vec<Client> = (0..20).map(|_| broker.connect()).collect();
    for client in &mut clients {
        client.say("!give 200000\nend\n");
    }
    for client in &mut clients {
        client.read(1);
    }
    let readers: Vec<_> = clients
        .into_iter()
        .map(|mut client| thread::spawn(move || client.read(200_003).len()))
        .collect();
    broker.stop().unwrap();
    for reader in readers {
        assert_eq!(reader.join().unwrap(), 200_003);
    }
}

/// The other brokers of this process do not listen to signals.
#[test]
fn a_signal_stops_the_broker_in_order() {
    let broker = start(RuntimeConfig { signals: Some(HangUps::catch().unwrap()), ..config(2) });
    let mut client = broker.connect();
    client.say("!give 1000\n");
    assert_eq!(client.read(1).len(), 1);
    low_level::raise(SIGTERM).unwrap();
    assert_eq!(client.read(999).len(), 999);
    assert_eq!(client.line(), "");
    drop(client);
    broker.wait().unwrap();
}

#[test]
fn a_pause_that_ends_at_once_loses_nothing() {
    let broker = start(config(1));
    let mut client = broker.connect();
    assert_eq!(client.ask("settle"), "settle");
    client.say("!blink\nnext\n");
    assert_eq!(client.line(), "next");
}

/// Every line pauses the client for a while, and it never stops sending.
#[test]
fn a_client_that_is_paused_again_and_again_is_pushed_back() {
    let broker = start(RuntimeConfig { partial_bytes_max: 4 << 20, ..config(1) });
    let mut client = broker.connect();
    assert_eq!(client.ask("settle"), "settle");
    client.socket.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let block = b"!pause\n".repeat(10_000);
    let (mut written, mut pushed_back) = (0, 0);
    while pushed_back < 5 {
        match client.socket.write(&block[written % 7..]) {
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => pushed_back += 1,
            Err(error) => panic!("closed after {written} bytes: {error}"),
        }
    }
    assert_eq!(broker.connect().ask("!tell"), "finished 0 broken 0 refused 0");
}

#[test]
fn a_stop_does_not_wait_for_those_who_do_not_read() {
    let hasty = RuntimeConfig { flush_time_max: Span::from_millis(200), ..config(1) };
    let broker = start(hasty);
    let mut deaf = broker.connect();
    deaf.say("!give 50000000\n");
    deaf.read(1);
    broker.stop().unwrap();
}

/// A block of `size` bytes, with the line that announces it.
fn block(size: usize) -> Vec<u8> {
    let mut block = format!("!block {size}\n").into_bytes();
    block.extend((0..=250).cycle().take(size));
    block
}

/// Whether the answer to `block` comes next.
fn echoes(client: &mut Client, block: &[u8]) -> bool {
    let head = 1 + block.iter().position(|&byte| byte == b'\n').expect("a line");
    client.read(block.len() - head) == block[head..]
}

#[test]
fn large_blocks_come_whole_and_in_order_however_they_are_split() {
    let broker = start(config(1));
    let mut client = broker.connect();
    let blocks = [32 << 10, 100_000, 1 << 20, 40_000, 5 << 20, 70_000].map(block);
    for part in [1, 5_000, 65_536, 10_000_000] {
        let mut writer = client.socket.try_clone().unwrap();
        let mut all = Vec::new();
        for block in &blocks {
            all.extend_from_slice(block);
            all.extend_from_slice(b"between\n");
        }
        let writing = thread::spawn(move || {
            let (first, rest) = all.split_at(20_000);
            // The first bytes one by one, or nearly so.
            first.chunks(part.min(7)).chain(rest.chunks(part.max(4_000))).for_each(|part| {
                writer.write_all(part).expect("the broker reads");
            });
        });
        for block in &blocks {
            assert!(echoes(&mut client, block));
            assert_eq!(client.line(), "between");
        }
        writing.join().unwrap();
    }
}

#[test]
fn a_large_block_follows_its_connection_home() {
    let broker = start(config(2));
    let block = block(300_000);
    for home in [0, 1, 0, 1] {
        let mut client = broker.connect();
        client.say([format!("!home {home}\n").as_bytes(), &block].concat());
        assert_eq!(client.line(), format!("!home {home}"));
        assert!(echoes(&mut client, &block));
        client.say([&block[..], format!("!home {}\n", 1 - home).as_bytes(), &block].concat());
        assert!(echoes(&mut client, &block));
        assert_eq!(client.line(), format!("!home {}", 1 - home));
        assert!(echoes(&mut client, &block));
    }
}

#[test]
fn a_pause_in_the_middle_of_a_large_block_loses_nothing() {
    let broker = start(config(1));
    let (mut client, mut clock) = (broker.connect(), broker.connect());
    let block = block(500_000);
    let (half, rest) = block.split_at(200_000);
    for _ in 0..5 {
        client.say([b"!nap\n", half].concat());
        // It is answered when 20 ms have passed: the nap has begun, and may have ended.
        clock.say("!pause\nnow\n");
        assert_eq!(clock.line(), "now");
        client.say(rest);
        assert!(echoes(&mut client, &block));
        client.say([b"!pause\n", &block[..]].concat());
        assert!(echoes(&mut client, &block));
    }
    assert_eq!(client.ask("after"), "after");
}

/// Asks until what the brain tells begins like this, or does not any more.
fn await_told(client: &mut Client, told: &str, is_so: bool) {
    let mut tells = iter::repeat_with(|| client.ask("!tell").starts_with(told)).take(100_000);
    assert!(tells.any(|begins| begins == is_so), "{told}: {is_so}");
}

#[test]
fn clients_that_leave_in_the_middle_of_a_large_block_leave_nothing_behind() {
    let limited = RuntimeConfig { partial_bytes_max: 1_000_000, ..config(1) };
    let broker = start(limited);
    let block = block(600_000);
    for _ in 0..10 {
        let mut leaving = broker.connect();
        leaving.say(&block[..300_000]);
        leaving.socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(leaving.line(), "");
    }
    let mut greedy = [broker.connect(), broker.connect()];
    for client in &mut greedy {
        // The broker may have ended the connection before all is written.
        drop(client.socket.write_all(&block[..590_000]));
    }
    let mut client = broker.connect();
    await_told(&mut client, "finished 10 broken 1 ", true);
    drop(greedy);
    await_told(&mut client, "finished 10 broken 1 ", false);
    client.say(&block);
    assert!(echoes(&mut client, &block), "what the others kept is free again");
    client.say(&block[..100_000]);
    broker.stop().unwrap();
}
