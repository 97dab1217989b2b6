//! A store that is slow or gone stops only what truly needs it.
use std::time::Duration;

use ovl_tests::{Container, Host, StoreKind};

use crate::ping::Ping;
use crate::support::{FAILURE, TestLab, address_of, ctl, endpoint_names, eventually, holds, pings};

/// How long a request that needs the store may take to say that there is none.
const BOUND: Duration = Duration::from_secs(12);
/// `ovlctl`: not now, try again later.
const TRY_LATER: i32 = 75;

#[test]
fn a_store_that_is_gone_or_hangs_stops_only_what_needs_it() {
    let lab = TestLab::up("outage", &["bee-1", "bee-2"], StoreKind::Consul);
    let hosts = lab.hosts().unwrap();
    ctl(&hosts[0], &["network", "create", "net"]);
    let one = lab.attach("bee-1", "net", "one").unwrap();
    lab.attach("bee-2", "net", "two").unwrap();
    pings(&one, "two");
    let spare = Container::create(&hosts[0], &"spare".parse().unwrap()).unwrap();
    let ping = Ping::start(&one, &address_of(&one, "two"));

    let store = lab.kvstore().unwrap();
    store.stop().unwrap();
    everything_else_goes_on(&hosts, &one, &spare);
    an_agent_starts_without_its_store(&hosts[1]);
    store.start().unwrap();
    attaches_again(&spare);

    store.freeze().unwrap();
    everything_else_goes_on(&hosts, &one, &spare);
    store.thaw().unwrap();
    attaches_again(&spare);
    let answers = ping.end();
    assert!(answers.count() > 100, "the ping did not run: {answers:?}");
    assert_eq!(answers.lost(), [0; 0], "packets were lost while the store was away");
}

fn everything_else_goes_on(hosts: &[Host], one: &Container, spare: &Container) {
    let path = spare.network_path();
    let mut args = vec!["endpoint", "attach", "--network", "net", "--name", "spare"];
    args.extend(["--netns", path.as_str()]);
    let outcome = hosts[0].ctl(&args).unwrap();
    crate::support::one_sentence(&outcome, TRY_LATER, &["store"]);
    assert!(outcome.took < BOUND, "the refusal took {:?}", outcome.took);
    pings(one, "two");
    for host in hosts {
        assert_eq!(endpoint_names(host), ["one", "two"], "{}", host.name());
        let status = ctl(host, &["status"]);
        assert!(status["store"]["url"].is_string(), "{status}");
    }
    let status = ctl(&hosts[0], &["status"]);
    assert!(status["store"]["error"].is_string(), "the error must be shown: {status}");
    assert_ne!(status["problems"], serde_json::json!([]), "the problem must be named: {status}");
}

/// A host that restarts during the outage keeps what it has.
fn an_agent_starts_without_its_store(host: &Host) {
    host.kill_agent().unwrap();
    host.start_agent().unwrap_or_else(|error| panic!("{error}"));
    eventually("bee-2 knowing both endpoints", FAILURE, || {
        let names = endpoint_names(host);
        holds(names == ["one", "two"], names)
    });
}

fn attaches_again(spare: &Container) {
    eventually("an attach after the outage", FAILURE, || {
        spare.join("net", &[]).map_err(|error| error.chain())
    });
    pings(spare, "two");
    spare.leave().unwrap_or_else(|error| panic!("{error}"));
}
