//! The flags for TLS, and which of them contradict each other.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use super::{
    Contradiction,
    values::{
        client_certs_parser, parse_alpn, parse_secure_websocket_address, parse_tls_address,
        tls_user_parser, tls_version_parser,
    },
};
use crate::transport::{
    tls::{Naming, TlsOptions, TlsVersion, UserFrom},
    websocket::HandshakePolicy,
};

#[derive(Args, Clone, Debug)]
pub(super) struct TlsFlags {
    /// Address to listen on for MQTT over TLS 1.2 and 1.3, in the form of --listen. The port
    /// is 8883 if none is given. May be repeated [default: none]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_tls_address)]
    pub(super) listen_tls: Vec<SocketAddr>,
    /// Address to listen on for MQTT over WebSocket over TLS, in the form of --listen. The port is
    /// 8084 if none is given. May be repeated [default: none]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_secure_websocket_address)]
    pub(super) listen_websocket_tls: Vec<SocketAddr>,
    /// PEM file with the certificate of the broker, then those of the authorities between it and
    /// the root. With several, a client is shown the first one that has the name that it asks for.
    /// May be repeated, each time with a --tls-key
    #[arg(long, value_name = "FILE")]
    pub(super) tls_cert: Vec<PathBuf>,
    /// PEM file with the private key of the certificate, without a passphrase. May be repeated, in
    /// the order of --tls-cert
    #[arg(long, value_name = "FILE")]
    pub(super) tls_key: Vec<PathBuf>,
    /// PEM file with the certificates of the authorities whose clients are let in
    #[arg(long, value_name = "FILE")]
    pub(super) tls_client_ca: Option<PathBuf>,
    /// Whether clients show a certificate: none, optional or required [default: required with
    /// --tls-client-ca]
    #[arg(long, value_name = "WHETHER", value_parser = client_certs_parser())]
    pub(super) tls_client_certs: Option<ClientCertificates>,
    /// PEM file with lists of revoked certificates, one of each authority that issues certificates
    /// of clients. Lists of the authorities above them are not needed
    #[arg(long, value_name = "FILE")]
    pub(super) tls_crl: Option<PathBuf>,
    /// Oldest version of TLS that clients may use: 1.2 or 1.3
    #[arg(long, value_name = "VERSION", default_value = "1.2")]
    #[arg(value_parser = tls_version_parser())]
    pub(super) tls_min: TlsVersion,
    /// ALPN protocol of --listen-tls, such as mqtt. A client that offers other ones is refused. May
    /// be repeated [default: ALPN is not used]
    #[arg(long, value_name = "PROTOCOL", value_parser = parse_alpn)]
    pub(super) tls_alpn: Vec<String>,
    /// What names the user in the certificate of a client: cn (the common name), subject (as RFC
    /// 2253 writes it) or san (the first DNS name, else the first e-mail address, else the first
    /// URI). Such a user needs no password. Others are then refused, unless --password-file,
    /// --scram-file or --allow-anonymous lets them in [default: certificates name no users]
    #[arg(long, value_name = "NAME", value_parser = tls_user_parser())]
    pub(super) tls_user_from: Option<UserFrom>,
    /// Refuse a client whose Client Identifier is not the user name in its certificate. It may be
    /// empty
    #[arg(long)]
    pub(super) tls_user_is_client_id: bool,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientCertificates {
    None,
    Optional,
    Required,
}

/// The listeners for TLS, and their files.
#[derive(Clone, Debug)]
pub struct TlsListeners {
    pub addresses: Vec<SocketAddr>,
    /// Those for WebSocket. There is at least one of both kinds.
    pub websocket_addresses: Vec<SocketAddr>,
    pub policy: HandshakePolicy,
    /// The file of each certificate, and that of its key. At least one.
    pub certificates: Vec<(PathBuf, PathBuf)>,
    pub clients: Option<ClientFiles>,
    pub options: TlsOptions,
}

/// The files for certificates of clients.
#[derive(Clone, Debug)]
pub struct ClientFiles {
    pub authorities: PathBuf,
    pub revoked: Option<PathBuf>,
    /// A client without a certificate is refused.
    pub required: bool,
}

impl TlsFlags {
    /// The listeners for TLS, if there are any.
    pub(super) fn listeners(
        &self,
        policy: HandshakePolicy,
    ) -> Result<Option<TlsListeners>, Contradiction> {
        self.check()?;
        if !self.has_listener() {
            return Ok(None);
        }
        let naming = |user_from| Naming { user_from, fixes_client_id: self.tls_user_is_client_id };
        Ok(Some(TlsListeners {
            addresses: self.listen_tls.clone(),
            websocket_addresses: self.listen_websocket_tls.clone(),
            policy,
            certificates: self.tls_cert.iter().cloned().zip(self.tls_key.iter().cloned()).collect(),
            clients: self.clients(),
            options: TlsOptions {
                version_min: self.tls_min,
                alpn: self.tls_alpn.iter().map(|name| name.clone().into_bytes()).collect(),
                naming: self.tls_user_from.map(naming),
            },
        }))
    }

    pub(super) fn has_listener(&self) -> bool {
        !self.listen_tls.is_empty() || !self.listen_websocket_tls.is_empty()
    }

    /// Whether certificates name users.
    pub(super) fn names_users(&self) -> bool {
        self.tls_user_from.is_some()
    }

    fn clients(&self) -> Option<ClientFiles> {
        let required = match self.tls_client_certs {
            Some(ClientCertificates::None) => return None,
            Some(ClientCertificates::Optional) => false,
            Some(ClientCertificates::Required) | None => true,
        };
        let revoked = self.tls_crl.clone();
        self.tls_client_ca.clone().map(|authorities| ClientFiles { authorities, revoked, required })
    }

    /// Each flag needs another one to have an effect.
    fn check(&self) -> Result<(), Contradiction> {
        let needs = |given: bool, flag, has: bool, other| {
            if given && !has { Err(Contradiction::Needs(flag, other)) } else { Ok(()) }
        };
        let has_listener = self.has_listener();
        if has_listener && (self.tls_cert.is_empty() || self.tls_key.is_empty()) {
            return Err(Contradiction::NoCertificate);
        }
        for (given, flag) in [
            (!self.tls_cert.is_empty(), "--tls-cert"),
            (!self.tls_key.is_empty(), "--tls-key"),
            (self.tls_client_ca.is_some(), "--tls-client-ca"),
            (!self.tls_alpn.is_empty(), "--tls-alpn"),
        ] {
            needs(given, flag, has_listener, "--listen-tls")?;
        }
        if self.tls_cert.len() != self.tls_key.len() {
            return Err(Contradiction::UnequalKeys);
        }
        let asks = self.tls_client_certs.is_some_and(|it| it != ClientCertificates::None);
        let has_ca = self.tls_client_ca.is_some();
        needs(asks, "--tls-client-certs", has_ca, "--tls-client-ca")?;
        let has_clients = self.clients().is_some();
        needs(self.tls_crl.is_some(), "--tls-crl", has_clients, "--tls-client-ca")?;
        needs(self.names_users(), "--tls-user-from", has_clients, "--tls-client-ca")?;
        let fixes = self.tls_user_is_client_id;
        needs(fixes, "--tls-user-is-client-id", self.names_users(), "--tls-user-from")
    }
}
