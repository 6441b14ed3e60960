//! A run of a broker with a disk: it crashes at any step, begins again with other shards, and keeps
//! what it has promised.

use ringmq::{
    base::{time::Span, wheel::TICK},
    mqtt::Version,
};

use super::{Run, STEPS, Step};
use crate::{
    broker::Verdict,
    client::{Client, News, Stage},
    violation::{Violation, ensure},
    witness::{self, Witness},
    workload::Workload,
};

impl Run {
    /// As [`Run::all`], with crashes.
    pub(super) fn survive(&mut self) -> Verdict {
        self.restart()?;
        for step in 0..self.plan.steps {
            if self.plan.pauses && step == self.plan.steps / 2 {
                self.exhaust()?;
                self.restart_at_rest()?;
            }
            let at = self.schedule.weighted(&self.plan.turns);
            self.take(STEPS[at])?;
            self.move_now_and_then()?;
            if self.is_struck() {
                self.crash();
                self.restart()?;
            }
        }
        self.heal()?;
        self.check_promises()?;
        self.restart_at_rest()?;
        self.come_back_to_nothing()
    }

    /// The disk works beside the shards.
    fn move_now_and_then(&mut self) -> Verdict {
        let haste = self.plan.disk.as_ref().map_or(0, |disk| disk.haste);
        if self.crashes.chance(haste) {
            self.move_disk()?;
        }
        Ok(())
    }

    pub(super) fn move_disk(&mut self) -> Result<bool, Violation> {
        if self.plan.disk.is_none() {
            return Ok(false);
        }
        let choice = self.crashes.below(1_000);
        self.broker.move_disk(choice)
    }

    /// All that waits for the disk comes to be on disk. Says whether there was anything.
    pub(super) fn move_disk_to_rest(&mut self) -> Result<bool, Violation> {
        let mut moved = false;
        while self.move_disk()? {
            moved = true;
        }
        Ok(moved)
    }

    fn is_struck(&mut self) -> bool {
        let crashes = self.plan.disk.as_ref().map_or(0, |disk| disk.crashes);
        self.crashes.below(10_000) < crashes
    }

    /// The process ends, and is down for a while.
    fn crash(&mut self) {
        self.end_process();
        let ticks = self.crashes.pick(&[0, 0, 1, 70, 320, 2_600]);
        self.broker.now = self.broker.now + Span::from_nanos(TICK.as_nanos() * ticks);
    }

    /// What was sent may still come to the clients. The next process has any number of shards.
    fn end_process(&mut self) {
        self.broker.crash();
        if self.crashes.chance(50) {
            self.broker.links.iter_mut().for_each(|link| link.downstream.clear());
        }
        self.plan.shards = self.crashes.between(1, 4);
    }

    /// Processes begin until one has come to the point where clients are let in.
    fn restart(&mut self) -> Verdict {
        self.broker.restart(&self.plan)?;
        while !self.start()? {
            self.crash();
            self.broker.restart(&self.plan)?;
        }
        self.broker.check_agreement()
    }

    /// The shards tell each other what they have. False: the process has ended before.
    fn start(&mut self) -> Result<bool, Violation> {
        loop {
            let mut moved = false;
            for step in [Step::Post, Step::Receive, Step::Notify] {
                moved |= self.move_on(step)?;
            }
            if self.crashes.chance(20) || !moved {
                moved |= self.move_disk()?;
            }
            if self.is_struck() {
                return Ok(false);
            }
            if !moved {
                ensure(self.broker.is_ready(), "a start comes to its end", String::new)?;
                return Ok(true);
            }
        }
    }

    /// Nothing is on its way, and all is on disk: a crash changes nothing.
    fn restart_at_rest(&mut self) -> Verdict {
        self.exhaust()?;
        let before = self.broker.portrait();
        self.end_process();
        self.broker.restart(&self.plan)?;
        self.broker.check_unchanged(&before)?;
        while !self.start()? {
            self.end_process();
            self.broker.restart(&self.plan)?;
        }
        self.broker.check_agreement()
    }

    /// All clients are there: each has got all that it was promised.
    fn check_promises(&mut self) -> Verdict {
        self.exhaust()?;
        for client in &self.clients {
            let Client { name, stage, outgoing, asking, .. } = client;
            // Some have been silent for longer than their Keep Alive.
            ensure(*stage != Stage::Connecting, "every packet is answered", || name.clone())?;
            if *stage == Stage::Off {
                continue;
            }
            let waits = || format!("{name} waits for {outgoing:?}, {asking:?}");
            ensure(outgoing.is_empty() && asking.is_empty(), "every packet is answered", waits)?;
        }
        self.broker.witness.as_ref().map_or(Ok(()), Witness::check_delivered)?;
        self.broker.check_agreement()
    }

    /// Everyone comes back after a restart at which nobody was owed anything.
    fn come_back_to_nothing(&mut self) -> Verdict {
        for client in 0..self.clients.len() {
            let link = self.open(client)?;
            let version = self.version_of(client);
            let bytes = Workload::come_back(&mut self.clients[client], version, link);
            self.transmit(client, &bytes);
        }
        self.returned = true;
        self.settle()?;
        self.check_promises()
    }

    /// What a client was sent is judged.
    pub(super) fn take_news(&mut self, client: usize) -> Verdict {
        for news in std::mem::take(&mut self.clients[client].news) {
            let is_message = matches!(news, News::Message { .. });
            let told = || format!("{}: {news:?}", self.clients[client].name);
            ensure(!is_message || !self.returned, "what was taken does not come again", told)?;
            if let Some(witness) = &mut self.broker.witness {
                witness.take_news(client, news)?;
            }
        }
        Ok(())
    }

    pub(super) fn version_of(&self, client: usize) -> Version {
        match self.plan.disk {
            Some(_) => witness::version_of(client),
            None => Workload::version_for(client),
        }
    }

    /// Says of a client what it is in a run with a disk.
    pub(super) fn watch(client: &mut Client, at: usize) {
        client.watched = true;
        client.steady = witness::is_steady(at);
        client.is_new = false;
    }
}
