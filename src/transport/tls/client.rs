//! What the broker needs as a client of TLS: whom it trusts, and whom it means to reach.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use thiserror::Error;

/// TLS to one server.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ClientTlsFault {
    #[error("the host is neither a name nor an address")]
    Name,
    #[error("there is no certificate of an authority")]
    NoAuthority,
}

impl ClientTls {
    /// To the host of this name, by the authorities in this PEM. Those that cannot be read are
    /// passed over: the files of systems have all sorts.
    pub fn new(host: &str, authorities: &[u8]) -> Result<ClientTls, ClientTlsFault> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| ClientTlsFault::Name)?;
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_slice_iter(authorities).filter_map(Result::ok);
        roots.add_parsable_certificates(certificates);
        if roots.is_empty() {
            return Err(ClientTlsFault::NoAuthority);
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions");
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        Ok(ClientTls { config: Arc::new(config), name })
    }

    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    pub fn name(&self) -> ServerName<'static> {
        self.name.clone()
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("name", &self.name).finish_non_exhaustive()
    }
}
