//! A client that sends messages.

use ringmq::{
    base::time::Moment,
    mqtt::{Ack, PacketId, PacketType, QoS, ReasonCode},
};

use super::{
    fault::Fault,
    outbox::Outbox,
    window::Window,
    wire::{PublishTemplate, SinglePublish},
};
use crate::{
    account::tally::Tally,
    payload::{Phase, Stamp},
    request::{pacing::Schedule, plan::Plan, topics::Topics, workload::Act},
};

#[derive(Debug)]
pub struct Publisher {
    /// Its number in the whole run.
    pub number: u32,
    pub qos: QoS,
    frames: FrameSource,
    /// The sequence of the next message of this phase, which is also how many have been sent.
    next: u32,
    /// Of size zero for QoS 0, which has no exchanges.
    window: Window,
    /// It stopped because the outbox had no room.
    wants_room: bool,
    /// It is in its thread's list of those that may have something to send.
    pub listed: bool,
}

/// Where the frames of messages come from.
#[derive(Debug)]
enum FrameSource {
    /// All messages have the same packet but for the stamp.
    One(PublishTemplate),
    /// Their sizes differ.
    Sized(Topics),
    /// Each message has its own topic. This is slower.
    Each(Topics),
    /// The same, and the broker is to keep them.
    Retained(Topics),
}

/// The phase and the time that messages are stamped with.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub phase: Phase,
    pub now: Moment,
    pub schedule: Option<Schedule>,
}

impl Publisher {
    pub fn new(number: u32, topics: &Topics, plan: &Plan) -> Publisher {
        let qos = plan.publish_qos(number);
        let frames = match (topics, plan.workload.act) {
            (_, Act::Replay { .. }) => FrameSource::Retained(topics.clone()),
            (Topics::One(_), _) if plan.filling.sizes().min < plan.filling.sizes().max => {
                FrameSource::Sized(topics.clone())
            }
            (Topics::One(topic), _) => {
                FrameSource::One(PublishTemplate::new(plan.version, qos, topic, &plan.filling))
            }
            (Topics::Numbered(_) | Topics::Chosen(..), _) => FrameSource::Each(topics.clone()),
        };
        let window = Window::default();
        Publisher { number, qos, frames, next: 0, window, wants_room: false, listed: false }
    }

    /// The broker may allow fewer open exchanges than we would like. [MQTT-3.3.4-7]
    pub fn open_window(&mut self, receive_maximum: u16, plan: &Plan) {
        if self.qos > QoS::AtMostOnce {
            self.window = Window::new(plan.in_flight.min(receive_maximum));
        }
    }

    pub fn reset(&mut self) {
        self.next = 0;
        self.wants_room = false;
    }

    pub fn sent(&self) -> u32 {
        self.next
    }

    pub fn open_count(&self) -> usize {
        self.window.open_count()
    }

    pub fn wants_room(&self) -> bool {
        self.wants_room
    }

    /// The length of one of its packets, where all have the same.
    pub fn packet_len(&self) -> Option<usize> {
        match &self.frames {
            FrameSource::One(template) => Some(template.packet_len()),
            FrameSource::Sized(_) | FrameSource::Each(_) | FrameSource::Retained(_) => None,
        }
    }

    /// Sends messages until `allowed` have been sent in this phase, the window is full, or the
    /// outbox is. Says how many.
    pub fn publish(
        &mut self,
        allowed: u32,
        timing: Timing,
        plan: &Plan,
        outbox: &mut Outbox,
    ) -> u32 {
        let first = self.next;
        self.wants_room = false;
        while self.next < allowed {
            self.wants_room = !outbox.has_room();
            if self.wants_room {
                break;
            }
            let packet_id = self.window.publish();
            if packet_id.is_none() && self.qos > QoS::AtMostOnce {
                break;
            }
            self.append(packet_id, timing, plan, outbox);
            self.next += 1;
        }
        self.next - first
    }

    #[inline]
    fn append(
        &self,
        packet_id: Option<PacketId>,
        timing: Timing,
        plan: &Plan,
        outbox: &mut Outbox,
    ) {
        let moment = match &timing.schedule {
            Some(schedule) => schedule.due(self.number, self.next),
            None => timing.now,
        };
        let (publisher, sequence) = (self.number, self.next);
        let stamp = Stamp { publisher, phase: timing.phase, sequence, moment };
        match &self.frames {
            FrameSource::One(template) => template.append(packet_id, stamp, outbox),
            FrameSource::Sized(topics) | FrameSource::Each(topics) => {
                self.append_single((topics, false), packet_id, stamp, plan, outbox);
            }
            FrameSource::Retained(topics) => {
                self.append_single((topics, true), packet_id, stamp, plan, outbox);
            }
        }
    }

    fn append_single(
        &self,
        (topics, retain): (&Topics, bool),
        packet_id: Option<PacketId>,
        stamp: Stamp,
        plan: &Plan,
        outbox: &mut Outbox,
    ) {
        let topic = topics.name(stamp.publisher, stamp.sequence);
        let single = SinglePublish { qos: self.qos, retain, topic: &topic, packet_id };
        match stamp.phase {
            Phase::CleanUp => single.append_empty(plan.version, &mut outbox.bytes),
            Phase::WarmUp | Phase::Measured => {
                single.append(plan.version, &plan.filling, stamp, outbox);
            }
        }
    }

    /// The broker acknowledges a step of an exchange, or refuses the message.
    #[inline]
    pub fn handle_ack(
        &mut self,
        packet_type: PacketType,
        ack: &Ack<'_>,
        plan: &Plan,
        outbox: &mut Outbox,
        tally: &mut Tally,
    ) -> Result<(), Fault> {
        match packet_type {
            PacketType::Puback => self.window.handle_puback(ack.packet_id)?,
            // A refusal ends the exchange. [MQTT-4.3.3-4]
            PacketType::Pubrec if ack.reason_code.is_error() => {
                self.window.handle_puback(ack.packet_id)?;
            }
            PacketType::Pubrec => {
                self.window.handle_pubrec(ack.packet_id)?;
                let pubrel = Ack::success(ack.packet_id);
                pubrel.encode(PacketType::Pubrel, plan.version, &mut outbox.bytes);
                return Ok(());
            }
            PacketType::Pubcomp => self.window.handle_pubcomp(ack.packet_id)?,
            _ => return Err(Fault::Unexpected("a packet that no publisher is sent")),
        }
        self.finish(ack.reason_code, tally);
        Ok(())
    }

    fn finish(&self, reason_code: ReasonCode, tally: &mut Tally) {
        tally.acknowledged[self.qos] += 1;
        if reason_code.is_error() {
            tally.note(&Fault::MessageRefused(reason_code));
        }
    }
}
