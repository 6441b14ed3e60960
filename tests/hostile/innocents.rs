//! Clients that do nothing wrong: pairs of a publisher and a subscriber, and clients that come anew
//! all the time. How long each message and each CONNACK takes them is what an attack does to them.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use ringmq::mqtt::{
    Ack, Connect, Delivery, Disconnect, Packet, PacketId, QoS, ReasonCode, Version,
};

use crate::{
    client::{encode, subscribe},
    link::{End, HOME, Link, Target, now},
    publish,
};

/// Enough for some of them to be at home on each shard.
const PAIRS: usize = 6;
const MESSAGE_EVERY: Duration = Duration::from_millis(10);
const NEWCOMER_EVERY: Duration = Duration::from_millis(20);
/// What has not come by then is lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// The user name of innocent clients, and its password.
pub(crate) type Login = Option<(&'static str, &'static str)>;

/// How long it took, in microseconds, and how often it failed.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) delays: Histogram<u64>,
    pub(crate) failures: u64,
}

impl Seen {
    fn new() -> Seen {
        let delays =
            Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are in order");
        Seen { delays, failures: 0 }
    }

    fn note(&mut self, due: Instant) {
        let micros = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.delays.saturating_record(micros);
    }

    fn add(&mut self, other: &Seen) {
        self.delays.add(&other.delays).expect("both have the same bounds");
        self.failures += other.failures;
    }

    pub(crate) fn at(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.delays.value_at_quantile(quantile))
    }
}

/// All innocent clients of one measurement.
#[derive(Debug)]
pub(crate) struct Innocents {
    end: Arc<End>,
    publishers: Vec<JoinHandle<()>>,
    subscribers: Vec<JoinHandle<Seen>>,
    newcomers: JoinHandle<Seen>,
}

/// What a pair knows of each other.
#[derive(Debug)]
struct Pair {
    topic: String,
    start: Instant,
    /// How many messages the publisher has sent; its last is in it before it ends.
    sent: AtomicU64,
    ended: AtomicBool,
}

impl Innocents {
    /// Connects them, and lets them begin.
    pub(crate) fn begin(target: &Arc<Target>, login: Login) -> io::Result<Innocents> {
        let end = Arc::new(End::default());
        let (mut publishers, mut subscribers) = (Vec::new(), Vec::new());
        for n in 0..PAIRS {
            let pair = Arc::new(Pair {
                topic: format!("innocent/{n}"),
                start: now(),
                sent: AtomicU64::new(0),
                ended: AtomicBool::new(false),
            });
            let mut reader = innocent(target, &format!("innocent reader {n}"), login)?;
            reader.send(&subscribe(Version::V5, &pair.topic, QoS::AtLeastOnce))?;
            reader.settle()?;
            reader.stream.set_read_timeout(Some(Duration::from_millis(50)))?;
            let writer = innocent(target, &format!("innocent writer {n}"), login)?;
            let (known, until) = (Arc::clone(&pair), Arc::clone(&end));
            subscribers.push(thread::spawn(move || listen(reader, &known)));
            publishers.push(thread::spawn(move || speak(writer, &pair, &until)));
        }
        let (target, until) = (Arc::clone(target), Arc::clone(&end));
        let newcomers = thread::spawn(move || come_and_go(&target, login, &until));
        Ok(Innocents { end, publishers, subscribers, newcomers })
    }

    /// Ends them. The messages of the pairs, and the newcomers.
    pub(crate) fn end(self) -> (Seen, Seen) {
        self.end.declare();
        for publisher in self.publishers {
            publisher.join().expect("it only counts");
        }
        let mut messages = Seen::new();
        for subscriber in self.subscribers {
            messages.add(&subscriber.join().expect("it only counts"));
        }
        (messages, self.newcomers.join().expect("it only counts"))
    }
}

fn innocent(target: &Target, client_id: &str, login: Login) -> io::Result<Link> {
    let mut connect = Connect::new(Version::V5, client_id);
    connect.user_name = login.map(|(user_name, _)| user_name);
    connect.password = login.map(|(_, password)| password.as_bytes());
    Link::join(target, HOME, &connect)
}

/// Publishes at QoS 1 at fixed moments, each of which is in its message. A moment that passes while
/// the publisher is held back counts from when it was due.
fn speak(mut writer: Link, pair: &Pair, end: &End) {
    let mut due = now();
    while !end.within(due.saturating_duration_since(now())) {
        let nanos = u64::try_from((due - pair.start).as_nanos()).unwrap_or(u64::MAX);
        let delivery = Delivery::AtLeastOnce(PacketId::MIN);
        let nanos = nanos.to_be_bytes();
        let message = Packet::Publish(publish(&pair.topic, delivery, &nanos));
        let sent = writer.send(&encode(&message, Version::V5));
        pair.sent.fetch_add(1, Ordering::Relaxed);
        if sent.and_then(|()| writer.next(|_| ())).is_err() {
            break;
        }
        due += MESSAGE_EVERY;
    }
    pair.ended.store(true, Ordering::Relaxed);
}

/// Reads all that is published. What is missing when the pair has ended is a failure.
fn listen(mut reader: Link, pair: &Pair) -> Seen {
    let mut seen = Seen::new();
    let mut last = now();
    loop {
        let came = reader.next(|packet| match packet {
            Packet::Publish(publish) => {
                let nanos = publish.payload.try_into().map(u64::from_be_bytes);
                publish.delivery.packet_id().zip(nanos.ok())
            }
            _ => None,
        });
        match came {
            Ok(Some((packet_id, nanos))) => {
                seen.note(pair.start + Duration::from_nanos(nanos));
                last = now();
                let ack = encode(&Packet::Puback(Ack::success(packet_id)), Version::V5);
                if reader.send(&ack).is_err() {
                    break;
                }
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
        let sent = pair.sent.load(Ordering::Relaxed);
        let ended = pair.ended.load(Ordering::Relaxed);
        if ended && (seen.delays.len() >= sent || last.elapsed() > PATIENCE) {
            break;
        }
    }
    seen.failures = pair.sent.load(Ordering::Relaxed).saturating_sub(seen.delays.len());
    seen
}

/// Connects at fixed moments.
fn come_and_go(target: &Target, login: Login, end: &End) -> Seen {
    let mut seen = Seen::new();
    let mut due = now();
    let mut n = 0;
    let disconnect = Packet::Disconnect(Disconnect::with_reason(ReasonCode::Success));
    while !end.within(due.saturating_duration_since(now())) {
        n += 1;
        match innocent(target, &format!("newcomer {n}"), login) {
            Ok(mut link) => {
                seen.note(due);
                // A broker that has cut it meanwhile needs no farewell.
                drop(link.send(&encode(&disconnect, Version::V5)));
            }
            Err(_) => seen.failures += 1,
        }
        due += NEWCOMER_EVERY;
    }
    seen
}
