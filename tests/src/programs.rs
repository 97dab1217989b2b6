//! Where the project's executables and the tools of `scripts/tools` are.
use std::env;
use std::path::{Path, PathBuf};

use crate::LabError;

/// Names the folder of `ovl-agent` and `ovlctl`; without it they are looked for beside the
/// executable that asks, or one folder above it (where cargo puts tests).
pub const BIN_DIR: &str = "OVL_BIN_DIR";

/// Where system programs are when a user's `PATH` leaves them out.
pub const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The folders that the lab takes programs from.
#[derive(Clone, Debug)]
pub struct Programs {
    bin: PathBuf,
    tools: PathBuf,
}

impl Programs {
    /// Finds the folder that holds both `ovl-agent` and `ovlctl`.
    ///
    /// # Errors
    /// [`LabError::NoProgram`] when there is none.
    pub fn find() -> Result<Self, LabError> {
        let candidates = bin_candidates();
        let bin = candidates
            .iter()
            .find(|folder| ["ovl-agent", "ovlctl"].iter().all(|name| folder.join(name).is_file()));
        let Some(bin) = bin else {
            return Err(LabError::NoProgram {
                program: "ovl-agent with ovlctl".to_owned(),
                searched: shown(&candidates),
                remedy: "build them with `cargo build --workspace`, or name their folder in OVL_BIN_DIR",
            });
        };
        Ok(Self { bin: bin.clone(), tools: tools_folder() })
    }

    /// The agent's executable.
    #[must_use]
    pub fn agent(&self) -> PathBuf {
        self.bin.join("ovl-agent")
    }

    /// The command line's executable.
    #[must_use]
    pub fn ovlctl(&self) -> PathBuf {
        self.bin.join("ovlctl")
    }

    /// The folder of what `scripts/tools` unpacks.
    #[must_use]
    pub fn tools(&self) -> &Path {
        &self.tools
    }

    /// A third-party program: from the tools folder, else from the `PATH`.
    ///
    /// # Errors
    /// [`LabError::NoProgram`].
    pub fn tool(&self, name: &str) -> Result<PathBuf, LabError> {
        let path = self.search_path();
        path.split(':')
            .map(|folder| Path::new(folder).join(name))
            .find(|file| file.is_file())
            .ok_or_else(|| LabError::NoProgram {
                program: name.to_owned(),
                searched: path.clone(),
                remedy: "`scripts/tools` installs what the lab needs",
            })
    }

    /// `PATH` inside the lab's hosts: the project's own programs first.
    #[must_use]
    pub fn search_path(&self) -> String {
        let own = format!("{}:{}", self.bin.display(), self.tools.display());
        match env::var("PATH") {
            Ok(path) if !path.is_empty() => format!("{own}:{path}:{SYSTEM_PATH}"),
            Ok(_) | Err(_) => format!("{own}:{SYSTEM_PATH}"),
        }
    }
}

fn bin_candidates() -> Vec<PathBuf> {
    if let Some(folder) = env::var_os(BIN_DIR) {
        return vec![PathBuf::from(folder)];
    }
    let Ok(own) = env::current_exe() else {
        return Vec::new();
    };
    own.ancestors().skip(1).take(2).map(Path::to_owned).collect()
}

fn tools_folder() -> PathBuf {
    match env::var_os("OVL_TOOLS_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("tools"),
    }
}

fn shown(folders: &[PathBuf]) -> String {
    let names: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
    names.join(", ")
}
