//! A message that is too much for one turn is brought to all who want it over several.
//!
//! ```text
//!   Waits ---> Walks ---> Placed: letters --> share groups --> sessions here
//!     '- room for those who want it    '- all of them are known
//! ```
//! Nothing is read from its publisher, and the message is not acknowledged, until it is with all
//! who want it here. Later messages of the same publisher wait behind it in its row, here and on
//! each shard where it takes as long. Other publishers do not wait.
//!
//! The message is for those who wanted it when it was published, or when its letter came. A session
//! that ends meanwhile gets nothing.

use std::rc::Rc;

use super::{
    super::{
        connections::Connections,
        context::Context,
        deliveries::{Audience, Placed},
        interest::{Found, Interest},
        letter::GroupKeys,
        ports::Ports,
        pressure::Publisher,
        recorder::Recorded,
        retained::Retention,
        unfinished::{Owner, Steps, Work},
    },
    Router,
    placements::Placements,
};
use crate::{
    base::ids::{ShardId, ShardSet, SubscriberId},
    routing::{GroupPlace, Walk},
    session::{
        message::{CountedMessage, MessageView},
        sessions::Sessions,
    },
};

/// A message on its way to all who want it.
#[derive(Debug)]
pub(in crate::shard) struct Placement {
    message: Rc<CountedMessage>,
    publisher: Option<SubscriberId>,
    /// The connection that has published it, on whichever shard. It waits.
    sender: Option<Publisher>,
    scope: Scope,
    /// The number of the update that it has made of the retained messages here, if any.
    update: Option<u64>,
    stage: Stage,
    audience: Audience,
    /// The share groups that are still to get it, as they stood at their filters.
    groups: Vec<GroupPlace>,
    /// The other shards that have subscribers.
    shards: ShardSet,
    /// Later share groups are not for it.
    latest_group: u64,
    number: u64,
    /// How many subscriptions and share groups it has kept.
    kept: usize,
    /// It was written down that it is on its way.
    recorded: Option<Recorded>,
}

/// Whom a message is for.
#[derive(Debug)]
pub(super) enum Scope {
    /// All on all shards: it was published here.
    Everyone(Option<Retention>),
    /// The same, and the other shards have been told.
    Told,
    /// It came by a letter: the subscribers of this shard, if so, and share groups. Those before
    /// `served` have got it.
    Here { subscribers: bool, groups: String, served: usize, hops: u8 },
}

#[derive(Debug)]
enum Stage {
    Waits,
    Walks(Walk),
    Placed,
}

impl Placement {
    fn view(&self) -> MessageView<'_> {
        MessageView { publisher: self.publisher, ..self.message.view() }
    }

    /// Takes those who want one filter. Returns the steps that this takes.
    fn collect(&mut self, found: Found<'_>, placements: &Placements) -> usize {
        let Found { target, entries, groups, shards } = found;
        let (number, latest) = (self.number, self.latest_group);
        self.audience.add(entries, |entry| !placements.is_newer(number, target, entry));
        let groups = &groups[..groups.partition_point(|place| place.number <= latest)];
        if matches!(self.scope, Scope::Everyone(_) | Scope::Told) {
            self.groups.extend(groups);
        }
        self.shards = self.shards.union(shards);
        self.kept += entries.len() + groups.len();
        Steps::LOOK + (entries.len() + groups.len()) / COPIES_PER_STEP
    }
}

/// Subscriptions and share groups that are copied in one step.
const COPIES_PER_STEP: usize = 64;
/// What it takes to keep a message for later.
const STEPS_OF_PLACING: u64 = 4;

impl Router {
    /// Whether a message that takes so many steps is too much for now, or has to wait for an
    /// earlier one.
    #[inline]
    pub(super) fn is_too_much(&self, steps: usize, publisher_hash: u32, steps_max: usize) -> bool {
        let waits = || self.unfinished.is_placing(Owner(publisher_hash));
        steps > steps_max || (!self.unfinished.is_empty() && waits())
    }

    /// Whether any message is on its way.
    pub(in crate::shard) fn is_placing(&self) -> bool {
        self.placements.any_under_way()
    }

