//! Takes everything of ours out of the kernel of a host that runs no agent any more.

use netlink_packet_route::link::InfoKind;

use crate::{
    ApplyError, OpenError,
    error::NetlinkError,
    netlink::{Firewall, Kernel, Removal},
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
    let mut purged = Purged::default();
    let read = ApplyError::netlink("read the interfaces of this host");
    for device in kernel.links(Some(InfoKind::Vxlan)).await.map_err(read)? {
        let Some(vni) = plan::owned_vni(&device) else {
            continue;
        };
        let removal = match in_use {
            true => kernel.delete_link(device.index).await.map(|()| Removal::Done),
            false => kernel.delete_idle_device(vni, device.index).await,
        };
        let failed = ApplyError::netlink(format!("remove {}", device.name));
        match removal.map_err(failed)? {
            Removal::Done => purged.removed.push(device.name),
            Removal::InUse => purged.in_use.push(device.name),
        }
    }
    purged.firewall = purged.in_use.is_empty() && remove_firewall().await?;
    Ok(purged)
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
