//! The two programs, as command lines.
use clap::{Command, CommandFactory};

/// A program and where its manual stands.
pub(crate) struct Program {
    /// Complete: with every name, help flag and inherited flag filled in.
    pub(crate) command: Command,
    /// The section of its man pages, 1 for everyone and 8 for root.
    pub(crate) section: &'static str,
    /// Files and variables that its manual names, each with a sentence.
    pub(crate) files: &'static [(&'static str, &'static str)],
    pub(crate) variables: &'static [(&'static str, &'static str)],
}

const AGENT_FILES: [(&str, &str); 5] = [
    ("/etc/ovl/agent.toml", "Settings."),
    ("/etc/ovl/agent.env", "Variables for the service, one NAME=VALUE a line; mode 0600."),
    ("/var/lib/ovl/", "What the agent remembers across restarts."),
    ("/run/ovl/ovl.sock", "The control socket, for ovlctl."),
    ("/run/docker/plugins/ovl.sock", "Where Docker finds the driver."),
];

const AGENT_VARIABLES: [(&str, &str); 3] = [
    ("OVL_CONFIG", "The configuration file, as --config."),
    ("OVL_KEY", "Any other setting: --gossip-port is OVL_GOSSIP_PORT."),
    ("CONSUL_HTTP_TOKEN", "Consul's token, if the store names no token-file."),
];

const CTL_FILES: [(&str, &str); 1] =
    [("/run/ovl/ovl.sock", "The control socket of the agent on this host.")];

const CTL_VARIABLES: [(&str, &str); 1] =
    [("OVL_CONTROL_SOCKET", "The control socket, as --socket.")];

/// `ovl-agent` and `ovlctl`.
pub(crate) fn both() -> [Program; 2] {
    let agent = Program {
        command: complete(ovl_agent::args::Args::command()),
        section: "8",
        files: &AGENT_FILES,
        variables: &AGENT_VARIABLES,
    };
    let ctl = Program {
        command: complete(ovlctl::command()),
        section: "1",
        files: &CTL_FILES,
        variables: &CTL_VARIABLES,
    };
    [agent, ctl]
}

/// What a command line says after its help: more about it, and its exit codes.
pub(crate) struct AfterHelp {
    pub(crate) more: String,
    /// Each code and what it means.
    pub(crate) exit_codes: Vec<(String, String)>,
}

impl AfterHelp {
    pub(crate) fn of(command: &Command) -> Self {
        let text = command.get_after_long_help().or_else(|| command.get_after_help());
        let text = text.map(ToString::to_string).unwrap_or_default();
        let (more, codes) = text.split_once(EXIT_CODES).unwrap_or((&text, ""));
        let codes = codes.lines().filter_map(|line| line.trim().split_once(' '));
        let exit_codes =
            codes.map(|(code, meaning)| (code.into(), meaning.trim().into())).collect();
        AfterHelp { more: more.trim().to_owned(), exit_codes }
    }
}

/// Begins the list of exit codes.
const EXIT_CODES: &str = "Exit codes:";

fn complete(command: Command) -> Command {
    // `help` as a command says what --help says; it has no page of its own.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    command
}

/// The commands below one that people may call.
pub(crate) fn below(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| !command.is_hide_set())
}
