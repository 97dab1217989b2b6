//! Metrics, as Prometheus gets them: complete, true, and taken by its own checker.
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use ovl_tests::programs::Programs;
use ovl_tests::{Host, StoreKind};

use crate::support::{SPREAD, TestLab, ctl, eventually, holds, pings};

const PORT: u16 = 9646;

#[test]
fn metrics_are_what_prometheus_takes_and_what_the_agent_does() {
    let lab = TestLab::up("metrics", &["bee-1", "bee-2"], StoreKind::Sqlite);
    let hosts = lab.hosts().unwrap();
    let at = SocketAddr::new(hosts[0].address().into(), PORT);
    assert!(over_tcp(&hosts[1], at, "/metrics").is_err(), "off unless set");
    let text = format!("metrics-address = \"{at}\"\n");
    std::fs::write(hosts[0].folder().join("own/etc/ovl/agent.toml"), text).unwrap();
    let reloaded = ctl(&hosts[0], &["reload"]);
    assert_eq!(reloaded["changes"][0]["in_force"], true, "{reloaded}");

    ctl(&hosts[0], &["network", "create", "net"]);
    let one = lab.attach("bee-1", "net", "one").unwrap();
    lab.attach("bee-2", "net", "two").unwrap();
    pings(&one, "two");
    // From another host, as Prometheus would.
    eventually("figures that are true", SPREAD, || {
        let text = over_tcp(&hosts[1], at, "/metrics").map_err(|e| e.to_string())?;
        for (sample, least) in [
            ("ovl_ready", 1.0),
            ("ovl_members{state=\"alive\"}", 2.0),
            ("ovl_endpoints{place=\"local\"}", 1.0),
            ("ovl_endpoints{place=\"remote\"}", 1.0),
            ("ovl_network_addresses_used{network=\"net\"}", 2.0),
            ("ovl_store_up", 1.0),
            ("ovl_store_calls_total{call=\"allocate\",result=\"ok\"}", 1.0),
            ("ovl_kernel_pass_duration_seconds_count{kind=\"apply\"}", 1.0),
            ("ovl_dns_queries_total{outcome=\"answered\"}", 1.0),
            ("ovl_dns_query_duration_seconds_count{source=\"table\"}", 1.0),
            ("ovl_device_receive_packets_total", 3.0),
            ("ovl_device_transmit_bytes_total", 3.0 * 84.0),
            ("ovl_gossip_datagrams_received_total", 1.0),
            ("ovl_events_total{kind=\"endpoint-attached\"}", 2.0),
            ("process_resident_memory_bytes", 1e6),
            ("process_start_time_seconds", 1.7e9),
        ] {
            let value = value(&text, sample).ok_or_else(|| format!("no {sample} in\n{text}"))?;
            holds(value >= least, (sample, value))?;
        }
        for (sample, exactly) in [("ovl_problems", 0.0), ("ovl_kernel_failures", 0.0)] {
            holds(value(&text, sample) == Some(exactly), (sample, &text))?;
        }
        Ok(())
    });
    assert!(over_tcp(&hosts[1], at, "/v1/status").is_err(), "there is nothing else");

    let own = over_unix(&hosts[0]).unwrap();
    promtool_is_content_with(&own);
    let names = |text: &str| {
        let lines = text.lines().filter(|line| line.starts_with("# TYPE "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&own), names(&over_tcp(&hosts[1], at, "/metrics").unwrap()));
}

/// The value of one sample.
fn value(text: &str, sample: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line?.parse().ok()
}

/// What a host gets over TCP.
fn over_tcp(from: &Host, at: SocketAddr, path: &str) -> io::Result<String> {
    let connect = || TcpStream::connect_timeout(&at, Duration::from_secs(2));
    ask(from.sandbox().inside_network(connect)?, path)
}

/// What a host's own agent says over its control socket.
fn over_unix(host: &Host) -> io::Result<String> {
    ask(UnixStream::connect(host.folder().join("run/ovl/ovl.sock"))?, "/v1/metrics")
}

/// The body of a good answer.
fn ask(mut stream: impl io::Read + io::Write, path: &str) -> io::Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: ovl\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let fine = head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4");
    if fine { Ok(body.to_owned()) } else { Err(io::Error::other(answer)) }
}

fn promtool_is_content_with(text: &str) {
    let promtool = Programs::find().unwrap().tool("promtool").unwrap();
    let mut checker = Command::new(promtool);
    checker.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut checker = checker.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    checker.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let mut said = String::new();
    checker.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(checker.wait().unwrap().success() && said.is_empty(), "{said}\n{text}");
}
