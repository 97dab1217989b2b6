//! The plugin protocol's requests: method and body in, a typed call out. SANS-IO.
//!
//! What each method carries was tried on Docker 20.10, 26.1 and 28.5. Bodies are read as leniently
//! as Go reads them ([`Fields`]), and values are checked here, once.
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use axum::http::StatusCode;

use super::fields::{Family, FieldError, Fields};
use super::plugin::{
    CreateEndpoint, CreateNetwork, IpamData, Join, PluginError, RequestAddress, RequestPool,
};

/// `docker network create -o`.
const GENERIC: &str = "com.docker.network.generic";
/// `docker network create --ipv6`.
const ENABLE_IPV6: &str = "com.docker.network.enable_ipv6";
/// `docker network create --internal`.
const INTERNAL: &str = "com.docker.network.internal";
/// An IPAM option: what the address is for.
const REQUEST_TYPE: &str = "RequestAddressType";
/// The value of [`REQUEST_TYPE`] for the network's gateway.
const GATEWAY: &str = "com.docker.network.gateway";
/// An IPAM option: the endpoint's MAC, as text.
const ENDPOINT_MAC: &str = "com.docker.network.endpoint.macaddress";
/// An IPAM option, from Docker 29.0 on: the container's name.
const ENDPOINT_NAME: &str = "com.docker.network.endpoint.name";

/// Longest name of a container that is passed on, in bytes: Docker itself has no limit.
pub const MAX_ENDPOINT_NAME: usize = 255;

/// One request of dockerd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// `Plugin.Activate`: the handshake.
    Activate,
    /// `NetworkDriver.GetCapabilities`.
    NetworkCapabilities,
    /// `NetworkDriver.GwAllocCheck`, only asked of drivers that want it.
    GwAllocCheck,
    /// `NetworkDriver.AllocateNetwork`, only on a manager of a Swarm.
    AllocateNetwork {
        /// Docker's id.
        network: String,
        /// `-o`: what is answered replaces them.
        options: BTreeMap<String, String>,
    },
    /// `NetworkDriver.FreeNetwork`, only on a manager of a Swarm.
    FreeNetwork {
        /// Docker's id.
        network: String,
    },
    /// `NetworkDriver.CreateNetwork`.
    CreateNetwork(CreateNetwork),
    /// `NetworkDriver.DeleteNetwork`.
    DeleteNetwork {
        /// Docker's id.
        network: String,
    },
    /// `NetworkDriver.CreateEndpoint`.
    CreateEndpoint(CreateEndpoint),
    /// `NetworkDriver.EndpointOperInfo`: asked often, shown nowhere.
    EndpointOperInfo {
        /// Docker's id of the endpoint.
        endpoint: String,
    },
    /// `NetworkDriver.DeleteEndpoint`.
    DeleteEndpoint {
        /// Docker's id of the network.
        network: String,
        /// Docker's id of the endpoint.
        endpoint: String,
    },
    /// `NetworkDriver.Join`.
    Join(Join),
    /// `NetworkDriver.Leave`.
    Leave {
        /// Docker's id of the network.
        network: String,
        /// Docker's id of the endpoint.
        endpoint: String,
    },
    /// `NetworkDriver.ProgramExternalConnectivity`: nothing to do, as no gateway is given.
    ProgramExternal {
        /// Docker's id of the endpoint.
        endpoint: String,
    },
    /// `NetworkDriver.RevokeExternalConnectivity`: as above.
    RevokeExternal {
        /// Docker's id of the endpoint.
        endpoint: String,
    },
    /// `NetworkDriver.DiscoverNew` and `DiscoverDelete`: the members are known by gossip.
    Discover,
    /// `IpamDriver.GetCapabilities`.
    IpamCapabilities,
    /// `IpamDriver.GetDefaultAddressSpaces`.
    AddressSpaces,
    /// `IpamDriver.RequestPool`.
    RequestPool(RequestPool),
    /// `IpamDriver.ReleasePool`.
    ReleasePool {
        /// As answered to `RequestPool`.
        pool: String,
    },
    /// `IpamDriver.RequestAddress`.
    RequestAddress(RequestAddress),
    /// `IpamDriver.ReleaseAddress`.
    ReleaseAddress {
        /// As answered to `RequestPool`.
        pool: String,
        /// As answered to `RequestAddress`, without its prefix length.
        address: IpAddr,
    },
}

/// Why a request was not understood. Nothing was done.
#[derive(Debug, thiserror::Error)]
pub(super) enum DecodeError {
    /// Not a method of the plugin protocol as it is known here.
    #[error("unknown method {method:?}")]
    UnknownMethod {
        /// The request's path, without its slash.
        method: String,
    },
    /// The body does not fit the method.
    #[error(transparent)]
    Body(#[from] FieldError),
}

impl From<DecodeError> for PluginError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::UnknownMethod { .. } => {
                Self::new(StatusCode::NOT_FOUND, error.to_string())
            }
            DecodeError::Body(body) => Self::invalid(body.to_string()),
        }
    }
}

