//! What must be true once nothing is on its way any more.

use ringmq::{
    base::{ids::ShardSet, time::Moment},
    mqtt::QoS,
    shard::{
        Shard,
        inventory::{Inventory, RetainedInventory, SessionInventory},
    },
    topic::Subscription as Parsed,
};

use super::{
    Oracle,
    model::{Emission, Flight, Publication, Session, Subscription},
    sent::qos_of,
};
use crate::{
    broker::{Broker, Verdict},
    client::{Client, Stage},
    matching::matches,
    violation::ensure,
};

impl Broker {
    /// Everything owed has been delivered, and all replicas agree.
    pub(crate) fn check_healed(&self, clients: &[Client]) -> Verdict {
        for (at, client) in clients.iter().enumerate() {
            self.oracle.check_client(at, client)?;
        }
        for (at, shard) in self.shards.iter().enumerate() {
            let inventory = shard.inventory(self.now);
            self.check_at_rest(at, &inventory, clients)?;
            self.oracle.check_sessions(at, &inventory)?;
            self.oracle.check_interest(at, shard)?;
            self.oracle.check_groups(at, &self.shards)?;
            self.check_retained(at, &inventory)?;
            self.check_delivered(at)?;
        }
        self.check_shared()
    }

    /// All replicas agree, though not everyone is there.
    pub(crate) fn check_replicas(&self) -> Verdict {
        for (at, shard) in self.shards.iter().enumerate() {
            let inventory = shard.inventory(self.now);
            self.oracle.check_sessions(at, &inventory)?;
            self.oracle.check_interest(at, shard)?;
            self.oracle.check_groups(at, &self.shards)?;
            self.check_retained(at, &inventory)?;
        }
        Ok(())
    }

    /// While nothing is on its way, a message waits only for a window that is full, or for an
    /// outbox that its client does not read.
    pub(crate) fn check_windows(&self) -> Verdict {
        for (at, shard) in self.shards.iter().enumerate() {
            let inventory = shard.inventory(self.now);
            for session in inventory.sessions.iter().filter(|it| it.connected && it.queued > 0) {
                let Some((link, full)) = self.oracle.window_of(&session.client_id) else {
                    continue;
                };
                let idle = self.links[link].is_open() && self.links[link].outbox.is_empty();
                ensure(full || !idle, "a window that is open is used", || {
                    format!("shard {at}, link {link}: {session:?}")
                })?;
            }
        }
        Ok(())
    }

    /// Nothing waits for anything.
    fn check_at_rest(&self, at: usize, inventory: &Inventory, clients: &[Client]) -> Verdict {
        let Inventory { held_back, orphans, unfinished, pending_subacks, .. } = *inventory;
        let waiting = [held_back, orphans, unfinished, pending_subacks, inventory.waiting_for_post];
        ensure(waiting == [0; 5], "nobody waits in the end", || {
            format!(
                "shard {at}: held back, inherited, unfinished, subscribing, writing: {waiting:?}"
            )
        })?;
        let hostile = |client_id: &str| clients.iter().any(|it| it.hostile && it.name == client_id);
        let sane = inventory.sessions.iter().filter(|session| !hostile(&session.client_id));
        for session in sane.filter(|session| session.connected) {
            let SessionInventory { in_flight, queued, replays, presses, .. } = *session;
            let idle = (in_flight, queued, replays, presses) == (0, 0, false, false);
            ensure(idle, "a client that takes everything is owed nothing", || {
                format!("shard {at}: {session:?}")
            })?;
        }
        let here = self.links.iter().filter(|link| link.is_open() && link.shard == at).count();
        ensure(here == inventory.connections, "no connection is forgotten", || {
            format!("shard {at}: {here} are open, {} are known", inventory.connections)
        })
    }

    /// The retained messages of a shard are those of the naive broker, and of all other shards.
    fn check_retained(&self, at: usize, inventory: &Inventory) -> Verdict {
        let known = retained_of(&inventory.retained);
        if self.oracle.splits() && self.shards.len() > 1 {
            // The naive broker does not know which of two changes was told later.
            let first = retained_of(&self.shards[0].inventory(self.now).retained);
            return ensure(known == first, "all shards retain the same", || {
                format!("shard {at}: {known:?}, {first:?}")
            });
        }
        let model = self.oracle.retained_at(at, self.now);
        ensure(known == model, "retained messages are the last ones", || {
            format!("shard {at}: {known:?} instead of {model:?}")
        })?;
        let first = self.oracle.retained_at(0, self.now);
        ensure(model == first, "the model's replicas agree", || format!("{model:?}, {first:?}"))
    }

