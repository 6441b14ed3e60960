//! The command `ringmq`.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use ringmq::{
    commands,
    config::{Config, Order, Source, StoreOrder},
    runtime::{self, Allocator, HangUps},
    server,
};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    // First of all, because memory that is used earlier may get huge pages. If this fails, the
    // runtime logs it when it starts.
    let _ = runtime::use_small_pages();
    let hang_ups = match HangUps::catch() {
        Ok(hang_ups) => hang_ups,
        Err(error) => {
            eprintln!("ringmq: cannot handle signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    match Order::from_command_line() {
        Ok(Order::Run(config, source)) => run(&config, &source, hang_ups),
        Ok(Order::Check(config)) => check(&config),
        Ok(Order::Store(order)) => store(&order),
        Ok(Order::Users(order)) => ended(commands::change_users(&order)),
        Ok(Order::Remote(order)) => ended(commands::ask_remote(&order, &mut io::stdout().lock())),
        Ok(Order::Import(file)) => ended(import(&file)),
        Ok(Order::Completions(shell)) => ended(print(&shell.completions())),
        Ok(Order::Man(directory)) => ended(commands::write_man_pages(&directory)),
        Err(error) => {
            eprintln!("ringmq: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}

fn run(config: &Config, source: &Source, hang_ups: HangUps) -> ExitCode {
    ended(server::run(config, source, hang_ups))
}

fn ended(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringmq: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn store(order: &StoreOrder) -> ExitCode {
    ended(server::store(order))
}

fn print(text: &[u8]) -> anyhow::Result<()> {
    io::stdout().lock().write_all(text)?;
    Ok(())
}

fn import(file: &Path) -> anyhow::Result<()> {
    let imported = commands::import(file)?;
    for remark in imported.remarks {
        eprintln!("ringmq: {remark}");
    }
    print(imported.toml.as_bytes())
}

fn check(config: &Config) -> ExitCode {
    match server::check(config) {
        Ok(lines) => {
            // Nobody reads what cannot be written.
            drop(writeln!(io::stdout().lock(), "{lines}"));
            ExitCode::SUCCESS
        }
        Err(faults) => {
            for fault in faults {
                eprintln!("ringmq: {fault:#}");
            }
            ExitCode::FAILURE
        }
    }
}
