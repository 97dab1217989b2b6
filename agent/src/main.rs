//! The agent's executable: settings, log, run, exit code.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use ovl_agent::config::{self, Config, Origins, Start};
use ovl_agent::driver::{self, Ended, Outside, RunError};
use ovl_agent::systemd::Manager;
use ovl_agent::{log, preflight};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    match settings() {
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

/// All settings, as they are now.
fn settings() -> Start {
    let host_name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let read = |path: &Path| std::fs::read_to_string(path);
    config::start(std::env::args_os(), std::env::vars_os().collect(), host_name, read)
}

fn read_again() -> Result<(Config, Origins), String> {
    match settings() {
        Start::Run(config, origins) => Ok((*config, origins)),
        Start::Refuse(mistakes) => {
            let mistakes = mistakes.lines().map(|line| line.trim_start_matches("ovl-agent: "));
            let mistakes = mistakes.collect::<Vec<_>>().join("; ");
            Err(format!(
                "the configuration has mistakes, and the old one stays in force: {mistakes}"
            ))
        }
        // The command line is the one that this agent was started with.
        Start::Show(text) => Err(text),
    }
}

fn run(config: Config, origins: &Origins) -> ExitCode {
    let log = log::init(&config);
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
    let outside = Outside { manager: Manager::from_env(), read: Arc::new(read_again), log };
    match runtime.block_on(driver::run(config, warnings, outside, told_to_stop())) {
        Ok(Ended::Stopped) => ExitCode::SUCCESS,
        Ok(Ended::Left) => ExitCode::from(driver::EXIT_LEFT),
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
