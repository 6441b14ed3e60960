//! The command `ringmq`.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use ringmq::{config::Config, runtime, server};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // First of all, because memory that is used earlier may get huge pages. If this fails, the
    // runtime logs it when it starts.
    let _ = runtime::use_small_pages();
    let config = match Config::from_command_line() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("ringmq: {error}");
            return ExitCode::from(error.exit_status());
        }
    };
    match server::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringmq: {error:#}");
            ExitCode::FAILURE
        }
    }
}
