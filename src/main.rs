//! The command `ringmq`.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use ringmq::{
    config::Config,
    runtime::{self, HangUps},
    server,
};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

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
    let config = match Config::from_command_line() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("ringmq: {error}");
            return ExitCode::from(error.exit_status());
        }
    };
    match server::run(&config, hang_ups) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringmq: {error:#}");
            ExitCode::FAILURE
        }
    }
}
