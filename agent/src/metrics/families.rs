//! The table of all families: name, type, labels, help. One line each, as the documents have it.

/// What kind of figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// It only grows, until the agent is restarted.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Observations by size, their number and their sum.
    Histogram,
}

/// A family of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// With its unit; counters end in `_total`.
    pub name: &'static str,
    /// What kind of figure.
    pub kind: Type,
    /// Its labels, separated by spaces.
    pub labels: &'static str,
    /// One sentence.
    pub help: &'static str,
}

const fn counter(name: &'static str, labels: &'static str, help: &'static str) -> Family {
    Family { name, kind: Type::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static str, help: &'static str) -> Family {
    Family { name, kind: Type::Gauge, labels, help }
}

const fn histogram(name: &'static str, labels: &'static str, help: &'static str) -> Family {
    Family { name, kind: Type::Histogram, labels, help }
}

/// Every family, in the order in which the documents have them.
#[rustfmt::skip]
pub const FAMILIES: &[Family] = &[
    gauge("ovl_build_info", "version", "The agent's version; always 1."),
    gauge("ovl_ready", "", "1 once the agent has told the service manager that it serves."),
    gauge("ovl_problems", "", "Problems that ovlctl status lists now."),
    gauge("ovl_members", "state", "Hosts of the cluster as this one sees them, itself included: alive, suspect, down or left."),
    gauge("ovl_name_conflict", "", "1 while another host uses this host's name."),
    gauge("ovl_networks", "", "Networks of the cluster."),
    gauge("ovl_endpoints", "place", "Endpoints: local (here), remote (on other hosts) and withheld (remote ones that are reachable while their host's agent is away, and not named any more)."),
    gauge("ovl_network_addresses", "network", "IPv4 addresses that a network can give out."),
    gauge("ovl_network_addresses_used", "network", "Those of them that endpoints are known to have, on any host."),
    gauge("ovl_pool_used_max_ratio", "", "The largest part of a network's IPv4 addresses that is in use, over all networks; 0 to 1."),
    gauge("ovl_address_conflicts", "", "Addresses that several endpoints hold."),
    gauge("ovl_addresses_awaiting_release", "", "Addresses that the store has not taken back yet."),
    gauge("ovl_store_up", "", "1 while the store answers."),
    counter("ovl_store_calls_total", "call result", "Calls on the store, by what was asked and by result: ok, refused (the store says no) or failed (no answer in time)."),
    histogram("ovl_store_call_duration_seconds", "", "How long calls on the store took."),
    gauge("ovl_docker_up", "", "1 while Docker's engine is connected."),
    gauge("ovl_state_writable", "", "1 while the agent's state can be written to disk."),
    counter("ovl_state_write_failures_total", "", "Times that the agent's state could not be written."),
    histogram("ovl_kernel_pass_duration_seconds", "kind", "How long bringing the kernel to the desired state took: apply (after a change) or audit (everything read afresh)."),
    counter("ovl_kernel_pass_failures_total", "", "Such passes after which something is not as it should be."),
    gauge("ovl_kernel_failures", "", "Things that the kernel does not take now."),
    counter("ovl_kernel_repairs_total", "", "Things that audits found changed by others, and put right."),
    gauge("ovl_kernel_drift", "", "How many of them the last audit found."),
    gauge("ovl_devices", "", "VXLAN devices of ovl on this host."),
    counter("ovl_device_receive_packets_total", "", "Frames that came out of them, of all networks."),
    counter("ovl_device_receive_bytes_total", "", "Bytes of those frames."),
    counter("ovl_device_receive_drops_total", "", "Frames that came in and were not delivered."),
    counter("ovl_device_receive_errors_total", "", "Frames that came in broken."),
    counter("ovl_device_transmit_packets_total", "", "Frames that went into them, of all networks."),
    counter("ovl_device_transmit_bytes_total", "", "Bytes of those frames."),
    counter("ovl_device_transmit_drops_total", "", "Frames that were not sent, as nobody has their MAC address, or broadcasts."),
    counter("ovl_device_transmit_errors_total", "", "Frames that the underlay did not take."),
    counter("ovl_dns_queries_total", "outcome", "Queries of containers: answered (from the table), forwarded, unanswered, busy (turned away) or ignored (junk)."),
    histogram("ovl_dns_query_duration_seconds", "source", "How long an answer took: from the table, or from elsewhere (the host's resolvers, or Docker's)."),
    counter("ovl_dns_replies_unsent_total", "", "Answers that the kernel did not take."),
    gauge("ovl_dns_failures", "", "Containers without DNS of ovl, and what else keeps it from working."),
    counter("ovl_gossip_datagrams_received_total", "", "Datagrams of the gossip that were received."),
    counter("ovl_gossip_datagrams_sent_total", "", "Datagrams of the gossip that were sent."),
    counter("ovl_gossip_datagram_errors_total", "", "Datagrams that the socket did not take or give: no route, refused, full."),
    counter("ovl_gossip_rejected_total", "", "Datagrams, streams and claims that were refused: malformed, of another version, from a wrong source, over a bound."),
    counter("ovl_gossip_changes_received_total", "", "Changes of endpoints on other hosts that were new here."),
    counter("ovl_gossip_changes_sent_total", "", "Changes of endpoints on this host."),
    gauge("ovl_gossip_backlog", "", "Changes of endpoints that wait to be sent again."),
    counter("ovl_gossip_backlog_dropped_total", "", "Changes that were given up as too many waited; push-pulls carry them."),
    gauge("ovl_gossip_membership_backlog", "", "News of members that wait to be sent."),
    counter("ovl_gossip_push_pulls_total", "result", "Whole exchanges of state with another host that this one began: ok or failed."),
    counter("ovl_gossip_pulls_total", "result", "States of other hosts that were asked for because a change was missed: ok or failed."),
    counter("ovl_gossip_answered_total", "", "Such exchanges that others began."),
    counter("ovl_gossip_streams_refused_total", "", "Streams of others that were refused because too many were open, of all or of one address."),
    counter("ovl_gossip_streams_silent_total", "", "Streams of others that were closed because they said nothing within two seconds."),
    counter("ovl_gossip_doubts_total", "", "Claims that a host is down which were first put to that host."),
    counter("ovl_gossip_stalls_total", "", "Times that this agent was frozen or starved of processor time, and held its judgement on others."),
    counter("ovl_gossip_rejoins_total", "", "Times that others held this host down though it was not."),
    counter("ovl_events_total", "kind", "Events, by kind: those of ovlctl events."),
    counter("ovl_events_forgotten_total", "", "Events that are not kept any more."),
    gauge("ovl_captures", "", "Captures that run, of ovlctl capture."),
    counter("process_cpu_seconds_total", "", "Processor time of the agent, user and system, in seconds."),
    gauge("process_resident_memory_bytes", "", "Memory of the agent that is in use, in bytes."),
    gauge("process_virtual_memory_bytes", "", "Memory that the agent has mapped, in bytes."),
    gauge("process_open_fds", "", "File descriptors that the agent has open."),
    gauge("process_max_fds", "", "File descriptors that it may have open."),
    gauge("process_threads", "", "Threads of the agent."),
    gauge("process_start_time_seconds", "", "When the agent started, in seconds since 1970."),
];

impl Family {
    /// The one of that name.
    pub fn named(name: &str) -> Option<&'static Family> {
        FAMILIES.iter().find(|family| family.name == name)
    }
}
