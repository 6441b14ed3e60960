//! The line of progress on a terminal while a run goes on.

use std::fmt::Write;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Default for Progress {
    fn default() -> Progress {
        let style = ProgressStyle::with_template(TEMPLATE).expect("the template is well-formed");
        let style = style.with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
            let _ = write!(out, "{:.0}/s", state.per_sec());
        });
        Progress(ProgressBar::no_length().with_style(style))
    }
}

impl Progress {
    /// Another part of the run begins, whose counts start from zero.
    pub fn enter(&self, part: &'static str) {
        self.0.reset();
        self.0.set_message(part);
    }

    pub fn show(&self, delivered: u64) {
        self.0.set_position(delivered);
        self.0.tick();
    }
}

/// Removes the line, however the run ends.
impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

const TEMPLATE: &str = "{spinner} {msg:<12} {elapsed:>4}   {human_pos} delivered, {rate}";
