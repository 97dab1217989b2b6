//! What no dockerd would send: each is refused in words, and nothing reaches the backend.
use super::*;

/// A method that takes a body.
struct Method {
    name: &'static str,
    /// A body that is well.
    body: &'static str,
    fields: &'static [Field],
}

/// A field of a body: where it stands (a JSON pointer), and what it must be.
struct Field {
    at: &'static str,
    kind: Kind,
    required: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Id,
    Pool,
    Path,
    Text,
    Flag,
    Object,
    List,
    /// An object within a list, which null is not.
    Item,
    Cidr4,
    Cidr6,
    Address,
    Mac,
}

const fn must(at: &'static str, kind: Kind) -> Field {
    Field { at, kind, required: true }
}

const fn may(at: &'static str, kind: Kind) -> Field {
    Field { at, kind, required: false }
}

const IDS: &str = r#"{"NetworkID":"n1","EndpointID":"e1"}"#;
const NETWORK: &[Field] = &[must("/NetworkID", Kind::Id)];
const ENDPOINT: &[Field] = &[must("/EndpointID", Kind::Id)];
const BOTH: &[Field] = &[must("/NetworkID", Kind::Id), must("/EndpointID", Kind::Id)];

const METHODS: &[Method] = &[
    Method {
        name: "NetworkDriver.AllocateNetwork",
        body: r#"{"NetworkID":"n1","Options":{"a":"b"},"IPv4Data":[],"IPv6Data":[]}"#,
        fields: &[
            must("/NetworkID", Kind::Id),
            may("/Options", Kind::Object),
            may("/Options/a", Kind::Text),
        ],
    },
    Method { name: "NetworkDriver.FreeNetwork", body: r#"{"NetworkID":"n1"}"#, fields: NETWORK },
    Method {
        name: "NetworkDriver.CreateNetwork",
        body: r#"{"NetworkID":"n1","Options":{"com.docker.network.generic":{"a":"b"},
            "com.docker.network.internal":true,"com.docker.network.enable_ipv6":true},
            "IPv4Data":[{"AddressSpace":"ovl-local","Pool":"10.8.0.0/16","Gateway":"10.8.0.1/16",
            "AuxAddresses":{"a":"10.8.0.9/16"}}],
            "IPv6Data":[{"AddressSpace":"ovl-local","Pool":"fd08::/64","Gateway":"fd08::1/64",
            "AuxAddresses":{"a":"fd08::9/64"}}]}"#,
        fields: &[
            must("/NetworkID", Kind::Id),
            may("/Options", Kind::Object),
            may("/Options/com.docker.network.generic", Kind::Object),
            may("/Options/com.docker.network.generic/a", Kind::Text),
            may("/Options/com.docker.network.internal", Kind::Flag),
            may("/Options/com.docker.network.enable_ipv6", Kind::Flag),
            may("/IPv4Data", Kind::List),
            may("/IPv4Data/0", Kind::Item),
            may("/IPv4Data/0/AddressSpace", Kind::Text),
            must("/IPv4Data/0/Pool", Kind::Cidr4),
            may("/IPv4Data/0/Gateway", Kind::Cidr4),
            may("/IPv4Data/0/AuxAddresses", Kind::Object),
            may("/IPv4Data/0/AuxAddresses/a", Kind::Cidr4),
            may("/IPv6Data", Kind::List),
            may("/IPv6Data/0", Kind::Item),
            may("/IPv6Data/0/AddressSpace", Kind::Text),
            must("/IPv6Data/0/Pool", Kind::Cidr6),
            may("/IPv6Data/0/Gateway", Kind::Cidr6),
            may("/IPv6Data/0/AuxAddresses", Kind::Object),
            may("/IPv6Data/0/AuxAddresses/a", Kind::Cidr6),
        ],
    },
    Method { name: "NetworkDriver.DeleteNetwork", body: r#"{"NetworkID":"n1"}"#, fields: NETWORK },
    Method {
        name: "NetworkDriver.CreateEndpoint",
        body: r#"{"NetworkID":"n1","EndpointID":"e1","Interface":{"Address":"10.8.0.2/16",
            "AddressIPv6":"fd08::2/64","MacAddress":"02:42:0a:08:00:02"},"Options":{"a":"b"}}"#,
        fields: &[
            must("/NetworkID", Kind::Id),
            must("/EndpointID", Kind::Id),
            may("/Interface", Kind::Object),
            may("/Interface/Address", Kind::Cidr4),
            may("/Interface/AddressIPv6", Kind::Cidr6),
            may("/Interface/MacAddress", Kind::Mac),
            may("/Options", Kind::Object),
        ],
    },
    Method { name: "NetworkDriver.EndpointOperInfo", body: IDS, fields: ENDPOINT },
    Method { name: "NetworkDriver.DeleteEndpoint", body: IDS, fields: BOTH },
    Method {
        name: "NetworkDriver.Join",
        body: r#"{"NetworkID":"n1","EndpointID":"e1","SandboxKey":"/run/docker/netns/1"}"#,
        fields: &[
            must("/NetworkID", Kind::Id),
            must("/EndpointID", Kind::Id),
            must("/SandboxKey", Kind::Path),
        ],
    },
    Method { name: "NetworkDriver.Leave", body: IDS, fields: BOTH },
    Method { name: "NetworkDriver.ProgramExternalConnectivity", body: IDS, fields: ENDPOINT },
    Method { name: "NetworkDriver.RevokeExternalConnectivity", body: IDS, fields: ENDPOINT },
    Method {
        name: "IpamDriver.RequestPool",
        body: r#"{"AddressSpace":"ovl-local","Pool":"10.8.0.0/16","SubPool":"10.8.1.0/24",
            "Options":{"a":"b"},"V6":false}"#,
        fields: &[
            must("/AddressSpace", Kind::Text),
            may("/Pool", Kind::Cidr4),
            may("/SubPool", Kind::Cidr4),
            may("/Options", Kind::Object),
            may("/Options/a", Kind::Text),
            may("/V6", Kind::Flag),
        ],
    },
    Method {
        name: "IpamDriver.ReleasePool",
        body: r#"{"PoolID":"10.8.0.0/16"}"#,
        fields: &[must("/PoolID", Kind::Pool)],
    },
    Method {
        name: "IpamDriver.RequestAddress",
        body: r#"{"PoolID":"10.8.0.0/16","Address":"10.8.0.2","Options":{"RequestAddressType":"x",
            "com.docker.network.endpoint.macaddress":"02:42:0a:08:00:02",
            "com.docker.network.endpoint.name":"web"}}"#,
        fields: &[
            must("/PoolID", Kind::Pool),
            may("/Address", Kind::Address),
            may("/Options", Kind::Object),
            may("/Options/RequestAddressType", Kind::Text),
            may("/Options/com.docker.network.endpoint.macaddress", Kind::Mac),
            may("/Options/com.docker.network.endpoint.name", Kind::Text),
        ],
    },
    Method {
        name: "IpamDriver.ReleaseAddress",
        body: r#"{"PoolID":"10.8.0.0/16","Address":"10.8.0.2"}"#,
        fields: &[must("/PoolID", Kind::Pool), must("/Address", Kind::Address)],
    },
];