    /// What was not delivered was dropped for a reason that is counted.
    fn check_delivered(&self, at: usize) -> Verdict {
        let missing = self.oracle.missing_at(at, self.now);
        let counters = self.counters(at);
        let dropped = counters.dropped_queue_full + counters.dropped_too_large;
        ensure(missing.len() as u64 <= dropped, "what is acknowledged is delivered", || {
            format!("shard {at}: {missing:?} are missing, {dropped} were dropped")
        })?;
        let left_out = self.oracle.left_out_at(at, self.now);
        let dropped = counters.dropped_too_large;
        ensure(left_out.len() as u64 <= dropped, "a replay leaves no topic out", || {
            format!("shard {at}: {left_out:?} were left out, {dropped} were too large")
        })
    }

    fn check_shared(&self) -> Verdict {
        let missing = self.oracle.missing_of_groups(self.now);
        let dropped: u64 = (0..self.shards.len())
            .map(|at| self.counters(at))
            .map(|it| it.dropped_outbox_full + it.dropped_too_large + it.dropped_no_member)
            .sum();
        // A queue that was full counts only where no member had room.
        let dropped = dropped + self.group_drops;
        ensure(missing.len() as u64 <= dropped, "a share group loses nothing", || {
            format!("{missing:?} are missing, {dropped} were dropped")
        })?;
        let unpaid = self.oracle.unpaid();
        ensure(unpaid.len() as u64 <= dropped, "a share group loses nothing", || {
            format!("{unpaid:?} are missing, {dropped} were dropped")
        })
    }

    /// Everyone has gone, and nothing is left but what is retained.
    pub(crate) fn check_empty(&self) -> Verdict {
        for (at, shard) in self.shards.iter().enumerate() {
            let left = shard.inventory(self.now);
            let trie = left.trie;
            let counts = [
                left.connections,
                left.held_back,
                left.aliases,
                left.sessions.len(),
                trie.subscriptions + trie.targets + trie.levels + trie.nodes,
                left.groups,
                left.orphans + left.unfinished + left.pending_subacks + left.waiting_for_post,
            ];
            ensure(counts == [0; 7], "nothing is left of those who have gone", || {
                format!("shard {at}: {left:?}")
            })?;
            // Tombstones and passwords are forgotten, and retained messages swept, by a timer each.
            let timers = 3 + usize::from(self.oracle.tells_sys());
            ensure(left.timers == timers, "no timer is left", || format!("shard {at}: {left:?}"))?;
            let tombstones = left.retained.iter().filter(|kept| kept.payload.is_none()).count();
            ensure(tombstones == 0, "tombstones are forgotten", || format!("{left:?}"))?;
            self.check_retained(at, &left)?;
        }
        Ok(())
    }
}

impl Oracle {
    /// The connection of a client, and whether the window of its session is full.
    fn window_of(&self, client_id: &str) -> Option<(usize, bool)> {
        let session = &self.sessions[*self.current.get(client_id)?];
        let link = session.link?;
        let outstanding = session.flights.iter().filter(|it| it.published_on == link).count();
        Some((link, outstanding >= self.conns[link].window))
    }

    /// A client that is connected has got all answers, and nothing twice that is to come once.
    fn check_client(&self, at: usize, client: &Client) -> Verdict {
        for (payload, count) in &client.exactly_once {
            let begun = self.begun_exactly.get(&(at, payload.clone())).copied().unwrap_or_default();
            ensure(*count <= begun, "QoS 2 is exactly once", || {
                format!("{} got {:?} {count} times", client.name, String::from_utf8_lossy(payload))
            })?;
        }
        let (Stage::Connected, Some(link)) = (client.stage, client.link) else { return Ok(()) };
        let conn = &self.conns[link];
        ensure(conn.replies.is_empty(), "every packet is answered", || {
            format!("{} waits for {:?}", client.name, conn.replies)
        })?;
        // Whoever sends nonsense may have begun a packet that swallows all others.
        if client.hostile {
            return Ok(());
        }
        ensure(client.asking.is_empty(), "every packet is answered", || {
            format!("{} waits for {:?}", client.name, client.asking)
        })?;
        ensure(client.outgoing.is_empty(), "every message is acknowledged", || {
            format!("{} waits for {:?}", client.name, client.outgoing)
        })?;
        let session = &self.sessions[conn.session.expect("it is connected")];
        ensure(
            session.flights.iter().all(|flight| flight.doubtful),
            "every flight comes to its end",
            || format!("{}: {:?}", client.name, session.flights),
        )
    }

