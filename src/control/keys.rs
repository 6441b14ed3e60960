//! Fetches the keys of tokens from their address, again and again.
//!
//! One thread with an executor of its own, which nobody waits for. It ends when nobody has the keys
//! any more.

use std::{
    io,
    rc::Rc,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use axum::body::{Body, Bytes};
use hyper::{StatusCode, header};
use thiserror::Error;
use tokio::{
    runtime,
    sync::Notify,
    task::LocalSet,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use super::client::{Client, Endpoint, Silence};
use crate::access::jwt::{FetchedKeys, KeyAddress};

/// Why no keys are fetched.
#[derive(Debug, Error)]
pub enum FetchFault {
    #[error("{0}")]
    Url(String),
    #[error("cannot start its thread: {0}")]
    Thread(#[from] io::Error),
}

/// Whether keys could be fetched from there.
pub fn check_key_address(address: &KeyAddress) -> Result<(), FetchFault> {
    endpoint(address).map(drop)
}

/// Starts the thread. There are no keys until it has fetched some.
pub fn fetch_keys(address: KeyAddress) -> Result<Arc<FetchedKeys>, FetchFault> {
    let endpoint = endpoint(&address)?;
    let executor =
        runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
    let wish = Arc::new(Notify::new());
    let wishes = Arc::clone(&wish);
    let interval = Duration::from_nanos(address.interval.as_nanos());
    let keys = Arc::new(FetchedKeys::new(address, move || wish.notify_one()));
    let for_whom = Arc::downgrade(&keys);
    let work = move || {
        let fetching = fetch_again_and_again(endpoint, interval, for_whom, wishes);
        LocalSet::new().block_on(&executor, fetching);
    };
    thread::Builder::new().name("ringmq-keys".to_owned()).spawn(work)?;
    Ok(keys)
}

fn endpoint(address: &KeyAddress) -> Result<Endpoint, FetchFault> {
    let endpoint = Endpoint::new(&address.url, &address.authorities);
    endpoint.map_err(|fault| FetchFault::Url(fault.to_string()))
}

async fn fetch_again_and_again(
    endpoint: Endpoint,
    interval: Duration,
    for_whom: Weak<FetchedKeys>,
    wishes: Arc<Notify>,
) {
    let endpoint = Rc::new(endpoint);
    let mut client = Client::new(Rc::clone(&endpoint));
    let mut retry = RETRY_FIRST;
    while for_whom.strong_count() > 0 {
        let fetched = timeout(TIMEOUT, fetch(&mut client, &endpoint)).await;
        let fetched = fetched.unwrap_or(Err(Silence::Late));
        let Some(keys) = for_whom.upgrade() else { return };
        if take(&keys, fetched, endpoint.authority()) {
            retry = RETRY_FIRST;
            drop(keys);
            // Tokens with made up keys do not make the broker fetch more often than that.
            let least = interval.min(FETCH_PAUSE);
            sleep(least).await;
            drop(timeout(interval.saturating_sub(least), wishes.notified()).await);
        } else {
            drop(keys);
            sleep(retry.min(interval)).await;
            retry = (2 * retry).min(RETRY_MAX);
        }
    }
}

async fn fetch(client: &mut Client, endpoint: &Endpoint) -> Result<Bytes, Silence> {
    let request = || {
        let request = endpoint.request().header(header::ACCEPT, "application/json");
        request.body(Body::empty()).expect("the URL was parsed before")
    };
    let (_, content) = client.send(request, |status| status == StatusCode::OK).await?;
    Ok(content)
}

/// Whether keys have come that can be used.
fn take(keys: &FetchedKeys, fetched: Result<Bytes, Silence>, server: &str) -> bool {
    let replaced = match fetched {
        Ok(content) => keys.replace(&content).map_err(|fault| fault.to_string()),
        Err(silence) => Err(silence.to_string()),
    };
    match replaced {
        Ok(Some(count)) => info!(keys = count, server, "the keys of tokens were fetched"),
        Ok(None) => {}
        Err(why) => {
            warn!(server, "--jwt-jwks-url gives no new keys, former ones stay in force: {why}");
            return false;
        }
    }
    true
}

/// From the request to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The least time between two sets, however many tokens have unknown keys.
const FETCH_PAUSE: Duration = Duration::from_secs(30);
/// When it is tried again after a failure: at first, and at last.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_mins(1);