/// They take no body, and do not look at one that came.
const WITHOUT_BODY: &[&str] = &[
    "Plugin.Activate",
    "NetworkDriver.GetCapabilities",
    "NetworkDriver.GwAllocCheck",
    "NetworkDriver.DiscoverNew",
    "NetworkDriver.DiscoverDelete",
    "IpamDriver.GetCapabilities",
    "IpamDriver.GetDefaultAddressSpaces",
];

impl Method {
    fn body(&self) -> Value {
        serde_json::from_str(self.body).unwrap()
    }

    /// The body with one field replaced; None: without it.
    fn with(&self, at: &str, value: Option<&Value>) -> Value {
        let mut body = self.body();
        match value {
            Some(value) => *body.pointer_mut(at).unwrap() = value.clone(),
            None => {
                let (parent, key) = at.rsplit_once('/').unwrap();
                match body.pointer_mut(parent).unwrap() {
                    Value::Object(map) => drop(map.remove(key).unwrap()),
                    Value::Array(list) => drop(list.remove(key.parse().unwrap())),
                    other => panic!("{other}"),
                }
            }
        }
        body
    }
}

impl Kind {
    /// Whether a value has the right JSON type; null never has.
    fn takes(self, value: &Value) -> bool {
        match self {
            Self::Flag => value.is_boolean(),
            Self::Object | Self::Item => value.is_object(),
            Self::List => value.is_array(),
            Self::Id
            | Self::Pool
            | Self::Path
            | Self::Text
            | Self::Cidr4
            | Self::Cidr6
            | Self::Address
            | Self::Mac => value.is_string(),
        }
    }

