//! The command `loadtest`.

use std::{
    fmt::Display,
    io::{Write, stdout},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Result;
use clap::Parser;
use loadtest::{
    arguments::{Arguments, Task},
    report::{
        page::{self, NamedSummary},
        summary::Summary,
    },
    request::plan::Plan,
    run::run,
    search::find_max,
};
use serde::Serialize;

fn main() -> ExitCode {
    match execute(&Arguments::parse().task) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn execute(task: &Task) -> Result<ExitCode> {
    match task {
        Task::Load(scenario) => measure(scenario.plan()?),
        Task::Sink(sink) => match sink.serve()? {},
        Task::Compare(compare) => {
            print(&compare.compare()?, compare.json)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn measure(plan: Plan) -> Result<ExitCode> {
    if let Some(p99_max) = plan.find_max {
        let found = find_max(&plan, p99_max)?;
        print(&found, plan.json)?;
        return finish(&plan, found.best);
    }
    let plan = Arc::new(plan);
    let summary = Summary::new(&plan, &run(&plan)?);
    print(&summary, plan.json)?;
    finish(&plan, summary)
}

/// Writes the page if there is to be one, and judges the broker.
fn finish(plan: &Plan, summary: Summary) -> Result<ExitCode> {
    let kept = summary.breaches.is_empty();
    if let Some(path) = &plan.html {
        page::write(path, &[NamedSummary { name: summary.scenario.clone(), summary }])?;
    }
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) })
}

fn print(finding: &(impl Display + Serialize), json: bool) -> Result<()> {
    let mut out = stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(finding)?)?;
    } else {
        write!(out, "{finding}")?;
    }
    Ok(())
}

/// The broker broke a promise.
const BROKEN: u8 = 1;

/// There was no measurement.
const FAILED: u8 = 2;
