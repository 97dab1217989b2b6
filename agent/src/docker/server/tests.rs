use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

use async_trait::async_trait;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::super::plugin::{
    CreateEndpoint, CreateEndpointReply, CreateNetwork, Join, JoinReply, PoolReply, RequestAddress,
    RequestPool, Scope,
};
use super::*;

mod bad_input;
mod libnetwork;

/// Writes down every call; `refuse` makes all fail; a pool of 10.9.0.0/16 waits for `go`.
#[derive(Default)]
struct Recorder {
    calls: Mutex<Vec<String>>,
    refuse: Option<PluginError>,
    mac: Option<[u8; 6]>,
    global: bool,
    entered: Notify,
    go: Notify,
    left: Notify,
}

impl Recorder {
    fn note<T>(&self, call: String, reply: T) -> Result<T, PluginError> {
        self.calls.lock().unwrap().push(call);
        self.refuse.clone().map_or(Ok(reply), Err)
    }
}

#[async_trait]
impl Backend for Recorder {
    async fn capabilities(&self, cluster_store: bool) -> Result<Scope, PluginError> {
        assert!(!cluster_store, "the test itself asks, and it is no dockerd");
        let scope = if self.global { Scope::Global } else { Scope::Local };
        self.refuse.clone().map_or(Ok(scope), Err)
    }
    async fn request_pool(&self, r: RequestPool) -> Result<PoolReply, PluginError> {
        let pool =
            r.pool.unwrap_or(if r.v6 { "fd08::/64" } else { "10.8.0.0/16" }.parse().unwrap());
        if pool == "10.9.0.0/16".parse().unwrap() {
            self.entered.notify_one();
            self.go.notified().await;
        }
        let reply = PoolReply { pool_id: "pool-1".into(), pool };
        let noted = self.note(format!("{r:?}"), reply);
        self.left.notify_one();
        noted
    }
    async fn release_pool(&self, pool_id: String) -> Result<(), PluginError> {
        self.note(format!("release {pool_id}"), ())
    }
    async fn request_address(&self, r: RequestAddress) -> Result<IpNet, PluginError> {
        assert_ne!(r.pool_id, "panic", "as the test wants it");
        let address = r.address.unwrap_or(Ipv4Addr::new(10, 8, 0, 2).into());
        self.note(format!("{r:?}"), IpNet::new(address, 16).unwrap())
    }
    async fn release_address(&self, pool_id: String, address: IpAddr) -> Result<(), PluginError> {
        self.note(format!("release {address} of {pool_id}"), ())
    }
    async fn create_network(&self, r: CreateNetwork) -> Result<(), PluginError> {
        self.note(format!("{r:?}"), ())
    }
    async fn delete_network(&self, id: String) -> Result<(), PluginError> {
        self.note(format!("delete {id}"), ())
    }
    async fn create_endpoint(&self, r: CreateEndpoint) -> Result<CreateEndpointReply, PluginError> {
        self.note(format!("{r:?}"), CreateEndpointReply { mac: self.mac })
    }
    async fn delete_endpoint(&self, network: String, endpoint: String) -> Result<(), PluginError> {
        self.note(format!("delete {endpoint} of {network}"), ())
    }
    async fn join(&self, r: Join) -> Result<JoinReply, PluginError> {
        let reply = JoinReply {
            src_name: "ovl-e1".into(),
            dst_prefix: "eth".into(),
            disable_gateway_service: false,
        };
        self.note(format!("{r:?}"), reply)
    }
    async fn leave(&self, network: String, endpoint: String) -> Result<(), PluginError> {
        self.note(format!("{endpoint} leaves {network}"), ())
    }
}

/// A server in a directory of its own, stopped with the test.
struct Lab {
    directory: tempfile::TempDir,
    recorder: Arc<Recorder>,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

impl Lab {
    async fn start(recorder: Recorder) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = PluginServer::bind(&directory.path().join("plugins/ovl.sock")).await.unwrap();
        let recorder = Arc::new(recorder);
        let (stop, stopped) = oneshot::channel();
        let stopped = async { drop(stopped.await) };
        let served = tokio::spawn(server.serve(recorder.clone(), stopped));
        Self { directory, recorder, stop: Some(stop), served }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("plugins/ovl.sock")
    }

    async fn stop(mut self) -> tempfile::TempDir {
        self.stop.take().unwrap().send(()).unwrap();
        self.served.await.unwrap();
        self.directory
    }

