//! Whole command lines, and what they come to.

use std::{iter, num::NonZeroU16};

use clap::error::ErrorKind;

use super::*;
use crate::{
    base::rate::Rate,
    mqtt::QoS,
    routing::Strategy,
    shard::rules::WhenQueueFull,
    transport::{Proxies, websocket::HandshakePolicy},
};

/// A process that may use these CPUs only.
const AVAILABLE: &str = "0-3,6";

fn config(arguments: &str) -> Result<Config, Contradiction> {
    Config::new(flags(arguments), &AVAILABLE.parse().expect("a list of CPUs"))
}

pub(super) fn flags(arguments: &str) -> Flags {
    let matches = command_line().try_get_matches_from(words(arguments));
    let matches = matches.expect("each flag by itself is in range");
    Source::new(&matches, iter::empty()).read().expect("there is no file")
}

fn words(arguments: &str) -> impl Iterator<Item = &str> {
    ["ringmq"].into_iter().chain(arguments.split_whitespace())
}

pub(super) fn accepted(arguments: &str) -> Config {
    config(arguments).expect("the flags go together")
}

pub(super) fn contradiction(arguments: &str) -> Contradiction {
    config(arguments).expect_err(arguments)
}

fn clap_error(arguments: &str) -> clap::Error {
    command_line().try_get_matches_from(words(arguments)).expect_err(arguments)
}

#[test]
fn without_flags_the_broker_serves_this_machine_with_all_its_cpus() {
    let config = accepted("");
    assert_eq!(config.listeners, [Listener::tcp("127.0.0.1:1883".parse().unwrap())]);
    assert_eq!(config.shard_cpus, [0, 1, 2, 3, 6]);
    assert_eq!(config.shards(), 5);
    assert_eq!(config.limits.connect_timeout, Span::from_secs(10));
    assert_eq!(config.stop_timeout, Span::from_secs(5));
    assert_eq!(config.busy_poll, Span::ZERO);
    assert_eq!((config.connections_max, config.limits.sessions_max), (100_000, 1_000_000));
    assert_eq!(config.limits.packet_size_max, 8 << 20);
    assert_eq!((config.limits.inflight_max, config.limits.receive_maximum), (64, 1024));
    assert_eq!(
        (config.limits.queue.messages_max, config.limits.queue.bytes_max),
        (10_000, 16 << 20)
    );
    assert_eq!(config.limits.outbox_bytes_max, 1 << 20);
    assert_eq!(config.limits.session_expiry_max, 7 * 24 * 3600);
    assert_eq!(config.limits.patience, Span::from_millis(500));
    assert_eq!((config.password_file, config.scram_file), (None, None));
    assert_eq!(config.share_strategies.default, Strategy::RoundRobin);
    assert!(config.share_strategies.named.is_empty());
    assert_eq!(config.anonymous, Anonymous::OnLoopback);
    assert_eq!((config.offer, config.referral), (Offer::default(), Referral::Nowhere));
    assert_eq!((config.receive_buffers, config.receive_buffer_bytes), (256, 16 << 10));
    assert_eq!((config.io, config.ring_entries), (IoChoice::Auto, 1024));
    assert_eq!(config.sys_interval, Some(Span::from_secs(10)));
    assert_eq!(config.log_filter, "info");
}

#[test]
fn one_default_follows_the_other() {
    let queue = |arguments| accepted(arguments).limits.queue.bytes_max;
    assert_eq!(queue("--max-packet-size 256MiB"), 256 << 20);
    assert_eq!(queue("--max-packet-size 1MiB"), 16 << 20);
    let listeners = accepted("--listen-websocket 0").listeners;
    let at = "127.0.0.1:0".parse().unwrap();
    assert_eq!(listeners, [Listener::websocket(at, HandshakePolicy::default())]);
}

#[test]
fn networks_may_be_exempt() {
    let exempt = [("10.0.0.0", Some(8)), ("::1", None)]
        .map(|(ip, prefix)| Network::new(ip.parse().unwrap(), prefix).unwrap());
    assert_eq!(accepted("--exempt-address 10.0.0.0/8 --exempt-address ::1").exempt, exempt);
    assert!(accepted("").exempt.is_empty());
}

