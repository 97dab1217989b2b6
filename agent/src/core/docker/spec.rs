//! One network in two forms: as Docker lists it, and as the store holds it.

use std::net::IpAddr;

use ipnet::IpNet;
use ovl_ipam::{Ipv6Spec, Network, NetworkName, NetworkSpec};

use super::super::Refusal;
use super::{MTU_OPTION, NETWORK_OPTION, mtu, network_name};
use crate::docker::{CreateNetwork, IpamData, NetworkConfig, PoolConfig};

/// The driver's name in Docker, for networks and for addresses.
const DRIVER: &str = "ovl";

/// Any name that a network may have, for one whose own is not known yet.
const UNNAMED: &str = "unnamed";

/// A network as Docker asks for it, before its name and labels are heard.
pub(super) fn of_request(wanted: &CreateNetwork) -> Result<NetworkSpec, Refusal> {
    let pool = |data: &IpamData| PoolConfig {
        subnet: data.pool,
        range: None,
        gateway: data.gateway.map(|gateway| gateway.addr()),
        aux: data.aux.iter().map(|(name, address)| (name.clone(), address.addr())).collect(),
    };
    let config = NetworkConfig {
        name: UNNAMED.to_owned(),
        options: wanted.options.clone(),
        ipam_driver: DRIVER.to_owned(),
        pools: wanted.ipv4.iter().chain(&wanted.ipv6).map(pool).collect(),
        ..NetworkConfig::default()
    };
    spec(&config).map_err(Refusal::invalid)
}

/// A network for the store, as Docker has it.
pub(super) fn spec(config: &NetworkConfig) -> Result<NetworkSpec, String> {
    if config.ipam_driver != DRIVER {
        return Err(format!("its addresses come from the IPAM driver {}", config.ipam_driver));
    }
    let name = config.options.get(NETWORK_OPTION).unwrap_or(&config.name);
    let name: NetworkName = network_name(name).map_err(|refusal| refusal.message)?;
    let v4 = config.pools.iter().find_map(|pool| match pool.subnet {
        IpNet::V4(subnet) => Some((pool, subnet)),
        IpNet::V6(_) => None,
    });
    let (pool, subnet) = v4.ok_or("it has no IPv4 subnet")?;
    let ipv6 = config.pools.iter().find_map(ipv6_spec);
    let aux = config.pools.iter().flat_map(|pool| pool.aux.clone()).collect();
    Ok(NetworkSpec {
        subnet: Some(subnet),
        gateway: pool.gateway.and_then(v4_address),
        range: match pool.range {
            Some(IpNet::V4(range)) => Some(range),
            Some(IpNet::V6(_)) | None => None,
        },
        mtu: mtu(&config.options).map_err(|refusal| refusal.message)?,
        aux,
        ipv6,
        internal: config.internal,
        docker: ovl_ipam::Docker {
            options: config.options.clone(),
            labels: config.labels.clone(),
            ipam_options: config.ipam_options.clone(),
            attachable: config.attachable,
        },
        ..NetworkSpec::named(name)
    })
}

fn ipv6_spec(pool: &PoolConfig) -> Option<Ipv6Spec> {
    let IpNet::V6(subnet) = pool.subnet else {
        return None;
    };
    let gateway = match pool.gateway {
        Some(IpAddr::V6(gateway)) => Some(gateway),
        Some(IpAddr::V4(_)) | None => None,
    };
    let range = match pool.range {
        Some(IpNet::V6(range)) => Some(range),
        Some(IpNet::V4(_)) | None => None,
    };
    Some(Ipv6Spec { subnet: Some(subnet), gateway, range })
}

fn v4_address(address: IpAddr) -> Option<std::net::Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// A network for Docker, as the store has it.
pub(super) fn config(network: &Network) -> NetworkConfig {
    let aux_in = |subnet: IpNet| {
        let inside = network.aux.iter().filter(move |(_, address)| subnet.contains(*address));
        inside.map(|(name, address)| (name.clone(), *address)).collect()
    };
    let v4 = PoolConfig {
        subnet: IpNet::V4(network.subnet),
        range: network.range.map(IpNet::V4),
        gateway: Some(IpAddr::V4(network.gateway)),
        aux: aux_in(IpNet::V4(network.subnet)),
    };
    let v6 = network.ipv6.as_ref().map(|v6| PoolConfig {
        subnet: IpNet::V6(v6.subnet),
        range: v6.range.map(IpNet::V6),
        gateway: Some(IpAddr::V6(v6.gateway)),
        aux: aux_in(IpNet::V6(v6.subnet)),
    });
    let mut options = network.docker.options.clone();
    if let Some(mtu) = network.mtu {
        options.entry(MTU_OPTION.to_owned()).or_insert_with(|| mtu.to_string());
    }
    NetworkConfig {
        name: network.name.to_string(),
        internal: network.internal,
        attachable: network.docker.attachable,
        ipv6: network.ipv6.is_some(),
        options,
        labels: network.docker.labels.clone(),
        ipam_driver: DRIVER.to_owned(),
        ipam_options: network.docker.ipam_options.clone(),
        pools: std::iter::once(v4).chain(v6).collect(),
    }
}
