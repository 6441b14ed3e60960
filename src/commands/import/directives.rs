//! The directives of mosquitto.conf, and what each becomes.

use super::values::Convert;

/// What becomes of a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A key of ours.
    Key(&'static str, Convert),
    /// Something that belongs to a listener, or that several directives make together.
    Part,
    /// What ringmq does in any case, or what changes nothing that a client sees.
    Same,
    /// Nothing like it: why, or what to do instead.
    None(&'static str),
}

use Meaning::{Key, None, Part, Same};

/// The meaning of a directive; `Option::None` if mosquitto has no such directive.
pub(super) fn meaning(name: &str) -> Option<Meaning> {
    let plugin = ["auth_opt_", "plugin_opt_"].iter().any(|start| name.starts_with(start));
    let found = DIRECTIVES.iter().find(|(known, _)| *known == name).map(|&(_, meaning)| meaning);
    found.or_else(|| plugin.then_some(None(PLUGIN)))
}

const PLUGIN: &str = "there are no plugins: for that of dynamic security, name its file in \
    `dynamic-security-file`";
const BRIDGE: &str = "there are no bridges: let the other broker connect to ringmq";
const STORE: &str =
    "the store has only `data-dir` (--data-dir DIR), and writes changes as they come";
const PERSISTENCE: &str = "name a folder of its own in `data-dir` (--data-dir DIR), where ringmq \
    keeps sessions and retained messages: it does not read the file of mosquitto";
const LOG: &str = "the log goes to standard error: let the service manager collect it";
const PSK: &str = "there are no pre-shared keys";
const TLS: &str = "the ciphers and curves of TLS are not to be chosen";
const WEBSOCKET: &str = "WebSocket listeners have no such setting";

const DIRECTIVES: &[(&str, Meaning)] = &[
    ("accept_protocol_versions", None("all versions are accepted")),
    ("acl_file", Key("acl-file", Convert::Text)),
    ("allow_anonymous", Part),
    ("allow_duplicate_messages", None("a message comes once for each matching subscription")),
    ("allow_zero_length_clientid", None("an empty Client Identifier is always given a name")),
    ("auth_plugin", None(PLUGIN)),
    ("auth_plugin_deny_special_chars", None(PLUGIN)),
    ("auto_id_prefix", None("the broker chooses the names of clients without one")),
    ("autosave_interval", None(STORE)),
    ("autosave_on_changes", None(STORE)),
    ("bind_address", Part),
    ("bind_interface", None("listen on an address of the interface instead")),
    ("cafile", Part),
    ("capath", None("put the certificates into one file, and name it in `tls-client-ca`")),
    ("certfile", Part),
    ("check_retain_source", Same),
    ("ciphers", None(TLS)),
    ("ciphers_tls1.3", None(TLS)),
    ("clientid_prefixes", None("bind Client Identifiers by `pattern` lines of the ACL file")),
    ("connection_messages", None("the filter of the log decides: `log` in [log]")),
    ("crlfile", Key("tls-crl", Convert::Text)),
    ("dhparamfile", None(TLS)),
    ("disable_client_cert_date_checks", None("dates of certificates are always checked")),
    ("enable_control_api", None("there is no such interface")),
    ("enable_proxy_protocol", Part),
    ("global_plugin", None(PLUGIN)),
    ("http_dir", None("no files are served: use a web server")),
    ("include_dir", Part),
    ("keyfile", Part),
    ("listener", Part),
    ("listener_allow_anonymous", Part),
    ("listener_auto_id_prefix", None("the broker chooses the names of clients without one")),
    ("log_dest", Part),
    ("log_facility", None(LOG)),
    ("log_timestamp", None("each line of the log has its time")),
    ("log_timestamp_format", None("the times of the log are UTC, in the form of RFC 3339")),
    ("log_type", Part),
    ("max_connections", Part),
    ("max_inflight_bytes", None("`max-inflight` counts messages only")),
    ("max_inflight_messages", Key("max-inflight", Convert::NumberOr("65535"))),
    ("max_keepalive", Key("max-keep-alive", Convert::Number)),
    ("max_packet_size", Key("max-packet-size", Convert::NumberOr("256MiB"))),
    ("max_qos", Key("max-qos", Convert::Number)),
    ("max_queued_bytes", Key("max-queued-bytes", Convert::NumberOr(""))),
    ("max_queued_messages", Key("max-queued", Convert::NumberOr("268435456"))),
    ("max_topic_alias", None("a client may use 32 Topic Aliases")),
    ("max_topic_alias_broker", Key("topic-aliases", Convert::Number)),
    ("memory_limit", Key("max-memory", Convert::NumberOr(""))),
    ("message_size_limit", Key("max-packet-size", Convert::Payload)),
    ("mount_point", None("topics are not moved below a prefix")),
    ("packet_buffer_size", Same),
    ("packet_max_auth", Same),
    ("packet_max_connect", Key("max-connect-size", Convert::Number)),
    ("packet_max_simple", Same),
    ("packet_max_sub", Same),
    ("packet_max_un", Same),
    ("password_file", Key("password-file", Convert::Text)),
    ("per_listener_settings", Part),
    ("persistence", None(PERSISTENCE)),
    ("persistence_file", None(STORE)),
    ("persistence_location", None(PERSISTENCE)),
    ("persistent_client_expiration", Key("session-expiry-max", Convert::Duration)),
    ("pid_file", None("a service manager knows the process")),
    ("plugin", None(PLUGIN)),
    ("plugin_load", None(PLUGIN)),
    ("plugin_use", None(PLUGIN)),
    ("port", Part),
    ("protocol", Part),
    ("proxy_protocol_v2_require_tls", None("let the proxy take TLS only")),
    ("psk_file", None(PSK)),
    ("psk_hint", None(PSK)),
    ("queue_qos0_messages", None("QoS 0 messages wait for connected clients only")),
    ("require_certificate", Part),
    ("retain_available", Part),
    ("retain_expiry_interval", None("a retained message goes by its own Message Expiry Interval")),
    ("retry_interval", Same),
    ("set_tcp_nodelay", Same),
    ("socket_domain", None("listen on an address of that family instead")),
    ("store_clean_interval", Same),
    ("sys_interval", Key("sys-interval", Convert::Number)),
    ("tls_engine", None("keys are read from files")),
    ("tls_engine_kpass_sha1", None("keys are read from files without a passphrase")),
    ("tls_keyform", None("keys are read from files")),
    ("tls_version", Part),
    ("upgrade_outgoing_qos", None("a message is never sent with a higher QoS than it came with")),
    ("use_identity_as_username", Part),
    ("use_subject_as_username", Part),
    ("use_username_as_clientid", None("the Client Identifier is not replaced")),
    ("user", None("start ringmq as that user: `User=` of systemd")),
    ("websockets_headers_size", None(WEBSOCKET)),
    ("websockets_log_level", None(WEBSOCKET)),
    ("websockets_origin", Key("websocket-origin", Convert::Text)),
    ("address", None(BRIDGE)),
    ("addresses", None(BRIDGE)),
    ("bridge_alpn", None(BRIDGE)),
    ("bridge_attempt_unsubscribe", None(BRIDGE)),
    ("bridge_bind_address", None(BRIDGE)),
    ("bridge_cafile", None(BRIDGE)),
    ("bridge_capath", None(BRIDGE)),
    ("bridge_certfile", None(BRIDGE)),
    ("bridge_ciphers", None(BRIDGE)),
    ("bridge_ciphers_tls1.3", None(BRIDGE)),
    ("bridge_clean_start", None(BRIDGE)),
    ("bridge_identity", None(BRIDGE)),
    ("bridge_insecure", None(BRIDGE)),
    ("bridge_keyfile", None(BRIDGE)),
    ("bridge_max_packet_size", None(BRIDGE)),
    ("bridge_max_topic_alias", None(BRIDGE)),
    ("bridge_outgoing_retain", None(BRIDGE)),
    ("bridge_protocol_version", None(BRIDGE)),
    ("bridge_psk", None(BRIDGE)),
    ("bridge_receive_maximum", None(BRIDGE)),
    ("bridge_reload_type", None(BRIDGE)),
    ("bridge_require_ocsp", None(BRIDGE)),
    ("bridge_session_expiry_interval", None(BRIDGE)),
    ("bridge_tcp_keepalive", None(BRIDGE)),
    ("bridge_tcp_user_timeout", None(BRIDGE)),
    ("bridge_tls_use_os_certs", None(BRIDGE)),
    ("bridge_tls_version", None(BRIDGE)),
    ("cleansession", None(BRIDGE)),
    ("clientid", None(BRIDGE)),
    ("connection", None(BRIDGE)),
    ("idle_timeout", None(BRIDGE)),
    ("keepalive_interval", None(BRIDGE)),
    ("local_cleansession", None(BRIDGE)),
    ("local_clientid", None(BRIDGE)),
    ("local_password", None(BRIDGE)),
    ("local_username", None(BRIDGE)),
    ("notification_topic", None(BRIDGE)),
    ("notifications", None(BRIDGE)),
    ("notifications_local_only", None(BRIDGE)),
    ("password", None(BRIDGE)),
    ("remote_clientid", None(BRIDGE)),
    ("remote_password", None(BRIDGE)),
    ("remote_username", None(BRIDGE)),
    ("restart_timeout", None(BRIDGE)),
    ("round_robin", None(BRIDGE)),
    ("start_type", None(BRIDGE)),
    ("threshold", None(BRIDGE)),
    ("topic", None(BRIDGE)),
    ("try_private", None(BRIDGE)),
    ("username", None(BRIDGE)),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config;

    #[test]
    fn each_directive_is_known_once_and_each_key_is_one_of_ours() {
        let names: BTreeSet<&str> = DIRECTIVES.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), DIRECTIVES.len());
        assert!(names.len() >= 132, "{}", names.len());
        for (name, meaning) in DIRECTIVES {
            // What another build may lack is said when a file is imported.
            let Key(key, _) = meaning else { continue };
            assert!(config::table_of(key).is_some() || key.starts_with("tls-"), "{name}: {key}");
        }
        assert_eq!(meaning("plugin_opt_x"), Some(None(PLUGIN)));
        assert_eq!(meaning("no_such_directive"), Option::None);
    }
}
