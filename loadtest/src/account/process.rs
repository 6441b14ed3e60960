//! CPU time, memory and context switches of a process, from `/proc`.

use std::{fs, io, path::Path};

use ringmq::base::time::Span;
use serde::{Deserialize, Serialize};

/// What a process has used so far.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub user: Span,
    pub system: Span,
    /// Resident memory.
    pub resident_bytes: u64,
    threads: Vec<ThreadSample>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ThreadSample {
    id: u32,
    name: String,
    /// Time on a CPU, to the nanosecond. Those of the whole process come in ticks.
    cpu: Span,
    switches: Switches,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Switches {
    voluntary: u64,
    involuntary: u64,
}

impl Sample {
    pub fn take(pid: u32) -> io::Result<Sample> {
        let home = Path::new("/proc").join(pid.to_string());
        let (user, system) = parse_times(&fs::read_to_string(home.join("stat"))?)
            .ok_or_else(|| missing("times in /proc/PID/stat"))?;
        let status = fs::read_to_string(home.join("status"))?;
        let resident_kib = parse_field(&status, "VmRSS").unwrap_or_default();
        let threads = take_threads(&home.join("task"))?;
        Ok(Sample { user, system, resident_bytes: resident_kib * 1024, threads })
    }

    /// CPU time of the threads that have not ended.
    pub fn cpu(&self) -> Span {
        self.threads.iter().fold(Span::ZERO, |sum, thread| sum + thread.cpu)
    }
}

fn missing(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no {what}"))
}

/// A thread that ends while we look is left out.
fn take_threads(tasks: &Path) -> io::Result<Vec<ThreadSample>> {
    let mut threads: Vec<_> =
        fs::read_dir(tasks)?.flatten().filter_map(|entry| take_thread(&entry.path())).collect();
    threads.sort_by_key(|thread| thread.id);
    Ok(threads)
}

fn take_thread(task: &Path) -> Option<ThreadSample> {
    let id = task.file_name()?.to_str()?.parse().ok()?;
    let name = fs::read_to_string(task.join("comm")).ok()?.trim_end().to_owned();
    let cpu = parse_schedstat(&fs::read_to_string(task.join("schedstat")).ok()?)?;
    let switches = parse_switches(&fs::read_to_string(task.join("status")).ok()?);
    Some(ThreadSample { id, name, cpu, switches })
}

/// User and system time: fields 14 and 15 of `stat`. The name before them, in parentheses, may
/// contain anything.
fn parse_times(stat: &str) -> Option<(Span, Span)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11).map(|ticks| ticks.parse().ok());
    Some((from_ticks(times.next()??), from_ticks(times.next()??)))
}

fn from_ticks(ticks: u64) -> Span {
    Span::from_nanos(ticks * 1_000_000_000 / rustix::param::clock_ticks_per_second())
}

fn parse_schedstat(schedstat: &str) -> Option<Span> {
    schedstat.split_ascii_whitespace().next()?.parse().ok().map(Span::from_nanos)
}

fn parse_switches(status: &str) -> Switches {
    Switches {
        voluntary: parse_field(status, "voluntary_ctxt_switches").unwrap_or_default(),
        involuntary: parse_field(status, "nonvoluntary_ctxt_switches").unwrap_or_default(),
    }
}

