//! Figures for Prometheus: what there are, and their text.
//!
//! Parts of the agent count and time what they do in [`Instruments`], or have counters of their own; the
//! rest are levels that are read when somebody asks. [`text`] puts all of them together, each time anew.
//! Names, units and help are those of one table, [`FAMILIES`], which the documents are held against.
//!
//! No label has values that grow with the cluster: states, kinds and results are what the code knows. A
//! network's name is one for [`NETWORKS_MAX`] networks; what is beyond is summed under [`OTHERS`].
//!
//! | file | what it does |
//! |---|---|
//! | `families.rs` | the table of all families |
//! | `histogram.rs`, `instruments.rs` | what is counted and timed as it happens |
//! | `devices.rs` | counters of devices, summed so that they never go back |
//! | `process.rs` | this process, as the kernel sees it |
//! | `page.rs` | samples in, text out |
//! | `serve.rs` | `GET /metrics` on a TCP port |

mod devices;
mod families;
mod histogram;
mod instruments;
mod page;
mod process;
mod serve;
#[cfg(test)]
mod tests;

pub use self::devices::Tally;
pub use self::families::{FAMILIES, Family, Type};
pub use self::histogram::{Histogram, Reading};
pub use self::instruments::{Instruments, Outcome, StoreCallKind};
pub use self::process::Process;
pub(crate) use self::serve::{Metrics, follow, gather};

use ovl_gossip::Stats;

use self::devices::Totals;
use self::page::Page;
use crate::core::{Figures, Kind};
use crate::dns::{Counts, Durations};

/// Media type of the text (Prometheus' text format, version 0.0.4).
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Networks that have figures of their own: those with the lowest ids. The others share one.
pub const NETWORKS_MAX: usize = 50;

/// Stands for the other networks. No network can be called so.
pub const OTHERS: &str = "(other)";

/// Everything that is told.
#[derive(Clone, Debug)]
pub struct Everything {
    /// The core's levels and counters.
    pub core: Figures,
    /// The gossip's.
    pub gossip: Stats,
    /// DNS in containers.
    pub dns: (Counts, Durations),
    /// How many events of each kind there were, and how many of all are not kept any more.
    pub events: (Vec<(Kind, u64)>, u64),
    /// The devices; none: the kernel did not answer in time.
    pub devices: Option<Totals>,
    /// This process; none: /proc cannot be read.
    pub process: Option<Process>,
    /// Captures that run.
    pub captures: usize,
}

/// All figures as text.
pub fn text(everything: &Everything, instruments: &Instruments) -> String {
    let mut page = Page::default();
    page.gauge("ovl_build_info", &[("version", crate::VERSION)], 1.0);
    page.gauge("ovl_ready", &[], flag(instruments.is_ready()));
    core(&mut page, &everything.core);
    gossip(&mut page, &everything.gossip);
    dns(&mut page, &everything.dns);
    store(&mut page, instruments);
    kernel(&mut page, &everything.core, instruments);
    let (events, lost) = &everything.events;
    for (kind, count) in events {
        page.counter("ovl_events_total", &[("kind", kind.name())], *count);
    }
    page.counter("ovl_events_forgotten_total", &[], *lost);
    page.gauge("ovl_captures", &[], everything.captures as f64);
    if let Some(totals) = &everything.devices {
        devices(&mut page, totals);
    }
    if let Some(process) = &everything.process {
        process.tell(&mut page);
    }
    page.text()
}

