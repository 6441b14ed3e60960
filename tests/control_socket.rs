//! The control socket that nobody has asked for: where it is, and who finds it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "the foreign clients' tests use the rest of it")]
mod broker;
#[path = "support/client.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod client;
#[path = "support/source.rs"]
mod source;

use std::{
    fs,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::{self, Command},
};

use broker::Broker;
use client::Client;
use ringmq::mqtt::Version;

/// Folders of one test, which are empty.
struct Folders(PathBuf);

impl Folders {
    fn new(name: &str) -> Folders {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", process::id()));
        drop(fs::remove_dir_all(&path));
        for folder in ["run", "data"] {
            fs::create_dir_all(path.join(folder)).unwrap();
        }
        Folders(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// A broker with this data directory.
    fn broker(&self, flags: &[&str], environment: &[(&str, &str)]) -> Broker {
        let data = self.path("data");
        let flags = [&["--shards=1", "--data-dir", &data], flags].concat();
        Broker::ringmq_in(environment, &flags)
    }

    /// What a subcommand says that looks for the socket in these folders.
    fn ringmq(&self, words: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
        command.env("RUNTIME_DIRECTORY", self.path("run"));
        command.env("RINGMQ_DATA_DIR", self.path("data"));
        let output = command.args(words).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn a_broker_with_a_data_directory_is_found_by_the_subcommands() {
    let folders = Folders::new("own-data");
    let socket = folders.path("data/ringmq.sock");
    // The file of a broker that was killed.
    drop(UnixListener::bind(&socket).unwrap());
    let mut broker = folders.broker(&[], &[]);
    broker.await_words(&format!("listening on http://unix:{socket}"));
    let metadata = fs::metadata(&socket).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let mut client = Client::connect(&broker, Version::V311, "here");
    let (code, said) = folders.ringmq(&["clients"]);
    assert!(code == 0 && said.starts_with("here\t-\t127.0.0.1:"), "{said}");
    assert_eq!(folders.ringmq(&["kick", "here"]), (0, "disconnected here\n".to_owned()));
    assert_eq!(client.next(|_| ()), None);
    broker.stop();
    assert!(!Path::new(&socket).exists(), "the broker removes what it has made");
    let (code, said) = folders.ringmq(&["status"]);
    for place in ["run", "data"] {
        let looked = format!("unix:{}/ringmq.sock: ", folders.path(place));
        assert!(code == 1 && said.contains(&looked), "{said}");
    }
    assert!(said.contains("127.0.0.1:9883: "), "{said}");
}

#[test]
fn the_run_directory_comes_before_the_data_directory() {
    let folders = Folders::new("own-run");
    let (run, data) = (folders.path("run"), folders.path("data"));
    // Several folders may be named: the first one counts.
    let named = format!("{run}:{data}");
    let mut broker = folders.broker(&[], &[("RUNTIME_DIRECTORY", &named)]);
    broker.await_words(&format!("listening on http://unix:{run}/ringmq.sock"));
    assert!(!Path::new(&data).join("ringmq.sock").exists());
    assert_eq!(folders.ringmq(&["status"]).0, 0);
    // Two brokers are not told apart by guessing.
    let other = UnixListener::bind(Path::new(&data).join("ringmq.sock")).unwrap();
    let (code, said) = folders.ringmq(&["status"]);
    assert!(code == 1 && said.contains("say which by --at"), "{said}");
    drop(other);
    assert_eq!(folders.ringmq(&["status"]).0, 0);
    broker.stop();
}

#[test]
fn a_broker_runs_without_a_socket_that_it_may_not_make() {
    let folders = Folders::new("own-taken");
    let socket = folders.path("data/ringmq.sock");
    let _other = UnixListener::bind(&socket).unwrap();
    let mut broker = folders.broker(&[], &[]);
    let _here = Client::connect(&broker, Version::V311, "here");
    broker.ask_to_stop();
    broker.await_end();
    assert!(broker.has_said("there is no control socket (--control-socket)"));
    assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
    fs::remove_file(&socket).unwrap();
    let mut broker = folders.broker(&["--control-socket=off"], &[]);
    let _here = Client::connect(&broker, Version::V311, "here");
    assert!(!Path::new(&socket).exists());
    broker.ask_to_stop();
    broker.await_end();
    assert!(!broker.has_said("control socket") && !broker.has_said("http://"));
}
