//! What a shell completes on the tab key.
use clap_complete::env::{Bash, EnvCompleter, Fish, Zsh};
use clap_complete::{Shell, generate};

use crate::Asset;
use crate::program::Program;

/// For each shell of Debian's the file that it looks for. ovlctl is asked itself, as it knows hosts,
/// networks and endpoints; the agent's words are all in the file.
pub(crate) fn all(program: &Program) -> Vec<Asset> {
    let name = program.command.get_name();
    let shells: [(Shell, &dyn EnvCompleter, String); 3] = [
        (Shell::Bash, &Bash, format!("share/bash-completion/completions/{name}")),
        (Shell::Zsh, &Zsh, format!("share/zsh/vendor-completions/_{name}")),
        (Shell::Fish, &Fish, format!("share/fish/vendor_completions.d/{name}.fish")),
    ];
    shells
        .into_iter()
        .map(|(shell, asking, path)| {
            let mut content = Vec::new();
            if name == "ovlctl" {
                let variable = ovlctl::COMPLETE_VARIABLE;
                asking
                    .write_registration(variable, name, name, name, &mut content)
                    // Memory takes all.
                    .unwrap_or_default();
            } else {
                generate(shell, &mut program.command.clone(), name, &mut content);
            }
            Asset { path: path.into(), content }
        })
        .collect()
}
