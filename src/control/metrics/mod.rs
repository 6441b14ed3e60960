//! `/metrics`: what the broker counts, in the text format of Prometheus.

mod compat;
mod families;
mod http;
mod store;
mod text;

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::IntoResponse,
};
use serde::Deserialize;

use super::{
    api::{Answered, Asked, asked},
    panel::Panel,
};
use crate::{
    base::time::Span,
    routing::Tally,
    shard::{ask::Figures, stats::Counters, store_figures::StoreFigures},
};

/// Under which names figures are told.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Names {
    /// Our own.
    #[default]
    Ringmq,
    /// Those of mosquitto's exporter.
    Mosquitto,
    /// Those of EMQX.
    Emqx,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(default)]
    compat: Names,
}

pub(super) async fn metrics(State(panel): State<Panel>, wanted: Asked<Wanted>) -> Answered {
    let Wanted { compat } = asked(wanted)?;
    let figures = panel.figures().await?;
    let sums = Sums::of(&figures);
    let text = match compat {
        Names::Ringmq => {
            let readers = panel.feed().reader_count() as u64;
            families::text_of(&figures, &sums, (panel.counts(), readers))
        }
        Names::Mosquitto => compat::of_mosquitto(&sums),
        Names::Emqx => compat::of_emqx(&sums),
    };
    let mut response = text.into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// What the broker as a whole has counted.
#[derive(Debug, Default)]
struct Sums {
    counters: Counters,
    retained: Tally,
    uptime: Span,
    shards: usize,
    store: Option<StoreFigures>,
}

impl Sums {
    /// Every shard has all retained messages, so these are counted once.
    fn of(figures: &[Figures]) -> Sums {
        let mut sums = Sums { shards: figures.len(), ..Sums::default() };
        for Figures { counters, .. } in figures {
            sums.counters.add(counters);
        }
        if let Some(first) = figures.first() {
            (sums.retained, sums.uptime) = (first.retained, first.uptime);
            sums.store = first.store;
        }
        sums
    }

    /// The value of a topic below `$SYS/broker/`; 0 if there is no such counter.
    fn of_topic(&self, topic: &str) -> u64 {
        self.counters.topics().find(|(name, _)| *name == topic).map_or(0, |(_, value)| value)
    }

    /// The sum of all topics that begin like this.
    fn below(&self, prefix: &str) -> u64 {
        let below = self.counters.topics().filter(|(name, _)| name.starts_with(prefix));
        below.map(|(_, value)| value).sum()
    }
}

/// The topics below `$SYS/broker/` that have the present value: those marked *now* in docs/sys.md.
fn is_gauge(topic: &str) -> bool {
    let is_memory = topic.starts_with("memory/") && topic != "memory/refused";
    is_memory || GAUGES.contains(&topic)
}

const GAUGES: [&str; 5] = [
    "clients/connected",
    "clients/total",
    "connections/open",
    "messages/queued",
    "subscriptions/count",
];
