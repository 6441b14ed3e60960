//! What attackers do, within the default limits. Each attack goes on until it is over; the broker
//! may refuse or cut its clients at any time.

use std::{io, net::Shutdown, num::NonZeroU16, thread, time::Duration};

use ringmq::mqtt::{
    Ack, Connect, Delivery, Packet, PacketId, QoS, Subscribe, SubscribeFilters,
    SubscriptionOptions, UserProperties, Version, Will, WillProperties,
};

use crate::{
    client::encode,
    link::{AWAY, Link, Target},
    publish,
};

const V5: Version = Version::V5;

/// An attack, and the flags of the broker that is attacked.
#[derive(Debug)]
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) flags: &'static [&'static str],
    /// Whether the broker knows users, and a password is asked for.
    pub(crate) has_users: bool,
    pub(crate) act: fn(&Target) -> io::Result<()>,
}

const fn attack(name: &'static str, act: fn(&Target) -> io::Result<()>) -> Attack {
    Attack { name, flags: &[], has_users: false, act }
}

/// A small pool, so that it is full soon.
const fn with_flags(
    name: &'static str,
    flags: &'static [&'static str],
    act: fn(&Target) -> io::Result<()>,
) -> Attack {
    Attack { name, flags, has_users: false, act }
}

const fn against_users(name: &'static str, act: fn(&Target) -> io::Result<()>) -> Attack {
    Attack { name, flags: &[], has_users: true, act }
}

const SESSIONS_2000: &[&str] = &["--max-sessions", "2000", "--max-connections", "1000"];

pub(crate) const ATTACKS: &[Attack] = &[
    attack("none, for comparison", |_| Ok(())),
    attack("members of 100,000 share groups leave", leave_groups),
    attack("a PUBLISH to 500,000 share groups", publish_to_groups),
    attack("65,536 filters of `a` and `+`", bomb_of_filters),
    attack("replays of 300,000 retained messages", scan_retained),
    attack("subscribers of `#` that read slowly", read_slowly),
    attack("20,000 Wills of 60 KB that wait for ever", leave_wills),
    attack("queues of 2,000 absent sessions", fill_absent_queues),
    attack("1,500 subscribers at QoS 0 that never read", never_read),
    attack("2,750 unfinished CONNECT packets", leave_connects_unfinished),
    with_flags("--max-sessions 2000, all taken", SESSIONS_2000, take_sessions),
    with_flags(
        "--max-connections 1000, all taken",
        &["--max-connections", "1000"],
        take_connections,
    ),
    against_users("200 logins of 100,000 rounds at a time", check_passwords),
    against_users("guesses of passwords", guess_passwords),
];

/// Fewer of them for a broker that was built without optimization.
const fn sized(count: usize) -> usize {
    if cfg!(debug_assertions) { count / 10 } else { count }
}

/// Does something again and again until the attack is over, and says how it went the last time. An
/// attacker that was refused or cut comes again.
fn again(target: &Target, mut act: impl FnMut(usize) -> io::Result<()>) -> io::Result<()> {
    let mut last = Ok(());
    let mut n = 0;
    while !target.is_over() {
        last = act(n);
        if last.is_err() {
            target.pause(Duration::from_millis(5));
        }
        n += 1;
    }
    last
}

/// Keeps what was made until the attack is over.
fn hold<T>(target: &Target, made: T) {
    target.pause(Duration::from_mins(10));
    drop(made);
}

/// Runs these at the same time.
fn at_once(count: usize, act: impl Fn(usize) -> io::Result<()> + Sync) -> io::Result<()> {
    thread::scope(|scope| {
        let act = &act;
        let threads: Vec<_> = (0..count).map(|n| scope.spawn(move || act(n))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("it only tries"))
    })
}

/// Subscribes to all of them, a thousand in a packet.
fn subscribe_all(link: &mut Link, filters: &[String], qos: QoS) -> io::Result<()> {
    let options = SubscriptionOptions::with_qos(qos);
    for filters in filters.chunks(1000) {
        let filters: Vec<_> = filters.iter().map(|filter| (filter.as_str(), options)).collect();
        let subscribe = Subscribe {
            packet_id: PacketId::MIN,
            subscription_identifier: None,
            user_properties: UserProperties::default(),
            filters: SubscribeFilters::List(&filters),
        };
        link.send(&encode(&Packet::Subscribe(subscribe), V5))?;
        while !link.next(|packet| matches!(packet, Packet::Suback(_)))? {}
    }
    Ok(())
}

fn message(topic: &str, payload: &[u8]) -> Vec<u8> {
    encode(&Packet::Publish(publish(topic, Delivery::AtMostOnce, payload)), V5)
}

