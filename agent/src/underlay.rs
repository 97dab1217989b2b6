//! The network between the hosts: this host's interface on it, and the ways to the others.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use ovl_vxlan::{Interface, Lookup, Observer};

/// An interface with an address of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Its name.
    pub(crate) name: String,
    /// The network of the address.
    pub(crate) network: Ipv4Net,
    /// No packet comes in by it: the loopback, or a dummy. A host that is reached over several interfaces,
    /// by a routing protocol, has its address there.
    pub(crate) is_stub: bool,
}

/// The interface that has this address; `None`: it is on none.
pub(crate) fn holder(address: Ipv4Addr) -> Option<Holder> {
    let mut all = getifaddrs().into_iter().flatten();
    let interface = all.find(|interface| ipv4_of(interface) == Some(address))?;
    let mask = interface.netmask.and_then(|mask| Some(mask.as_sockaddr_in()?.ip()));
    let network = mask.and_then(|mask| Ipv4Net::with_netmask(address, mask).ok());
    let network = network.unwrap_or_else(|| Ipv4Net::from(address));
    let is_stub = is_stub(interface.flags);
    Some(Holder { name: interface.interface_name, network: network.trunc(), is_stub })
}

/// The first IPv4 address of an interface, or why there is none.
pub(crate) fn address_of(name: &str) -> Result<Ipv4Addr, String> {
    let interfaces = getifaddrs().map_err(|e| format!("interfaces cannot be listed ({e})"))?;
    let named: Vec<_> = interfaces.filter(|interface| interface.interface_name == name).collect();
    if named.is_empty() {
        return Err(format!("there is no interface {name}"));
    }
    let found = named.iter().find_map(ipv4_of);
    found.ok_or_else(|| format!("interface {name} has no IPv4 address"))
}

/// The interface by which packets of this address come and go: the one that has it; if that is a stub,
/// the one by which the first of the others is reached.
pub(crate) async fn facing(own: Ipv4Addr, others: &[Ipv4Addr]) -> Option<String> {
    let holder = holder(own)?;
    if holder.is_stub
        && let Ok(mut ways) = Ways::open(own).await
    {
        for other in others {
            if let Some(way) = ways.to(*other).await {
                return Some(way);
            }
        }
    }
    Some(holder.name)
}

/// What keeps packets of this address from leaving and coming in by its own interface: the interface, if it
/// is known, what is wrong, and what mends it. `None`: nothing, as far as the kernel says.
pub(crate) async fn fault(own: Ipv4Addr) -> Option<(Option<String>, String, String)> {
    let Some(holder) = holder(own) else {
        let why = format!(
            "no interface of this host has the address {own} any more, which it advertises"
        );
        let fix = format!(
            "ip address add {own}/PREFIX dev INTERFACE, as it was; or advertise another and restart the agent"
        );
        return Some((None, why, fix));
    };
    let interfaces = Observer::open().ok()?.interfaces().await.ok()?;
    let Interface { name, up, carrier, .. } =
        interfaces.into_iter().find(|interface| interface.name == holder.name)?;
    let (what, fix) = match (up, carrier) {
        (false, _) => ("is down", format!("ip link set {name} up")),
        (true, false) => (
            "has no carrier: its cable, its bond or its switch is down",
            format!("ip link show {name}"),
        ),
        (true, true) => return None,
    };
    let why = format!("{name}, with this host's address {own}, {what}: it reaches no other host");
    Some((Some(name), why, fix))
}

/// Ways from one address of this host to others, as the kernel would route them.
pub(crate) struct Ways {
    from: Ipv4Addr,
    observer: Observer,
    names: BTreeMap<u32, String>,
}

impl Ways {
    /// # Errors
    /// The kernel cannot be asked; a sentence.
    pub(crate) async fn open(from: Ipv4Addr) -> Result<Ways, String> {
        let mut observer = Observer::open().map_err(|error| crate::chain(&error))?;
        let interfaces = observer.interfaces().await.map_err(|error| crate::chain(&error))?;
        let names = interfaces.into_iter().map(|one| (one.index, one.name)).collect();
        Ok(Ways { from, observer, names })
    }

    /// The interface by which packets to an address leave; none: there is no route. Rules by source are
    /// asked, too.
    pub(crate) async fn to(&mut self, address: Ipv4Addr) -> Option<String> {
        match self.observer.route(address.into(), Some(self.from.into())).await {
            Ok(Lookup::Route(route)) => self.names.get(&route.device?).cloned(),
            Ok(Lookup::Refused(_)) | Err(_) => None,
        }
    }
}

/// The way from an address of this host to another host's, as the kernel would take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WayOut {
    /// This host has that address itself.
    Local,
    /// There is none, in the kernel's words.
    Refused(String),
    /// By this interface, which has the first address, or by one that has not.
    By { interface: String, is_own: bool },
}

/// `None`: the kernel does not say.
pub(crate) async fn way_out(own: Ipv4Addr, other: Ipv4Addr) -> Option<WayOut> {
    let mut ways = Ways::open(own).await.ok()?;
    match ways.observer.route(other.into(), Some(own.into())).await.ok()? {
        Lookup::Refused(why) => Some(WayOut::Refused(why.to_string())),
        Lookup::Route(route) if route.is_local => Some(WayOut::Local),
        Lookup::Route(route) => {
            let interface = ways.names.get(&route.device?)?.clone();
            let is_own = holder(own).is_none_or(|held| held.is_stub || held.name == interface);
            Some(WayOut::By { interface, is_own })
        }
    }
}

pub(crate) fn ipv4_of(interface: &InterfaceAddress) -> Option<Ipv4Addr> {
    Some(interface.address.as_ref()?.as_sockaddr_in()?.ip())
}

/// A dummy asks nobody for MACs, though it could; a tunnel has an end that it could ask (netdevice(7)).
fn is_stub(flags: InterfaceFlags) -> bool {
    let dummy = InterfaceFlags::IFF_NOARP | InterfaceFlags::IFF_BROADCAST;
    flags.contains(InterfaceFlags::IFF_LOOPBACK) || flags.contains(dummy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopbacks_and_dummies_have_nothing_behind_them() {
        use InterfaceFlags as Flags;
        let is = |bits: Flags| is_stub(bits | Flags::IFF_UP);
        assert!(is(Flags::IFF_LOOPBACK));
        assert!(is(Flags::IFF_BROADCAST | Flags::IFF_NOARP));
        assert!(!is(Flags::IFF_BROADCAST | Flags::IFF_MULTICAST));
        assert!(!is(Flags::IFF_POINTOPOINT | Flags::IFF_NOARP), "WireGuard");
    }

    #[tokio::test]
    async fn the_loopback_holds_its_address_and_faces_nobody() {
        let held = holder(Ipv4Addr::LOCALHOST).unwrap();
        assert_eq!((held.name.as_str(), held.is_stub), ("lo", true));
        assert_eq!(held.network, "127.0.0.0/8".parse().unwrap());
        assert_eq!(facing(Ipv4Addr::LOCALHOST, &[]).await.as_deref(), Some("lo"));
        assert_eq!(holder(Ipv4Addr::new(192, 0, 2, 77)), None);
    }
}
