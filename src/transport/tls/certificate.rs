//! The certificate and the key of a listener.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::{Ticketer, default_provider},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::NoServerSessionStorage,
};
use thiserror::Error;

/// What all TLS connections of a listener share.
#[derive(Clone, Debug)]
pub struct ServerTls {
    pub(super) config: Arc<ServerConfig>,
}

/// Why a certificate and a key cannot be used.
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

impl ServerTls {
    /// Takes a chain of certificates, that of the broker first, and its private key, in PEM form.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<ServerTls, CertificateError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or(CertificateError::NoCertificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::NoKey)?;
        let builder = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(CertificateError::Unusable)?
            .with_no_client_auth();
        let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => CertificateError::KeyMismatch,
            error => CertificateError::Unusable(error),
        })?;
        // Tickets alone: the broker keeps nothing for sessions that may never resume.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Ticketer::new().map_err(CertificateError::Unusable)?;
        config.send_tls13_tickets = 1;
        config.max_early_data_size = 0;
        Ok(ServerTls { config: Arc::new(config) })
    }
}

impl PartialEq for ServerTls {
    fn eq(&self, other: &ServerTls) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }
}

impl Eq for ServerTls {}
