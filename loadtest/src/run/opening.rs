//! Which of one thread's connections are still to be opened, and when.
//!
//! Reads no clock and knows no sockets.

use ringmq::base::time::Moment;

use crate::request::{pacing::Schedule, plan::Plan};

#[derive(Debug)]
pub struct Opening {
    /// The indices, in the whole run, of this thread's clients; publishers first.
    clients: Vec<usize>,
    /// How many of them have been begun.
    begun: usize,
    /// Clients that are not ready yet.
    under_way: usize,
    under_way_max: usize,
    schedule: Option<Schedule>,
}

/// A client whose connection is to be opened now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueClient {
    /// Its index in the whole run.
    pub client: usize,
    /// When it was to be opened.
    pub due: Moment,
}

impl Opening {
    /// All connections of this thread are still to be opened.
    pub fn new(plan: &Plan, thread: usize) -> Opening {
        let publishers = plan.workload.publishers.len();
        let share = |range: std::ops::Range<usize>| range.skip(thread).step_by(plan.threads);
        let clients = share(0..publishers).chain(share(publishers..plan.clients())).collect();
        let under_way_max = plan.opening_max.div_ceil(plan.threads);
        Opening { clients, begun: 0, under_way: 0, under_way_max, schedule: None }
    }

    /// The indices, in the whole run, of those that are to be opened, in that order.
    pub fn clients(&self) -> &[usize] {
        &self.clients
    }

    /// Nothing is to be opened for now.
    pub fn skip(&mut self) {
        self.begun = self.clients.len();
    }

    /// Everything is to be opened once more.
    pub fn begin_again(&mut self, schedule: Option<Schedule>) {
        (self.begun, self.under_way, self.schedule) = (0, 0, schedule);
    }

    /// The next client, unless none is due or too many are under way.
    pub fn take_due(&mut self, now: Moment) -> Option<DueClient> {
        let due = self.next_moment(now)?;
        if due > now {
            return None;
        }
        let client = self.clients[self.begun];
        self.begun += 1;
        self.under_way += 1;
        Some(DueClient { client, due })
    }

    /// When the next client is due. Without a schedule that is always now.
    pub fn next_moment(&self, now: Moment) -> Option<Moment> {
        let client = *self.clients.get(self.begun)?;
        let number = u32::try_from(client).expect("clients are numbered in 32 bits");
        let due = self.schedule.map_or(now, |schedule| schedule.due(number, 0));
        (self.under_way < self.under_way_max).then_some(due)
    }

    /// A client that was ready has something to wait for again.
    pub fn begin_one(&mut self) {
        self.under_way += 1;
    }

    /// A client is ready, or never will be.
    pub fn end_one(&mut self) {
        self.under_way -= 1;
    }

    pub fn is_over(&self) -> bool {
        self.under_way == 0 && self.begun == self.clients.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::plan_of;

    const NOW: Moment = Moment::from_nanos(7_000_000_000);

    fn clients(opening: &mut Opening, now: Moment) -> Vec<usize> {
        std::iter::from_fn(|| opening.take_due(now)).map(|due| due.client).collect()
    }

    #[test]
    fn a_thread_opens_its_share_and_publishers_first() {
        let plan = plan_of("fan-in --publishers 3 --subscribers 2 --threads 2").unwrap();
        let mut openings = [Opening::new(&plan, 0), Opening::new(&plan, 1)];
        assert_eq!(openings.each_mut().map(|o| clients(o, NOW)), [vec![0, 2, 3], vec![1, 4]]);
        assert!(!openings[1].is_over());
        openings[1].end_one();
        openings[1].end_one();
        assert!(openings[1].is_over());
    }

    #[test]
    fn only_so_many_are_under_way_at_one_time() {
        let plan = plan_of("connect --connections 5 --opening 2").unwrap();
        let mut opening = Opening::new(&plan, 0);
        assert_eq!(clients(&mut opening, NOW), [0, 1]);
        assert_eq!(opening.next_moment(NOW), None);
        opening.end_one();
        assert_eq!(clients(&mut opening, NOW), [2]);
    }

    #[test]
    fn a_schedule_says_when() {
        let plan = plan_of("connect --connections 5 --rate 2").unwrap();
        let mut opening = Opening::new(&plan, 0);
        opening.skip();
        assert!(opening.is_over());
        opening.begin_again(plan.opening_schedule(NOW));
        assert_eq!(opening.take_due(NOW), Some(DueClient { client: 0, due: NOW }));
        let next = Moment::from_nanos(7_500_000_000);
        assert_eq!((opening.take_due(NOW), opening.next_moment(NOW)), (None, Some(next)));
        assert_eq!(opening.take_due(next), Some(DueClient { client: 1, due: next }));
    }
}
