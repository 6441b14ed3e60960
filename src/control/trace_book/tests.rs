//! The limits of traces, and what readers get.

use super::*;
use crate::shard::trace::{Line, Lines};

fn book(directory: Option<PathBuf>) -> (TraceBook, TraceLane) {
    let lane = TraceLane::default();
    let clock = runtime::wall_clock();
    (TraceBook::new(lane.clone(), clock, directory, Arc::default()), lane)
}

fn wanted(json: &str) -> Wanted {
    serde_json::from_str(json).unwrap()
}

fn begin(book: &mut TraceBook, json: &str) -> Arc<Trace> {
    book.add(wanted(json), "me".to_owned()).unwrap()
}

fn refusal(book: &mut TraceBook, json: &str) -> String {
    match book.add(wanted(json), "me".to_owned()) {
        Err(NotTraced::Wrong(words)) => words,
        other => panic!("{other:?}"),
    }
}

fn tell(lane: &TraceLane, trace: &Trace, text: &str) {
    assert!(lane.tell(Line { trace: trace.id, text: text.to_owned() }));
}

/// All that a reader gets from a number on.
fn read(reader: &Reader, mut from: u64) -> String {
    let mut text = String::new();
    while let Next::Frames(frames, next) = reader.next(from) {
        text.push_str(std::str::from_utf8(&frames).unwrap());
        from = next;
    }
    if let Next::End(frame) = reader.next(from) {
        text.push_str(std::str::from_utf8(&frame).unwrap());
    }
    text
}

