//! How much memory the machine has, or the control group that this process runs in.

use std::fs;

/// Bytes that this process may use: those of the machine, or fewer if a control group has less.
/// `None` if neither can be read.
pub(super) fn available() -> Option<usize> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| of_machine(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|file| fs::read_to_string(file).ok());
    limits.filter_map(|text| of_group(&text)).chain(machine).min()
}

fn of_machine(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1 << 10)
}

/// A limit as the kernel writes it: a number, or `max` for none.
fn of_group(limit: &str) -> Option<usize> {
    limit.trim().parse().ok()
}

/// The files with the limits of the groups that this process is in, and of those that contain
/// them: version 2 and version 1.
fn limit_files(groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            it if it.split(',').any(|controller| controller == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let mut path = path.trim_end_matches('/');
        files.push(format!("{root}{path}/{file}"));
        while let Some((parent, _)) = path.rsplit_once('/') {
            files.push(format!("{root}{parent}/{file}"));
            path = parent;
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_this_machine_is_known() {
        assert!(available().is_some_and(|bytes| bytes > 64 << 20));
        assert_eq!(
            of_machine("MemFree: 1 kB\nMemTotal:       24731512 kB\n"),
            Some(25_325_068_288)
        );
        assert_eq!(of_machine("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn a_control_group_may_have_a_limit_in_either_version() {
        assert_eq!((of_group("536870912\n"), of_group("max\n")), (Some(512 << 20), None));
        assert_eq!(
            limit_files("0::/system.slice/ringmq.service\n"),
            [
                "/sys/fs/cgroup/system.slice/ringmq.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
        );
        assert_eq!(
            limit_files("5:cpu:/x\n4:memory,hugetlb:/docker/1\n"),
            [
                "/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes"
            ]
        );
        assert_eq!(limit_files("0::/\n"), ["/sys/fs/cgroup/memory.max"]);
    }
}