    /// As Go's client: POST, an `Accept`, no `Content-Type`.
    async fn post(&self, method: &str, body: impl Into<Bytes>) -> (StatusCode, Value) {
        self.send(hyper::Request::post(format!("/{method}")), body).await
    }

    async fn send(
        &self,
        request: hyper::http::request::Builder,
        body: impl Into<Bytes>,
    ) -> (StatusCode, Value) {
        let stream = UnixStream::connect(self.path()).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = request
            .header("Host", "plugin.moby.localhost")
            .header("Accept", CONTENT_TYPE)
            .body(Full::new(body.into()))
            .unwrap();
        let reply = sender.send_request(request).await.unwrap();
        assert_eq!(reply.headers()["content-type"], CONTENT_TYPE);
        let status = reply.status();
        let body = reply.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    fn calls(&self) -> Vec<String> {
        self.recorder.calls.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn the_handshake_says_local_scope_and_both_drivers() {
    let lab = Lab::start(Recorder::default()).await;
    for (method, reply) in [
        ("Plugin.Activate", json!({"Implements": ["NetworkDriver", "IpamDriver"]})),
        ("NetworkDriver.GetCapabilities", json!({"Scope": "local", "ConnectivityScope": "global"})),
        (
            "IpamDriver.GetCapabilities",
            json!({"RequiresMACAddress": false, "RequiresRequestReplay": false}),
        ),
        (
            "IpamDriver.GetDefaultAddressSpaces",
            json!({"LocalDefaultAddressSpace": "ovl-local", "GlobalDefaultAddressSpace": "ovl-global"}),
        ),
    ] {
        assert_eq!(lab.post(method, "").await, (StatusCode::OK, reply), "{method}");
    }
    assert!(lab.calls().is_empty());
}

#[tokio::test]
async fn a_whole_life_of_a_container_is_answered_as_docker_reads_it() {
    let recorder = Recorder { mac: Some([2, 0x42, 10, 8, 0, 2]), ..Recorder::default() };
    let lab = Lab::start(recorder).await;
    let ids = r#"{"NetworkID":"n1","EndpointID":"e1"}"#;
    for (method, body, reply) in [
        (
            "IpamDriver.RequestPool",
            r#"{"AddressSpace":"ovl-local","Pool":"10.8.0.0/16","SubPool":"","Options":{},"V6":false}"#,
            json!({"PoolID": "pool-1", "Pool": "10.8.0.0/16", "Data": {}}),
        ),
        (
            "IpamDriver.RequestAddress",
            r#"{"PoolID":"pool-1","Address":"","Options":{"RequestAddressType":"com.docker.network.gateway"}}"#,
            json!({"Address": "10.8.0.2/16", "Data": {}}),
        ),
        (
            "NetworkDriver.CreateNetwork",
            r#"{"NetworkID":"n1","Options":{},"IPv4Data":[{"AddressSpace":"ovl-local","Pool":"10.8.0.0/16"}],"IPv6Data":[]}"#,
            json!({}),
        ),
        (
            "NetworkDriver.CreateEndpoint",
            r#"{"NetworkID":"n1","EndpointID":"e1","Interface":{"Address":"10.8.0.2/16"}}"#,
            json!({"Interface": {"MacAddress": "02:42:0a:08:00:02"}}),
        ),
        (
            "NetworkDriver.Join",
            r#"{"NetworkID":"n1","EndpointID":"e1","SandboxKey":"/var/run/docker/netns/x","Options":null}"#,
            json!({"InterfaceName": {"SrcName": "ovl-e1", "DstPrefix": "eth"}, "DisableGatewayService": false}),
        ),
        ("NetworkDriver.ProgramExternalConnectivity", ids, json!({})),
        ("NetworkDriver.EndpointOperInfo", ids, json!({"Value": {}})),
        ("NetworkDriver.RevokeExternalConnectivity", ids, json!({})),
        ("NetworkDriver.Leave", ids, json!({})),
        ("NetworkDriver.DeleteEndpoint", ids, json!({})),
        ("IpamDriver.ReleaseAddress", r#"{"PoolID":"pool-1","Address":"10.8.0.2"}"#, json!({})),
        ("IpamDriver.ReleasePool", r#"{"PoolID":"pool-1"}"#, json!({})),
        ("NetworkDriver.DeleteNetwork", r#"{"NetworkID":"n1"}"#, json!({})),
        (
            "NetworkDriver.AllocateNetwork",
            r#"{"NetworkID":"n1","Options":{"a":"b"}}"#,
            json!({"Options": {"a": "b"}}),
        ),
        ("NetworkDriver.FreeNetwork", r#"{"NetworkID":"n1"}"#, json!({})),
        (
            "NetworkDriver.GwAllocCheck",
            r#"{"Options":{}}"#,
            json!({"SkipIPv4": false, "SkipIPv6": false}),
        ),
        ("NetworkDriver.DiscoverNew", r#"{"DiscoveryType":1,"DiscoveryData":{}}"#, json!({})),
    ] {
        assert_eq!(lab.post(method, body).await, (StatusCode::OK, reply), "{method}");
    }
    let calls = lab.calls();
    assert_eq!(calls.len(), 10, "{calls:#?}");
    assert!(calls[1].contains("gateway: true"), "{}", calls[1]);
    assert_eq!(
        calls[5..],
        [
            "e1 leaves n1",
            "delete e1 of n1",
            "release 10.8.0.2 of pool-1",
            "release pool-1",
            "delete n1"
        ]
    );
}

#[tokio::test]
async fn a_mac_that_docker_gave_is_never_given_back() {
    let recorder = Recorder { mac: Some([2, 0, 0, 0, 0, 1]), ..Recorder::default() };
    let lab = Lab::start(recorder).await;
    let body =
        r#"{"NetworkID":"n1","EndpointID":"e1","Interface":{"MacAddress":"02:00:00:00:00:01"}}"#;
    let (_, reply) = lab.post("NetworkDriver.CreateEndpoint", body).await;
    assert_eq!(reply, json!({"Interface": {}}));
}

#[tokio::test]
async fn a_failure_reaches_docker_in_the_words_of_the_backend() {
    let error = PluginError::unavailable("the store at consul://127.0.0.1 did not answer");
    let lab = Lab::start(Recorder { refuse: Some(error.clone()), ..Recorder::default() }).await;
    let (status, reply) =
        lab.post("NetworkDriver.Leave", r#"{"NetworkID":"n","EndpointID":"e"}"#).await;
    assert_eq!((status, reply), (StatusCode::SERVICE_UNAVAILABLE, json!({"Err": error.message})));
    let (status, reply) = lab.post("IpamDriver.ReleasePool", r#"{"PoolID":"p"}"#).await;
    let both = json!({"Err": error.message, "Error": error.message});
    assert_eq!((status, reply), (StatusCode::SERVICE_UNAVAILABLE, both));
}

#[tokio::test]
async fn a_failure_is_never_sent_as_a_success() {
    let error = PluginError { status: StatusCode::OK, message: "no".into() };
    let lab = Lab::start(Recorder { refuse: Some(error), ..Recorder::default() }).await;
    let (status, _) = lab.post("IpamDriver.ReleasePool", r#"{"PoolID":"p"}"#).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn the_backend_says_which_scope_the_networks_have() {
    let lab = Lab::start(Recorder { global: true, ..Recorder::default() }).await;
    let (_, reply) = lab.post("NetworkDriver.GetCapabilities", "").await;
    assert_eq!(reply, json!({"Scope": "global", "ConnectivityScope": "global"}));
    let refuse = Some(PluginError::unavailable("not yet"));
    let lab = Lab::start(Recorder { refuse, ..Recorder::default() }).await;
    let (status, reply) = lab.post("NetworkDriver.GetCapabilities", "").await;
    assert_eq!((status, reply), (StatusCode::SERVICE_UNAVAILABLE, json!({"Err": "not yet"})));
}

#[tokio::test]
async fn ipv6_goes_to_the_backend_like_ipv4() {
    let lab = Lab::start(Recorder::default()).await;
    for (method, body, reply, call) in [
        (
            "IpamDriver.RequestPool",
            r#"{"AddressSpace":"ovl-local","Pool":"fd00::1/64","SubPool":"fd00::/80","V6":true}"#,
            json!({"PoolID": "pool-1", "Pool": "fd00::/64", "Data": {}}),
            "pool: Some(fd00::/64)",
        ),
        (
            "IpamDriver.RequestPool",
            r#"{"AddressSpace":"ovl-global","V6":true}"#,
            json!({"PoolID": "pool-1", "Pool": "fd08::/64", "Data": {}}),
            "pool: None",
        ),
        (
            "IpamDriver.RequestAddress",
            r#"{"PoolID":"fd00::/64","Address":"fd00::2"}"#,
            json!({"Address": "fd00::2/16", "Data": {}}),
            "address: Some(fd00::2)",
        ),
        (
            "IpamDriver.ReleaseAddress",
            r#"{"PoolID":"fd00::/64","Address":"fd00::2"}"#,
            json!({}),
            "release fd00::2 of fd00::/64",
        ),
        (
            "NetworkDriver.CreateNetwork",
            r#"{"NetworkID":"n","Options":{"com.docker.network.enable_ipv6":true},
                "IPv6Data":[{"Pool":"fd00::/64","Gateway":"fd00::1/64"}]}"#,
            json!({}),
            "gateway: Some(fd00::1/64)",
        ),
        (
            "NetworkDriver.CreateEndpoint",
            r#"{"NetworkID":"n","EndpointID":"e","Interface":{"AddressIPv6":"fd00::2/64"}}"#,
            json!({"Interface": {}}),
            "address6: Some(fd00::2/64)",
        ),
    ] {
        assert_eq!(lab.post(method, body).await, (StatusCode::OK, reply), "{method}");
        let calls = lab.calls();
        assert!(calls.last().unwrap().contains(call), "{calls:#?}");
    }
}

#[tokio::test]
async fn a_foreign_address_space_is_refused_before_the_backend() {
    let lab = Lab::start(Recorder::default()).await;
    let long = "x".repeat(100_000);
    for space in ["LocalDefault", "", &long] {
        let body = json!({"AddressSpace": space, "Pool": "10.8.0.0/16"}).to_string();
        let (status, reply) = lab.post("IpamDriver.RequestPool", body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{reply}");
        assert!(reply["Err"].as_str().unwrap().len() < 300, "{reply}");
    }
    assert!(lab.calls().is_empty());
}

#[tokio::test]
async fn wrong_requests_are_refused_with_a_reason() {
    let lab = Lab::start(Recorder::default()).await;
    let junk = vec![b'{'; MAX_BODY];
    let (status, reply) = lab.post("NetworkDriver.CreateNetwork", junk).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{reply}");
    let (status, reply) = lab.post("NetworkDriver.CreateNetwork", vec![b' '; MAX_BODY + 1]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{reply}");
    let (status, reply) = lab.post("NetworkDriver.Levitate", "").await;
    assert_eq!(
        (status, reply),
        (StatusCode::NOT_FOUND, json!({"Err": "unknown method \"NetworkDriver.Levitate\""}))
    );
    let (status, reply) = lab.post("IpamDriver.ReleasePool", "").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(reply["Error"].as_str().unwrap().contains("empty"), "{reply}");
    let get = hyper::Request::get("/Plugin.Activate");
    let (status, reply) = lab.send(get, "").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{reply}");
    assert!(lab.calls().is_empty());
}

#[tokio::test]
async fn an_empty_host_is_accepted() {
    let lab = Lab::start(Recorder::default()).await;
    let mut stream = UnixStream::connect(lab.path()).await.unwrap();
    let request = "POST /Plugin.Activate HTTP/1.1\r\nHost: \r\nUser-Agent: Go-http-client/1.1\r\n\
         Content-Length: 0\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    assert!(reply.ends_with(r#"{"Implements":["NetworkDriver","IpamDriver"]}"#), "{reply}");
}

#[tokio::test]
async fn a_call_ends_although_docker_dropped_the_connection() {
    let lab = Lab::start(Recorder::default()).await;
    let mut stream = UnixStream::connect(lab.path()).await.unwrap();
    let body = r#"{"AddressSpace":"ovl-local","Pool":"10.9.0.0/16"}"#;
    let head = format!(
        "POST /IpamDriver.RequestPool HTTP/1.1\r\nHost: \r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    lab.recorder.entered.notified().await;
    drop(stream);
    // A second request shows that the server has seen the first connection go.
    lab.post("Plugin.Activate", "").await;
    lab.recorder.go.notify_one();
    let left = lab.recorder.left.notified();
    tokio::time::timeout(Duration::from_secs(10), left).await.unwrap();
    assert_eq!(lab.calls().len(), 1);
}

#[tokio::test]
async fn a_stopping_server_ends_the_calls_it_has_and_takes_its_file_away() {
    let lab = Lab::start(Recorder::default()).await;
    let path = lab.path();
    let recorder = lab.recorder.clone();
    let body = r#"{"AddressSpace":"ovl-local","Pool":"10.9.0.0/16"}"#;
    let stopped = async {
        let (entered, go) = (recorder.entered.notified(), &recorder.go);
        entered.await;
        go.notify_one();
    };
    let ((status, _), ()) = tokio::join!(lab.post("IpamDriver.RequestPool", body), stopped);
    assert_eq!(status, StatusCode::OK);
    let idle = UnixStream::connect(&path).await.unwrap();
    let _directory = tokio::time::timeout(Duration::from_secs(10), lab.stop()).await.unwrap();
    assert!(!path.exists());
    drop(idle);
}

#[tokio::test]
async fn a_fault_in_a_call_is_answered_and_the_next_call_works() {
    let lab = Lab::start(Recorder::default()).await;
    let (status, reply) = lab.post("IpamDriver.RequestAddress", r#"{"PoolID":"panic"}"#).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{reply}");
    let (status, _) = lab.post("IpamDriver.RequestAddress", r#"{"PoolID":"p"}"#).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn requests_follow_each_other_on_one_connection() {
    let lab = Lab::start(Recorder::default()).await;
    let stream = UnixStream::connect(lab.path()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for body in ["", "{}", r#"{"PoolID":"p"}"#] {
        let request = hyper::Request::post("/IpamDriver.ReleasePool").header("Host", "");
        let request = request.body(Full::<Bytes>::from(body)).unwrap();
        let reply = sender.send_request(request).await.unwrap();
        reply.into_body().collect().await.unwrap();
    }
    assert_eq!(lab.calls(), ["release p"]);
}

#[tokio::test]
async fn many_calls_at_once_are_all_answered() {
    let lab = Lab::start(Recorder::default()).await;
    let posts =
        (0..200).map(|n| lab.post("IpamDriver.ReleasePool", format!(r#"{{"PoolID":"p{n}"}}"#)));
    for (status, _) in futures::future::join_all(posts).await {
        assert_eq!(status, StatusCode::OK);
    }
    let pools: BTreeMap<_, _> = lab.calls().into_iter().map(|call| (call, ())).collect();
    assert_eq!(pools.len(), 200);
}

#[tokio::test]
async fn the_socket_is_for_root_only_and_a_stale_one_is_replaced() {
    let lab = Lab::start(Recorder::default()).await;
    let path = lab.path();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    let directory = lab.stop().await;
    // A socket that nobody listens on any more stays behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = PluginServer::bind(&path).await.unwrap();
    assert_eq!(mode(&path), 0o600);
    let left: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    drop(server);
    assert!(!path.exists());
    drop(directory);
}

#[tokio::test]
async fn a_live_socket_of_another_process_is_left_alone() {
    let lab = Lab::start(Recorder::default()).await;
    let error = PluginServer::bind(&lab.path()).await.unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("another process listens"), "{error}");
    assert_eq!(lab.post("Plugin.Activate", "").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_server_does_not_take_away_the_file_of_its_successor() {
    let lab = Lab::start(Recorder::default()).await;
    let path = lab.path();
    std::fs::remove_file(&path).unwrap();
    let successor = PluginServer::bind(&path).await.unwrap();
    let directory = lab.stop().await;
    assert!(path.exists());
    drop(successor);
    drop(directory);
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ovl.sock");
    std::fs::write(&path, "notes").unwrap();
    let error = PluginServer::bind(&path).await.unwrap_err();
    assert!(matches!(error, BindError::NotASocket { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "notes");
    let inside = PluginServer::bind(&path.join("ovl.sock")).await.unwrap_err();
    assert!(matches!(inside, BindError::Directory { .. }), "{inside}");
    let nothing = PluginServer::bind(Path::new("/")).await.unwrap_err();
    assert!(matches!(nothing, BindError::NotAFile { .. }), "{nothing}");
    let long = directory.path().join("x".repeat(120));
    let long = PluginServer::bind(&long).await.unwrap_err();
    assert!(matches!(long, BindError::Bind { .. }), "{long}");
}

#[tokio::test]
async fn of_two_that_start_at_once_one_gets_the_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ovl.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let starts = (0..8).map(|_| PluginServer::bind(&path));
    let started = futures::future::join_all(starts).await;
    let (won, lost): (Vec<_>, Vec<_>) = started.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 7));
    for error in lost {
        assert!(matches!(error, Err(BindError::InUse { .. })));
    }
}
