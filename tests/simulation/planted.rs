//! Faults that are planted between the shards and the world, so that the laws can be seen to find
//! them. Each is something that a broker could get wrong.

use std::collections::BTreeMap;

use ringmq::{
    base::ids::ConnectionId,
    mqtt::{self, Packet, PacketType, Version},
    shard::letter::LetterBatch,
};

use crate::{
    letters,
    plan::Plan,
    random::{Random, purpose},
};

/// Declares the faults once: the name in the code, and the words in the table.
macro_rules! faults {
    ($($name:ident = $words:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Fault {
            $($name,)*
        }

        impl Fault {
            pub(crate) const ALL: &[Fault] = &[$(Fault::$name,)*];

            pub(crate) fn words(self) -> &'static str {
                match self {
                    $(Fault::$name => $words,)*
                }
            }
        }
    };
}

faults! {
    LosePublish = "a PUBLISH at QoS 1 or 2 is not sent",
    LoseQosZero = "a PUBLISH at QoS 0 is dropped and not counted",
    RepeatPublish = "a PUBLISH is sent twice",
    SwapPublishes = "two PUBLISH packets change places",
    ForgetDup = "what is sent again does not say DUP",
    ReuseIdentifier = "a Packet Identifier is used twice",
    SetRetain = "RETAIN is set on what subscribers get live",
    RaiseQos = "a message at QoS 1 is sent at QoS 2",
    LosePuback = "a PUBACK is not sent",
    RepeatPuback = "a PUBACK is sent twice",
    LosePubrel = "a PUBREL is not sent",
    LoseSuback = "a SUBACK is not sent",
    ForgetSessionPresent = "Session Present is not set",
    IgnoreReceiveMaximum = "the client's Receive Maximum is ignored",
    IgnorePacketSize = "the client's Maximum Packet Size is ignored",
    IgnoreCleanStart = "Clean Start is ignored",
    HastenWill = "a Will comes before its delay is over",
    IgnoreNoLocal = "No Local is ignored",
    IgnoreQos = "subscriptions are taken at QoS 0",
    LoseInterest = "another shard does not hear of a filter",
    KeepInterest = "another shard does not hear that a filter is gone",
    LoseGroup = "another shard does not hear of a share group's members",
    EarlySuback = "a SUBACK does not wait for the other shards",
    LoseLetter = "a message for another shard is lost, though acknowledged",
    RepeatLetter = "a message for another shard comes twice",
    SwapBatches = "two batches of letters change places",
    SkipTombstone = "the removal of a retained message is not told to another shard",
    AgeRetained = "a retained message comes to another shard as older than it is",
    LoseEase = "a publisher is not told that it may go on",
    ForgetToResume = "a paused connection is never read from again",
    ForgetDrained = "a drained outbox is not noticed",
    OverfillOutbox = "an outbox is never full",
    HurryClock = "a shard's clock is ahead when timers are looked at",
}

/// The planted fault of a run, if any, and what it has to remember.
#[derive(Debug)]
pub(crate) struct Planted {
    fault: Option<Fault>,
    random: Random,
    held_frames: BTreeMap<(u32, u32), Vec<u8>>,
    held_batches: BTreeMap<(usize, usize), LetterBatch>,
    /// Changes of interest that each shard has told each other.
    told: BTreeMap<(usize, usize), u64>,
    forging: bool,
}

impl Planted {
    pub(crate) fn new(plan: &Plan) -> Planted {
        Planted {
            fault: plan.planted,
            random: Random::new(plan.seed, purpose::PLANTED),
            held_frames: BTreeMap::new(),
            held_batches: BTreeMap::new(),
            told: BTreeMap::new(),
            forging: false,
        }
    }