    /// Values of the right JSON type that are wrong.
    fn wrong(self) -> Vec<String> {
        let long = |length| "x".repeat(length);
        let texts: &[&str] = match self {
            Self::Id => {
                return vec![long(65), long(1 << 19), "a\nb".into(), "a\0".into(), "ä".into()];
            }
            Self::Pool => return vec![long(256), long(1 << 19), "a\u{7f}".into(), "ä".into()],
            Self::Path => return vec![long(4096), "/run/a\nb".into(), "/run/a\0".into()],
            Self::Cidr4 => {
                &["10.8.0.0", "10.8.0.0/33", "10.8/16", "10.8.0.0/-1", "fd08::/64", "x", "\0"]
            }
            Self::Cidr6 => &["fd08::", "fd08::/129", "fd08:::/64", "10.8.0.0/16", "x", "::g/64"],
            Self::Address => &["10.8.0.2/16", "10.8.0.256", "10.8.0", "fd08::2/64", "fe80::1%eth0"],
            Self::Mac => &["02:42:0a:08:00", "x", "02-42-0a-08-00-02", "AkIKCAAC"],
            Self::Text | Self::Flag | Self::Object | Self::List | Self::Item => &[],
        };
        texts.iter().map(ToString::to_string).collect()
    }
}

/// As an error names the field: `/IPv4Data/0/Pool` is `IPv4Data[0].Pool`.
fn named(at: &str) -> String {
    at[1..].replace("/0", "[0]").replace('/', ".")
}

/// Of every JSON type one or more.
fn every_type() -> Vec<Value> {
    let mut all = vec![json!(true), json!(false), json!(0), json!(-1), json!(1.5), json!(1e300)];
    all.extend([
        json!(u64::MAX),
        json!("text"),
        json!([]),
        json!([{}]),
        json!({}),
        json!({"a": 1}),
    ]);
    all
}

impl Lab {
    /// A refusal that a person understands, and that cost nothing; the words.
    async fn refused(&self, method: &str, body: impl Into<Bytes>, status: StatusCode) -> String {
        let body = body.into();
        let start = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        let before = self.calls().len();
        let (found, reply) = self.post(method, body).await;
        assert_eq!(found, status, "{method} {start}: {reply}");
        let words = reply["Err"].as_str().unwrap_or_default().to_owned();
        assert!(words.split(' ').count() >= 3 && words.len() < 400, "{method} {start}: {reply}");
        assert!(!words.contains(char::is_control), "{method} {start}: {reply}");
        let ipam = method.starts_with("IpamDriver.").then_some(words.as_str());
        assert_eq!(reply["Error"].as_str(), ipam, "{method} {start}");
        assert_eq!(self.calls().len(), before, "{method} {start} reached the backend");
        words
    }

