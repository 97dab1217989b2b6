//! What is in the repository is what would be made now, and names what the programs have.
use std::collections::BTreeSet;
use std::fs;

use clap::Command;
use ovl_agent::config::{self, Key, Start};

use super::*;
use crate::program::below;

mod monitoring;

/// The files that people edit, as they are.
const UNIT: &str = include_str!("../systemd/ovl-agent.service");

fn text(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

#[test]
fn the_files_kept_in_the_repository_are_current() {
    for asset in kept() {
        let path = asset.path.to_str().unwrap();
        let current = text(path).into_bytes() == asset.content;
        assert!(current, "{path} is out of date; run: cargo run -p ovl-packaging -- renew");
    }
}

#[test]
fn every_key_flag_and_command_is_in_the_reference() {
    let reference = reference::text();
    for key in Key::ALL {
        assert!(reference.contains(&format!("### `{key}`")), "{key}");
        assert!(reference.contains(&format!("`--{key} ")), "{key}");
        assert!(reference.contains(&format!("| variable | `{}` |", key.variable())), "{key}");
    }
    fn check(command: &Command, reference: &str) {
        for long in command.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(reference.contains(&format!("--{long}")), "--{long}");
        }
        below(command).for_each(|command| check(command, reference));
    }
    program::both().iter().for_each(|program| check(&program.command, &reference));
}

fn start(file: &str) -> Start {
    let argv = ["ovl-agent", "--print-config"].map(Into::into);
    config::start(argv, Vec::new(), Some("host".into()), |_| Ok(file.to_owned()))
}

#[test]
fn the_example_sets_nothing() {
    let (Start::Show(with), Start::Show(without)) = (start(&example::text()), start("")) else {
        panic!("the example is refused");
    };
    assert_eq!(with, without);
}

#[test]
fn every_example_of_a_value_is_accepted() {
    let bare: String = example::text()
        .lines()
        .filter_map(|line| {
            line.strip_prefix('#').filter(|rest| rest.starts_with(char::is_alphabetic))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(bare.lines().count(), Key::ALL.len());
    // The package makes this group; not every host that runs tests has it.
    match start(&bare.replace("control-group = \"ovl\"", "control-group = \"0\"")) {
        Start::Show(table) => assert!(!table.contains("default\n"), "{table}"),
        Start::Refuse(problems) => panic!("{problems}"),
        Start::Run(..) => panic!("it was only asked to print"),
    }
}

#[test]
fn every_command_has_a_page_and_every_program_its_completions() {
    let assets = installed().unwrap();
    let paths: BTreeSet<&str> = assets.iter().map(|asset| asset.path.to_str().unwrap()).collect();
    for path in [
        "share/man/man8/ovl-agent.8",
        "share/man/man1/ovlctl.1",
        "share/man/man1/ovlctl-status.1",
        "share/man/man1/ovlctl-network-create.1",
        "share/bash-completion/completions/ovl-agent",
        "share/zsh/vendor-completions/_ovlctl",
        "share/fish/vendor_completions.d/ovlctl.fish",
    ] {
        assert!(paths.contains(path), "{path} is not among {paths:?}");
    }
    assert_eq!(paths.len(), assets.len(), "two assets have one path");
}

/// The value that a unit gives to a setting.
fn unit(setting: &str) -> &'static str {
    let line = UNIT.lines().find_map(|line| line.strip_prefix(setting)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("the unit has no {setting}"))
}

#[test]
fn the_unit_makes_the_folders_that_the_agent_uses_by_default() {
    let default = |key: Key| key.default_text().unwrap();
    assert_eq!(format!("/var/lib/{}", unit("StateDirectory")), default(Key::StateDir));
    let run = format!("/run/{}/ovl.sock", unit("RuntimeDirectory"));
    assert_eq!(run, default(Key::ControlSocket));
    let plugins = Path::new("/run/docker/plugins");
    assert_eq!(Path::new(&default(Key::PluginSocket)).parent(), Some(plugins));
    assert!(unit("ExecStartPre").ends_with(" /run/docker/plugins"));
    assert!(UNIT.contains("\nReadWritePaths=-/run/docker/plugins\n"));
}

#[test]
fn the_unit_does_not_start_again_what_would_end_the_same() {
    let wrong_usage = config::EXIT_USAGE.to_string();
    assert!(unit("RestartPreventExitStatus").split(' ').any(|code| code == wrong_usage));
}
