use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const NETWORK: &str = "0d5d8b8e5a6a8d3f1f6f2f3a4b5c6d7e8f90123456789abcdef0123456789abc";
const ENDPOINT: &str = "e1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f80";

fn decode(method: &str, body: &str) -> Result<Call, DecodeError> {
    let body = body.replace("NET", NETWORK).replace("EP", ENDPOINT);
    Call::decode(method, body.as_bytes())
}

fn refusal(method: &str, body: &str) -> (u16, String) {
    let error = PluginError::from(decode(method, body).unwrap_err());
    (error.status.as_u16(), error.message)
}

fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

fn a_network() -> CreateNetwork {
    CreateNetwork {
        id: NETWORK.into(),
        options: options(&[("ovl.name", "blue")]),
        internal: true,
        enable_ipv6: false,
        ipv4: vec![IpamData {
            address_space: "ovl-local".into(),
            pool: "10.7.0.0/16".parse().unwrap(),
            gateway: Some("10.7.0.1/16".parse().unwrap()),
            aux: [("printer".to_owned(), "10.7.0.9/16".parse().unwrap())].into(),
        }],
        ipv6: vec![],
    }
}

const A_NETWORK: &str = r#"{"NetworkID":"NET","Options":{"com.docker.network.enable_ipv6":false,
    "com.docker.network.internal":true,"com.docker.network.generic":{"ovl.name":"blue"}},
    "IPv4Data":[{"AddressSpace":"ovl-local","Pool":"10.7.0.0/16","Gateway":"10.7.0.1/16",
    "AuxAddresses":{"printer":"10.7.0.9/16"}}],"IPv6Data":[]}"#;

#[test]
fn a_network_is_read_as_docker_sends_it() {
    let call = decode("NetworkDriver.CreateNetwork", A_NETWORK).unwrap();
    assert_eq!(call, Call::CreateNetwork(a_network()));
}

#[test]
fn keys_match_whatever_their_case() {
    let lower = r#"{"networkid":"NET","options":{"com.docker.network.internal":true,
        "com.docker.network.generic":{"ovl.name":"blue"}},"ipv4data":[{"addressspace":"ovl-local",
        "pool":"10.7.0.0/16","gateway":"10.7.0.1/16","auxaddresses":{"printer":"10.7.0.9/16"}}]}"#;
    let mixed = r#"{"nEtWorkId":"NET","OPTIONS":{"com.docker.network.internal":true,
        "com.docker.network.generic":{"ovl.name":"blue"}},"Ipv4data":[{"ADDRESSSPACE":"ovl-local",
        "pOOL":"10.7.0.0/16","GateWay":"10.7.0.1/16","AUXaddresses":{"printer":"10.7.0.9/16"}}]}"#;
    for body in [lower, mixed] {
        let call = decode("NetworkDriver.CreateNetwork", body).unwrap();
        assert_eq!(call, Call::CreateNetwork(a_network()), "{body}");
    }
}

#[test]
fn of_two_keys_that_differ_in_case_the_exact_one_counts() {
    for body in
        [r#"{"NetworkID":"NET","networkid":"other"}"#, r#"{"networkid":"other","NetworkID":"NET"}"#]
    {
        let call = decode("NetworkDriver.DeleteNetwork", body).unwrap();
        let network = NETWORK.to_owned();
        assert_eq!(call, Call::DeleteNetwork { network });
    }
}

#[test]
fn null_and_absent_fields_are_the_same_and_unknown_ones_are_left_alone() {
    let bare = CreateNetwork {
        id: NETWORK.into(),
        options: BTreeMap::new(),
        internal: false,
        enable_ipv6: false,
        ipv4: vec![IpamData {
            address_space: String::new(),
            pool: "10.7.0.0/16".parse().unwrap(),
            gateway: None,
            aux: BTreeMap::new(),
        }],
        ipv6: vec![],
    };
    for body in [
        r#"{"NetworkID":"NET","IPv4Data":[{"Pool":"10.7.0.0/16"}]}"#,
        r#"{"NetworkID":"NET","Options":null,"IPv6Data":null,"IPv4Data":[{"Pool":"10.7.0.0/16",
            "Gateway":null,"AuxAddresses":null,"AddressSpace":null}]}"#,
        r#"{"NetworkID":"NET","Options":{"com.docker.network.generic":null,"x":[{}]},"New":1,
            "IPv4Data":[{"Pool":"10.7.0.0/16","Gateway":"","AuxAddresses":{},"What":false}]}"#,
    ] {
        let call = decode("NetworkDriver.CreateNetwork", body).unwrap();
        assert_eq!(call, Call::CreateNetwork(bare.clone()), "{body}");
    }
}

