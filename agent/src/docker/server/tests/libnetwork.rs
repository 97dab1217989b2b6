//! The cases that libnetwork tests its own side with, from this side: what its proxies of remote
//! drivers send there is understood here, and what they take for an error is never sent.
use super::*;

const FULL: &str = r#"{"NetworkID":"dummy-network","EndpointID":"dummy-endpoint","Interface":
    {"Address":"192.168.5.7/16","AddressIPv6":"2001:db8::5:7/48","MacAddress":"ab:cd:ef:ee:ee:ee"},
    "Options":{}}"#;
const EMPTY: &str = r#"{"NetworkID":"dummy-network","EndpointID":"dummy-endpoint","Interface":
    {"Address":"","AddressIPv6":"","MacAddress":""},"Options":{}}"#;

#[tokio::test]
async fn capabilities_are_neither_empty_nor_of_an_unknown_scope() {
    for global in [false, true] {
        let lab = Lab::start(Recorder { global, ..Recorder::default() }).await;
        let (status, reply) = lab.post("NetworkDriver.GetCapabilities", "").await;
        assert_eq!(status, StatusCode::OK);
        for scope in ["Scope", "ConnectivityScope"] {
            assert!(["local", "global"].contains(&reply[scope].as_str().unwrap()), "{reply}");
        }
        let (status, reply) = lab.post("IpamDriver.GetCapabilities", "").await;
        assert_eq!(status, StatusCode::OK, "no legacy driver");
        assert!(reply["RequiresMACAddress"].is_boolean(), "{reply}");
    }
}

#[tokio::test]
async fn the_handshake_names_both_kinds_of_driver_and_no_other() {
    let lab = Lab::start(Recorder::default()).await;
    let (status, reply) = lab.post("Plugin.Activate", "").await;
    let both = json!({"Implements": ["NetworkDriver", "IpamDriver"]});
    assert_eq!((status, reply), (StatusCode::OK, both));
}

#[tokio::test]
async fn a_remote_driver_is_led_through_its_whole_life() {
    let lab = Lab::start(Recorder::default()).await;
    let ids = r#"{"NetworkID":"dummy-network","EndpointID":"dummy-endpoint"}"#;
    let discovery = r#"{"DiscoveryType":1,"DiscoveryData":{"Address":"192.168.1.1","BindAddress":"",
        "Self":false}}"#;
    for (method, body) in [
        (
            "CreateNetwork",
            r#"{"NetworkID":"dummy-network","Options":{},"IPv4Data":null,"IPv6Data":null}"#,
        ),
        ("CreateEndpoint", EMPTY),
        (
            "Join",
            r#"{"NetworkID":"dummy-network","EndpointID":"dummy-endpoint",
                "SandboxKey":"sandbox-key","Options":{"foo":"fooValue"}}"#,
        ),
        ("EndpointOperInfo", ids),
        ("Leave", ids),
        ("DeleteEndpoint", ids),
        ("DeleteNetwork", r#"{"NetworkID":"dummy-network"}"#),
        ("DiscoverNew", discovery),
        ("DiscoverDelete", discovery),
    ] {
        let (status, reply) = lab.post(&format!("NetworkDriver.{method}"), body).await;
        assert_eq!(status, StatusCode::OK, "{method}: {reply}");
        assert!(reply.is_object() && reply.get("Err").is_none(), "{method}: {reply}");
        if method == "Join" {
            assert!(!reply["InterfaceName"]["SrcName"].as_str().unwrap().is_empty());
            assert!(!reply["InterfaceName"]["DstPrefix"].as_str().unwrap().is_empty());
        }
    }
    assert_eq!(lab.calls().len(), 6, "{:#?}", lab.calls());
}

#[tokio::test]
async fn an_error_of_the_driver_is_raised_as_one() {
    let error = PluginError::conflict("this should get raised as an error");
    let lab = Lab::start(Recorder { refuse: Some(error), ..Recorder::default() }).await;
    let body = r#"{"NetworkID":"dummy","EndpointID":"dummy","Interface":{},"Options":{}}"#;
    let (status, reply) = lab.post("NetworkDriver.CreateEndpoint", body).await;
    let raised = json!({"Err": "this should get raised as an error"});
    assert_eq!((status, reply), (StatusCode::CONFLICT, raised));
}

#[tokio::test]
async fn an_interface_is_never_modified_where_libnetwork_has_set_it() {
    // What it takes as a modification makes it fail, and roll back by DeleteEndpoint.
    let mac = Some([0x7a, 0x12, 0x34, 0x56, 0x78, 0x90]);
    let lab = Lab::start(Recorder { mac, ..Recorder::default() }).await;
    for (body, interface) in
        [(EMPTY, json!({"MacAddress": "7a:12:34:56:78:90"})), (FULL, json!({}))]
    {
        let (status, reply) = lab.post("NetworkDriver.CreateEndpoint", body).await;
        assert_eq!((status, reply), (StatusCode::OK, json!({"Interface": interface})));
    }
    // Values that are missing on both sides are left out of the reply, not sent empty.
    let lab = Lab::start(Recorder::default()).await;
    let (_, reply) = lab.post("NetworkDriver.CreateEndpoint", EMPTY).await;
    assert_eq!(reply, json!({"Interface": {}}));
}

#[tokio::test]
async fn a_remote_ipam_driver_is_asked_for_pools_and_addresses() {
    let lab = Lab::start(Recorder::default()).await;
    let (_, spaces) = lab.post("IpamDriver.GetDefaultAddressSpaces", "").await;
    let space = spaces["LocalDefaultAddressSpace"].as_str().unwrap();
    assert!(!space.is_empty() && space != spaces["GlobalDefaultAddressSpace"]);
    let pool = |pool: &str, sub_pool: &str, options: Value| {
        json!({"AddressSpace": space, "Pool": pool, "SubPool": sub_pool, "Options": options,
            "V6": false})
    };
    let some = json!({"some": "yes"});
    for (body, expected) in [
        (pool("", "", Value::Null), "10.8.0.0/16"),
        (pool("172.20.0.0/16", "", Value::Null), "172.20.0.0/16"),
        (pool("172.20.0.0/16", "172.20.3.0/24", some), "172.20.0.0/16"),
    ] {
        let (status, reply) = lab.post("IpamDriver.RequestPool", body.to_string()).await;
        assert_eq!((status, &reply["Pool"]), (StatusCode::OK, &json!(expected)));
        assert!(!reply["PoolID"].as_str().unwrap().is_empty() && reply["Data"].is_object());
    }
    for (address, expected) in [("", "10.8.0.2/16"), ("172.20.1.45", "172.20.1.45/16")] {
        let body = json!({"PoolID": "pool-1", "Address": address, "Options": null}).to_string();
        let (status, reply) = lab.post("IpamDriver.RequestAddress", body).await;
        assert_eq!((status, &reply["Address"]), (StatusCode::OK, &json!(expected)));
    }
    let body = r#"{"PoolID":"pool-1","Address":"172.18.1.45"}"#;
    assert_eq!(lab.post("IpamDriver.ReleaseAddress", body).await, (StatusCode::OK, json!({})));
    let body = r#"{"PoolID":"pool-1"}"#;
    assert_eq!(lab.post("IpamDriver.ReleasePool", body).await, (StatusCode::OK, json!({})));
    let calls = lab.calls();
    assert!(calls[2].contains("sub_pool: Some(172.20.3.0/24)"), "{calls:#?}");
    assert!(calls[2].contains(r#"{"some": "yes"}"#), "{calls:#?}");
    assert_eq!(calls[5..], ["release 172.18.1.45 of pool-1", "release pool-1"]);
}