    /// A shard has the sessions that the naive broker has, with as many subscriptions.
    fn check_sessions(&self, at: usize, inventory: &Inventory) -> Verdict {
        let mut known: Vec<_> = inventory
            .sessions
            .iter()
            .map(|it| (it.client_id.clone(), it.connected, it.subscriptions, it.held))
            .collect();
        known.sort();
        let model: Vec<_> = self
            .current
            .iter()
            .map(|(client_id, &session)| (client_id, &self.sessions[session]))
            .filter(|(_, session)| session.home == at)
            .map(|(client_id, session)| {
                let current = session.subscriptions.iter().filter(|it| it.is_current()).count();
                (client_id.clone(), session.link.is_some(), current, session.held.len())
            })
            .collect();
        ensure(known == model, "sessions are those that clients have", || {
            format!("shard {at}: {known:?} instead of {model:?}")
        })
    }

    pub(super) fn alive_at(&self, at: usize) -> impl Iterator<Item = &Session> {
        self.current.values().map(|&it| &self.sessions[it]).filter(move |it| it.home == at)
    }

    /// How many sessions of a shard subscribe to exactly this.
    fn subscribers(&self, at: usize, text: &str) -> usize {
        let all = self.alive_at(at).flat_map(|session| &session.subscriptions);
        all.filter(|it| it.is_current() && it.text == text).count()
    }

    /// How many of all sessions that subscribe to this are connected.
    fn present_subscribers(&self, text: &str) -> usize {
        let present = self.current.values().map(|&it| &self.sessions[it]);
        let present = present.filter(|session| session.link.is_some());
        let all = present.flat_map(|session| &session.subscriptions);
        all.filter(|it| it.is_current() && it.text == text).count()
    }

    /// A shard knows its own subscribers of every filter, and which other shards have any.
    fn check_interest(&self, at: usize, shard: &Shard) -> Verdict {
        for text in &self.filters {
            let Ok(Parsed::Plain(filter)) = Parsed::parse(text) else { continue };
            let mut wanting = ShardSet::EMPTY;
            for other in (0..self.shards).filter(|&other| other != at) {
                if self.subscribers(other, text) > 0 {
                    wanting.insert(ringmq::base::ids::ShardId::new(other).expect("few shards"));
                }
            }
            let model = (self.subscribers(at, text), wanting);
            let known = shard.interest(filter);
            ensure(known == model, "interest is the union of all subscriptions", || {
                format!("shard {at}, {text}: {known:?} instead of {model:?}")
            })?;
        }
        Ok(())
    }

    /// A shard believes of every other's groups what that one knows.
    fn check_groups(&self, at: usize, shards: &[Shard]) -> Verdict {
        for text in &self.filters {
            let Ok(Parsed::Shared(shared)) = Parsed::parse(text) else { continue };
            let known = shards[at].members(shared);
            let first = shards[0].members(shared);
            ensure(known == first, "all shards know the members of a group", || {
                format!("shard {at}, {text}: {known:?} instead of {first:?}")
            })?;
            let members: usize = known.iter().map(|(_, counts)| counts.all as usize).sum();
            let model: usize = (0..self.shards).map(|at| self.subscribers(at, text)).sum();
            ensure(members == model, "all shards know the members of a group", || {
                format!("{text}: {members} instead of {model}")
            })?;
            let online: usize = known.iter().map(|(_, counts)| counts.online as usize).sum();
            let model = self.present_subscribers(text);
            ensure(online == model, "all shards know who of a group is there", || {
                format!("shard {at}, {text}: {online} instead of {model}")
            })?;
        }
        Ok(())
    }

    /// The retained messages of a shard that have not expired.
    fn retained_at(&self, at: usize, now: Moment) -> Vec<(String, Vec<u8>)> {
        let kept = self.retained[at].topics.iter();
        kept.filter_map(|(topic, (_, _, message))| {
            let publication = &self.emissions[(*message)?].publication;
            let alive = publication.expires_at.is_none_or(|expires_at| expires_at > now);
            alive.then(|| (topic.clone(), publication.payload.clone()))
        })
        .collect()
    }

