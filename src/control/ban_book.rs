//! The bans of the broker with all that is known of them, and the file that keeps them.

use std::{fs, io, net::IpAddr, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::own_files::write_whole;
use crate::{
    access::{Banned, Bans},
    base::{
        network::Network,
        text,
        time::{WallClock, WallTime},
    },
    runtime,
};

/// All bans, oldest first.
#[derive(Debug)]
pub struct BanBook {
    /// Where they are kept; `None`: in memory alone.
    path: Option<PathBuf>,
    clock: WallClock,
    entries: Vec<Ban>,
    next_id: u64,
}

/// One ban. It names a client, a user or an address.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ban {
    pub(super) id: u64,
    pub(super) client_id: Option<String>,
    pub(super) user: Option<String>,
    pub(super) address: Option<String>,
    /// In milliseconds since 1970; `null` is for ever.
    pub(super) until: Option<u64>,
    since: u64,
    pub(super) reason: Option<String>,
    by: String,
}

/// What a ban is to be.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    client_id: Option<String>,
    user: Option<String>,
    address: Option<String>,
    seconds: Option<u64>,
    reason: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    bans: Vec<Ban>,
}

/// Why the bans of an earlier process cannot be read.
#[derive(Debug, Error)]
pub enum BanFault {
    #[error("{path}: {error}")]
    Unreadable { path: String, error: io::Error },
    #[error("{path}: {error}")]
    Wrong { path: String, error: serde_json::Error },
    #[error("{path}: ban {id} names nobody, or what is no address")]
    Nobody { path: String, id: u64 },
}

/// Why a ban is not made.
#[derive(Debug, Error)]
pub(super) enum NotBanned {
    #[error("{0}")]
    Wrong(&'static str),
    #[error("the bans cannot be written: {0}")]
    Unwritten(#[from] io::Error),
}

impl Ban {
    fn banned(&self) -> Option<Banned> {
        match (&self.client_id, &self.user, &self.address) {
            (Some(client_id), None, None) => Some(Banned::Client(client_id.as_str().into())),
            (None, Some(user), None) => Some(Banned::User(user.as_str().into())),
            (None, None, Some(address)) => banned_address(address),
            _ => None,
        }
    }

    fn is_over(&self, now: u64) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    fn is_about_the_same(&self, other: &Ban) -> bool {
        let whom = |ban: &Ban| (ban.client_id.clone(), ban.user.clone(), ban.banned());
        whom(self) == whom(other)
    }
}

fn banned_address(text: &str) -> Option<Banned> {
    match text.parse::<IpAddr>() {
        Ok(ip) => Some(Banned::Address(ip.to_canonical())),
        Err(_) => text.parse::<Network>().ok().map(Banned::Network),
    }
}

impl BanBook {
    /// The bans that a file keeps, if there is one. Without a path they last as long as the
    /// process.
    pub fn open(path: Option<PathBuf>, clock: WallClock) -> Result<BanBook, BanFault> {
        let mut book = BanBook { path, clock, entries: Vec::new(), next_id: 1 };
        let Some(path) = &book.path else { return Ok(book) };
        let shown = || path.display().to_string();
        let text = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(book),
            read => read.map_err(|error| BanFault::Unreadable { path: shown(), error })?,
        };
        let kept: Kept = serde_json::from_slice(&text)
            .map_err(|error| BanFault::Wrong { path: shown(), error })?;
        if let Some(ban) = kept.bans.iter().find(|ban| ban.banned().is_none()) {
            return Err(BanFault::Nobody { path: shown(), id: ban.id });
        }
        book.next_id = kept.bans.iter().map(|ban| ban.id).max().unwrap_or(0).saturating_add(1);
        book.entries = kept.bans;
        Ok(book)
    }

    /// The bans as shards look at them.
    pub fn bans(&self) -> Arc<Bans> {
        let until = |ban: &Ban| ban.until.map(|until| WallTime::from_nanos(nanos(until)));
        let all = self.entries.iter().filter_map(|ban| Some((ban.banned()?, until(ban))));
        Arc::new(Bans::of(all))
    }

    /// Those that are not over, oldest first.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Ban> {
        let now = self.now();
        self.entries.iter().filter(move |ban| !ban.is_over(now))
    }

    /// Makes a ban, in place of an earlier one of the same client, user or address.
    pub(super) fn add(&mut self, wanted: Wanted, by: String) -> Result<Ban, NotBanned> {
        let Wanted { client_id, user, address, seconds, reason } = wanted;
        let names = [&client_id, &user, &address];
        let is_short = |text: &&String| (1..=NAME_BYTES_MAX).contains(&text.len());
        if names.iter().filter(|name| name.is_some()).count() != 1 {
            return Err(NotBanned::Wrong("name one of `client_id`, `user` and `address`"));
        }
        if !names.into_iter().flatten().all(|name| is_short(&name)) {
            return Err(NotBanned::Wrong("a name has 1 to 1024 bytes"));
        }
        if seconds.is_some_and(|seconds| !(1..=SECONDS_MAX).contains(&seconds)) {
            return Err(NotBanned::Wrong("`seconds` is a number from 1 to 315360000, ten years"));
        }
        let is_text = |text: &String| text.len() <= REASON_BYTES_MAX && !text::has_disallowed(text);
        if !reason.as_ref().is_none_or(is_text) {
            return Err(NotBanned::Wrong("`reason` has up to 256 bytes and no control character"));
        }
        let since = self.now();
        let until = seconds.map(|seconds| since + seconds * 1_000);
        let id = self.next_id;
        let ban = Ban { id, client_id, user, address, until, since, reason, by };
        if ban.banned().is_none() {
            let wrong = "`address` is an address, such as 192.0.2.1, or a network, such as \
                         2001:db8::/48";
            return Err(NotBanned::Wrong(wrong));
        }
        let kept = self.entries().filter(|earlier| !earlier.is_about_the_same(&ban));
        let mut entries: Vec<Ban> = kept.cloned().collect();
        if entries.len() >= BANS_MAX {
            return Err(NotBanned::Wrong("there are 4096 bans already: delete some"));
        }
        entries.push(ban.clone());
        self.keep(entries)?;
        self.next_id += 1;
        Ok(ban)
    }

