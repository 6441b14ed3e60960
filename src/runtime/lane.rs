//! Lanes from any thread to the shards: bounded, of one type of item each, and with the bell.
//!
//! ```text
//!   any thread: LaneSender::try_send --> channel --> LaneReceiver::receive: the shard, in its turn
//!                          |                            ^
//!                          +-------- the bell ----------+
//! ```
//! A shard never waits for a lane. A sender that finds a lane full gets its item back.

use std::time::Duration;

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TrySendError, bounded};

use super::bell::Bells;
use crate::base::ids::ShardId;

/// The sending end of a lane. Any thread may have it.
pub(super) struct LaneSender<T> {
    to: ShardId,
    sender: Sender<T>,
    bells: Bells,
}

/// The receiving end of a lane. Its shard has it.
pub(super) struct LaneReceiver<T>(Receiver<T>);

/// Why an item was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotSent<T> {
    /// The lane is full. Holds the item.
    Full(T),
    /// The shard has ended.
    Ended,
}

/// A lane to each shard, each with room for `items_max`.
pub(super) fn lanes<T>(
    bells: &Bells,
    items_max: usize,
) -> (Vec<LaneSender<T>>, Vec<LaneReceiver<T>>) {
    let lane = |to| {
        let (sender, receiver) = bounded(items_max);
        (LaneSender { to, sender, bells: bells.clone() }, LaneReceiver(receiver))
    };
    bells.shards().map(lane).unzip()
}

impl<T> Clone for LaneSender<T> {
    fn clone(&self) -> LaneSender<T> {
        LaneSender { to: self.to, sender: self.sender.clone(), bells: self.bells.clone() }
    }
}

impl<T> LaneSender<T> {
    /// Sends an item and wakes the shard, without waiting.
    pub(super) fn try_send(&self, item: T) -> Result<(), NotSent<T>> {
        self.sender.try_send(item).map_err(|error| match error {
            TrySendError::Full(item) => NotSent::Full(item),
            TrySendError::Disconnected(_) => NotSent::Ended,
        })?;
        self.bells.ring(self.to);
        Ok(())
    }

    /// As [`LaneSender::try_send`], but waits for room for up to `patience`. Not for shards.
    pub(super) fn send_within(&self, item: T, patience: Duration) -> Result<(), NotSent<T>> {
        self.sender.send_timeout(item, patience).map_err(|error| match error {
            SendTimeoutError::Timeout(item) => NotSent::Full(item),
            SendTimeoutError::Disconnected(_) => NotSent::Ended,
        })?;
        self.bells.ring(self.to);
        Ok(())
    }
}

impl<T> LaneReceiver<T> {
    /// The next item, oldest first.
    pub(super) fn receive(&self) -> Option<T> {
        self.0.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_full_lane_gives_the_item_back_and_blocks_nobody() {
        let (senders, receivers) = lanes(&Bells::new(2).unwrap(), 2);
        assert_eq!(
            [1, 2, 3].map(|item| senders[1].try_send(item)),
            [Ok(()), Ok(()), Err(NotSent::Full(3))]
        );
        assert_eq!(senders[1].send_within(3, Duration::ZERO), Err(NotSent::Full(3)));
        assert_eq!(receivers[0].receive(), None);
        assert_eq!(receivers[1].receive(), Some(1));
        assert_eq!(senders[1].send_within(3, Duration::ZERO), Ok(()));
        assert_eq!([receivers[1].receive(), receivers[1].receive()], [Some(2), Some(3)]);
    }

    #[test]
    fn each_item_rings_the_bell_of_its_shard() {
        let bells = Bells::new(2).unwrap();
        let (senders, receivers) = lanes(&bells, 1);
        let shard = bells.shards().last().unwrap();
        senders[1].try_send(()).unwrap();
        bells.listen(shard).read_exact(&mut [0; 1]).unwrap();
        drop(receivers);
        assert_eq!(senders[1].clone().try_send(()), Err(NotSent::Ended));
    }
}
