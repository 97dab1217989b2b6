//! Answers for the control API.

use std::time::{Duration, Instant};

use ovl_gossip::{Endpoint, MemberState, Oddity, OtherFormat};
use ovl_ipam::Network;

use super::diagnosis::{Problem, Topic};
use super::remote::addresses;
use super::{Core, Refusal};
use crate::control::api;

/// How long hosts to join may take before status says so.
const JOIN_WITHIN: Duration = Duration::from_secs(10);

/// How long a host of another release that fell silent is still named.
const OTHER_FORMAT_FOR: Duration = Duration::from_secs(60);

/// How long it is named that somebody told what cannot be.
pub(super) const ODDITY_FOR: Duration = Duration::from_secs(600);

/// Doubly held addresses, and hosts that are down, that status names.
const SHOWN_MAX: usize = 8;

/// How long names of other hosts may take to be heard before DNS answers without them.
const NAMES_WITHIN: Duration = Duration::from_secs(3);

/// How long the agent waits at its start for peers, for DNS in containers and for a kernel that refuses
/// something, and how long for the store and the first look at the kernel, before it counts as started
/// without them: Docker waits for the agent, and not only for our networks.
const PEERS_WITHIN: Duration = Duration::from_secs(10);
const STORE_WITHIN: Duration = Duration::from_secs(60);

impl Core {
    /// The names of other hosts are known, or there is nobody to know them from.
    pub fn knows_names(&self, now: Instant) -> bool {
        self.synced || !self.me.expects_peers || now >= self.started + NAMES_WITHIN
    }

    /// When [`Core::knows_names`] becomes true by itself.
    pub(super) fn names_timeout(&self) -> Option<Instant> {
        let at = self.started + NAMES_WITHIN;
        (!self.knows_names(self.now)).then_some(at)
    }

    /// What a start still waits for, in words; `serving`: DNS in containers is as it should be.
    pub fn awaited(&self, now: Instant, serving: bool) -> Vec<String> {
        let since = now.saturating_duration_since(self.started);
        let store = || {
            let why = self.health.store.as_deref().unwrap_or("it did not list its networks yet");
            format!("the store ({why})")
        };
        let kernel = match self.passed {
            None => since < STORE_WITHIN,
            Some(clean) => !clean && since < PEERS_WITHIN,
        };
        let waits = [
            kernel.then(|| "the kernel".to_owned()),
            (!self.heard_store && since < STORE_WITHIN).then(store),
            (self.me.expects_peers && !self.synced && since < PEERS_WITHIN)
                .then(|| "a host to join by".to_owned()),
            (!serving && since < PEERS_WITHIN).then(|| "DNS in containers".to_owned()),
        ];
        waits.into_iter().flatten().collect()
    }

    /// The state in one line, for the service manager.
    pub fn summary(&self, now: Instant) -> String {
        let members = self.members();
        let alive = members.iter().filter(|m| m.state == MemberState::Alive).count();
        let problems = self.problems(now);
        let trouble = match problems.as_slice() {
            [] => String::new(),
            [only] => format!("; problem: {}", only.text),
            [first, others @ ..] => {
                format!("; problem: {} (and {} more)", first.text, others.len())
            }
        };
        format!(
            "{alive} of {} hosts alive, {} networks, {} endpoints here{trouble}",
            members.len(),
            self.networks.len(),
            self.local_endpoints().count()
        )
    }

    pub(super) fn members(&self) -> Vec<api::Member> {
        let me = api::Member {
            name: self.me.node.to_string(),
            address: self.me.vtep,
            state: MemberState::Alive,
        };
        let others = self.remotes.members().map(|(name, address, state)| api::Member {
            name: name.to_string(),
            address,
            state,
        });
        let mut members: Vec<_> = std::iter::once(me).chain(others).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        members
    }

    pub(super) fn network_list(&self) -> Vec<api::Network> {
        let mut list: Vec<_> = self.networks.values().map(|n| self.network_view(n)).collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }

    fn network_view(&self, network: &Network) -> api::Network {
        api::Network {
            name: network.name.to_string(),
            vni: network.vni.value(),
            subnet: network.subnet,
            subnet6: network.ipv6.as_ref().map(|v6| v6.subnet),
            internal: network.internal,
            mtu: self.mtu(network),
        }
    }

