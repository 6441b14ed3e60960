//! A client that receives messages.

use std::ops::Range;

use ringmq::{
    base::time::Moment,
    mqtt::{Ack, Delivery, Frame, Packet, PacketType, Suback, Version},
};

use super::{
    fault::Fault,
    outbox::Outbox,
    wire::{encode_subscribe, read_publish},
};
use crate::{
    account::{
        seen::Seen,
        stream::{Arrival, Stream},
        tally::Tally,
    },
    payload::{Content, Stamp},
    request::{
        plan::Plan,
        workload::{Act, Arrivals, Reading, Subscription},
    },
};

#[derive(Debug)]
pub struct Subscriber {
    filters: Vec<String>,
    /// The publishers that it listens to.
    publishers: Range<u32>,
    /// The sequence numbers of their messages that it is to receive.
    sequences: Range<u32>,
    intake: Intake,
    reading: Reading,
    /// Where latency does not count from when a message was sent or due: from when it counts.
    since: Option<Moment>,
    /// Messages of this phase that have come for the first time.
    share: u64,
    /// SUBSCRIBE packets that wait for their SUBACK.
    unanswered: usize,
}

/// What has come, publisher by publisher.
#[derive(Debug)]
enum Intake {
    Streams(Vec<Stream>),
    Sets(Vec<Seen>),
    /// In the tally, which has the pool of the whole group.
    Pooled,
}

impl Intake {
    fn new(subscription: &Subscription) -> Intake {
        let publishers = subscription.publishers.clone();
        let stream = |_| Stream::new(subscription.sequences.clone());
        match subscription.arrivals {
            Arrivals::InOrder => Intake::Streams(publishers.map(stream).collect()),
            Arrivals::AnyOrder => Intake::Sets(publishers.map(|_| Seen::default()).collect()),
            Arrivals::Pooled => Intake::Pooled,
        }
    }

    fn reset(&mut self) {
        match self {
            Intake::Streams(streams) => streams.iter_mut().for_each(Stream::reset),
            Intake::Sets(sets) => sets.iter_mut().for_each(|seen| *seen = Seen::default()),
            Intake::Pooled => {}
        }
    }
}

impl Subscriber {
    pub fn new(subscription: &Subscription) -> Subscriber {
        Subscriber {
            filters: subscription.filters.clone(),
            publishers: subscription.publishers.clone(),
            sequences: subscription.sequences.clone(),
            intake: Intake::new(subscription),
            reading: subscription.reading,
            since: None,
            share: 0,
            unanswered: 0,
        }
    }

    /// Whether it subscribes as soon as it is connected; in a replay it does so later.
    pub fn is_to_subscribe(&self, plan: &Plan) -> bool {
        let later = matches!(plan.workload.act, Act::Replay { .. });
        !later && !self.filters.is_empty()
    }

    /// Bytes that it reads each second, if it is a slow reader.
    pub fn allowance(&self) -> Option<u32> {
        match self.reading {
            Reading::Freely => None,
            Reading::Slowly { bytes_per_second } => Some(bytes_per_second),
        }
    }

    pub fn subscribe(&mut self, plan: &Plan, outbox: &mut Outbox) {
        let out = &mut outbox.bytes;
        self.unanswered = encode_subscribe(plan.version, &self.filters, plan.subscribe_qos, out);
    }

    /// From now on latency counts from this moment.
    pub fn count_from(&mut self, moment: Moment) {
        self.since = Some(moment);
    }

    pub fn reset(&mut self) {
        self.intake.reset();
        self.share = 0;
    }

    pub fn share(&self) -> u64 {
        self.share
    }

    /// True when no SUBSCRIBE waits for its SUBACK any more.
    pub fn handle_suback(&mut self, suback: &Suback<'_>, plan: &Plan) -> Result<bool, Fault> {
        for &granted in suback.reason_codes {
            match granted {
                0..=2 if granted == plan.subscribe_qos as u8 => {}
                0..=2 => return Err(Fault::QosNotGranted(granted)),
                _ => return Err(Fault::SubscriptionRefused(granted)),
            }
        }
        let rest = self.unanswered.checked_sub(1);
        self.unanswered = rest.ok_or(Fault::Unexpected("a SUBACK without a SUBSCRIBE"))?;
        Ok(self.unanswered == 0)
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
        let qos = delivery.qos();
        if self.reading != Reading::Freely {
            tally.slow.slow_delivered += 1;
            acknowledge(delivery, plan.version, &mut outbox.bytes);
            return Ok(());
        }
        match plan.filling.read(payload) {
            Content::Stamped(stamp) if stamp.phase != tally.phase => {}
            Content::Stamped(stamp) => {
                let arrival = self.arrive(stamp, tally);
                self.share += u64::from(arrival.is_first());
                tally.record(arrival, qos, self.since.unwrap_or(stamp.moment), now);
            }
            Content::Unstamped => {
                self.share += 1;
                tally.record_unstamped(qos, now);
            }
            Content::Damaged => tally.counts[qos].damaged += 1,
        }
        acknowledge(delivery, plan.version, &mut outbox.bytes);
        Ok(())
    }

    #[inline]
    fn arrive(&mut self, stamp: Stamp, tally: &mut Tally) -> Arrival {
        let Stamp { publisher, sequence, .. } = stamp;
        let index = publisher.wrapping_sub(self.publishers.start) as usize;
        match &mut self.intake {
            Intake::Streams(streams) => {
                streams.get_mut(index).map_or(Arrival::Foreign, |stream| stream.arrive(sequence))
            }
            _ if !self.publishers.contains(&publisher) => Arrival::Foreign,
            _ if !self.sequences.contains(&sequence) => Arrival::Foreign,
            Intake::Sets(sets) => {
                if sets[index].insert(sequence) {
                    Arrival::InOrder
                } else {
                    Arrival::Again
                }
            }
            Intake::Pooled => tally.pool.arrive(publisher, sequence),
        }
    }

    pub fn handle_packet(
        packet: &Packet<'_>,
        plan: &Plan,
        outbox: &mut Outbox,
    ) -> Result<(), Fault> {
        let Packet::Pubrel(ack) = packet else {
            return Err(Fault::Unexpected("a packet that no subscriber is sent"));
        };
        let pubcomp = Ack::success(ack.packet_id);
        pubcomp.encode(PacketType::Pubcomp, plan.version, &mut outbox.bytes);
        Ok(())
    }
}

/// Answers a PUBLISH as its QoS wants it.
#[inline]
pub fn acknowledge(delivery: Delivery, version: Version, out: &mut Vec<u8>) {
    let (packet_type, packet_id) = match delivery {
        Delivery::AtMostOnce => return,
        Delivery::AtLeastOnce(packet_id) => (PacketType::Puback, packet_id),
        Delivery::ExactlyOnce(packet_id) => (PacketType::Pubrec, packet_id),
    };
    Ack::success(packet_id).encode(packet_type, version, out);
}
