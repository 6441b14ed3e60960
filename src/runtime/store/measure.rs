//! What a store costs on a disk: processor time and time for each message, and the time of a start.

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
};

use rustix::time::{ClockId, clock_gettime};

use super::{Durability, StoreConfig, StoreFault, StoreHandle, StoreThread, open};
use crate::{
    base::{ids::ShardId, time::Span},
    mqtt::QoS,
    runtime::{bell::Bells, ring::system, stop::Stop},
    shard::store_figures::StoreCondition,
    storage::{
        List, MessageId, MessageRecord, Record, RecordBatch, RefRecord, SessionNumber,
        SessionRecord,
    },
};

/// Measures in a folder of its own below `dir`, which it removes.
pub fn measure(dir: &Path, out: &mut impl Write) -> Result<(), StoreFault> {
    let folder = dir.join(format!("ringmq-measure-{}", std::process::id()));
    let measured = measure_all(&folder, out);
    let removed = fs::remove_dir_all(&folder);
    measured?;
    removed.map_err(|error| StoreFault::Directory { path: folder, error })
}

fn measure_all(folder: &Path, out: &mut impl Write) -> Result<(), StoreFault> {
    let told = |error| StoreFault::Directory { path: folder.into(), error };
    writeln!(out, "messages of {MESSAGE} bytes with their reference, each group durable")
        .map_err(told)?;
    writeln!(out, "| messages in a group | processor µs each | µs each | bytes written each |")
        .map_err(told)?;
    writeln!(out, "|---|---|---|---|").map_err(told)?;
    for (group, groups) in [(1, 2_000), (16, 2_000), (256, 1_000)] {
        let row = groups_of(folder, group, groups)?;
        writeln!(out, "{row}").map_err(told)?;
        out.flush().map_err(told)?;
    }
    let row = start(folder)?;
    writeln!(out, "{row}").map_err(told)
}

/// A store at work, with one shard.
struct Bench {
    handle: StoreHandle,
    /// `None` once it has been waited for.
    thread: Option<StoreThread>,
    bells: Bells,
    next: u64,
}

impl Bench {
    fn begin(folder: &Path, durability: Durability) -> Result<Bench, StoreFault> {
        let config = config(folder, durability);
        let fault = |error| StoreFault::Directory { path: folder.into(), error };
        let bells = Bells::new(1).map_err(fault)?;
        let stop = Stop::new(1, bells.clone());
        let store = open(&config, 1)?.store;
        let (handles, thread) = store.start(&bells, stop).map_err(fault)?;
        let handle = handles.into_iter().next().ok_or(StoreFault::Lost)?;
        let mut bench = Bench { handle, thread: Some(thread), bells, next: 1 };
        let mut batch = RecordBatch::default();
        batch.push(&session());
        bench.write(&mut batch)?;
        Ok(bench)
    }

    /// Posts a group of messages, and waits until it is safe.
    fn write_messages(&mut self, messages: u64, batch: &mut RecordBatch) -> Result<(), StoreFault> {
        let payload = [b'm'; PAYLOAD];
        for _ in 0..messages {
            batch.push(&message(self.next, &payload));
            batch.push(&reference(self.next));
            self.next += 1;
        }
        self.write(batch)
    }

    fn write(&mut self, batch: &mut RecordBatch) -> Result<(), StoreFault> {
        let mark = self.handle.try_post(batch).map_err(|_| StoreFault::Lost)?;
        while self.handle.durable() < mark {
            if self.handle.condition() != StoreCondition::Running {
                self.end()?;
                return Err(StoreFault::Lost);
            }
            let heard = self.bells.listen(ShardId::FIRST).read(&mut [0; 64]);
            heard.map_err(|_| StoreFault::Lost)?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), StoreFault> {
        self.thread.take().map_or(Ok(()), StoreThread::end)
    }
}

fn config(folder: &Path, durability: Durability) -> StoreConfig {
    StoreConfig {
        data_dir: folder.into(),
        durability,
        segment_bytes: Some(16 << 20),
        bytes_max: usize::MAX,
        shards: 1,
    }
}

fn groups_of(folder: &Path, group: u64, groups: u64) -> Result<String, StoreFault> {
    let mut bench = Bench::begin(folder, Durability::Always)?;
    let mut batch = RecordBatch::default();
    let (cpu, began, wrote) = (processor_time(), system::now(), bytes_written());
    for _ in 0..groups {
        bench.write_messages(group, &mut batch)?;
    }
    let (cpu, took) = (processor_time().saturating_sub(cpu), system::now().since(began));
    let wrote = bytes_written().saturating_sub(wrote) / (group * groups);
    bench.end()?;
    remove(folder)?;
    let each = |span: Span| micros_each(span, group * groups);
    Ok(format!("| {group} | {} | {} | {wrote} |", each(cpu), each(took)))
}

fn start(folder: &Path) -> Result<String, StoreFault> {
    let mut bench = Bench::begin(folder, Durability::None)?;
    let mut batch = RecordBatch::default();
    for _ in 0..STARTED / 1_000 {
        bench.write_messages(1_000, &mut batch)?;
    }
    bench.end()?;
    let (cpu, began) = (processor_time(), system::now());
    let opened = open(&config(folder, Durability::None), 1)?;
    let (cpu, took) = (processor_time().saturating_sub(cpu), system::now().since(began));
    let messages = opened.restored.messages.len();
    let (took, cpu) = (took.as_millis(), cpu.as_millis());
    Ok(format!("a start with {messages} messages took {took} ms, {cpu} ms of a processor"))
}

fn remove(folder: &Path) -> Result<(), StoreFault> {
    fs::remove_dir_all(folder).map_err(|error| StoreFault::Directory { path: folder.into(), error })
}

fn micros_each(span: Span, count: u64) -> String {
    let tenths = span.as_nanos() / 100 / count.max(1);
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// Of all threads of this process, with the kernel's work for them.
fn processor_time() -> Span {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Span::from_secs(seconds) + Span::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Bytes that this process has caused to be written to disk.
fn bytes_written() -> u64 {
    let read: io::Result<String> = fs::read_to_string("/proc/self/io");
    let text = read.unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn session() -> Record<'static> {
    Record::Session(SessionRecord {
        session: SessionNumber(1),
        client_id: "measure",
        user: None,
        peer: None,
        expiry_interval: u32::MAX,
        created_at: super::layer::now(),
        connected_at: super::layer::now(),
        will: None,
    })
}

fn message(id: u64, payload: &[u8]) -> Record<'_> {
    Record::Message(MessageRecord {
        id: MessageId(id),
        publisher_hash: 7,
        publisher: SessionNumber(1),
        topic: "sensors/room/temperature",
        application: &[],
        payload,
        qos: QoS::AtLeastOnce,
        retain: false,
        expires_at: None,
        from: ShardId::FIRST,
        targets: List::default(),
        groups: "",
    })
}

fn reference(id: u64) -> Record<'static> {
    Record::Ref(RefRecord {
        session: SessionNumber(1),
        ordinal: id,
        message: MessageId(id),
        qos: QoS::AtLeastOnce,
        retain: false,
        subscription_ids: List::default(),
        group: None,
    })
}

/// Bytes of a message with its reference, about.
const MESSAGE: usize = 300;
const PAYLOAD: usize = 232;
/// Messages that a start is measured with.
const STARTED: u64 = 1_000_000;
