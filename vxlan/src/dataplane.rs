//! The dataplane: the kernel of one host, kept as desired.

use std::collections::BTreeMap;

use tokio::sync::Mutex;

use crate::{
    ApplyError, Desired, Difference, DifferenceKind, LocalEndpoint, OpenError, Report,
    error::NetlinkError,
    netlink::{Firewall, Kernel},
    netns::NetnsId,
    nft,
    pass::Pass,
    rows::Rows,
};

/// The kernel, through rtnetlink in the network namespace of the thread that opened it. All
/// threads that use it belong in that namespace.
///
/// Cancel-safe: a pass that is dropped half-way is taken up by the next one.
pub struct Dataplane {
    /// Behind a lock for the reading methods, which take `&self`.
    pub(crate) kernel: Mutex<Kernel>,
    /// `None`: the kernel has no nf_tables.
    firewall: Option<Firewall>,
    pub(crate) memory: Memory,
    warnings: Vec<String>,
}

/// What earlier passes left in the kernel and need not be read again. Links are always read: they
/// are few, and most of what goes wrong shows there.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// By index of the device.
    pub(crate) rows: BTreeMap<u32, Rows>,
    /// By VNI and endpoint id.
    pub(crate) sandboxes: BTreeMap<(u32, String), Remembered>,
}

/// An endpoint as it was last made in its sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) endpoint: LocalEndpoint,
    pub(crate) netns: NetnsId,
    /// Index of the device it hangs on.
    pub(crate) device: u32,
    pub(crate) mtu: u16,
    /// False: it has to be looked at again.
    pub(crate) in_order: bool,
}

impl Dataplane {
    /// Opens the sockets, and keeps overlay traffic out of the host's IP stack by an nftables
    /// table `ovl`. A kernel without nf_tables is no failure, see [`Dataplane::warnings`].
    ///
    /// The table and the devices stay when the dataplane is dropped: containers go on.
    pub async fn open() -> Result<Self, OpenError> {
        let kernel = Kernel::open().map_err(OpenError::from)?;
        let mut dataplane = Self {
            kernel: Mutex::new(kernel),
            firewall: None,
            memory: Memory::default(),
            warnings: Vec::new(),
        };
        dataplane.install_firewall().await;
        Ok(dataplane)
    }

    /// Brings the kernel to `desired`. Interfaces are read each time; rows, and sandboxes whose
    /// endpoint did not change, are taken as the last pass left them.
    pub async fn apply(&mut self, desired: &Desired) -> Report {
        let first = self.pass(desired).await;
        let is_stale = first.failed_networks.values().any(ApplyError::is_stale)
            || first.failed_endpoints.values().any(ApplyError::is_stale);
        if !is_stale {
            return first;
        }
        // What failed is not remembered, and so looked at again.
        let mut second = self.pass(desired).await;
        second.add_changes_of(first);
        second
    }

    /// The same, but reads everything afresh; what it had to change is drift.
    pub async fn audit(&mut self, desired: &Desired) -> Report {
        self.memory.rows.clear();
        for remembered in self.memory.sandboxes.values_mut() {
            remembered.in_order = false;
        }
        let is_repaired = self.repair_firewall().await;
        let mut report = self.pass(desired).await;
        if is_repaired {
            let mended = || Difference::of_host(DifferenceKind::FirewallMissing, nft::TABLE);
            report.count("firewall_install", mended);
        }
        report
    }

    /// What is amiss on this host without stopping anything, in words for the operator.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    async fn pass(&mut self, desired: &Desired) -> Report {
        let kernel = self.kernel.get_mut();
        let pass = Pass::new(kernel, &mut self.memory, &mut self.warnings);
        pass.run(desired).await
    }

    async fn install_firewall(&mut self) {
        let result = match Firewall::open() {
            Ok(mut firewall) => firewall.install().await.map(|()| firewall),
            Err(error) => Err(NetlinkError::Socket(error)),
        };
        match result {
            Ok(firewall) => self.firewall = Some(firewall),
            Err(error) => self.warnings.push(format!(
                "nftables rule missing ({error}): broadcasts from containers can reach programs of this host that \
                 listen on all addresses; load the kernel module nf_tables and restart the agent"
            )),
        }
    }

    /// The table is not there, and could be.
    pub(crate) async fn lacks_firewall(&mut self) -> Result<bool, NetlinkError> {
        match &mut self.firewall {
            Some(firewall) => Ok(!firewall.is_installed().await?),
            None => Ok(false),
        }
    }

    /// Whether the table had to be installed again, for example after `nft flush ruleset`.
    async fn repair_firewall(&mut self) -> bool {
        // Where that cannot be told, it does no harm to install it once more.
        if !self.lacks_firewall().await.unwrap_or(true) {
            return false;
        }
        let Some(firewall) = &mut self.firewall else {
            return false;
        };
        firewall
            .install()
            .await
            .inspect_err(|error| tracing::warn!(%error, "could not install the nftables table ovl"))
            .is_ok()
    }
}
