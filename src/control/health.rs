//! Whether the broker is well, for those who restart it and those who send clients to it.

use axum::extract::State;

use super::{panel::Panel, problem::Problem};
use crate::shard::ask::Question;

/// Whether all shards take turns.
pub(super) async fn healthz(State(panel): State<Panel>) -> Result<&'static str, Problem> {
    panel.ask_all(&Question::Alive).await?;
    Ok("ok\n")
}

/// Whether clients are let in.
pub(super) async fn readyz(State(panel): State<Panel>) -> Result<&'static str, Problem> {
    if panel.are_open() {
        Ok("ok\n")
    } else {
        Err(Problem::unavailable("the broker lets no clients in: it starts or stops"))
    }
}
