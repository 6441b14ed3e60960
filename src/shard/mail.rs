//! Handles the letters of other shards.

use super::{
    Shard,
    letter::{Letter, LetterBatch},
    ports::Ports,
};
use crate::base::ids::ShardId;

impl Shard {
    pub(super) fn read_letters(
        &mut self,
        from: ShardId,
        letters: &LetterBatch,
        ports: &mut impl Ports,
    ) {
        for letter in letters.iter() {
            self.context.counters.other_steps += 1;
            match letter {
                Letter::Publish(publish) => {
                    let clients = (&mut self.sessions, &mut self.connections);
                    let message = (from, publish, &letters.open(publish));
                    self.router.read_publish(message, clients, &mut self.context, ports);
                }
                Letter::Interest { filter, wanted } => {
                    self.router.interest_mut().hear_filter(from, letters.filter(*filter), *wanted);
                }
                Letter::InterestApplied { upto } => {
                    if self.router.interest_mut().hear_applied(from, *upto) {
                        self.connections.note_applied(self.router.interest().applied_everywhere());
                    }
                }
                Letter::Group { share, filter, counts } => {
                    self.router.interest_mut().hear_group(
                        from,
                        letters.group(*share, *filter),
                        *counts,
                    );
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
        self.router.interest_mut().confirm(from, ports);
    }
}
