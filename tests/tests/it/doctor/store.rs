//! What can be wrong with the store: away, frozen, closed to this host's writes.
use ovl_tests::{Host, StoreKind};

use super::{Report, configure, create};
use crate::support::{FAILURE, SPREAD, TestLab, eventually, holds};

/// Of the Consul with rules: its own token, and one that may only read.
const MASTER: &str = "b1650045-0000-4000-8000-000000000001";
const READER: &str = "decade00-0000-4000-8000-000000000003";

#[test]
fn a_store_that_is_gone_hangs_or_is_newer_is_the_one_failure() {
    let lab = TestLab::up("doctor-store", &["bee-1", "bee-2"], StoreKind::Consul);
    let hosts = lab.hosts().unwrap();
    create(&hosts[0], &["net"]);
    lab.attach("bee-1", "net", "one").unwrap();
    let store = lab.kvstore().unwrap();

    store.kill().unwrap();
    let gone = Report::of(&hosts[0], &[]);
    gone.fails_only(&["store.reachable"], &[]);
    let address = store.address().to_string();
    gone.says("store.reachable", &["cannot reach the store", &address, "/v1/status/leader"]);
    store.start().unwrap();

    // A way on which the first packet of each connection is lost: the second comes a second later. The agent has
    // connections already; who looks in its place has none.
    let script = "nft add table ip slow; nft add chain ip slow c '{ type filter hook output priority 0; }'; \
                  nft add set ip slow seen '{ type inet_service; flags dynamic; timeout 60s; }'; \
                  nft add rule ip slow c tcp dport 8500 tcp flags syn tcp sport != @seen add @seen '{ tcp sport }' drop";
    hosts[1].sandbox().script(script, &[]).unwrap();
    hosts[1].freeze_agent().unwrap();
    let report = Report::of(&hosts[1], &["--only", "store"]);
    assert_eq!(report.with("fail"), [""; 0], "{report}");
    assert_eq!(report.with("warn"), ["store.latency"], "{report}");
    report.says("store.latency", &["is slow", "a read took", "a write took"]);
    hosts[1].thaw_agent().unwrap();
    hosts[1].sandbox().script("nft delete table ip slow", &[]).unwrap();

    let networks = store.get("ovl/v1/networks").unwrap();
    store.put("ovl/v1/networks", "{\"format\": 99}").unwrap();
    let newer = Report::of(&hosts[0], &[]);
    newer.fails_only(&["store.schema"], &[]);
    newer.says("store.schema", &["format 99", "upgrade ovl on this host"]);
    store.put("ovl/v1/networks", &networks).unwrap();

    store.freeze().unwrap();
    let frozen = Report::of(&hosts[0], &[]);
    frozen.fails_only(&["store.reachable"], &[]);
    frozen.says("store.reachable", &["did not", "within"]);

    // The same from an agent that is away, by the settings that it had: only that it is, is added.
    hosts[1].freeze_agent().unwrap();
    let both = Report::of(&hosts[1], &[]);
    both.fails_only(&["agent.running", "store.reachable"], &[]);
    hosts[1].thaw_agent().unwrap();
    store.thaw().unwrap();
    eventually("all being well again", FAILURE, || {
        let report = Report::of(&hosts[0], &[]);
        holds(report.with("fail").is_empty() && report.with("warn").is_empty(), report.to_string())
    });
}

#[test]
fn a_token_that_may_only_read_is_found_before_a_container_is_refused() {
    let lab = TestLab::bare("doctor-token", &["bee-1"]);
    let host = lab.host("bee-1").unwrap();
    consul_with_rules(&host);
    let lines =
        "advertise = \"eth1\"\nstore = \"consul://127.0.0.1:8500?token-file=/etc/ovl/token\"\n";
    host.sandbox().script("umask 077; echo \"$1\" > /etc/ovl/token", &[READER]).unwrap();
    configure(&host, lines);
    // Before the agent is started, too.
    let before = Report::of(&host, &["--only", "store"]);
    before.fails_only(&["store.rights"], &[]);

    let agent = host.agent_argv().unwrap().swap_remove(0);
    let (log, record) = (host.folder().join("run/own.log"), host.folder().join("own-agent"));
    host.sandbox().spawn("an agent", &[&agent], &log, &record).unwrap();
    eventually("an answer", SPREAD, || host.agent_answer().map(drop));
    let report = Report::of(&host, &[]);
    report.fails_only(&["store.rights"], &[]);
    report.says("store.rights", &["not write", "Permission denied", "ovl/v1/", "policy"]);
    assert!(!report.to_string().contains(READER), "{report}");

    host.sandbox().script("chmod 0644 /etc/ovl/token", &[]).unwrap();
    host.sandbox().script("kill -9 $(pidof ovl-agent)", &[]).unwrap();
    let exposed = Report::of(&host, &["--only", "store"]);
    exposed.fails_only(&["store.rights"], &[]);
    exposed.says("store.rights", &["chmod"]);
}

/// A Consul on the host's own loopback that refuses whatever no token allows.
fn consul_with_rules(host: &Host) {
    let rules = format!(
        "acl {{ enabled = true default_policy = \"deny\" tokens {{ master = \"{MASTER}\" agent = \"{MASTER}\" }} }}"
    );
    let argv = ["consul", "agent", "-dev", "-bind=127.0.0.1", "-client=127.0.0.1", "-hcl", &rules];
    let (log, record) = (host.folder().join("run/consul.log"), host.folder().join("consul"));
    host.sandbox().spawn("Consul", &argv, &log, &record).unwrap();
    let policy = "key_prefix \"ovl/v1/\" { policy = \"read\" }";
    let token = format!("-token={MASTER}");
    eventually("Consul taking a policy", FAILURE, || {
        let create =
            ["consul", "acl", "policy", "create", &token, "-name", "reader", "-rules", policy];
        let outcome = host.run(&create).map_err(|error| error.chain())?;
        holds(outcome.ok() || outcome.stderr.contains("already exists"), outcome.stderr)
    });
    let create =
        ["consul", "acl", "token", "create", &token, "-policy-name", "reader", "-secret", READER];
    host.run(&create).unwrap().require().unwrap();
}