/// A client with many share groups of one Topic Filter.
fn member_of_many(target: &Target, client_id: &str) -> io::Result<Link> {
    let mut link = Link::attacker(target, client_id)?;
    let groups: Vec<_> =
        (0..sized(100_000)).map(|n| format!("$share/{client_id}-{n}/groups")).collect();
    subscribe_all(&mut link, &groups, QoS::AtMostOnce)?;
    Ok(link)
}

fn leave_groups(target: &Target) -> io::Result<()> {
    at_once(3, |n| again(target, |_| member_of_many(target, &format!("member{n}")).map(drop)))
}

fn publish_to_groups(target: &Target) -> io::Result<()> {
    let members: Vec<_> = (0..5).map(|n| member_of_many(target, &format!("member{n}"))).collect();
    let mut writer = Link::attacker(target, "writer")?;
    again(target, |_| {
        writer.send(&message("groups", b"ten bytes!"))?;
        writer.settle()
    })?;
    hold(target, members);
    Ok(())
}

/// Each publication is to another topic, so that no result of an earlier walk helps.
fn bomb_of_filters(target: &Target) -> io::Result<()> {
    const LEVELS: u32 = 16;
    let filter = |bits: usize| {
        let level = |level| if bits >> level & 1 == 0 { "a/" } else { "+/" };
        (0..LEVELS).map(level).collect::<String>() + "end"
    };
    let filters: Vec<_> = (0..sized(1 << LEVELS)).map(filter).collect();
    let mut reader = Link::attacker(target, "reader")?;
    // What is refused does not count; what was granted stands.
    drop(subscribe_all(&mut reader, &filters, QoS::AtMostOnce));
    let levels = "a/".repeat(LEVELS as usize);
    at_once(4, |writer| {
        let mut link = Link::attacker(target, &format!("writer{writer}"))?;
        again(target, |n| {
            let topics = (0..100).map(|m| message(&format!("{levels}{writer}-{n}-{m}"), b"x"));
            link.send(&topics.collect::<Vec<_>>().concat())
        })
    })?;
    hold(target, reader);
    Ok(())
}

fn scan_retained(target: &Target) -> io::Result<()> {
    let mut writer = Link::attacker(target, "writer")?;
    for n in 0..sized(300_000) {
        let delivery = Delivery::AtMostOnce;
        let topic = format!("stored/{}/{n}", n % 100);
        let kept = ringmq::mqtt::Publish { retain: true, ..publish(&topic, delivery, b"kept") };
        writer.send(&encode(&Packet::Publish(kept), V5))?;
    }
    writer.settle()?;
    at_once(4, |n| {
        let mut reader = Link::attacker(target, &format!("reader{n}"))?;
        again(target, |round| {
            let filters: Vec<_> = (0..1000).map(|m| format!("+/+/none-{round}-{m}")).collect();
            subscribe_all(&mut reader, &filters, QoS::AtMostOnce)
        })
    })
}

/// Their queues are filled by publishers of their own, and they take one message now and then: so
/// they want what innocent clients publish, and cannot keep up.
fn read_slowly(target: &Target) -> io::Result<()> {
    at_once(20, |n| {
        let client_id = format!("slow{n}");
        let mut connect = Connect::new(V5, &client_id);
        connect.properties.receive_maximum = NonZeroU16::new(1);
        let mut reader = Link::join(target, AWAY, &connect)?;
        subscribe_all(&mut reader, &["#".to_owned()], QoS::AtLeastOnce)?;
        let mut writer = Link::attacker(target, &format!("filler{n}"))?;
        let delivery = Delivery::AtLeastOnce(PacketId::MIN);
        let filling = encode(&Packet::Publish(publish("filling", delivery, b"x")), V5);
        writer.send(&filling.repeat(1000))?;
        again(target, |_| {
            let packet_id = reader.next(|packet| match packet {
                Packet::Publish(publish) => publish.delivery.packet_id(),
                _ => None,
            })?;
            target.pause(Duration::from_millis(20));
            packet_id.map_or(Ok(()), |packet_id| {
                reader.send(&encode(&Packet::Puback(Ack::success(packet_id)), V5))
            })
        })
    })
}

fn leave_wills(target: &Target) -> io::Result<()> {
    let payload = vec![b'w'; 60_000];
    at_once(4, |thread| {
        for n in 0..sized(20_000) / 4 {
            if target.is_over() {
                break;
            }
            let client_id = format!("dead{thread}-{n}");
            let mut connect = Connect::new(V5, &client_id);
            connect.properties.session_expiry_interval = Some(u32::MAX);
            let properties =
                WillProperties { will_delay_interval: u32::MAX, ..WillProperties::default() };
            let qos = QoS::AtMostOnce;
            connect.will =
                Some(Will { qos, retain: false, topic: "will", payload: &payload, properties });
            if let Ok(link) = Link::join(target, AWAY, &connect) {
                drop(link.stream.shutdown(Shutdown::Both));
            }
        }
        hold(target, ());
        Ok(())
    })
}

