//! The `lab` command.
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand, ValueEnum as _};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::bench::{self, Figure};
use crate::kvstore::{self, Kvstore};
use crate::status::Status;
use crate::{
    Container, Host, Lab, LabError, LabName, LabSpec, NodeName, StoreKind, demo, output, wait,
};

/// EX_USAGE of sysexits(3).
const USAGE: u8 = 64;
/// What a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Hosts with agents on one machine, made of namespaces.
///
/// A host is a namespace with its own network, files and processes, on an underlay that only the
/// lab's hosts are on. Nothing of the machine's own network, mounts or processes is touched, and
/// `lab down` leaves nothing. Needs root.
#[derive(Debug, Parser)]
#[command(
    name = "lab",
    version,
    after_help = "Exit codes: 0 done; 1 failed, with a sentence on standard error; 64 wrong usage; \
                  `run`, `ctl` and `in` exit as their command does."
)]
struct Args {
    /// Which lab: several can be up at once
    #[arg(long, global = true, value_name = "LAB", default_value = "lab")]
    name: LabName,
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Build the hosts and start an agent in each; what is left of an earlier lab goes first
    Up {
        /// Names of the hosts, in the order of their addresses
        #[arg(long, value_delimiter = ',', value_name = "NAME,…",
              default_values = demo::HOSTS)]
        hosts: Vec<NodeName>,
        /// Where the agents keep networks and addresses: sqlite (one shared file) or consul (a
        /// real server in a namespace `kvstore`)
        #[arg(long, value_name = "KIND", default_value = "sqlite", value_parser = store_kind)]
        store: StoreKind,
    },
    /// End everything in the lab and remove it; fine when there is none
    Down,
    /// Show hosts, agents and containers
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Run a command in a host
    Run {
        /// The host
        host: String,
        /// The command and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// Run ovlctl in a host
    Ctl {
        /// The host
        host: String,
        /// Arguments of ovlctl
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        args: Vec<String>,
    },
    /// Make a container in a host and attach it to a network
    Attach {
        /// The host
        host: String,
        /// An overlay network that exists
        network: String,
        /// The container's name, unique in the lab
        container: String,
    },
    /// Detach a container from its network and remove it
    Detach {
        /// The container
        container: String,
    },
    /// Run a command in a container
    In {
        /// The container
        container: String,
        /// The command and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
    /// End the agent of a host, or Consul (kvstore), with SIGTERM, and wait for its end
    Stop {
        /// The host, or kvstore
        host: String,
    },
    /// Start the agent of a host, or Consul (kvstore), again, and wait for its answer
    Start {
        /// The host, or kvstore
        host: String,
    },
    /// End the agent of a host, or Consul (kvstore), with SIGKILL
    Kill {
        /// The host, or kvstore
        host: String,
    },
    /// Stop the agent of a host, or Consul (kvstore), in its tracks (SIGSTOP)
    Freeze {
        /// The host, or kvstore
        host: String,
    },
    /// Let a frozen agent, or Consul (kvstore), go on (SIGCONT)
    Thaw {
        /// The host, or kvstore
        host: String,
    },
    /// Pull a host's cable to the underlay
    Cut {
        /// The host
        host: String,
    },
    /// Plug a host's cable in again
    Heal {
        /// The host
        host: String,
    },
    /// Show the whole: four hosts, a network, Redis with replicas found by name; then take it down
    Demo {
        /// sqlite or consul
        #[arg(long, value_name = "KIND", default_value = "sqlite", value_parser = store_kind)]
        store: StoreKind,
        /// Leave the lab up, and say what to explore
        #[arg(long)]
        keep: bool,
    },
    /// Measure, each figure in a lab of its own
    Bench {
        /// What to measure; all when none is named
        figures: Vec<Figure>,
        /// Interleaved rounds of `path`
        #[arg(long, default_value_t = 7)]
        rounds: usize,
        /// Attaches to measure
        #[arg(long, default_value_t = 50)]
        attaches: usize,
        /// Runs of each kind of `docker`
        #[arg(long, default_value_t = 20)]
        runs: usize,
        /// sqlite or consul
        #[arg(long, value_name = "KIND", default_value = "sqlite", value_parser = store_kind)]
        store: StoreKind,
    },
}

/// Runs the command of the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Nothing can be done about a closed terminal.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(USAGE),
            };
        }
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(LabError::Interrupted) => {
            eprintln!("lab: interrupted");
            ExitCode::from(INTERRUPTED)
        }
        Err(error @ LabError::BadName { .. }) => {
            eprintln!("lab: {}", error.chain());
            ExitCode::from(USAGE)
        }
        Err(error) => {
            eprintln!("lab: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<(), LabError> {
    let name = args.name;
    match args.command {
        Action::Up { hosts, store } => up(name, hosts, store),
        Action::Down => down(&name),
        Action::Status { json } => status(&name, json),
        Action::Run { host, command } => {
            let host = Lab::open(&name)?.host(&host)?;
            become_command(host.command(&command[0]).args(&command[1..]))
        }
        Action::Ctl { host, args } => {
            become_command(Lab::open(&name)?.host(&host)?.ctl_command()?.args(args))
        }
        Action::In { container, command } => {
            let container = Lab::open(&name)?.container(&container)?;
            become_command(container.command(&command[0]).args(&command[1..]))
        }
        Action::Attach { host, network, container } => attach(&name, &host, &network, &container),
        Action::Detach { container } => detach(&name, &container),
        Action::Stop { host } => daemon(&name, &host)?.stop(),
        Action::Start { host } => daemon(&name, &host)?.start(),
        Action::Kill { host } => daemon(&name, &host)?.kill(),
        Action::Freeze { host } => daemon(&name, &host)?.freeze(),
        Action::Thaw { host } => daemon(&name, &host)?.thaw(),
        Action::Cut { host } => Lab::open(&name)?.host(&host)?.cut(),
        Action::Heal { host } => Lab::open(&name)?.host(&host)?.heal(),
        Action::Demo { store, keep } => {
            catch_interrupts();
            demo::run(&demo_name(name), store, keep)
        }
        Action::Bench { figures, rounds, attaches, runs, store } => {
            catch_interrupts();
            let figures = if figures.is_empty() { Figure::value_variants() } else { &figures };
            bench::run(figures, bench::Plan { rounds, attaches, runs, store })
        }
    }
}

fn up(name: LabName, hosts: Vec<NodeName>, store: StoreKind) -> Result<(), LabError> {
    let spec = LabSpec::new(name.clone(), hosts, store)?;
    catch_interrupts();
    let up = Lab::up(&spec, &mut output::line);
    if let Err(error) = up {
        wait::clear_interruption();
        eprintln!("lab: what was built is still there: `lab down --name {name}` removes it");
        return Err(error);
    }
    status(&name, false)
}

fn down(name: &LabName) -> Result<(), LabError> {
    let there = Lab::down(name)?;
    let what = if there { "is taken down" } else { "was not up" };
    output::line(&format!("lab {name} {what}"));
    Ok(())
}

fn status(name: &LabName, json: bool) -> Result<(), LabError> {
    let status = Status::of(&Lab::open(name)?);
    let text = if json {
        // A Status holds nothing that JSON cannot.
        serde_json::to_string_pretty(&status).unwrap_or_default() + "\n"
    } else {
        status.table()
    };
    output::show(&text);
    Ok(())
}

fn attach(name: &LabName, host: &str, network: &str, container: &str) -> Result<(), LabError> {
    let lab = Lab::open(name)?;
    let _lock = lab.lock()?;
    lab.attach(host, network, container)?;
    output::line(&format!("{container} is attached to {network} on {host}"));
    Ok(())
}

fn detach(name: &LabName, container: &str) -> Result<(), LabError> {
    let lab = Lab::open(name)?;
    let _lock = lab.lock()?;
    let there: Container = lab.container(container)?;
    there.detach()?;
    output::line(&format!("{container} is detached and gone"));
    Ok(())
}

/// What `stop`, `start` and the like act on.
enum Daemon {
    Agent(Host),
    Consul(Kvstore),
}

fn daemon(name: &LabName, node: &str) -> Result<Daemon, LabError> {
    let lab = Lab::open(name)?;
    if node == kvstore::NAME {
        lab.kvstore().map(Daemon::Consul)
    } else {
        lab.host(node).map(Daemon::Agent)
    }
}

impl Daemon {
    fn start(&self) -> Result<(), LabError> {
        match self {
            Self::Agent(host) => host.start_agent().map(drop),
            Self::Consul(kvstore) => kvstore.start(),
        }
    }

    fn stop(&self) -> Result<(), LabError> {
        match self {
            Self::Agent(host) => host.stop_agent(),
            Self::Consul(kvstore) => kvstore.stop(),
        }
    }

    fn kill(&self) -> Result<(), LabError> {
        match self {
            Self::Agent(host) => host.kill_agent(),
            Self::Consul(kvstore) => kvstore.kill(),
        }
    }

    fn freeze(&self) -> Result<(), LabError> {
        match self {
            Self::Agent(host) => host.freeze_agent(),
            Self::Consul(kvstore) => kvstore.freeze(),
        }
    }

    fn thaw(&self) -> Result<(), LabError> {
        match self {
            Self::Agent(host) => host.thaw_agent(),
            Self::Consul(kvstore) => kvstore.thaw(),
        }
    }
}

/// Goes on as another program: its input, output, signals and exit code are ours.
fn become_command(command: &mut Command) -> Result<(), LabError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let source = command.exec();
    Err(LabError::Spawn { program, source })
}