    /// Ends a ban. `None`: there is no such ban.
    pub(super) fn remove(&mut self, id: u64) -> Result<Option<Ban>, NotBanned> {
        let Some(ban) = self.entries().find(|ban| ban.id == id).cloned() else { return Ok(None) };
        let entries = self.entries().filter(|ban| ban.id != id).cloned().collect();
        self.keep(entries)?;
        Ok(Some(ban))
    }

    /// Writes these bans first, so that nothing holds that a restart would forget.
    fn keep(&mut self, entries: Vec<Ban>) -> Result<(), NotBanned> {
        let kept = Kept { bans: entries };
        if let Some(path) = &self.path {
            let text = serde_json::to_vec(&kept).map_err(io::Error::other)?;
            write_whole(path, &text)?;
        }
        self.entries = kept.bans;
        Ok(())
    }

    /// In milliseconds since 1970, by the clock of the shards.
    fn now(&self) -> u64 {
        self.clock.time_of(runtime::now()).as_nanos() / 1_000_000
    }
}

fn nanos(millis: u64) -> u64 {
    millis.saturating_mul(1_000_000)
}

const BANS_MAX: usize = 4096;
const NAME_BYTES_MAX: usize = 1024;
const REASON_BYTES_MAX: usize = 256;
const SECONDS_MAX: u64 = 10 * 365 * 24 * 3600;

#[cfg(test)]
mod tests {
    use std::{env, process};

    use super::*;

    fn wanted(text: &str) -> Wanted {
        serde_json::from_str(text).unwrap()
    }

    fn book(path: Option<&PathBuf>) -> Result<BanBook, BanFault> {
        BanBook::open(path.cloned(), runtime::wall_clock())
    }

    #[test]
    fn bans_are_read_again_from_their_file() {
        let path = env::temp_dir().join(format!("ringmq-bans-{}.json", process::id()));
        drop(fs::remove_file(&path));
        let mut first = book(Some(&path)).unwrap();
        let ban = first.add(wanted(r#"{"user":"a\n","seconds":60}"#), "root".to_owned()).unwrap();
        first.add(wanted(r#"{"address":"192.0.2.0/24"}"#), "root".to_owned()).unwrap();
        let again = first.add(wanted(r#"{"user":"a\n","reason":"x"}"#), "me".to_owned()).unwrap();
        assert_ne!(ban.id, again.id);
        let mut second = book(Some(&path)).unwrap();
        let ids = |book: &BanBook| book.entries().map(|ban| ban.id).collect::<Vec<_>>();
        assert_eq!(ids(&second), [2, 3]);
        assert_eq!(second.remove(2).unwrap().unwrap().address.as_deref(), Some("192.0.2.0/24"));
        assert!(second.remove(2).unwrap().is_none());
        assert_eq!(ids(&book(Some(&path)).unwrap()), [3]);
        for (text, words) in [("{", "EOF"), (r#"{"bans":[{}]}"#, "missing field")] {
            fs::write(&path, text).unwrap();
            let said = book(Some(&path)).unwrap_err().to_string();
            assert!(said.contains(words) && said.contains("ringmq-bans"), "{said}");
        }
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_wrong_ban_is_refused_with_what_is_wrong() {
        let mut book = book(None).unwrap();
        for (text, words) in [
            ("{}", "name one of"),
            (r#"{"user":"a","client_id":"b"}"#, "name one of"),
            (r#"{"user":""}"#, "1 to 1024"),
            (r#"{"user":"a","seconds":0}"#, "`seconds`"),
            (r#"{"user":"a","seconds":18446744073709551615}"#, "`seconds`"),
            (r#"{"user":"a","reason":"\u0007"}"#, "`reason`"),
            (r#"{"address":"192.0.2.1/33"}"#, "`address`"),
            (r#"{"address":"example.com"}"#, "`address`"),
        ] {
            let said = book.add(wanted(text), String::new()).unwrap_err().to_string();
            assert!(said.contains(words), "{text}: {said}");
        }
        for n in 0..BANS_MAX {
            book.add(wanted(&format!("{{\"user\":\"{n}\"}}")), String::new()).unwrap();
        }
        let said = book.add(wanted(r#"{"user":"x"}"#), String::new()).unwrap_err().to_string();
        assert!(said.contains("4096 bans"), "{said}");
        // One in place of an earlier one needs no room.
        book.add(wanted(r#"{"user":"7"}"#), String::new()).unwrap();
    }
}
