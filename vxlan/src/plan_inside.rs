//! What to do inside a sandbox to bring one endpoint where it should be. Pure, like [`crate::plan`].

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};

use crate::{
    Home, LocalEndpoint, Mac,
    observe::{Inside, Link},
    plan::ENDPOINT_MARK,
};

/// One change inside a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SandboxOp {
    LoopbackUp,
    AddResolver(Ipv4Addr),
    /// Straight into the sandbox, down. The operations behind it concern the new interface.
    CreateChild,
    Alias,
    /// Someone inside gave the interface another; every host sends to the endpoint's.
    SetMac(Mac),
    SetMtu,
    AddAddress(IpNet),
    DeleteAddress(IpNet),
    ChildUp,
    /// IPv6 on on the child: without it the kernel takes no IPv6 address.
    Ipv6,
}

impl SandboxOp {
    /// The name under which it is counted.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::LoopbackUp => "loopback_up",
            Self::AddResolver(_) => "resolver_add",
            Self::CreateChild => "child_create",
            Self::Alias | Self::SetMac(_) | Self::SetMtu | Self::ChildUp | Self::Ipv6 => {
                "child_set"
            }
            Self::AddAddress(_) => "address_add",
            Self::DeleteAddress(_) => "address_delete",
        }
    }
}

/// The changes that an endpoint needs inside its sandbox. `id` is its name in its network, `device` the index of that network's
/// device, `before` what this endpoint was when it was last made here.
///
/// IPv6 comes last, so that IPv4 is in order also where IPv6 cannot be had.
pub(crate) fn sandbox(
    id: &str,
    want: &LocalEndpoint,
    mtu: u16,
    device: u32,
    inside: &Inside,
    before: Option<&LocalEndpoint>,
) -> Vec<SandboxOp> {
    let resolver = match want.home {
        Home::Sandbox { resolver, .. } => resolver,
        Home::Handover { .. } | Home::Transit => return Vec::new(),
    };
    let mut ops = loopback(resolver, inside);
    let Some(child) = inside.child(device, id, want.mac) else {
        ops.extend([SandboxOp::CreateChild, SandboxOp::Alias]);
        ops.extend([SandboxOp::AddAddress(want.address.into()), SandboxOp::ChildUp]);
        if let Some(address) = want.address6 {
            // What a new interface inherits is only seen once it is there.
            ops.extend([SandboxOp::Ipv6, SandboxOp::AddAddress(address.into())]);
        }
        return ops;
    };
    if !child.alias.starts_with(ENDPOINT_MARK) {
        ops.push(SandboxOp::Alias);
    }
    if child.mac != Some(want.mac) {
        ops.push(SandboxOp::SetMac(want.mac));
    }
    if child.mtu != u32::from(mtu) {
        ops.push(SandboxOp::SetMtu);
    }
    let net = |address: Option<Ipv4Net>| address.map(IpNet::V4);
    let old = before.map(|b| b.address);
    ops.extend(readdress(child, inside, net(old), net(Some(want.address))));
    if !child.up {
        ops.push(SandboxOp::ChildUp);
    }
    if want.address6.is_some() && child.quiet.ipv6 != Some(true) {
        ops.push(SandboxOp::Ipv6);
    }
    let old = before.and_then(|b| b.address6);
    ops.extend(readdress(child, inside, old.map(IpNet::V6), want.address6.map(IpNet::V6)));
    ops
}

/// The changes of an address, of one family.
///
/// An address that someone added inside is theirs; only the one set here is removed. First: with
/// the first IPv4 address of a subnet the kernel removes those that were added to it later.
fn readdress(
    child: &Link,
    inside: &Inside,
    old: Option<IpNet>,
    new: Option<IpNet>,
) -> impl Iterator<Item = SandboxOp> {
    let is_there = |address: &IpNet| inside.has_address(child.index, *address);
    let outdated = old.filter(|a| Some(*a) != new).filter(is_there);
    let missing = new.filter(|a| !is_there(a));
    let delete = outdated.map(SandboxOp::DeleteAddress);
    delete.into_iter().chain(missing.map(SandboxOp::AddAddress))
}

fn loopback(resolver: Option<Ipv4Addr>, inside: &Inside) -> Vec<SandboxOp> {
    let Some(lo) = inside.loopback() else {
        return Vec::new();
    };
    let mut ops = Vec::new();
    if !lo.up {
        ops.push(SandboxOp::LoopbackUp);
    }
    if let Some(resolver) = resolver.filter(|r| !inside.has_address(lo.index, Ipv4Net::from(*r))) {
        ops.push(SandboxOp::AddResolver(resolver));
    }
    ops
}