impl Call {
    /// Reads a request. `method` is the path without its slash, as in `NetworkDriver.Join`.
    ///
    /// The methods of the handshake take no body, and one that came is not looked at.
    pub(super) fn decode(method: &str, body: &[u8]) -> Result<Self, DecodeError> {
        if let Some(call) = Self::without_body(method) {
            return Ok(call);
        }
        let Some(known) = METHODS.iter().find(|known| known.name == method) else {
            let method = method.to_owned();
            return Err(DecodeError::UnknownMethod { method });
        };
        (known.read)(&Fields::parse(body)?)
    }

    fn without_body(method: &str) -> Option<Self> {
        Some(match method {
            "Plugin.Activate" => Self::Activate,
            "NetworkDriver.GetCapabilities" => Self::NetworkCapabilities,
            "NetworkDriver.GwAllocCheck" => Self::GwAllocCheck,
            "NetworkDriver.DiscoverNew" | "NetworkDriver.DiscoverDelete" => Self::Discover,
            "IpamDriver.GetCapabilities" => Self::IpamCapabilities,
            "IpamDriver.GetDefaultAddressSpaces" => Self::AddressSpaces,
            _ => return None,
        })
    }
}

/// A method whose request has a body.
struct Method {
    name: &'static str,
    read: fn(&Fields) -> Result<Call, DecodeError>,
}

impl Method {
    const fn new(name: &'static str, read: fn(&Fields) -> Result<Call, DecodeError>) -> Self {
        Self { name, read }
    }
}

const METHODS: &[Method] = &[
    Method::new("NetworkDriver.AllocateNetwork", allocate_network),
    Method::new("NetworkDriver.FreeNetwork", free_network),
    Method::new("NetworkDriver.CreateNetwork", create_network),
    Method::new("NetworkDriver.DeleteNetwork", delete_network),
    Method::new("NetworkDriver.CreateEndpoint", create_endpoint),
    Method::new("NetworkDriver.EndpointOperInfo", endpoint_oper_info),
    Method::new("NetworkDriver.DeleteEndpoint", delete_endpoint),
    Method::new("NetworkDriver.Join", join),
    Method::new("NetworkDriver.Leave", leave),
    Method::new("NetworkDriver.ProgramExternalConnectivity", program_external),
    Method::new("NetworkDriver.RevokeExternalConnectivity", revoke_external),
    Method::new("IpamDriver.RequestPool", request_pool),
    Method::new("IpamDriver.ReleasePool", release_pool),
    Method::new("IpamDriver.RequestAddress", request_address),
    Method::new("IpamDriver.ReleaseAddress", release_address),
];

/// The ids of a call, for the log.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Activate
            | Self::NetworkCapabilities
            | Self::GwAllocCheck
            | Self::Discover
            | Self::IpamCapabilities
            | Self::AddressSpaces => Ok(()),
            Self::AllocateNetwork { network, .. }
            | Self::FreeNetwork { network }
            | Self::CreateNetwork(CreateNetwork { id: network, .. })
            | Self::DeleteNetwork { network } => write!(f, "network {network}"),
            Self::EndpointOperInfo { endpoint }
            | Self::ProgramExternal { endpoint }
            | Self::RevokeExternal { endpoint } => write!(f, "endpoint {endpoint}"),
            Self::CreateEndpoint(CreateEndpoint { network, endpoint, .. })
            | Self::DeleteEndpoint { network, endpoint }
            | Self::Join(Join { network, endpoint, .. })
            | Self::Leave { network, endpoint } => {
                write!(f, "endpoint {endpoint} of network {network}")
            }
            Self::RequestPool(RequestPool { pool: None, .. }) => f.write_str("any pool"),
            Self::RequestPool(RequestPool { pool: Some(pool), .. }) => write!(f, "pool {pool}"),
            Self::ReleasePool { pool } => write!(f, "pool {pool:?}"),
            Self::RequestAddress(RequestAddress { pool_id, address, .. }) => match address {
                Some(address) => write!(f, "{address} of pool {pool_id:?}"),
                None => write!(f, "any address of pool {pool_id:?}"),
            },
            Self::ReleaseAddress { pool, address } => write!(f, "{address} of pool {pool:?}"),
        }
    }
}

fn allocate_network(body: &Fields) -> Result<Call, DecodeError> {
    Ok(Call::AllocateNetwork {
        network: body.id("NetworkID")?,
        options: body.object("Options")?.texts()?,
    })
}

