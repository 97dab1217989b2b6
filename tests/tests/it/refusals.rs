//! Each no is one sentence that names the thing, and an exit code.
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use ovl_tests::programs::Programs;
use ovl_tests::{Container, Host, Outcome, StoreKind, exec};

use crate::support::{TestLab, ctl, refused};

pub(crate) const NO: i32 = 1;
pub(crate) const USAGE: i32 = 64;
const UNAVAILABLE: i32 = 69;

#[test]
fn what_cannot_be_is_refused_in_one_sentence() {
    let lab = TestLab::up("refusals", &["bee-1", "bee-2"], StoreKind::Sqlite);
    let hosts = lab.hosts().unwrap();
    let (here, there) = (&hosts[0], &hosts[1]);
    ctl(here, &["network", "create", "net", "--subnet", "10.99.0.0/24"]);
    lab.attach("bee-1", "net", "taken").unwrap();
    crate::support::eventually("bee-2 knowing of taken", crate::support::SPREAD, || {
        let names = crate::support::endpoint_names(there);
        crate::support::holds(names == ["taken"], names)
    });

    refused(there, &["network", "create", "net"], NO, &["net"]);
    let overlapping = ["network", "create", "other", "--subnet", "10.99.0.128/25"];
    refused(there, &overlapping, NO, &["10.99.0.128/25", "net"]);
    refused(there, &["network", "create", "no good"], NO, &["no good"]);
    refused(there, &["network", "inspect", "nowhere"], NO, &["nowhere"]);
    refused(there, &["network", "rm", "nowhere"], NO, &["nowhere"]);
    refused(there, &["network", "rm", "net"], NO, &["net"]);
    refused(there, &["resolve", "nobody"], NO, &["nobody"]);
    refused(there, &["endpoint", "detach", "--network", "net", "nobody"], NO, &["nobody"]);
    attaching_is_refused(there);

    there.stop_agent().unwrap();
    refused(there, &["status"], UNAVAILABLE, &["/run/ovl/ovl.sock"]);
    there.start_agent().unwrap_or_else(|error| panic!("{error}"));
}

fn attaching_is_refused(host: &Host) {
    let container = Container::create(host, &"spare".parse().unwrap()).unwrap();
    let path = container.network_path();
    let attach = |network, name, more: &[&str]| {
        let mut args = vec!["endpoint", "attach", "--network", network, "--name", name];
        args.extend(more);
        let outcome = host.ctl(&args).unwrap();
        (outcome, args.join(" "))
    };
    for (network, name, more, word) in [
        ("nowhere", "spare", &["--netns", path.as_str()][..], "nowhere"),
        ("net", "taken", &["--netns", &path], "taken"),
        ("net", "no good", &["--netns", &path], "no good"),
        ("net", "spare", &["--netns", "/run/netns/none"], "/run/netns/none"),
        ("net", "spare", &["--pid", "999999"], "999999"),
        ("net", "spare", &["--netns", &path, "--address", "10.1.2.3"], "10.1.2.3"),
    ] {
        let (outcome, line) = attach(network, name, more);
        assert!(matches!(outcome.code, Some(NO | USAGE)), "{line}: {outcome:?}");
        assert_eq!(outcome.stderr.trim().lines().count(), 1, "{line}: {outcome:?}");
        assert!(outcome.stderr.contains(word), "{line} does not name {word}: {outcome:?}");
    }
    container.remove().unwrap();
}

#[test]
fn every_wrong_setting_is_listed_before_anything_is_bound() {
    let lab = TestLab::bare("settings", &["bee-1"]);
    let host = lab.host("bee-1").unwrap();
    let outcome =
        agent(&host, &[], &["--gossip-port", "99999", "--store", "ftp://x", "--vxlan-port", "0"]);
    assert_eq!(outcome.code, Some(USAGE), "{outcome:?}");
    for word in ["gossip-port", "99999", "ftp://x", "vxlan-port"] {
        assert!(outcome.stderr.contains(word), "{word} is not listed: {}", outcome.stderr);
    }
}

#[test]
fn everything_that_the_host_lacks_is_listed_at_once() {
    let lab = TestLab::bare("preflight", &["bee-1"]);
    let host = lab.host("bee-1").unwrap();
    let address = host.address();
    let sockets = host.sandbox().inside_network(|| {
        Ok((TcpListener::bind((address, 7946))?, UdpSocket::bind(("0.0.0.0", 4789))?))
    });
    let _sockets = sockets.unwrap();
    let without = ["setpriv", "--bounding-set", "-net_admin,-sys_admin"];
    let outcome = agent(&host, &without, &["--advertise", "eth1"]);
    assert_eq!(outcome.code, Some(UNAVAILABLE), "{outcome:?}");
    for word in ["CAP_NET_ADMIN", "7946", "4789"] {
        assert!(outcome.stderr.contains(word), "{word} is not listed: {}", outcome.stderr);
    }
}

/// Runs an agent in the foreground: it must end by itself.
pub(crate) fn agent(host: &Host, prefix: &[&str], args: &[&str]) -> Outcome {
    let path = Programs::find().unwrap().agent().display().to_string();
    let argv: Vec<&str> =
        prefix.iter().copied().chain([path.as_str()]).chain(args.iter().copied()).collect();
    let mut command = host.command(argv[0]);
    exec::run(command.args(&argv[1..]), Duration::from_secs(15)).unwrap()
}
