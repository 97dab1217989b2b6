//! What the kernel should hold, and what becomes of a pass over it.

use std::collections::BTreeMap;

use ovl_gossip::MemberState;
use ovl_vxlan::{Desired, DesiredNetwork, LocalEndpoint, Remote, Report};

use super::diagnosis::Trouble;
use super::local::{Origin, Phase};
use super::{Core, Kind, Notice, Refusal, RequestId, Response, VXLAN_OVERHEAD};
use crate::probe::{PROBE_VNI, probe_mac};

impl Core {
    /// What the kernel should hold, whole.
    pub fn desired(&self) -> Desired {
        let mut desired = Desired::default();
        for local in self.local.values().filter(|local| local.wanted()) {
            let (Some(network), Some(address), Some(home)) =
                (self.networks.get(&local.network), local.address, local.home())
            else {
                continue;
            };
            let vni = network.vni.value();
            let wanted = desired.networks.entry(vni).or_insert_with(|| DesiredNetwork {
                name: network.name.to_string(),
                vni,
                local: self.me.vtep,
                port: self.me.vxlan_port,
                mtu: self.mtu(network),
                endpoints: BTreeMap::new(),
                remotes: self.remotes.rows(network.id.0),
                settled: self.settled,
            });
            for own in local.addresses() {
                wanted.remotes.remove(&own);
            }
            let address6 = local.address6;
            wanted.endpoints.insert(
                local.id.clone(),
                LocalEndpoint { mac: local.mac, address, address6, home },
            );
        }
        self.add_probe_network(&mut desired);
        desired
    }

    /// A network without endpoints that every host is on, as soon as there are others: over it agents
    /// probe what the kernel and the underlay do to VXLAN, in the way of any other network's frames.
    fn add_probe_network(&self, desired: &mut Desired) {
        let there = self.remotes.members().filter(|(_, _, state)| *state != MemberState::Left);
        let remotes: BTreeMap<_, _> = there
            .map(|(_, vtep, _)| (vtep.into(), Remote { mac: probe_mac(vtep), vtep }))
            .collect();
        if remotes.is_empty() {
            return;
        }
        desired.networks.entry(PROBE_VNI).or_insert_with(|| DesiredNetwork {
            name: "(probes of the underlay)".to_owned(),
            vni: PROBE_VNI,
            local: self.me.vtep,
            port: self.me.vxlan_port,
            mtu: self.me.underlay_mtu.saturating_sub(VXLAN_OVERHEAD),
            endpoints: BTreeMap::new(),
            remotes,
            settled: self.settled,
        });
    }

    pub(super) fn applied(&mut self, version: u64, audit: bool, report: Report) {
        self.passed = Some(self.passed == Some(true) || report.is_ok());
        self.note_repairs(version, audit, &report);
        self.health.dataplane = report
            .failed_networks
            .iter()
            .map(|(vni, e)| Trouble::of(format!("VNI {vni}"), e))
            .collect();
        let failed = |id: &str| {
            report.failed_endpoints.iter().find(|((_, e), _)| e == id).map(|(_, error)| error)
        };
        let phases: Vec<_> = self.local.values().map(|l| (l.id.clone(), l.phase.clone())).collect();
        for (id, phase) in phases {
            match phase {
                Phase::Programming(request, since) if since <= version => {
                    let gone = report.gone.iter().any(|(_, gone)| *gone == id);
                    let error =
                        self.why_not(&id, &report).or(gone.then(|| "its namespace is gone".into()));
                    self.programmed(&id, request, error);
                }
                // What could not be removed keeps its address, and is tried again by the next pass.
                Phase::Leaving(request, since) if since <= version && failed(&id).is_none() => {
                    self.removed(&id, request);
                }
                Phase::Clearing(since) if since <= version => {
                    self.forsake(&id, "left behind by a crash");
                }
                Phase::Up => self.serve(&id, version),
                Phase::Programming(..)
                | Phase::Leaving(..)
                | Phase::Clearing(_)
                | Phase::Leasing(_)
                | Phase::Created => {}
            }
            if let Some(error) = failed(&id) {
                self.health.dataplane.push(Trouble::of(format!("endpoint {id}"), error));
            }
        }
        self.tell_failures();
        for (_, id) in &report.gone {
            self.lost(id, "its sandbox is gone");
        }
    }

