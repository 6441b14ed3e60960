//! Room for connections: who is let in when there is little, and who has to go.

use super::{super::connection::MqttConnection, Connections};
use crate::{
    access::{Account, Kind, share},
    base::ids::ConnectionId,
};

/// Whether there is room for the connection of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) enum Room {
    Free,
    /// What is left is kept for others, who have less than their shares.
    Kept,
    /// Another connection has to go.
    Made(ConnectionId),
    Full,
}

impl Connections {
    /// Whether a connection that has just come is closed at once: its account has more than its
    /// share when there is little room, and enough of its connections may be told so already.
    pub(in crate::shard) fn has_no_room_for(connection: &MqttConnection) -> bool {
        let (account, maximum) = (connection.principal().account(), connection.connections_max());
        let told_max = (maximum / TOLD_PART).clamp(1, TOLD_MAX);
        share::is_short(account.connections(), maximum)
            && account.exceeds_share(Kind::Connections, 0, maximum)
            && account.held(Kind::Strangers) > told_max
    }

    /// Whether there is room for this connection when its client is let in by this account.
    pub(in crate::shard) fn room_for(&mut self, id: ConnectionId, account: &Account) -> Room {
        let connection = self.connected(id);
        let (maximum, is_surplus) = (connection.connections_max(), connection.is_surplus());
        let is_counted = connection.principal().account().number() == account.number();
        let exceeds = account.exceeds_share(Kind::Connections, usize::from(!is_counted), maximum);
        if is_surplus {
            let newcomer = Newcomer::of(account, maximum);
            let victim = if exceeds { None } else { self.heaviest(&newcomer) };
            return victim.map_or(Room::Full, Room::Made);
        }
        let is_short = share::is_short(account.connections(), maximum);
        if is_short && exceeds { Room::Kept } else { Room::Free }
    }

    /// Whether a connection beyond the limit may be let in instead of another one, if its client
    /// proves to be someone who has none.
    pub(in crate::shard) fn may_make_room(&mut self, id: ConnectionId) -> bool {
        let connection = self.connected(id);
        let (account, maximum) = (connection.principal().account(), connection.connections_max());
        let share = maximum / (account.holders(Kind::Connections) + 1);
        self.heaviest(&Newcomer { account: None, held: 0, share }).is_some()
    }

    /// A connection of the account that has most, among some that are looked at. It has more than
    /// its share, and more than this account. A client that has not been let in goes first.
    fn heaviest(&mut self, newcomer: &Newcomer) -> Option<ConnectionId> {
        let held =
            |connection: &MqttConnection| connection.principal().account().held(Kind::Connections);
        let pays = |connection: &MqttConnection| {
            let account = connection.principal().account();
            newcomer.account != Some(account.number())
                && !account.is_exempt()
                && held(connection) > newcomer.share.max(newcomer.held + 1)
        };
        let some = self.entries.some(LOOKS).filter(|(_, connection)| pays(connection));
        let heaviest = some.max_by_key(|(_, it)| (held(it), it.subscriber().is_none()));
        heaviest.map(|(id, _)| id)
    }
}

/// An account that needs room for another connection.
struct Newcomer {
    /// Its number, if it is known.
    account: Option<u64>,
    /// How many connections it has.
    held: usize,
    /// How many each account may have.
    share: usize,
}

impl Newcomer {
    fn of(account: &Account, maximum: usize) -> Newcomer {
        let share = account.share(Kind::Connections, maximum);
        let held = account.held(Kind::Connections);
        Newcomer { account: Some(account.number()), held, share }
    }
}

/// Slots that are looked at to find a connection that has to go.
const LOOKS: usize = 256;
/// Connections of an account beyond its share that may wait to be told so.
const TOLD_MAX: usize = 128;
/// The same as a part of all connections.
const TOLD_PART: usize = 32;

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::{
        super::super::{ports::Arrival, rules::tests::rules},
        *,
    };
    use crate::{access::Accounts, base::time::Moment};

    fn id(slot: u32) -> ConnectionId {
        ConnectionId { slot, generation: 0 }
    }

    /// So many connections of each address, where there is room for 64. Others are surplus.
    fn connections(counts: &[(u8, u32)]) -> Connections {
        let (mut connections, accounts) = (Connections::new(1), Accounts::default());
        let peers = counts.iter().flat_map(|&(last, count)| (0..count).map(move |_| last));
        for (slot, last) in (0..).zip(peers) {
            let peer = std::net::SocketAddr::from(([192, 0, 2, last], 1));
            let surplus = slot >= 64;
            let arrival =
                Arrival { listener: 0, peer, surplus, connections_max: 64, handed_over: false };
            let rules = Rc::new(rules());
            let connection = MqttConnection::new(arrival, &accounts, Moment::default(), rules);
            connections.insert(id(slot), connection);
        }
        connections
    }

    fn room_for(connections: &mut Connections, slot: u32) -> Room {
        let account = std::sync::Arc::clone(connections.connected(id(slot)).principal().account());
        connections.room_for(id(slot), &account)
    }

    #[test]
    fn the_last_eighth_is_kept_for_accounts_within_their_shares() {
        let mut alone = connections(&[(1, 64)]);
        assert_eq!(room_for(&mut alone, 63), Room::Free, "nobody else needs any");
        let mut roomy = connections(&[(1, 50), (2, 6)]);
        assert_eq!(room_for(&mut roomy, 0), Room::Free);
        let mut short = connections(&[(1, 50), (2, 7)]);
        assert_eq!((room_for(&mut short, 0), room_for(&mut short, 56)), (Room::Kept, Room::Free));
    }

    #[test]
    fn a_connection_of_who_has_most_goes_for_one_of_who_has_few() {
        let mut full = connections(&[(1, 60), (2, 4), (3, 1)]);
        let Room::Made(victim) = room_for(&mut full, 64) else { panic!("no room was made") };
        assert!(victim.slot < 60 && full.may_make_room(id(64)));
        let mut own = connections(&[(2, 4), (1, 61)]);
        assert_eq!(room_for(&mut own, 64), Room::Full, "it has most itself");
        let fair: Vec<(u8, u32)> = (1..=65).map(|last| (last, 1)).collect();
        let mut fair = connections(&fair);
        assert_eq!((room_for(&mut fair, 64), fair.may_make_room(id(64))), (Room::Full, false));
    }

    #[test]
    fn some_connections_beyond_a_share_are_told_so_and_more_are_closed_at_once() {
        let turned_away = |counts: &[(u8, u32)], slot| {
            Connections::has_no_room_for(connections(counts).connected(id(slot)))
        };
        assert!(!turned_away(&[(1, 64)], 63) && turned_away(&[(1, 65)], 64));
        assert!(!turned_away(&[(2, 24), (1, 32)], 55) && turned_away(&[(2, 24), (1, 33)], 56));
        assert!(!turned_away(&[(2, 24), (1, 33)], 0));
    }
}
