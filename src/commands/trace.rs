//! `ringmq trace`: the packets of clients of a running broker, as they come.

use std::{
    io::{IsTerminal, Write},
    ops::ControlFlow,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::remote::{follow, request_with};
use crate::config::{Trace, Traced};

/// Prints lines until the trace ends. It also ends when this process does.
pub(super) fn trace(order: &Trace, out: &mut (impl Write + IsTerminal)) -> Result<()> {
    let Trace { remote, what, seconds, payload, file } = order;
    let Traced { client, topic, address } = what;
    let wanted = json!({
        "client_id": client, "topic": topic, "address": address, "seconds": seconds,
        "payload_bytes": payload.unwrap_or(0), "file": file, "while_read": true
    });
    let made = request_with(remote, "POST", "/api/v1/traces", &wanted.to_string())?;
    let made: Value = serde_json::from_str(&made).context("the answer is not JSON")?;
    if let Some(path) = made["file"].as_str() {
        writeln!(out, "* the broker writes to {path}")?;
    }
    let mut reading = Reading::default();
    follow(remote, &format!("/api/v1/traces/{}/stream", made["id"]), |line| {
        let flow = reading.take(line, out)?;
        out.flush()?;
        Ok(flow)
    })?;
    if reading.has_ended { Ok(()) } else { bail!("the broker has closed the connection") }
}

/// How far a stream of server-sent events has been read.
#[derive(Debug, Default)]
struct Reading {
    event: String,
    has_ended: bool,
}

impl Reading {
    fn take(&mut self, line: &str, out: &mut impl Write) -> Result<ControlFlow<()>> {
        if let Some(event) = line.strip_prefix("event: ") {
            event.clone_into(&mut self.event);
        }
        let Some(data) = line.strip_prefix("data: ") else { return Ok(ControlFlow::Continue(())) };
        let said = || serde_json::from_str(data).unwrap_or(Value::Null);
        match self.event.as_str() {
            "lost" => writeln!(out, "* {} lines are missing here", said()["count"])?,
            "end" => {
                let reason = said();
                writeln!(out, "* the trace has ended: {}", words_of(reason["reason"].as_str()))?;
                self.has_ended = true;
                return Ok(ControlFlow::Break(()));
            }
            _ => writeln!(out, "{data}")?,
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn words_of(reason: Option<&str>) -> &str {
    match reason {
        Some("time") => "its time is over",
        Some("bytes") => "it has told as many bytes as it may",
        Some("deleted") => "somebody has ended it",
        other => other.unwrap_or("for an unknown reason"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_printed_and_losses_and_the_end_are_told() {
        let stream = "HTTP/1.0 200 OK\n\nretry: 2000\n\nid: 0\nevent: line\ndata: a → PINGREQ\n\n\
                      :\n\nevent: lost\ndata: {\"count\":3}\n\nid: 4\nevent: line\ndata: b\n\n\
                      event: end\ndata: {\"reason\":\"time\"}\n\n";
        let (mut reading, mut out) = (Reading::default(), Vec::new());
        let ended =
            stream.lines().position(|line| reading.take(line, &mut out).unwrap().is_break());
        let expected = "a → PINGREQ\n* 3 lines are missing here\nb\n\
                        * the trace has ended: its time is over\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert!(reading.has_ended && ended.is_some());
    }
}
