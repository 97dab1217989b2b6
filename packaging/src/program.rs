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