#[test]
fn ipv6_is_read_wherever_it_is_asked_for() {
    let body = r#"{"NetworkID":"NET","Options":{"com.docker.network.enable_ipv6":true},
        "IPv4Data":null,"IPv6Data":[{"AddressSpace":"ovl-local","Pool":"fd00::7/64",
        "Gateway":"fd00::1/64","AuxAddresses":{"printer":"fd00::9/64"}}]}"#;
    let Call::CreateNetwork(network) = decode("NetworkDriver.CreateNetwork", body).unwrap() else {
        panic!("not a network");
    };
    let expected = IpamData {
        address_space: "ovl-local".into(),
        pool: "fd00::/64".parse().unwrap(),
        gateway: Some("fd00::1/64".parse().unwrap()),
        aux: [("printer".to_owned(), "fd00::9/64".parse().unwrap())].into(),
    };
    assert!(network.enable_ipv6 && network.ipv4.is_empty());
    assert_eq!(network.ipv6, [expected]);

    let pool =
        r#"{"AddressSpace":"ovl-local","Pool":"fd00::/64","SubPool":"fd00::3/80","V6":true}"#;
    let Call::RequestPool(pool) = decode("IpamDriver.RequestPool", pool).unwrap() else {
        panic!("not a pool");
    };
    let nets = (pool.pool.unwrap().to_string(), pool.sub_pool.unwrap().to_string());
    assert_eq!((pool.v6, nets), (true, ("fd00::/64".into(), "fd00::/80".into())));

    let body = r#"{"NetworkID":"NET","EndpointID":"EP",
        "Interface":{"Address":"10.7.0.2/16","AddressIPv6":"fd00::2/64"}}"#;
    let Call::CreateEndpoint(endpoint) = decode("NetworkDriver.CreateEndpoint", body).unwrap()
    else {
        panic!("not an endpoint");
    };
    assert_eq!(endpoint.address, Some("10.7.0.2/16".parse().unwrap()));
    assert_eq!(endpoint.address6, Some("fd00::2/64".parse().unwrap()));
}

#[test]
fn an_address_of_the_wrong_family_is_refused() {
    let v4 = "is not an IPv4 address with a prefix length, such as 10.1.0.0/16";
    let v6 = "is not an IPv6 address with a prefix length, such as fd00:1::/64";
    for (method, body, field, expected) in [
        ("IpamDriver.RequestPool", r#"{"Pool":"fd00::/64","V6":false}"#, "Pool: \"fd00::/64\"", v4),
        ("IpamDriver.RequestPool", r#"{"Pool":"fd00::/64"}"#, "Pool: \"fd00::/64\"", v4),
        (
            "IpamDriver.RequestPool",
            r#"{"Pool":"10.7.0.0/16","V6":true}"#,
            "Pool: \"10.7.0.0/16\"",
            v6,
        ),
        (
            "IpamDriver.RequestPool",
            r#"{"Pool":"10.7.0.0/16","SubPool":"fd00::/64"}"#,
            "SubPool: \"fd00::/64\"",
            v4,
        ),
        (
            "NetworkDriver.CreateNetwork",
            r#"{"NetworkID":"NET","IPv4Data":[{"Pool":"fd00::/64"}]}"#,
            "IPv4Data[0].Pool: \"fd00::/64\"",
            v4,
        ),
        (
            "NetworkDriver.CreateNetwork",
            r#"{"NetworkID":"NET","IPv6Data":[{"Pool":"fd00::/64","Gateway":"10.7.0.1/16"}]}"#,
            "IPv6Data[0].Gateway: \"10.7.0.1/16\"",
            v6,
        ),
        (
            "NetworkDriver.CreateNetwork",
            r#"{"NetworkID":"NET","IPv6Data":[{"Pool":"fd00::/64","AuxAddresses":{"a":"10.7.0.1/16"}}]}"#,
            "IPv6Data[0].AuxAddresses.a: \"10.7.0.1/16\"",
            v6,
        ),
        (
            "NetworkDriver.CreateEndpoint",
            r#"{"NetworkID":"NET","EndpointID":"EP","Interface":{"Address":"fd00::2/64"}}"#,
            "Interface.Address: \"fd00::2/64\"",
            v4,
        ),
        (
            "NetworkDriver.CreateEndpoint",
            r#"{"NetworkID":"NET","EndpointID":"EP","Interface":{"AddressIPv6":"10.7.0.2/16"}}"#,
            "Interface.AddressIPv6: \"10.7.0.2/16\"",
            v6,
        ),
    ] {
        assert_eq!(refusal(method, body), (400, format!("{field} {expected}")), "{body}");
    }
}

#[test]
fn an_endpoint_is_read_as_docker_sends_it() {
    let body = r#"{"NetworkID":"NET","EndpointID":"EP","Interface":{"Address":"10.7.0.2/16",
        "AddressIPv6":"","MacAddress":"02:42:0a:07:00:02"},"Options":{
        "com.docker.network.endpoint.exposedports":[{"Proto":17,"Port":81}],
        "com.docker.network.portmap":[{"Proto":6,"IP":"","Port":80,"HostIP":"","HostPort":8080,
        "HostPortEnd":8080}],"ovl.speed":"slow"}}"#;
    let call = decode("NetworkDriver.CreateEndpoint", body).unwrap();
    let expected = CreateEndpoint {
        network: NETWORK.into(),
        endpoint: ENDPOINT.into(),
        address: Some("10.7.0.2/16".parse().unwrap()),
        address6: None,
        mac: Some([2, 0x42, 10, 7, 0, 2]),
        options: options(&[("ovl.speed", "slow")]),
    };
    assert_eq!(call, Call::CreateEndpoint(expected));
}