#[test]
fn rights_come_from_a_file() {
    let config = accepted("--acl-file rights --acl-subscribe silent");
    assert_eq!((config.acl_file, config.grants_unreadable), (Some("rights".into()), true));
    let config = accepted("");
    assert_eq!((config.acl_file, config.grants_unreadable), (None, false));
    assert!(!config.ignores_retain_source);
    assert!(accepted("--check-retain-source off").ignores_retain_source);
    assert!(!config.shares_sessions && accepted("--takeover anyone").shares_sessions);
}

#[test]
fn rates_are_unlimited_unless_flags_limit_them() {
    let rates = |words: &str| {
        let config = accepted(words);
        let of_client = config.rates.limits().of_client;
        let per_second =
            [of_client.messages, of_client.bytes, config.rates.limits().connection_rate()];
        (per_second.map(|rate| rate.map(Rate::per_second)), config.limits.rate_timeout.as_secs())
    };
    assert_eq!(rates(""), ([None; 3], 10));
    let limited = "--max-message-rate 18 --max-byte-rate 5KiB --max-connection-rate 19";
    assert_eq!(rates(limited), ([Some(18), Some(5 << 10), Some(19)], 10));
    assert_eq!(rates("--max-message-rate 0 --rate-timeout 20"), ([None; 3], 20));
}

#[test]
fn every_flag_reaches_its_field() {
    let config = accepted(
        "--listen 0 --listen [::1]:0 --listen-websocket 0 --listen-websocket 127.0.0.2 \
         --websocket-path /mqtt --websocket-origin http://a --websocket-origin https://b \
         --connect-timeout 3 --packet-timeout 4 --max-wildcard-patterns 33 \
         --stalled-timeout 5 --shards 2 --cpus 6,1 --busy-poll 50 \
         --max-memory 1GiB --max-connections 7 --max-sessions 8 --max-packet-size 64KiB \
         --max-connect-size 5KiB --max-inflight 9 \
         --receive-maximum 11 --when-queue-full disconnect --max-queued 12 \
         --max-queued-bytes 1MiB --outbox-bytes 8KiB \
         --max-topic-levels 13 --max-user-properties 14 --max-user-property-bytes 2KiB \
         --max-filters-in-subscribe 15 --max-subscriptions 16 --max-subscription-bytes 3KiB \
         --max-retained 17 --max-retained-bytes 4KiB --session-expiry-max 3600 --patience 0 \
         --password-file passwords --scram-file users --allow-anonymous \
         --share-strategy random --share-group a=sticky --share-group b=hash-topic \
         --recv-buffers 64 --recv-buffer-size 4096 \
         --io poll --ring-entries 256 --sys-interval 0 --log debug --max-qos 1 \
         --disable retain,wildcard-subscriptions --disable subscription-identifiers \
         --max-keep-alive 60 --refer-to b.example --refer-to [::1]:1883 \
         --response-information reply --validate-payload-format",
    );
    let policy = HandshakePolicy {
        path: Some("/mqtt".into()),
        origins: ["http://a", "https://b"].map(String::from).into(),
        ..HandshakePolicy::default()
    };
    let tcp = ["127.0.0.1:0", "[::1]:0"].map(|at| Listener::tcp(at.parse().unwrap()));
    let websockets = ["127.0.0.1:0", "127.0.0.2:8083"]
        .map(|at| Listener::websocket(at.parse().unwrap(), policy.clone()));
    assert_eq!(config.listeners, [tcp, websockets].concat());
    assert_eq!(config.shard_cpus, [6, 1]);
    let limits = &config.limits;
    let timeouts = [limits.connect_timeout, config.packet_timeout, config.stalled_timeout];
    assert_eq!(timeouts, [3, 4, 5].map(Span::from_secs));
    assert_eq!(config.busy_poll, Span::from_micros(50));
    let maxima = (config.memory_max, config.connections_max, limits.sessions_max);
    assert_eq!(maxima, (1 << 30, 7, 8));
    assert_eq!((limits.packet_size_max, limits.connect_size_max), (64 << 10, 5 << 10));
    assert_eq!((limits.inflight_max, limits.receive_maximum), (9, 11));
    assert_eq!((limits.queue.messages_max, limits.queue.bytes_max), (12, 1 << 20));
    assert_eq!(limits.when_queue_full, WhenQueueFull::Disconnect);
    assert_eq!(limits.outbox_bytes_max, 8 << 10);
    assert_eq!(limits.topic_levels_max, 13);
    assert_eq!((limits.user_properties_max, limits.user_property_bytes_max), (14, 2 << 10));
    assert_eq!((limits.subscribe_filters_max, limits.wildcard_patterns_max), (15, 33));
    assert_eq!((limits.subscriptions_max, limits.subscription_bytes_max), (16, 3 << 10));
    assert_eq!((limits.retained_max, limits.retained_bytes_max), (17, 4 << 10));
    assert_eq!((limits.session_expiry_max, limits.patience), (3600, Span::ZERO));
    let chosen = ["a", "b", "c"].map(|share| config.share_strategies.of(share));
    assert_eq!(chosen, [Strategy::Sticky, Strategy::HashTopic, Strategy::Random]);
    assert_eq!(config.password_file, Some(PathBuf::from("passwords")));
    assert_eq!(config.scram_file, Some(PathBuf::from("users")));
    assert_eq!(config.anonymous, Anonymous::Everywhere);
    assert_eq!((config.receive_buffers, config.receive_buffer_bytes), (64, 4096));
    assert_eq!((config.io, config.ring_entries), (IoChoice::Poll, 256));
    assert_eq!(config.sys_interval, None);
    let offer = Offer {
        maximum_qos: QoS::AtLeastOnce,
        retain: false,
        wildcard_subscriptions: false,
        subscription_identifiers: false,
        shared_subscriptions: true,
        keep_alive_max: NonZeroU16::new(60),
        response_prefix: Some("reply".into()),
        validates_payload_format: true,
    };
    assert_eq!(config.offer, offer);
    assert_eq!(config.referral, Referral::Temporary("b.example [::1]:1883".into()));
    let moved = accepted("--moved-to c.example:8883").referral;
    assert_eq!(moved, Referral::Permanent("c.example:8883".into()));
    assert_eq!(config.log_filter, "debug");
}

