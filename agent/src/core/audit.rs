//! The kernel against what it should be, for whoever asks: the look itself is the driver's.

use ovl_vxlan::{Comparison, Difference, Report};

use super::{Action, Core, Refusal, RequestId, Response};
use crate::control::api::audit as api;

/// What a look at the kernel found.
#[derive(Debug)]
pub struct Inspection {
    /// Version of the desired state that it was held against.
    pub version: u64,
    /// What was found.
    pub found: Comparison,
    /// If it was put right: what that did, and what a second look found.
    pub repair: Option<(Report, Comparison)>,
}

impl Core {
    pub(super) fn inspect(&mut self, request: RequestId, repair: bool) {
        self.actions.push_back(Action::Inspect { request, repair });
    }

    pub(super) fn inspected(&mut self, request: RequestId, result: Result<Inspection, Refusal>) {
        let Inspection { version, found, repair } = match result {
            Ok(inspection) => inspection,
            Err(refusal) => return self.reply(request, Err(refusal)),
        };
        let view = |core: &Core, list: &[Difference]| {
            list.iter().map(|difference| core.difference_view(difference)).collect()
        };
        // Before the pass is taken in: it may end endpoints that are named here.
        let mut audit = api::Audit {
            networks: found.networks,
            rows: found.rows,
            endpoints: found.endpoints,
            differences: view(self, &found.differences),
            left_out: found.left_out,
            repair: None,
        };
        if let Some((report, left)) = repair {
            audit.repair = Some(api::Repair {
                done: report.changes.values().sum(),
                failures: failures(&report),
                left: view(self, &left.differences),
            });
            self.applied(version, true, report);
        }
        self.reply(request, Ok(Response::Audit(audit)));
    }

    fn difference_view(&self, difference: &Difference) -> api::Difference {
        let Difference { kind, vni, endpoint, netns, device, what, want, have } =
            difference.clone();
        let of_vni = |vni| self.networks.values().find(|network| network.vni.value() == vni);
        let name = |id: String| {
            let named = self.local.get(&id).and_then(|local| local.names.first().cloned());
            named.unwrap_or_else(|| id.chars().take(12).collect())
        };
        api::Difference {
            kind: kind.name().to_owned(),
            network: vni.and_then(of_vni).map(|network| network.name.to_string()),
            vni,
            endpoint: endpoint.map(name),
            netns,
            device,
            what: Some(what).filter(|what| !what.is_empty()),
            want,
            have,
        }
    }
}

fn failures(report: &Report) -> Vec<String> {
    let networks =
        report.failed_networks.iter().map(|(vni, e)| format!("VNI {vni}: {}", crate::chain(e)));
    let endpoints = report
        .failed_endpoints
        .iter()
        .map(|((vni, id), e)| format!("endpoint {id} of VNI {vni}: {}", crate::chain(e)));
    networks.chain(endpoints).collect()
}

#[cfg(test)]
mod tests {
    use ovl_vxlan::DifferenceKind;

    #[test]
    fn every_kind_of_difference_is_in_the_documents_and_no_other() {
        let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/audit.md"));
        let rows = page.lines().filter(|line| line.starts_with("| `"));
        let cells = rows.filter_map(|row| row.split('|').nth(1));
        let mut listed: Vec<&str> =
            cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        let mut known: Vec<&str> = DifferenceKind::ALL.iter().map(|kind| kind.name()).collect();
        listed.sort_unstable();
        known.sort_unstable();
        assert_eq!(listed, known);
    }
}
