//! The text format of Prometheus, version 0.0.4.

use std::fmt::{Display, Write};

/// What a value means for those who add and compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Text in that format: families, each with its samples behind it.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    /// Begins a family.
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    pub(super) fn sample(&mut self, name: &str, value: impl Display) {
        self.line(format_args!("{name} {value}"));
    }

    /// Values of labels are our own words, which have nothing to escape.
    pub(super) fn labelled(&mut self, name: &str, (label, of): (&str, &str), value: impl Display) {
        self.line(format_args!("{name}{{{label}=\"{of}\"}} {value}"));
    }

    /// A family with one sample.
    pub(super) fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, value);
    }

    pub(super) fn line(&mut self, line: impl Display) {
        writeln!(self.0, "{line}").expect("a String takes all that is written to it");
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}
