//! What the control thread may change besides shards: the configuration and the log.

use axum::{body::Body, extract::State, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{
    api::{Actor, Answered, body, done, json},
    panel::Panel,
    problem::Problem,
};

/// Takes the outcome of a reload.
pub type Outcome = Box<dyn FnOnce(Result<(), String>) + Send>;

/// One setting that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The table of the configuration file.
    pub section: String,
    pub key: String,
    pub values: Vec<String>,
    /// `flag`, `environment`, `file` or `default`.
    pub source: &'static str,
}

/// What the owner of the broker does for the control thread. No call waits.
pub trait Steering: Send + Sync {
    /// The filter of the log.
    fn log_filter(&self) -> String;

    /// Replaces the filter, until the next reload. An error says what is wrong with it.
    fn set_log_filter(&self, filter: &str) -> Result<(), String>;

    /// The settings in force.
    fn settings(&self) -> Vec<Setting>;

    /// Has the configuration read again, as SIGHUP does.
    fn reload(&self, outcome: Outcome);
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct LogSettings {
    filter: String,
}

#[derive(Debug, Serialize)]
struct Settings {
    settings: Vec<Setting>,
}

pub(super) async fn get_log(State(panel): State<Panel>) -> Answered {
    json(&LogSettings { filter: panel.steering().log_filter() })
}

pub(super) async fn set_log(State(panel): State<Panel>, actor: Actor, wanted: Body) -> Answered {
    let LogSettings { filter } = body(wanted).await?;
    // Before the change, so that the line is there whatever the new filter is.
    info!(by = %actor, filter, "the filter of the log is changed over HTTP");
    panel.steering().set_log_filter(&filter).map_err(Problem::unprocessable)?;
    Ok(done())
}

pub(super) async fn get_config(State(panel): State<Panel>) -> Answered {
    json(&Settings { settings: panel.steering().settings() })
}

pub(super) async fn reload(State(panel): State<Panel>, actor: Actor) -> Result<Response, Problem> {
    let (sender, receiver) = oneshot::channel();
    // Nobody may wait any more: then the outcome is in the log alone.
    panel.steering().reload(Box::new(|outcome| drop(sender.send(outcome))));
    match receiver.await {
        Ok(Ok(())) => {
            info!(by = %actor, "the configuration was read again over HTTP");
            Ok(done())
        }
        Ok(Err(why)) => {
            warn!(by = %actor, "the configuration was to be read again over HTTP, and is wrong");
            Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why))
        }
        Err(_) => Err(Problem::unavailable("the broker stops")),
    }
}