#[test]
fn shards_get_the_named_cpus_in_order_or_the_available_ones_in_turns() {
    for (arguments, expected) in [
        ("--shards 1", &[0][..]),
        ("--shards 7", &[0, 1, 2, 3, 6, 0, 1]),
        ("--cpus 6,2-3", &[6, 2, 3]),
        ("--cpus 3,1 --shards 1", &[3]),
    ] {
        assert_eq!(accepted(arguments).shard_cpus, expected, "{arguments}");
    }
}

#[test]
fn a_file_of_users_shuts_anonymous_clients_out_unless_both_were_asked_for() {
    for (arguments, expected) in [
        ("--allow-anonymous", Anonymous::Everywhere),
        ("--password-file f", Anonymous::Refused),
        ("--password-file f --allow-anonymous", Anonymous::Everywhere),
        ("--password-file f --listen 0.0.0.0", Anonymous::Refused),
        ("--scram-file f --allow-anonymous", Anonymous::Everywhere),
        ("--scram-file f --listen 0.0.0.0", Anonymous::Refused),
        (
            "--listen-tls 0.0.0.0 --tls-cert c --tls-key k --tls-client-ca a --tls-user-from cn",
            Anonymous::Refused,
        ),
    ] {
        assert_eq!(accepted(arguments).anonymous, expected, "{arguments}");
    }
}

