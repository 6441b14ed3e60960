//! The request: the flags and scenarios, and the plan that is made from them.
//!
//! Opens no sockets or files. The other rooms see the flags only through the [`plan::Plan`].

pub mod addresses;
pub mod flags;
pub mod pacing;
pub mod plan;
mod planning;
pub mod scenario;
pub mod topics;
pub mod workload;

/// The plan of a command line that begins with a scenario.
#[cfg(test)]
pub(crate) fn plan_of(flags: &str) -> anyhow::Result<plan::Plan> {
    #[derive(Debug, clap::Parser)]
    struct CommandLine {
        #[command(subcommand)]
        scenario: scenario::Scenario,
    }
    let words = std::iter::once("loadtest").chain(flags.split(' '));
    let line: CommandLine = clap::Parser::try_parse_from(words)?;
    line.scenario.plan()
}