#[test]
fn what_is_wrong_is_said() {
    let (mut book, _) = book(None);
    for (json, words) in [
        ("{}", "name one of `client_id`, `topic` and `address`"),
        (r#"{"client_id":"a","topic":"b"}"#, "name one of"),
        (r#"{"client_id":""}"#, "a name has 1 to 65535 bytes"),
        (r#"{"topic":"a/#/b"}"#, "`topic`: "),
        (r#"{"address":"here"}"#, "`address` is an address"),
        (r#"{"client_id":"a","seconds":0}"#, "`seconds` is a number from 1 to 3600"),
        (r#"{"client_id":"a","seconds":3601}"#, "`seconds` is a number from 1 to 3600"),
        (r#"{"client_id":"a","bytes":67108865}"#, "`bytes` is a number from 1 to 67108864"),
        (r#"{"client_id":"a","payload_bytes":1025}"#, "`payload_bytes` is a number from 0 to 1024"),
        (r#"{"client_id":"a","file":true}"#, "give --data-dir or --trace-dir"),
    ] {
        let said = refusal(&mut book, json);
        assert!(said.contains(words), "{json}: {said}");
    }
    assert!(serde_json::from_str::<Wanted>(r#"{"client":"a"}"#).is_err());
    assert!(book.traces().is_empty());
}

#[test]
fn so_many_run_and_so_many_are_remembered() {
    let (mut book, _) = book(None);
    let first = begin(&mut book, r#"{"client_id":"a"}"#);
    for _ in 1..TRACES_MAX {
        begin(&mut book, r#"{"address":"10.0.0.0/8"}"#);
    }
    assert!(refusal(&mut book, r#"{"topic":"a"}"#).contains("8 traces run already"));
    first.end("time");
    let next = begin(&mut book, r#"{"topic":"a"}"#);
    assert_eq!(next.order.slot, first.order.slot);
    let slots: Vec<usize> = book.orders().iter().map(|order| order.slot).collect();
    assert_eq!(slots.len(), TRACES_MAX);
    for _ in 0..20 {
        let last = begin_after_end(&mut book);
        assert!(last.runs());
    }
    assert_eq!(book.traces().len(), TRACES_MAX + ENDED_MAX);
    assert!(book.get(first.id).is_none() && book.remove(first.id).is_none());
}

fn begin_after_end(book: &mut TraceBook) -> Arc<Trace> {
    book.traces().iter().find(|trace| trace.runs()).unwrap().end("time");
    begin(book, r#"{"client_id":"a"}"#)
}

#[test]
fn a_reader_gets_lines_losses_and_the_end_in_order() {
    let (mut book, lane) = book(None);
    let trace = begin(&mut book, r#"{"client_id":"a"}"#);
    let reader = trace.join();
    assert_eq!(reader.next(0), Next::Wait);
    tell(&lane, &trace, "one");
    book.pass_on();
    lane.note_lost(trace.order.slot);
    lane.note_lost(trace.order.slot);
    book.pass_on();
    tell(&lane, &trace, "two");
    book.pass_on();
    trace.end("deleted");
    let all = "id: 0\nevent: line\ndata: one\n\n\
               id: 1\nevent: lost\ndata: {\"count\":2}\n\n\
               id: 2\nevent: line\ndata: two\n\n\
               event: end\ndata: {\"reason\":\"deleted\"}\n\n";
    assert_eq!(read(&reader, 0), all);
    assert!(read(&reader, 2).starts_with("id: 2\n"));
    assert!(read(&reader, 99).starts_with("event: end\n"));
    let report = trace.report();
    assert_eq!((report.lines, report.lost, report.bytes, report.readers), (2, 2, 8, 1));
    drop(reader);
    assert_eq!(trace.reader_count(), 0);
}

#[test]
fn a_slow_reader_misses_the_oldest_lines_and_is_told_how_many() {
    let (mut book, lane) = book(None);
    let trace = begin(&mut book, r#"{"client_id":"a","bytes":67108864}"#);
    let reader = trace.join();
    let line = "x".repeat(1_000);
    for _ in 0..1_000 {
        tell(&lane, &trace, &line);
        book.pass_on();
    }
    let first = trace.told().first;
    assert!(first > 700, "{first}");
    assert!(trace.told().held_bytes <= HELD_BYTES_MAX);
    let text = read(&reader, 0);
    assert!(
        text.starts_with(&format!("event: lost\ndata: {{\"count\":{first}}}\n\nid: {first}\n"))
    );
    assert!(text.len() <= HELD_BYTES_MAX + 100);
}

#[test]
fn a_trace_ends_with_its_bytes_and_with_its_last_reader() {
    let (mut book, lane) = book(None);
    let narrow = begin(&mut book, r#"{"client_id":"a","bytes":10}"#);
    let read = begin(&mut book, r#"{"client_id":"a","while_read":true}"#);
    tell(&lane, &narrow, "123456789");
    assert_eq!(book.pass_on().len(), 1);
    assert_eq!(narrow.report().ended, Some("bytes"));
    let reader = read.join();
    assert!(book.pass_on().is_empty());
    drop(reader);
    assert_eq!(book.pass_on().len(), 1);
    assert_eq!(read.report().ended, Some("unread"));
    assert!(book.orders().is_empty() && book.pass_on().is_empty());
    // A line that was on its way.
    tell(&lane, &narrow, "late");
    book.pass_on();
    assert_eq!(narrow.report().lines, 1);
}

#[test]
fn files_are_for_their_owner_and_there_are_not_too_many() {
    use std::os::unix::fs::PermissionsExt;
    let name = format!("ringmq-traces-{}", std::process::id());
    let directory = std::env::temp_dir().join(name).join("inner");
    let (mut book, lane) = book(Some(directory.clone()));
    let trace = begin(&mut book, r#"{"client_id":"../../x","file":true}"#);
    tell(&lane, &trace, "a line");
    book.pass_on();
    lane.note_lost(trace.order.slot);
    book.pass_on();
    let path = PathBuf::from(trace.report().file.unwrap());
    assert_eq!(path.parent(), Some(&*directory));
    assert_eq!(fs::read_to_string(&path).unwrap(), "a line\n1 lines are missing here\n");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&directory)), (0o600, 0o700));
    for n in 1..FILES_MAX {
        fs::write(directory.join(format!("trace-{n}.log")), "").unwrap();
    }
    let said = refusal(&mut book, r#"{"client_id":"a","file":true}"#);
    assert!(said.contains("64 files of traces are in"), "{said}");
    fs::remove_dir_all(directory.parent().unwrap()).unwrap();
}