/// The demo has a lab of its own, unless one is named.
fn demo_name(name: LabName) -> LabName {
    if name == LabName::default() { LabName::demo() } else { name }
}

/// From now on Ctrl-C ends the waits with an error instead of ending the process; a second one
/// ends it at once.
fn catch_interrupts() {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let flag = wait::interrupt_flag();
        // These signals can be caught: registering fails for SIGKILL and the like only. The order
        // matters: the first handler ends the process if the flag is set already.
        let _ = signal_hook::flag::register_conditional_default(signal, Arc::clone(flag));
        let _ = signal_hook::flag::register(signal, Arc::clone(flag));
    }
}

fn store_kind(text: &str) -> Result<StoreKind, String> {
    match text {
        "sqlite" => Ok(StoreKind::Sqlite),
        "consul" => Ok(StoreKind::Consul),
        _ => Err("expected sqlite or consul".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_command_keeps_its_own_flags() {
        let args =
            Args::try_parse_from(["lab", "run", "--name", "x", "a", "--", "ls", "--name", "y"]);
        let args = args.expect("it parses");
        assert_eq!(args.name.as_str(), "x");
        let Action::Run { host, command } = args.command else {
            panic!("it is run");
        };
        assert_eq!((host.as_str(), command.join(" ").as_str()), ("a", "ls --name y"));
    }
}
