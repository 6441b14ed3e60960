//! All shards of one broker in one thread, the mesh between them, and each single thing that can
//! happen to them. What happens next is chosen elsewhere.

use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    sync::Arc,
};

use ringmq::{
    access::{Accounts, Failures},
    base::{
        hash::Seed,
        ids::ShardId,
        shared_count::SharedCount,
        time::{Moment, Span},
    },
    shard::{
        Shard,
        events::Presence,
        letter::LetterBatch,
        memory::MemoryBudget,
        ports::{Arrival, Brain, End},
        referral::Referral,
        rules::Rules,
        settings::{Settings, StoreSettings},
        stats::Counters,
    },
    transport::Listener,
};

use crate::{
    disk::Disk,
    link::{Link, Phase},
    oracle::{Event, Oracle, Seen},
    plan::{Plan, START},
    planted::{Fault, Planted},
    planted_records::PlantedRecords,
    ports::{Effect, Effects, Place, SimulatedPorts},
    violation::{Violation, ensure},
    witness::Witness,
};

pub(crate) type Verdict = Result<(), Violation>;

#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) shards: Vec<Shard>,
    pub(crate) places: Vec<Place>,
    pub(crate) links: Vec<Link>,
    /// From each shard to each.
    lanes: Vec<Vec<Lane>>,
    pub(crate) now: Moment,
    pub(crate) planted: Planted,
    effects: Effects,
    pub(crate) oracle: Oracle,
    step: u64,
    /// How many addresses the clients come from.
    addresses: usize,
    mailbox_items_max: usize,
    outbox_bytes_max: usize,
    /// Connections that each shard was handed by others, and that it has handed over.
    moved: Vec<(u64, u64)>,
    /// Messages that found a queue full, and that a share group may have lost.
    pub(crate) group_drops: u64,
    rules: Arc<Rules>,
    /// What survives a crash, and who watches that it does.
    pub(crate) disk: Option<Disk>,
    pub(crate) witness: Option<Witness>,
    pub(crate) planted_records: PlantedRecords,
}

/// What is on its way from one shard to another.
#[derive(Debug, Default)]
struct Lane {
    leaving: VecDeque<usize>,
    mailbox: VecDeque<QueuedMessage>,
    /// A crowded batch has gone, and its writers have not been told.
    posted: bool,
}

#[derive(Debug)]
enum QueuedMessage {
    /// Letters, and the step up to which they tell everything.
    Letters(LetterBatch, u64),
    Link(usize),
}

impl Broker {
    pub(crate) fn new(plan: &Plan, now: Moment) -> Broker {
        let planted = Planted::new(plan);
        let mut rules = Rules {
            limits: plan.limits.clone(),
            offer: plan.offer.clone(),
            referral: Referral::default(),
            policy: plan.policy(),
            strategies: plan.strategies.clone(),
            sys_interval: plan.sys_interval,
            presence: Presence::Off,
            listeners: vec![Listener::tcp(SocketAddr::from(([127, 0, 0, 1], 1883)))].into(),
        };
        planted.misset(&mut rules);
        let rules = Arc::new(rules);
        let mut broker = Broker {
            shards: Vec::new(),
            places: Vec::new(),
            links: Vec::new(),
            lanes: Vec::new(),
            now,
            planted,
            effects: Effects::default(),
            oracle: Oracle::new(plan),
            step: 0,
            addresses: plan.addresses(),
            mailbox_items_max: plan.mailbox_items_max,
            outbox_bytes_max: plan.limits.outbox_bytes_max,
            moved: Vec::new(),
            group_drops: 0,
            rules,
            disk: plan.disk.as_ref().map(|disk| Disk::new(plan.seed, disk)),
            witness: plan.disk.as_ref().map(|_| Witness::new(plan)),
            planted_records: PlantedRecords::new(plan),
        };
        if broker.disk.is_none() {
            broker.begin(plan, None);
        }
        broker
    }

