//! Points along the measured phase, and the latencies between them.

use hdrhistogram::Histogram;
use ringmq::base::time::{Moment, Span};

use super::{
    latency::no_latencies,
    series::{Point, Series},
};

/// Collects points of the measured phase. In a longer phase they are further apart.
#[derive(Debug)]
pub struct Recorder {
    points: Vec<Point>,
    /// Latencies of what came in the interval that ends with the last point, in nanoseconds.
    recent: Histogram<u64>,
    /// Latencies of all that came before.
    earlier: Histogram<u64>,
    /// Points are due only while this is on.
    recording: bool,
    interval: Span,
}

impl Default for Recorder {
    fn default() -> Recorder {
        let (recent, earlier) = (no_latencies(), no_latencies());
        Recorder { points: Vec::new(), recent, earlier, recording: false, interval: INTERVAL }
    }
}

impl Recorder {
    pub fn begin(&mut self, point: Point) {
        self.recording = true;
        self.points.push(point);
    }

    /// Adds the last point, however soon it comes after the one before.
    pub fn end(&mut self, point: Point) {
        self.recording = false;
        self.add(point);
    }

    /// Adds what the threads have recorded since they were last asked, which was at the last point.
    pub fn add_latencies(&mut self, nanos: &Histogram<u64>) {
        self.recent.add(nanos).expect("all histograms have the same bounds");
    }

    /// The latencies of all that came, once all have been added.
    pub fn finish(&mut self) -> Histogram<u64> {
        self.close_interval();
        std::mem::replace(&mut self.earlier, no_latencies())
    }

    fn add(&mut self, point: Point) {
        self.close_interval();
        self.points.push(point);
    }

    fn close_interval(&mut self) {
        if let Some(point) = self.points.last_mut()
            && !self.recent.is_empty()
        {
            point.p99_nanos = Some(self.recent.value_at_quantile(0.99));
            self.earlier.add(&self.recent).expect("all histograms have the same bounds");
            self.recent.reset();
        }
    }

    /// From the first point to the last.
    pub fn span(&self) -> Span {
        match (self.points.first(), self.points.last()) {
            (Some(first), Some(last)) => last.moment - first.moment,
            _ => Span::ZERO,
        }
    }

    pub fn is_due(&self, now: Moment) -> bool {
        let last = self.points.last().map(|point| point.moment);
        self.recording && last.is_some_and(|last| now - last >= self.interval)
    }

    /// Adds a point. When there are too many, every second one is removed.
    pub fn record(&mut self, point: Point) {
        self.add(point);
        if self.points.len() > POINTS_MAX {
            self.thin();
            self.interval = self.interval + self.interval;
        }
    }

    /// Where two intervals become one the slower p99 is kept, so that a stall is still seen.
    fn thin(&mut self) {
        for index in (2..self.points.len()).step_by(2) {
            let before = self.points[index - 1].p99_nanos;
            self.points[index].p99_nanos = self.points[index].p99_nanos.max(before);
        }
        let mut index = 0;
        self.points.retain(|_| {
            index += 1;
            index % 2 == 1
        });
    }

    pub fn series(&self) -> Series {
        Series::of(&self.points)
    }
}

/// Between two points at first: seldom enough that reading `/proc` costs next to nothing.
const INTERVAL: Span = Span::from_millis(100);

const POINTS_MAX: usize = 600;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::series::ProcessPoint;

    fn point(millis: u64, delivered: u64) -> Point {
        let broker =
            ProcessPoint { cpu: Span::from_millis(millis / 2), resident_bytes: delivered * 1024 };
        let moment = Moment::from_nanos(1_000_000 * (5000 + millis));
        let sent = delivered * 2;
        Point { moment, sent, delivered, broker: Some(broker), ..Point::default() }
    }

    fn record(count: u64, step: u64) -> Recorder {
        let mut recorder = Recorder::default();
        recorder.begin(point(0, 0));
        for number in 1..count {
            let point = point(number * step, number * 10);
            if recorder.is_due(point.moment) {
                recorder.record(point);
            }
        }
        recorder
    }

    #[test]
    fn a_series_has_rates_between_the_points() {
        let mut recorder = record(3, 100);
        recorder.end(point(250, 35));
        let series = recorder.series();
        assert_eq!(series.seconds, [0.1, 0.2, 0.25]);
        assert_eq!(series.delivered_rates, [100.0, 100.0, 300.0]);
        assert_eq!(series.sent_rates, [200.0, 200.0, 600.0]);
        assert_eq!(series.latency_p99_micros, [None; 3]);
        assert_eq!(series.broker_core_use, [0.5, 0.5, 0.5]);
        assert_eq!(series.broker_rss_bytes, [10 * 1024, 20 * 1024, 35 * 1024]);
        assert_eq!(series.load_core_use, [0.0, 0.0, 0.0]);
        assert_eq!(recorder.span(), Span::from_millis(250));
        assert!(!recorder.is_due(point(10_000, 0).moment));
    }

    #[test]
    fn a_rest_too_short_for_a_rate_is_left_out() {
        let mut recorder = record(2, 100);
        recorder.end(point(101, 20));
        assert_eq!(recorder.series().seconds, [0.1]);
    }

    fn of_one(nanos: u64) -> Histogram<u64> {
        let mut histogram = no_latencies();
        histogram.record(nanos).unwrap();
        histogram
    }

    #[test]
    fn what_is_heard_after_a_point_came_before_it() {
        let mut recorder = record(3, 100);
        recorder.add_latencies(&of_one(1000));
        recorder.add_latencies(&of_one(2000));
        recorder.record(point(300, 30));
        recorder.end(point(400, 40));
        recorder.add_latencies(&of_one(3000));
        assert_eq!(recorder.finish().len(), 3);
        let found = recorder.series().latency_p99_micros;
        let micros: Vec<_> = found.iter().map(|micros| micros.map(f64::round)).collect();
        assert_eq!(micros, [None, Some(2.0), None, Some(3.0)]);
    }

    #[test]
    fn a_stall_is_seen_when_points_are_given_up() {
        for stalled in 1..=4 {
            let mut recorder = record(2, 100);
            for number in 2..6 {
                recorder.add_latencies(&of_one(if number - 1 == stalled {
                    5_000_000
                } else {
                    1000
                }));
                recorder.record(point(number * 100, number * 10));
            }
            recorder.thin();
            let found = recorder.series().latency_p99_micros;
            assert!(found.iter().flatten().any(|micros| *micros > 4000.0), "{stalled} {found:?}");
        }
    }

    #[test]
    fn a_long_run_has_no_more_points_than_a_short_one() {
        let recorder = record(36_000, 100);
        let series = recorder.series();
        assert!((POINTS_MAX / 2 - 1..POINTS_MAX).contains(&series.seconds.len()));
        assert!(series.delivered_rates.iter().all(|rate| (rate - 100.0).abs() < 1e-6));
    }
}
