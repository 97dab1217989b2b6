//! A container's DNS, led past Docker's resolver to the agent's, for as long as the agent lives.

use std::{
    io,
    net::SocketAddrV4,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    thread,
};

use nix::errno::Errno;

use crate::{
    error::NetlinkError,
    netlink::OwnedTable,
    netns::{Namespace, NetnsError},
    nft_redirect,
};

/// DNS of one network namespace, led from one address to another.
///
/// What programs inside send to `from` by UDP or TCP goes to `to`, and answers seem to come from
/// `from`. It is decided before rules of iptables are asked (Docker's lead 127.0.0.11:53 to its own
/// resolver). Packets with the mark `pass_mark` (`SO_MARK`) are left to those rules.
///
/// It lasts until [`DnsRedirect::close`], or shortly beyond the drop, and not longer than the process:
/// the rules are in a table `ip ovl` that belongs to a netlink socket (`NFT_TABLE_F_OWNER`, Linux 5.12),
/// which the kernel removes when the socket closes, for whatever reason. Nobody else can change or flush
/// it meanwhile. A connection that was led to `to` before stays there.
///
/// Who holds a copy of the socket ([`DnsRedirect::as_fd`]) keeps the rules: so they pass from one process
/// to the next, which goes on with [`DnsRedirect::adopt`].
///
/// Before another one is opened in the same namespace, this one has to be closed to its end.
///
/// The socket keeps the namespace alive: to be dropped when the container goes. It is closed when a
/// process is started (`SOCK_CLOEXEC`).
pub struct DnsRedirect {
    /// Taken when it is closed.
    table: Option<Owner>,
}

/// The socket that owns the table.
enum Owner {
    Made(OwnedTable),
    Adopted(OwnedFd),
}

impl DnsRedirect {
    /// Opens it in the namespace at `netns`. Needs a tokio runtime with IO.
    ///
    /// A table of this name that belongs to no process is replaced. Cancel-safe: what was made goes
    /// with the socket.
    pub async fn open(
        netns: &Path,
        from: SocketAddrV4,
        to: SocketAddrV4,
        pass_mark: u32,
    ) -> Result<Self, RedirectError> {
        let namespace = Namespace::open(netns)?;
        let opened = namespace.inside(OwnedTable::open).await?;
        let mut table = opened.map_err(|e| unopened(netns, e))?;
        let messages = nft_redirect::install(from, to, pass_mark);
        match table.install(messages).await {
            Ok(()) => Ok(Self { table: Some(Owner::Made(table)) }),
            Err(source) => {
                let owner = table.owner(nft_redirect::question()).await;
                Err(refused(netns, source, owner.unwrap_or_default()))
            }
        }
    }

    /// Goes on with the socket of another process's redirect. What it redirects is not looked at.
    #[must_use]
    pub fn adopt(socket: OwnedFd) -> Self {
        Self { table: Some(Owner::Adopted(socket)) }
    }

    /// The socket that owns the rules, to be handed on; `None` once it is closed.
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.table.as_ref().map(|owner| match owner {
            Owner::Made(table) => table.as_fd(),
            Owner::Adopted(socket) => socket.as_fd(),
        })
    }

    /// Closes it, and waits until DNS goes where it went before. Cancel-safe: it is closed anyway.
    pub async fn close(mut self) {
        if let Some(table) = self.table.take() {
            let closed = tokio::task::spawn_blocking(move || drop(table));
            // Dropping a socket does not panic.
            let _ = closed.await;
        }
    }
}

/// To take the table out of use the kernel waits for all its cores, for tens of milliseconds. No other
/// task shall stand still for that: a thread closes the socket, soon after.
impl Drop for DnsRedirect {
    fn drop(&mut self) {
        if let Some(table) = self.table.take() {
            let name = "ovl-redirect".to_owned();
            // Without a thread to be had, it is closed here.
            let _ = thread::Builder::new().name(name).spawn(move || drop(table));
        }
    }
}

