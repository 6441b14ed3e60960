//! What all TLS connections of a listener share: certificates, keys, and whom it trusts.

use std::sync::Arc;

use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{Ticketer, default_provider},
    },
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject},
    server::{
        NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use thiserror::Error;

use super::{chooser::Chooser, der::Parts, names::UserFrom};

/// What is configured for TLS, with the content of its files in PEM form.
#[derive(Debug, Default)]
pub struct TlsSource {
    /// At least one. A client is shown the first one that has the name that it asks for.
    pub certificates: Vec<CertificateSource>,
    /// Whose certificates of clients are taken; `None`: clients show none.
    pub clients: Option<ClientSource>,
    pub options: TlsOptions,
}

/// A certificate of the broker.
#[derive(Debug)]
pub struct CertificateSource {
    /// The certificate, then those of the authorities between it and the root.
    pub chain: Vec<u8>,
    pub key: Vec<u8>,
}

/// Certificates of clients.
#[derive(Debug)]
pub struct ClientSource {
    /// The authorities.
    pub authorities: Vec<u8>,
    /// Lists of revoked certificates; `None`: nobody looks.
    pub revoked: Option<Vec<u8>>,
    /// A client without a certificate is refused.
    pub required: bool,
}

/// The settings for TLS that are no files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    pub version_min: TlsVersion,
    /// The ALPN protocols of clients that name any; empty: they are not looked at.
    pub alpn: Vec<Vec<u8>>,
    pub naming: Option<Naming>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    #[default]
    V12,
    V13,
}

/// How certificates name users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Naming {
    pub user_from: UserFrom,
    /// The user name has to be the Client Identifier as well.
    pub fixes_client_id: bool,
}

/// What all TLS connections of a listener share.
#[derive(Clone, Debug)]
pub struct ServerTls {
    pub(super) config: Arc<ServerConfig>,
    pub(super) naming: Option<Naming>,
    expiries: Arc<[Option<u64>]>,
}

/// Why a certificate of the broker cannot be used.
#[derive(Debug, Error)]
pub enum CertificateError {
    #[error("the certificate file holds no certificate in PEM form")]
    NoCertificate,
    #[error("the key file holds no private key in PEM form, or one with a passphrase")]
    NoKey,
    #[error("the key does not fit the certificate")]
    KeyMismatch,
    #[error("the certificate or the key cannot be used: {0}")]
    Unusable(#[source] rustls::Error),
}

/// Why TLS cannot be offered like this.
#[derive(Debug, Error)]
pub enum TlsError {
    /// Its place among the certificates of the broker.
    #[error("{1}")]
    Certificate(usize, #[source] CertificateError),
    #[error("TLS cannot be offered: {0}")]
    Unusable(#[source] rustls::Error),
    #[error("--tls-client-ca holds no certificate in PEM form")]
    NoAuthority,
    #[error("--tls-client-ca: certificate {0} in the file cannot be read")]
    BadAuthority(usize),
    #[error("--tls-crl holds no revocation list in PEM form")]
    NoList,
    #[error("--tls-crl: a revocation list cannot be read: {0}")]
    BadList(String),
}

impl TlsError {
    /// The place of the certificate that it is about; `None` if it is about those of clients.
    pub fn certificate(&self) -> Option<usize> {
        match self {
            TlsError::Certificate(place, _) => Some(*place),
            _ => None,
        }
    }
}

impl ServerTls {
    pub fn new(source: &TlsSource) -> Result<ServerTls, TlsError> {
        let provider = Arc::new(default_provider());
        let certificates = source.certificates.iter().enumerate().map(|(place, source)| {
            certified(source, &provider).map_err(|error| TlsError::Certificate(place, error))
        });
        let certificates = certificates.collect::<Result<Vec<_>, _>>()?;
        let expiries = certificates.iter().map(|it| Parts::of(it.cert.first()?)?.expires_at());
        let expiries = expiries.collect();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions(source.options.version_min))
            .map_err(TlsError::Unusable)?;
        let builder = match &source.clients {
            Some(clients) => builder.with_client_cert_verifier(verifier(clients, provider)?),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(Chooser::new(certificates)));
        // Tickets alone: the broker keeps nothing for sessions that may never resume.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Ticketer::new().map_err(TlsError::Unusable)?;
        config.send_tls13_tickets = 1;
        config.max_early_data_size = 0;
        config.alpn_protocols.clone_from(&source.options.alpn);
        let naming = source.options.naming.filter(|_| source.clients.is_some());
        Ok(ServerTls { config: Arc::new(config), naming, expiries })
    }

    /// The same for WebSocket, whose protocol is HTTP.
    #[must_use]
    pub fn for_websocket(&self) -> ServerTls {
        let mut config = ServerConfig::clone(&self.config);
        if !config.alpn_protocols.is_empty() {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        ServerTls { config: Arc::new(config), ..self.clone() }
    }

    /// When each certificate of the broker expires, in seconds since the epoch of Unix, where that
    /// can be read.
    pub fn expiries(&self) -> &[Option<u64>] {
        &self.expiries
    }
}

fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
    match min {
        TlsVersion::V12 => BOTH,
        TlsVersion::V13 => &BOTH[..1],
    }
}

/// A certificate of the broker with its key.
fn certified(
    source: &CertificateSource,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, CertificateError> {
    let chain = certificates(&source.chain).ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or(CertificateError::NoCertificate)?;
    let key = PrivateKeyDer::from_pem_slice(&source.key).map_err(|_| CertificateError::NoKey)?;
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => CertificateError::KeyMismatch,
        error => CertificateError::Unusable(error),
    })?;
    Ok(Arc::new(certified))
}

/// The check of the certificates of clients. Only their own certificate can be revoked: lists of
/// the authorities above it are not asked for.
fn verifier(
    source: &ClientSource,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let authorities = Arc::new(authorities(&source.authorities)?);
    let mut builder = WebPkiClientVerifier::builder_with_provider(authorities, provider);
    if let Some(revoked) = &source.revoked {
        let lists: Result<Vec<_>, _> =
            CertificateRevocationListDer::pem_slice_iter(revoked).collect();
        let lists = lists.ok().filter(|lists| !lists.is_empty()).ok_or(TlsError::NoList)?;
        builder = builder
            .with_crls(lists)
            .only_check_end_entity_revocation()
            .enforce_revocation_expiration();
    }
    if !source.required {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| match error {
        VerifierBuilderError::NoRootAnchors => TlsError::NoAuthority,
        error => TlsError::BadList(error.to_string()),
    })
}

fn authorities(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for (place, certificate) in (1..).zip(CertificateDer::pem_slice_iter(pem)) {
        let certificate = certificate.map_err(|_| TlsError::BadAuthority(place))?;
        store.add(certificate).map_err(|_| TlsError::BadAuthority(place))?;
    }
    if store.is_empty() { Err(TlsError::NoAuthority) } else { Ok(store) }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    CertificateDer::pem_slice_iter(pem).collect()
}

impl PartialEq for ServerTls {
    fn eq(&self, other: &ServerTls) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }
}

impl Eq for ServerTls {}