#[test]
fn an_endpoint_of_the_null_ipam_has_no_address() {
    for interface in [r#"{"Address":"","AddressIPv6":"","MacAddress":""}"#, "{}", "null"] {
        let body = format!(
            r#"{{"NetworkID":"NET","EndpointID":"EP","Interface":{interface},"Options":null}}"#
        );
        let call = decode("NetworkDriver.CreateEndpoint", &body).unwrap();
        let expected = CreateEndpoint {
            network: NETWORK.into(),
            endpoint: ENDPOINT.into(),
            address: None,
            address6: None,
            mac: None,
            options: BTreeMap::new(),
        };
        assert_eq!(call, Call::CreateEndpoint(expected));
    }
}

#[test]
fn a_join_is_read_with_its_sandbox() {
    let body = r#"{"NetworkID":"NET","EndpointID":"EP",
        "SandboxKey":"/var/run/docker/netns/0123456789ab","Options":{}}"#;
    let expected = Join {
        network: NETWORK.into(),
        endpoint: ENDPOINT.into(),
        sandbox_key: "/var/run/docker/netns/0123456789ab".into(),
    };
    let call = decode("NetworkDriver.Join", body).unwrap();
    assert_eq!(call, Call::Join(expected));
}

#[test]
fn pools_lose_their_host_bits_and_addresses_keep_them() {
    let body = r#"{"AddressSpace":"ovl-local","Pool":"10.7.3.4/16","SubPool":"10.7.8.1/24",
        "Options":{"k":"v"},"V6":false}"#;
    let expected = RequestPool {
        pool: Some("10.7.0.0/16".parse().unwrap()),
        sub_pool: Some("10.7.8.0/24".parse().unwrap()),
        options: options(&[("k", "v")]),
        v6: false,
        address_space: "ovl-local".into(),
    };
    let call = decode("IpamDriver.RequestPool", body).unwrap();
    assert_eq!(call, Call::RequestPool(expected));
}

#[test]
fn an_address_request_says_whether_it_is_for_the_gateway() {
    let request = |body| match decode("IpamDriver.RequestAddress", body).unwrap() {
        Call::RequestAddress(request) => request,
        other => panic!("{other:?}"),
    };
    let any = request(r#"{"PoolID":"p","Address":"","Options":null}"#);
    assert!(!any.gateway && any.address.is_none() && any.mac.is_none());
    assert_eq!(any.endpoint_name, None);
    let gateway = request(
        r#"{"PoolID":"p","Address":"10.7.0.1",
        "Options":{"RequestAddressType":"com.docker.network.gateway"}}"#,
    );
    assert!(gateway.gateway);
    assert_eq!(gateway.address, Some("10.7.0.1".parse().unwrap()));
    let named = request(
        r#"{"PoolID":"p","Options":{"com.docker.network.endpoint.name":"web",
        "com.docker.network.endpoint.macaddress":"02:42:0A:07:00:02"}}"#,
    );
    assert_eq!(named.mac, Some([2, 0x42, 10, 7, 0, 2]));
    assert_eq!(named.endpoint_name.as_deref(), Some("web"));
    // Of a container with such a name the address matters more than the name.
    let long = "x".repeat(MAX_ENDPOINT_NAME + 1);
    let body = json!({"PoolID": "p", "Options": {ENDPOINT_NAME: long}}).to_string();
    assert_eq!(request(&body).endpoint_name, None);
}