/// Why DNS of a namespace could not be redirected. Nothing was changed: DNS goes where it went before.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// The namespace could not be entered, see [`NetnsError::is_gone`].
    #[error("could not enter the namespace whose DNS is to be redirected")]
    Netns(#[from] NetnsError),
    /// The kernel lacks what it takes. It will not do better later.
    #[error(
        "this kernel cannot redirect DNS in {}: it takes Linux 5.12 or later with nf_tables, nft_chain_nat and nft_nat; \
         load them (modprobe -a nf_tables nft_chain_nat nft_nat), or point containers to the agent's resolver by --dns",
        netns.display()
    )]
    Unsupported {
        /// The namespace.
        netns: PathBuf,
        /// What the kernel answered.
        #[source]
        source: NetlinkError,
    },
    /// A process that lives has redirected DNS there.
    #[error(
        "DNS in {} is redirected by another process already (table ip ovl, netlink port {owner}, which mostly is the \
         process id): stop the other ovl-agent",
        netns.display()
    )]
    Owned {
        /// The namespace.
        netns: PathBuf,
        /// Netlink port id of the socket that owns the table.
        owner: u32,
    },
    /// The process lacks the right to change network state there.
    #[error(
        "no right to redirect DNS in {}: run as root or with CAP_NET_ADMIN and CAP_SYS_ADMIN",
        netns.display()
    )]
    Privilege {
        /// The namespace.
        netns: PathBuf,
        /// What the kernel answered.
        #[source]
        source: NetlinkError,
    },
    /// Anything else.
    #[error("could not redirect DNS in {}", netns.display())]
    Netlink {
        /// The namespace.
        netns: PathBuf,
        /// Why the kernel could not be asked, or what it answered.
        #[source]
        source: NetlinkError,
    },
}

/// The socket could not be opened.
fn unopened(netns: &Path, error: io::Error) -> RedirectError {
    let errno = error.raw_os_error().map(Errno::from_raw);
    let (netns, source) = (netns.to_owned(), NetlinkError::Socket(error));
    match errno {
        // No NETLINK_NETFILTER.
        Some(Errno::EPROTONOSUPPORT) => RedirectError::Unsupported { netns, source },
        Some(Errno::EPERM | Errno::EACCES) => RedirectError::Privilege { netns, source },
        _ => RedirectError::Netlink { netns, source },
    }
}

/// The kernel refused the table. `owner`: of the table that is there, if any owns it.
fn refused(netns: &Path, source: NetlinkError, owner: Option<u32>) -> RedirectError {
    let netns = netns.to_owned();
    match (source.errno(), owner) {
        (Some(Errno::EPERM | Errno::EBUSY), Some(owner)) => RedirectError::Owned { netns, owner },
        (Some(Errno::EPERM), None) => RedirectError::Privilege { netns, source },
        // An unknown subsystem or flag, an unknown type of chain or expression.
        (Some(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOENT | Errno::EAFNOSUPPORT), _) => {
            RedirectError::Unsupported { netns, source }
        }
        _ => RedirectError::Netlink { netns, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KernelError;

    #[test]
    fn what_a_kernel_cannot_do_is_told_apart_from_other_failures() {
        let path = Path::new("/run/netns/x");
        let refusal = |errno, owner| {
            let error = KernelError { errno, message: None };
            refused(path, error.into(), owner)
        };
        for errno in [Errno::EINVAL, Errno::EOPNOTSUPP, Errno::ENOENT] {
            let error = refusal(errno, None);
            assert!(matches!(error, RedirectError::Unsupported { .. }), "{error}");
        }
        let error = refusal(Errno::EPERM, Some(7));
        assert!(matches!(error, RedirectError::Owned { owner: 7, .. }), "{error}");
        let error = refusal(Errno::EPERM, None);
        assert!(matches!(error, RedirectError::Privilege { .. }), "{error}");
        let error = refusal(Errno::ENOMEM, None);
        assert!(matches!(error, RedirectError::Netlink { .. }), "{error}");
        let error = unopened(path, Errno::EPROTONOSUPPORT.into());
        assert!(matches!(error, RedirectError::Unsupported { .. }), "{error}");
    }
}
