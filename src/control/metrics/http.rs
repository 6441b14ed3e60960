//! What the control thread counts about HTTP itself.

use super::text::{Kind, Text};
use crate::control::counts::Counts;

pub(super) fn tell_http(text: &mut Text, counts: &Counts, readers: u64) {
    let name = "ringmq_http_connections";
    text.single(name, Kind::Gauge, "Open connections of HTTP.", counts.connections_open());
    text.single(
        "ringmq_http_connections_accepted_total",
        Kind::Counter,
        "Connections of HTTP that have come.",
        counts.connections_accepted(),
    );
    let name = "ringmq_http_requests_total";
    text.family(name, Kind::Counter, "Requests that were answered, by the class of the status.");
    for (class, count) in counts.answers() {
        text.labelled(name, ("code", class), count);
    }
    let name = "ringmq_http_refused_total";
    let help = "Requests that reached no route and connections that were closed, by the reason.";
    text.family(name, Kind::Counter, help);
    for (reason, count) in counts.refusals() {
        text.labelled(name, ("reason", reason), count);
    }
    text.single("ringmq_event_readers", Kind::Gauge, "Readers of the stream of events.", readers);
    text.single(
        "ringmq_events_lost_total",
        Kind::Counter,
        "Events about clients that were dropped on their way to the readers of the stream.",
        counts.events_lost(),
    );
    let [running, lines, lost] = counts.traces();
    text.single("ringmq_traces", Kind::Gauge, "Traces that run.", running);
    let name = "ringmq_trace_lines_total";
    text.single(name, Kind::Counter, "Lines that traces have told.", lines);
    text.single(
        "ringmq_trace_lines_lost_total",
        Kind::Counter,
        "Lines of traces that were dropped, because there were too many of them.",
        lost,
    );
}
