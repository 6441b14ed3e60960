//! The flags of the control thread.

use std::{collections::BTreeSet, path::PathBuf};

use clap::Args;

use super::{
    Contradiction,
    listeners::check_new,
    values::{parse_host, parse_http_address},
};
use crate::transport::Address;

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
}

/// Where the control thread listens, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlOptions {
    /// At least one.
    pub addresses: Vec<Address>,
    pub token_file: Option<PathBuf>,
    /// In lower case.
    pub hosts: Vec<String>,
}

impl ControlFlags {
    pub(super) fn options(self) -> Result<Option<ControlOptions>, Contradiction> {
        let ControlFlags { listen_http, http_token_file, http_host } = self;
        if listen_http.is_empty() {
            let given = [
                (http_token_file.is_some(), "--http-token-file"),
                (!http_host.is_empty(), "--http-host"),
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
            token_file: http_token_file,
            hosts: http_host,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, path::Path};

    use super::*;
    use crate::config::tests::{accepted, contradiction};

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