#[test]
fn flags_that_contradict_each_other_are_refused_in_one_line() {
    let servers = "--refer-to s ".repeat(17);
    for (arguments, expected) in [
        (
            servers.as_str(),
            "17 servers are given with --refer-to or --moved-to, and at most 16 are allowed",
        ),
        ("--listen 1 --listen localhost:1", "--listen 127.0.0.1:1 is given twice"),
        (
            "--listen 0.0.0.0",
            "--listen 0.0.0.0:1883 accepts connections from other machines but would refuse \
             all clients: add --password-file, --scram-file, --jwt-key-file, --auth-http-url, \
             --tls-user-from or --allow-anonymous",
        ),
        (
            "--listen 1 --listen-websocket localhost:1",
            "--listen-websocket 127.0.0.1:1 is given twice",
        ),
        (
            "--listen-websocket 0.0.0.0",
            "--listen-websocket 0.0.0.0:8083 accepts connections from other machines but would \
             refuse all clients: add --password-file, --scram-file, --jwt-key-file, \
             --auth-http-url, --tls-user-from or --allow-anonymous",
        ),
        ("--listen-tls 1 --tls-cert c", "--listen-tls needs --tls-cert and --tls-key"),
        ("--tls-cert c --tls-key k", "--tls-cert needs --listen-tls"),
        (
            "--listen-websocket-tls 1 --listen 1 --tls-cert c --tls-key k",
            "--listen-websocket-tls 127.0.0.1:1 is given twice",
        ),
        ("--tls-client-certs optional", "--tls-client-certs needs --tls-client-ca"),
        ("--tls-crl c", "--tls-crl needs --tls-client-ca"),
        ("--tls-user-from san", "--tls-user-from needs --tls-client-ca"),
        ("--tls-user-is-client-id", "--tls-user-is-client-id needs --tls-user-from"),
        (
            "--listen-tls 1 --tls-cert c --tls-key k --tls-cert d",
            "--tls-cert and --tls-key have to be given equally often",
        ),
        ("--websocket-path /", "--websocket-path needs --listen-websocket"),
        ("--websocket-origin http://a", "--websocket-origin needs --listen-websocket"),
        ("--cpus 0-1 --shards 3", "--cpus names 2 CPUs, and --shards 3 needs at least 3"),
        ("--cpus 1,5", "--cpus names CPU 5, but this process may only use 0-3,6"),
        ("--share-group a=sticky --share-group a=random", "--share-group a is given twice"),
        (
            "--share-group a=sticky --disable shared-subscriptions",
            "--share-group a has no effect with --disable shared-subscriptions",
        ),
        ("--max-sessions 9", "--max-sessions 9 is less than --max-connections 100000"),
        (
            "--max-queued-bytes 64KiB",
            "--max-queued-bytes 65536 is less than --max-packet-size 8388608",
        ),
    ] {
        let error = ConfigError::from(config(arguments).expect_err(arguments));
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.exit_status(), 2);
    }
    let machine = ConfigError::CpusUnknown(io::Error::other("no /proc"));
    assert_eq!(machine.exit_status(), 1);
}

#[test]
fn values_that_make_no_sense_by_themselves_are_refused_by_their_flag() {
    for arguments in [
        "--listen example.com",
        "--listen-websocket example.com",
        "--websocket-path mqtt",
        "--websocket-origin example.com",
        "--connect-timeout 0",
        "--shards 0",
        "--shards 129",
        "--cpus 3-1",
        "--busy-poll 1000001",
        "--max-connections 0",
        "--max-sessions 0",
        "--max-packet-size 1",
        "--max-packet-size 257MiB",
        "--max-inflight 0",
        "--max-inflight 65536",
        "--receive-maximum 0",
        "--max-queued 0",
        "--max-queued-bytes 1",
        "--outbox-bytes 1",
        "--session-expiry-max 4294967296",
        "--patience 60001",
        "--share-strategy fair",
        "--share-group a",
        "--share-group a=fair",
        "--max-qos 3",
        "--max-qos x",
        "--max-keep-alive 0",
        "--response-information a/#",
        "--refer-to a:b",
        "--moved-to a --refer-to b",
        "--max-keep-alive 65536",
        "--disable everything",
        "--recv-buffers 100",
        "--recv-buffers 65536",
        "--recv-buffer-size 1",
        "--ring-entries 1000",
        "--io select",
        "--sys-interval 86401",
        "--log ringmq=loud",
        "--unheard-of",
    ] {
        let error = clap_error(arguments);
        assert_eq!(error.exit_code(), 2, "{arguments}");
        let flag = arguments.split_whitespace().next().unwrap();
        assert!(error.to_string().contains(flag), "{error}");
    }
}

