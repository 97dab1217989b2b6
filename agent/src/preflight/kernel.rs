//! Is the kernel new enough?
use super::Report;

/// The oldest kernel, major and minor, that has all of what the data plane asks of VXLAN.
const OLDEST: (u32, u32) = (3, 16);

pub(super) fn check(release: &str, report: &mut Report) {
    match version(release) {
        Some(version) if version >= OLDEST => {}
        Some(_) => report.fail(
            "kernel",
            format!("this is Linux {release}"),
            format!("run Linux {}.{} or later", OLDEST.0, OLDEST.1),
        ),
        None => report.warn(
            "kernel",
            format!("cannot tell the version from the release `{}`", release.escape_debug()),
            format!("see to it that it is Linux {}.{} or later", OLDEST.0, OLDEST.1),
        ),
    }
}

/// Major and minor version of a release as `uname -r` prints it.
pub(crate) fn version(release: &str) -> Option<(u32, u32)> {
    let (major, rest) = release.split_once('.')?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some((number(major)?, number(&rest[..end])?))
}

/// Digits only: `+3` is no version.
fn number(digits: &str) -> Option<u32> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_all_shapes_are_read() {
        for (release, expected) in [
            ("6.1.0-18-amd64", Some((6, 1))),
            ("3.16", Some((3, 16))),
            ("4.19.0+", Some((4, 19))),
            ("5.10-rc1", Some((5, 10))),
            ("6.18.44-fc-v657", Some((6, 18))),
            ("5.15.153.1-microsoft-standard-WSL2", Some((5, 15))),
            ("3.10.0-1160.el7.x86_64", Some((3, 10))),
            ("10.0", Some((10, 0))),
            ("6", None),
            ("6.", None),
            (".1", None),
            ("+6.1", None),
            ("v6.1", None),
            ("99999999999.1", None),
            ("", None),
            ("junk", None),
        ] {
            assert_eq!(version(release), expected, "{release:?}");
        }
    }

    #[test]
    fn an_old_kernel_fails_and_an_unknown_one_only_warns() {
        for (release, failures, warnings) in
            [("3.16.0", 0, 0), ("3.15.10", 1, 0), ("2.6.32", 1, 0), ("4.4", 0, 0), ("?\n", 0, 1)]
        {
            let mut report = Report::default();
            check(release, &mut report);
            let counts = (report.failures.len(), report.warnings.len());
            assert_eq!(counts, (failures, warnings), "{release:?}: {report:?}");
        }
    }
}
