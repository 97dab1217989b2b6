//! A network of this driver as Docker has it: its answers in, its requests out. SANS-IO.
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use bollard::models::{IpamConfig, Network};
use ipnet::IpNet;
use serde_json::{Map, Value, json};

/// A network of this driver that Docker has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerNetwork {
    /// Docker's id, as the driver was given it.
    pub id: String,
    /// Its scope is `global`: other hosts have it under the same id.
    pub global: bool,
    /// What it was created with.
    pub config: NetworkConfig,
}

/// What a network is created with: `docker network create`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Docker's name of it.
    pub name: String,
    /// `--internal`.
    pub internal: bool,
    /// `--attachable`.
    pub attachable: bool,
    /// `--ipv6`.
    pub ipv6: bool,
    /// `-o`.
    pub options: BTreeMap<String, String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--ipam-driver`.
    pub ipam_driver: String,
    /// `--ipam-opt`.
    pub ipam_options: BTreeMap<String, String>,
    /// One for each `--subnet`; where none was given, Docker tells what the IPAM driver chose.
    pub pools: Vec<PoolConfig>,
}

/// A subnet of a network, and what of it is set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// `--subnet`, without host bits.
    pub subnet: IpNet,
    /// `--ip-range`, without host bits.
    pub range: Option<IpNet>,
    /// `--gateway`; where no `--subnet` was given, what the IPAM driver chose.
    pub gateway: Option<IpAddr>,
    /// `--aux-address`, by name.
    pub aux: BTreeMap<String, IpAddr>,
}

/// What Docker listed of the driver's networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Networks {
    /// In no order.
    pub(super) networks: Vec<DockerNetwork>,
    /// What could not be read, each as a sentence.
    pub(super) left_out: Vec<String>,
}

/// Reads a listing: those of `driver`, as the filter may have let others through.
pub(super) fn listed(driver: &str, networks: Vec<Network>) -> Networks {
    let mut said = Networks::default();
    for network in networks.into_iter().filter(|it| it.driver.as_deref() == Some(driver)) {
        read(network, &mut said);
    }
    said
}

fn read(network: Network, said: &mut Networks) {
    let (Some(id), Some(name)) = (filled(network.id), filled(network.name)) else {
        said.left_out.push("a network without id or name is left out".into());
        return;
    };
    let ipam = network.ipam.unwrap_or_default();
    let mut reader = Reader { network: &name, left_out: &mut said.left_out };
    let pools = ipam.config.unwrap_or_default();
    let pools = pools.into_iter().filter_map(|pool| reader.pool(pool)).collect();
    let config = NetworkConfig {
        name,
        internal: network.internal.unwrap_or_default(),
        attachable: network.attachable.unwrap_or_default(),
        ipv6: network.enable_ipv6.unwrap_or_default(),
        options: sorted(network.options),
        labels: sorted(network.labels),
        ipam_driver: ipam.driver.unwrap_or_default(),
        ipam_options: sorted(ipam.options),
        pools,
    };
    let global = network.scope.as_deref() == Some("global");
    said.networks.push(DockerNetwork { id, global, config });
}

/// Reads the parts of one network, and notes those that it cannot.
struct Reader<'a> {
    network: &'a str,
    left_out: &'a mut Vec<String>,
}

impl Reader<'_> {
    /// None for a pool without a subnet, which is how a missing `--subnet` is told.
    fn pool(&mut self, pool: IpamConfig) -> Option<PoolConfig> {
        let subnet: IpNet = self.value("subnet", &filled(pool.subnet)?)?;
        let range = filled(pool.ip_range).and_then(|range| self.value::<IpNet>("ip-range", &range));
        let gateway = filled(pool.gateway).and_then(|gateway| self.address("gateway", &gateway));
        let aux = sorted(pool.auxiliary_addresses);
        let aux = aux.into_iter().filter_map(|(name, address)| {
            Some((name, self.address("auxiliary address", &filled(Some(address))?)?))
        });
        let aux = aux.collect();
        Some(PoolConfig {
            subnet: subnet.trunc(),
            range: range.map(|range| range.trunc()),
            gateway,
            aux,
        })
    }

    /// An address, with or without a prefix length.
    fn address(&mut self, what: &str, text: &str) -> Option<IpAddr> {
        let bare = text.split_once('/').map_or(text, |(address, _)| address);
        self.value(what, bare)
    }

    fn value<T: FromStr<Err: Display>>(&mut self, what: &str, text: &str) -> Option<T> {
        let read = text.parse().map_err(|error: T::Err| {
            let network = self.network;
            let what = format!("network {network:?}: its {what} {text:?} is left out: {error}");
            self.left_out.push(what);
        });
        read.ok()
    }
}

/// The body of `POST /networks/create`.
pub(super) fn creation(driver: &str, config: &NetworkConfig) -> Value {
    json!({
        "Name": config.name,
        // Docker before 25.0 makes a second network of the same name without this.
        "CheckDuplicate": true,
        "Driver": driver,
        "Internal": config.internal,
        "Attachable": config.attachable,
        "EnableIPv6": config.ipv6,
        "Options": config.options,
        "Labels": config.labels,
        "IPAM": {
            "Driver": config.ipam_driver,
            "Options": config.ipam_options,
            "Config": config.pools.iter().map(pool).collect::<Vec<_>>(),
        },
    })
}

fn pool(pool: &PoolConfig) -> Value {
    let mut fields = Map::new();
    fields.insert("Subnet".into(), json!(pool.subnet));
    if let Some(range) = pool.range {
        fields.insert("IPRange".into(), json!(range));
    }
    if let Some(gateway) = pool.gateway {
        fields.insert("Gateway".into(), json!(gateway));
    }
    if !pool.aux.is_empty() {
        fields.insert("AuxiliaryAddresses".into(), json!(pool.aux));
    }
    Value::Object(fields)
}

fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn sorted(map: Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    map.unwrap_or_default().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(networks: Value) -> Networks {
        listed("ovl", serde_json::from_value(networks).unwrap())
    }

    #[test]
    fn a_network_is_read_as_docker_lists_it() {
        let said = said(json!([
            {"Id": "n2", "Name": "other", "Driver": "overlay"},
            {
                "Name": "blue", "Id": "n1", "Created": "2026-01-01T00:00:00Z", "Scope": "global",
                "Driver": "ovl", "EnableIPv6": true, "Internal": true, "Attachable": true,
                "Ingress": false, "ConfigFrom": {"Network": ""}, "ConfigOnly": false,
                "Containers": {}, "Options": {"ovl.network": "blue"}, "Labels": {"a": "b"},
                "IPAM": {"Driver": "ovl", "Options": {"x": "y"}, "Config": [
                    {"Subnet": "10.1.0.7/16", "IPRange": "10.1.4.0/24", "Gateway": "10.1.0.1",
                        "AuxiliaryAddresses": {"printer": "10.1.0.9"}},
                    {"Subnet": "fd00:1::/64", "Gateway": "fd00:1::1/64"},
                ]},
            },
        ]));
        let pairs = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
        let v4 = PoolConfig {
            subnet: "10.1.0.0/16".parse().unwrap(),
            range: Some("10.1.4.0/24".parse().unwrap()),
            gateway: Some("10.1.0.1".parse().unwrap()),
            aux: [("printer".to_owned(), "10.1.0.9".parse().unwrap())].into(),
        };
        let v6 = PoolConfig {
            subnet: "fd00:1::/64".parse().unwrap(),
            range: None,
            gateway: Some("fd00:1::1".parse().unwrap()),
            aux: BTreeMap::new(),
        };
        let config = NetworkConfig {
            name: "blue".into(),
            internal: true,
            attachable: true,
            ipv6: true,
            options: pairs("ovl.network", "blue"),
            labels: pairs("a", "b"),
            ipam_driver: "ovl".into(),
            ipam_options: pairs("x", "y"),
            pools: vec![v4, v6],
        };
        let blue = DockerNetwork { id: "n1".into(), global: true, config };
        assert_eq!(said, Networks { networks: vec![blue], left_out: vec![] });
    }

    #[test]
    fn a_network_that_says_little_is_one_too() {
        let bare = said(json!([{"Id": "n1", "Name": "blue", "Driver": "ovl", "Scope": "local",
            "Options": null, "Labels": null, "IPAM": {"Driver": "ovl", "Options": null,
            "Config": [{}, {"Subnet": "", "Gateway": "10.1.0.1"}]}}]));
        let config = NetworkConfig {
            name: "blue".into(),
            ipam_driver: "ovl".into(),
            ..NetworkConfig::default()
        };
        let network = DockerNetwork { id: "n1".into(), global: false, config };
        assert_eq!(bare, Networks { networks: vec![network], left_out: vec![] });
        let minimal = said(json!([{"Id": "n1", "Name": "blue", "Driver": "ovl"}]));
        assert_eq!(minimal.networks.len(), 1);
    }

    #[test]
    fn what_cannot_be_read_is_left_out_and_the_network_stays() {
        let said = said(json!([
            {"Name": "nameless", "Driver": "ovl"},
            {"Id": "n1", "Name": "blue", "Driver": "ovl", "IPAM": {"Config": [
                {"Subnet": "10.1/16"},
                {"Subnet": "10.2.0.0/16", "IPRange": "x", "Gateway": "10.2.0.1.1",
                    "AuxiliaryAddresses": {"a": "10.2.0.300", "b": "10.2.0.3/16", "c": ""}},
            ]}},
        ]));
        let [network] = said.networks.as_slice() else { panic!("{said:?}") };
        let [pool] = network.config.pools.as_slice() else { panic!("{said:?}") };
        assert_eq!((pool.range, pool.gateway), (None, None));
        assert_eq!(pool.aux, [("b".to_owned(), "10.2.0.3".parse().unwrap())].into());
        assert_eq!(said.left_out.len(), 5, "{:#?}", said.left_out);
        assert!(said.left_out[1].contains("\"10.1/16\""), "{:#?}", said.left_out);
    }

    #[test]
    fn what_is_created_is_what_would_be_listed() {
        let config = NetworkConfig {
            name: "blue".into(),
            ipv6: true,
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ipam_driver: "ovl".into(),
            pools: vec![PoolConfig {
                subnet: "fd00:1::/64".parse().unwrap(),
                range: Some("fd00:1::/80".parse().unwrap()),
                gateway: Some("fd00:1::1".parse().unwrap()),
                aux: [("b".to_owned(), "fd00:1::5".parse().unwrap())].into(),
            }],
            ..NetworkConfig::default()
        };
        let mut body = creation("ovl", &config);
        assert_eq!(body["CheckDuplicate"], json!(true));
        body["Id"] = json!("n1");
        assert_eq!(said(json!([body])).networks[0].config, config);
    }
}
