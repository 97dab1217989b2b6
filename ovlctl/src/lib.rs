//! The command line of ovl: asks the agent of this host over its control socket.
//!
//! `args` says what can be asked, `client` carries it, `commands` does one thing each and
//! `output` prints it, as tables for people or as JSON for programs. Every wait is bounded, every
//! failure is one sentence on standard error, and the exit code says of which kind it was.
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

mod args;
mod client;
mod commands;
mod complete;
mod droplet;
mod error;
mod output;
mod stop;

use args::Args;
use client::Client;
use error::Error;
use output::Output;

/// The whole command line as data, for what is made from it: man pages, completions.
pub fn command() -> clap::Command {
    Args::command()
}

/// The environment variable by which a shell asks for completions (`clap_complete`'s protocol).
pub const COMPLETE_VARIABLE: &str = complete::VARIABLE;

/// The program: reads its command line, does it, and says how it went.
pub fn run_from_command_line() -> ExitCode {
    // Ends the program when it was a shell that asked.
    clap_complete::CompleteEnv::with_factory(command).var(complete::VARIABLE).complete();
    let command = without_empty_variables(command());
    let args = command.try_get_matches().and_then(|given| Args::from_arg_matches(&given));
    let args = match args {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    let output = Output::new(args.json);
    match run(args, &output) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has enough.
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is_told() {
                output.complain(&error.to_string());
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// A variable that is set to nothing is as one that is not set.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        value.is_some_and(|value| value.is_empty())
    };
    command
        .mut_args(|arg| match is_empty(&arg) {
            true => arg.env(clap::builder::Resettable::Reset),
            false => arg,
        })
        .mut_subcommands(without_empty_variables)
}

fn run(args: Args, output: &Output) -> Result<(), Error> {
    let client = Client::new(args.socket, args.timeout).to(args.host.as_deref());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let done = runtime.block_on(commands::run(args.command, &client, output));
    // What hangs on a disk is not waited for.
    runtime.shutdown_background();
    done
}

/// Help and version are asked for, all else is wrong usage.
fn usage(error: &clap::Error) -> ExitCode {
    // A closed pipe is no reason to fail.
    let _ = error.print();
    let code = if error.use_stderr() { error::EXIT_USAGE } else { 0 };
    ExitCode::from(code)
}