    /// Places a message in the turns to come. Its topic has been matched.
    #[cold]
    #[inline(never)]
    pub(super) fn place_later(
        &mut self,
        (view, update): (&MessageView<'_>, Option<u64>),
        (from, sender, scope): (Option<ShardId>, Option<Publisher>, Scope),
        (sessions, connections): (&Sessions, &mut Connections),
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        let owner = Owner(view.publisher_hash);
        let is_first = !self.unfinished.is_placing(owner);
        let shards = self.interest.others_of(view.topic);
        let mut placement = Box::new(Placement {
            message: Rc::new(CountedMessage::keep(view, self.deliveries.kept())),
            publisher: view.publisher,
            sender,
            scope,
            update,
            stage: Stage::Waits,
            audience: Audience::new(context.settings.seed, sessions),
            groups: Vec::new(),
            shards,
            latest_group: self.interest.latest_group(),
            number: self.placements.begin(),
            kept: 0,
            recorded: context.recorder.set_apart(from, view, ports),
        });
        if is_first {
            self.begin_at_once(&mut placement, connections, context, ports);
        }
        context.counters.other_steps +=
            STEPS_OF_PLACING + (placement.kept / COPIES_PER_STEP) as u64;
        if let Some(update) = update {
            self.deliveries.note_split(update);
        }
        if let Some(sender) = sender {
            connections.begin_placing(sender, context, ports);
        }
        context.counters.split_messages += 1;
        self.unfinished.push(owner, Work::Place(placement));
    }

    /// Does what can be done at once: keeps those who want the message, if the walk has found them,
    /// and tells the other shards.
    fn begin_at_once(
        &mut self,
        placement: &mut Placement,
        connections: &mut Connections,
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        if matches!(placement.scope, Scope::Here { subscribers: false, .. }) {
            self.note_found(placement);
        } else if !self.interest.is_cut() && self.placements.has_room() {
            for found in self.interest.found() {
                placement.collect(found, &self.placements);
            }
            self.note_found(placement);
        }
        let retains = matches!(placement.scope, Scope::Everyone(Some(_)));
        if retains || matches!(placement.stage, Stage::Placed) {
            self.tell(placement, connections, context, ports);
        }
    }

    fn note_found(&mut self, placement: &mut Placement) {
        placement.stage = Stage::Placed;
        self.placements.end_search(placement.number);
        self.placements.keep(placement.kept);
    }

    /// Writes a letter for each other shard that the message is for, once.
    fn tell(
        &mut self,
        placement: &mut Placement,
        connections: &mut Connections,
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        if !matches!(placement.scope, Scope::Everyone(_)) {
            return;
        }
        let told = std::mem::replace(&mut placement.scope, Scope::Told);
        let Scope::Everyone(retention) = told else { return };
        let publisher = placement.sender.map(|sender| sender.connection);
        let letter = (placement.shards, retention.as_ref());
        context.recorder.go_on(placement.recorded);
        self.forward(&placement.view(), letter, (publisher, connections), context, ports);
        context.recorder.end_message(&placement.view(), ports);
    }

    /// Places some of a message. Returns what is left.
    pub(super) fn place(
        &mut self,
        mut placement: Box<Placement>,
        steps: &mut Steps,
        (sessions, connections): (&mut Sessions, &mut Connections),
        context: &mut Context,
        ports: &mut impl Ports,
    ) -> Option<Box<Placement>> {
        if placement.message.has_expired(context.now) {
            self.expire(&mut placement, context);
        } else if !self.search(&mut placement, steps) {
            return Some(placement);
        }
        self.tell(&mut placement, connections, context, ports);
        context.recorder.go_on(placement.recorded);
        let clients = (&mut *sessions, &mut *connections);
        let is_placed = self.serve_groups(&mut placement, steps, clients, context, ports)
            && self.deliver_some(&mut placement, steps, sessions, context, ports);
        context.recorder.end_message(&placement.view(), ports);
        if self.deliveries.has_crowded() {
            let clients = (&*sessions, &mut *connections);
            self.deliveries.hold_for_crowded(placement.sender, clients, context, ports);
        }
        if !is_placed {
            return Some(placement);
        }
        context.recorder.end_apart(placement.recorded, ports);
        self.placements.end(placement.kept);
        if let Some(sender) = placement.sender {
            connections.end_placing(sender, context, ports);
        }
        None
    }

    /// Nobody gets the message any more. The other shards are told of the change of a retained
    /// message that it makes. [MQTT-3.3.2-5]
    fn expire(&mut self, placement: &mut Placement, context: &mut Context) {
        context.counters.dropped_expired += 1;
        self.placements.end_search(placement.number);
        placement.stage = Stage::Placed;
        placement.audience.clear();
        placement.groups.clear();
        placement.shards = ShardSet::EMPTY;
        if let Scope::Here { groups, .. } = &mut placement.scope {
            groups.clear();
        }
    }

    /// Looks for those who want the message. True: all are known.
    fn search(&mut self, placement: &mut Placement, steps: &mut Steps) -> bool {
        let mut walk = match std::mem::replace(&mut placement.stage, Stage::Placed) {
            Stage::Placed => return true,
            Stage::Walks(walk) => walk,
            Stage::Waits if self.placements.has_room() => Walk::default(),
            Stage::Waits => {
                steps.spend(Steps::LOOK);
                placement.stage = Stage::Waits;
                return false;
            }
        };
        let before = placement.kept;
        let is_found = matches!(placement.scope, Scope::Here { subscribers: false, .. })
            || walk_on(&self.interest, &mut walk, placement, &self.placements, steps);
        self.placements.keep(placement.kept - before);
        if is_found {
            self.placements.end_search(placement.number);
        } else {
            placement.stage = Stage::Walks(walk);
        }
        is_found
    }

    /// Brings the message to share groups, one after the other. True: to all.
    fn serve_groups(
        &mut self,
        placement: &mut Placement,
        steps: &mut Steps,
        (sessions, connections): (&mut Sessions, &mut Connections),
        context: &mut Context,
        ports: &mut impl Ports,
    ) -> bool {
        if matches!(placement.scope, Scope::Here { .. }) {
            return self.serve_named_groups(placement, steps, (sessions, context), ports);
        }
        if placement.groups.is_empty() {
            return true;
        }
        while !steps.is_spent()
            && let Some(place) = placement.groups.pop()
        {
            steps.spend(Steps::GROUP);
            if let Some(group) = self.interest.group_at(place) {
                let mut groups = self.groups(sessions, context);
                groups.deliver_to_group(&placement.view(), group, ports);
                steps.spend(groups.looks());
            }
        }
        let publisher = placement.sender.map(|sender| sender.connection);
        let letter = (ShardSet::EMPTY, None);
        self.forward(&placement.view(), letter, (publisher, connections), context, ports);
        placement.groups.is_empty()
    }

    /// Brings the message to the share groups that its letter names. True: to all.
    fn serve_named_groups(
        &mut self,
        placement: &mut Placement,
        steps: &mut Steps,
        (sessions, context): (&mut Sessions, &mut Context),
        ports: &mut impl Ports,
    ) -> bool {
        let view = MessageView { publisher: placement.publisher, ..placement.message.view() };
        let Scope::Here { groups, served, hops, .. } = &mut placement.scope else { return true };
        let left = groups.get(*served..).unwrap_or_default();
        for group in GroupKeys::from_text(left).iter() {
            if steps.is_spent() {
                return false;
            }
            let mut delivery = self.groups(sessions, context);
            delivery.serve_group(&view, group, *hops, ports);
            steps.spend(Steps::GROUP + delivery.looks());
            *served += GroupKeys::len_of(group);
        }
        true
    }

    fn deliver_some(
        &mut self,
        placement: &mut Placement,
        steps: &mut Steps,
        sessions: &mut Sessions,
        context: &mut Context,
        ports: &mut impl Ports,
    ) -> bool {
        let Placement { message, publisher, update, audience, .. } = placement;
        let view = MessageView { publisher: *publisher, ..message.view() };
        let placed = Placed { message, view, update: *update };
        self.deliveries.deliver_some(placed, (audience, steps), sessions, context, ports)
    }
}

fn walk_on(
    interest: &Interest,
    walk: &mut Walk,
    placement: &mut Placement,
    placements: &Placements,
    steps: &mut Steps,
) -> bool {
    let message = Rc::clone(&placement.message);
    let collect = |found: Found<'_>| placement.collect(found, placements);
    interest.walk_on(message.view().topic, walk, steps, collect)
}
