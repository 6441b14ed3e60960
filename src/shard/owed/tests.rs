use super::*;
use crate::{
    base::byte_count::ByteCount,
    mqtt::{Connect, Version, frame},
    session::terms::Terms,
};

const ONE: ConnectionId = ConnectionId { slot: 1, generation: 0 };
const OTHER: ConnectionId = ConnectionId { slot: 2, generation: 0 };
const PUBLISH_QOS_0: &[u8] = b"\x30\x03\0\x01a";
const PUBLISH_QOS_1: &[u8] = b"\x32\x05\0\x01a\0\x01";
const PINGREQ: &[u8] = b"\xC0\0";
const NOW: Moment = Moment::from_nanos(1_000);

fn shard(index: usize) -> ShardId {
    ShardId::new(index).unwrap()
}

fn frame_of(bytes: &[u8]) -> Frame<'_> {
    frame::split(bytes, bytes.len()).unwrap().unwrap()
}

fn packets(text: &str) -> Answer {
    Answer::Packets(text.into())
}

fn connect() -> Answer {
    let terms = Terms::plain(Version::V5);
    let connect =
        KeptConnect::keep(&Connect::new(Version::V5, "client"), terms, &ByteCount::default());
    Answer::Connect(Box::new(connect))
}

/// Everything that is due, for two connections with these debts.
fn due(owed: &mut Owed, debts: [&mut Debt; 2]) -> Vec<(ConnectionId, String)> {
    let [one, other] = debts;
    let mut due = Vec::new();
    while let Some(id) = owed.next_ready() {
        let debt = if id == ONE { &mut *one } else { &mut *other };
        let answer = match owed.take_due(id, debt) {
            Some((Answer::ReadOn, _)) => "read on".to_owned(),
            Some((Answer::Packets(packets), _)) => String::from_utf8(packets).unwrap(),
            Some((Answer::Connect(_), verdict)) => format!("connect {verdict:?}"),
            Some((Answer::Enter(_), _)) => "enter".to_owned(),
            Some((Answer::Refusal(..), _)) => "refusal".to_owned(),
            Some((Answer::Failure, _)) => "failure".to_owned(),
            None => continue,
        };
        due.push((id, answer));
    }
    due
}

#[test]
fn an_answer_comes_when_its_number_has_been_applied_and_nobody_waits_for_another() {
    let (mut owed, mut one, mut other) = (Owed::new(2), Debt::default(), Debt::default());
    owed.owe(ONE, &mut one, Condition::Applied(7), packets("one"));
    owed.owe(OTHER, &mut other, Condition::Applied(5), packets("other"));
    assert!(one.is_held() && other.is_held());
    owed.note_applied(4);
    assert!(due(&mut owed, [&mut one, &mut other]).is_empty());
    owed.note_applied(6);
    assert_eq!(due(&mut owed, [&mut one, &mut other]), [(OTHER, "other".to_owned())]);
    assert!(one.is_held() && !other.is_held());
    owed.note_applied(7);
    assert_eq!(due(&mut owed, [&mut one, &mut other]), [(ONE, "one".to_owned())]);
    assert!(one.0.is_none() && owed.waiting_for_applied() == 0);
}

#[test]
fn the_answers_of_one_connection_keep_their_order() {
    let (mut owed, mut one, mut other) = (Owed::new(3), Debt::default(), Debt::default());
    let posting = owed.posting(shard(1));
    owed.owe(ONE, &mut one, posting, Answer::ReadOn);
    owed.owe(ONE, &mut one, Condition::Applied(1), packets("second"));
    owed.note_applied(1);
    assert!(due(&mut owed, [&mut one, &mut other]).is_empty() && one.is_held());
    owed.note_posted(shard(1));
    let both = [(ONE, "read on".to_owned()), (ONE, "second".to_owned())];
    assert_eq!(due(&mut owed, [&mut one, &mut other]), both);
    assert!(!one.is_held());
}

#[test]
fn whoever_comes_after_a_batch_was_posted_waits_for_the_next_one() {
    let (mut owed, mut one, mut other) = (Owed::new(2), Debt::default(), Debt::default());
    owed.owe(ONE, &mut one, owed.posting(shard(1)), Answer::ReadOn);
    owed.note_posted(shard(1));
    owed.owe(OTHER, &mut other, owed.posting(shard(1)), Answer::ReadOn);
    assert_eq!(due(&mut owed, [&mut one, &mut other]), [(ONE, "read on".to_owned())]);
    assert!(other.is_held() && owed.waiting_for_posted() == 1);
    owed.note_posted(shard(1));
    assert_eq!(due(&mut owed, [&mut one, &mut other]), [(OTHER, "read on".to_owned())]);
}

