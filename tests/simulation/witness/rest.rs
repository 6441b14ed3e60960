//! What must be true of all shards while nothing is on its way between them.

use ringmq::{
    base::{
        ids::{ShardId, ShardSet},
        time::Moment,
    },
    shard::inventory::{Inventory, SessionInventory},
    topic::Subscription,
};

use super::{Terms, Witness};
use crate::{
    broker::{Broker, Verdict},
    violation::ensure,
    workload::{FILTERS, SHARED},
};

/// The sessions that last, by Client Identifier.
pub(crate) type Portrait = Vec<Kept>;

/// What is compared of a session.
#[derive(Debug)]
pub(crate) struct Kept {
    client_id: String,
    subscriptions: usize,
    held: usize,
    messages: usize,
}

impl Broker {
    /// All shards agree with each other, and with what clients were promised.
    pub(crate) fn check_agreement(&self) -> Verdict {
        let Some(witness) = &self.witness else { return Ok(()) };
        let inventories: Vec<Inventory> =
            self.shards.iter().map(|shard| shard.inventory(self.now)).collect();
        for (at, inventory) in inventories.iter().enumerate() {
            let told = |it: &Inventory| {
                let mut kept: Vec<_> = it.retained.iter().filter(|it| !it.expired).collect();
                kept.sort_by(|one, other| one.topic.cmp(&other.topic));
                let kept = kept.into_iter().filter_map(|it| it.payload.as_ref().map(|_| it));
                kept.cloned().collect::<Vec<_>>()
            };
            let (here, first) = (told(inventory), told(&inventories[0]));
            ensure(here == first, "all shards retain the same", || {
                format!("shard {at}: {here:?}, {first:?}")
            })?;
            witness.check_retained(at, &inventory.retained)?;
        }
        self.check_filters()?;
        self.check_groups()?;
        witness.check_sessions(&inventories, self.now)
    }

    /// Every shard knows which others have subscribers of a filter.
    fn check_filters(&self) -> Verdict {
        for text in FILTERS {
            let Ok(Subscription::Plain(filter)) = Subscription::parse(text) else { continue };
            let known: Vec<(usize, ShardSet)> =
                self.shards.iter().map(|shard| shard.interest(filter)).collect();
            for (at, (_, others)) in known.iter().enumerate() {
                let mut wanting = ShardSet::EMPTY;
                for (other, (subscribers, _)) in known.iter().enumerate() {
                    if other != at && *subscribers > 0 {
                        wanting.insert(ShardId::new(other).expect("few shards"));
                    }
                }
                ensure(*others == wanting, "all shards know who wants what", || {
                    format!("shard {at}, {text}: {others:?} instead of {wanting:?}")
                })?;
            }
        }
        Ok(())
    }

    fn check_groups(&self) -> Verdict {
        for (text, _) in SHARED {
            let Ok(Subscription::Shared(shared)) = Subscription::parse(text) else { continue };
            let first = self.shards[0].members(shared);
            for (at, shard) in self.shards.iter().enumerate() {
                let known = shard.members(shared);
                ensure(known == first, "all shards know the members of a group", || {
                    format!("shard {at}, {text}: {known:?} instead of {first:?}")
                })?;
            }
        }
        Ok(())
    }

    /// The sessions that last.
    pub(crate) fn portrait(&self) -> Portrait {
        let Some(witness) = &self.witness else { return Portrait::new() };
        let inventories = self.shards.iter().map(|shard| shard.inventory(self.now));
        let sessions = inventories.flat_map(|inventory| inventory.sessions);
        let lasts = |session: &SessionInventory| {
            let client = witness.clients.iter().find(|it| it.name == session.client_id);
            client.is_some_and(|client| client.terms == Terms::Lasting)
        };
        let kept = |it: SessionInventory| Kept {
            client_id: it.client_id,
            subscriptions: it.subscriptions,
            held: it.held,
            messages: it.in_flight + it.queued - it.queued_expired,
        };
        let mut portrait: Portrait = sessions.filter(lasts).map(kept).collect();
        portrait.sort_by(|one, other| one.client_id.cmp(&other.client_id));
        portrait
    }

    /// With all on disk and nothing on its way, a restart changes nothing. Only the identifier of a
    /// QoS 2 message that nobody needed who survives is not written down.
    pub(crate) fn check_unchanged(&self, before: &Portrait) -> Verdict {
        let after = self.portrait();
        let is_same = |(one, other): (&Kept, &Kept)| {
            (&one.client_id, one.subscriptions, one.messages)
                == (&other.client_id, other.subscriptions, other.messages)
                && other.held <= one.held
        };
        let holds = before.len() == after.len() && before.iter().zip(&after).all(is_same);
        ensure(holds, "a restart changes nothing that is on disk", || {
            format!("{before:?} has become {after:?}")
        })
    }
}

impl Witness {
    /// Sessions are at home, once, and have the subscriptions that were promised.
    fn check_sessions(&self, inventories: &[Inventory], now: Moment) -> Verdict {
        for (at, client) in self.clients.iter().enumerate() {
            let mut places = Vec::new();
            for (shard, inventory) in inventories.iter().enumerate() {
                let own = inventory.sessions.iter().filter(|it| it.client_id == client.name);
                places.extend(own.map(|session| (shard, session)));
            }
            let told = || format!("{}: {places:?}, {:?}", client.name, client.terms);
            ensure(places.len() < 2, "a client has one session", told)?;
            let home = self.home(at);
            let at_home = places.iter().all(|(shard, _)| *shard == home);
            ensure(at_home, "a session lives on its home shard", told)?;
            // A session that ends with its connection is there while that lasts.
            let promise = client.terms.promise(self.fired[home], now);
            let promise = promise.filter(|_| client.terms != Terms::Fleeting);
            let (is_there, is_gone) = (!places.is_empty(), places.is_empty());
            ensure(
                promise != Some(false) || is_gone,
                "a session that has ended is not there",
                told,
            )?;
            ensure(
                promise != Some(true) || is_there,
                "a session that was promised is there",
                told,
            )?;
            let Some((_, session)) = places.first().filter(|_| client.terms == Terms::Lasting)
            else {
                continue;
            };
            let sure = client.filters.values().filter(|it| it.sure.is_some()).count();
            let open = client.filters.values().filter(|it| it.is_open).count();
            let range = sure..=open;
            ensure(
                range.contains(&session.subscriptions),
                "subscriptions are as promised",
                || format!("{range:?}: {session:?}, {:?}", client.filters),
            )?;
        }
        Ok(())
    }
}
