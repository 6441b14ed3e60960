//! Clients that say nothing, for as long as they may.

use ringmq::{
    base::time::{Moment, Span},
    mqtt::{ReasonCode, Version},
};

use super::{Oracle, Seen, model::Conn, sessions::has_struck};
use crate::{
    ports::Effect,
    violation::{Violation, ensure},
};

impl Conn {
    /// When it will have been silent for too long: one and a half times the Keep Alive.
    fn silent_at(&self) -> Option<Moment> {
        let span = Span::from_millis(u64::from(self.keep_alive) * 1_500);
        (self.connected && self.keep_alive > 0).then(|| self.last_packet + span)
    }
}

impl Oracle {
    /// Takes note of who is not read from, and who is on its way to another shard. Silence that
    /// the broker has made is not the client's.
    pub(super) fn note_turns(&mut self, seen: &Seen<'_>) {
        for (link, paused) in seen.effects.turned() {
            let conn = &mut self.conns[link];
            conn.paused = paused;
            if !paused {
                conn.last_packet = seen.now;
            }
        }
        for effect in &seen.effects.list {
            if let Effect::HandedOver { link, .. } = *effect {
                self.conns[link].at = None;
            }
        }
    }

    /// After a shard has looked at its timers. [MQTT-3.1.2-22]
    pub(super) fn check_silence(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        let connect_timeout = self.limits.connect_timeout;
        let open = self.conns.iter_mut().enumerate();
        for (link, conn) in open.filter(|(_, it)| it.at == Some(seen.shard) && !it.closed) {
            // What a CONNECT waits for has a time limit of its own.
            let is_answered = conn.connected || conn.waiting.is_some();
            let timely = is_answered || !has_struck(conn.accepted_at + connect_timeout, seen.now);
            ensure(timely, "who never says CONNECT is let go", || format!("link {link}"))?;
            if !conn.silent_at().is_some_and(|at| has_struck(at, seen.now)) {
                continue;
            }
            ensure(conn.paused, "who is silent for too long is let go", || format!("link {link}"))?;
            conn.last_packet = seen.now;
        }
        Ok(())
    }

    /// After a shard was told to stop: nobody is left, and whoever could be told was told.
    pub(super) fn check_farewells(&self, seen: &Seen<'_>) -> Result<(), Violation> {
        let here = self.conns.iter().enumerate().filter(|(_, it)| it.at == Some(seen.shard));
        for (link, conn) in here {
            ensure(conn.closed, "a broker that stops closes all connections", || {
                format!("link {link}")
            })?;
        }
        for link in seen.effects.closed() {
            let conn = &self.conns[link];
            let told = conn.farewell == Some(ReasonCode::ServerShuttingDown);
            let deaf = conn.version < Version::V5 || !conn.connected;
            ensure(told || deaf, "a broker that stops says so", || format!("link {link}"))?;
        }
        Ok(())
    }
}
