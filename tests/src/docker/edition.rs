//! Which Docker: the machine's own, or one that is unpacked in a folder.
use std::env;
use std::path::{Path, PathBuf};

use crate::LabError;
use crate::programs::Programs;

/// Names the folder of another Docker than the machine's, as `scripts/tools dockers` unpacks them:
/// with `usr/sbin/dockerd`, `usr/bin/docker` and `usr/bin/containerd`. runc is the machine's.
pub const EDITION: &str = "OVL_TEST_DOCKER";

/// The client that comes with the daemon.
const PACKAGED_CLIENT: &str = "/usr/bin/docker";

/// The machine's Docker, or one that is unpacked in a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edition(Option<PathBuf>);

impl Edition {
    /// What [`EDITION`] names, else the machine's.
    #[must_use]
    pub fn from_env() -> Self {
        Self(env::var_os(EDITION).filter(|folder| !folder.is_empty()).map(PathBuf::from))
    }

    /// The machine's.
    #[must_use]
    pub fn machine() -> Self {
        Self(None)
    }

    /// The newest that `scripts/tools dockers` has unpacked for a release, such as 28.
    #[must_use]
    pub fn unpacked(release: &str) -> Option<Self> {
        let tools = Programs::find().ok()?.tools().to_owned();
        let mut found = crate::folder::subfolders(&tools);
        let prefix = format!("docker-{release}.");
        found.retain(|folder| {
            let name = folder.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(&prefix))
        });
        found.pop().map(|folder| Self(Some(folder)))
    }

    /// `PATH` of its daemon: its own containerd and helpers first.
    ///
    /// # Errors
    /// [`LabError::NoProgram`].
    pub(super) fn search_path(&self) -> Result<String, LabError> {
        let path = Programs::find()?.search_path();
        Ok(match &self.0 {
            Some(root) => format!("{0}/usr/sbin:{0}/usr/bin:{path}", root.display()),
            None => path,
        })
    }

    /// Path of its dockerd.
    ///
    /// # Errors
    /// [`LabError::NoProgram`].
    pub(super) fn server(&self) -> Result<String, LabError> {
        let Some(root) = &self.0 else {
            return Ok(Programs::find()?.tool("dockerd")?.display().to_string());
        };
        let dockerd = root.join("usr/sbin/dockerd");
        if dockerd.is_file() {
            return Ok(dockerd.display().to_string());
        }
        Err(LabError::NoProgram {
            program: "dockerd".to_owned(),
            searched: dockerd.display().to_string(),
            remedy: "`scripts/tools dockers` unpacks them, OVL_TEST_DOCKER names the folder of one",
        })
    }

    /// Its command line.
    pub(super) fn client(&self) -> String {
        match &self.0 {
            Some(root) => root.join("usr/bin/docker").display().to_string(),
            // Another client on the PATH may speak a later version than the machine's daemon.
            None if Path::new(PACKAGED_CLIENT).is_file() => PACKAGED_CLIENT.to_owned(),
            None => "docker".to_owned(),
        }
    }
}
