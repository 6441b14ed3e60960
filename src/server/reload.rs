//! What SIGHUP does: reads the configuration and all files that it names again, and applies all of
//! it or nothing.

use std::sync::Arc;

use anyhow::{Context, Result};
use tracing::{error, info, warn};

use super::{control, listeners, log::LogFilter, rules};
use crate::{
    config::{Config, Source},
    control::TokenRenewal,
    runtime::Reloader,
    shard::rules::Rules,
};

/// What is in force, and where it was read.
pub(super) struct Reload {
    source: Source,
    config: Config,
    rules: Arc<Rules>,
    log_filter: LogFilter,
    /// Gives the control thread its tokens, if there is one.
    tokens: Option<TokenRenewal>,
}

impl Reload {
    pub(super) fn new(
        source: Source,
        config: Config,
        rules: Rules,
        (log_filter, tokens): (LogFilter, Option<TokenRenewal>),
    ) -> Reload {
        Reload { source, config, rules: Arc::new(rules), log_filter, tokens }
    }

    pub(super) fn handle_hang_up(&mut self, reloader: &mut Reloader) {
        match self.read_again(reloader) {
            Ok(()) => info!("SIGHUP: the configuration was read again, with all its files"),
            Err(error) => error!("SIGHUP: the configuration stays as it was: {error:#}"),
        }
    }

    fn read_again(&mut self, reloader: &mut Reloader) -> Result<()> {
        let config = Config::read(&self.source)?;
        let (wanted, tokens) = (listeners(&config)?, control::tokens(&config)?);
        let listeners =
            self.rules.listeners.renewed(wanted).context("too many addresses so far")?;
        let rules = Arc::new(rules(&config, listeners, Some(&self.rules.policy))?);
        // Nothing that comes after the next line can fail.
        reloader.apply(&rules)?;
        self.rules = rules;
        self.log_filter.set(&config.log_filter);
        if let Some(renewal) = &self.tokens {
            renewal.renew(tokens);
        }
        for name in self.config.fixed_changes(&config) {
            warn!("SIGHUP: {name} has changed, which holds from the next start of the broker");
        }
        self.config = config;
        Ok(())
    }
}