/// The number of a line such as `VmRSS:     1234 kB`.
fn parse_field(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

/// What a process used between two samples.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    pub user_seconds: f64,
    pub system_seconds: f64,
    /// User and system time together, as exactly as is known.
    pub cpu_seconds: f64,
    pub resident_bytes_before: u64,
    pub resident_bytes_after: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    pub threads: Vec<ThreadUsage>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ThreadUsage {
    pub id: u32,
    pub name: String,
    pub cpu_seconds: f64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
}

impl Usage {
    pub fn between(before: &Sample, after: &Sample) -> Usage {
        let threads: Vec<_> =
            after.threads.iter().map(|thread| usage_of_thread(thread, &before.threads)).collect();
        let ticked = seconds(after.user, before.user) + seconds(after.system, before.system);
        // The exact time of a thread that has ended is not known; the ticks of the process have it.
        let complete =
            before.threads.iter().all(|thread| find(thread.id, &after.threads).is_some());
        let exact = threads.iter().map(|thread| thread.cpu_seconds).sum();
        Usage {
            user_seconds: seconds(after.user, before.user),
            system_seconds: seconds(after.system, before.system),
            cpu_seconds: if complete && exact > 0.0 { exact } else { ticked },
            resident_bytes_before: before.resident_bytes,
            resident_bytes_after: after.resident_bytes,
            voluntary_switches: threads.iter().map(|thread| thread.voluntary_switches).sum(),
            involuntary_switches: threads.iter().map(|thread| thread.involuntary_switches).sum(),
            threads,
        }
    }
}

fn usage_of_thread(after: &ThreadSample, all_before: &[ThreadSample]) -> ThreadUsage {
    let before = find(after.id, all_before).cloned().unwrap_or_default();
    ThreadUsage {
        id: after.id,
        name: after.name.clone(),
        cpu_seconds: seconds(after.cpu, before.cpu),
        voluntary_switches: after.switches.voluntary.saturating_sub(before.switches.voluntary),
        involuntary_switches: after
            .switches
            .involuntary
            .saturating_sub(before.switches.involuntary),
    }
}

fn find(id: u32, threads: &[ThreadSample]) -> Option<&ThreadSample> {
    threads.iter().find(|thread| thread.id == id)
}

fn seconds(after: Span, before: Span) -> f64 {
    let nanos = after.as_nanos().saturating_sub(before.as_nanos());
    std::time::Duration::from_nanos(nanos).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_after_any_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 523 0 0 0 150 50 0 0 20 0 3 0 99 1 2 3";
        let tick = from_ticks(1).as_nanos();
        let expected = (Span::from_nanos(150 * tick), Span::from_nanos(50 * tick));
        assert_eq!(parse_times(stat), Some(expected));
        assert_eq!(parse_times("42 (short) S 1"), None);
        assert_eq!(parse_times(""), None);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let status = "VmRSS:\t    1234 kB\nvoluntary_ctxt_switches:\t7\n\
                      nonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(parse_field(status, "VmRSS"), Some(1234));
        assert_eq!(parse_switches(status), Switches { voluntary: 7, involuntary: 3 });
        assert_eq!(parse_field(status, "Vm"), None);
    }

    #[test]
    fn the_first_number_of_schedstat_is_time_on_a_cpu() {
        assert_eq!(parse_schedstat("123456 789 10\n"), Some(Span::from_nanos(123_456)));
        assert_eq!(parse_schedstat(""), None);
    }

    #[test]
    fn this_process_can_be_sampled() {
        let sample = Sample::take(std::process::id()).unwrap();
        assert!(sample.resident_bytes > 0);
        assert!(!sample.threads.is_empty());
        assert!(Sample::take(0).is_err());
    }

    fn thread(id: u32, nanos: u64) -> ThreadSample {
        let name = String::from("shard");
        ThreadSample { id, name, cpu: Span::from_nanos(nanos), switches: Switches::default() }
    }

    #[test]
    fn exact_times_are_used_while_all_threads_live() {
        let before = Sample { threads: vec![thread(1, 1_000)], ..Sample::default() };
        let after = Sample {
            user: Span::from_secs(3),
            threads: vec![thread(1, 2_000_001_000), thread(2, 500_000_000)],
            ..Sample::default()
        };
        let usage = Usage::between(&before, &after);
        assert!((usage.cpu_seconds - 2.5).abs() < 1e-9);
        let ended = Sample { threads: vec![thread(2, 500_000_000)], ..after };
        assert!((Usage::between(&before, &ended).cpu_seconds - 3.0).abs() < 1e-9);
    }
}
