//! Does the kernel account for the memory of containers, as limits on it need?

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Check, Group, Look, blocking};
use crate::control::api::doctor::Finding;

const ACCOUNTING: &str = "memory.accounting";

const FIX: &str = "add cgroup_enable=memory swapaccount=1 to what stands in GRUB_CMDLINE_LINUX in \
                   /etc/default/grub, then update-grub (grub2-mkconfig -o /boot/grub2/grub.cfg) and reboot";

pub(super) const GROUP: Group = Group {
    checks: &[Check {
        id: ACCOUNTING,
        title: "memory accounting",
        looks_at: "the memory controller of control groups, and whether it counts swap",
        why: "without it `docker run --memory` limits nothing, and one container can take the host down",
    }],
    within: Duration::from_secs(5),
    look: Look::Host(|_| {
        Box::pin(async {
            let judged = blocking(|| judge(&Facts::gather())).await;
            vec![judged.unwrap_or_else(|why| Finding::unchecked(ACCOUNTING, why))]
        })
    }),
};

/// What the host says of control groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Facts {
    /// `cgroup.controllers` of the root of version 2, where that is mounted alone.
    unified: Option<String>,
    /// `/proc/cgroups`.
    table: Option<String>,
    /// Swap is counted; none: that cannot be seen.
    swap: Option<bool>,
}

impl Facts {
    fn gather() -> Facts {
        let unified = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").ok();
        let swap = match &unified {
            Some(_) => own_group().and_then(|group| {
                let has = |file: &str| group.join(file).exists();
                has("memory.max").then(|| has("memory.swap.max"))
            }),
            None => memory_mount().map(|mount| mount.join("memory.memsw.limit_in_bytes").exists()),
        };
        Facts { unified, table: fs::read_to_string("/proc/cgroups").ok(), swap }
    }
}

/// This process's group of version 2.
fn own_group() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new("/sys/fs/cgroup").join(path))
}

/// Where the memory controller of version 1 is mounted.
fn memory_mount() -> Option<PathBuf> {
    mount_of(&fs::read_to_string("/proc/self/mountinfo").ok()?)
}

/// The same, out of mountinfo(5): fields up to ` - `, then type, source and options.
fn mount_of(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let (kind, options) = (kind.next()?, kind.nth(1)?);
        let memory = kind == "cgroup" && options.split(',').any(|option| option == "memory");
        memory.then(|| place.split(' ').nth(4).map(PathBuf::from))?
    })
}

fn judge(facts: &Facts) -> Finding {
    let enabled = match (&facts.unified, &facts.table) {
        (Some(controllers), _) => {
            Some(controllers.split_whitespace().any(|controller| controller == "memory"))
        }
        (None, Some(table)) => Some(is_enabled(table)),
        (None, None) => None,
    };
    match (enabled, facts.swap) {
        (None, _) => {
            Finding::unchecked(ACCOUNTING, "the kernel does not say what control groups it has")
        }
        (Some(false), _) => {
            let summary = "the memory of containers is not accounted for: limits on it do nothing";
            Finding::warn(ACCOUNTING, summary)
                .seen("the memory controller of control groups is off")
                .mend(FIX)
        }
        (Some(true), Some(false)) => {
            let summary =
                "swap of containers is not accounted for: what exceeds a limit is swapped out";
            Finding::warn(ACCOUNTING, summary)
                .seen("the memory controller does not count swap")
                .mend(FIX)
        }
        (Some(true), Some(true)) => {
            Finding::ok(ACCOUNTING, "memory and swap of containers are accounted for")
        }
        (Some(true), None) => Finding::ok(ACCOUNTING, "memory of containers is accounted for"),
    }
}

/// The last column of the row `memory` in `/proc/cgroups` (cgroups(7)).
fn is_enabled(table: &str) -> bool {
    table.lines().any(|line| {
        let mut fields = line.split_whitespace();
        fields.next() == Some("memory") && fields.nth(2) == Some("1")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::doctor::Verdict;

    const TABLE: &str =
        "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t1\t1\nmemory\t4\t18\t1\n";

    #[test]
    fn both_versions_of_control_groups_are_read() {
        let off = TABLE.replace("18\t1", "18\t0");
        for (unified, table, swap, verdict) in [
            (None, Some(TABLE), Some(true), Verdict::Ok),
            (None, Some(TABLE), None, Verdict::Ok),
            (None, Some(TABLE), Some(false), Verdict::Warn),
            (None, Some(off.as_str()), None, Verdict::Warn),
            (None, Some(""), None, Verdict::Warn),
            (None, None, None, Verdict::Unchecked),
            (Some("cpuset cpu io memory pids\n"), Some(TABLE), Some(true), Verdict::Ok),
            (Some("cpuset cpu io memory pids\n"), None, Some(false), Verdict::Warn),
            // The table of version 1 does not count where version 2 is mounted.
            (Some("cpuset cpu io pids\n"), Some(TABLE), None, Verdict::Warn),
        ] {
            let facts = Facts {
                unified: unified.map(str::to_owned),
                table: table.map(str::to_owned),
                swap,
            };
            let found = judge(&facts);
            assert_eq!(found.verdict, verdict, "{facts:?}: {found:?}");
            assert_eq!(found.fix.is_some(), verdict == Verdict::Warn, "{found:?}");
        }
    }

    #[test]
    fn the_mount_of_the_memory_controller_is_found() {
        let mounts = "\
            31 23 0:27 / /sys/fs/cgroup rw,relatime shared:9 - tmpfs tmpfs rw,mode=755\n\
            32 31 0:28 / /sys/fs/cgroup/cpu rw,relatime shared:10 - cgroup cgroup rw,cpu\n\
            junk\n\
            35 31 0:31 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";
        assert_eq!(mount_of(mounts), Some("/sys/fs/cgroup/memory".into()));
        assert_eq!(mount_of(""), None);
        assert_eq!(mount_of("1 - cgroup cgroup rw,memory\n"), None);
    }
}
