//! One run: a seed's choice of every next step, with faults first and then without, until nothing
//! is left of it.

mod survive;

use ringmq::{
    base::{time::Span, wheel::TICK},
    shard::stats::Counters,
};

use crate::{
    broker::{Broker, Verdict},
    client::{Client, Stage},
    link::Phase,
    plan::{Plan, START},
    random::{Random, purpose},
    violation::{Violation, ensure},
    workload::{Operation, Workload},
};

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Operate,
    Arrive,
    Feed,
    Send,
    Read,
    Answer,
    Post,
    Receive,
    Notify,
    Fire,
    Tick,
    Learn,
    Fault,
}

const STEPS: [Step; 13] = [
    Step::Operate,
    Step::Arrive,
    Step::Feed,
    Step::Send,
    Step::Read,
    Step::Answer,
    Step::Post,
    Step::Receive,
    Step::Notify,
    Step::Fire,
    Step::Tick,
    Step::Learn,
    Step::Fault,
];

/// How often each of them, usually.
pub(crate) const USUAL: [usize; 13] = [10, 14, 14, 12, 12, 8, 10, 12, 4, 3, 3, 2, 1];

pub(crate) struct Run {
    plan: Plan,
    broker: Broker,
    clients: Vec<Client>,
    workload: Workload,
    network: Random,
    schedule: Random,
    faults: Random,
    /// Links that something can still happen to.
    alive: Vec<usize>,
    /// Resets that the broker has not learned of.
    resets: Vec<usize>,
    healing: bool,
    /// What the disk does, and when the broker crashes.
    crashes: Random,
    /// Everyone has come back, and nobody is owed anything.
    returned: bool,
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// A digest of everything that happened.
    pub(crate) trace: u64,
    pub(crate) steps: u64,
    pub(crate) verdict: Verdict,
    pub(crate) story: Vec<String>,
    /// What all shards have counted.
    pub(crate) counters: Counters,
}

/// Runs a plan to its end, or to the first law that is broken.
pub(crate) fn run(plan: &Plan, tell: bool) -> Outcome {
    let mut run = Run::new(plan);
    run.broker.oracle.tell(tell);
    let verdict = run.all();
    let oracle = &mut run.broker.oracle;
    let (story, trace, steps) = (oracle.take_story(), oracle.trace(), oracle.steps());
    let mut counters = Counters::default();
    (0..run.broker.shards.len()).for_each(|shard| counters.add(&run.broker.counters(shard)));
    Outcome { trace, steps, verdict, story, counters }
}

impl Run {
    fn new(plan: &Plan) -> Run {
        let stream = |purpose| Random::new(plan.seed, purpose);
        let hostile = plan.clients - plan.hostile;
        Run {
            plan: plan.clone(),
            broker: Broker::new(plan, START),
            clients: (0..plan.clients)
                .map(|at| {
                    let mut client =
                        Client::new(at, plan.groups_from + at % plan.groups, at >= hostile);
                    client.hoards = plan.hoards && at % 2 == 0;
                    if plan.disk.is_some() {
                        Run::watch(&mut client, at);
                    }
                    client
                })
                .collect(),
            workload: Workload::new(plan, stream(purpose::WORKLOAD)),
            network: stream(purpose::NETWORK),
            schedule: stream(purpose::SCHEDULE),
            faults: stream(purpose::FAULTS),
            alive: Vec::new(),
            resets: Vec::new(),
            healing: false,
            crashes: stream(purpose::CRASHES),
            returned: false,
        }
    }

    fn all(&mut self) -> Verdict {
        if self.plan.disk.is_some() {
            return self.survive();
        }
        for step in 0..self.plan.steps {
            if self.plan.pauses && step == self.plan.steps / 2 {
                self.pause()?;
            }
            if step.is_multiple_of(STEPS_PER_RULES) {
                self.broker.repeat_rules(step / STEPS_PER_RULES % self.plan.shards)?;
            }
            let at = self.schedule.weighted(&self.plan.turns);
            self.take(STEPS[at])?;
            if step.is_multiple_of(STEPS_PER_LOOK) {
                self.broker.check_limits(step / STEPS_PER_LOOK % self.plan.shards)?;
            }
        }
        if self.plan.stops {
            return self.stop();
        }
        self.heal()?;
        self.broker.check_healed(&self.clients)?;
        self.wind_down()?;
        self.broker.check_empty()
    }

    fn take(&mut self, step: Step) -> Verdict {
        match step {
            Step::Operate => self.operate(),
            Step::Tick => {
                self.tick();
                Ok(())
            }
            Step::Fault => {
                self.fault();
                Ok(())
            }
            _ => {
                if !self.move_on(step)? && self.schedule.chance(30) {
                    self.operate()?;
                }
                Ok(())
            }
        }
    }

