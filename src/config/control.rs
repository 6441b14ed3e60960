//! The flags of the control thread.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;

use super::{
    Contradiction,
    listeners::check_new,
    values::{parse_host, parse_http_address},
};
use crate::{shard::events::Presence, transport::Address};

#[derive(Args, Debug)]
pub(super) struct ControlFlags {
    /// Address to listen on for HTTP, in the form of --listen, or unix:PATH for a Unix socket:
    /// metrics, health and the API. The port is 9883 if none is given. On an address that is not a
    /// loopback address each request needs a token of --http-token-file. The user of the broker and
    /// root need none on a Unix socket. May be repeated [default: none]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_http_address)]
    listen_http: Vec<Address>,
    /// File with the tokens of --listen-http: lines of `ROLE TOKEN`, where ROLE is admin or reader.
    /// Nobody but its owner may read it. Without it nothing can be changed over HTTP, except by the
    /// owner of a Unix socket
    #[arg(long, value_name = "FILE")]
    http_token_file: Option<PathBuf>,
    /// Name by which --listen-http is reached, for example broker.example.com. Requests for other
    /// names are refused; IP addresses and localhost are always taken. May be repeated [default:
    /// none on a loopback address; any name elsewhere]
    #[arg(long, value_name = "NAME", value_parser = parse_host)]
    http_host: Vec<String>,
    /// The Unix socket that `ringmq status`, `ringmq clients` and `ringmq kick` find by themselves:
    /// `auto` makes it as ringmq.sock in the run directory of the service manager
    /// (`RUNTIME_DIRECTORY`), or else in --data-dir; without either there is none. `off` makes
    /// none.
    /// It is as one of --listen-http, with the mode 600
    #[arg(long, value_name = "auto|off", default_value = "auto", value_parser = parse_own_socket)]
    control_socket: OwnSocket,
    /// Directory for the files of traces, which may have what clients send. Made if it is missing
    /// [default: traces in --data-dir; without either a trace has no file]
    #[arg(long, value_name = "DIR")]
    trace_dir: Option<PathBuf>,
    /// Announce clients that connect and disconnect under $SYS/broker/clients/CLIENT/connected and
    /// disconnected, in JSON, where CLIENT is the Client Identifier with / + # and % escaped:
    /// `live` to those who subscribe at that moment, `retained` also as a retained message for as
    /// long as the client is connected, `off` not at all
    #[arg(long, value_name = "off|live|retained", default_value = "off")]
    #[arg(value_parser = parse_presence)]
    pub(super) presence: Presence,
}

fn parse_presence(text: &str) -> Result<Presence, String> {
    match text {
        "off" => Ok(Presence::Off),
        "live" => Ok(Presence::Live),
        "retained" => Ok(Presence::Retained),
        _ => Err("neither off nor live nor retained".to_owned()),
    }
}

/// Whether the broker makes a control socket of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwnSocket {
    /// Where there is a folder for it.
    Auto,
    Off,
}

fn parse_own_socket(text: &str) -> Result<OwnSocket, String> {
    match text {
        "auto" => Ok(OwnSocket::Auto),
        "off" => Ok(OwnSocket::Off),
        _ => Err("neither auto nor off: --listen-http unix:PATH makes one elsewhere".to_owned()),
    }
}

/// The folders in which the broker may make its control socket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Folders<'a> {
    pub(super) run: Option<&'a Path>,
    pub(super) data: Option<&'a Path>,
}

impl Folders<'_> {
    fn socket(self) -> Option<PathBuf> {
        self.run.or(self.data).map(|folder| folder.join(SOCKET_NAME))
    }
}

/// The name of the control socket in its folder.
pub(super) const SOCKET_NAME: &str = "ringmq.sock";

/// Where the control thread listens, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlOptions {
    /// At least one, or `own_socket`.
    pub addresses: Vec<Address>,
    /// The control socket that nobody has asked for. The broker runs without it if it cannot be
    /// made.
    pub own_socket: Option<Arc<Path>>,
    pub token_file: Option<PathBuf>,
    /// In lower case.
    pub hosts: Vec<String>,
    /// Where the files of traces are made.
    pub trace_dir: Option<PathBuf>,
}

