//! What the settings of the kernel's network come to. Pure.

use std::net::Ipv4Addr;

use super::{BRIDGE_NF, FORWARD, NEIGHBOURS, RP_FILTER};
use crate::control::api::doctor::Finding;
use crate::preflight::kernel_version;

/// `rp_filter` that drops what would not be answered by the same interface (RFC 3704, section 2.2).
const STRICT: u64 = 1;

/// From this part of its limit on, a table of neighbours is nearly full.
const NEARLY_FULL: f64 = 0.8;

/// The first kernel, major and minor, whose limit does not count permanent neighbours.
const UNCOUNTED_SINCE: (u32, u32) = (5, 0);

/// What the host forwards.
pub(super) struct Forward {
    /// `net.ipv4.ip_forward`.
    pub(super) ip_forward: Option<bool>,
    /// `iptables -S FORWARD`, a line each, none without iptables; else why it cannot be read.
    pub(super) rules: Result<Vec<String>, String>,
    /// Docker's socket is there.
    pub(super) docker: bool,
}

impl Forward {
    /// The chain's policy is to drop, or to reject.
    pub(super) fn drops(&self) -> bool {
        let rules = self.rules.as_deref().unwrap_or_default();
        rules.iter().any(|rule| rule == "-P FORWARD DROP" || rule == "-P FORWARD REJECT")
    }

    /// Docker's own rules are in the chain.
    fn has_dockers(&self) -> bool {
        let rules = self.rules.as_deref().unwrap_or_default();
        rules.iter().any(|rule| rule.contains("DOCKER") || rule.contains("docker"))
    }
}

pub(super) fn forward(forward: &Forward) -> Finding {
    let unmet = "packets of the overlay are not forwarded, and do not meet it";
    if let Err(why) = &forward.rules {
        return Finding::unchecked(FORWARD, format!("the chain FORWARD cannot be read: {why}"));
    }
    let policy = match forward.drops() {
        true => "FORWARD drops by its policy",
        false => "FORWARD accepts by its policy",
    };
    match forward.docker {
        true if forward.ip_forward == Some(false) => {
            let summary =
                "this host forwards nothing: containers have no way out, and publish no ports";
            Finding::warn(FORWARD, summary)
                .seen("net.ipv4.ip_forward = 0")
                .seen(unmet)
                .mend("sysctl -w net.ipv4.ip_forward=1")
        }
        true if forward.drops() && !forward.has_dockers() => {
            let summary = "FORWARD drops, and Docker's rules are gone from it: containers have no way out, and \
                           publish no ports";
            let rules = forward.rules.as_deref().unwrap_or_default();
            Finding::warn(FORWARD, summary)
                .all_seen(rules.iter().cloned())
                .seen(unmet)
                .mend("systemctl restart docker")
        }
        true | false => Finding::ok(FORWARD, format!("{policy}; {unmet}")),
    }
}

/// Whether frames that bridges pass on meet iptables.
pub(super) struct BridgeFilter {
    /// `net.bridge.bridge-nf-call-iptables`; none: there is no such setting.
    pub(super) on: Option<bool>,
    /// The interface with the advertised address.
    pub(super) underlay: String,
    pub(super) is_bridge: bool,
    /// FORWARD drops by its policy.
    pub(super) drops: bool,
}

pub(super) fn bridge_filter(filter: &BridgeFilter) -> Finding {
    let BridgeFilter { on, underlay, is_bridge, drops } = filter;
    if on == &Some(true) && *is_bridge && *drops {
        let summary = format!(
            "hosts of the cluster that are guests of this one, behind the bridge {underlay}, are cut off: what the \
             bridge passes on meets FORWARD, which drops"
        );
        return Finding::warn(BRIDGE_NF, summary)
            .about(underlay)
            .seen("net.bridge.bridge-nf-call-iptables = 1")
            .seen("-P FORWARD DROP")
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
    let ReversePath { interface, filter, routes } = path;
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
            "sysctl -w net.ipv4.conf.{interface}.rp_filter=2 net.ipv4.conf.all.rp_filter=2; or advertise \
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
    if let Some(times) = full.filter(|times| *times > 0) {
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

    const DROP: &str = "-P FORWARD DROP";
    const DOCKERS: &str = "-A FORWARD -j DOCKER-USER";

    #[test]
    fn forwarding_matters_for_what_docker_does_and_for_nothing_of_ours() {
        for (ip_forward, rules, docker, verdict) in [
            (Some(true), &["-P FORWARD ACCEPT"][..], true, Verdict::Ok),
            (Some(true), &[DROP, DOCKERS], true, Verdict::Ok),
            (Some(true), &[DROP], true, Verdict::Warn),
            (Some(true), &[DROP], false, Verdict::Ok),
            (Some(false), &[], true, Verdict::Warn),
            (Some(false), &[], false, Verdict::Ok),
            (None, &[], true, Verdict::Ok),
        ] {
            let rules = Ok(rules.iter().map(|rule| (*rule).to_owned()).collect());
            let found = forward(&Forward { ip_forward, rules, docker });
            assert_eq!(found.verdict, verdict, "{found:?}");
        }
        let unread = Forward { ip_forward: None, rules: Err("no right".into()), docker: true };
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
                filter,
                routes: vec![route(Some("eth1")), route(by)],
            };
            let found = reverse_path(&path);
            assert_eq!(found.verdict, verdict, "{filter:?} {by:?}: {found:?}");
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
