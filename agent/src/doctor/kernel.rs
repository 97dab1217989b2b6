//! Is the kernel new enough, and may the program that uses it do so?

use std::fs;
use std::time::Duration;

use super::{Check, Group, Host, Look, blocking};
use crate::control::api::doctor::{Finding, Verdict};
use crate::preflight::{self, Report};

const VERSION: &str = "kernel.version";
const PRIVILEGES: &str = "kernel.privileges";

pub(super) const GROUP: Group = Group {
    checks: &[
        Check {
            id: VERSION,
            title: "kernel version",
            looks_at: "the running kernel's release, against Linux 3.16",
            why: "older kernels lack parts of VXLAN that the data plane uses",
        },
        Check {
            id: PRIVILEGES,
            title: "privileges",
            looks_at: "the capabilities of the agent, or of this program where no agent runs",
            why: "devices cannot be made, nor containers entered, without them",
        },
    ],
    within: Duration::from_secs(5),
    look: Look::Host(|host| Box::pin(look(host))),
};

async fn look(host: Host) -> Vec<Finding> {
    let facts = blocking(|| {
        let release = nix::sys::utsname::uname().map(|name| name.release().to_owned());
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        (release.unwrap_or_default().to_string_lossy().into_owned(), status)
    });
    let (release, status) = match facts.await {
        Ok(facts) => facts,
        Err(why) => return [VERSION, PRIVILEGES].map(|id| Finding::unchecked(id, &why)).to_vec(),
    };
    let agent = host.status().is_some();
    let who = if agent { "the agent" } else { "this program" };
    let fine = format!("{who} may make devices and enter namespaces");
    let mut privileges = judged(PRIVILEGES, preflight::judge_privileges(&status), fine);
    if !agent && privileges.verdict == Verdict::Fail {
        // An agent may have what who asks has not.
        privileges = Finding::unchecked(PRIVILEGES, privileges.summary).mend("run it as root");
    }
    let version =
        judged(VERSION, preflight::judge_kernel(&release), format!("this is Linux {release}"));
    vec![version, privileges]
}

/// The first thing that is wrong by the report; else that it is fine.
fn judged(check: &str, report: Report, fine: String) -> Finding {
    let failure = report.failures.into_iter().map(|f| Finding::fail(check, f.seen).mend(f.todo));
    let warning =
        report.warnings.into_iter().map(|f| Finding::unchecked(check, f.seen).mend(f.todo));
    failure.chain(warning).next().unwrap_or_else(|| Finding::ok(check, fine))
}
