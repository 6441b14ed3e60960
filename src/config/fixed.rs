//! What a running broker cannot change.

use super::Config;

impl Config {
    /// The flags whose values differ in `new`, of those that only a start applies.
    pub fn fixed_changes(&self, new: &Config) -> Vec<&'static str> {
        let buffers = |config: &Config| (config.receive_buffers, config.receive_buffer_bytes);
        let times = |config: &Config| (config.packet_timeout, config.stalled_timeout);
        let control = |config: &Config| {
            let options = config.control.clone();
            options.map(|control| (control.addresses, control.own_socket, control.hosts))
        };
        [
            ("--shards or --cpus", self.shard_cpus != new.shard_cpus),
            ("--busy-poll", self.busy_poll != new.busy_poll),
            ("--io", self.io != new.io),
            ("--max-memory", self.memory_max != new.memory_max),
            ("--max-connections", self.connections_max != new.connections_max),
            ("--exempt-address", self.exempt != new.exempt),
            ("--outbox-bytes", self.limits.outbox_bytes_max != new.limits.outbox_bytes_max),
            ("--packet-timeout or --stalled-timeout", times(self) != times(new)),
            ("--stop-timeout", self.stop_timeout != new.stop_timeout),
            ("--data-dir and the flags of the store", self.store != new.store),
            ("--recv-buffers or --recv-buffer-size", buffers(self) != buffers(new)),
            ("--ring-entries", self.ring_entries != new.ring_entries),
            ("--data-dir or another setting of the store", self.store != new.store),
            ("--listen-http, --control-socket or --http-host", control(self) != control(new)),
            ("--dynamic-security-file", self.dynamic_security_file != new.dynamic_security_file),
            ("--log-format", self.log_format != new.log_format),
        ]
        .into_iter()
        .filter_map(|(name, has_changed)| has_changed.then_some(name))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::accepted;

    #[test]
    fn what_only_a_start_applies_is_named() {
        let from = accepted("--shards 2");
        let names = |line: &str| from.fixed_changes(&accepted(line));
        assert_eq!(names("--shards 2 --listen 1 --max-queued 7 --log debug"), [""; 0]);
        assert_eq!(
            names("--cpus 1,0 --ring-entries 256"),
            ["--shards or --cpus", "--ring-entries"]
        );
        assert_eq!(
            names("--shards 2 --packet-timeout 1"),
            ["--packet-timeout or --stalled-timeout"]
        );
        assert_eq!(names("--shards 2 --max-memory 1GiB"), ["--max-memory"]);
    }
}
