//! Where the broker listens for MQTT.

use axum::extract::State;
use serde::Serialize;

use super::{
    api::{Answered, json},
    panel::Panel,
};
use crate::{
    base::ids::ShardId,
    shard::ask::{Answer, Question},
    transport::{Address, Listener, Protocol, tls::ServerTls},
};

#[derive(Debug, Serialize)]
struct Listing {
    listeners: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    address: String,
    protocol: &'static str,
    /// The path of the WebSocket URL; `null` if any is taken, or none needed.
    path: Option<String>,
    /// Clients come through proxies that say where they come from.
    proxied: bool,
    certificates: Vec<Certificate>,
}

#[derive(Debug, Serialize)]
struct Certificate {
    /// Milliseconds since 1970; `null` if it cannot be read.
    expires: Option<u64>,
}

/// Those that take connections, as the first shard knows them.
pub(super) async fn list(State(panel): State<Panel>) -> Answered {
    let listeners = match panel.ask(ShardId::FIRST, &Question::Listeners).await? {
        Answer::Listeners(listeners) => listeners,
        _ => Vec::new().into(),
    };
    let entry = |(place, listener)| Entry::of(listener, panel.bound(place));
    json(&Listing { listeners: listeners.open().map(entry).collect() })
}

impl Entry {
    /// `bound` is the address with the port that the system has picked.
    fn of(listener: &Listener, bound: Option<&Address>) -> Entry {
        let (protocol, path, tls) = match &listener.protocol {
            Protocol::Tcp => ("tcp", None, None),
            Protocol::Tls(server) => ("tls", None, Some(server)),
            Protocol::WebSocket(policy) => ("websocket", policy.path.as_ref(), None),
            Protocol::SecureWebSocket(server, policy) => {
                ("websocket-tls", policy.path.as_ref(), Some(server))
            }
        };
        let expiries = tls.map(ServerTls::expiries).unwrap_or_default();
        let certificate =
            |expiry: &Option<u64>| Certificate { expires: expiry.map(|it| it * 1000) };
        Entry {
            address: bound.unwrap_or(&listener.address).to_string(),
            protocol,
            path: path.map(ToString::to_string),
            proxied: listener.proxies.is_some(),
            certificates: expiries.iter().map(certificate).collect(),
        }
    }
}
