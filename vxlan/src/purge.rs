//! Takes everything of ours out of the kernel of a host that runs no agent any more.

use std::collections::BTreeMap;

use netlink_packet_route::link::InfoKind;

use crate::{
    ApplyError, Desired, OpenError,
    dataplane::Memory,
    error::NetlinkError,
    netlink::{Firewall, Kernel},
    pass::Pass,
    plan,
};

/// What became of what was ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Devices that are gone, and all rows and interfaces with them.
    pub removed: Vec<String>,
    /// Devices that stay, because interfaces of containers hang on them.
    pub in_use: Vec<String>,
    /// The nftables table is gone.
    pub firewall: bool,
}

/// Why not all of it could be taken away. What was removed before stays removed.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// Nothing was changed.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The kernel refused.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// Removes every device of ours in the network namespace of the calling thread, and the nftables table
/// once no device is left. Devices in use go only if `in_use` says so: the interfaces in containers
/// go with them.
///
/// No agent may run on this host: it would make all of it anew. Needs a tokio runtime with IO and
/// time.
///
/// # Errors
/// See [`PurgeError`].
pub async fn purge(in_use: bool) -> Result<Purged, PurgeError> {
    let mut kernel = Kernel::open().map_err(OpenError::from)?;
    let before = devices(&mut kernel).await?;
    // What a host without networks would do: it knows what is in use.
    let (mut memory, mut warnings) = (Memory::default(), Vec::new());
    let report = Pass::new(&mut kernel, &mut memory, &mut warnings).run(&Desired::default()).await;
    if let Some((_, error)) = report.failed_networks.into_iter().next() {
        return Err(error.into());
    }
    let left = devices(&mut kernel).await?;
    for (name, index) in left.iter().filter(|_| in_use) {
        let failed = ApplyError::netlink(format!("remove {name}"));
        kernel.delete_link(*index).await.map_err(failed)?;
    }
    let left = devices(&mut kernel).await?;
    let firewall = left.is_empty() && remove_firewall().await?;
    let removed = before.into_keys().filter(|name| !left.contains_key(name)).collect();
    Ok(Purged { removed, in_use: left.into_keys().collect(), firewall })
}

/// Names and indexes of our devices.
async fn devices(kernel: &mut Kernel) -> Result<BTreeMap<String, u32>, ApplyError> {
    let read = ApplyError::netlink("read the interfaces of this host");
    let all = kernel.links(Some(InfoKind::Vxlan)).await.map_err(read)?;
    let ours = all.into_iter().filter(|device| plan::owned_vni(device).is_some());
    Ok(ours.map(|device| (device.name, device.index)).collect())
}

/// Whether there was one.
async fn remove_firewall() -> Result<bool, ApplyError> {
    // A kernel without nf_tables has no table.
    let Ok(mut firewall) = Firewall::open() else {
        return Ok(false);
    };
    let remove = async {
        if !firewall.is_installed().await? {
            return Ok(false);
        }
        firewall.remove().await.map(|()| true)
    };
    let removed: Result<bool, NetlinkError> = remove.await;
    removed.map_err(ApplyError::netlink("remove the nftables table inet ovl"))
}