    /// Lets one thing of this kind happen, if there is one. Says whether there was.
    fn move_on(&mut self, step: Step) -> Result<bool, Violation> {
        match step {
            Step::Arrive => Ok(self.arrive()),
            Step::Feed => self.feed(),
            Step::Send => Ok(self.send()),
            Step::Read => self.read(),
            Step::Answer => Ok(self.answer()),
            Step::Post => Ok(self.post()),
            Step::Receive => self.receive(),
            Step::Notify => self.notify(),
            Step::Fire => self.fire(),
            Step::Learn => self.learn(),
            Step::Operate | Step::Tick | Step::Fault => Ok(false),
        }
    }

    /// One of the links of which this holds.
    fn some_link(&mut self, holds: impl Fn(&Broker, usize) -> bool) -> Option<usize> {
        let first = self.schedule.below(self.alive.len());
        let turned = self.alive[first..].iter().chain(&self.alive[..first]);
        turned.copied().find(|&link| holds(&self.broker, link))
    }

    fn arrive(&mut self) -> bool {
        let holds = |broker: &Broker, link: usize| {
            let link = &broker.links[link];
            !link.reset && !link.upstream.is_empty() && link.phase != Phase::Closed
        };
        let Some(link) = self.some_link(holds) else { return false };
        let count = self.chunk();
        self.broker.arrive(link, count);
        true
    }

    fn chunk(&mut self) -> usize {
        if self.network.chance(30) {
            usize::MAX
        } else {
            self.network.between(1, self.plan.chunk_max)
        }
    }

    fn feed(&mut self) -> Result<bool, Violation> {
        let holds = |broker: &Broker, link: usize| {
            let link = &broker.links[link];
            link.takes_bytes() && (link.feedable || link.is_finished())
        };
        let Some(link) = self.some_link(holds) else { return Ok(false) };
        self.broker.feed(link)?;
        Ok(true)
    }

    fn send(&mut self) -> bool {
        let holds = |broker: &Broker, link: usize| {
            let link = &broker.links[link];
            !link.reset && !link.deaf && !link.outbox.is_empty()
        };
        let Some(link) = self.some_link(holds) else { return false };
        let count = self.chunk();
        self.broker.send(link, count);
        true
    }

    /// A client reads what has come, or learns that its connection is closed.
    fn read(&mut self) -> Result<bool, Violation> {
        let holds = |broker: &Broker, link: usize| {
            let link = &broker.links[link];
            !link.reset && (!link.downstream.is_empty() || link.phase == Phase::Closed)
        };
        let Some(index) = self.some_link(holds) else { return Ok(false) };
        let count = self.chunk();
        let link = &mut self.broker.links[index];
        let count = count.min(link.downstream.len());
        let owner = link.client;
        let bytes = link.downstream.drain(..count);
        let is_current = self.clients[owner].link == Some(index);
        if is_current {
            self.clients[owner].receive(bytes)?;
        } else {
            drop(bytes);
        }
        self.take_news(owner)?;
        let (link, client) = (&self.broker.links[index], &mut self.clients[owner]);
        if link.downstream.is_empty() && link.phase == Phase::Closed {
            if is_current {
                client.lose();
            }
            self.alive.retain(|&other| other != index);
        }
        Ok(true)
    }

    /// A client sends some of the answers that it owes.
    fn answer(&mut self) -> bool {
        let first = self.schedule.below(self.clients.len());
        for at in 0..self.clients.len() {
            let client = (first + at) % self.clients.len();
            if let Some(bytes) = self.clients[client].owed.pop_front() {
                self.transmit(client, &bytes);
                return true;
            }
        }
        false
    }

    fn transmit(&mut self, client: usize, bytes: &[u8]) {
        let Some(at) = self.clients[client].link else { return };
        let link = &mut self.broker.links[at];
        if !link.half_closed {
            link.upstream.extend(bytes);
            if let Some(witness) = &mut self.broker.witness {
                witness.transmitted(at, bytes);
            }
        }
    }

    /// One of the ordered pairs of shards of which this holds.
    fn some_pair(
        &mut self,
        holds: impl Fn(&Broker, usize, usize) -> bool,
    ) -> Option<(usize, usize)> {
        let shards = self.plan.shards;
        let pairs = shards * shards;
        let first = self.schedule.below(pairs);
        let turned = (0..pairs).map(|at| (first + at) % pairs);
        turned
            .map(|pair| (pair / shards, pair % shards))
            .find(|&(from, to)| from != to && holds(&self.broker, from, to))
    }

    fn post(&mut self) -> bool {
        let Some((from, to)) = self.some_pair(Broker::can_post) else { return false };
        self.broker.post(from, to);
        true
    }

