//! What SIGHUP does: reads the configuration and all files that it names again, and applies all of
//! it or nothing.

use std::sync::Arc;

use anyhow::{Context, Result};
use tracing::{error, info, warn};

use super::{
    control::{self, Orders},
    dynamic::Dynamic,
    listeners,
    log::LogFilter,
    rules, service,
};
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
    /// What the control thread has asked for, if there may be one.
    orders: Option<Orders>,
    /// The document of dynamic security, if there is one.
    dynamic: Option<Dynamic>,
}

impl Reload {
    pub(super) fn new(
        source: Source,
        config: Config,
        rules: Rules,
        log_filter: LogFilter,
    ) -> Reload {
        let (tokens, orders, dynamic) = (None, None, None);
        Reload { source, config, rules: Arc::new(rules), log_filter, tokens, orders, dynamic }
    }

    /// Does what a control thread asks for, and reads the document of dynamic security again.
    pub(super) fn serve(
        &mut self,
        tokens: Option<TokenRenewal>,
        orders: Orders,
        dynamic: Option<Dynamic>,
    ) {
        (self.tokens, self.orders, self.dynamic) = (tokens, Some(orders), dynamic);
    }

    pub(super) fn handle_hang_up(&mut self, reloader: &mut Reloader) {
        // One that comes later has sent a signal of its own.
        let asked = self.orders.as_ref().map(Orders::take).unwrap_or_default();
        service::reloading();
        let done = self.read_again(reloader).map_err(|error| format!("{error:#}"));
        let words = match &done {
            Ok(()) => "the configuration was read again, with all its files".to_owned(),
            Err(fault) => format!("the configuration stays as it was: {fault}"),
        };
        if done.is_ok() {
            info!("SIGHUP: {words}");
        } else {
            error!("SIGHUP: {words}");
        }
        service::reloaded(&words);
        for outcome in asked {
            outcome(done.clone());
        }
    }

    fn read_again(&mut self, reloader: &mut Reloader) -> Result<()> {
        let config = Config::read(&self.source)?;
        let (wanted, tokens) = (listeners(&config)?, control::tokens(&config)?);
        let listeners =
            self.rules.listeners.renewed(wanted).context("too many addresses so far")?;
        // No command changes the document until all shards have been sent what is read here.
        let mut kept = self.dynamic.as_ref().map(Dynamic::lock);
        let document = kept.as_ref().map(|kept| kept.read_again()).transpose()?;
        let users = document.as_ref().map(|document| document.users().clone());
        let ruling = users.zip(self.dynamic.as_ref().map(Dynamic::desk));
        let rules = Arc::new(rules(&config, listeners, (Some(&self.rules.policy), ruling))?);
        // Nothing that comes after the next line can fail.
        reloader.apply(&rules)?;
        if let (Some(kept), Some(document)) = (&mut kept, document) {
            **kept = document;
        }
        drop(kept);
        self.rules = rules;
        self.log_filter.set(&config.log_filter);
        if let Some(renewal) = &self.tokens {
            renewal.renew(tokens);
        }
        for name in self.config.fixed_changes(&config) {
            warn!("SIGHUP: {name} has changed, which holds from the next start of the broker");
        }
        if let Some(orders) = &self.orders {
            orders.show(&config);
        }
        self.config = config;
        Ok(())
    }
}
