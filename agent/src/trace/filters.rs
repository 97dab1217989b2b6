//! Which rule of a packet filter it is that loses packets: the doctor of that host knows.

use std::time::Duration;

use super::hops::Judged;
use super::points::Spot;
use crate::control::api::doctor::{Examination, Finding, Verdict};
use crate::doctor::{self, Only};
use crate::driver::Agent;

/// What it is asked for.
const CHECK: &str = "firewall.vxlan";

/// How long it may take. Without it the trace only says that it is a filter, most likely.
const WITHIN: Duration = Duration::from_secs(5);

/// A filter of a host stands between two spots: on its own, or on the other.
pub(crate) fn is_far(spot: Spot) -> Option<bool> {
    match spot {
        Spot::UnderlayOut | Spot::DeviceIn => Some(false),
        Spot::FarDeviceIn | Spot::FarUnderlayOut => Some(true),
        Spot::FromOut
        | Spot::DeviceOut
        | Spot::FarUnderlayIn
        | Spot::ToIn
        | Spot::ToOut
        | Spot::FarDeviceOut
        | Spot::UnderlayIn
        | Spot::FromIn => None,
    }
}

/// What the doctor of a host finds wrong with its packet filter; `host`: another one.
pub(crate) async fn examine(agent: &Agent, host: Option<&str>) -> Option<Finding> {
    let examination = async {
        match host {
            Some(host) => {
                let target = format!("/v1/doctor?only={CHECK}");
                agent.peer_get::<Examination>(host, &target, WITHIN).await.ok()
            }
            None => doctor::examine(agent, &Only::named([CHECK]).ok()?).await.ok(),
        }
    };
    let examination = tokio::time::timeout(WITHIN, examination).await.ok()??;
    let is_it = |finding: &Finding| finding.check == CHECK && finding.verdict == Verdict::Fail;
    examination.findings.into_iter().find(is_it)
}

/// Names the rule, in place of what was likely. `place`: what was seen.
pub(crate) fn name(judged: &mut Judged, place: &str, host: &str, finding: Finding) {
    let rule = finding.summary.replacen("this host", host, 1);
    judged.hop.says = format!("{place}: {rule}");
    judged.hop.evidence.extend(finding.evidence);
    if let Some(fix) = finding.fix {
        judged.hop.fix = Some(format!("on {host}: {fix}"));
    }
}
