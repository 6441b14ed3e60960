//! The flags of the HTTP server that is asked about clients.

use std::path::PathBuf;

use clap::Args;

use super::{
    Contradiction,
    values::{parse_count, parse_seconds},
};
use crate::base::time::Span;

#[derive(Args, Debug)]
#[expect(clippy::struct_field_names, reason = "the flags have the names of the fields")]
pub(super) struct HookFlags {
    /// URL of an HTTP server that decides who may connect, and with which rights:
    /// `http://HOST[:PORT]/PATH` or https. The broker asks it by POST as EMQX does. Clients without
    /// a user name are then refused unless it allows them, or --allow-anonymous is given
    #[arg(long, value_name = "URL")]
    auth_http_url: Option<String>,
    /// Time that --auth-http-url has for an answer, in seconds. A client without an answer is
    /// refused
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = parse_seconds(1, 60))]
    auth_http_timeout: Span,
    /// Connections to --auth-http-url, which is the number of clients that it is asked about at a
    /// time
    #[arg(long, value_name = "NUMBER", default_value = "16")]
    #[arg(value_parser = parse_count(1, CONNECTIONS_MAX))]
    auth_http_connections: usize,
    /// File with header fields for --auth-http-url, a line of `NAME: VALUE` for each, for example
    /// `Authorization: Bearer SECRET`. Nobody but its owner may read it
    #[arg(long, value_name = "FILE")]
    auth_http_header_file: Option<PathBuf>,
    /// PEM file with the certificates of the authorities that may prove who the server of an
    /// https --auth-http-url is [default: those that the system trusts]
    #[arg(long, value_name = "FILE")]
    auth_http_ca: Option<PathBuf>,
}

const CONNECTIONS_MAX: usize = 256;

/// The server that is asked about clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookOptions {
    pub url: String,
    pub timeout: Span,
    pub connections: usize,
    pub header_file: Option<PathBuf>,
    pub authorities: Option<PathBuf>,
}

impl HookFlags {
    /// Whether there is such a server.
    pub(super) fn is_on(&self) -> bool {
        self.auth_http_url.is_some()
    }

    pub(super) fn options(self) -> Result<Option<HookOptions>, Contradiction> {
        let Some(url) = self.auth_http_url else {
            let given = [
                (self.auth_http_header_file.is_some(), "--auth-http-header-file"),
                (self.auth_http_ca.is_some(), "--auth-http-ca"),
            ];
            return match given.into_iter().find(|&(is_given, _)| is_given) {
                Some((_, flag)) => Err(Contradiction::Needs(flag, "--auth-http-url")),
                None => Ok(None),
            };
        };
        Ok(Some(HookOptions {
            url,
            timeout: self.auth_http_timeout,
            connections: self.auth_http_connections,
            header_file: self.auth_http_header_file,
            authorities: self.auth_http_ca,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::Anonymous,
        config::tests::{accepted, contradiction},
    };

    #[test]
    fn the_server_is_asked_if_it_has_a_url() {
        assert_eq!(accepted("").hook, None);
        let config = accepted("--auth-http-url http://a/ --listen 0.0.0.0");
        assert_eq!(config.anonymous, Anonymous::Refused);
        let hook = config.hook.unwrap();
        assert_eq!((hook.timeout, hook.connections), (Span::from_secs(5), 16));
        let hook = accepted(
            "--auth-http-url https://a/ --auth-http-timeout 3 --auth-http-connections 7 \
             --auth-http-header-file h --auth-http-ca c",
        );
        let expected = HookOptions {
            url: "https://a/".to_owned(),
            timeout: Span::from_secs(3),
            connections: 7,
            header_file: Some("h".into()),
            authorities: Some("c".into()),
        };
        assert_eq!(hook.hook, Some(expected));
    }

    #[test]
    fn what_is_said_of_the_server_needs_its_url() {
        for flag in ["--auth-http-header-file", "--auth-http-ca"] {
            let said = contradiction(&format!("{flag} x")).to_string();
            assert_eq!(said, format!("{flag} needs --auth-http-url"));
        }
    }
}
