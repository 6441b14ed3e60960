//! Which sessions there are: those that clients were told of, until they end.

use ringmq::{
    base::{
        time::{Moment, Span},
        wheel::TICK,
    },
    mqtt::{Connack, Connect, ReasonCode, Version},
};

use super::{Said, Witness, number_of};
use crate::violation::{Violation, ensure};

/// What is known of the session of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Terms {
    /// There is none.
    Gone,
    /// It ends with its connection, and with the process.
    Fleeting,
    /// It ends so many seconds after its connection.
    Timed { expiry: u32, absent: Option<Absent> },
    /// It ends when the client wants a new one.
    Lasting,
    /// The client has asked for a change, and was not told that it has been made.
    Doubtful,
}

/// Since when a client has no connection, as the broker may know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Absent {
    earliest: Moment,
    latest: Moment,
    /// This is on disk with so many batches.
    posted: u64,
}

/// A CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offered {
    clean: bool,
    expiry: u32,
    /// What was known of the session when it was sent, and when its home had last looked at its
    /// timers.
    before: Terms,
    fired: Moment,
    pub(super) taken: bool,
}

impl Terms {
    /// The process has ended, and another one has begun with so many batches of records.
    pub(super) fn crash(&mut self, kept: u64, now: Moment) {
        match self {
            Terms::Fleeting => *self = Terms::Gone,
            Terms::Timed { absent: absent @ None, .. } => {
                *absent = Some(Absent { earliest: now, latest: now, posted: u64::MAX });
            }
            Terms::Timed { absent: Some(absent), .. } if absent.posted > kept => {
                (absent.latest, absent.posted) = (now, u64::MAX);
            }
            _ => {}
        }
    }

    /// The home of the session has written down since when its client is away. That is on disk
    /// with so many batches.
    pub(super) fn note_start(&mut self, posted: u64) {
        if let Terms::Timed { absent: Some(absent), .. } = self {
            absent.posted = absent.posted.min(posted);
        }
    }

    fn of(expiry: u32) -> Terms {
        match expiry {
            0 => Terms::Fleeting,
            u32::MAX => Terms::Lasting,
            expiry => Terms::Timed { expiry, absent: None },
        }
    }

    /// Whether there surely is a session, or surely none. `fired`: the timers up to then have done
    /// their work.
    pub(super) fn promise(self, fired: Moment, now: Moment) -> Option<bool> {
        match self {
            Terms::Gone | Terms::Fleeting => Some(false),
            Terms::Lasting | Terms::Timed { absent: None, .. } => Some(true),
            Terms::Doubtful => None,
            Terms::Timed { expiry, absent: Some(absent) } => {
                let lasts = Span::from_secs(expiry.into());
                if absent.earliest + lasts > now {
                    return Some(true);
                }
                (absent.latest + lasts + TICK + TICK <= fired).then_some(false)
            }
        }
    }
}

impl Witness {
    /// A client sends CONNECT.
    pub(super) fn offer(&mut self, link: usize, connect: &Connect<'_>) {
        let at = self.links[link].client;
        let expiry = match connect.version {
            Version::V5 => connect.properties.session_expiry_interval.unwrap_or(0),
            _ if connect.clean_start => 0,
            _ => u32::MAX,
        };
        let (clean, fired) = (connect.clean_start, self.fired[self.home(at)]);
        let mut before = self.clients[at].terms;
        // The connection may end, and the session too, before this is taken.
        if matches!(before, Terms::Timed { absent: None, .. }) {
            before = Terms::Doubtful;
        }
        let offered = Offered { clean, expiry, before, fired, taken: false };
        if let Some(will) = &connect.will
            && let Some(number) = number_of(will.payload)
        {
            let said = Said::will(at, will.topic, will.properties.message_expiry_interval);
            self.messages.insert(number, said);
        }
        if before != Terms::Lasting || clean || expiry != u32::MAX {
            // Nobody knows which one the broker takes first.
            for other in self.links.iter_mut().filter(|it| it.client == at && !it.connected) {
                if let Some(other) = &mut other.offered {
                    other.before = Terms::Doubtful;
                }
            }
            self.clients[at].unresolved.push(link);
            self.doubt(at);
        }
        self.links[link].offered = Some(offered);
    }

    /// From now on nothing is sure of the session of a client.
    pub(super) fn doubt(&mut self, client: usize) {
        let watched = &mut self.clients[client];
        watched.terms = Terms::Doubtful;
        watched.filters.values_mut().for_each(|filter| filter.sure = None);
        self.void(client, |_| true);
    }

    /// The CONNECT of a connection changes nothing any more.
    pub(super) fn resolve(&mut self, link: usize) {
        let client = self.links[link].client;
        self.clients[client].unresolved.retain(|&other| other != link);
    }

    /// The broker has let a client in, or has refused it.
    pub(super) fn settle(
        &mut self,
        link: usize,
        connack: &Connack<'_>,
        now: Moment,
    ) -> Result<(), Violation> {
        self.resolve(link);
        let Some(offered) = self.links[link].offered else { return Ok(()) };
        let at = self.links[link].client;
        if connack.reason_code != ReasonCode::Success {
            return Ok(());
        }
        self.links[link].connected = true;
        let present = connack.session_present;
        let promise =
            if offered.clean { Some(false) } else { offered.before.promise(offered.fired, now) };
        let told = || format!("{} on link {link}: {offered:?}", self.clients[at].name);
        ensure(promise != Some(true) || present, "a session that was promised is there", told)?;
        ensure(promise != Some(false) || !present, "a session that has ended is not there", told)?;
        let watched = &mut self.clients[at];
        watched.link = Some(link);
        if !watched.unresolved.is_empty() {
            return Ok(());
        }
        watched.terms = Terms::of(offered.expiry);
        if !present {
            let step = self.step;
            watched.filters.values_mut().for_each(|filter| filter.end(step));
            watched.flights.clear();
        }
        Ok(())
    }

    /// The shard has nothing more to do with a connection. That is on disk with so many batches.
    pub(super) fn end_link(&mut self, link: usize, now: Moment, posted: u64) {
        self.resolve(link);
        let watched = &mut self.clients[self.links[link].client];
        if watched.link != Some(link) {
            return;
        }
        watched.link = None;
        match &mut watched.terms {
            Terms::Fleeting => watched.terms = Terms::Gone,
            Terms::Timed { absent, .. } => {
                *absent = Some(Absent { earliest: now, latest: now, posted });
            }
            _ => {}
        }
    }
}
