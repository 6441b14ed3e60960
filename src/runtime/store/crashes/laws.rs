//! What recovery owes, whatever a crash has left.

use std::sync::Arc;

use super::{
    super::{StoreFault, files::Directory, read},
    disk::{Crashed, Image},
    life::{FOLDER, Process, SEED, Stretch},
    model::{Session, State},
    planted::Fault,
    random::Random,
    replay::Replay,
};
use crate::storage::{
    Restored,
    group::{GROUP_HEADER, Group},
    log::origin_of,
    segment::BLOCK,
};

/// A law that was broken, and how.
#[derive(Debug)]
pub(super) struct Violation {
    pub(super) law: &'static str,
    pub(super) words: String,
}

impl Violation {
    pub(super) fn new(law: &'static str, words: String) -> Violation {
        Violation { law, words }
    }
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Crash states that were recovered.
    pub(super) states: usize,
    /// Those with a write or a name that no sync had covered.
    pub(super) open: usize,
    pub(super) flips: usize,
}

/// Samples crash states of a stretch: some for one in so many of its steps.
pub(super) fn sample(
    stretch: &Stretch,
    planted: Option<Fault>,
    one_in: usize,
    random: &mut Random,
    counts: &mut Counts,
) -> Result<(), Violation> {
    let mut replay = stretch.base.clone();
    let mut teller = stretch.teller();
    for (at, noted) in stretch.steps.iter().enumerate() {
        teller.hear(noted);
        let is_open = !replay.is_settled();
        let states = match random.one_in(one_in) {
            true if is_open => EACH,
            true => usize::from(random.one_in(8)),
            false => 0,
        };
        for _ in 0..states {
            counts.states += 1;
            counts.open += usize::from(is_open);
            let image = replay.crash(random);
            let crashed = Crashed { image, planted };
            let found = check(crashed, teller.process(), teller.told, noted.clock);
            found.map_err(|violation| violation.at(at, stretch))?;
        }
        if states > 0 && random.one_in(8) {
            counts.flips += 1;
            flip_bit(&replay, planted, random).map_err(|violation| violation.at(at, stretch))?;
        }
        replay.apply(&noted.step);
    }
    Ok(())
}

impl Violation {
    fn at(self, at: usize, stretch: &Stretch) -> Violation {
        let steps = &stretch.steps[at.saturating_sub(12)..at];
        let steps: Vec<String> = steps.iter().map(|noted| noted.step.words()).collect();
        let words = format!("{}\nbefore step {at}; the latest: {steps:#?}", self.words);
        Violation { words, ..self }
    }
}

/// Recovers a crash state, and judges what was found. Returns how many batches there are.
pub(super) fn check(
    crashed: Crashed,
    process: &Process,
    told: usize,
    clock: u64,
) -> Result<usize, Violation> {
    match recover(crashed) {
        Ok(restored) => judge(&restored, process, told, clock),
        Err(fault) => Err(Violation::new("no crash state is refused", fault.to_string())),
    }
}

fn recover(crashed: Crashed) -> Result<Restored, StoreFault> {
    let directory = Directory::on(Arc::new(crashed), FOLDER.into());
    Ok(read(&directory, SEED)?.restored)
}

/// What was found is what there was after some batch, which is no earlier than the last one that
/// was told.
pub(super) fn judge(
    restored: &Restored,
    process: &Process,
    told: usize,
    clock: u64,
) -> Result<usize, Violation> {
    let found = State::of(restored).at(clock);
    let batches = found.batches();
    let words = |words: String| format!("{batches} batches are there, {told} were told; {words}");
    if batches < told {
        let words = words(String::new());
        return Err(Violation::new("what was told as durable is there", words));
    }
    let Some(expected) = process.history.get(batches) else {
        let words = words("they were never posted".to_owned());
        return Err(Violation::new("batches are whole and in order", words));
    };
    let expected = expected.at(clock);
    if found == expected {
        return numbers(restored).map(|()| batches);
    }
    let before = process.history[..batches].iter();
    let law = blame(&found, &expected, before.map(|state| &**state));
    Err(Violation::new(law, words(difference(&found, &expected))))
}