    /// A request that is well; what the backend was asked, if it was.
    async fn accepted(&self, method: &str, body: &Value) -> Option<String> {
        let before = self.calls().len();
        let (status, reply) = self.post(method, body.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{method} {body}: {reply}");
        assert!(reply.get("Err").is_none() && reply.get("Error").is_none(), "{reply}");
        self.calls().get(before).cloned()
    }
}

#[test]
fn the_table_has_every_method() {
    for method in METHODS {
        Call::decode(method.name, method.body.as_bytes()).unwrap();
    }
    // Those of the plugin protocol that the agent answers.
    assert_eq!(METHODS.len() + WITHOUT_BODY.len(), 22);
}

#[tokio::test]
async fn a_body_that_is_no_object_is_refused() {
    let lab = Lab::start(Recorder::default()).await;
    let deep = |open: &str| format!(r#"{{"NetworkID":"n","Options":{}"#, open.repeat(100_000));
    let bodies: Vec<(Bytes, &str)> = vec![
        ("".into(), "the body is empty"),
        (" \r\n\t".into(), "the body is empty"),
        ("null".into(), "body: expected an object, found null"),
        ("[]".into(), "body: expected an object, found a list"),
        ("\"x\"".into(), "body: expected an object, found text"),
        ("7".into(), "body: expected an object, found a number"),
        ("true".into(), "body: expected an object, found true or false"),
        ("{".into(), "the body is not JSON"),
        ("{}{}".into(), "the body is not JSON"),
        ("{'NetworkID':'n'}".into(), "the body is not JSON"),
        ("\u{feff}{}".into(), "the body is not JSON"),
        ("{\"NetworkID\":1e999}".into(), "the body is not JSON"),
        (format!("{{\"NetworkID\":{}}}", "9".repeat(10_000)).into(), "the body is not JSON"),
        (Bytes::from_static(b"{\"NetworkID\":\"\xff\xfe\"}"), "the body is not JSON"),
        (Bytes::from_static(b"{\"Network\xffID\":\"n\"}"), "the body is not JSON"),
        (Bytes::from_static(b"\0\0\0\0"), "the body is not JSON"),
        (Bytes::from_static(b"{\"NetworkID\":\"\\ud800\"}"), "the body is not JSON"),
        (vec![b'x'; MAX_BODY].into(), "the body is not JSON"),
        (vec![0xff; MAX_BODY].into(), "the body is not JSON"),
        (deep("[").into(), "the body is not JSON"),
        (deep("{\"a\":").into(), "the body is not JSON"),
    ];
    for method in METHODS {
        for (body, words) in &bodies {
            let refused = lab.refused(method.name, body.clone(), StatusCode::BAD_REQUEST).await;
            assert!(refused.contains(words), "{}: {refused}", method.name);
        }
        let large = vec![b' '; MAX_BODY + 1];
        let refused = lab.refused(method.name, large, StatusCode::PAYLOAD_TOO_LARGE).await;
        assert!(refused.contains("larger than 1048576 bytes"), "{refused}");
    }
    assert!(lab.calls().is_empty());
}

#[tokio::test]
async fn where_no_body_is_needed_none_is_looked_at_but_its_size() {
    let lab = Lab::start(Recorder::default()).await;
    for method in WITHOUT_BODY {
        for body in ["", "null", "[]", "{", "\0", "{\"x\":1e999}"] {
            let (status, reply) = lab.post(method, body).await;
            assert_eq!(status, StatusCode::OK, "{method} {body:?}: {reply}");
        }
        let large = vec![b' '; MAX_BODY + 1];
        lab.refused(method, large, StatusCode::PAYLOAD_TOO_LARGE).await;
    }
    assert!(lab.calls().is_empty());
}

#[tokio::test]
async fn a_request_without_a_body_at_all_is_as_one_that_docker_lost() {
    let lab = Lab::start(Recorder::default()).await;
    for method in METHODS {
        let mut stream = UnixStream::connect(lab.path()).await.unwrap();
        let head = format!("POST /{} HTTP/1.1\r\nHost: \r\nConnection: close\r\n\r\n", method.name);
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 400 "), "{reply}");
        assert!(reply.contains("repeat the command"), "{reply}");
    }
    assert!(lab.calls().is_empty());
}

#[tokio::test]
async fn a_field_that_is_missing_or_null_is_named_if_it_is_needed() {
    let lab = Lab::start(Recorder::default()).await;
    for method in METHODS {
        for field in method.fields.iter().filter(|field| field.kind != Kind::Item) {
            for body in [method.with(field.at, None), method.with(field.at, Some(&Value::Null))] {
                if field.required {
                    let words =
                        lab.refused(method.name, body.to_string(), StatusCode::BAD_REQUEST).await;
                    assert_eq!(words, format!("{}: missing or empty", named(field.at)));
                } else {
                    lab.accepted(method.name, &body).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_field_of_the_wrong_type_is_named_with_what_it_must_be() {
    let lab = Lab::start(Recorder::default()).await;
    for method in METHODS {
        for field in method.fields {
            for value in every_type().iter().filter(|value| !field.kind.takes(value)) {
                let body = method.with(field.at, Some(value));
                let words =
                    lab.refused(method.name, body.to_string(), StatusCode::BAD_REQUEST).await;
                let expected = format!("{}: expected ", named(field.at));
                assert!(words.starts_with(&expected), "{} {value}: {words}", method.name);
            }
            if field.kind == Kind::Item {
                let body = method.with(field.at, Some(&Value::Null)).to_string();
                let words = lab.refused(method.name, body, StatusCode::BAD_REQUEST).await;
                let expected = format!("{}: expected an object, found null", named(field.at));
                assert_eq!(words, expected);
            }
        }
    }
    assert!(lab.calls().is_empty());
}

#[tokio::test]
async fn a_field_with_a_wrong_value_is_named_with_the_start_of_it() {
    let lab = Lab::start(Recorder::default()).await;
    for method in METHODS {
        for field in method.fields {
            for value in field.kind.wrong() {
                let body = method.with(field.at, Some(&value.into())).to_string();
                let words = lab.refused(method.name, body, StatusCode::BAD_REQUEST).await;
                let (start, end) = (format!("{}: \"", named(field.at)), "\" is not a");
                assert!(words.starts_with(&start) && words.contains(end), "{words}");
            }
        }
    }
    assert!(lab.calls().is_empty());
}

#[tokio::test]
async fn unknown_keys_and_keys_of_another_case_change_nothing() {
    let lab = Lab::start(Recorder::default()).await;
    for method in METHODS {
        let expected = lab.accepted(method.name, &method.body()).await;
        let mut more = method.body();
        for (key, value) in
            [("New", json!({"a": [1, null]})), ("", json!(1)), ("Networkid2", json!(0))]
        {
            more[key] = value;
        }
        assert_eq!(lab.accepted(method.name, &more).await, expected, "{}", method.name);
        for change in [str::to_lowercase, str::to_uppercase] {
            let body = with_keys(method.body(), change);
            assert_eq!(lab.accepted(method.name, &body).await, expected, "{body}");
        }
    }
}

/// The body with the keys of the protocol changed, but not those that a user chose.
fn with_keys(value: Value, change: fn(&str) -> String) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| {
                (if key == "a" { key } else { change(&key) }, with_keys(value, change))
            })
            .collect(),
        Value::Array(list) => list.into_iter().map(|value| with_keys(value, change)).collect(),
        other => other,
    }
}

#[tokio::test]
async fn a_path_that_is_no_method_is_refused_whatever_comes_with_it() {
    let lab = Lab::start(Recorder::default()).await;
    let long = "x".repeat(10_000);
    for method in ["", "NetworkDriver.", "networkdriver.join", "VolumeDriver.Mount", "a/b", &long] {
        for body in ["", "{}", "\0"] {
            let words = lab.refused(method, body, StatusCode::NOT_FOUND).await;
            assert!(words.starts_with("unknown method"), "{words}");
        }
    }
    let words = lab.refused("IpamDriver.Nothing", "{}", StatusCode::NOT_FOUND).await;
    assert_eq!(words, "unknown method \"IpamDriver.Nothing\"");
}
