//! The timing wheel against a list of everything that was inserted and has not fired.

use ringmq::base::{
    time::{Moment, Span},
    wheel::{TICK, Wheel},
};

use super::script::Script;

struct Twins {
    wheel: Wheel<usize>,
    waiting: Vec<(Moment, usize)>,
    now: Moment,
    inserted: usize,
}

pub(super) fn check(input: &[u8]) {
    let mut script = Script::new(input);
    let now = Moment::from_nanos(span(&mut script).as_nanos());
    let mut twins = Twins { wheel: Wheel::new(now), waiting: Vec::new(), now, inserted: 0 };
    while let Some(operation) = script.operation(4) {
        match operation {
            0 => twins.insert(twins.now + span(&mut script)),
            1 => twins.insert(Moment::from_nanos(span(&mut script).as_nanos())),
            2 => twins.advance(twins.now + span(&mut script)),
            _ => twins.advance(twins.wheel.next_due().unwrap_or(twins.now).max(twins.now)),
        }
        twins.check();
    }
}

/// Of every size from nothing to well beyond the range of the wheel.
fn span(script: &mut Script<'_>) -> Span {
    let bits = script.byte() % 52;
    Span::from_nanos(script.number(7) & ((1 << bits) - 1) | 1 << bits)
}

impl Twins {
    fn insert(&mut self, due: Moment) {
        self.wheel.insert(due, self.inserted);
        self.waiting.push((due, self.inserted));
        self.inserted += 1;
    }

    fn advance(&mut self, now: Moment) {
        self.now = now;
        let mut fired = Vec::new();
        while self.wheel.next_due().is_some_and(|next| next <= now) {
            self.wheel.advance(now, &mut fired);
        }
        self.wheel.advance(now, &mut fired);
        for key in fired {
            let at = self.waiting.iter().position(|&(_, other)| other == key);
            let (due, _) = self.waiting.swap_remove(at.expect("a key fires once"));
            assert!(due <= now, "{key} fired early");
        }
    }

    fn check(&self) {
        assert_eq!(self.wheel.len(), self.waiting.len());
        let earliest = self.waiting.iter().map(|&(due, _)| due).min();
        let next = self.wheel.next_due();
        assert_eq!(next.is_some(), earliest.is_some());
        if let (Some(next), Some(earliest)) = (next, earliest) {
            assert!(next <= earliest.max(self.now) + TICK, "{next:?} comes too late");
        }
    }
}