    /// The shards of a process that has just begun.
    pub(crate) fn begin(&mut self, plan: &Plan, store: Option<StoreSettings>) {
        let template = Settings {
            shard: ShardId::FIRST,
            shards: plan.shards,
            seed: Seed::new(plan.seed),
            started_at: self.now,
            wall_clock: plan.wall_clock(START),
            failures: Failures::new(Seed::new(plan.seed)),
            sessions: SharedCount::default(),
            accounts: Accounts::new(Seed::new(plan.seed)),
            memory: MemoryBudget::new(usize::MAX),
            store,
        };
        let settings = |shard| {
            let seed = self.planted_records.seed_of(shard, plan.seed);
            Settings { shard, seed, ..template.clone() }
        };
        let shards = ShardId::all(plan.shards);
        self.shards = shards.map(|shard| Shard::new(settings(shard), &self.rules)).collect();
        let place = |at| Place::new(plan.seed, at, plan.shards);
        self.places = (0..plan.shards).map(place).collect();
        let row = || (0..plan.shards).map(|_| Lane::default()).collect();
        self.lanes = (0..plan.shards).map(|_| row()).collect();
        self.moved = vec![(0, 0); plan.shards];
    }

    /// One call of one shard, and what the oracle says of it.
    pub(crate) fn call(
        &mut self,
        shard: usize,
        event: Event<'_>,
        call: impl FnOnce(&mut Shard, Moment, &mut SimulatedPorts<'_>) -> usize,
    ) -> Result<usize, Violation> {
        self.step += 1;
        self.effects.clear();
        let before = self.shards[shard].counters();
        let called_for = match event {
            Event::Bytes { link, .. } | Event::Drained { link } => Some(link),
            _ => None,
        };
        let mut ports = SimulatedPorts {
            place: &mut self.places[shard],
            links: &mut self.links,
            effects: &mut self.effects,
            planted: &mut self.planted,
            now: self.now,
            outbox_bytes_max: self.outbox_bytes_max,
            called_for,
        };
        let taken = call(&mut self.shards[shard], self.now, &mut ports);
        // Each call is a turn of its own.
        self.shards[shard].handle_turn(self.now, &mut ports);
        self.post_records(shard);
        for at in 0..self.effects.list.len() {
            if let Effect::HandedOver { link, home } = self.effects.list[at] {
                self.moved[shard].1 += 1;
                self.lanes[shard][home.index()].leaving.push_back(link);
            }
        }
        let after = self.shards[shard].counters();
        let event = match event {
            Event::Bytes { link, bytes } => Event::Bytes { link, bytes: &bytes[..taken] },
            Event::Letters { from, batch, upto, .. } => {
                Event::Letters { from, batch, handled: taken, upto }
            }
            other => other,
        };
        let survivors =
            (after.clients_evicted > before.clients_evicted).then(|| self.client_ids(shard));
        let seen = Seen {
            step: self.step,
            now: self.now,
            shard,
            event,
            effects: &self.effects,
            counters: (&before, &after),
            survivors: survivors.as_ref(),
        };
        self.oracle.observe(&seen)?;
        if let (Some(witness), Some(disk)) = (&mut self.witness, &self.disk) {
            let is_posted = self.places[shard].records.is_empty();
            let posted = if is_posted { disk.posted() } else { u64::MAX };
            witness.observe(&seen, posted)?;
        }
        self.check_drop(shard, &before, &after)?;
        self.check_count(shard, &after)?;
        Ok(taken)
    }

    /// The Client Identifiers of all sessions of a shard.
    fn client_ids(&self, shard: usize) -> BTreeSet<String> {
        let inventory = self.shards[shard].inventory(self.now);
        inventory.sessions.into_iter().map(|session| session.client_id).collect()
    }

    /// Every connection is open, or has gone in one way.
    fn check_count(&self, shard: usize, counters: &Counters) -> Verdict {
        let (came, went) = self.moved[shard];
        let all = counters.connections_accepted + came;
        let told = counters.connections + counters.ended() + went;
        ensure(all == told, "every connection is open or has ended once", || {
            format!("shard {shard}: {all} have come, {told} are open or have gone")
        })
    }

    pub(crate) fn counters(&self, shard: usize) -> Counters {
        self.shards[shard].counters()
    }

    /// A client opens a connection to a shard.
    pub(crate) fn open(&mut self, client: usize, shard: usize) -> Result<usize, Violation> {
        let link = self.links.len();
        self.links.push(Link::new(client, shard));
        self.oracle.opened(link, client);
        if let Some(witness) = &mut self.witness {
            self.oracle.set_version(link, witness.open(client));
        }
        self.accept(link, shard)?;
        Ok(link)
    }

    fn accept(&mut self, link: usize, shard: usize) -> Verdict {
        let id = self.places[shard].adopt(link);
        let entry = &mut self.links[link];
        let handed_over = entry.phase != Phase::Coming;
        self.moved[shard].0 += u64::from(handed_over);
        (entry.shard, entry.id, entry.phase) = (shard, id, Phase::Open);
        let address = u8::try_from(entry.client % self.addresses).expect("a few addresses");
        let arrival = Arrival {
            listener: 0,
            peer: SocketAddr::from(([127, 0, 0, address], 40_000)),
            surplus: false,
            connections_max: 10_000,
            handed_over: handed_over && !self.planted.is(Fault::CountMoved),
        };
        self.call(shard, Event::Accepted { link }, |brain, now, ports| {
            brain.handle_accepted(now, id, arrival, ports);
            0
        })?;
        Ok(())
    }

    /// So many of the client's bytes arrive.
    pub(crate) fn arrive(&mut self, index: usize, count: usize) {
        let link = &mut self.links[index];
        let count = count.min(link.upstream.len());
        let before = link.unread.len();
        link.unread.extend(link.upstream.drain(..count));
        self.oracle.arrived(index, &link.unread[before..]);
        link.feedable = true;
    }

    /// What has arrived is handed in; then the end of the client's side, if that has come.
    pub(crate) fn feed(&mut self, index: usize) -> Verdict {
        let link = &mut self.links[index];
        link.feedable = false;
        if !link.takes_bytes() {
            link.feedable = link.is_open();
            return Ok(());
        }
        let (shard, id) = (link.shard, link.id);
        if !link.unread.is_empty() {
            let bytes = std::mem::take(&mut link.unread);
            let event = Event::Bytes { link: index, bytes: &bytes };
            let misread = self.planted.is_on().then(|| {
                let version = self.oracle.version_of(index, &bytes);
                self.links[index].version = version;
                self.planted.misread(index, &bytes, version)
            });
            let taken = self.call(shard, event, |brain, now, ports| match &misread {
                None => brain.handle_bytes(now, id, &bytes, ports),
                Some(misread) => {
                    let taken = brain.handle_bytes(now, id, &misread.bytes, ports);
                    misread.taken(taken, bytes.len())
                }
            })?;
            let link = &mut self.links[index];
            if matches!(link.phase, Phase::Open | Phase::Moving(_)) {
                link.unread = bytes[taken..].to_vec();
            }
        }
        let link = &mut self.links[index];
        if link.takes_bytes() && link.is_finished() && !link.feedable {
            link.end_told = true;
            self.end(index, End::Finished)?;
        }
        Ok(())
    }

    /// The broker learns that a connection was reset.
    pub(crate) fn learn_of_reset(&mut self, index: usize) -> Verdict {
        let link = &mut self.links[index];
        link.unread.clear();
        link.outbox.clear();
        if link.phase == Phase::Flushing {
            link.phase = Phase::Closed;
        }
        if !link.is_open() || link.end_told {
            return Ok(());
        }
        link.end_told = true;
        self.end(index, End::Broken)
    }

    fn end(&mut self, index: usize, end: End) -> Verdict {
        let Link { shard, id, .. } = self.links[index];
        self.call(shard, Event::Ended { link: index }, |brain, now, ports| {
            brain.handle_end(now, id, end, ports);
            0
        })?;
        let link = &mut self.links[index];
        // The runtime has given the place away, whatever the shard has said.
        if end == End::Broken && link.is_open() {
            link.phase = Phase::Closed;
            self.places[shard].release(id);
        }
        Ok(())
    }

    /// So many bytes leave an outbox.
    pub(crate) fn send(&mut self, index: usize, count: usize) {
        let limit = self.outbox_bytes_max;
        let link = &mut self.links[index];
        link.send(count);
        if link.throttled && link.outbox.len() < limit {
            link.throttled = false;
            link.feedable = true;
        }
    }

    pub(crate) fn is_drained(&self, index: usize) -> bool {
        let link = &self.links[index];
        !self.planted.is(Fault::ForgetDrained)
            && link.is_open()
            && link.wants_drained
            && link.outbox.len() <= self.outbox_bytes_max / 4
    }

    pub(crate) fn tell_drained(&mut self, index: usize) -> Verdict {
        let link = &mut self.links[index];
        link.wants_drained = false;
        let (shard, id) = (link.shard, link.id);
        self.call(shard, Event::Drained { link: index }, |brain, now, ports| {
            brain.handle_drained(now, id, ports);
            0
        })?;
        Ok(())
    }

    /// Whether a shard has something for another one, and room to post it.
    pub(crate) fn can_post(&self, from: usize, to: usize) -> bool {
        let lane = &self.lanes[from][to];
        // Records go before letters.
        self.places[from].records.is_empty()
            && lane.mailbox.len() < self.mailbox_items_max
            && (!lane.leaving.is_empty() || !self.places[from].letters[to].is_empty())
    }

    /// Posts what a shard has for another, connections first.
    pub(crate) fn post(&mut self, from: usize, to: usize) {
        let lane = &mut self.lanes[from][to];
        while let Some(link) = lane.leaving.pop_front() {
            if lane.mailbox.len() >= self.mailbox_items_max {
                lane.leaving.push_front(link);
                return;
            }
            lane.mailbox.push_back(QueuedMessage::Link(link));
        }
        let letters = &mut self.places[from].letters[to];
        if letters.is_empty() || lane.mailbox.len() >= self.mailbox_items_max {
            return;
        }
        let batch = std::mem::take(letters);
        lane.posted |= batch.is_crowded();
        for batch in self.planted.alter_batch(from, to, batch) {
            lane.mailbox.push_back(QueuedMessage::Letters(batch, self.step));
        }
        if let Some(forged) = self.planted.forge_answer(from, to) {
            self.lanes[to][from].mailbox.push_back(QueuedMessage::Letters(forged, 0));
        }
    }

    pub(crate) fn has_posted(&self, from: usize, to: usize) -> bool {
        self.lanes[from][to].posted
    }

    pub(crate) fn tell_posted(&mut self, from: usize, to: usize) -> Verdict {
        self.lanes[from][to].posted = false;
        let peer = ShardId::new(to).expect("few shards");
        self.call(from, Event::Posted, |brain, now, ports| {
            brain.handle_posted(now, peer, ports);
            0
        })?;
        Ok(())
    }

    pub(crate) fn has_mail(&self, from: usize, to: usize) -> bool {
        !self.lanes[from][to].mailbox.is_empty()
    }

    /// A shard takes the next item out of a mailbox.
    pub(crate) fn receive(&mut self, from: usize, to: usize) -> Verdict {
        match self.lanes[from][to].mailbox.pop_front() {
            Some(QueuedMessage::Letters(mut batch, upto)) => {
                let peer = ShardId::new(from).expect("few shards");
                let event = Event::Letters { from, batch: &batch, handled: 0, upto };
                let handled = self.call(to, event, |brain, now, ports| {
                    brain.handle_letters(now, peer, &batch, ports)
                })?;
                if !batch.note_handled(handled) {
                    let rest = QueuedMessage::Letters(batch, upto);
                    self.lanes[from][to].mailbox.push_front(rest);
                }
                Ok(())
            }
            Some(QueuedMessage::Link(link)) => {
                self.accept(link, to)?;
                self.feed(link)
            }
            None => Ok(()),
        }
    }

    pub(crate) fn tell_verdict(&mut self, shard: usize, which: usize) -> Verdict {
        let (id, finding) = self.places[shard].verdicts.swap_remove(which);
        self.call(shard, Event::Verdict, |brain, now, ports| {
            brain.handle_verdict(now, id, finding, ports);
            0
        })?;
        Ok(())
    }

    /// The broker is told to stop; whoever comes after that is turned away.
    pub(crate) fn stop(&mut self, shard: usize) -> Verdict {
        self.call(shard, Event::Stop, |brain, now, ports| {
            brain.handle_stop(now, ports);
            0
        })?;
        Ok(())
    }

    pub(crate) fn is_due(&self, shard: usize) -> bool {
        self.shards[shard].next_deadline().is_some_and(|deadline| deadline <= self.now)
    }

    pub(crate) fn fire(&mut self, shard: usize) -> Verdict {
        let ahead = if self.planted.is(Fault::HurryClock) { HURRY } else { Span::ZERO };
        self.call(shard, Event::Time, |brain, now, ports| {
            let now = now + ahead;
            brain.handle_time(now, ports);
            0
        })?;
        Ok(())
    }

    /// A shard is told the rules that it has. That changes nothing.
    pub(crate) fn repeat_rules(&mut self, shard: usize) -> Verdict {
        let rules = Arc::clone(&self.rules);
        self.call(shard, Event::Rules, |brain, now, ports| {
            brain.handle_rules(now, &rules, ports);
            0
        })?;
        Ok(())
    }

    /// When the first shard wants to be called.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        let shards = self.shards.iter().filter_map(Brain::next_deadline);
        shards.chain(self.next_release()).min()
    }
}

/// How far a clock that goes wrong is ahead.
const HURRY: Span = Span::from_millis(700);
