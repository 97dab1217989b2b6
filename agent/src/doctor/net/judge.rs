//! What the settings of the kernel's network come to. Pure.

use std::net::Ipv4Addr;

use super::{BRIDGE_NF, FORWARD, NEIGHBOURS, RP_FILTER};
use crate::control::api::doctor::Finding;
use crate::doctor::firewall::Forwarding;
use crate::preflight::kernel_version;

/// `rp_filter` that drops what would not be answered by the same interface (RFC 3704, section 2.2).
const STRICT: u64 = 1;

/// From this part of its limit on, a table of neighbours is nearly full.
const NEARLY_FULL: f64 = 0.8;

/// `gc_thresh3` of a kernel that nobody told otherwise.
const DEFAULT_LIMIT: u64 = 1024;

/// The first kernel, major and minor, whose limit does not count permanent neighbours.
const UNCOUNTED_SINCE: (u32, u32) = (5, 0);

/// What the host forwards.
pub(super) struct Forward {
    /// `net.ipv4.ip_forward`.
    pub(super) ip_forward: Option<bool>,
    pub(super) rules: Forwarding,
    /// Docker's socket is there.
    pub(super) docker: bool,
}

pub(super) fn forward(forward: &Forward) -> Finding {
    let unmet = "packets of the overlay are not forwarded, and do not meet it";
    let Forward { ip_forward, rules, docker } = forward;
    if *docker && *ip_forward == Some(false) {
        let summary =
            "this host forwards nothing: containers have no way out, and publish no ports";
        return Finding::warn(FORWARD, summary)
            .seen("net.ipv4.ip_forward = 0")
            .seen(unmet)
            .mend("sysctl -w net.ipv4.ip_forward=1");
    }
    if let Some(closed) = rules.drops.iter().find(|one| *docker && !one.lets_docker_through) {
        let (summary, fix) = match closed.is_dockers {
            true => (
                "FORWARD drops, and Docker's rules are gone from it: containers have no way out, and publish no ports",
                "systemctl restart docker; without live-restore that ends its containers (ovlctl doctor --only docker.live-restore)".to_owned(),
            ),
            false => (
                "what is forwarded is dropped, and no rule of that chain names Docker: containers may have no way out, and publish no ports",
                format!("let what docker0 and Docker's other bridges forward pass in {}, or leave forwarded packets to Docker's own rules", closed.chain),
            ),
        };
        let finding = Finding::warn(FORWARD, summary);
        return finding.seen(format!("{}: policy drop", closed.chain)).seen(unmet).mend(fix);
    }
    match (rules.drops.is_empty(), &rules.gap) {
        (false, _) => Finding::ok(FORWARD, format!("FORWARD drops by its policy; {unmet}")),
        (true, None) => Finding::ok(FORWARD, format!("FORWARD accepts by its policy; {unmet}")),
        (true, Some(why)) => {
            let why = format!("what this host does with forwarded packets is not known: {why}");
            Finding::unchecked(FORWARD, why)
        }
    }
}

/// Whether frames that bridges pass on meet iptables.
pub(super) struct BridgeFilter {
    /// `net.bridge.bridge-nf-call-iptables`; none: there is no such setting.
    pub(super) on: Option<bool>,
    /// The interface with the advertised address.
    pub(super) underlay: String,
    pub(super) is_bridge: bool,
    /// The chain that drops forwarded packets by its policy.
    pub(super) drops: Option<String>,
}

pub(super) fn bridge_filter(filter: &BridgeFilter) -> Finding {
    let BridgeFilter { on, underlay, is_bridge, drops } = filter;
    if let (Some(true), true, Some(drops)) = (on, is_bridge, drops) {
        let summary = format!(
            "hosts of the cluster that are guests of this one, behind the bridge {underlay}, are cut off: what the \
             bridge passes on meets FORWARD, which drops"
        );
        return Finding::warn(BRIDGE_NF, summary)
            .about(underlay)
            .seen("net.bridge.bridge-nf-call-iptables = 1")
            .seen(format!("{drops}: policy drop"))
            .mend("sysctl -w net.bridge.bridge-nf-call-iptables=0; no concern where no guest is a host of the cluster");
    }
    let summary = match on {
        None => "frames on bridges do not meet iptables".to_owned(),
        Some(false) => "bridge-nf-call-iptables is 0".to_owned(),
        Some(true) => {
            "bridge-nf-call-iptables is 1, which is no concern: the overlay crosses no bridge"
                .to_owned()
        }
    };
    Finding::ok(BRIDGE_NF, summary)
}

/// How packets from and to the other hosts go.
pub(super) struct ReversePath {
    /// The interface with the advertised address.
    pub(super) interface: String,
    /// No packet comes in by it.
    pub(super) is_stub: bool,
    /// Its `rp_filter`, that of `all` included.
    pub(super) filter: Option<u64>,
    pub(super) routes: Vec<Route>,
}

/// To a host of the cluster.
pub(super) struct Route {
    pub(super) host: String,
    pub(super) address: Ipv4Addr,
    /// The interface by which packets leave; none: there is no route.
    pub(super) by: Option<String>,
}