#[test]
fn a_subcommand_takes_the_flags_behind_it() {
    for (line, subcommand) in [("", None), ("run ", Some("run")), ("check ", Some("check"))] {
        let line = format!("{line}--listen 1");
        let matches = command_line().try_get_matches_from(words(&line)).unwrap();
        assert_eq!(matches.subcommand_name(), subcommand);
        let matches = matches.subcommand().map_or(&matches, |(_, matches)| matches);
        let flags = Source::new(matches, iter::empty()).read().unwrap();
        assert_eq!(flags.network.listen[0].port(), 1);
    }
    assert_eq!(clap_error("--listen 1 check").kind(), ErrorKind::ArgumentConflict);
    assert_eq!(clap_error("chekc").exit_code(), 2);
}

#[test]
fn a_switch_can_be_set_to_false() {
    for (arguments, expected) in [
        ("", Anonymous::OnLoopback),
        ("--allow-anonymous", Anonymous::Everywhere),
        ("--allow-anonymous --shards 1", Anonymous::Everywhere),
        ("--allow-anonymous=true", Anonymous::Everywhere),
        ("--allow-anonymous=false", Anonymous::OnLoopback),
    ] {
        assert_eq!(accepted(arguments).anonymous, expected, "{arguments}");
    }
    assert_eq!(clap_error("--allow-anonymous=yes").exit_code(), 2);
}

#[test]
fn help_explains_every_flag_under_a_heading() {
    assert_eq!(clap_error("--help").kind(), ErrorKind::DisplayHelp);
    assert_eq!(clap_error("--version").kind(), ErrorKind::DisplayVersion);
    command_line().debug_assert();
    for argument in command_line().get_arguments() {
        assert!(argument.get_help().is_some(), "{argument} has no help");
        assert!(argument.get_help_heading().is_some(), "{argument} has no heading");
    }
}

#[test]
fn listeners_for_proxies_name_them() {
    let flags = "--proxy-protocol --proxy-from 10.0.0.0/8 --proxy-from ::1 --allow-anonymous";
    let config = accepted(flags);
    let networks = [("10.0.0.0", Some(8)), ("::1", None)]
        .map(|(ip, prefix)| Network::new(ip.parse().unwrap(), prefix).unwrap());
    let proxies = Proxies { networks: networks.into(), name_users: false };
    assert_eq!(config.proxy, ProxyOptions { proxies, everywhere: true });
    let config = accepted("--proxy-protocol --proxy-from ::1 --proxy-user-from-cn");
    assert!(config.proxy.proxies.name_users);
    assert_eq!(config.anonymous, Anonymous::Refused);
    assert!(!accepted("").proxy.everywhere);
    // Who may connect to a Unix socket is a matter of its file.
    assert!(accepted("--proxy-protocol --listen-unix /s --allow-anonymous").proxy.everywhere);
    for (arguments, expected) in [
        (
            "--proxy-protocol --allow-anonymous",
            "--listen 127.0.0.1:1883 is for proxies: name the networks that they are in with \
             --proxy-from",
        ),
        (
            "--proxy-protocol --listen-unix /s --listen-websocket 1 --allow-anonymous",
            "--listen-websocket 127.0.0.1:1 is for proxies: name the networks that they are in \
             with --proxy-from",
        ),
        ("--proxy-from ::1", "--proxy-from needs --proxy-protocol"),
        ("--proxy-user-from-cn", "--proxy-user-from-cn needs --proxy-protocol"),
    ] {
        assert_eq!(contradiction(arguments).to_string(), expected);
    }
    // Through a proxy, clients of other machines come.
    let closed = contradiction("--proxy-protocol --proxy-from ::1");
    assert!(matches!(closed, Contradiction::NobodyAdmitted { .. }), "{closed}");
}
