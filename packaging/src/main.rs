//! Makes what comes with the programs and follows from them: man pages, completions, the example
//! of a configuration and the reference of all settings.
//!
//! All of it is made from the command lines and from the agent's keys, so none can lag behind. Two
//! files are in the repository as well, for readers: [`REFERENCE`] and [`EXAMPLE`]; a test holds
//! them against what is made now. Everything is made in memory first, as [`Asset`]s.
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use clap::{Parser, Subcommand};

mod completions;
mod example;
mod man;
mod program;
mod reference;
mod words;

#[cfg(test)]
mod tests;

/// The reference, from the root of the repository.
const REFERENCE: &str = "docs/configuration.md";

/// The example of a configuration, from the root of the repository.
const EXAMPLE: &str = "packaging/agent.toml";

/// A file to write.
struct Asset {
    /// Below the folder that is asked for.
    path: PathBuf,
    content: Vec<u8>,
}

#[derive(Parser)]
#[command(name = "assets", about = "Makes what comes with the programs and follows from them")]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Write man pages and completions, laid out as below /usr
    Install {
        /// The folder, which is made
        folder: PathBuf,
    },
    /// Write docs/configuration.md and packaging/agent.toml anew
    Renew,
}

fn main() -> ExitCode {
    let (folder, assets) = match Args::parse().what {
        What::Install { folder } => (folder, installed()),
        What::Renew => (repository(), Ok(kept())),
    };
    let written = assets.and_then(|assets| {
        assets.iter().try_for_each(|asset| write(&folder.join(&asset.path), &asset.content))
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("assets: {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

/// What is installed below /usr.
fn installed() -> io::Result<Vec<Asset>> {
    let mut assets = Vec::new();
    for program in program::both() {
        assets.extend(man::pages(&program)?);
        assets.extend(completions::all(&program));
    }
    Ok(assets)
}

/// What is kept in the repository.
fn kept() -> Vec<Asset> {
    let asset = |path: &str, text: String| Asset { path: path.into(), content: text.into_bytes() };
    vec![asset(REFERENCE, reference::text()), asset(EXAMPLE, example::text())]
}

/// The root of the sources that this was built from.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, content)
}
