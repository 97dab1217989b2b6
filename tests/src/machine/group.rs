//! A machine's control group: of its own, or two machines' systemds would fight for the root.
use std::path::PathBuf;

use crate::docker::groups;
use crate::folder::Folder;
use crate::{LabError, NodeName};

const MOUNTS: &str = "/proc/self/mountinfo";

/// Its path, which is made at the boot.
///
/// # Errors
/// [`LabError::File`], [`LabError::BadAnswer`] on a machine without control groups of version 2.
pub(super) fn of(lab: &Folder, name: &NodeName) -> Result<PathBuf, LabError> {
    let mounts =
        std::fs::read_to_string(MOUNTS).map_err(crate::folder::failed("read", MOUNTS.as_ref()))?;
    let root = mount_point(&mounts).ok_or_else(|| LabError::BadAnswer {
        command: format!("cat {MOUNTS}"),
        answer: "no mount of type cgroup2".to_owned(),
    })?;
    Ok(root.join(name_of(lab, name)))
}

/// Removes it. Best effort, as for hosts.
pub(super) fn remove(lab: &Folder, name: &NodeName) {
    groups::remove_all(&name_of(lab, name));
}

/// Begins as those of the lab's hosts do, so that they are removed together.
fn name_of(lab: &Folder, name: &NodeName) -> String {
    format!("{}{name}.", groups::prefix(lab))
}

/// Where version 2 is mounted: /sys/fs/cgroup, or beside version 1 /sys/fs/cgroup/unified. A line
/// is `ID PARENT MAJOR:MINOR ROOT MOUNT-POINT OPTIONS … - TYPE SOURCE OPTIONS`.
fn mount_point(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ');
        let root = fields.nth(3)?;
        let point = fields.next()?;
        (kind.starts_with("cgroup2 ") && root == "/").then(|| PathBuf::from(point))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_is_found_alone_and_beside_version_1() {
        let alone = "24 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw";
        assert_eq!(mount_point(alone), Some(PathBuf::from("/sys/fs/cgroup")));
        let beside = "31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      40 30 0:36 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(mount_point(beside), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(mount_point("31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw"), None);
    }
}