pub(super) fn reverse_path(path: &ReversePath) -> Finding {
    let ReversePath { interface, is_stub, filter, routes } = path;
    if *is_stub {
        let how = "packets come in by the interfaces that the other hosts are routed over";
        return Finding::ok(RP_FILTER, format!("the address is on {interface}: {how}"));
    }
    let Some(filter) = filter else {
        return Finding::unchecked(RP_FILTER, format!("rp_filter of {interface} cannot be read"));
    };
    let elsewhere = |route: &&Route| route.by.as_ref().is_some_and(|by| by != interface);
    let crooked: Vec<&Route> = routes.iter().filter(elsewhere).collect();
    let (STRICT, Some(first)) = (*filter, crooked.first()) else {
        let how = if *filter == STRICT {
            "strict, and all hosts are routed over it"
        } else {
            "not strict"
        };
        return Finding::ok(RP_FILTER, format!("rp_filter of {interface} is {filter}: {how}"));
    };
    let more = match crooked.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let summary = format!(
        "packets of {}{more} that come in by {interface} are dropped: rp_filter is strict there, and the route back \
         is another",
        first.host
    );
    let lines = crooked.iter().map(|route| {
        let by = route.by.as_deref().unwrap_or_default();
        format!("{} ({}) is routed over {by}", route.host, route.address)
    });
    Finding::fail(RP_FILTER, summary)
        .about(interface)
        .seen(format!("rp_filter of {interface}, or of all, is {filter}"))
        .all_seen(lines)
        .mend(format!(
            "sysctl -w net/ipv4/conf/{interface}/rp_filter=2 net/ipv4/conf/all/rp_filter=2; or advertise \
             the address of the interface that the routes use"
        ))
}

/// A table of neighbours, of one family.
pub(super) struct Neighbours {
    pub(super) family: &'static str,
    /// Below `/proc/sys/net`.
    pub(super) folder: &'static str,
    /// `gc_thresh3`.
    pub(super) limit: Option<u64>,
    /// Permanent entries, and others, in this network namespace.
    pub(super) counted: Option<(usize, usize)>,
    /// Addresses of endpoints on other hosts, of both families: rows that there may come to be.
    pub(super) to_come: usize,
    /// How often it was full since the boot, in all namespaces.
    pub(super) full: Option<u64>,
    /// The kernel's.
    pub(super) release: String,
}

pub(super) fn neighbours(table: &Neighbours) -> Finding {
    let Neighbours { family, folder, limit, counted, to_come, full, release } = table;
    let Some(limit) = *limit else {
        let why = format!(
            "the limits of {family} neighbours are those of the machine's own network namespace, and not seen here"
        );
        return Finding::unchecked(NEIGHBOURS, why).about(*family);
    };
    let Some((permanent, others)) = *counted else {
        let why = format!("the table of {family} neighbours cannot be read");
        return Finding::unchecked(NEIGHBOURS, why).about(*family);
    };
    let spared = kernel_version(release).is_none_or(|version| version >= UNCOUNTED_SINCE);
    let held = if spared { others } else { others + permanent.max(*to_come) };
    let rows = match spared {
        true => format!("{permanent} permanent rows do not count"),
        false => {
            format!("permanent rows count on Linux {release}: {permanent} now, up to {to_come}")
        }
    };
    let keys = format!("net.{folder}.neigh.default.gc_thresh");
    let (low, middle, high) = (limit, limit * 4, limit * 8);
    let fix = format!("sysctl -w {keys}1={low} {keys}2={middle} {keys}3={high}");
    let evidence = format!("{held} of {limit} (gc_thresh3); {rows}");
    // A limit that was raised may be an answer to that already.
    if let Some(times) = full.filter(|times| *times > 0 && limit <= DEFAULT_LIMIT) {
        let summary = format!(
            "the table of {family} neighbours was full {times} times since the boot: new neighbours were not reached"
        );
        return Finding::warn(NEIGHBOURS, summary).about(*family).seen(evidence).mend(fix);
    }
    // Exact for any count that fits into memory.
    if held as f64 >= NEARLY_FULL * limit as f64 {
        let summary = format!("the table of {family} neighbours is nearly full: {held} of {limit}");
        return Finding::warn(NEIGHBOURS, summary).about(*family).seen(rows).mend(fix);
    }
    Finding::ok(NEIGHBOURS, format!("{held} of {limit} {family} neighbours; {rows}")).about(*family)
}