#[test]
fn the_handshake_needs_no_body() {
    for (method, call) in [
        ("Plugin.Activate", Call::Activate),
        ("NetworkDriver.GetCapabilities", Call::NetworkCapabilities),
        ("NetworkDriver.GwAllocCheck", Call::GwAllocCheck),
        ("NetworkDriver.DiscoverNew", Call::Discover),
        ("NetworkDriver.DiscoverDelete", Call::Discover),
        ("IpamDriver.GetCapabilities", Call::IpamCapabilities),
        ("IpamDriver.GetDefaultAddressSpaces", Call::AddressSpaces),
    ] {
        for body in ["", "null", "{}", "not JSON"] {
            assert_eq!(decode(method, body).unwrap(), call, "{method} {body:?}");
        }
    }
}

#[test]
fn every_other_method_refuses_an_empty_body_and_says_why_it_may_be_empty() {
    for method in METHODS {
        for body in ["", " \r\n"] {
            let (status, message) = refusal(method.name, body);
            assert_eq!(status, 400, "{}", method.name);
            assert!(message.contains("repeat the command"), "{message}");
        }
    }
}

#[test]
fn every_method_of_ids_reads_them() {
    let both = r#"{"NetworkID":"NET","EndpointID":"EP"}"#;
    let (network, endpoint) = (NETWORK.to_owned(), ENDPOINT.to_owned());
    for (method, body, ids) in [
        ("NetworkDriver.DeleteNetwork", r#"{"NetworkID":"NET"}"#, format!("network {network}")),
        ("NetworkDriver.FreeNetwork", r#"{"NetworkID":"NET"}"#, format!("network {network}")),
        ("NetworkDriver.EndpointOperInfo", both, format!("endpoint {endpoint}")),
        ("NetworkDriver.ProgramExternalConnectivity", both, format!("endpoint {endpoint}")),
        ("NetworkDriver.RevokeExternalConnectivity", both, format!("endpoint {endpoint}")),
        ("NetworkDriver.Leave", both, format!("endpoint {endpoint} of network {network}")),
        ("NetworkDriver.DeleteEndpoint", both, format!("endpoint {endpoint} of network {network}")),
        ("IpamDriver.ReleasePool", r#"{"PoolID":"p"}"#, "pool \"p\"".to_owned()),
        (
            "IpamDriver.ReleaseAddress",
            r#"{"PoolID":"p","Address":"10.7.0.2"}"#,
            "10.7.0.2 of pool \"p\"".to_owned(),
        ),
    ] {
        assert_eq!(decode(method, body).unwrap().to_string(), ids, "{method}");
    }
}

#[test]
fn a_refusal_names_the_field_and_the_value() {
    let create = "NetworkDriver.CreateNetwork";
    let endpoint = "NetworkDriver.CreateEndpoint";
    for (method, body, message) in [
        (create, "[]", "body: expected an object, found a list"),
        (create, "null", "body: expected an object, found null"),
        (create, "{}", "NetworkID: missing or empty"),
        (create, r#"{"NetworkID":""}"#, "NetworkID: missing or empty"),
        (create, r#"{"NetworkID":7}"#, "NetworkID: expected text, found a number"),
        (create, r#"{"NetworkID":"NET","Options":"x"}"#, "Options: expected an object, found text"),
        (
            create,
            r#"{"NetworkID":"NET","Options":{"com.docker.network.generic":{"mtu":1400}}}"#,
            "Options.com.docker.network.generic.mtu: expected text, found a number",
        ),
        (
            create,
            r#"{"NetworkID":"NET","Options":{"com.docker.network.internal":"yes"}}"#,
            "Options.com.docker.network.internal: expected true or false, found text",
        ),
        (
            create,
            r#"{"NetworkID":"NET","IPv4Data":{}}"#,
            "IPv4Data: expected a list, found an object",
        ),
        (create, r#"{"NetworkID":"NET","IPv4Data":[{}]}"#, "IPv4Data[0].Pool: missing or empty"),
        (
            create,
            r#"{"NetworkID":"NET","IPv4Data":[true]}"#,
            "IPv4Data[0]: expected an object, found true or false",
        ),
        (
            create,
            r#"{"NetworkID":"NET","IPv4Data":[{"Pool":"10.1.0.0/16"},{"Pool":"10.2/16"}]}"#,
            "IPv4Data[1].Pool: \"10.2/16\" is not an IPv4 address with a prefix length, such as 10.1.0.0/16",
        ),
        (
            endpoint,
            r#"{"NetworkID":"NET","EndpointID":"EP","Interface":{"MacAddress":"02:42:0a:07:00"}}"#,
            "Interface.MacAddress: \"02:42:0a:07:00\" is not a MAC address such as 02:42:0a:01:00:02",
        ),
        (
            "IpamDriver.ReleaseAddress",
            r#"{"PoolID":"p","Address":"10.7.0.2/16"}"#,
            "Address: \"10.7.0.2/16\" is not an IPv4 or IPv6 address",
        ),
        ("IpamDriver.ReleaseAddress", r#"{"PoolID":"p"}"#, "Address: missing or empty"),
        ("IpamDriver.RequestPool", r#"{"Pool":"10.7.0.0/16"}"#, "AddressSpace: missing or empty"),
        (
            "NetworkDriver.Join",
            r#"{"NetworkID":"NET","EndpointID":"EP"}"#,
            "SandboxKey: missing or empty",
        ),
    ] {
        assert_eq!(refusal(method, body), (400, message.to_owned()));
    }
}

#[test]
fn ids_that_no_docker_makes_are_refused() {
    for id in ["x".repeat(65), "a b".to_owned(), "a\\nb".to_owned(), "ä".to_owned()] {
        let (status, message) =
            refusal("NetworkDriver.DeleteNetwork", &format!(r#"{{"NetworkID":"{id}"}}"#));
        assert_eq!(status, 400);
        assert!(message.starts_with("NetworkID: "), "{message}");
    }
}

#[test]
fn macs_are_six_octets_of_two_digits() {
    for bad in [
        "+2:42:0a:07:00:02",
        "2:42:a:7:0:2",
        "02-42-0a-07-00-02",
        "02:42:0a:07:00:02:03",
        "02:42:0a:07:00:0ä",
    ] {
        let body =
            format!(r#"{{"NetworkID":"n","EndpointID":"e","Interface":{{"MacAddress":"{bad}"}}}}"#);
        assert_eq!(refusal("NetworkDriver.CreateEndpoint", &body).0, 400, "{bad}");
    }
}

#[test]
fn an_unknown_method_is_told_from_a_wrong_body() {
    for method in ["", "NetworkDriver.Frobnicate", "networkdriver.join", "VolumeDriver.Mount"] {
        let (status, message) = refusal(method, "");
        assert_eq!(status, 404);
        assert_eq!(message, format!("unknown method {method:?}"));
    }
}

#[test]
fn nesting_without_end_is_refused() {
    let deep = format!(r#"{{"NetworkID":"NET","Options":{}"#, "[".repeat(500_000));
    let (status, message) = refusal("NetworkDriver.CreateNetwork", &deep);
    assert_eq!(status, 400);
    assert!(message.contains("not JSON"), "{message}");
}

#[test]
fn an_error_repeats_no_more_than_the_start_of_a_value() {
    let body = format!(r#"{{"PoolID":"p","Address":"{}"}}"#, "9".repeat(1 << 20));
    let (_, message) = refusal("IpamDriver.ReleaseAddress", &body);
    assert!(message.len() < 200, "{} bytes", message.len());
    let key = "k\n".repeat(1 << 18);
    let body = json!({"AddressSpace": "ovl-local", "Options": {key: 1}}).to_string();
    let (_, message) = refusal("IpamDriver.RequestPool", &body);
    assert!(message.len() < 300 && !message.contains('\n'), "{message}");
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(method in 0..METHODS.len(), body in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = Call::decode(METHODS[method].name, &body);
    }

    #[test]
    fn no_json_breaks_the_reader(method in 0..METHODS.len(), body in any_json(3)) {
        let _ = Call::decode(METHODS[method].name, body.to_string().as_bytes());
    }
}

/// Objects that have the fields that matter, with anything in them.
fn any_json(depth: u32) -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let text =
        prop_oneof![Just("10.7.0.0/16"), Just("10.7.0.2"), Just(""), Just(NETWORK), Just("\u{0}é")];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("NetworkID"),
        Just("EndpointID"),
        Just("Options"),
        Just("IPv4Data"),
        Just("IPv6Data"),
        Just("Pool"),
        Just("Gateway"),
        Just("AuxAddresses"),
        Just("Interface"),
        Just("Address"),
        Just("MacAddress"),
        Just(GENERIC),
        Just("PoolID"),
        Just("AddressSpace"),
        Just("SandboxKey"),
    ];
    leaf.prop_recursive(depth, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..8).prop_map(|pairs| pairs
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v))
                .collect::<Value>()),
        ]
    })
}