    pub(super) fn network_detail(&self, name: &str) -> Result<api::NetworkDetail, Refusal> {
        let network = self.network_or_refuse(name)?;
        let used = self.local.values().any(|l| l.network == network.id.0);
        Ok(api::NetworkDetail {
            network: self.network_view(network),
            gateway: network.gateway,
            device: used.then(|| format!("ovl-{}", network.vni.value())),
            endpoints: self.endpoint_list(Some(name))?,
        })
    }

    pub(super) fn endpoint_list(
        &self,
        network: Option<&str>,
    ) -> Result<Vec<api::Endpoint>, Refusal> {
        let only = network.map(|name| self.network_or_refuse(name)).transpose()?.map(|n| n.id.0);
        let wanted = |e: &Endpoint| only.is_none_or(|id| e.network == id);
        let local = self.local_endpoints().map(|e| (self.me.node.to_string(), e));
        let remote = self.remotes.visible().map(|(node, e)| (node.to_string(), e.clone()));
        let mut list: Vec<_> = local
            .chain(remote)
            .filter(|(_, e)| wanted(e))
            .map(|(host, e)| self.describe(&e, &host))
            .collect();
        list.sort_by(|a, b| (&a.network, &a.name, &a.host).cmp(&(&b.network, &b.name, &b.host)));
        Ok(list)
    }

    pub(super) fn describe(&self, endpoint: &Endpoint, host: &str) -> api::Endpoint {
        let network = self.networks.get(&endpoint.network);
        let short = || endpoint.id.chars().take(12).collect();
        api::Endpoint {
            network: network
                .map_or_else(|| format!("#{}", endpoint.network), |n| n.name.to_string()),
            name: endpoint.names.first().cloned().unwrap_or_else(short),
            names: endpoint.names.clone(),
            ipv4: endpoint.ipv4,
            ipv6: endpoint.ipv6,
            mac: ovl_vxlan::Mac(endpoint.mac).to_string(),
            host: host.to_owned(),
        }
    }

    /// This host included.
    pub(super) fn member_counts(&self) -> api::MemberCounts {
        let mut counts = api::MemberCounts { alive: 1, ..api::MemberCounts::default() };
        for (.., state) in self.remotes.members() {
            *match state {
                MemberState::Alive => &mut counts.alive,
                MemberState::Suspect => &mut counts.suspect,
                MemberState::Down => &mut counts.down,
                MemberState::Left => &mut counts.left,
            } += 1;
        }
        counts
    }

