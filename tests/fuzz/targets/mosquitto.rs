//! Persistence files of mosquitto: whatever they are, what is made of them is records that can be
//! read, in any number of shards.

use ringmq::{
    base::{hash::Seed, time::WallTime},
    storage::{Recovery, mosquitto::take_over},
};

pub(super) fn check(input: &[u8]) {
    let now = WallTime::from_nanos(1_000_000_000_000);
    let takeover = match take_over(input, now) {
        Ok(takeover) => takeover,
        Err(damaged) => {
            assert!(damaged.offset <= input.len(), "the place is in the file");
            return;
        }
    };
    let mut recovery = Recovery::new(Seed::new(1));
    for batch in &takeover.batches {
        assert_eq!(recovery.apply_all(batch.as_bytes(), 1), Ok(()));
    }
    let restored = recovery.finish();
    assert_eq!(restored.sessions.len() as u64, takeover.counts.sessions);
}
