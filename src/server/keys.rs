//! The keys of tokens that are fetched, as the configuration wants it.

use std::sync::Arc;

use anyhow::{Context, Result};

use super::hook::authorities;
use crate::{
    access::{
        Policy,
        jwt::{FetchedKeys, KeyAddress},
    },
    config::Config,
    control::{check_key_address, fetch_keys},
};

/// Where they come from, with the present content of the file of authorities.
pub(super) fn address(config: &Config) -> Result<Option<KeyAddress>> {
    let Some(options) = &config.jwks else { return Ok(None) };
    let address = KeyAddress {
        url: options.url.clone(),
        interval: options.interval,
        authorities: authorities("--jwt-jwks", &options.url, options.authorities.as_deref())?,
    };
    check_key_address(&address).context("--jwt-jwks-url")?;
    Ok(Some(address))
}

/// The keys. Those from before go on if they come from the same address, and stay in force until
/// new ones have come if they come from the same URL.
pub(super) fn start(config: &Config, former: Option<&Policy>) -> Result<Option<Arc<FetchedKeys>>> {
    let Some(address) = address(config)? else { return Ok(None) };
    let former = former.and_then(|former| former.tokens.as_ref()?.fetched().cloned());
    if let Some(same) = former.as_ref().filter(|former| *former.address() == address) {
        return Ok(Some(Arc::clone(same)));
    }
    let keys = fetch_keys(address).context("--jwt-jwks-url")?;
    if let Some(former) = former.filter(|former| former.address().url == keys.address().url) {
        keys.begin_with(&former);
    }
    Ok(Some(keys))
}
