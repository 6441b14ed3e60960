//! The control thread of the broker, as the configuration wants it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use tracing::error;

use crate::{
    config::Config,
    control::{Control, Options, Running, Tokens},
    runtime::Started,
};

/// Takes the address, if there is to be a control thread.
pub(super) fn bind(config: &Config) -> Result<Option<Control>> {
    let Some(options) = &config.control else { return Ok(None) };
    let tokens = tokens(config)?;
    let options = Options { address: options.address, hosts: options.hosts.clone(), tokens };
    Ok(Some(Control::bind(options)?))
}

/// The tokens of the file that the configuration names.
pub(super) fn tokens(config: &Config) -> Result<Option<Tokens>> {
    let file = config.control.as_ref().and_then(|options| options.token_file.as_ref());
    let read = |path: &PathBuf| {
        Tokens::read(path).with_context(|| format!("token file {}", path.display()))
    };
    file.map(read).transpose()
}

/// Starts the thread. The broker runs without it if the system gives no thread.
pub(super) fn start(control: Control, started: &Started) -> Option<Running> {
    let running = control.start(started.shards.clone());
    running.inspect_err(|fault| error!("{fault}")).ok()
}

/// Where it is reached.
pub(super) fn words_of(control: &Control) -> String {
    format!("http://{}", control.address())
}
