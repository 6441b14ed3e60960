//! Reads the files for TLS.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result};
use tracing::warn;

use crate::{
    config::TlsListeners,
    transport::tls::{CertificateSource, ClientSource, ServerTls, TlsError, TlsSource},
};

/// What the listeners for TLS share. An error names the flag and the file, and what is wrong.
pub(super) fn read(listeners: &TlsListeners) -> Result<ServerTls> {
    let certificate = |(chain, key): &(PathBuf, PathBuf)| {
        let chain = read_file("--tls-cert", chain)?;
        Ok::<_, anyhow::Error>(CertificateSource { chain, key: read_file("--tls-key", key)? })
    };
    let certificates = listeners.certificates.iter().map(certificate).collect::<Result<_>>()?;
    let clients = listeners.clients.as_ref().map(|files| {
        let revoked = files.revoked.as_deref().map(|path| read_file("--tls-crl", path));
        Ok::<_, anyhow::Error>(ClientSource {
            authorities: read_file("--tls-client-ca", &files.authorities)?,
            revoked: revoked.transpose()?,
            required: files.required,
        })
    });
    let options = listeners.options.clone();
    let source = TlsSource { certificates, clients: clients.transpose()?, options };
    ServerTls::new(&source).map_err(|error| in_words(listeners, error))
}

/// Logs which certificates of the broker have expired, or will soon. Clients refuse them, so they
/// are no reason not to start.
pub(super) fn warn_of_expiry(listeners: &TlsListeners, server: &ServerTls) {
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    for ((path, _), expiry) in listeners.certificates.iter().zip(server.expiries()) {
        let Some(expiry) = expiry else { continue };
        let (file, days) = (path.display(), expiry.saturating_sub(now) / 86_400);
        if *expiry <= now {
            warn!(%file, "the certificate in --tls-cert has expired: clients refuse it");
        } else if days < EXPIRY_DAYS {
            warn!(%file, days, "the certificate in --tls-cert expires soon");
        }
    }
}

/// How many days before its end a certificate is to be replaced.
const EXPIRY_DAYS: u64 = 14;

fn read_file(flag: &str, path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{flag} {} cannot be read", path.display()))
}

/// Adds the names of the files that the error is about.
fn in_words(listeners: &TlsListeners, error: TlsError) -> anyhow::Error {
    let files = if let Some(place) = error.certificate() {
        let (chain, key) = &listeners.certificates[place];
        format!("--tls-cert {}, --tls-key {}", chain.display(), key.display())
    } else {
        let clients = listeners.clients.as_ref();
        let path = |path: Option<&Path>| path.map(|it| it.display().to_string());
        let authorities = path(clients.map(|files| &*files.authorities));
        let revoked = path(clients.and_then(|files| files.revoked.as_deref()));
        let revoked = revoked.map_or(String::new(), |path| format!(", --tls-crl {path}"));
        format!("--tls-client-ca {}{revoked}", authorities.unwrap_or_default())
    };
    anyhow::Error::new(error).context(files)
}
