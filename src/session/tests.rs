use std::rc::Rc;

use super::{
    message::{CountedMessage, tests::view},
    sessions::Sessions,
    *,
};
use crate::{
    access::Accounts,
    base::byte_count::ByteCount,
    mqtt::{QoS, Version},
};

const SEED: Seed = Seed::new(1);
const ROOM: FiltersMax = FiltersMax { count: 2, bytes: 20, patterns: 1 };

fn at(seconds: u64) -> Moment {
    Moment::from_nanos(Span::from_secs(seconds).as_nanos())
}

pub(super) fn principal(client_id: &str) -> Rc<Principal> {
    let (peer, accounts) = ("127.0.0.1:1".parse().unwrap(), &Accounts::default());
    Rc::new(Principal::stranger(0, peer, accounts).named(client_id, None, accounts))
}

/// A session that lasts for `expiry_interval` seconds and whose Will is delayed by `will_delay`.
fn session(expiry_interval: u32, will_delay: u64) -> Session {
    let mut session = Session::new(principal("client"), 7 << 32, 1);
    let connection = ConnectionId { slot: 0, generation: 0 };
    let will = Will {
        message: Rc::new(CountedMessage::keep(
            &view("will", b"", QoS::AtMostOnce),
            &ByteCount::default(),
        )),
        delay: Span::from_secs(will_delay),
        message_expiry: None,
        due_at: None,
    };
    let link = Link { connection, terms: Terms::plain(Version::V5) };
    session.connect(principal("client"), link, 10, expiry_interval, Some(Box::new(will)));
    session
}

#[test]
fn an_absent_session_has_its_will_after_its_delay_and_ends_after_its_interval() {
    let mut session = session(60, 10);
    assert!(!session.has_ended(at(1_000)) && !session.is_will_due(at(1_000)));
    session.disconnect(at(100), true);
    assert_eq!(session.next_change(), Some(at(110)));
    assert!(!session.is_will_due(at(109)) && session.is_will_due(at(110)));
    assert!(session.take_will().is_some());
    assert_eq!(session.next_change(), Some(at(160)));
    assert!(!session.has_ended(at(159)) && session.has_ended(at(160)));
}

#[test]
fn a_client_that_takes_its_will_along_or_stays_for_ever_leaves_nothing_to_look_at() {
    let mut session = session(u32::MAX, 10);
    session.disconnect(at(100), false);
    assert_eq!(session.next_change(), None);
    assert!(session.take_will().is_none() && !session.has_ended(at(1_000_000)));
}

#[test]
fn a_session_that_was_to_end_with_its_connection_cannot_be_kept() {
    let raised = session(0, 0).change_expiry(1, 60);
    assert_eq!(raised, Err(ProtocolError::SessionExpiryRaised));
    let mut lasting = session(5, 0);
    assert_eq!(lasting.change_expiry(100, 60), Ok(()));
    lasting.disconnect(at(0), false);
    assert_eq!(lasting.next_change(), Some(at(60)));
}

#[test]
fn the_soonest_reminder_counts_and_comes_once() {
    let mut session = session(60, 0);
    assert!(session.remind(at(20)) && !session.remind(at(30)) && session.remind(at(10)));
    assert!(!session.take_reminder(at(9)));
    assert!(session.take_reminder(at(10)) && !session.take_reminder(at(20)));
}

#[test]
fn a_session_has_so_many_subscriptions_and_no_more() {
    let mut session = session(0, 0);
    let mut subscribe = |text: &str| {
        let subscription = Subscription::parse(text).unwrap();
        session.subscribe(text, subscription, ROOM, SEED)
    };
    assert_eq!(subscribe("$share/g/a"), Ok(true));
    assert_eq!(subscribe("0123456789ab"), Err(FiltersFull::Filters));
    assert_eq!((subscribe("b"), subscribe("b")), (Ok(true), Ok(false)));
    assert_eq!(subscribe("c"), Err(FiltersFull::Filters));
    assert_eq!(subscribe("+/b"), Err(FiltersFull::Patterns));
    assert_eq!(session.shared_filter_at(0), Some("$share/g/a"));
    assert_eq!(session.shared_filter_at(1), None);
    let shared = Subscription::parse("$share/g/a").unwrap();
    assert!(session.unsubscribe("$share/g/a", shared, SEED));
    assert!(!session.unsubscribe("$share/g/a", shared, SEED));
    assert!(!session.has_shared_filters());
    assert_eq!(session.take_filters(), ["b".into()]);
}

#[test]
fn the_half_of_the_hash_that_says_where_a_client_is_at_home_is_not_used_again() {
    let mut sessions = Sessions::new(SEED);
    let id = sessions.create(principal("client"));
    let hash = (SEED.hash("client") >> 32) as u32;
    assert_eq!(sessions.get(id).map(Session::client_hash), Some(hash));
}