    /// Messages that sessions of a shard should have got.
    fn missing_at(&self, at: usize, now: Moment) -> Vec<String> {
        let mut missing = Vec::new();
        let sane = self.alive_at(at).filter(|session| !session.hostile);
        for session in sane.filter(|session| session.link.is_some()) {
            for expected in &session.expected {
                let emission = &self.emissions[expected.emission];
                let publication = &emission.publication;
                let alive = publication.expires_at.is_none_or(|expires_at| expires_at > now);
                let other = self.has_got_alike(session, emission);
                // Whoever changes the subscription before its turn need not get it.
                let had_less = |text: &str| {
                    session.subscriptions.iter().any(|it| {
                        it.text == text
                            && it.options.qos == QoS::AtMostOnce
                            && it.until.is_none_or(|until| until >= emission.step)
                    })
                };
                let asks = |it: &Subscription| {
                    it.is_current()
                        && it.share().is_none()
                        && it.acknowledged_at.is_some_and(|at| at < emission.step)
                        && !had_less(&it.text)
                        && matches(&it.text, &publication.topic)
                };
                let asked = !self.splits() || session.subscriptions.iter().any(asks);
                let due = expected.certain && expected.qos > QoS::AtMostOnce && asked;
                if due && alive && !other {
                    let payload = String::from_utf8_lossy(&publication.payload);
                    missing.push(format!("{} for {}", payload.trim(), session.client_id));
                }
            }
            for ticket in session.tickets.iter().filter(|it| it.certain && it.until.is_none()) {
                let publication = &self.emissions[ticket.emission].publication;
                let alive = publication.expires_at.is_none_or(|expires_at| expires_at > now);
                let known = !self.is_disputed(&publication.topic);
                let other =
                    self.splits() && self.has_got_alike(session, &self.emissions[ticket.emission]);
                if alive && known && !other && self.is_retained(at, ticket.emission) {
                    missing
                        .push(format!("retained {} for {}", publication.topic, session.client_id));
                }
            }
        }
        missing
    }

    /// Of a message that came twice one may have been taken for the other.
    fn has_got_alike(&self, session: &Session, emission: &Emission) -> bool {
        let payload = &emission.publication.payload;
        let is_alike = |&got: &usize| self.emissions[got].publication.payload == *payload;
        emission.again && session.got.iter().any(is_alike)
    }

    /// Messages that no member of a share group has got, though one was there all the time. They
    /// are counted: of a session that changes groups nobody can say by which it got a message.
    fn missing_of_groups(&self, now: Moment) -> Vec<String> {
        let mut missing = Vec::new();
        for (number, emission) in self.emissions.iter().enumerate() {
            let publication = &emission.publication;
            if emission.again || publication.expires_at.is_some_and(|at| at <= now) {
                continue;
            }
            let owed: Vec<&String> =
                self.filters.iter().filter(|text| self.owes_group(emission, text)).collect();
            let given = self.shared.iter().filter(|((it, group), holders)| {
                let kept = holders.iter().any(|&(holder, _)| !self.has_left(holder, publication));
                *it == number && kept && qos_of(group) > QoS::AtMostOnce
            });
            let given = given.count();
            if owed.len() > given {
                let payload = String::from_utf8_lossy(&publication.payload);
                missing.push(format!("{} to {owed:?}, given {given}", payload.trim()));
            }
        }
        missing
    }

    /// Whether a session has ended before it acknowledged a message, which others inherit then.
    fn has_left(&self, holder: usize, publication: &Publication) -> bool {
        let Session { ended_at, flights, .. } = &self.sessions[holder];
        let open = |flight: &Flight| {
            flight.qos == QoS::AtLeastOnce && flight.payload == publication.payload
        };
        ended_at.is_some() && flights.iter().any(open)
    }

    /// Whether a message is for this group, and a member that was there before it still is.
    /// What is given to a member that has been away ever since is in its queue.
    fn owes_group(&self, emission: &Emission, text: &str) -> bool {
        let publication = &emission.publication;
        let Some((_, filter)) = text.strip_prefix("$share/").and_then(|it| it.split_once('/'))
        else {
            return false;
        };
        let present = self.current.values().map(|&it| &self.sessions[it]);
        let member = |it: &&Session| it.subscriptions.iter().any(|it| it.text == text);
        if present.clone().filter(member).any(|it| it.link.is_none() || it.hostile) {
            return false;
        }
        let mut members = present.flat_map(|it| &it.subscriptions);
        matches(filter, &publication.topic)
            && publication.qos.min(qos_of(text)) > QoS::AtMostOnce
            && members.any(|it| {
                it.text == text
                    && it.is_current()
                    && it.acknowledged_at.is_some_and(|at| at < emission.step)
            })
    }
}

/// The retained messages that have not expired, with their topics.
fn retained_of(inventory: &[RetainedInventory]) -> Vec<(String, Vec<u8>)> {
    let alive = inventory.iter().filter(|kept| !kept.expired);
    let others = alive.filter(|kept| !kept.topic.starts_with("$SYS/"));
    others.filter_map(|kept| Some((kept.topic.clone(), kept.payload.clone()?))).collect()
}
