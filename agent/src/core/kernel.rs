//! What the kernel should hold, and what becomes of a pass over it.

use ovl_vxlan::{ApplyError, Desired, DesiredNetwork, LocalEndpoint, Report};

use super::local::{Origin, Phase};
use super::{Core, Refusal, RequestId, Response};

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
                endpoints: std::collections::BTreeMap::new(),
                remotes: self.remotes.rows(network.id.0),
                settled: self.settled,
            });
            wanted.remotes.remove(&address.addr());
            wanted
                .endpoints
                .insert(local.id.clone(), LocalEndpoint { mac: local.mac, address, home });
        }
        desired
    }

    pub(super) fn applied(&mut self, version: u64, audit: bool, report: Report) {
        if audit {
            self.health.repaired += report.changes.values().map(|n| *n as u64).sum::<u64>();
        }
        self.health.dataplane = report
            .failed_networks
            .iter()
            .map(|(vni, e)| format!("VNI {vni}: {}", crate::chain(e)))
            .collect();
        let failed = |id: &str| {
            report.failed_endpoints.iter().find(|((_, e), _)| e == id).map(|(_, error)| error)
        };
        for (id, phase) in
            self.local.values().map(|l| (l.id.clone(), l.phase.clone())).collect::<Vec<_>>()
        {
            match phase {
                Phase::Programming(request, since) if since <= version => {
                    let vni = self
                        .local
                        .get(&id)
                        .and_then(|l| self.networks.get(&l.network))
                        .map(|n| n.vni.value());
                    // What ails the network says more than what follows from it for the endpoint.
                    let of_network = || report.failed_networks.get(&vni?);
                    let error = failed(&id).map(|error| of_network().unwrap_or(error));
                    self.programmed(&id, request, error);
                }
                Phase::Leaving(request, since) if since <= version => self.removed(&id, request),
                Phase::Up => {
                    if let Some(error) = failed(&id) {
                        self.health
                            .dataplane
                            .push(format!("endpoint {id}: {}", crate::chain(error)));
                    }
                    self.serve(&id, version);
                }
                Phase::Programming(..)
                | Phase::Leaving(..)
                | Phase::Leasing(_)
                | Phase::Created => {}
            }
        }
        for (_, id) in &report.gone {
            self.lost(id, "its sandbox is gone");
        }
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

    fn programmed(&mut self, id: &str, request: RequestId, error: Option<&ApplyError>) {
        let Some(local) = self.local.get_mut(id) else {
            return;
        };
        let docker = local.origin == Origin::Docker;
        if let Some(error) = error {
            let what = local.names.first().cloned().unwrap_or_else(|| id.to_owned());
            let refusal = Refusal::unavailable(format!(
                "\"{what}\" was not attached: {}",
                crate::chain(error)
            ));
            if docker {
                local.phase = Phase::Created;
                local.ifname = None;
                self.touch_desired();
                return self.reply(request, Err(refusal));
            }
            self.leave(id, None);
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
        match (local.origin, local.address) {
            // Answered when the address is free, so that the network can be removed right after.
            (Origin::Attached, Some(address)) => {
                self.release(local.network, address.addr(), request);
            }
            // Docker gives its addresses back itself.
            (Origin::Docker, _) | (Origin::Attached, None) => self.released(request),
        }
    }
}
