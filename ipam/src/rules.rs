//! What holds of each network by itself, whatever others there are. A network that is asked for
//! and one that is read from the store are held to the same.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::errors::CreateNetworkError;
use crate::family::Family;
use crate::network::{Docker, Network, is_name};
use crate::pool::{Pool, Unusable};
use crate::subnet;

/// Says what is wrong with `network`.
pub(crate) fn check(network: &Network) -> Result<(), CreateNetworkError> {
    subnet::check(network.subnet)?;
    let subnet = IpNet::from(network.subnet);
    gateway(network.gateway.into(), subnet)?;
    range(network.range.map(IpNet::from), subnet)?;
    if let Some(ipv6) = network.ipv6 {
        subnet::check(ipv6.subnet)?;
        gateway(ipv6.gateway.into(), ipv6.subnet.into())?;
        range(ipv6.range.map(IpNet::from), ipv6.subnet.into())?;
    }
    let pool = Pool::from(network);
    aux(network, &pool)?;
    room(network, &pool)?;
    mtu(network)?;
    docker(&network.docker)
}

/// Whether it is a host address of the subnet.
fn gateway(gateway: IpAddr, subnet: IpNet) -> Result<(), CreateNetworkError> {
    let broadcast = match subnet {
        IpNet::V4(subnet) => Some(IpAddr::V4(subnet.broadcast())),
        IpNet::V6(_) => None,
    };
    let own = gateway == subnet.network() || Some(gateway) == broadcast;
    match subnet.contains(&gateway) && !own {
        true => Ok(()),
        false => Err(CreateNetworkError::Gateway { gateway, subnet }),
    }
}

/// Whether it is a part of the subnet.
fn range(range: Option<IpNet>, subnet: IpNet) -> Result<(), CreateNetworkError> {
    match range {
        Some(range) if range.trunc() != range || !subnet.contains(&range) => {
            Err(CreateNetworkError::Range { range, subnet })
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether each address that is set aside is one that an endpoint could have, and only once.
fn aux(network: &Network, pool: &Pool) -> Result<(), CreateNetworkError> {
    let count = network.aux.len();
    if count > Network::MAX_AUX {
        return Err(CreateNetworkError::TooManyAux { count });
    }
    for (name, &address) in &network.aux {
        if !is_name(name, Network::MAX_AUX_NAME) {
            let shown = name.chars().take(Network::MAX_AUX_NAME + 1).collect();
            return Err(CreateNetworkError::AuxName(shown));
        }
        let mut others = network.aux.iter().filter(|(other, _)| *other < name);
        let twice = others.find(|(_, other)| **other == address);
        let why = match (pool.check_own(address), twice) {
            (Err(why), _) => unusable(&why),
            (Ok(()), Some((other, _))) => format!("it is set aside as {other:?} already"),
            (Ok(()), None) => continue,
        };
        return Err(CreateNetworkError::Aux { name: name.clone(), address, why });
    }
    Ok(())
}

fn unusable(why: &Unusable) -> String {
    match why {
        Unusable::NoIpv6 => "the network has no IPv6".to_owned(),
        Unusable::Outside(subnet) => format!("it is outside {subnet}"),
        Unusable::Reserved(what) => format!("it is the {what} address"),
        Unusable::Aside(name) => format!("it is set aside as {name:?} already"),
    }
}

/// Whether there is an automatic address for one endpoint at least.
fn room(network: &Network, pool: &Pool) -> Result<(), CreateNetworkError> {
    let subnets = [Some(network.subnet.into()), network.ipv6.map(|ipv6| IpNet::from(ipv6.subnet))];
    for (family, subnet) in [Family::V4, Family::V6].into_iter().zip(subnets) {
        if let (Some(subnet), Some(range), 0) = (subnet, pool.automatic(family), pool.size(family))
        {
            return Err(CreateNetworkError::EmptyRange { range, subnet });
        }
    }
    Ok(())
}

fn mtu(network: &Network) -> Result<(), CreateNetworkError> {
    let min = if network.ipv6.is_some() { Network::MIN_MTU6 } else { Network::MIN_MTU };
    match network.mtu {
        Some(mtu) if !(min..=Network::MAX_MTU).contains(&mtu) => {
            Err(CreateNetworkError::Mtu { mtu, min })
        }
        Some(_) | None => Ok(()),
    }
}

fn docker(docker: &Docker) -> Result<(), CreateNetworkError> {
    match docker.len() {
        size if size > Docker::MAX_LEN => Err(CreateNetworkError::DockerTooLong { size }),
        _ => Ok(()),
    }
}
