//! Handles the letters of other shards, a slice of them at a time.

use super::{
    Shard,
    letter::{Letter, LetterBatch},
    ports::Ports,
};
use crate::base::ids::ShardId;

impl Shard {
    /// Handles letters until none is left, or until they have caused a slice of steps. Returns how
    /// many were handled, at least one.
    pub(super) fn read_letters(
        &mut self,
        from: ShardId,
        letters: &LetterBatch,
        ports: &mut impl Ports,
    ) -> usize {
        let slice = self.context.rules.limits.slice_steps;
        let slice_over = self.context.counters.caused_steps() + slice as u64;
        if !letters.is_begun() {
            self.router.begin_batch(&self.context.rules.limits);
        }
        let mut handled = 0;
        for letter in letters.iter() {
            self.read_letter(from, letters, letter, ports);
            handled += 1;
            if self.context.counters.caused_steps() > slice_over {
                break;
            }
        }
        if self.context.recorder.is_on() {
            self.context.recorder.tell_taken(from, ports);
        }
        self.router.interest_mut().confirm(from, ports);
        handled
    }

    #[inline]
    fn read_letter(
        &mut self,
        from: ShardId,
        letters: &LetterBatch,
        letter: &Letter,
        ports: &mut impl Ports,
    ) {
        self.context.counters.other_steps += 1;
        if let Letter::Publish(publish) = letter {
            let clients = (&mut self.sessions, &mut self.connections);
            let message = (from, publish, &letters.open(publish));
            self.router.read_publish(message, clients, &mut self.context, ports);
        } else {
            self.read_news(from, letters, letter, ports);
        }
    }

    /// Handles a letter that brings no message.
    #[inline(never)]
    fn read_news(
        &mut self,
        from: ShardId,
        letters: &LetterBatch,
        letter: &Letter,
        ports: &mut impl Ports,
    ) {
        match letter {
            Letter::Publish(_) => {}
            Letter::Interest { filter, wanted } => {
                self.router.interest_mut().hear_filter(from, letters.filter(*filter), *wanted);
            }
            Letter::InterestApplied { upto } => {
                if self.router.interest_mut().hear_applied(from, *upto) {
                    self.connections.note_applied(self.router.interest().applied_everywhere());
                }
            }
            Letter::Group { share, filter, counts } => {
                let group = letters.group(*share, *filter);
                self.router.interest_mut().hear_group(from, group, *counts);
            }
            // A publisher that has gone meanwhile is ignored.
            Letter::Press { publisher, patience } => {
                self.connections.press(*publisher, *patience, &mut self.context);
            }
            Letter::Ease { publisher, patience } => {
                self.connections.ease(*publisher, *patience, self.context.now, ports);
            }
            Letter::AskPlace { connection, newcomer, is_lasting } => {
                self.make_place(newcomer, *is_lasting, ports);
                let letter = Letter::PlaceLookedFor { connection: *connection };
                ports.letters(from).push(letter);
            }
            Letter::PlaceLookedFor { connection } => self.connections.note_place(*connection),
            Letter::AskCounters => self.tell_counters(ports),
            Letter::Counters(counters) => {
                if self.sys.hear(from, (**counters).clone()) {
                    self.publish_sums(ports);
                }
            }
        }
    }
}
