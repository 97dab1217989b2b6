//! Which nftables tables there are, without `nft`: only their names, which tell whether anything
//! has to be asked further.

use netlink_packet_netfilter::{
    NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    nftables::{NfTablesMessage, TableAttribute},
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use crate::{OpenError, error::ApplyError, nft, socket::Netlink};

/// An nftables table of the host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NftTable {
    /// `ip`, `inet`, `netdev`; of another family: its number (`NFPROTO_*`, `linux/netfilter.h`).
    pub family: String,
    /// Its name.
    pub name: String,
}

impl NftTable {
    /// The one that the data plane makes.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.family == "inet" && self.name == nft::TABLE
    }
}

/// The tables in the network namespace of the calling thread; none where the kernel has no nftables.
/// Needs a tokio runtime with IO and time, and `CAP_NET_ADMIN`.
///
/// # Errors
/// The kernel cannot be asked, or refuses.
pub async fn nft_tables() -> Result<Vec<NftTable>, TablesError> {
    let mut socket = Netlink::open(NETLINK_NETFILTER).map_err(OpenError::from)?;
    match socket.dump(nft::every_table()).await {
        Ok(answers) => Ok(answers.iter().filter_map(table).collect()),
        // No such subsystem: the module is neither loaded nor there to be loaded.
        Err(error) if matches!(error.errno(), Some(Errno::EINVAL | Errno::EOPNOTSUPP)) => {
            Ok(Vec::new())
        }
        Err(error) => Err(ApplyError::netlink("list the tables of nftables")(error).into()),
    }
}

/// Why the tables are not known.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    /// There is no netlink socket.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The kernel refused.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

fn table(answer: &NetfilterMessage) -> Option<NftTable> {
    let NetfilterMessageInner::NfTables(NfTablesMessage::NewTable(table)) = &answer.inner else {
        return None;
    };
    let name = table.attributes.iter().find_map(|attribute| match attribute {
        TableAttribute::Name(name) => Some(name.clone()),
        _ => None,
    })?;
    let family = match answer.header.family {
        NetfilterProtoFamily::IPv4 => "ip".to_owned(),
        NetfilterProtoFamily::Inet => "inet".to_owned(),
        NetfilterProtoFamily::NetDev => "netdev".to_owned(),
        other => u8::from(other).to_string(),
    };
    Some(NftTable { family, name })
}