    pub(super) fn status(&self, now: Instant) -> api::Status {
        let counts = self.member_counts();
        let local = self.local_endpoints().count();
        api::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.me.node.to_string(),
            address: self.me.vtep,
            uptime_seconds: now.duration_since(self.started).as_secs(),
            store: api::StoreStatus { url: String::new(), error: self.health.store.clone() },
            members: counts,
            networks: self.networks.len(),
            endpoints: api::EndpointCounts {
                local,
                total: local + self.remotes.visible().count() + self.remotes.held(),
                held: self.remotes.held(),
            },
            dataplane: api::DataplaneStatus {
                repaired: self.health.repaired,
                errors: self.health.dataplane.iter().map(|t| t.text.clone()).collect(),
            },
            docker: self.health.docker.clone().unwrap_or_else(|| "connected".to_owned()),
            problems: self.problems(now).into_iter().map(|problem| problem.text).collect(),
        }
    }

    /// Hosts that should be there. One that said that it stops is not missed.
    fn hosts_down(&self) -> Option<String> {
        let down = self.remotes.members().filter(|(.., state)| *state == MemberState::Down);
        let names = listed(down.map(|(name, ..)| name.to_string()).collect(), SHOWN_MAX)?;
        let port = self.me.gossip_port;
        Some(format!(
            "no agent answers on {names}; where one runs, check that TCP and UDP {port} are open between the hosts"
        ))
    }

    /// Addresses of networks that several endpoints hold, with their hosts.
    pub(super) fn held_twice(&self) -> Vec<(u64, std::net::IpAddr, Vec<String>)> {
        let local = self.local_endpoints();
        let local: Vec<_> =
            local.flat_map(|e| addresses(&e).map(move |a| (e.network, a))).collect();
        self.remotes.claimed_twice(&local)
    }

    /// Which host cannot be understood, and who has to be upgraded.
    fn other_release(&self, now: Instant) -> Option<String> {
        let (heard, OtherFormat { from, version, known }) = self.health.other_format?;
        let whom = if version > known { "this host" } else { "that host" };
        (heard + OTHER_FORMAT_FOR > now).then(|| {
            format!("the agent at {from} speaks format {version} of the gossip, this one {known}: they do not hear each other; upgrade ovl on {whom}")
        })
    }

    /// All that is wrong, in the order in which people are told.
    pub(super) fn problems(&self, now: Instant) -> Vec<Problem> {
        let of = |topic| move |text: String| Problem::new(topic, text);
        let mut problems: Vec<_> =
            self.me.warnings.iter().cloned().map(of(Topic::Settings)).collect();
        problems.extend(self.unjoined(now).map(of(Topic::Joining)));
        problems.extend(self.conflicts().into_iter().map(of(Topic::Address)));
        problems.extend(self.health.store.as_ref().map(|error| {
            let text = format!("no network and no address can be given out by the store: {error}");
            Problem::new(Topic::Store, text)
        }));
        problems.extend(self.health.foreign.clone().map(of(Topic::Foreign)));
        problems.extend(self.docker_problems(now).into_iter().map(of(Topic::Docker)));
        problems.extend(self.health.disk.as_ref().map(|error| {
            let text =
                format!("the agent's state cannot be written, so nothing new is attached: {error}");
            Problem::new(Topic::Disk, text)
        }));
        problems.extend(self.health.dns.iter().cloned().map(of(Topic::Dns)));
        problems.extend(self.health.metrics.clone().map(of(Topic::Settings)));
        problems.extend(self.health.name_conflict.map(|address| {
            let text = format!(
                "another host at {address} uses the node name \"{}\" too; give one of the two another --node-name",
                self.me.node
            );
            Problem::new(Topic::Name, text)
        }));
        problems.extend(self.other_release(now).map(of(Topic::Release)));
        let odd = self.health.oddities.iter().filter(|(at, _)| *at + ODDITY_FOR > now);
        problems.extend(odd.map(|(_, odd)| Problem::new(Topic::Claims, odd_in_words(odd))));
        problems.extend(self.hosts_down().map(of(Topic::Hosts)));
        problems.extend(self.health.dataplane.iter().map(|trouble| {
            let text = format!("the kernel did not take what it should hold: {}", trouble.text);
            Problem::new(trouble.topic, text)
        }));
        if !self.releases.is_empty() {
            let text =
                format!("{} addresses wait to be given back to the store", self.releases.len());
            problems.push(Problem::new(Topic::GiveBack, text));
        }
        problems
    }

    fn unjoined(&self, now: Instant) -> Option<String> {
        let late = self.me.expects_peers && !self.synced && now > self.started + JOIN_WITHIN;
        late.then(|| {
            format!(
                "none of the hosts to join has answered yet; check --join, and that TCP and UDP {} are open between the hosts",
                self.me.gossip_port
            )
        })
    }

    fn conflicts(&self) -> Vec<String> {
        let twice = self.held_twice().into_iter().take(SHOWN_MAX);
        let told = twice.map(|(network, address, hosts)| {
            let network = self.networks.get(&network).map_or("?", |n| n.name.as_ref());
            format!(
                "{address} of network {network} is held more than once, on {}; do all agents use the same --store?",
                hosts.join(" and ")
            )
        });
        told.collect()
    }
}

/// What somebody told that cannot be, and what may be done.
pub(super) fn odd_in_words(odd: &Oddity) -> String {
    match odd {
        Oddity::Epoch { from, node, epoch } => format!(
            "{from} claims epoch {epoch} of host {node}, which no clock has given, and is not believed; look what runs at {from}, and at its clock"
        ),
        Oddity::HeldForDead { rejoins } => format!(
            "this host was held for dead again as soon as it was back, {rejoins} times in all since its start; look for packets that are lost, or forged, on the gossip's port"
        ),
    }
}

/// The first `most` of them in their order, and how many more there are; `None`: there are none.
pub(super) fn listed(mut names: Vec<String>, most: usize) -> Option<String> {
    names.sort();
    let more = names.len().saturating_sub(most);
    names.truncate(most);
    if more > 0 {
        names.push(format!("{more} more"));
    }
    (!names.is_empty()).then(|| names.join(", "))
}
