//! The agent's executable: settings, log, run, exit code.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use ovl_agent::config::{self, Config, Origins, Start};
use ovl_agent::driver::{self, RunError};
use ovl_agent::{log, preflight};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let host_name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let read = |path: &Path| std::fs::read_to_string(path);
    match config::start(std::env::args_os(), std::env::vars_os().collect(), host_name, read) {
        Start::Run(config, origins) => run(*config, &origins),
        Start::Show(text) => {
            // A closed pipe is the reader's choice.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Start::Refuse(text) => {
            eprint!("{text}");
            ExitCode::from(config::EXIT_USAGE)
        }
    }
}

fn run(config: Config, origins: &Origins) -> ExitCode {
    log::init(&config);
    let warnings = config::warnings(&config, origins);
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    // One thread: the agent waits, it does not compute, and its memory is the user's.
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(16)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("ovl-agent: the system gave no event queue: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(driver::run(config, warnings, told_to_stop())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(RunError::Preflight(failures)) => {
            for failure in failures {
                eprintln!("ovl-agent: {failure}");
            }
            ExitCode::from(preflight::EXIT_UNAVAILABLE)
        }
        Err(error) => {
            eprintln!("ovl-agent: {}", ovl_agent::chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Completes with the first SIGTERM or SIGINT.
async fn told_to_stop() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without handlers the signals' own default ends the process.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
