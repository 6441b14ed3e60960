//! A world for tests of a shard's parts: it notes what it is asked for, and does nothing.

use super::*;

/// What a part of a shard has asked for.
#[derive(Debug, Default)]
pub(crate) struct FakePorts {
    pub(crate) letters: Vec<LetterBatch>,
    /// What has been done to connections, in order.
    pub(crate) done: Vec<Done>,
    /// What every outbox has room for.
    pub(crate) room: usize,
    /// What has left every outbox.
    pub(crate) backlog: Backlog,
    /// Whether a password may still be given to a thread to check.
    pub(crate) verifies: bool,
    /// The connection whose client has gone.
    pub(crate) gone: Option<ConnectionId>,
    pub(crate) records: RecordBatch,
    pub(crate) record_mark: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Sent(ConnectionId, Vec<u8>),
    Paused(ConnectionId),
    Resumed(ConnectionId),
    Closed(ConnectionId),
    WatchesDrain(ConnectionId),
    Verifies(ConnectionId),
}

impl FakePorts {
    /// Ports of a broker with `shards` shards.
    pub(crate) fn new(shards: usize) -> FakePorts {
        FakePorts {
            letters: (0..shards).map(|_| LetterBatch::default()).collect(),
            ..Self::default()
        }
    }
}

impl Ports for FakePorts {
    fn outbox_room(&self, _: ConnectionId) -> usize {
        self.room
    }

    fn take_backlog(&mut self, _: ConnectionId) -> Backlog {
        std::mem::take(&mut self.backlog)
    }

    fn send(&mut self, connection: ConnectionId, frame: &[u8]) {
        self.done.push(Done::Sent(connection, frame.to_vec()));
    }

    fn send_shared(&mut self, connection: ConnectionId, head: &[u8], payload: &Bytes) {
        self.done.push(Done::Sent(connection, [head, payload].concat()));
    }

    fn notify_drained(&mut self, connection: ConnectionId) {
        self.done.push(Done::WatchesDrain(connection));
    }

    fn close(&mut self, connection: ConnectionId, _: Closing) {
        self.done.push(Done::Closed(connection));
    }

    fn pause(&mut self, connection: ConnectionId) {
        self.done.push(Done::Paused(connection));
    }

    fn resume(&mut self, connection: ConnectionId) {
        self.done.push(Done::Resumed(connection));
    }

    fn hand_over(&mut self, connection: ConnectionId, _: ShardId) {
        self.done.push(Done::Closed(connection));
    }

    fn records(&mut self) -> &mut RecordBatch {
        &mut self.records
    }

    fn record_mark(&self) -> u64 {
        self.record_mark
    }

    fn letters(&mut self, to: ShardId) -> &mut LetterBatch {
        &mut self.letters[to.index()]
    }

    fn can_verify(&self) -> bool {
        self.verifies
    }

    fn verify(&mut self, connection: ConnectionId, _: Verification) {
        self.done.push(Done::Verifies(connection));
    }

    fn has_gone(&mut self, connection: ConnectionId) -> bool {
        self.gone == Some(connection)
    }

    fn random(&mut self) -> u64 {
        7
    }

    fn secret(&mut self) -> Secret {
        [7; 16]
    }

    fn load(&self) -> Load {
        Load::default()
    }
}