    /// What an audit had to change in a kernel that was as it should be, others have changed. A pass
    /// that brought something new as well cannot tell the two apart.
    fn note_repairs(&mut self, version: u64, audit: bool, report: &Report) {
        let before = self.kernel_has.replace((version, report.is_ok()));
        let count: usize = report.changes.values().sum();
        if !audit || before.is_none_or(|(had, _)| had != version) {
            return;
        }
        self.health.drift = count as u64;
        if count == 0 {
            return;
        }
        self.health.repaired += count as u64;
        self.health.repaired_at = Some(self.now);
        let things = if count == 1 { "1 thing was" } else { &format!("{count} things were") };
        let summary = format!("the kernel was not as it should be: {things} put right");
        let why = match before {
            Some((_, false)) => "an earlier try had failed",
            Some((_, true)) | None => "somebody else changed it",
        };
        let notice = Notice::new(Kind::KernelRepaired, summary).count(count).because(why);
        self.tell(notice.details(report.done.iter().map(ToString::to_string)));
    }

    /// Why the endpoint is not in the kernel. What ails its network says more than what follows
    /// from that for the endpoint.
    fn why_not(&self, id: &str, report: &Report) -> Option<String> {
        let vni = self.networks.get(&self.local.get(id)?.network)?.vni.value();
        let own = report.failed_endpoints.get(&(vni, id.to_owned()))?;
        Some(crate::chain(report.failed_networks.get(&vni).unwrap_or(own)))
    }

    /// Its sandbox has the resolver's address now.
    fn serve(&mut self, id: &str, version: u64) {
        let Some(local) = self.local.get_mut(id) else {
            return;
        };
        if local.serve_after.is_some_and(|since| since <= version) {
            local.serve_after = None;
            self.publish(id);
        }
    }

    fn programmed(&mut self, id: &str, request: RequestId, error: Option<String>) {
        let Some(local) = self.local.get_mut(id) else {
            return;
        };
        let docker = local.origin == Origin::Docker;
        if let Some(error) = error {
            let what = local.names.first().cloned().unwrap_or_else(|| id.to_owned());
            let refusal = Refusal::unavailable(format!("\"{what}\" was not attached: {error}"));
            if docker {
                local.phase = Phase::Created;
                local.ifname = None;
                self.remotes.joining.remove(id);
                self.touch_desired();
                return self.reply(request, Err(refusal));
            }
            self.leave(id, None, "the kernel did not take it");
            return self.reply(request, Err(refusal));
        }
        local.phase = Phase::Up;
        self.touch_state();
        if docker {
            self.hand_over(id, request);
        } else {
            self.publish(id);
            let endpoint = self.endpoint_view(id);
            self.reply(
                request,
                endpoint
                    .map(Response::Endpoint)
                    .ok_or_else(|| Refusal::not_found("the endpoint is gone")),
            );
        }
    }

    fn removed(&mut self, id: &str, request: Option<RequestId>) {
        let Some(local) = self.local.remove(id) else {
            return;
        };
        self.touch_state();
        // Docker gives its addresses back itself, perhaps while the interface was still there.
        let ours = local.origin == Origin::Attached || local.forsaken;
        let docker = &mut self.docker.leaving_addresses;
        let free: Vec<_> = local
            .addresses()
            .filter(|address| docker.remove(&(local.network, *address)) || ours)
            .collect();
        if let Some((last, others)) = free.split_last() {
            for address in others {
                self.release(local.network, *address, None);
            }
            // Answered when the address is free, so that the network can be removed right after.
            self.release(local.network, *last, request);
        } else {
            self.released(request);
        }
        self.unpark();
    }
}
