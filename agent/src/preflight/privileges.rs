//! May this process change the network?
use super::Report;

/// Capability numbers of linux/capability.h, and what each is needed for.
const NEEDED: [(u32, &str, &str); 2] = [
    (12, "CAP_NET_ADMIN", "to make network devices"),
    (21, "CAP_SYS_ADMIN", "to enter the namespaces of containers"),
];

/// CAP_NET_RAW: for packet sockets. The overlay itself does without.
const NET_RAW: u32 = 13;

pub(super) fn check(capabilities: Option<u64>, report: &mut Report) {
    let Some(capabilities) = capabilities else {
        let todo = "see to it that /proc is mounted, and that the agent runs as root";
        report.warn("privileges", "cannot read the capabilities of this process", todo);
        return;
    };
    if capabilities & (1 << NET_RAW) == 0 {
        let seen = "this process lacks CAP_NET_RAW, so that traces and captures cannot be made";
        report.warn("privileges", seen, "run the agent as root, or grant this capability");
    }
    let missing: Vec<String> = NEEDED
        .iter()
        .filter(|(bit, ..)| capabilities & (1 << bit) == 0)
        .map(|(_, name, why)| format!("{name} ({why})"))
        .collect();
    if !missing.is_empty() {
        report.fail(
            "privileges",
            format!("this process lacks {}", missing.join(" and ")),
            "run the agent as root, or grant these capabilities",
        );
    }
}

/// The effective capabilities in the text of `/proc/self/status` (proc(5), `CapEff`).
pub(super) fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effective_capabilities_are_read() {
        let status =
            "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\nSeccomp:\t0\n";
        assert_eq!(effective(status), Some(0x1ff_ffff_ffff));
        assert_eq!(effective("CapEff:\tjunk\n"), None);
        assert_eq!(effective(""), None);
    }

    #[test]
    fn each_missing_capability_is_named() {
        let (net, sys) = (1 << 12, 1 << 21);
        for (capabilities, named) in [
            (net | sys | 1 << NET_RAW, &[][..]),
            (net | sys, &[]),
            (net, &["CAP_SYS_ADMIN"]),
            (sys, &["CAP_NET_ADMIN"]),
            (0, &["CAP_NET_ADMIN", "CAP_SYS_ADMIN"]),
        ] {
            let mut report = Report::default();
            check(Some(capabilities), &mut report);
            assert_eq!(report.failures.len(), usize::from(!named.is_empty()));
            for name in named {
                assert!(report.failures[0].seen.contains(name), "{report:?}");
            }
            // Raw packets are for looking only.
            let warned = usize::from(capabilities & (1 << NET_RAW) == 0);
            assert_eq!(report.warnings.len(), warned, "{report:?}");
        }
    }

    #[test]
    fn unknown_capabilities_only_warn() {
        let mut report = Report::default();
        check(None, &mut report);
        assert_eq!((report.failures.len(), report.warnings.len()), (0, 1));
    }
}
