//! The part of a pass that works inside sandboxes.

use std::{net::Ipv4Addr, path::Path};

use ipnet::{IpNet, Ipv4Net};
use nix::errno::Errno;

use crate::{
    ApplyError, Desired, DesiredNetwork, Difference, DifferenceKind, Home, IfName, LocalEndpoint,
    dataplane::Remembered,
    difference,
    netlink::{Kernel, NewChild},
    netns::Namespace,
    observe::{Inside, Link},
    pass::Pass,
    plan,
    plan_inside::{self, SandboxOp},
};

/// One endpoint and the sandbox it belongs in.
struct Place<'a> {
    network: &'a DesiredNetwork,
    id: &'a str,
    endpoint: &'a LocalEndpoint,
    ifname: &'a IfName,
    /// Index of the network's device.
    device: u32,
    namespace: Namespace,
}

impl Pass<'_> {
    /// Brings the sandboxes of a network's endpoints in order. `in_host` are the children of its
    /// device in the host's namespace.
    pub(crate) async fn sandboxes(
        &mut self,
        network: &DesiredNetwork,
        device: u32,
        in_host: &[Link],
    ) {
        for (id, endpoint) in &network.endpoints {
            let Home::Sandbox { netns, ifname, .. } = &endpoint.home else {
                continue;
            };
            let namespace = match Namespace::open(netns) {
                Ok(namespace) => namespace,
                Err(error) => {
                    self.unreachable(network.vni, id, error.into());
                    continue;
                }
            };
            let place = Place { network, id, endpoint, ifname, device, namespace };
            if let Err(error) = self.sandbox(&place, in_host).await {
                self.unreachable(network.vni, id, error);
            }
        }
    }

    /// Takes away what endpoints left in their sandboxes that do not belong there any more.
    pub(crate) async fn clear_sandboxes(&mut self, desired: &Desired) {
        for (key, remembered) in self.memory.sandboxes.clone() {
            let endpoint =
                desired.networks.get(&key.0).and_then(|network| network.endpoints.get(&key.1));
            let result = match endpoint.map(|e| &e.home) {
                Some(Home::Sandbox { .. }) => continue,
                // On its way: someone else moves it.
                Some(Home::Transit) => Ok(()),
                Some(Home::Handover { .. }) | None => self.clear(&key, &remembered).await,
            };
            match result {
                Ok(()) => {
                    self.memory.sandboxes.remove(&key);
                }
                Err(error) => self.fail_endpoint(key.0, &key.1, error),
            }
        }
    }

    async fn sandbox(&mut self, place: &Place<'_>, in_host: &[Link]) -> Result<(), ApplyError> {
        let key = (place.network.vni, place.id.to_owned());
        let mut now = Remembered {
            endpoint: place.endpoint.clone(),
            netns: place.namespace.id(),
            device: place.device,
            mtu: place.network.mtu,
            in_order: true,
        };
        let before = self.memory.sandboxes.get(&key).cloned();
        if before.as_ref() == Some(&now) {
            return Ok(());
        }
        let moved = |b: &&Remembered| b.netns != now.netns || b.endpoint.mac != now.endpoint.mac;
        if let Some(elsewhere) = before.as_ref().filter(moved) {
            self.clear(&key, elsewhere).await?;
        }
        // Remembered from now on, so that it is cleared away even if this ends half-way.
        now.in_order = false;
        self.memory.sandboxes.insert(key.clone(), now.clone());
        self.settle(place, in_host, before.as_ref()).await?;
        now.in_order = true;
        self.memory.sandboxes.insert(key, now);
        Ok(())
    }

    /// Looks inside, plans and carries out.
    async fn settle(
        &mut self,
        place: &Place<'_>,
        in_host: &[Link],
        before: Option<&Remembered>,
    ) -> Result<(), ApplyError> {
        let path = place.namespace.path().display();
        let mut kernel = Kernel::open_in(&place.namespace).await?;
        let read = ApplyError::netlink(format!("read the interfaces in {path}"));
        let inside = kernel.inside().await.map_err(read)?;
        let ops = plan_inside::sandbox(
            place.id,
            place.endpoint,
            place.network.mtu,
            place.device,
            &inside,
            before.map(|b| &b.endpoint),
        );
        let is_made = ops.contains(&SandboxOp::CreateChild);
        if is_made {
            self.remove_twin(place, in_host).await?;
        }
        let mut child = inside.child(place.device, place.id, place.endpoint.mac).cloned();
        for op in &ops {
            let result = self.inside(place, &mut kernel, &inside, &mut child, op).await;
            if let (Err(_), true, Some(child)) = (&result, is_made, &child) {
                // Half an interface helps nobody.
                let _ = kernel.delete_link(child.index).await;
            }
            result?;
            let known = inside.child(place.device, place.id, place.endpoint.mac);
            let (vni, mtu) = (place.network.vni, place.network.mtu);
            let of = (place.id, place.endpoint);
            let mended = || difference::in_sandbox((vni, mtu), of, &inside, known, op);
            self.report.count(op.kind(), mended);
        }
        Ok(())
    }

    /// An interface of this MAC that stayed in the host's namespace would keep the one in the
    /// sandbox from coming up.
    async fn remove_twin(&mut self, place: &Place<'_>, in_host: &[Link]) -> Result<(), ApplyError> {
        let twins = in_host.iter().filter(|c| c.mac == Some(place.endpoint.mac));
        for twin in twins {
            let failed = ApplyError::netlink(format!("remove interface {}", twin.name));
            self.kernel.delete_link(twin.index).await.map_err(failed)?;
            let vni = place.network.vni;
            self.report.count("child_delete", || left_over(vni, place.id, None, &twin.name));
        }
        Ok(())
    }

    /// Carries out one operation. `child` is the endpoint's interface, once there is one.
    async fn inside(
        &mut self,
        place: &Place<'_>,
        kernel: &mut Kernel,
        inside: &Inside,
        child: &mut Option<Link>,
        op: &SandboxOp,
    ) -> Result<(), ApplyError> {
        let path = place.namespace.path().display();
        let lo = inside.loopback().map_or(0, |lo| lo.index);
        // The plan creates it before anything that concerns it.
        let index = child.as_ref().map_or(0, |c| c.index);
        let mtu = place.network.mtu;
        let result = match *op {
            SandboxOp::CreateChild => {
                *child = Some(self.create_inside(place, kernel).await?);
                return Ok(());
            }
            SandboxOp::LoopbackUp => kernel.set_up(lo).await,
            SandboxOp::AddResolver(address) => kernel.add_address(lo, host_net(address)).await,
            SandboxOp::Alias => kernel.set_alias(index, place.id).await,
            SandboxOp::SetMtu => kernel.set_mtu(index, mtu).await,
            SandboxOp::AddAddress(address) => kernel.add_address(index, address).await,
            SandboxOp::DeleteAddress(address) => kernel.delete_address(index, address).await,
            SandboxOp::Ipv6 => return self.enable_ipv6_inside(place, child.as_ref()).await,
            SandboxOp::SetMac(mac) => kernel.set_mac(index, mac).await,
            SandboxOp::ChildUp => kernel.set_up(index).await,
        };
        if let Err(e) = &result
            && matches!(op, SandboxOp::SetMac(_) | SandboxOp::ChildUp)
            && matches!(e.errno(), Some(Errno::EBUSY | Errno::EADDRINUSE))
        {
            let device = plan::device_name(place.network.vni);
            return Err(ApplyError::MacInUse { device, mac: place.endpoint.mac });
        }
        result.map_err(ApplyError::netlink(format!("carry out {op:?} in {path}")))
    }

    async fn enable_ipv6_inside(
        &mut self,
        place: &Place<'_>,
        child: Option<&Link>,
    ) -> Result<(), ApplyError> {
        let Some(child) = child.filter(|c| c.quiet.ipv6 != Some(true)) else {
            return Ok(());
        };
        let result = Kernel::enable_ipv6_in(&place.namespace, child.name.clone()).await?;
        let at = format!("in {}", place.namespace.path().display());
        result.map_err(|e| ApplyError::no_ipv6(child.name.clone(), at, place.network.mtu, e))
    }

    async fn create_inside(
        &mut self,
        place: &Place<'_>,
        kernel: &mut Kernel,
    ) -> Result<Link, ApplyError> {
        let path = place.namespace.path().display();
        let ifname = place.ifname.as_ref();
        let what = || format!("create interface {ifname} in {path}");
        let child = NewChild {
            ifname,
            device: place.device,
            mac: place.endpoint.mac,
            mtu: place.network.mtu,
        };
        let made = self.kernel.create_child_in(&child, &place.namespace).await;
        made.map_err(|error| match error.errno() {
            Some(Errno::EEXIST) => {
                ApplyError::NameTaken { ifname: ifname.to_owned(), place: format!("in {path}") }
            }
            _ => ApplyError::netlink(what())(error),
        })?;
        let found = kernel.link(ifname).await;
        let found = found.map_err(ApplyError::netlink(what()))?;
        let missing = || ApplyError::NoSuchInterface(format!("{ifname} in {path}"));
        found.ok_or_else(missing)
    }

    /// Removes an endpoint's interface from the sandbox where it was made, and the resolver's
    /// address with the last endpoint there that needs it.
    async fn clear(
        &mut self,
        key: &(u32, String),
        remembered: &Remembered,
    ) -> Result<(), ApplyError> {
        let Home::Sandbox { netns, resolver, .. } = &remembered.endpoint.home else {
            return Ok(());
        };
        let Some(namespace) = same_namespace(netns, remembered)? else {
            return Ok(());
        };
        let failed = || ApplyError::netlink(format!("clear sandbox {}", netns.display()));
        let mut kernel = Kernel::open_in(&namespace).await?;
        let inside = kernel.inside().await.map_err(failed())?;
        if let Some(child) = inside.child(remembered.device, &key.1, remembered.endpoint.mac) {
            kernel.delete_link(child.index).await.map_err(failed())?;
            let mended = || left_over(key.0, &key.1, Some(netns), &child.name);
            self.report.count("child_delete", mended);
        }
        let is_shared = self.memory.sandboxes.iter().any(|(other, r)| {
            other != key && r.netns == remembered.netns && resolver_of(r) == *resolver
        });
        if let (Some(resolver), Some(lo), false) = (resolver, inside.loopback(), is_shared) {
            let result = kernel.delete_address(lo.index, host_net(*resolver)).await;
            result.map_err(failed())?;
        }
        Ok(())
    }

    /// A sandbox that is gone is a fact; one that cannot be entered is a failure.
    fn unreachable(&mut self, vni: u32, id: &str, error: ApplyError) {
        match error {
            ApplyError::Netns(e) if e.is_gone() => {
                let key = (vni, id.to_owned());
                self.memory.sandboxes.remove(&key);
                self.report.gone.push(key);
            }
            error => self.fail_endpoint(vni, id, error),
        }
    }
}

/// An interface of an endpoint, where none should be (any more).
fn left_over(vni: u32, endpoint: &str, netns: Option<&Path>, ifname: &str) -> Difference {
    Difference {
        endpoint: Some(endpoint.to_owned()),
        netns: netns.map(Path::to_owned),
        device: ifname.to_owned(),
        ..Difference::of_device(DifferenceKind::InterfaceLeftOver, vni)
    }
}

/// The address alone, as a subnet.
fn host_net(address: Ipv4Addr) -> IpNet {
    Ipv4Net::from(address).into()
}

fn resolver_of(remembered: &Remembered) -> Option<Ipv4Addr> {
    match remembered.endpoint.home {
        Home::Sandbox { resolver, .. } => resolver,
        Home::Handover { .. } | Home::Transit => None,
    }
}

/// The namespace that was remembered; `None` when it is gone, or its path leads to another now.
fn same_namespace(path: &Path, remembered: &Remembered) -> Result<Option<Namespace>, ApplyError> {
    match Namespace::open(path) {
        Ok(namespace) => Ok(Some(namespace).filter(|n| n.id() == remembered.netns)),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
