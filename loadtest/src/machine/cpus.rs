//! CPU lists, and pinning a thread to one of them.

use std::io;

use rustix::thread::{CpuSet, sched_setaffinity};

/// Reads a list such as `0,2-5`.
pub fn parse_list(text: &str) -> Result<Vec<usize>, String> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (parse_cpu(first)?, parse_cpu(last)?);
        if first > last {
            return Err(format!("{part} runs backwards"));
        }
        cpus.extend(first..=last);
    }
    Ok(cpus)
}

fn parse_cpu(text: &str) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(cpu) if cpu < CpuSet::MAX_CPU => Ok(cpu),
        Ok(cpu) => Err(format!("there is no CPU {cpu}")),
        Err(_) => Err(format!("not a CPU number: {text:?}")),
    }
}

/// Keeps the calling thread, and those that it starts, on one CPU.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_numbers_and_ranges() {
        assert_eq!(parse_list("1"), Ok(vec![1]));
        assert_eq!(parse_list("0,2-4, 7"), Ok(vec![0, 2, 3, 4, 7]));
        assert_eq!(parse_list("3-3"), Ok(vec![3]));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for wrong in ["", ",", "a", "1-", "-1", "4-2", "1,,2", "99999", "0-99999"] {
            assert!(parse_list(wrong).is_err(), "{wrong}");
        }
    }
}
