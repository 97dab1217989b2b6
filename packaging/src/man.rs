//! Man pages: one for each program and for each of its commands.
use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::Asset;
use crate::program::{AfterHelp, Program, below};

/// All pages of a program, as files.
pub(crate) fn pages(program: &Program) -> io::Result<Vec<Asset>> {
    let mut pages = Vec::new();
    add(&program.command, program, &mut pages)?;
    Ok(pages)
}

fn add(command: &Command, program: &Program, pages: &mut Vec<Asset>) -> io::Result<()> {
    let section = program.section;
    let path = format!("share/man/man{section}/{}.{section}", name(command));
    pages.push(Asset { path: path.into(), content: page(command, program)? });
    below(command).try_for_each(|command| add(command, program, pages))
}

/// `ovlctl-network-create`.
fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn page(command: &Command, program: &Program) -> io::Result<Vec<u8>> {
    let whole = command.get_name() == program.command.get_name();
    let man = Man::new(with_usage(command.clone()))
        .title(name(command))
        .section(program.section)
        .source(format!("ovl {}", ovl_agent::VERSION))
        .manual("ovl");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    let AfterHelp { more, exit_codes } = AfterHelp::of(command);
    if !more.is_empty() {
        let mut roff = Roff::new();
        roff.control("PP", []).text([roman(more)]);
        roff.to_writer(&mut page)?;
    }
    man.render_options_section(&mut page)?;
    if below(command).next().is_some() {
        man.render_subcommands_section(&mut page)?;
    }
    if whole {
        pairs("EXIT STATUS", exit_codes).to_writer(&mut page)?;
        pairs("ENVIRONMENT", program.variables.iter().copied()).to_writer(&mut page)?;
        pairs("FILES", program.files.iter().copied()).to_writer(&mut page)?;
    }
    see_also(command, program).to_writer(&mut page)?;
    Ok(page)
}

/// As `--help` has it: what must be given by name, the rest as `[OPTIONS]`.
fn with_usage(mut command: Command) -> Command {
    let usage = command.render_usage().to_string();
    command.override_usage(usage.trim_start_matches("Usage: ").to_owned())
}

/// A section of names, each with what it means.
fn pairs<T: Into<String>>(title: &str, pairs: impl IntoIterator<Item = (T, T)>) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    for (name, meaning) in pairs {
        roff.control("TP", []).text([bold(name)]).text([roman(meaning)]);
    }
    roff
}

/// The other program, and the program whose command this is.
fn see_also(command: &Command, program: &Program) -> Roff {
    let mut names = Vec::new();
    if name(command) != "ovl-agent" {
        names.push(("ovl-agent", "8"));
    }
    if name(command) != "ovlctl" {
        names.push(("ovlctl", "1"));
    }
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    let mut line = Vec::new();
    for (at, (name, section)) in names.iter().enumerate() {
        if at > 0 {
            line.push(roman(", "));
        }
        line.extend([bold(*name), roman(format!("({section})"))]);
    }
    if name(command) == program.command.get_name() {
        line.push(roman(", /usr/share/doc/ovl/"));
    }
    roff.text(line);
    roff
}
