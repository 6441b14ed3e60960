//! A client that receives messages.

use ringmq::{
    base::time::Moment,
    mqtt::{Delivery, Frame, Packet},
};

use crate::{
    accounting::{Arrival, Stream},
    fault::Fault,
    network::Outbox,
    payload::{Content, Stamp},
    plan::Plan,
    publisher::success,
    scenario::Subscription,
    tally::Tally,
    wire::{encode_subscribe, read_publish},
};

#[derive(Debug)]
pub struct Subscriber {
    filter: String,
    /// The number of the first publisher that it listens to; the others follow.
    publishers_from: u32,
    /// One for each of those publishers.
    streams: Vec<Stream>,
}

impl Subscriber {
    pub fn new(subscription: &Subscription) -> Subscriber {
        let streams = subscription.publishers.clone();
        Subscriber {
            filter: subscription.filter.clone(),
            publishers_from: subscription.publishers.start,
            streams: streams.map(|_| Stream::new(subscription.sequences.clone())).collect(),
        }
    }

    pub fn subscribe(&self, plan: &Plan, outbox: &mut Outbox) {
        encode_subscribe(plan.version, &self.filter, plan.qos, &mut outbox.bytes);
    }

    pub fn reset(&mut self) {
        self.streams.iter_mut().for_each(Stream::reset);
    }

    #[inline]
    pub fn handle_publish(
        &mut self,
        frame: Frame<'_>,
        now: Moment,
        plan: &Plan,
        outbox: &mut Outbox,
        tally: &mut Tally,
    ) -> Result<(), Fault> {
        let (delivery, payload) = read_publish(frame, plan.version)?;
        match plan.filling.read(payload) {
            Content::Stamped(stamp) if stamp.phase != tally.phase => {}
            Content::Stamped(stamp) => tally.record(self.arrive(stamp), stamp, now),
            Content::Unstamped => tally.record_unstamped(now),
            Content::Damaged => tally.counts.damaged += 1,
        }
        acknowledge(delivery, plan, outbox);
        Ok(())
    }

    #[inline]
    fn arrive(&mut self, stamp: Stamp) -> Arrival {
        let index = stamp.publisher.wrapping_sub(self.publishers_from) as usize;
        self.streams.get_mut(index).map_or(Arrival::Foreign, |stream| stream.arrive(stamp.sequence))
    }

    pub fn handle_packet(
        packet: &Packet<'_>,
        plan: &Plan,
        outbox: &mut Outbox,
    ) -> Result<(), Fault> {
        let Packet::Pubrel(ack) = packet else {
            return Err(Fault::Unexpected("a packet that no subscriber is sent"));
        };
        Packet::Pubcomp(success(ack.packet_id)).encode(plan.version, &mut outbox.bytes);
        Ok(())
    }
}

#[inline]
fn acknowledge(delivery: Delivery, plan: &Plan, outbox: &mut Outbox) {
    let answer = match delivery {
        Delivery::AtMostOnce => return,
        Delivery::AtLeastOnce(id) => Packet::Puback(success(id)),
        Delivery::ExactlyOnce(id) => Packet::Pubrec(success(id)),
    };
    answer.encode(plan.version, &mut outbox.bytes);
}
