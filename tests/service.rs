//! What the service manager is told by a broker that it has started.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "the foreign clients' tests use the rest of it")]
mod broker;
#[path = "support/socket_file.rs"]
mod socket_file;

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    time::Duration,
};

use broker::Broker;
use socket_file::socket_file;

/// A service manager, to which a broker sends states in lines of `NAME=VALUE`.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(name: &str) -> Manager {
        let path = socket_file(&format!("service-{name}"));
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        Manager { socket, path }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// The states of the next datagram.
    fn next(&self) -> String {
        let mut states = [0; 4096];
        let length = self.socket.recv(&mut states).unwrap();
        String::from_utf8(states[..length].to_vec()).unwrap()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}

#[test]
fn a_broker_tells_its_service_manager_when_it_is_ready_and_what_came_of_a_reload() {
    let manager = Manager::new("ready");
    let config = Path::new(env!("CARGO_TARGET_TMPDIR")).join("service.toml");
    fs::write(&config, "[limits]\nmax-queued = 5\n").unwrap();
    let broker = Broker::ringmq_in(
        &[("NOTIFY_SOCKET", manager.path())],
        &["--shards", "1", "--config", config.to_str().unwrap()],
    );
    let listening = format!("READY=1\nSTATUS=listening on 127.0.0.1:{}\n", broker.port());
    assert_eq!(manager.next(), listening);
    for (text, words) in [
        ("[limits]\nmax-queued = 6\n", "STATUS=the configuration was read again"),
        ("[limits]\nno-such-key = 6\n", "STATUS=the configuration stays as it was"),
    ] {
        fs::write(&config, text).unwrap();
        broker.signal("HUP");
        let reloading = manager.next();
        assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
        let reloaded = manager.next();
        assert!(reloaded.starts_with("READY=1\n") && reloaded.contains(words), "{reloaded}");
        assert_eq!(reloaded.lines().count(), 2, "{reloaded}");
    }
}

#[test]
fn a_broker_with_a_watchdog_says_again_and_again_that_it_is_alive() {
    let manager = Manager::new("alive");
    let environment = [("NOTIFY_SOCKET", manager.path()), ("WATCHDOG_USEC", "50000")];
    let _broker = Broker::ringmq_in(&environment, &["--shards", "2"]);
    assert!(manager.next().starts_with("READY=1\n"));
    for _ in 0..5 {
        assert_eq!(manager.next(), "WATCHDOG=1\n");
    }
}
