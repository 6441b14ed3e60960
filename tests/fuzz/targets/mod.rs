//! What is fuzzed. Each target reads its input as it likes, and panics when something is wrong.

mod acl;
mod config;
mod frame;
mod jwt;
#[path = "../../support/matching.rs"]
mod matching;
mod mosquitto;
mod packet;
mod proxy;
#[path = "../../support/rights.rs"]
mod rights;
mod script;
mod session;
mod store;
mod topic;
mod trie;
mod wheel;

/// A check of one input.
type Check = fn(&[u8]);

pub(crate) const ALL: [(&str, Check); 12] = [
    ("acl", acl::check),
    ("config", config::check),
    ("frame", frame::check),
    ("jwt", jwt::check),
    ("mosquitto", mosquitto::check),
    ("packet", packet::check),
    ("proxy", proxy::check),
    ("topic", topic::check),
    ("session", session::check),
    ("store", store::check),
    ("trie", trie::check),
    ("wheel", wheel::check),
];