fn free_network(body: &Fields) -> Result<Call, DecodeError> {
    let network = body.id("NetworkID")?;
    Ok(Call::FreeNetwork { network })
}

fn create_network(body: &Fields) -> Result<Call, DecodeError> {
    let options = body.object("Options")?;
    Ok(Call::CreateNetwork(CreateNetwork {
        id: body.id("NetworkID")?,
        options: options.object(GENERIC)?.texts()?,
        internal: options.flag(INTERNAL)?,
        enable_ipv6: options.flag(ENABLE_IPV6)?,
        ipv4: ipam_data(body, "IPv4Data", Family::V4)?,
        ipv6: ipam_data(body, "IPv6Data", Family::V6)?,
    }))
}

fn ipam_data(body: &Fields, key: &str, family: Family) -> Result<Vec<IpamData>, FieldError> {
    let read = |data: &Fields| {
        Ok(IpamData {
            address_space: data.text("AddressSpace")?.unwrap_or_default().to_owned(),
            pool: data.present("Pool", data.cidr("Pool", family)?)?.trunc(),
            gateway: data.cidr("Gateway", family)?,
            aux: data.object("AuxAddresses")?.cidrs(family)?,
        })
    };
    body.list(key)?.iter().map(read).collect()
}

fn delete_network(body: &Fields) -> Result<Call, DecodeError> {
    let network = body.id("NetworkID")?;
    Ok(Call::DeleteNetwork { network })
}

fn create_endpoint(body: &Fields) -> Result<Call, DecodeError> {
    let interface = body.object("Interface")?;
    Ok(Call::CreateEndpoint(CreateEndpoint {
        network: body.id("NetworkID")?,
        endpoint: body.id("EndpointID")?,
        address: interface.cidr4("Address")?,
        address6: interface.cidr6("AddressIPv6")?,
        mac: interface.mac("MacAddress")?,
        options: body.object("Options")?.only_texts(),
    }))
}

fn endpoint_oper_info(body: &Fields) -> Result<Call, DecodeError> {
    let endpoint = body.id("EndpointID")?;
    Ok(Call::EndpointOperInfo { endpoint })
}

fn delete_endpoint(body: &Fields) -> Result<Call, DecodeError> {
    Ok(Call::DeleteEndpoint { network: body.id("NetworkID")?, endpoint: body.id("EndpointID")? })
}

fn join(body: &Fields) -> Result<Call, DecodeError> {
    Ok(Call::Join(Join {
        network: body.id("NetworkID")?,
        endpoint: body.id("EndpointID")?,
        sandbox_key: PathBuf::from(body.path("SandboxKey")?),
    }))
}

fn leave(body: &Fields) -> Result<Call, DecodeError> {
    Ok(Call::Leave { network: body.id("NetworkID")?, endpoint: body.id("EndpointID")? })
}

fn program_external(body: &Fields) -> Result<Call, DecodeError> {
    let endpoint = body.id("EndpointID")?;
    Ok(Call::ProgramExternal { endpoint })
}

fn revoke_external(body: &Fields) -> Result<Call, DecodeError> {
    let endpoint = body.id("EndpointID")?;
    Ok(Call::RevokeExternal { endpoint })
}

fn request_pool(body: &Fields) -> Result<Call, DecodeError> {
    let v6 = body.flag("V6")?;
    let family = if v6 { Family::V6 } else { Family::V4 };
    let pool = |key| body.cidr(key, family).map(|net| net.map(|net| net.trunc()));
    Ok(Call::RequestPool(RequestPool {
        pool: pool("Pool")?,
        sub_pool: pool("SubPool")?,
        options: body.object("Options")?.texts()?,
        v6,
        address_space: body.required("AddressSpace")?,
    }))
}

fn release_pool(body: &Fields) -> Result<Call, DecodeError> {
    let pool = body.pool_id("PoolID")?;
    Ok(Call::ReleasePool { pool })
}

fn request_address(body: &Fields) -> Result<Call, DecodeError> {
    let options = body.object("Options")?;
    let endpoint_name = options.text(ENDPOINT_NAME)?.filter(|name| name.len() <= MAX_ENDPOINT_NAME);
    Ok(Call::RequestAddress(RequestAddress {
        pool_id: body.pool_id("PoolID")?,
        address: body.address("Address")?,
        gateway: options.text(REQUEST_TYPE)? == Some(GATEWAY),
        mac: options.mac(ENDPOINT_MAC)?,
        endpoint_name: endpoint_name.map(str::to_owned),
    }))
}

fn release_address(body: &Fields) -> Result<Call, DecodeError> {
    Ok(Call::ReleaseAddress {
        pool: body.pool_id("PoolID")?,
        address: body.present("Address", body.address("Address")?)?,
    })
}

/// A MAC as Docker reads it.
pub(super) fn mac_text(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

#[cfg(test)]
mod tests;
