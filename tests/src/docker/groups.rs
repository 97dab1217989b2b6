//! Control groups of a lab's containers: they outlive processes and namespaces.
use std::fs;
use std::path::{Path, PathBuf};

use crate::Host;
use crate::folder::{self, Folder};

const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// Removes the control groups of a lab's containers.
/// Best effort: one that is busy is no reason to keep the lab.
pub fn remove_control_groups(lab: &Folder) {
    remove_all(&prefix(lab));
}

/// Those of one host, which has ended.
pub(crate) fn remove_of(host: &Host) {
    remove_all(of(host).trim_start_matches('/'));
}

/// The control group that a host's dockerd makes those of its containers in.
pub(super) fn of(host: &Host) -> String {
    format!("/{}{}.", prefix(host.lab()), host.name())
}

/// Those whose names begin so.
pub(crate) fn remove_all(prefix: &str) {
    let controllers = folder::subfolders(Path::new(CONTROL_GROUPS));
    let roots = controllers.into_iter().chain([PathBuf::from(CONTROL_GROUPS)]);
    for group in roots.flat_map(|root| folder::subfolders(&root)) {
        let ours = group.file_name().and_then(|name| name.to_str());
        if ours.is_some_and(|name| name.starts_with(prefix)) {
            remove_group(&group);
        }
    }
}

fn remove_group(group: &Path) {
    for child in folder::subfolders(group) {
        remove_group(&child);
    }
    // The files in it are the kernel's: rmdir takes them along.
    let _ = fs::remove_dir(group);
}

/// How the names of a lab's begin.
pub(crate) fn prefix(lab: &Folder) -> String {
    let name = lab.path().file_name().and_then(|name| name.to_str()).unwrap_or_default();
    // No lab's or host's name holds a dot: one's prefix is never the start of another's.
    format!("ovl-lab.{name}.")
}
