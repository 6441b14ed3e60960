//! Which certificate a client is shown.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rustls::{
    client::verify_server_name,
    pki_types::ServerName,
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};
use tracing::info;

/// Chooses among the certificates of a listener by the name that the client asks for.
///
/// A client that asks for a name that none has is shown the first one: many clients ask for a name
/// and do not check it.
pub(super) struct Chooser {
    /// At least one.
    certificates: Vec<Arc<CertifiedKey>>,
    /// How many clients have asked for a name that no certificate has.
    nameless: AtomicU64,
}

impl Chooser {
    /// `certificates` are at least one, the first of them for all that ask for no name.
    pub(super) fn new(certificates: Vec<Arc<CertifiedKey>>) -> Chooser {
        Chooser { certificates, nameless: AtomicU64::new(0) }
    }

    /// Logs a name that no certificate has: the first one, and then less and less often.
    fn note_nameless(&self, name: &str) {
        // Relaxed: the number guards no other memory.
        let count = self.nameless.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_power_of_two() {
            info!(count, "no certificate for the name {name:?}: clients get the first one");
        }
    }
}

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let can_sign = |it: &&Arc<CertifiedKey>| it.key.choose_scheme(schemes).is_some();
        let usable = || self.certificates.iter().filter(can_sign);
        if let Some(name) = hello.server_name() {
            if let Some(found) = usable().find(|certificate| has_name(certificate, name)) {
                return Some(Arc::clone(found));
            }
            self.note_nameless(name);
        }
        usable().next().cloned()
    }
}

fn has_name(certificate: &CertifiedKey, name: &str) -> bool {
    let name = ServerName::try_from(name);
    let parsed = certificate.end_entity_cert().and_then(ParsedCertificate::try_from);
    name.is_ok_and(|name| parsed.is_ok_and(|parsed| verify_server_name(&parsed, &name).is_ok()))
}

impl fmt::Debug for Chooser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chooser")
            .field("certificates", &self.certificates.len())
            .finish_non_exhaustive()
    }
}
