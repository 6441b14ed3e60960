//! Which changes of this shard's interest the other shards have applied.
//!
//! Each change that is told to the other shards gets the next number, and each shard acknowledges
//! the numbers in order. A SUBACK waits until all shards have applied the number of its filter. So
//! a message that is published after the SUBACK arrives, through whichever shard it is published.

use crate::base::ids::ShardId;

/// The latest number of one shard, and the number that each other shard has acknowledged.
#[derive(Debug)]
pub struct InterestAcks {
    here: ShardId,
    told: u64,
    /// By shard; this shard's own entry is not read.
    acknowledged: Vec<u64>,
    applied: u64,
}

impl InterestAcks {
    /// The acknowledgements of shard `here` in a broker of `shards` shards.
    pub fn new(here: ShardId, shards: usize) -> InterestAcks {
        InterestAcks { here, told: 0, acknowledged: vec![0; shards], applied: 0 }
    }

    /// A change is told to all other shards. Returns its number; the first one is 1.
    pub fn told(&mut self) -> u64 {
        self.told += 1;
        self.note_applied();
        self.told
    }

    /// Another shard has applied all changes up to this number. True:
    /// [`Self::applied_everywhere`] has grown, so an answer may no longer have to wait.
    ///
    /// # Panics
    /// If no change with this number was told.
    pub fn acknowledged(&mut self, from: ShardId, upto: u64) -> bool {
        assert!(upto <= self.told, "a peer acknowledges what it was told");
        let Some(known) = self.acknowledged.get_mut(from.index()) else { return false };
        *known = upto.max(*known);
        self.note_applied()
    }

    /// The number up to which all other shards have applied what they were told.
    pub fn applied_everywhere(&self) -> u64 {
        self.applied
    }

    /// Whether all other shards have applied all that they were told.
    pub fn is_applied_everywhere(&self) -> bool {
        self.applied == self.told
    }

    fn note_applied(&mut self) -> bool {
        let here = self.here.index();
        let peers = self.acknowledged.iter().enumerate().filter(|(index, _)| *index != here);
        let applied = peers.map(|(_, upto)| *upto).min().unwrap_or(self.told);
        applied > std::mem::replace(&mut self.applied, applied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(index: usize) -> ShardId {
        ShardId::new(index).unwrap()
    }

    #[test]
    fn a_change_is_applied_everywhere_when_the_slowest_peer_has_it() {
        let mut acks = InterestAcks::new(shard(1), 3);
        assert_eq!((acks.told(), acks.told()), (1, 2));
        assert!(!acks.acknowledged(shard(0), 2));
        assert_eq!(acks.applied_everywhere(), 0);
        assert!(acks.acknowledged(shard(2), 1));
        assert_eq!(acks.applied_everywhere(), 1);
        assert!(!acks.acknowledged(shard(2), 0));
        assert!(acks.acknowledged(shard(2), 2));
        assert_eq!(acks.applied_everywhere(), 2);
    }

    #[test]
    fn a_shard_without_peers_waits_for_nobody() {
        let mut acks = InterestAcks::new(shard(0), 1);
        assert_eq!(acks.told(), 1);
        assert_eq!(acks.applied_everywhere(), 1);
    }
}
