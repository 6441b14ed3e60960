//! Records: what is accepted is a record, and written again it reads as the same. Recovery takes
//! any records in any order.

use ringmq::{
    base::hash::Seed,
    storage::{RecordBatch, Records, Recovery},
};

pub(super) fn check(input: &[u8]) {
    let mut written = RecordBatch::default();
    for record in Records::new(input).flatten() {
        written.push(&record);
    }
    let once = Records::new(input).flatten();
    assert!(once.eq(written.records().flatten()), "it reads as it was written");
    let mut recovery = Recovery::new(Seed::new(1));
    assert_eq!(recovery.apply_all(written.as_bytes(), 1), Ok(()));
    recovery.finish();
}
