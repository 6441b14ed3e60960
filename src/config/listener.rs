//! The `[[listener]]` tables of the configuration file.

use std::{net::SocketAddr, path::Path};

use clap::{Args, Command, FromArgMatches, ValueEnum};

use super::{
    flags::Flags,
    values::{
        parse_address, parse_bytes, parse_rate, parse_secure_websocket_address, parse_tls_address,
        parse_websocket_address,
    },
};
use crate::{
    base::rate::Rate,
    transport::{
        Address,
        listener::{ClientRates, Rates},
    },
};

/// The keys of one table. Clap reads them as it reads flags.
#[derive(Args, Debug)]
pub(super) struct ListenerFlags {
    /// Address to listen on, in the form of `listen`. The port is that of the protocol if none is
    /// given. With a slash in it, it is the path of a Unix socket, as for `listen-unix`
    #[arg(long, value_name = "ADDRESS", help_heading = LISTENER)]
    address: Option<String>,
    /// What clients speak: mqtt is MQTT over TCP (port 1883), mqtts is MQTT over TLS (port 8883),
    /// websocket is MQTT over WebSocket (port 8083), websocket-tls is the same over TLS (port 8084)
    #[arg(long, value_name = "PROTOCOL", default_value = "mqtt")]
    #[arg(help_heading = LISTENER)]
    protocol: ListenerProtocol,
    /// Whether clients without a user name are let in here [default: as on other listeners]
    #[arg(long, value_name = "true|false", help_heading = LISTENER)]
    allow_anonymous: Option<bool>,
    /// Whether the listener is for proxies, as for `proxy-protocol` in `[network]` [default: as on
    /// other listeners]
    #[arg(long, value_name = "true|false", help_heading = LISTENER)]
    proxy_protocol: Option<bool>,
    /// As for `max-message-rate` in `[limits]` [default: as on other listeners]
    #[arg(long, value_name = "NUMBER", help_heading = LISTENER, value_parser = parse_rate)]
    max_message_rate: Option<u64>,
    /// As for `max-byte-rate` in `[limits]` [default: as on other listeners]
    #[arg(long, value_name = "BYTES", help_heading = LISTENER)]
    #[arg(value_parser = parse_bytes::<u64>(0, 1 << 40))]
    max_byte_rate: Option<u64>,
    /// As for `max-connection-rate` in `[limits]` [default: as on other listeners]
    #[arg(long, value_name = "NUMBER", help_heading = LISTENER, value_parser = parse_rate)]
    max_connection_rate: Option<u64>,
}

/// The settings of one listener that differ from those of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnSettings {
    pub address: Address,
    /// Whether anonymous clients are let in, if that is said.
    pub anonymous: Option<bool>,
    /// Whether it is for proxies, if that is said.
    pub proxied: Option<bool>,
    pub rates: OwnRates,
}

/// The rates of one listener, where they differ from those of others. 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnRates {
    pub messages: Option<u64>,
    pub bytes: Option<u64>,
    pub connections: Option<u64>,
}

impl OwnRates {
    /// These rates, and the others where these say nothing.
    #[must_use]
    pub fn or(self, others: OwnRates) -> OwnRates {
        OwnRates {
            messages: self.messages.or(others.messages),
            bytes: self.bytes.or(others.bytes),
            connections: self.connections.or(others.connections),
        }
    }

    /// The limits of one listener.
    pub fn limits(self) -> Rates {
        let rate = |per_second: Option<u64>| per_second.and_then(Rate::new);
        let of_client = ClientRates { messages: rate(self.messages), bytes: rate(self.bytes) };
        Rates::new(of_client, rate(self.connections))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ListenerProtocol {
    Mqtt,
    Mqtts,
    Websocket,
    WebsocketTls,
}

/// The keys of a table, as flags of a command of their own.
pub(super) fn listener_flags() -> Command {
    ListenerFlags::augment_args(Command::new(LISTENER))
}

impl ListenerFlags {
    /// From the words of one table.
    pub(super) fn parse(words: Vec<std::ffi::OsString>) -> Result<ListenerFlags, clap::Error> {
        let words = [LISTENER.into()].into_iter().chain(words);
        ListenerFlags::from_arg_matches(&listener_flags().try_get_matches_from(words)?)
    }

    /// Adds the listener to those of the flags.
    pub(super) fn add_to(&self, flags: &mut Flags) -> Result<(), String> {
        let text = self.address.as_deref().ok_or("`address` is missing in [[listener]]")?;
        if text.contains('/') {
            return self.add_unix_to(Path::new(text), flags);
        }
        let (parse, listeners): (ParseAddress, _) = match self.protocol {
            ListenerProtocol::Mqtt => (parse_address, &mut flags.network.listen),
            ListenerProtocol::Mqtts => (parse_tls_address, &mut flags.tls.listen_tls),
            ListenerProtocol::Websocket => {
                (parse_websocket_address, &mut flags.network.listen_websocket)
            }
            ListenerProtocol::WebsocketTls => {
                (parse_secure_websocket_address, &mut flags.tls.listen_websocket_tls)
            }
        };
        let address = parse(text).map_err(|problem| format!("`address`: {text:?}: {problem}"))?;
        listeners.push(address);
        self.note_own(address.into(), flags)
    }

    /// No address of a network has a slash in it.
    fn add_unix_to(&self, path: &Path, flags: &mut Flags) -> Result<(), String> {
        if self.protocol != ListenerProtocol::Mqtt {
            return Err(format!("`protocol`: the Unix socket {} takes mqtt only", path.display()));
        }
        flags.network.listen_unix.push(path.to_owned());
        self.note_own(Address::Unix(path.into()), flags)
    }

    fn note_own(&self, address: Address, flags: &mut Flags) -> Result<(), String> {
        if flags.own_settings.iter().any(|known| known.address == address) {
            return Err(format!("another [[listener]] has the address {address}"));
        }
        let (anonymous, proxied) = (self.allow_anonymous, self.proxy_protocol);
        let rates = OwnRates {
            messages: self.max_message_rate,
            bytes: self.max_byte_rate,
            connections: self.max_connection_rate,
        };
        flags.own_settings.push(OwnSettings { address, anonymous, proxied, rates });
        Ok(())
    }
}

type ParseAddress = fn(&str) -> Result<SocketAddr, String>;

/// The name of the table.
pub(super) const LISTENER: &str = "listener";