impl ControlFlags {
    pub(super) fn options(
        self,
        folders: Folders<'_>,
    ) -> Result<Option<ControlOptions>, Contradiction> {
        let ControlFlags { listen_http, http_token_file, http_host, control_socket, .. } = self;
        let ControlFlags { trace_dir, .. } = self;
        let own_socket = folders.socket().filter(|_| control_socket == OwnSocket::Auto);
        let own_socket: Option<Arc<Path>> = own_socket.map(Arc::from);
        let is_own = |address: &Address| match address {
            Address::Unix(path) => own_socket.as_ref() == Some(path),
            Address::Ip(_) => false,
        };
        let is_asked_for = listen_http.iter().any(is_own);
        let own_socket = own_socket.filter(|_| !is_asked_for);
        if listen_http.is_empty() && own_socket.is_none() {
            let given = [
                (http_token_file.is_some(), "--http-token-file"),
                (!http_host.is_empty(), "--http-host"),
                (trace_dir.is_some(), "--trace-dir"),
            ];
            return match given.into_iter().find(|&(is_given, _)| is_given) {
                Some((_, flag)) => Err(Contradiction::Needs(flag, "--listen-http")),
                None => Ok(None),
            };
        }
        let mut seen = BTreeSet::new();
        for address in &listen_http {
            check_new(&mut seen, "--listen-http", address)?;
            if !address.is_loopback() && http_token_file.is_none() {
                return Err(Contradiction::NoTokens(address.clone()));
            }
        }
        Ok(Some(ControlOptions {
            addresses: listen_http,
            own_socket,
            token_file: http_token_file,
            hosts: http_host,
            trace_dir: trace_dir.or_else(|| folders.data.map(|data| data.join("traces"))),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::config::{
        Config,
        tests::{accepted, contradiction, flags as flags_of},
    };

    fn ip(text: &str) -> Address {
        text.parse::<SocketAddr>().unwrap().into()
    }

    #[test]
    fn http_is_off_unless_an_address_is_given() {
        assert_eq!(accepted("").control, None);
        let options = accepted("--listen-http localhost --http-host A.example").control.unwrap();
        assert_eq!(options.addresses, [ip("127.0.0.1:9883")]);
        assert_eq!((options.token_file, options.hosts), (None, vec!["a.example".to_owned()]));
        let elsewhere = accepted("--listen-http [::]:80 --http-token-file t").control.unwrap();
        assert_eq!(elsewhere.token_file.unwrap().to_str(), Some("t"));
        let both = accepted("--listen-http unix:/run/a.sock --listen-http 1").control.unwrap();
        let socket = Address::Unix(Path::new("/run/a.sock").into());
        assert_eq!(both.addresses, [socket, ip("127.0.0.1:1")]);
    }

    #[test]
    fn the_control_socket_is_in_the_run_directory_or_in_the_data_directory() {
        let socket = |flags: &str, run: Option<&str>| {
            let mut flags = flags_of(flags);
            flags.run_directory = run.map(PathBuf::from);
            let config = Config::new(flags, &"0".parse().unwrap()).unwrap();
            config.control.and_then(|control| control.own_socket)
        };
        let at = |path: &str| Some(Arc::from(Path::new(path)));
        assert_eq!(socket("", None), None);
        assert_eq!(socket("--listen-http 1", None), None);
        assert_eq!(socket("--data-dir /d", None), at("/d/ringmq.sock"));
        assert_eq!(socket("--data-dir /d", Some("/run/r")), at("/run/r/ringmq.sock"));
        assert_eq!(socket("--listen-http 1", Some("/run/r")), at("/run/r/ringmq.sock"));
        assert_eq!(socket("--data-dir /d --control-socket off", Some("/run/r")), None);
        assert_eq!(socket("--data-dir /d --listen-http unix:/d/ringmq.sock", None), None);
        let tokens = accepted("--data-dir /d --http-token-file t").control.unwrap();
        assert!(tokens.addresses.is_empty() && tokens.token_file.is_some());
    }

    #[test]
    fn clients_are_announced_if_that_is_asked_for() {
        assert_eq!(accepted("").presence, Presence::Off);
        assert_eq!(accepted("--presence live").presence, Presence::Live);
        assert_eq!(accepted("--presence retained").presence, Presence::Retained);
    }

    #[test]
    fn what_everybody_could_reach_needs_tokens() {
        for (line, words) in [
            ("--listen-http 0.0.0.0", "add --http-token-file"),
            ("--listen-http unix:/a --listen-http 0.0.0.0:1", "--listen-http 0.0.0.0:1 can be"),
            ("--listen-http unix:/a --listen-http unix:/a", "unix:/a is given twice"),
            ("--http-token-file t", "--http-token-file needs --listen-http"),
            ("--http-host a.example", "--http-host needs --listen-http"),
        ] {
            let said = contradiction(line).to_string();
            assert!(said.contains(words), "{line}: {said}");
        }
    }
}
