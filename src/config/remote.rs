//! The flags of the subcommands that ask a running broker.

use std::{
    env,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};

use super::{
    control::SOCKET_NAME,
    source::{RUN_DIRECTORY, first_path},
    values::{parse_http_address, parse_seconds},
};
use crate::{base::time::Span, transport::Address};

/// What to ask of a running broker, over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum RemoteOrder {
    /// Says how a running broker does: clients, messages, memory, shards
    Status(Remote),
    /// Shows how a running broker does, anew each second: rates, clients, memory, shards
    Top(Top),
    /// Shows the packets of clients of a running broker, as they come
    Trace(Trace),
    /// Lists the clients of a running broker
    Clients {
        #[command(flatten)]
        remote: Remote,
        /// Beginning of their Client Identifiers
        #[arg(long, value_name = "TEXT", default_value = "")]
        prefix: String,
    },
    /// Bans clients: those who are connected are disconnected, and none is let in
    Ban {
        #[command(flatten)]
        remote: Remote,
        #[command(flatten)]
        whom: Whom,
        /// How long [default: for ever]
        #[arg(long = "for", value_name = "SECONDS")]
        seconds: Option<u64>,
        /// Why, for the list and the log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Lists the bans of a running broker
    Bans(Remote),
    /// Ends a ban
    Unban {
        #[command(flatten)]
        remote: Remote,
        /// Its number, as `ringmq bans` tells it
        #[arg(value_name = "BAN")]
        id: u64,
    },
    /// Disconnects a client of a running broker
    Kick {
        #[command(flatten)]
        remote: Remote,
        /// Its Client Identifier
        #[arg(value_name = "CLIENT")]
        client_id: String,
    },
}

/// What `ringmq top` shows, and how often.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Top {
    #[command(flatten)]
    pub remote: Remote,
    /// Show it once, and end
    #[arg(long)]
    pub once: bool,
    /// Time between two looks, in seconds. Rates are those of this time
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_seconds(1, 3600))]
    pub every: Span,
}

/// What `ringmq trace` shows, and for how long.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    #[command(flatten)]
    pub remote: Remote,
    #[command(flatten)]
    pub what: Traced,
    /// How long, at most 3600 [default: 300]
    #[arg(long = "for", value_name = "SECONDS")]
    pub seconds: Option<u64>,
    /// Show so many bytes of each payload, at most 1024
    #[arg(long, value_name = "BYTES")]
    pub payload: Option<u64>,
    /// Have the broker write the lines to a file of its own, too
    #[arg(long)]
    pub file: bool,
}

/// What is traced.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[group(required = true, multiple = false)]
pub struct Traced {
    /// Client Identifier
    #[arg(value_name = "CLIENT")]
    pub client: Option<String>,
    /// The messages on the topics that match this Topic Filter
    #[arg(long, value_name = "FILTER")]
    pub topic: Option<String>,
    /// Clients at this address, such as 192.0.2.1, or network, such as `2001:db8::/48`
    #[arg(long, value_name = "NETWORK")]
    pub address: Option<String>,
}

/// Whom a ban is about.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[group(required = true, multiple = false)]
pub struct Whom {
    /// Client Identifier
    #[arg(long, value_name = "CLIENT")]
    pub client: Option<String>,
    /// User that clients have proven to be
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Address, such as 192.0.2.1, or network, such as `2001:db8::/48`
    #[arg(long, value_name = "NETWORK")]
    pub address: Option<String>,
}

/// Where the broker answers HTTP.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Address of its --listen-http, also unix:PATH [default: its control socket, in /run/ringmq or
    /// /var/lib/ringmq; if there is none 127.0.0.1:9883]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_http_address)]
    pub at: Option<Address>,
    /// Its --http-token-file, whose first token of an admin is shown, or else the first one
    #[arg(long, value_name = "FILE")]
    pub http_token_file: Option<PathBuf>,
}

impl Remote {
    /// Where a broker has its control socket if nobody has said anything else.
    pub fn usual_sockets() -> [Address; 2] {
        let folder = |variable: &str, usual: &str| {
            let named = env::var_os(variable).as_deref().and_then(first_path);
            named.unwrap_or_else(|| PathBuf::from(usual))
        };
        let run = folder(RUN_DIRECTORY, "/run/ringmq");
        let data = folder("RINGMQ_DATA_DIR", "/var/lib/ringmq");
        [run, data]
            .map(|folder: PathBuf| Address::Unix(Path::new(&folder).join(SOCKET_NAME).into()))
    }

    /// Where it answers HTTP then.
    pub fn usual_address() -> Address {
        parse_http_address("localhost").expect("it is an address")
    }
}
