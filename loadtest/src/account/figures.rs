//! Counts and times as floating-point numbers.

use ringmq::base::time::Span;

pub fn in_seconds(span: Span) -> f64 {
    as_f64(span.as_nanos()) / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "nobody reads the sixteenth digit")]
pub fn as_f64(value: u64) -> f64 {
    value as f64
}
