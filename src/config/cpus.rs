//! Lists of CPUs, as `taskset` and the kernel write them.

use std::{fmt, fs, io, str::FromStr};

use thiserror::Error;

/// CPUs in the order in which they were named, each once, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(Vec<usize>);

impl CpuList {
    pub fn iter(&self) -> impl Iterator<Item = usize> + Clone {
        self.0.iter().copied()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has(&self, cpu: usize) -> bool {
        self.0.contains(&cpu)
    }

    /// The same CPUs in the order of their numbers.
    pub(super) fn sorted(&self) -> CpuList {
        let mut cpus = self.0.clone();
        cpus.sort_unstable();
        CpuList(cpus)
    }
}

/// The CPUs that this process may use, the best ones for a shard each first. The same as
/// `sched_getaffinity`, without a foreign call.
pub(super) fn available() -> io::Result<CpuList> {
    let CpuList(mut cpus) = from_status(&fs::read_to_string("/proc/self/status")?)?;
    sort_by_place(&mut cpus, siblings_of, &memory_nodes());
    Ok(CpuList(cpus))
}

/// One CPU of each physical core comes before the others of the cores, and those of one NUMA node
/// come before those of the next. `siblings_of` names the CPUs of the core of a CPU.
fn sort_by_place(cpus: &mut [usize], siblings_of: impl Fn(usize) -> CpuList, nodes: &[CpuList]) {
    let usable = cpus.to_vec();
    let is_earlier = |cpu: usize, sibling: usize| sibling < cpu && usable.contains(&sibling);
    cpus.sort_by_cached_key(|&cpu| {
        let rank = siblings_of(cpu).iter().filter(|&sibling| is_earlier(cpu, sibling)).count();
        let node = nodes.iter().position(|node| node.has(cpu));
        (rank, node, cpu)
    });
}

/// A CPU of which the system says nothing is a core of its own.
fn siblings_of(cpu: usize) -> CpuList {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    read_list(&path).unwrap_or_else(|| CpuList(vec![cpu]))
}

/// The CPUs of each NUMA node; none if the system says nothing of nodes.
fn memory_nodes() -> Vec<CpuList> {
    let nodes = read_list("/sys/devices/system/node/online").unwrap_or_else(|| CpuList(Vec::new()));
    let cpus_of = |node| read_list(&format!("/sys/devices/system/node/node{node}/cpulist"));
    nodes.iter().filter_map(cpus_of).collect()
}

fn read_list(path: &str) -> Option<CpuList> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn from_status(status: &str) -> io::Result<CpuList> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let list =
        list.ok_or_else(|| io::Error::other("/proc/self/status has no line Cpus_allowed_list"))?;
    list.trim().parse().map_err(io::Error::other)
}

/// What is wrong with a list of CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CpuListError {
    #[error("not a list of CPUs and ranges such as 0-3,6")]
    Syntax,
    #[error("a range must go from a lower to a higher number")]
    Backwards,
    #[error("the highest CPU number is {CPU_MAX}")]
    TooLarge,
    #[error("CPU {0} is named twice")]
    Twice(usize),
}

impl FromStr for CpuList {
    type Err = CpuListError;

    fn from_str(text: &str) -> Result<CpuList, CpuListError> {
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (parse_cpu(first)?, parse_cpu(last)?);
            if last < first {
                return Err(CpuListError::Backwards);
            }
            cpus.extend(first..=last);
        }
        refuse_twice(&cpus)?;
        Ok(CpuList(cpus))
    }
}

fn parse_cpu(text: &str) -> Result<usize, CpuListError> {
    let cpu = text.parse().map_err(|_| CpuListError::Syntax)?;
    if cpu <= CPU_MAX { Ok(cpu) } else { Err(CpuListError::TooLarge) }
}

fn refuse_twice(cpus: &[usize]) -> Result<(), CpuListError> {
    let mut sorted = cpus.to_vec();
    sorted.sort_unstable();
    let twice = sorted.windows(2).find(|pair| pair[0] == pair[1]);
    twice.map_or(Ok(()), |pair| Err(CpuListError::Twice(pair[0])))
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.0.chunk_by(|&one, &next| one + 1 == next);
        let ranges: Vec<String> = ranges.map(display_range).collect();
        f.write_str(&ranges.join(","))
    }
}

fn display_range(cpus: &[usize]) -> String {
    match cpus {
        [first, .., last] => format!("{first}-{last}"),
        _ => cpus.iter().map(usize::to_string).collect(),
    }
}

/// More than the kernel supports. The limit bounds the memory for a range.
const CPU_MAX: usize = 8191;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_its_order_and_prints_as_it_was_read() {
        let list: CpuList = "6,0-3,8".parse().unwrap();
        assert!(list.iter().eq([6, 0, 1, 2, 3, 8]));
        assert_eq!(list.to_string(), "6,0-3,8");
        assert!(list.has(8) && !list.has(7));
    }

    #[test]
    fn a_list_that_makes_no_sense_is_refused() {
        for (text, expected) in [
            ("", CpuListError::Syntax),
            ("0,", CpuListError::Syntax),
            ("0-", CpuListError::Syntax),
            ("-1", CpuListError::Syntax),
            ("0-1-2", CpuListError::Syntax),
            ("one", CpuListError::Syntax),
            ("3-1", CpuListError::Backwards),
            ("0-99999999", CpuListError::TooLarge),
            ("0-3,2", CpuListError::Twice(2)),
        ] {
            assert_eq!(text.parse::<CpuList>(), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn cores_come_before_their_siblings_and_a_node_before_the_next() {
        // Four cores with two CPUs each; the cores of CPU 0 and 2 belong to the first node.
        let siblings_of = |cpu: usize| format!("{},{}", cpu % 4, cpu % 4 + 4).parse().unwrap();
        let nodes = ["0,2,4,6", "1,3,5,7"].map(|list| list.parse().unwrap());
        let ordered = |mut cpus: Vec<usize>, nodes: &[CpuList]| {
            sort_by_place(&mut cpus, siblings_of, nodes);
            cpus
        };
        assert_eq!(ordered((0..8).collect(), &nodes), [0, 2, 1, 3, 4, 6, 5, 7]);
        assert_eq!(ordered((0..8).collect(), &[]), [0, 1, 2, 3, 4, 5, 6, 7]);
        // A sibling whose core is used by nobody else is as good as any.
        assert_eq!(ordered(vec![1, 2, 4, 5], &nodes), [2, 4, 1, 5]);
    }

    #[test]
    fn the_kernels_words_are_understood() {
        let status = "Name:\tringmq\nCpus_allowed:\t4f\nCpus_allowed_list:\t0-3,6\n";
        assert_eq!(from_status(status).unwrap().to_string(), "0-3,6");
        assert!(from_status("Name:\tringmq\n").is_err());
        assert!(!available().unwrap().is_empty());
    }
}
