//! Passwords that were proven lately, so that a client that comes back costs no slow check.
//!
//! Keeps no password: only a hash over user name, password and the user's line of the password
//! file, with a key that never leaves the process. Does not know who is connected: it sees whether
//! anyone still holds a [`Ticket`].

use std::rc::Rc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

use super::{Passwords, Secret};
use crate::base::{
    hash::{Map, Seed},
    time::{Moment, Span},
};

/// The keyed hash of one password of one user.
#[derive(Clone, Copy, Debug)]
pub struct Mark([u8; 32]);

/// Held by a connection whose client has proven a password. While anyone holds it, the password is
/// remembered.
#[derive(Clone, Debug)]
pub struct Ticket(#[expect(dead_code, reason = "it is counted, and not read")] Rc<()>);

/// The passwords that one shard remembers: one for each user.
#[derive(Debug)]
pub struct Remembered {
    key: Option<Secret>,
    users: Map<Box<str>, Memory>,
}

#[derive(Debug)]
struct Memory {
    mark: Mark,
    holders: Rc<()>,
    /// When anyone last held a ticket, as far as the latest look has seen.
    used: Moment,
}

impl Remembered {
    pub fn new(seed: Seed) -> Remembered {
        Remembered { key: None, users: Map::with_hasher(seed) }
    }

    /// The mark of this password, if it is one that could be remembered. The key is made of
    /// `secret` when it is first needed.
    ///
    /// An unknown user gets the mark of another one, so that both take the same time.
    pub fn mark(
        &mut self,
        passwords: &Passwords,
        user_name: &str,
        password: &[u8],
        secret: impl FnOnce() -> Secret,
    ) -> Option<Mark> {
        let hash = passwords.hash_for(user_name)?;
        if password.len() > PASSWORD_BYTES_MAX {
            return None;
        }
        let key = self.key.get_or_insert_with(secret);
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("any length will do");
        let mut add = |part: &[u8]| {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        };
        add(user_name.as_bytes());
        add(password);
        hash.parts().iter().for_each(|part| add(part));
        Some(Mark(mac.finalize().into_bytes().into()))
    }

    /// A ticket, if this is the mark of the password that the user has proven lately.
    pub fn recognize(&mut self, user_name: &str, mark: Mark, now: Moment) -> Option<Ticket> {
        let memory = self.users.get_mut(user_name);
        let known = Choice::from(u8::from(memory.is_some()));
        let expected = memory.as_ref().map_or(Mark([0; 32]), |memory| memory.mark);
        if !bool::from(mark.0.ct_eq(&expected.0) & known) {
            return None;
        }
        memory.map(|memory| {
            memory.used = now;
            Ticket(Rc::clone(&memory.holders))
        })
    }

    /// Remembers that a user has proven this password. `None`: too many are remembered.
    pub fn remember(&mut self, user_name: Box<str>, mark: Mark, now: Moment) -> Option<Ticket> {
        if let Some(ticket) = self.recognize(&user_name, mark, now) {
            return Some(ticket);
        }
        if self.users.len() >= USERS_MAX && !self.users.contains_key(&user_name) {
            return None;
        }
        let holders = Rc::new(());
        let ticket = Ticket(Rc::clone(&holders));
        self.users.insert(user_name, Memory { mark, holders, used: now });
        Some(ticket)
    }

    /// Forgets the passwords of users whose tickets nobody has held for this span.
    pub fn forget_unused(&mut self, now: Moment, span: Span) {
        self.users.retain(|_, memory| {
            if Rc::strong_count(&memory.holders) > 1 {
                memory.used = now;
            }
            now.since(memory.used) < span
        });
    }

    /// Forgets the users whose line in the password file has gone or has changed.
    pub fn forget_changed(&mut self, before: Option<&Passwords>, now: Option<&Passwords>) {
        self.users.retain(|user_name, _| {
            let hash_now = now.and_then(|passwords| passwords.hash_of(user_name));
            let hash_before = before.and_then(|passwords| passwords.hash_of(user_name));
            hash_now.is_some() && hash_now == hash_before
        });
    }

    pub fn len(&self) -> usize {
        self.users.len()
    }

    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

/// A longer password is checked each time: hashing it would take a turn too much time.
const PASSWORD_BYTES_MAX: usize = 1024;
/// Users of one shard whose passwords are remembered: some 10 MB.
const USERS_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// `alice` has the password `correct-horse`, and `bob` another one.
    const FILE: &str = "alice:$7$101$PxkC23maIR3STJZx$\
        WWEGb43HNXbS9iXF693jd7G6h0EPrnoWMNoi/SVtX584YaWxQ8xbiKQiYwnC4bBitImJS1+K6nAlFjiYcDg3DA==\n\
        bob:$7$101$z3vPmHwfgL3RmTPI$\
        XHhjNk9DREyuCemT4wHhmVKIeCkHvY2Ysn6oG6H2UlbT+wk/hZOkiAApIAK0yl33qtDeLxOMGpGVE1JaZAokfg==";
    const NOW: Moment = Moment::from_nanos(1_000);
    const SPAN: Span = Span::from_secs(900);

    fn passwords(text: &str) -> Passwords {
        Passwords::parse(text).unwrap()
    }

    fn mark(remembered: &mut Remembered, user_name: &str, password: &[u8]) -> Option<Mark> {
        remembered.mark(&passwords(FILE), user_name, password, || [7; 16])
    }

    fn with_alice() -> (Remembered, Mark, Ticket) {
        let mut remembered = Remembered::new(Seed::new(1));
        let proven = mark(&mut remembered, "alice", b"correct-horse").unwrap();
        assert!(remembered.recognize("alice", proven, NOW).is_none());
        let ticket = remembered.remember("alice".into(), proven, NOW).unwrap();
        (remembered, proven, ticket)
    }

    #[test]
    fn a_password_that_was_proven_is_recognized_and_no_other() {
        let (mut remembered, proven, _ticket) = with_alice();
        assert!(remembered.recognize("alice", proven, NOW).is_some());
        for (user_name, password) in
            [("alice", &b"correct-hors"[..]), ("alice", b""), ("bob", b"correct-horse")]
        {
            let mark = mark(&mut remembered, user_name, password).unwrap();
            assert!(remembered.recognize(user_name, mark, NOW).is_none(), "{user_name}");
            assert!(remembered.recognize("alice", mark, NOW).is_none(), "{user_name}");
        }
        // The name and the password are told apart, whatever they are made of.
        let moved = mark(&mut remembered, "alicecorrect", b"-horse").unwrap();
        assert!(remembered.recognize("alice", moved, NOW).is_none());
        assert!(mark(&mut remembered, "alice", &[0; PASSWORD_BYTES_MAX + 1]).is_none());
    }

    #[test]
    fn another_process_has_another_key() {
        let marks = [[7; 16], [8; 16]].map(|secret| {
            let mut remembered = Remembered::new(Seed::new(1));
            remembered.mark(&passwords(FILE), "alice", b"correct-horse", || secret).unwrap().0
        });
        assert_ne!(marks[0], marks[1]);
    }

    #[test]
    fn a_password_is_remembered_while_a_ticket_is_held_and_for_a_while_more() {
        let (mut remembered, proven, ticket) = with_alice();
        let another = remembered.recognize("alice", proven, NOW);
        drop(ticket);
        let later = NOW + Span::from_secs(5_000);
        remembered.forget_unused(later, SPAN);
        assert_eq!(remembered.len(), 1);
        drop(another);
        remembered.forget_unused(later + Span::from_secs(899), SPAN);
        assert_eq!(remembered.len(), 1);
        remembered.forget_unused(later + SPAN, SPAN);
        assert!(remembered.is_empty());
    }

    #[test]
    fn a_user_whose_line_has_changed_or_gone_is_forgotten() {
        let (before, changed) = (passwords(FILE), passwords(&FILE.replace("101$Px", "102$Px")));
        let without = passwords(FILE.split_once('\n').unwrap().1);
        for (now, stays) in
            [(Some(&before), true), (Some(&changed), false), (Some(&without), false), (None, false)]
        {
            let (mut remembered, proven, _ticket) = with_alice();
            remembered.forget_changed(Some(&before), now);
            assert_eq!(remembered.recognize("alice", proven, NOW).is_some(), stays);
        }
        // Another line of a user makes another mark, even for the same password.
        let (mut remembered, _, _ticket) = with_alice();
        let mark = remembered.mark(&changed, "alice", b"correct-horse", || [7; 16]).unwrap();
        assert!(remembered.recognize("alice", mark, NOW).is_none());
    }
}
