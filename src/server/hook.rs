//! The HTTP server that is asked about clients, as the configuration wants it.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context, Result};

use crate::{
    access::{AuthHook, HookSettings, Policy},
    config::{Config, HookOptions},
    control::{HttpHook, lines_of, read_own},
};

/// The settings, with the present content of the files that they name.
pub(super) fn settings(config: &Config) -> Result<Option<HookSettings>> {
    let Some(options) = &config.hook else { return Ok(None) };
    let settings = read(options)?;
    HttpHook::check(&settings).context("--auth-http-url")?;
    Ok(Some(settings))
}

/// Who is asked. The one before goes on if it has the same settings.
pub(super) fn start(config: &Config, former: Option<&Policy>) -> Result<Option<Arc<dyn AuthHook>>> {
    let Some(settings) = settings(config)? else { return Ok(None) };
    let former = former.and_then(|former| former.hook.clone());
    if let Some(same) = former.filter(|former| *former.settings() == settings) {
        return Ok(Some(same));
    }
    Ok(Some(Arc::new(HttpHook::start(settings).context("--auth-http-url")?)))
}

fn read(options: &HookOptions) -> Result<HookSettings> {
    let headers = options.header_file.as_deref().map(|path| {
        headers(path).with_context(|| format!("--auth-http-header-file {}", path.display()))
    });
    Ok(HookSettings {
        url: options.url.clone(),
        timeout: options.timeout,
        connections: options.connections,
        headers: headers.transpose()?.unwrap_or_default(),
        authorities: authorities("--auth-http", &options.url, options.authorities.as_deref())?,
    })
}

/// The lines of `NAME: VALUE` in a file. No error shows a value.
fn headers(path: &Path) -> Result<Vec<(String, String)>> {
    let text = read_own(path)?;
    lines_of(&text)
        .map(|(number, line)| {
            let (name, value) =
                line.split_once(':').with_context(|| format!("line {number} is no NAME: VALUE"))?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

/// The certificates that may prove who a server of https is. `flags` is how the names of the flags
/// for it begin.
pub(super) fn authorities(flags: &str, url: &str, file: Option<&Path>) -> Result<Vec<u8>> {
    let is_secure = url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
    if let Some(path) = file {
        anyhow::ensure!(is_secure, "{flags}-ca is for a {flags}-url that begins with https:");
        return fs::read(path).with_context(|| format!("{flags}-ca {}", path.display()));
    }
    if !is_secure {
        return Ok(Vec::new());
    }
    let found = SYSTEM_AUTHORITIES.iter().find_map(|path| fs::read(path).ok());
    found.with_context(|| {
        format!(
            "{flags}-url: the certificates that the system trusts were not found: add {flags}-ca"
        )
    })
}

/// Where systems keep the certificates of the authorities that they trust: Debian and Arch, Fedora,
/// SUSE, Alpine.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
