//! Routing: which subscribers want a message.
//!
//! One [`Trie`] per shard has the filters of the shard's own subscribers, of share groups and of
//! the other shards. [`InterestAcks`] has the changes that the other shards have applied.
//! [`RetainedStore`] has the retained messages for new subscribers. Knows only filters and numbers:
//! no packets, no sessions, no clock, no channels.
#![forbid(unsafe_code)]

mod arena;
mod cursor;
mod digests;
mod group;
mod index;
mod interest;
mod levels;
mod matching;
mod missed;
mod recent;
mod retained;
mod shared;
mod sorted;
mod strategy;
mod subscriber_list;
mod target;
mod trie;
mod walk;

#[cfg(test)]
mod twin;

pub use cursor::{Cursor, Step};
pub use group::{Counts, GroupId};
pub use interest::InterestAcks;
pub use matching::Matches;
pub use missed::Missed;
pub use retained::{Change, Retainable, RetainedStore, Stamp, Tally};
pub use shared::{Groups, Joined, Left};
pub use strategy::{Selector, Strategies, Strategy};
pub use subscriber_list::{Entry, Options};
pub use target::{GroupPlace, TargetId};
pub use trie::{Sizes, Subscribed, Trie, Unsubscribed};
pub use walk::Walk;
