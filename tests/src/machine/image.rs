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
    /// Debian 12 as a provider's image is at its first boot, with cloud-init and without Docker.
    /// `scripts/tools droplet` makes it.
    Droplet,
}

impl Image {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bookworm, Self::Trixie, Self::Droplet];

    /// Debian's own name of it.
    #[must_use]
    pub fn suite(self) -> &'static str {
        match self {
            Self::Bookworm | Self::Droplet => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bookworm | Self::Trixie => self.suite(),
            Self::Droplet => "droplet",
        }
    }

    /// The root's folder.
    ///
    /// # Errors
    /// [`LabError::NoProgram`].
    pub(super) fn folder(self) -> Result<PathBuf, LabError> {
        let folder = Programs::find()?.tools().join(format!("machine-{}", self.name()));
        if folder.join("usr/lib/systemd/systemd").exists() {
            return Ok(folder);
        }
        Err(LabError::NoProgram {
            program: format!("the root of machines with {}", self.name()),
            searched: folder.display().to_string(),
            remedy: "`scripts/tools system droplet` makes it",
        })
    }
}