/// What a process begins with is new.
fn numbers(restored: &Restored) -> Result<(), Violation> {
    let sessions = restored.sessions.iter().map(|session| session.number.0);
    let messages = restored.messages.iter().filter_map(|kept| match kept.record() {
        crate::storage::Record::Message(message) => Some(message.id.0),
        _ => None,
    });
    let is_new = sessions.max() < Some(restored.next_session)
        && messages.max() < Some(restored.next_message);
    if is_new {
        return Ok(());
    }
    let next = (restored.next_session, restored.next_message);
    Err(Violation::new("no number is used twice", format!("{next:?}")))
}

/// Which law speaks of this difference.
fn blame<'a>(
    found: &State,
    expected: &State,
    mut before: impl Iterator<Item = &'a State>,
) -> &'static str {
    let (found_parts, expected_parts) = (found.parts(), expected.parts());
    let extra: Vec<&String> = found_parts.difference(&expected_parts).collect();
    let goes_back = |(number, session): (&u64, &Session)| {
        let Some(found) = found.sessions.get(number) else { return false };
        let released = |(ordinal, body): (&u64, &Option<_>)| {
            body.is_none() && found.refs.get(ordinal).is_some_and(Option::is_some)
        };
        session.refs.iter().any(released) || !session.holds.is_subset(&found.holds)
    };
    if expected.sessions.iter().any(goes_back) {
        return "the state of QoS 2 does not go back";
    }
    if !extra.is_empty() && before.any(|state| state.parts().contains(extra[0])) {
        return "nothing deleted comes back";
    }
    "batches are whole and in order"
}

fn difference(found: &State, expected: &State) -> String {
    let (found, expected) = (found.parts(), expected.parts());
    let extra: Vec<&String> = found.difference(&expected).take(5).collect();
    let missing: Vec<&String> = expected.difference(&found).take(5).collect();
    format!("too much: {extra:#?}, missing: {missing:#?}")
}

/// A bit that flips in what is surely on the disk is found, unless it says nothing.
fn flip_bit(replay: &Replay, planted: Option<Fault>, random: &mut Random) -> Result<(), Violation> {
    let image = replay.durable();
    let crashed = |image: Image| Crashed { image, planted };
    let Ok(before) = recover(crashed(image.clone())) else { return Ok(()) };
    let Some((inode, offset, bytes)) = proven(image, random) else { return Ok(()) };
    let mut flipped = image.clone();
    let at = offset + random.below(bytes);
    let byte = image.files[inode][at] ^ (1 << random.below(8));
    flipped.write(inode, at, &[byte]);
    match recover(crashed(flipped)) {
        Err(StoreFault::Damaged { .. }) => Ok(()),
        Ok(after) if State::of(&after) == State::of(&before) => Ok(()),
        Ok(_) => Err(Violation::new("a flipped bit is found", format!("byte {at} of {inode}"))),
        Err(fault) => Err(Violation::new("a flipped bit is found", fault.to_string())),
    }
}

/// A group that counts, and that a later one shows to be on disk: its file, its place and bytes.
fn proven(image: &Image, random: &mut Random) -> Option<(usize, usize, usize)> {
    let mut groups = Vec::new();
    for (name, inode) in &image.names {
        let number = name.file_stem()?.to_str()?.parse().ok()?;
        let file = &image.files[*inode];
        let (mut offset, origin) = (BLOCK, origin_of(file, number));
        while let Some(group) = file.get(offset..).and_then(|bytes| Group::read(bytes, origin)) {
            groups.push((group.header, *inode, offset, GROUP_HEADER + group.records.len()));
            offset += group.bytes();
        }
    }
    let newest = groups.iter().map(|it| it.0).max_by_key(|header| header.lsn)?;
    groups.retain(|(header, ..)| {
        header.lsn <= newest.durable && header.origin.segment >= newest.oldest
    });
    if groups.is_empty() {
        return None;
    }
    let (_, inode, offset, bytes) = groups.swap_remove(random.below(groups.len()));
    Some((inode, offset, bytes))
}

/// Crash states of a step that has left something open.
const EACH: usize = 2;