#[test]
fn a_connect_is_answered_by_its_verdict() {
    for verdict in [Verdict::Passed, Verdict::Wrong, Verdict::Busy, Verdict::Gone] {
        let (mut owed, mut one, mut other) = (Owed::new(1), Debt::default(), Debt::default());
        owed.owe(ONE, &mut one, Condition::Verdict(None), connect());
        assert!(due(&mut owed, [&mut one, &mut other]).is_empty() && one.is_held());
        owed.settle(ONE, &mut one, Condition::Verdict(None), Condition::Verdict(Some(verdict)));
        assert_eq!(due(&mut owed, [&mut one, &mut other]), [(ONE, format!("connect {verdict:?}"))]);
        assert!(!one.is_held());
    }
}

#[test]
fn an_answer_is_delayed_until_its_delay_is_over() {
    let (mut owed, mut one, mut other) = (Owed::new(1), Debt::default(), Debt::default());
    owed.owe(ONE, &mut one, Condition::Delay(false), Answer::Failure);
    owed.owe(OTHER, &mut other, Condition::Delay(false), Answer::ReadOn);
    owed.settle(ONE, &mut one, Condition::Verdict(None), Condition::Verdict(Some(Verdict::Busy)));
    assert!(due(&mut owed, [&mut one, &mut other]).is_empty() && one.is_held());
    owed.settle(ONE, &mut one, Condition::Delay(false), Condition::Delay(true));
    assert_eq!(due(&mut owed, [&mut one, &mut other]), [(ONE, "failure".to_owned())]);
    owed.settle(OTHER, &mut other, Condition::Delay(false), Condition::Delay(true));
    assert_eq!(due(&mut owed, [&mut one, &mut other]), [(OTHER, "read on".to_owned())]);
}

#[test]
fn a_verdict_for_a_connection_that_waits_for_none_changes_nothing() {
    let (mut owed, mut one, mut other) = (Owed::new(1), Debt::default(), Debt::default());
    owed.settle(ONE, &mut one, Condition::Verdict(None), Condition::Verdict(Some(Verdict::Passed)));
    assert!(due(&mut owed, [&mut one, &mut other]).is_empty());
}

#[test]
fn acknowledgements_of_a_pressed_publisher_wait_in_order_until_nobody_presses_it() {
    let mut debt = Debt::default();
    assert!(!debt.keeps_back(b"at once"));
    debt.press(Patience::Earned, NOW);
    debt.press(Patience::Earned, NOW);
    assert!(debt.keeps_back(b"1") && debt.keeps_back(b"2"));
    assert!(debt.is_held_back() && !debt.is_held());
    assert!(debt.ease(Patience::Earned, NOW).is_empty() && debt.keeps_back(b"3"));
    assert_eq!(debt.ease(Patience::Earned, NOW), b"123");
    assert!(debt.0.is_none() && !debt.is_held_back());
}

#[test]
fn a_pressed_publisher_is_read_on_until_its_acknowledgements_are_too_many() {
    let mut debt = Debt::default();
    assert!(!debt.stalls(&frame_of(PUBLISH_QOS_0)));
    debt.press(Patience::Earned, NOW);
    assert!(!debt.stalls(&frame_of(PINGREQ)) && !debt.stalls(&frame_of(PUBLISH_QOS_1)));
    debt.keeps_back(&[0; ACKNOWLEDGEMENT_BYTES_MAX]);
    assert!(!debt.stalls(&frame_of(PINGREQ)));
    assert!(debt.stalls(&frame_of(PUBLISH_QOS_1)) && debt.is_held());
    debt.ease(Patience::Earned, NOW);
    assert!(!debt.is_held());
}

#[test]
fn a_pressed_publisher_at_qos_0_waits_at_once() {
    let mut debt = Debt::default();
    debt.press(Patience::Earned, NOW);
    assert!(debt.stalls(&frame_of(PUBLISH_QOS_0)) && debt.is_held());
}

#[test]
fn a_publisher_waits_for_slow_subscribers_until_its_allowance_is_used_up() {
    let mut debt = Debt::default();
    let over = debt.press(Patience::Granted, NOW).unwrap();
    assert!(debt.keeps_back(b"1") && debt.stalls(&frame_of(PUBLISH_QOS_0)));
    assert_eq!(debt.end_wait(NOW), None);
    assert_eq!(debt.end_wait(over), Some(b"1".to_vec()));
    assert!(!debt.is_held_back() && !debt.keeps_back(b"2"));
    assert_eq!(debt.end_wait(over), None);
    debt.press(Patience::Earned, over);
    assert!(debt.stalls(&frame_of(PUBLISH_QOS_0)));
    debt.ease(Patience::Granted, over);
    assert!(debt.is_held());
    debt.ease(Patience::Earned, over);
    assert!(!debt.is_held());
}
