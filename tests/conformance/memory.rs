//! The core of the broker, in memory, as a connection.

use std::sync::Arc;

use ringmq::access::{Anonymous, Policy, scram::ScramUsers};

use crate::{
    book::{Book, Case},
    play::{ADA, Play, Wire},
    world::{World, limits},
};

/// A client of a world.
struct Line<'a> {
    world: &'a mut World,
    client: usize,
}

impl Wire for Line<'_> {
    fn send(&mut self, bytes: &[u8]) {
        self.world.send(self.client, bytes);
    }

    fn finish(&mut self) {
        self.world.finish(self.client);
    }

    fn receive(&mut self, _: &dyn Fn(&[u8]) -> bool) -> Result<(Vec<u8>, bool), String> {
        Ok((self.world.received_bytes(self.client), self.world.is_closed(self.client)))
    }
}

/// Plays all cases on so many shards, and says what is wrong.
pub(crate) fn play(book: &Book, shards: usize) -> Vec<String> {
    let policy = policy();
    let mut wrong = Vec::new();
    for batch in book.cases.chunks(CASES_OF_A_WORLD) {
        let mut open = World::new(shards);
        for case in batch {
            let needs_scram = book.state(&case.state).is_ok_and(|state| state.scram);
            // A broker slows logins down after some have failed, so each of these has its own.
            let mut apart = if needs_scram {
                Some(World::with(shards, &limits(), &policy))
            } else {
                case.alone.then(|| World::new(shards))
            };
            let world = apart.as_mut().unwrap_or(&mut open);
            if let Err(error) = play_one(book, case, world) {
                wrong.push(format!("{}: {error}", case.name));
            }
        }
    }
    wrong
}

fn play_one(book: &Book, case: &Case, world: &mut World) -> Result<(), String> {
    let client = world.open(case.version);
    let mut play = Play::begin(book, case, Line { world: &mut *world, client })?;
    play.enter()?;
    play.go_on();
    let judged = play.judge();
    world.break_off(client);
    judged
}

fn policy() -> Policy {
    let users = ScramUsers::parse(&ADA.line()).expect("a SCRAM file");
    let scram = Some(Arc::new(users));
    Policy { scram, anonymous: Anonymous::Everywhere, ..Policy::default() }
}

/// A fresh world now and then, so that no case depends on all that came before it.
const CASES_OF_A_WORLD: usize = 64;
