//! Which Debian a machine boots.
use std::path::PathBuf;

use crate::LabError;
use crate::programs::Programs;

/// A root that `scripts/tools system` made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// Debian 12: systemd 252, Docker 20.10.
    Bookworm,
    /// Debian 13: systemd 257, Docker 26.1.
    Trixie,
}

impl Image {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Bookworm, Self::Trixie];

    /// Debian's own name of it.
    #[must_use]
    pub fn suite(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    /// The root's folder.
    ///
    /// # Errors
    /// [`LabError::NoProgram`].
    pub(super) fn folder(self) -> Result<PathBuf, LabError> {
        let folder = Programs::find()?.tools().join(format!("machine-{}", self.suite()));
        if folder.join("usr/lib/systemd/systemd").exists() {
            return Ok(folder);
        }
        Err(LabError::NoProgram {
            program: format!("a root of Debian's {}", self.suite()),
            searched: folder.display().to_string(),
            remedy: "`scripts/tools system` makes it",
        })
    }
}