    pub(crate) fn is(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub(crate) fn is_on(&self) -> bool {
        self.fault.is_some()
    }

    /// What is sent instead of some packets.
    pub(crate) fn alter(&mut self, to: ConnectionId, frames: &[u8]) -> Vec<Vec<u8>> {
        let mut altered = Vec::new();
        let mut rest = frames;
        while let Ok(Some(frame)) = mqtt::frame::split(rest, 1 << 28) {
            let (one, more) = rest.split_at(frame.len);
            self.alter_one(to, frame.packet_type(), one.to_vec(), &mut altered);
            rest = more;
        }
        altered
    }

    fn alter_one(
        &mut self,
        to: ConnectionId,
        packet_type: PacketType,
        mut frame: Vec<u8>,
        out: &mut Vec<Vec<u8>>,
    ) {
        let Some(fault) = self.fault else { return out.push(frame) };
        let qos = frame[0] >> 1 & 3;
        let strikes = self.random.chance(25);
        let loses = match (fault, packet_type) {
            (Fault::LosePublish, PacketType::Publish) => qos > 0,
            (Fault::LoseQosZero, PacketType::Publish) => qos == 0,
            (Fault::LosePuback, PacketType::Puback)
            | (Fault::LosePubrel, PacketType::Pubrel)
            | (Fault::LoseSuback, PacketType::Suback) => true,
            _ => false,
        };
        if loses && strikes {
            return;
        }
        match (fault, packet_type) {
            (Fault::RepeatPublish, PacketType::Publish)
            | (Fault::RepeatPuback, PacketType::Puback)
                if strikes =>
            {
                out.push(frame.clone());
            }
            (Fault::SwapPublishes, PacketType::Publish) => {
                let key = (to.slot, to.generation);
                if let Some(held) = self.held_frames.remove(&key) {
                    out.push(frame);
                    return out.push(held);
                }
                if strikes {
                    self.held_frames.insert(key, frame);
                    return;
                }
            }
            (Fault::ForgetDup, PacketType::Publish) => frame[0] &= !8,
            (Fault::SetRetain, PacketType::Publish) if strikes => frame[0] |= 1,
            (Fault::RaiseQos, PacketType::Publish) if qos == 1 => frame[0] ^= 0b110,
            (Fault::ReuseIdentifier, PacketType::Publish) if qos > 0 && strikes => {
                let at = packet_id_at(&frame);
                frame[at..at + 2].copy_from_slice(&[0, 1]);
            }
            (Fault::ForgetSessionPresent, PacketType::Connack) => frame[2] = 0,
            _ => {}
        }
        out.push(frame);
    }

    /// What a shard is handed instead of what has come; as many bytes.
    pub(crate) fn misread(&self, bytes: &[u8], version: Version) -> Vec<u8> {
        let mut misread = Vec::new();
        let mut rest = bytes;
        while let Ok(Some(frame)) = mqtt::frame::split(rest, 1 << 28) {
            let (one, more) = rest.split_at(frame.len);
            let altered = match Packet::decode(frame, version) {
                Ok(packet) => self.misread_one(&packet, version),
                Err(_) => None,
            };
            match altered.filter(|altered| altered.len() == one.len()) {
                Some(altered) => misread.extend(altered),
                None => misread.extend(one),
            }
            rest = more;
        }
        misread.extend(rest);
        misread
    }

    fn misread_one(&self, packet: &Packet<'_>, version: Version) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match *packet {
            Packet::Connect(mut connect) => {
                match self.fault? {
                    Fault::IgnoreReceiveMaximum => {
                        let maximum = connect.properties.receive_maximum.as_mut()?;
                        *maximum = std::num::NonZeroU16::MAX;
                    }
                    Fault::IgnorePacketSize => {
                        let maximum = connect.properties.maximum_packet_size.as_mut()?;
                        *maximum = std::num::NonZeroU32::MAX;
                    }
                    Fault::IgnoreCleanStart => connect.clean_start = false,
                    Fault::HastenWill => {
                        connect.will.as_mut()?.properties.will_delay_interval = 1;
                    }
                    _ => return None,
                }
                connect.encode(&mut out);
            }
            Packet::Subscribe(subscribe) => {
                let filters: Vec<_> = subscribe
                    .filters
                    .iter()
                    .map(|(filter, mut options)| {
                        options.no_local &= !self.is(Fault::IgnoreNoLocal);
                        if self.is(Fault::IgnoreQos) {
                            options.qos = mqtt::QoS::AtMostOnce;
                        }
                        (filter, options)
                    })
                    .collect();
                let filters = mqtt::SubscribeFilters::List(&filters);
                mqtt::Subscribe { filters, ..subscribe }.encode(version, &mut out);
            }
            _ => return None,
        }
        Some(out)
    }

    pub(crate) fn forgets_to_resume(&mut self) -> bool {
        self.is(Fault::ForgetToResume) && self.random.chance(25)
    }

    /// What is posted instead of a batch of letters.
    pub(crate) fn alter_batch(
        &mut self,
        from: usize,
        to: usize,
        batch: LetterBatch,
    ) -> Vec<LetterBatch> {
        let Some(fault) = self.fault else { return vec![batch] };
        *self.told.entry((from, to)).or_default() += letters::told_in(&batch);
        self.forging = fault == Fault::EarlySuback && letters::told_in(&batch) > 0;
        if fault == Fault::SwapBatches {
            if let Some(held) = self.held_batches.remove(&(from, to)) {
                return vec![batch, held];
            }
            if self.random.chance(50) {
                self.held_batches.insert((from, to), batch);
                return Vec::new();
            }
            return vec![batch];
        }
        vec![letters::altered(&batch, fault, &mut self.random)]
    }

    /// The answer of a shard that has not read what it answers.
    pub(crate) fn forge_answer(&mut self, from: usize, to: usize) -> Option<LetterBatch> {
        if !std::mem::take(&mut self.forging) {
            return None;
        }
        let upto = self.told.get(&(from, to)).copied().unwrap_or_default();
        Some(letters::applied(upto))
    }
}

/// Where the Packet Identifier of a PUBLISH stands.
fn packet_id_at(frame: &[u8]) -> usize {
    let length = frame[1..].iter().position(|byte| byte & 0x80 == 0).unwrap_or(0) + 1;
    let topic = 1 + length;
    topic + 2 + usize::from(u16::from_be_bytes([frame[topic], frame[topic + 1]]))
}
