//! What a shell completes on the tab key.
use clap_complete::{Shell, generate};

use crate::Asset;
use crate::program::Program;

/// For each shell of Debian's the file that it looks for.
pub(crate) fn all(program: &Program) -> Vec<Asset> {
    let name = program.command.get_name();
    [
        (Shell::Bash, format!("share/bash-completion/completions/{name}")),
        (Shell::Zsh, format!("share/zsh/vendor-completions/_{name}")),
        (Shell::Fish, format!("share/fish/vendor_completions.d/{name}.fish")),
    ]
    .into_iter()
    .map(|(shell, path)| {
        let mut content = Vec::new();
        generate(shell, &mut program.command.clone(), name, &mut content);
        Asset { path: path.into(), content }
    })
    .collect()
}