/// The sum of the column `table_fulls` of `/proc/net/stat/arp_cache`, which has a row for each processor,
/// in hexadecimal. None: there is no such column.
pub(super) fn times_full(statistics: &str) -> Option<u64> {
    let mut lines = statistics.lines();
    let column = lines.next()?.split_whitespace().position(|name| name == "table_fulls")?;
    let rows = lines.filter_map(|line| line.split_whitespace().nth(column));
    let times = rows.filter_map(|value| u64::from_str_radix(value, 16).ok());
    Some(times.fold(0, u64::saturating_add))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::doctor::Verdict;
    use crate::doctor::firewall::Closed;

    #[test]
    fn forwarding_matters_for_what_docker_does_and_for_nothing_of_ours() {
        let chain = |lets_docker_through, is_dockers| Closed {
            chain: "chain FORWARD".to_owned(),
            lets_docker_through,
            is_dockers,
        };
        for (ip_forward, drops, docker, verdict) in [
            (Some(true), vec![], true, Verdict::Ok),
            (Some(true), vec![chain(true, true)], true, Verdict::Ok),
            (Some(true), vec![chain(false, true)], true, Verdict::Warn),
            (Some(true), vec![chain(true, true), chain(false, false)], true, Verdict::Warn),
            (Some(true), vec![chain(false, true)], false, Verdict::Ok),
            (Some(false), vec![], true, Verdict::Warn),
            (Some(false), vec![], false, Verdict::Ok),
            (None, vec![], true, Verdict::Ok),
        ] {
            let found =
                forward(&Forward { ip_forward, rules: Forwarding { drops, gap: None }, docker });
            assert_eq!(found.verdict, verdict, "{found:?}");
        }
        let rules = Forwarding { drops: Vec::new(), gap: Some("no right".into()) };
        let unread = Forward { ip_forward: None, rules, docker: true };
        assert_eq!(forward(&unread).verdict, Verdict::Unchecked);
    }

    #[test]
    fn a_filter_on_bridges_matters_for_guests_behind_the_underlay_alone() {
        for (on, is_bridge, drops, verdict) in [
            (Some(true), true, true, Verdict::Warn),
            (Some(true), true, false, Verdict::Ok),
            (Some(true), false, true, Verdict::Ok),
            (Some(false), true, true, Verdict::Ok),
            (None, true, true, Verdict::Ok),
        ] {
            let drops = drops.then(|| "policy drop".to_owned());
            let filter = BridgeFilter { on, underlay: "br0".into(), is_bridge, drops };
            assert_eq!(bridge_filter(&filter).verdict, verdict);
        }
    }

    #[test]
    fn a_strict_filter_matters_where_a_host_is_routed_elsewhere() {
        let route = |by: Option<&str>| Route {
            host: "bee-2".into(),
            address: "10.0.0.2".parse().unwrap(),
            by: by.map(str::to_owned),
        };
        for (filter, by, verdict) in [
            (Some(0), Some("eth0"), Verdict::Ok),
            (Some(2), Some("eth0"), Verdict::Ok),
            (Some(1), Some("eth1"), Verdict::Ok),
            (Some(1), None, Verdict::Ok),
            (Some(1), Some("eth0"), Verdict::Fail),
            (None, Some("eth0"), Verdict::Unchecked),
        ] {
            let path = ReversePath {
                interface: "eth1".into(),
                is_stub: false,
                filter,
                routes: vec![route(Some("eth1")), route(by)],
            };
            let found = reverse_path(&path);
            assert_eq!(found.verdict, verdict, "{filter:?} {by:?}: {found:?}");
            let at_a_stub = reverse_path(&ReversePath { is_stub: true, ..path });
            assert_eq!(at_a_stub.verdict, Verdict::Ok, "{at_a_stub:?}");
        }
    }

    #[test]
    fn permanent_neighbours_count_on_old_kernels_only() {
        let table = |counted, to_come, full, release: &str| Neighbours {
            family: "IPv4",
            folder: "ipv4",
            limit: Some(1024),
            counted,
            to_come,
            full,
            release: release.into(),
        };
        for (table, verdict) in [
            (table(Some((5000, 100)), 5000, Some(0), "6.1.0"), Verdict::Ok),
            (table(Some((5000, 100)), 5000, None, "5.0"), Verdict::Ok),
            (table(Some((10, 100)), 1000, Some(0), "4.19.0"), Verdict::Warn),
            (table(Some((10, 100)), 10, Some(0), "4.19.0"), Verdict::Ok),
            (table(Some((0, 819)), 0, Some(0), "6.1.0"), Verdict::Ok),
            (table(Some((0, 820)), 0, Some(0), "6.1.0"), Verdict::Warn),
            (table(Some((0, 1)), 0, Some(3), "6.1.0"), Verdict::Warn),
            (
                Neighbours { limit: Some(8192), ..table(Some((0, 1)), 0, Some(3), "6.1.0") },
                Verdict::Ok,
            ),
            (
                Neighbours { limit: None, ..table(Some((0, 1)), 0, None, "6.1.0") },
                Verdict::Unchecked,
            ),
            (table(None, 0, Some(0), "6.1.0"), Verdict::Unchecked),
        ] {
            let found = neighbours(&table);
            assert_eq!(found.verdict, verdict, "{found:?}");
        }
    }

    #[test]
    fn overflows_are_summed_over_the_processors() {
        let text =
            "entries  allocs table_fulls\n0000000e 00012622 0000000a\n0000000e 00000001 00000001\n";
        assert_eq!(times_full(text), Some(11));
        assert_eq!(times_full("entries\n1\n"), None);
        assert_eq!(times_full(""), None);
        assert_eq!(times_full("table_fulls\nx\n\n"), Some(0));
    }
}
