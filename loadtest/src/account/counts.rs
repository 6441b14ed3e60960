//! How many messages arrived: in order, late, repeated, damaged or foreign, and by QoS.

use std::ops::{AddAssign, Index, IndexMut};

use ringmq::mqtt::QoS;
use serde::{Deserialize, Serialize};

use super::stream::Arrival;

/// What came to the subscribers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Messages that came, each counted once per subscriber.
    pub delivered: u64,
    pub duplicated: u64,
    pub reordered: u64,
    /// Messages that belong to another subscriber or to none.
    pub foreign: u64,
    pub damaged: u64,
}

impl Counts {
    #[inline]
    pub fn record(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::InOrder => self.delivered += 1,
            Arrival::Late => {
                self.delivered += 1;
                self.reordered += 1;
            }
            Arrival::Again => self.duplicated += 1,
            Arrival::Foreign => self.foreign += 1,
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.delivered += other.delivered;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.foreign += other.foreign;
        self.damaged += other.damaged;
    }
}

/// One of something for each QoS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerQos<T>([T; 3]);

impl<T> Index<QoS> for PerQos<T> {
    type Output = T;

    #[inline]
    fn index(&self, qos: QoS) -> &T {
        &self.0[qos as usize]
    }
}

impl<T> IndexMut<QoS> for PerQos<T> {
    #[inline]
    fn index_mut(&mut self, qos: QoS) -> &mut T {
        &mut self.0[qos as usize]
    }
}

impl PerQos<u64> {
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl<T: AddAssign> AddAssign for PerQos<T> {
    fn add_assign(&mut self, other: PerQos<T>) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }
}