fn flag(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

fn core(page: &mut Page, core: &Figures) {
    let members = core.members;
    for (state, count) in [
        ("alive", members.alive),
        ("suspect", members.suspect),
        ("down", members.down),
        ("left", members.left),
    ] {
        page.gauge("ovl_members", &[("state", state)], count as f64);
    }
    for (place, count) in
        [("local", core.local), ("remote", core.remote), ("withheld", core.withheld)]
    {
        page.gauge("ovl_endpoints", &[("place", place)], count as f64);
    }
    page.gauge("ovl_networks", &[], core.pools.len() as f64);
    pools(page, core);
    page.gauge("ovl_problems", &[], core.problems as f64);
    page.gauge("ovl_address_conflicts", &[], core.conflicts as f64);
    page.gauge("ovl_name_conflict", &[], flag(core.name_conflict));
    page.gauge("ovl_addresses_awaiting_release", &[], core.releases as f64);
    page.gauge("ovl_store_up", &[], flag(core.store_up));
    page.gauge("ovl_docker_up", &[], flag(core.docker_up));
    page.gauge("ovl_state_writable", &[], flag(core.state_writable));
    page.gauge("ovl_dns_failures", &[], core.dns_failures as f64);
}

fn pools(page: &mut Page, core: &Figures) {
    let ratio = |used: u64, size: u64| if size == 0 { 1.0 } else { used as f64 / size as f64 };
    let worst = core.pools.iter().map(|pool| ratio(pool.used, pool.size)).fold(0.0, f64::max);
    page.gauge("ovl_pool_used_max_ratio", &[], worst);
    let (own, others) = core.pools.split_at(core.pools.len().min(NETWORKS_MAX));
    let mut tell = |network: &str, used: u64, size: u64| {
        page.gauge("ovl_network_addresses_used", &[("network", network)], used as f64);
        page.gauge("ovl_network_addresses", &[("network", network)], size as f64);
    };
    own.iter().for_each(|pool| tell(&pool.network, pool.used, pool.size));
    if !others.is_empty() {
        let sum = |of: fn(&crate::core::PoolUse) -> u64| others.iter().map(of).sum();
        tell(OTHERS, sum(|pool| pool.used), sum(|pool| pool.size));
    }
}

fn gossip(page: &mut Page, stats: &Stats) {
    page.gauge("ovl_gossip_backlog", &[], stats.backlog as f64);
    page.gauge("ovl_gossip_membership_backlog", &[], stats.swim_backlog as f64);
    for (name, count) in [
        ("ovl_gossip_datagrams_received_total", stats.datagrams_in),
        ("ovl_gossip_datagrams_sent_total", stats.datagrams_out),
        ("ovl_gossip_datagram_errors_total", stats.datagram_errors),
        ("ovl_gossip_rejected_total", stats.rejected),
        ("ovl_gossip_changes_received_total", stats.deltas_in),
        ("ovl_gossip_changes_sent_total", stats.deltas_out),
        ("ovl_gossip_backlog_dropped_total", stats.backlog_dropped),
        ("ovl_gossip_answered_total", stats.answered),
        ("ovl_gossip_streams_refused_total", stats.streams_refused),
        ("ovl_gossip_streams_silent_total", stats.streams_silent),
        ("ovl_gossip_doubts_total", stats.doubts),
        ("ovl_gossip_stalls_total", stats.stalls),
        ("ovl_gossip_rejoins_total", stats.rejoins),
    ] {
        page.counter(name, &[], count);
    }
    for (name, ok, failed) in [
        ("ovl_gossip_push_pulls_total", stats.push_pulls_ok, stats.push_pulls_failed),
        ("ovl_gossip_pulls_total", stats.pulls_ok, stats.pulls_failed),
    ] {
        page.counter(name, &[("result", "ok")], ok);
        page.counter(name, &[("result", "failed")], failed);
    }
}

fn dns(page: &mut Page, (counts, durations): &(Counts, Durations)) {
    for (outcome, count) in [
        ("answered", counts.answered),
        ("forwarded", counts.forwarded),
        ("unanswered", counts.unanswered),
        ("busy", counts.busy),
        ("ignored", counts.ignored),
    ] {
        page.counter("ovl_dns_queries_total", &[("outcome", outcome)], count);
    }
    page.counter("ovl_dns_replies_unsent_total", &[], counts.unsent);
    let name = "ovl_dns_query_duration_seconds";
    page.histogram(name, &[("source", "table")], &durations.table);
    page.histogram(name, &[("source", "elsewhere")], &durations.elsewhere);
}

fn store(page: &mut Page, instruments: &Instruments) {
    for kind in StoreCallKind::ALL {
        for outcome in Outcome::ALL {
            let labels = [("call", kind.name()), ("result", outcome.name())];
            page.counter("ovl_store_calls_total", &labels, instruments.store_calls(kind, outcome));
        }
    }
    page.histogram("ovl_store_call_duration_seconds", &[], &instruments.store.read());
}

fn kernel(page: &mut Page, core: &Figures, instruments: &Instruments) {
    page.histogram(
        "ovl_kernel_pass_duration_seconds",
        &[("kind", "apply")],
        &instruments.apply.read(),
    );
    page.histogram(
        "ovl_kernel_pass_duration_seconds",
        &[("kind", "audit")],
        &instruments.audit.read(),
    );
    page.counter("ovl_kernel_pass_failures_total", &[], instruments.failed_passes());
    page.counter("ovl_kernel_repairs_total", &[], core.repaired);
    page.gauge("ovl_kernel_drift", &[], core.drift as f64);
    page.gauge("ovl_kernel_failures", &[], core.failures as f64);
    page.counter("ovl_state_write_failures_total", &[], instruments.failed_writes());
}

fn devices(page: &mut Page, totals: &Totals) {
    page.gauge("ovl_devices", &[], totals.devices as f64);
    for (flow, names) in [
        (
            totals.received,
            [
                "ovl_device_receive_packets_total",
                "ovl_device_receive_bytes_total",
                "ovl_device_receive_drops_total",
                "ovl_device_receive_errors_total",
            ],
        ),
        (
            totals.sent,
            [
                "ovl_device_transmit_packets_total",
                "ovl_device_transmit_bytes_total",
                "ovl_device_transmit_drops_total",
                "ovl_device_transmit_errors_total",
            ],
        ),
    ] {
        let counts = [flow.packets, flow.bytes, flow.dropped, flow.errors];
        for (name, count) in names.into_iter().zip(counts) {
            page.counter(name, &[], count);
        }
    }
}
