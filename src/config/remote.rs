//! The flags of `ringmq status`, `ringmq clients` and `ringmq kick`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::values::parse_http_address;
use crate::transport::Address;

/// What to ask of a running broker, over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum RemoteOrder {
    /// Says how a running broker does: clients, messages, memory, shards
    Status(Remote),
    /// Lists the clients of a running broker
    Clients {
        #[command(flatten)]
        remote: Remote,
        /// Beginning of their Client Identifiers
        #[arg(long, value_name = "TEXT", default_value = "")]
        prefix: String,
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

/// Where the broker answers HTTP.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Address of its --listen-http, also unix:PATH
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9883")]
    #[arg(value_parser = parse_http_address)]
    pub at: Address,
    /// Its --http-token-file, whose first token of an admin is shown, or else the first one
    #[arg(long, value_name = "FILE")]
    pub http_token_file: Option<PathBuf>,
}