/// Leaves a session that lasts, with this subscription.
fn leave_session(target: &Target, client_id: &str, filter: Option<&str>) -> io::Result<()> {
    let mut connect = Connect::new(V5, client_id);
    connect.properties.session_expiry_interval = Some(u32::MAX);
    let mut link = Link::join(target, AWAY, &connect)?;
    filter.map_or(Ok(()), |filter| subscribe_all(&mut link, &[filter.to_owned()], QoS::AtLeastOnce))
}

fn fill_absent_queues(target: &Target) -> io::Result<()> {
    let sessions = sized(2_000);
    for n in 0..sessions {
        drop(leave_session(target, &format!("absent{n}"), Some(&format!("absent/{n}"))));
    }
    at_once(4, |thread| {
        let mut writer = Link::attacker(target, &format!("writer{thread}"))?;
        again(target, |n| {
            let delivery = Delivery::AtLeastOnce(PacketId::MIN);
            let topic = format!("absent/{}", (n * 4 + thread) % sessions);
            let burst = publish(&topic, delivery, &[b'q'; 4_000]);
            writer.send(&encode(&Packet::Publish(burst), V5).repeat(16))?;
            writer.settle()
        })
    })
}

fn never_read(target: &Target) -> io::Result<()> {
    let mut readers = Vec::new();
    for n in 0..sized(1_500) {
        let Ok(mut reader) = Link::attacker(target, &format!("deaf{n}")) else { continue };
        drop(subscribe_all(&mut reader, &["deaf/#".to_owned()], QoS::AtMostOnce));
        readers.push(reader);
    }
    at_once(2, |thread| {
        let mut writer = Link::attacker(target, &format!("writer{thread}"))?;
        again(target, |n| {
            writer.send(&message(&format!("deaf/{n}"), &[b'd'; 16_000]))?;
            writer.settle()
        })
    })?;
    hold(target, readers);
    Ok(())
}

/// Each sends all but the end of a CONNECT with a large Will.
fn leave_connects_unfinished(target: &Target) -> io::Result<()> {
    let payload = vec![b'w'; 60_000];
    let mut connect = Connect::new(V5, "unfinished");
    connect.will = Some(Will {
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "will",
        payload: &payload,
        properties: WillProperties::default(),
    });
    connect.password = Some(&payload);
    let bytes = encode(&Packet::Connect(connect), V5);
    let mut links = Vec::new();
    again(target, |n| {
        let mut link = Link::open(target, AWAY)?;
        link.send(&bytes[..bytes.len() - 1])?;
        links.truncate(sized(2_750));
        links.push(link);
        target.pause(Duration::from_micros(if n < sized(2_750) { 0 } else { 1_000 }));
        Ok(())
    })
}

fn take_sessions(target: &Target) -> io::Result<()> {
    again(target, |n| leave_session(target, &format!("absent{n}"), None))
}

fn take_connections(target: &Target) -> io::Result<()> {
    let mut links = Vec::new();
    again(target, |n| {
        target.pause(Duration::from_micros(if n < 2_000 { 0 } else { 1_000 }));
        let link = Link::attacker(target, &format!("taken{n}"))?;
        links.push(link);
        Ok(())
    })
}

/// The user whose password takes long to check.
pub(crate) const DEAR: &str = "dear";

fn log_in(target: &Target, client_id: &str, user_name: &str, password: &str) -> io::Result<()> {
    let mut connect = Connect::new(V5, client_id);
    connect.user_name = Some(user_name);
    connect.password = Some(password.as_bytes());
    Link::join(target, AWAY, &connect).map(drop)
}

/// Does not wait for the answers.
fn check_passwords(target: &Target) -> io::Result<()> {
    let mut connect = Connect::new(V5, "checked");
    connect.user_name = Some(DEAR);
    connect.password = Some(b"wrong");
    let bytes = encode(&Packet::Connect(connect), V5);
    at_once(4, |_| {
        again(target, |_| {
            let mut links = Vec::new();
            for _ in 0..50 {
                let mut link = Link::open(target, AWAY)?;
                link.send(&bytes)?;
                links.push(link);
            }
            target.pause(Duration::from_millis(500));
            Ok(())
        })
    })
}

fn guess_passwords(target: &Target) -> io::Result<()> {
    at_once(16, |thread| {
        again(target, |n| {
            let client_id = format!("guess{thread}");
            log_in(target, &client_id, "innocent", &format!("guess {n}"))
        })
    })
}
