//! The flags of the control thread.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use super::{
    Contradiction,
    values::{parse_host, parse_http_address},
};

#[derive(Args, Debug)]
pub(super) struct ControlFlags {
    /// Address to listen on for HTTP, in the form of --listen: metrics, health and the API. The
    /// port is 9883 if none is given. On an address that is not a loopback address each request
    /// needs a token of --http-token-file [default: none]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_http_address)]
    listen_http: Option<SocketAddr>,
    /// File with the tokens of --listen-http: lines of `ROLE TOKEN`, where ROLE is admin or reader.
    /// Nobody but its owner may read it. Without it nothing can be changed over HTTP
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
    pub address: SocketAddr,
    pub token_file: Option<PathBuf>,
    /// In lower case.
    pub hosts: Vec<String>,
}

impl ControlFlags {
    pub(super) fn options(self) -> Result<Option<ControlOptions>, Contradiction> {
        let ControlFlags { listen_http, http_token_file, http_host } = self;
        let Some(address) = listen_http else {
            let given = [
                (http_token_file.is_some(), "--http-token-file"),
                (!http_host.is_empty(), "--http-host"),
            ];
            return match given.into_iter().find(|&(is_given, _)| is_given) {
                Some((_, flag)) => Err(Contradiction::Needs(flag, "--listen-http")),
                None => Ok(None),
            };
        };
        if !address.ip().is_loopback() && http_token_file.is_none() {
            return Err(Contradiction::NoTokens(address));
        }
        Ok(Some(ControlOptions { address, token_file: http_token_file, hosts: http_host }))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{accepted, contradiction};

    #[test]
    fn http_is_off_unless_an_address_is_given() {
        assert_eq!(accepted("").control, None);
        let options = accepted("--listen-http localhost --http-host A.example").control.unwrap();
        assert_eq!(options.address, "127.0.0.1:9883".parse().unwrap());
        assert_eq!((options.token_file, options.hosts), (None, vec!["a.example".to_owned()]));
        let elsewhere = accepted("--listen-http [::]:80 --http-token-file t").control.unwrap();
        assert_eq!(elsewhere.token_file.unwrap().to_str(), Some("t"));
    }

    #[test]
    fn what_everybody_could_reach_needs_tokens() {
        for (line, words) in [
            ("--listen-http 0.0.0.0", "add --http-token-file"),
            ("--http-token-file t", "--http-token-file needs --listen-http"),
            ("--http-host a.example", "--http-host needs --listen-http"),
        ] {
            let said = contradiction(line).to_string();
            assert!(said.contains(words), "{line}: {said}");
        }
    }
}