    fn receive(&mut self) -> Result<bool, Violation> {
        let Some((from, to)) = self.some_pair(Broker::has_mail) else { return Ok(false) };
        self.broker.receive(from, to)?;
        Ok(true)
    }

    /// What a shard has asked to be told.
    fn notify(&mut self) -> Result<bool, Violation> {
        if let Some((from, to)) = self.some_pair(Broker::has_posted) {
            self.broker.tell_posted(from, to)?;
            return Ok(true);
        }
        for shard in 0..self.plan.shards {
            let waiting = self.broker.places[shard].verdicts.len();
            if waiting > 0 {
                let which = self.schedule.below(waiting);
                self.broker.tell_verdict(shard, which)?;
                return Ok(true);
            }
        }
        if let Some(link) = self.some_link(Broker::can_release) {
            self.broker.release(link)?;
            return Ok(true);
        }
        let Some(link) = self.some_link(Broker::is_drained) else { return Ok(false) };
        self.broker.tell_drained(link)?;
        Ok(true)
    }

    fn fire(&mut self) -> Result<bool, Violation> {
        let first = self.schedule.below(self.plan.shards);
        for at in 0..self.plan.shards {
            let shard = (first + at) % self.plan.shards;
            if self.broker.is_due(shard) {
                self.broker.fire(shard)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn learn(&mut self) -> Result<bool, Violation> {
        let ready = |link: &usize| {
            !matches!(self.broker.links[*link].phase, Phase::Coming | Phase::Moving(_))
        };
        let Some(at) = self.resets.iter().position(ready) else { return Ok(false) };
        let link = self.resets.swap_remove(at);
        self.broker.learn_of_reset(link)?;
        self.alive.retain(|&other| other != link);
        Ok(true)
    }

    /// A little time passes, or all until something is due.
    fn tick(&mut self) {
        let broker = &mut self.broker;
        // In whole ticks, so that what is due by the clock is due by the wheel.
        broker.now = broker.now + self.network.pick(&[Span::ZERO, Span::ZERO, TICK]);
        if self.network.chance(15)
            && let Some(deadline) = broker.next_deadline()
        {
            broker.now = broker.now.max(deadline);
        }
    }

    fn fault(&mut self) {
        let Some(link) = self.some_link(|broker, link| !broker.links[link].reset) else { return };
        let client = self.broker.links[link].client;
        let is_current = self.clients[client].link == Some(link);
        match self.faults.below(6) {
            0 | 1 => self.reset(link),
            2 if is_current => self.broker.links[link].half_closed = true,
            3 | 4 => self.broker.links[link].deaf = true,
            _ => self.broker.links[link].deaf = false,
        }
    }

    fn reset(&mut self, index: usize) {
        let link = &mut self.broker.links[index];
        link.reset = true;
        self.broker.oracle.reset(index);
        if let Some(witness) = &mut self.broker.witness {
            witness.reset(index);
        }
        link.upstream.clear();
        link.downstream.clear();
        self.resets.push(index);
        let client = &mut self.clients[link.client];
        if client.link == Some(index) {
            client.lose();
        }
    }

    fn operate(&mut self) -> Verdict {
        let (client, operation) = self.workload.choose(&self.plan, &self.clients);
        let entry = &mut self.clients[client];
        let bytes = match operation {
            Operation::Connect => {
                if entry.stage == Stage::Off || self.workload.takes_over() {
                    self.connect(client)?;
                }
                return Ok(());
            }
            Operation::Subscribe => self.workload.subscribe(entry),
            Operation::Publish => self.workload.publish(entry),
            Operation::Unsubscribe => self.workload.unsubscribe(entry),
            Operation::Disconnect => self.workload.disconnect(entry),
            Operation::Ping if entry.stage == Stage::Connected => Workload::ping(entry),
            Operation::Misbehave if entry.hostile => self.workload.misbehave(entry),
            Operation::Ping | Operation::Misbehave => return Ok(()),
        };
        // What comes of answers that are still owed is settled before anything new is said.
        if operation == Operation::Disconnect {
            self.clients[client].owed.clear();
        } else if operation == Operation::Publish {
            self.answer_all(client);
        }
        self.transmit(client, &bytes);
        if operation == Operation::Disconnect {
            let Some(link) = self.clients[client].link else { return Ok(()) };
            self.broker.links[link].half_closed = true;
        }
        Ok(())
    }

    /// Re-sent messages go before new ones.
    fn answer_all(&mut self, client: usize) {
        while let Some(bytes) = self.clients[client].owed.pop_front() {
            self.transmit(client, &bytes);
        }
    }

    fn open(&mut self, client: usize) -> Result<usize, Violation> {
        if let Some(earlier) = self.clients[client].link.filter(|_| self.clients[client].nameless) {
            // Nobody could take the session over whose name was never told.
            self.reset(earlier);
        }
        let shard = self.workload.shard(self.plan.shards);
        let link = self.broker.open(client, shard)?;
        self.alive.push(link);
        Ok(link)
    }

    fn connect(&mut self, client: usize) -> Verdict {
        let version = self.version_of(client);
        let link = self.open(client)?;
        let bytes = self.workload.connect(&mut self.clients[client], version, link);
        self.transmit(client, &bytes);
        Ok(())
    }

    /// Nobody does anything new until all that was underway has arrived.
    fn pause(&mut self) -> Verdict {
        self.exhaust()?;
        self.broker.check_windows()?;
        self.broker.check_replicas()
    }

    /// The broker is stopped shard by shard, in any order, while some of them still work.
    fn stop(&mut self) -> Verdict {
        let first = self.schedule.below(self.plan.shards);
        for at in 0..self.plan.shards {
            self.broker.stop((first + at) % self.plan.shards)?;
            for _ in 0..self.schedule.below(20) {
                let at = self.schedule.weighted(&self.plan.turns);
                self.take(STEPS[at])?;
            }
        }
        for client in 0..self.clients.len() {
            self.connect(client)?;
        }
        self.settle()?;
        self.broker.check_stopped()
    }

    /// Faults are over: everyone comes back, reads and answers, until nothing is left to do.
    fn heal(&mut self) -> Verdict {
        self.healing = true;
        for link in &mut self.broker.links {
            link.deaf = false;
        }
        self.settle()?;
        self.broker.check_windows()?;
        self.clients.iter_mut().for_each(Client::stop_hoarding);
        for _ in 0..ROUNDS_MAX {
            self.settle()?;
            let off = self.clients.iter().position(|client| client.stage != Stage::Connected);
            if off.is_none() {
                break;
            }
            for client in 0..self.clients.len() {
                if self.clients[client].stage == Stage::Connected {
                    continue;
                }
                let version = self.version_of(client);
                let link = self.open(client)?;
                let bytes = Workload::come_back(&mut self.clients[client], version, link);
                self.transmit(client, &bytes);
            }
        }
        self.settle()
    }

    /// Everything that can happen happens, with a little time for what waits for that.
    fn settle(&mut self) -> Verdict {
        let until = self.broker.now + PATIENCE;
        loop {
            self.exhaust()?;
            match self.broker.next_deadline() {
                Some(deadline) if deadline <= until => {
                    self.broker.now = self.broker.now.max(deadline);
                }
                _ => return Ok(()),
            }
        }
    }

    fn exhaust(&mut self) -> Verdict {
        let mut moves = 0;
        loop {
            let mut moved = false;
            for step in STEPS {
                while self.move_on(step)? {
                    moved = true;
                    moves += 1;
                    ensure(moves < MOVES_MAX, "the broker comes to rest", || {
                        format!("{step:?} goes on")
                    })?;
                    if self.schedule.chance(30) {
                        break;
                    }
                }
            }
            if !self.move_disk_to_rest()? && !moved {
                return Ok(());
            }
        }
    }

    /// Everyone leaves, and time passes until nothing has to be remembered.
    fn wind_down(&mut self) -> Verdict {
        for round in 0..2 {
            for client in 0..self.clients.len() {
                if round == 0 && self.schedule.chance(50) {
                    continue;
                }
                let version = Workload::version_for(client);
                let link = self.open(client)?;
                let bytes = Workload::come_to_go(&mut self.clients[client], version, link);
                self.transmit(client, &bytes);
            }
            self.settle()?;
        }
        for client in 0..self.clients.len() {
            let Some(link) = self.clients[client].link else { continue };
            let version = self.clients[client].version;
            let mut bytes = Vec::new();
            ringmq::mqtt::Packet::Disconnect(ringmq::mqtt::Disconnect::with_reason(
                ringmq::mqtt::ReasonCode::NORMAL_DISCONNECTION,
            ))
            .encode(version, &mut bytes);
            self.transmit(client, &bytes);
            self.broker.links[link].half_closed = true;
        }
        self.settle()?;
        let until = self.broker.now + FORGETTING;
        while self.broker.now < until {
            let next = self.broker.next_deadline().unwrap_or(until);
            self.broker.now = self.broker.now.max(next) + TICK;
            self.exhaust()?;
        }
        Ok(())
    }
}

/// How often some shard is looked at for its limits.
const STEPS_PER_LOOK: usize = 100;
/// How often some shard is told its rules again.
const STEPS_PER_RULES: usize = 150;
/// How long healing waits for what waits: more than the broker's patience with a subscriber.
const PATIENCE: Span = Span::from_millis(1_500);
const ROUNDS_MAX: usize = 6;
const MOVES_MAX: usize = 200_000;
/// Longer than tombstones and reminders last.
const FORGETTING: Span = Span::from_secs(130);
