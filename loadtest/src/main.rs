//! The command `loadtest`.

use std::{
    io::{Write, stdout},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Result;
use clap::Parser;
use loadtest::{arguments::Arguments, run::run, summary::Summary};

fn main() -> ExitCode {
    match measure(Arguments::parse()) {
        Ok(summary) if summary.breaches.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(BROKEN),
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn measure(arguments: Arguments) -> Result<Summary> {
    let plan = Arc::new(arguments.into_plan()?);
    let outcome = run(&plan)?;
    let summary = Summary::new(&plan, &outcome);
    let mut out = stdout().lock();
    if plan.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&summary)?)?;
    } else {
        write!(out, "{summary}")?;
    }
    Ok(summary)
}

/// The broker broke a promise.
const BROKEN: u8 = 1;

/// There was no measurement.
const FAILED: u8 = 2;
