//! The core in virtual time, with a store, a kernel and a cluster that answer at once or as told.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};
use ovl_gossip::{Changes, Endpoint, Member, MemberState, NodeEndpoints};
use ovl_ipam::{
    Docker as OfDocker, Holder, Lease, Network, NetworkId, NetworkSpec, Networks, Vni, Wanted,
};
use ovl_vxlan::{Home, Report};

use super::*;
use crate::docker::{
    ContainerEndpoint, CreateEndpoint, CreateNetwork, DockerNetwork, IpamData, Join,
    LOCAL_ADDRESS_SPACE, NetworkConfig, PoolConfig, RequestAddress, RequestPool,
};
use crate::probe::{PROBE_VNI, probe_mac};

mod absences;
mod explanations;
mod happenings;
mod leaving;
mod networks;
mod readiness;
mod restarts;
mod trace;

/// What the driver would be, and what it was told.
struct World {
    core: Core,
    now: Instant,
    next: u64,
    replies: BTreeMap<RequestId, Result<Response, Refusal>>,
    store: Vec<Network>,
    leases: BTreeMap<(u64, IpAddr), String>,
    /// Docker's networks, and whether it does what it is told.
    docker: Vec<DockerNetwork>,
    docker_waits: bool,
    docker_calls: Vec<DockerCall>,
    next_network: u64,
    revision: u64,
    store_down: bool,
    kernel_fails: bool,
    kernel_waits: bool,
    applied: u64,
    announced: BTreeMap<String, Endpoint>,
    names: BTreeMap<(u64, (String, String)), Vec<String>>,
    dns: BTreeMap<PathBuf, Vec<u64>>,
    probes: Vec<String>,
    moves: Vec<String>,
    ended: bool,
    log: Vec<String>,
    told: Vec<Notice>,
}

fn identity(expects_peers: bool) -> Identity {
    Identity {
        node: "queenbee".parse().unwrap(),
        vtep: "10.132.0.1".parse().unwrap(),
        gossip_port: 7946,
        vxlan_port: 4789,
        underlay_mtu: 1500,
        expects_peers,
        docker_scope: None,
        warnings: Vec::new(),
    }
}

fn network(id: u64, name: &str, subnet: &str) -> Network {
    let subnet: Ipv4Net = subnet.parse().unwrap();
    Network {
        id: NetworkId(id),
        name: name.parse().unwrap(),
        vni: Vni::new(4097 + u32::try_from(id).unwrap()).unwrap(),
        subnet,
        gateway: subnet.hosts().next().unwrap(),
        range: None,
        mtu: None,
        aux: BTreeMap::new(),
        ipv6: None,
        internal: false,
        docker: OfDocker::default(),
        removing: false,
    }
}

fn remote(id: &str, address: &str, generation: u64, name: &str) -> Endpoint {
    Endpoint {
        id: id.into(),
        network: 1,
        ipv4: address.parse().unwrap(),
        ipv6: None,
        mac: [2, 66, 10, 88, 9, 9],
        names: vec![name.into()],
        generation,
    }
}

fn target(name: &str) -> Target {
    Target {
        network: "rethinkdb".into(),
        names: vec![name.into()],
        sandbox: Sandbox { netns: PathBuf::from(format!("/run/netns/{name}")), id: Some((4, 7)) },
        address: None,
        ifname: "eth0".parse().unwrap(),
        id: name.bytes().fold(1, |sum, b| sum * 31 + u64::from(b)),
    }
}

impl World {
    /// Whose kernel waits to be told.
    fn new_waiting(state: State) -> World {
        let mut world = World::unsettled(state, false);
        world.kernel_waits = true;
        world.settle();
        world
    }

    fn new(state: State, expects_peers: bool) -> World {
        let mut world = World::unsettled(state, expects_peers);
        world.settle();
        world
    }

    fn unsettled(state: State, expects_peers: bool) -> World {
        #[expect(clippy::disallowed_methods, reason = "any start will do for virtual time")]
        let now = Instant::now();
        World {
            core: Core::new(identity(expects_peers), state, true, now),
            now,
            next: 0,
            replies: BTreeMap::new(),
            store: vec![network(1, "rethinkdb", "10.88.0.0/16")],
            leases: BTreeMap::new(),
            docker: Vec::new(),
            docker_waits: false,
            docker_calls: Vec::new(),
            next_network: 9,
            revision: 1,
            store_down: false,
            kernel_fails: false,
            kernel_waits: false,
            applied: 0,
            announced: BTreeMap::new(),
            names: BTreeMap::new(),
            dns: BTreeMap::new(),
            probes: Vec::new(),
            moves: Vec::new(),
            ended: false,
            log: Vec::new(),
            told: Vec::new(),
        }
    }

    /// With the store's networks known.
    fn ready() -> World {
        let mut world = World::new(State::default(), false);
        world.event(Event::StoreHealth(None));
        world.publish_networks();
        world
    }

    fn publish_networks(&mut self) {
        self.revision += 1;
        let networks = self.networks();
        self.event(Event::Networks(networks));
    }

    fn networks(&self) -> Networks {
        let (revision, next_id) = (self.revision, self.next_network);
        Networks { revision, list: self.store.clone(), next_id }
    }

    /// Docker lists its networks.
    fn list_docker(&mut self) {
        let list = self.docker.clone();
        self.event(Event::DockerNetworks(list));
    }

    /// With the store's networks known, and a Docker that has none.
    fn with_docker() -> World {
        let mut world = World::ready();
        world.event(Event::DockerHealth(None));
        world.list_docker();
        world
    }

    /// `docker network create NAME` by the user of this host, heard of at once.
    fn create(&mut self, id: &str, name: &str, subnet: Option<&str>) -> Result<Response, Refusal> {
        let (answer, pool) = docker_create(self, id, subnet, None)?;
        self.docker.push(docker_has(id, name, pool));
        self.list_docker();
        Ok(answer)
    }

    /// `docker network rm`, as dockerd asks.
    fn remove(&mut self, id: &str) -> Result<Response, Refusal> {
        let answer = self.get(Request::DeleteDockerNetwork(id.into()));
        self.docker.retain(|n| n.id != id);
        self.list_docker();
        answer
    }

    /// Another host's user made a network, and Docker is told to make it, and waits.
    fn is_told_to_make_blue(&mut self) -> DockerCall {
        self.docker_waits = true;
        self.store.push(network(2, "blue", "10.99.0.0/16"));
        self.publish_networks();
        self.docker_calls.pop().unwrap()
    }

    fn docker_names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.docker.iter().map(|n| n.config.name.clone()).collect();
        names.sort();
        names
    }

    fn stored(&self) -> Vec<String> {
        let mut names: Vec<_> = self.store.iter().map(|n| n.name.to_string()).collect();
        names.sort();
        names
    }

    fn problems(&mut self) -> Vec<String> {
        let Ok(Response::Status(status)) = self.get(Request::Status) else { panic!("no status") };
        status.problems
    }

    /// Docker does what it was told, asking the agent on the way as dockerd does.
    fn docker_does(&mut self, call: DockerCall) {
        let answer = match &call {
            DockerCall::Create { network, config } => {
                let id = format!("made-{network}");
                let pool = config.pools[0].subnet;
                docker_create(self, &id, Some(&pool.to_string()), None).unwrap();
                self.docker.push(DockerNetwork {
                    id: id.clone(),
                    global: false,
                    config: config.clone(),
                });
                Ok(id)
            }
            DockerCall::Remove(id) => {
                assert_eq!(self.get(Request::DeleteDockerNetwork(id.clone())), Ok(Response::Done));
                self.docker.retain(|n| n.id != *id);
                Ok(id.clone())
            }
        };
        self.event(Event::Docker(call, answer));
        self.list_docker();
    }

    fn event(&mut self, event: Event) {
        self.core.handle(self.now, event);
        self.settle();
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.core.poll_timeout() <= end {
            self.now = self.core.poll_timeout();
            self.event(Event::Timeout);
            assert!(self.core.poll_timeout() > self.now, "it would be woken without end");
        }
        self.now = end;
    }

    fn ask(&mut self, request: Request) -> RequestId {
        let id = RequestId(self.next);
        self.next += 1;
        self.event(Event::Request(id, request));
        id
    }

    fn get(&mut self, request: Request) -> Result<Response, Refusal> {
        let id = self.ask(request);
        self.replies.remove(&id).expect("answered")
    }

    fn settle(&mut self) {
        loop {
            while let Some(action) = self.core.poll_action() {
                self.act(action);
            }
            if self.kernel_waits || self.applied == self.core.desired_version() {
                return;
            }
            self.apply();
        }
    }

    fn apply(&mut self) {
        let version = self.core.desired_version();
        let desired = self.core.desired();
        let mut report = Report::default();
        if self.kernel_fails {
            for network in desired.networks.values() {
                for id in network.endpoints.keys() {
                    report.failed_endpoints.insert((network.vni, id.clone()), kernel_error());
                }
            }
        }
        self.applied = version;
        self.log.push("applied".into());
        self.core.handle(self.now, Event::Applied { version, audit: false, report });
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Reply(id, answer) => {
                self.log.push("reply".into());
                assert!(self.replies.insert(id, answer).is_none(), "answered twice");
            }
            Action::Store(id, call) => {
                let answer = if self.store_down {
                    Err(Refusal::unavailable("store down"))
                } else {
                    self.store(call)
                };
                self.core.handle(self.now, Event::Store(id, answer));
            }
            Action::Announce(e) => {
                self.log.push("announce".into());
                self.announced.insert(e.id.clone(), e);
            }
            Action::Withdraw(id) => {
                self.log.push("withdraw".into());
                self.announced.remove(&id);
            }
            Action::Names(NamesChange::Set { network, key, names, .. }) => {
                self.names.insert((network, key), names);
            }
            Action::Names(NamesChange::Remove(network, key)) => {
                self.names.remove(&(network, key));
            }
            Action::Docker(call) if self.docker_waits => self.docker_calls.push(call),
            Action::Docker(call) => self.docker_does(call),
            Action::Names(NamesChange::Network(..) | NamesChange::NoNetwork(_))
            | Action::Audit
            | Action::Inspect { .. }
            | Action::DnsEarly { .. }
            | Action::CheckSandboxes(_) => {}
            Action::Dns { netns, scope, .. } if scope.is_empty() => {
                self.dns.remove(&netns);
            }
            Action::Dns { netns, scope, .. } => {
                self.dns.insert(netns, scope);
            }
            Action::Tell(notice) => self.told.push(notice),
            Action::End => self.ended = true,
            Action::AwaitMove { endpoint, .. } => self.moves.push(endpoint),
            Action::Probe { node, .. } => self.probes.push(node.to_string()),
        }
    }

    fn store(&mut self, call: StoreCall) -> Result<StoreAnswer, Refusal> {
        Ok(match call {
            StoreCall::Networks => StoreAnswer::Networks(self.networks()),
            StoreCall::CreateNetwork(spec) | StoreCall::EnsureNetwork(spec) => {
                return self.ensure(&spec).map(StoreAnswer::Network);
            }
            StoreCall::RemoveNetwork(name) => {
                let at = self.store.iter().position(|n| n.name == name);
                let at = at.ok_or_else(|| Refusal::not_found("no such network"))?;
                self.revision += 1;
                StoreAnswer::Network(self.store.remove(at))
            }
            StoreCall::ProposeSubnet(avoid) => {
                let free = |n: &u8| {
                    let subnet = Ipv4Net::new_assert(Ipv4Addr::new(10, *n, 0, 0), 16);
                    let taken = self.store.iter().any(|known| known.subnet == subnet);
                    !avoid.contains(&subnet) && !taken
                };
                let free = (64..=128).find(free).unwrap();
                StoreAnswer::Subnet(format!("10.{free}.0.0/16").parse().unwrap())
            }
            StoreCall::ProposeSubnet6(_) => StoreAnswer::Subnet("fd00:1::/64".parse().unwrap()),
            StoreCall::Allocate { network, wanted, endpoint } => {
                let subnet = self.store.iter().find(|n| n.id == network).map(|n| n.subnet).unwrap();
                let [a, b, ..] = subnet.addr().octets();
                let v4 = (2..250).map(|n| IpAddr::from(Ipv4Addr::new(a, b, 0, n)));
                let v6 = (2..250u16).map(|n| IpAddr::from([0xfd00, 1, 0, 0, 0, 0, 0, n]));
                let free = |address: &IpAddr| !self.leases.contains_key(&(network.0, *address));
                let address = match wanted {
                    Wanted::V4 => v4.into_iter().find(free).unwrap(),
                    Wanted::V6 => v6.into_iter().find(free).unwrap(),
                    Wanted::Address(address) => address,
                };
                if self.leases.get(&(network.0, address)).is_some_and(|held| *held != endpoint) {
                    return Err(Refusal::conflict("it is held"));
                }
                self.leases.insert((network.0, address), endpoint.clone());
                let holder = Holder { node: "queenbee".into(), endpoint };
                StoreAnswer::Lease(Lease { network, address, holder, generation: 5 })
            }
            StoreCall::Release { network, address } => {
                self.log.push("release".into());
                self.leases.remove(&(network.0, address));
                StoreAnswer::Done
            }
            StoreCall::ReleaseLease(lease) => {
                self.leases.remove(&(lease.network.0, lease.address));
                StoreAnswer::Done
            }
            StoreCall::ReleaseNode => {
                let held = std::mem::take(&mut self.leases);
                StoreAnswer::Released(held.len())
            }
            StoreCall::Leases(id) => {
                let held = self.leases.iter().filter(|((n, _), _)| *n == id.0);
                let lease = |((n, address), endpoint): (&(u64, IpAddr), &String)| Lease {
                    network: NetworkId(*n),
                    address: *address,
                    holder: Holder { node: "queenbee".into(), endpoint: endpoint.clone() },
                    generation: 5,
                };
                StoreAnswer::Leases(held.map(lease).collect())
            }
        })
    }

    fn ensure(&mut self, spec: &NetworkSpec) -> Result<Network, Refusal> {
        if let Some(known) = self.store.iter().find(|n| n.name == spec.name) {
            return match Some(known.subnet) == spec.subnet {
                true => Ok(known.clone()),
                false => Err(Refusal::conflict("the name is taken")),
            };
        }
        let free = || format!("10.{}.0.0/16", 128 + self.next_network).parse().unwrap();
        let subnet: Ipv4Net = spec.subnet.unwrap_or_else(free);
        if self.store.iter().any(|n| n.subnet == subnet) {
            return Err(Refusal::conflict("the subnet is taken"));
        }
        let mut made = network(self.next_network, spec.name.as_ref(), &subnet.to_string());
        made.docker = spec.docker.clone();
        made.internal = spec.internal;
        self.next_network += 1;
        self.revision += 1;
        self.store.push(made.clone());
        Ok(made)
    }

    fn member(&mut self, name: &str, state: MemberState) {
        let address: SocketAddrV4 = "10.132.0.2:7946".parse().unwrap();
        let member = Member { name: name.parse().unwrap(), address, state };
        self.event(Event::Gossip(Changes { members: vec![member], ..Changes::default() }));
    }

    fn endpoints_of(&mut self, name: &str, endpoints: Vec<Endpoint>) {
        let node = NodeEndpoints {
            node: name.parse().unwrap(),
            vtep: "10.132.0.2".parse().unwrap(),
            endpoints,
        };
        self.event(Event::Gossip(Changes { nodes: vec![node], ..Changes::default() }));
    }

    /// Remote addresses that the kernel is to hold rows for.
    fn rows(&self) -> Vec<String> {
        let mut networks = self.core.desired().networks;
        networks.remove(&PROBE_VNI);
        networks.values().flat_map(|n| n.remotes.keys().map(ToString::to_string)).collect()
    }

    fn named(&self, name: &str) -> bool {
        self.names.values().any(|names| names.iter().any(|n| n == name))
    }
}

fn kernel_error() -> ovl_vxlan::ApplyError {
    ovl_vxlan::netns::identify(std::path::Path::new("/nowhere")).unwrap_err().into()
}

#[test]
fn an_endpoint_is_announced_and_answered_only_when_the_kernel_holds_it() {
    let mut world = World::ready();
    world.kernel_waits = true;
    let id = world.ask(Request::Attach(target("leader")));
    assert!(
        world.announced.is_empty() && !world.replies.contains_key(&id) && !world.named("leader")
    );
    assert_eq!(world.leases.len(), 1, "the address is held before");
    world.kernel_waits = false;
    world.settle();
    let Ok(Response::Endpoint(endpoint)) = world.replies.remove(&id).unwrap() else {
        panic!("no endpoint")
    };
    assert_eq!(
        (endpoint.name.as_str(), endpoint.ipv4.to_string().as_str()),
        ("leader", "10.88.0.2")
    );
    assert_eq!(world.announced.len(), 1);
    assert!(world.named("leader"));
    assert_eq!(world.dns.values().next(), Some(&vec![1]), "DNS serves its network in its sandbox");
}

#[test]
fn no_address_no_endpoint() {
    let mut world = World::ready();
    world.store_down = true;
    let answer = world.get(Request::Attach(target("leader")));
    assert_eq!(answer.unwrap_err().kind, RefusalKind::Unavailable);
    assert!(world.core.desired().networks.is_empty());
    world.store_down = false;
    assert!(world.get(Request::Attach(target("leader"))).is_ok(), "the name is free again");
}

#[test]
fn an_attach_that_the_kernel_refuses_gives_its_address_back() {
    let mut world = World::ready();
    world.kernel_fails = true;
    let refusal = world.get(Request::Attach(target("leader"))).unwrap_err();
    assert!(refusal.message.contains("leader"), "{}", refusal.message);
    assert!(
        world.leases.is_empty()
            && world.announced.is_empty()
            && world.core.desired().networks.is_empty()
    );
}

#[test]
fn a_name_is_taken_once_on_whichever_host() {
    let mut world = World::ready();
    world.member("workerbee-1", MemberState::Alive);
    world.endpoints_of("workerbee-1", vec![remote("a", "10.88.0.9", 3, "leader")]);
    let refusal = world.get(Request::Attach(target("Leader"))).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Conflict);
    assert!(refusal.message.contains("workerbee-1"), "{}", refusal.message);
}

#[test]
fn a_detach_withdraws_first_and_gives_the_address_back_last() {
    let mut world = World::ready();
    world.get(Request::Attach(target("leader"))).unwrap();
    world.log.clear();
    world.get(Request::Detach { network: "rethinkdb".into(), name: "leader".into() }).unwrap();
    assert_eq!(world.log, ["withdraw", "applied", "release", "reply"]);
    assert!(world.leases.is_empty() && world.names.is_empty() && world.dns.is_empty());
}

#[test]
fn a_network_that_is_new_in_the_store_is_found_there() {
    let mut world = World::new(State::default(), false);
    assert!(world.get(Request::Attach(target("leader"))).is_ok());
    let other = Target { network: "nowhere".into(), ..target("x") };
    assert_eq!(world.get(Request::Attach(other)).unwrap_err().kind, RefusalKind::NotFound);
}

#[test]
fn a_release_that_the_store_does_not_take_is_tried_again() {
    let mut world = World::ready();
    world.get(Request::Attach(target("leader"))).unwrap();
    world.store_down = true;
    world.get(Request::Detach { network: "rethinkdb".into(), name: "leader".into() }).unwrap();
    assert_eq!(world.leases.len(), 1);
    let remembered = world.core.state().releases;
    assert_eq!(remembered.len(), 1, "over a restart, too");
    world.store_down = false;
    world.pass(RELEASE_RETRY);
    assert!(world.leases.is_empty() && world.core.state().releases.is_empty());
}

#[test]
fn a_lost_sandbox_takes_its_endpoint_along() {
    let mut world = World::ready();
    world.get(Request::Attach(target("leader"))).unwrap();
    let id = world.announced.keys().next().unwrap().clone();
    world.event(Event::SandboxesGone(vec![id]));
    assert!(
        world.leases.is_empty()
            && world.announced.is_empty()
            && world.core.desired().networks.is_empty()
    );
}

#[test]
fn of_two_claims_on_an_address_the_higher_generation_is_true_in_any_order() {
    let old = remote("a", "10.88.0.9", 3, "old");
    let new = Endpoint { mac: [2, 0, 0, 0, 0, 1], ..remote("b", "10.88.0.9", 4, "new") };
    for swap in [false, true] {
        let mut world = World::ready();
        world.get(Request::Attach(target("here"))).unwrap();
        let mut both = [("workerbee-1", old.clone()), ("workerbee-2", new.clone())];
        if swap {
            both.reverse();
        }
        for (node, endpoint) in both {
            world.endpoints_of(node, vec![endpoint]);
        }
        let rows = world.core.desired().networks.into_values().next().unwrap().remotes;
        assert_eq!(rows.values().next().unwrap().mac.0, [2, 0, 0, 0, 0, 1]);
        world.endpoints_of("workerbee-2", vec![]);
        let rows = world.core.desired().networks.into_values().next().unwrap().remotes;
        assert_eq!(rows.values().next().unwrap().mac.0, old.mac, "the other one is remembered");
    }
}

#[test]
fn agents_probe_over_a_network_of_their_own_as_soon_as_there_are_others() {
    let mut world = World::ready();
    assert!(world.core.desired().networks.is_empty());
    let vteps = |world: &World| {
        let networks = world.core.desired().networks;
        let probes = networks.get(&PROBE_VNI);
        probes.map(|p| p.remotes.values().map(|r| (r.mac, r.vtep)).collect::<Vec<_>>())
    };
    let before = world.core.desired_version();
    world.member("workerbee-1", MemberState::Alive);
    assert_ne!(world.core.desired_version(), before);
    let vtep = "10.132.0.2".parse().unwrap();
    assert_eq!(vteps(&world), Some(vec![(probe_mac(vtep), vtep)]));
    let before = world.core.desired_version();
    world.member("workerbee-1", MemberState::Down);
    assert!(vteps(&world).is_some(), "a host that is away is probed, too");
    world.member("workerbee-1", MemberState::Left);
    assert_eq!(vteps(&world), None);
    assert_ne!(world.core.desired_version(), before);
}

#[test]
fn a_silent_hosts_endpoints_go_at_once_and_come_back_with_it() {
    let mut world = World::ready();
    world.get(Request::Attach(target("here"))).unwrap();
    world.member("workerbee-1", MemberState::Alive);
    world.endpoints_of("workerbee-1", vec![remote("a", "10.88.0.9", 3, "there")]);
    assert_eq!(world.rows(), ["10.88.0.9"]);
    world.member("workerbee-1", MemberState::Down);
    assert_eq!(world.probes, ["workerbee-1"]);
    assert!(world.named("there"), "not before it was asked");
    world.event(Event::Probed { node: "workerbee-1".parse().unwrap(), answers: false });
    assert!(world.rows().is_empty() && !world.named("there"));
    world.member("workerbee-1", MemberState::Alive);
    assert_eq!(world.rows(), ["10.88.0.9"]);
    assert!(world.named("there"));
}

#[test]
fn a_host_whose_agent_is_away_keeps_its_rows_and_loses_its_names_late() {
    let mut world = World::ready();
    world.get(Request::Attach(target("here"))).unwrap();
    world.member("workerbee-1", MemberState::Alive);
    world.endpoints_of("workerbee-1", vec![remote("a", "10.88.0.9", 3, "there")]);
    world.member("workerbee-1", MemberState::Left);
    world.event(Event::Probed { node: "workerbee-1".parse().unwrap(), answers: true });
    world.pass(remote::NAMES_HELD - Duration::from_secs(1));
    assert!(world.named("there"));
    world.pass(Duration::from_secs(1));
    assert!(!world.named("there"));
    assert_eq!(world.rows(), ["10.88.0.9"], "no packet is lost");
    assert!(world.probes.len() > 1, "it is asked again");
    world.event(Event::Probed { node: "workerbee-1".parse().unwrap(), answers: false });
    assert!(world.rows().is_empty());
}

#[test]
fn rows_of_the_last_run_stay_until_the_cluster_was_heard() {
    let mut world = World::new(State::default(), true);
    world.publish_networks();
    world.get(Request::Attach(target("here"))).unwrap();
    let settled = |world: &World| world.core.desired().networks.values().all(|n| n.settled);
    world.pass(Duration::from_secs(600));
    assert!(!settled(&world), "nobody was heard yet");
    world.event(Event::Gossip(Changes { synced: true, ..Changes::default() }));
    assert!(!settled(&world));
    world.pass(SETTLE_AFTER);
    assert!(settled(&world));
}

#[test]
fn a_restarted_agent_adopts_what_it_had_without_the_store() {
    let mut world = World::ready();
    world.get(Request::Attach(target("leader"))).unwrap();
    let (before, state) = (world.core.desired(), world.core.state());
    let text = serde_json::to_string(&state).unwrap();
    let restarted = World::new(serde_json::from_str(&text).unwrap(), false);
    assert_eq!(restarted.core.desired(), before);
    assert_eq!(restarted.announced, world.announced);
    assert_eq!(restarted.dns, world.dns);
}

#[test]
fn a_store_that_forgot_a_network_does_not_take_running_endpoints_down() {
    let mut world = World::ready();
    world.get(Request::Attach(target("leader"))).unwrap();
    let before = world.core.desired();
    world.event(Event::Networks(Networks { revision: 7, list: Vec::new(), next_id: 0 }));
    assert_eq!(world.core.desired(), before);
}

#[test]
fn leases_that_a_crash_left_behind_are_given_back() {
    let mut world = World::ready();
    world.get(Request::Attach(target("leader"))).unwrap();
    world.leases.insert((1, "10.88.0.77".parse().unwrap()), "docker".into());
    world.pass(RECONCILE_AFTER);
    let held: Vec<_> = world.leases.values().cloned().collect();
    assert_eq!(held.len(), 1, "{held:?}");
    assert!(!held.contains(&"docker".to_owned()));
}

/// `docker network create`, as dockerd asks, and the pool that it got.
fn docker_create(
    world: &mut World,
    id: &str,
    subnet: Option<&str>,
    name: Option<&str>,
) -> Result<(Response, IpNet), Refusal> {
    let pool = RequestPool {
        pool: subnet.map(|subnet| subnet.parse().unwrap()),
        sub_pool: None,
        options: BTreeMap::new(),
        v6: false,
        address_space: LOCAL_ADDRESS_SPACE.into(),
    };
    let Response::Pool(pool) = world.get(Request::Pool(pool))? else { panic!("no pool") };
    let Response::Address(gateway) = world.get(Request::Address(ask_for(pool, None, true)))? else {
        panic!("no gateway")
    };
    let options = name.map(|name| (docker::NETWORK_OPTION.to_owned(), name.to_owned()));
    let answer = world.get(Request::DockerNetwork(CreateNetwork {
        id: id.into(),
        options: options.into_iter().collect(),
        internal: false,
        enable_ipv6: false,
        ipv4: vec![IpamData {
            address_space: LOCAL_ADDRESS_SPACE.into(),
            pool,
            gateway: Some(gateway),
            aux: BTreeMap::new(),
        }],
        ipv6: Vec::new(),
    }))?;
    Ok((answer, pool))
}

/// What Docker lists of a network that it made so.
fn docker_has(id: &str, name: &str, subnet: IpNet) -> DockerNetwork {
    let pool =
        PoolConfig { subnet, range: None, gateway: subnet.hosts().next(), aux: BTreeMap::new() };
    let config = NetworkConfig {
        name: name.into(),
        internal: false,
        attachable: false,
        ipv6: false,
        options: BTreeMap::new(),
        labels: BTreeMap::from([("team".into(), "bees".into())]),
        ipam_driver: "ovl".into(),
        ipam_options: BTreeMap::new(),
        pools: vec![pool],
    };
    DockerNetwork { id: id.into(), global: false, config }
}

fn ask_for(pool: IpNet, address: Option<&str>, gateway: bool) -> RequestAddress {
    RequestAddress {
        pool_id: pool.to_string(),
        address: address.map(|a| a.parse().unwrap()),
        gateway,
        mac: None,
        endpoint_name: None,
    }
}

/// The network of the store in Docker, by its own name.
fn docker_network(
    world: &mut World,
    id: &str,
    subnet: &str,
    name: &str,
) -> Result<Response, Refusal> {
    docker_create(world, id, Some(subnet), Some(name)).map(|(answer, _)| answer)
}

fn docker_run(world: &mut World, endpoint: &str) -> Result<Response, Refusal> {
    let address = ask_for("10.88.0.0/16".parse().unwrap(), None, false);
    let Response::Address(IpNet::V4(address)) = world.get(Request::Address(address))? else {
        panic!("no address")
    };
    let create = CreateEndpoint {
        network: "net1".into(),
        endpoint: endpoint.into(),
        address: Some(address),
        address6: None,
        mac: None,
        options: BTreeMap::new(),
    };
    world.get(Request::CreateEndpoint(create))?;
    let join = Join {
        network: "net1".into(),
        endpoint: endpoint.into(),
        sandbox_key: "/run/docker/netns/1".into(),
    };
    world.get(Request::Join(join))
}

#[test]
fn a_container_of_docker_comes_and_goes() {
    let mut world = World::ready();
    docker_network(&mut world, "net1", "10.88.0.0/16", "rethinkdb").unwrap();
    let joined = docker_run(&mut world, "0123456789abcdef").unwrap();
    assert_eq!(joined, Response::Joined("ovl0123456789ab".parse().unwrap()));
    assert_eq!(world.announced.len(), 1, "reachable when docker run returns");
    assert_eq!(world.moves, ["0123456789abcdef"]);
    let home = |world: &World| {
        world
            .core
            .desired()
            .networks
            .values()
            .next()
            .unwrap()
            .endpoints
            .values()
            .next()
            .unwrap()
            .home
            .clone()
    };
    assert_eq!(home(&world), Home::Transit, "Docker has it");
    world.event(Event::Moved {
        endpoint: "0123456789abcdef".into(),
        ifname: Some("eth1".parse().unwrap()),
    });
    assert!(matches!(home(&world), Home::Sandbox { .. }));
    assert_eq!(world.dns.len(), 1);
    let named = ContainerEndpoint {
        container: "c1".into(),
        endpoint_id: "0123456789abcdef".into(),
        network_id: "net1".into(),
        names: vec!["leader".into(), "not a name".into()],
        sandbox: "/run/docker/netns/1".into(),
    };
    world.event(Event::Containers { complete: false, list: vec![named] });
    assert_eq!(world.announced["0123456789abcdef"].names, ["leader"]);
    world.get(Request::Leave("0123456789abcdef".into())).unwrap();
    assert!(world.announced.is_empty() && world.dns.is_empty() && !world.named("leader"));
    world.get(Request::DeleteEndpoint("0123456789abcdef".into())).unwrap();
    world
        .get(Request::ReleaseAddress("10.88.0.0/16".into(), "10.88.0.2".parse().unwrap()))
        .unwrap();
    assert!(world.leases.is_empty() && world.core.desired().networks.is_empty());
}

#[test]
fn a_join_that_the_kernel_refuses_can_be_deleted() {
    let mut world = World::ready();
    docker_network(&mut world, "net1", "10.88.0.0/16", "rethinkdb").unwrap();
    world.kernel_fails = true;
    assert!(docker_run(&mut world, "0123456789abcdef").is_err());
    world.kernel_fails = false;
    world.get(Request::DeleteEndpoint("0123456789abcdef".into())).unwrap();
    assert!(world.core.desired().networks.is_empty());
}

#[test]
fn dockers_second_host_must_name_the_same_subnet() {
    let mut world = World::ready();
    let refusal = docker_network(&mut world, "net1", "10.77.0.0/16", "rethinkdb").unwrap_err();
    assert!(refusal.message.contains("--subnet 10.88.0.0/16"), "{}", refusal.message);
    let refusal = docker_network(&mut world, "net1", "10.88.4.0/24", "other").unwrap_err();
    assert!(refusal.message.contains("overlaps network rethinkdb"), "{}", refusal.message);
    assert!(
        docker_network(&mut world, "net2", "10.66.0.0/16", "other").is_ok(),
        "a new one is made"
    );
}

#[test]
fn dockers_own_addresses_are_refused_with_the_way_out() {
    let mut world = World::ready();
    let data = IpamData {
        address_space: "LocalDefault".into(),
        pool: "10.88.0.0/16".parse().unwrap(),
        gateway: None,
        aux: BTreeMap::new(),
    };
    let refusal = world.get(Request::DockerNetwork(CreateNetwork {
        id: "net1".into(),
        options: BTreeMap::from([(docker::NETWORK_OPTION.into(), "rethinkdb".into())]),
        internal: false,
        enable_ipv6: false,
        ipv4: vec![data],
        ipv6: Vec::new(),
    }));
    assert!(refusal.unwrap_err().message.contains("--ipam-driver ovl"));
}

#[test]
fn requests_of_docker_that_come_twice_or_late_are_harmless() {
    let mut world = World::ready();
    for request in [
        Request::Leave("nothing".into()),
        Request::DeleteEndpoint("nothing".into()),
        Request::DeleteDockerNetwork("nothing".into()),
        Request::ReleasePool("10.1.0.0/16".into()),
        Request::ReleaseAddress("10.1.0.0/16".into(), "10.1.0.2".parse().unwrap()),
    ] {
        assert_eq!(world.get(request.clone()), Ok(Response::Done), "{request:?}");
    }
}

#[test]
fn what_a_crash_left_half_removed_is_cleared_before_its_address_is_free() {
    let mut world = World::ready();
    world.get(Request::Attach(target("leader"))).unwrap();
    world.kernel_waits = true;
    world.ask(Request::Detach { network: "rethinkdb".into(), name: "leader".into() });
    let state = world.core.state();
    let mut restarted = World::new_waiting(state);
    restarted.leases = world.leases.clone();
    assert_eq!(restarted.core.desired().networks.len(), 1, "the kernel's task must know of it");
    assert!(restarted.core.announcements().is_empty() && restarted.announced.is_empty());
    restarted.apply();
    restarted.settle();
    assert!(restarted.core.desired().networks.is_empty());
    assert_eq!(restarted.leases.len(), 1, "held until its interface is gone");
    restarted.apply();
    restarted.settle();
    assert!(restarted.leases.is_empty() && restarted.core.state().endpoints.is_empty());
}

#[test]
fn an_endpoint_that_the_kernel_does_not_let_go_keeps_its_address() {
    let mut world = World::ready();
    world.get(Request::Attach(target("leader"))).unwrap();
    let id = world.announced.keys().next().unwrap().clone();
    world.kernel_waits = true;
    let asked = world.ask(Request::Detach { network: "rethinkdb".into(), name: "leader".into() });
    let mut report = Report::default();
    report.failed_endpoints.insert((4098, id), kernel_error());
    let version = world.core.desired_version();
    world.event(Event::Applied { version, audit: false, report });
    assert!(world.leases.len() == 1 && !world.replies.contains_key(&asked));
    world.kernel_waits = false;
    world.event(Event::Applied { version, audit: true, report: Report::default() });
    assert!(world.leases.is_empty() && world.replies.contains_key(&asked));
}

#[test]
fn one_address_is_not_given_to_two_containers_of_a_host() {
    let mut world = World::ready();
    docker_network(&mut world, "net1", "10.88.0.0/16", "rethinkdb").unwrap();
    let wanted = ask_for("10.88.0.0/16".parse().unwrap(), Some("10.88.0.50"), false);
    world.get(Request::Address(wanted.clone())).unwrap();
    let again = world.get(Request::Address(wanted)).unwrap_err();
    assert_eq!(again.kind, RefusalKind::Conflict);
}

#[test]
fn an_agent_restarted_while_docker_moves_an_interface_waits_for_it() {
    let mut world = World::ready();
    docker_network(&mut world, "net1", "10.88.0.0/16", "rethinkdb").unwrap();
    docker_run(&mut world, "0123456789abcdef").unwrap();
    let mut state = world.core.state();
    assert_eq!(state.forget_endpoints(|_| true), 0, "its sandbox is not there yet");
    let restarted = World::new(state, false);
    assert_eq!(restarted.moves, ["0123456789abcdef"]);
    let desired = restarted.core.desired();
    let endpoint = desired.networks.values().next().unwrap().endpoints.values().next().unwrap();
    assert_eq!(endpoint.home, Home::Transit);
}

#[test]
fn an_endpoint_that_docker_does_not_run_goes_with_its_address() {
    let mut world = World::ready();
    docker_network(&mut world, "net1", "10.88.0.0/16", "rethinkdb").unwrap();
    docker_run(&mut world, "0123456789abcdef").unwrap();
    world.event(Event::DockerHealth(None));
    world.event(Event::Containers { complete: true, list: Vec::new() });
    world.pass(Duration::from_secs(60));
    assert!(world.leases.is_empty() && world.announced.is_empty());
}

#[test]
fn a_store_that_gives_a_network_in_use_another_subnet_is_not_believed() {
    let mut world = World::ready();
    world.get(Request::Attach(target("leader"))).unwrap();
    let before = world.core.desired();
    let list = vec![network(1, "other", "10.99.0.0/16")];
    world.event(Event::Networks(Networks { revision: 3, list, next_id: 2 }));
    assert_eq!(world.core.desired(), before);
    let Ok(Response::Status(status)) = world.get(Request::Status) else { panic!("no status") };
    assert!(status.problems.iter().any(|p| p.contains("lost its memory")), "{:?}", status.problems);
}

#[test]
fn while_the_state_cannot_be_written_nothing_new_is_attached() {
    let mut world = World::ready();
    world.event(Event::DiskHealth(Some("no space left".into())));
    let refusal = world.get(Request::Attach(target("leader"))).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Unavailable);
    world.event(Event::DiskHealth(None));
    assert!(world.get(Request::Attach(target("leader"))).is_ok());
}

#[test]
fn names_that_no_question_could_reach_are_refused() {
    for name in ["", "-a", "a..b", "a.", ".a", "a b", "ä"] {
        assert!(Target::names(name, &[]).is_err(), "{name:?}");
    }
    let mut world = World::ready();
    let shadow = Target { names: vec!["leader.rethinkdb".into()], ..target("x") };
    assert_eq!(world.get(Request::Attach(shadow)).unwrap_err().kind, RefusalKind::Invalid);
}

#[test]
fn a_store_that_lost_its_memory_is_shown_and_given_back_what_runs() {
    let mut world = World::ready();
    world.get(Request::Attach(target("leader"))).unwrap();
    let held = std::mem::take(&mut world.leases);
    world.event(Event::Networks(Networks { revision: 1, list: Vec::new(), next_id: 0 }));
    let refusal = world.get(Request::Attach(target("second"))).unwrap_err();
    assert!(refusal.message.contains("lost its memory"), "{}", refusal.message);
    let Ok(Response::Status(status)) = world.get(Request::Status) else { panic!("no status") };
    assert!(status.problems.iter().any(|p| p.contains("lost its memory")), "{:?}", status.problems);
    world.publish_networks();
    assert_eq!(world.leases, held, "its endpoint's lease is taken again");
    assert!(world.get(Request::Attach(target("second"))).is_ok());
}

#[test]
fn an_address_that_a_living_host_announces_is_passed_over() {
    let mut world = World::ready();
    world.member("workerbee-1", MemberState::Alive);
    world.endpoints_of("workerbee-1", vec![remote("a", "10.88.0.2", 3, "there")]);
    let Ok(Response::Endpoint(e)) = world.get(Request::Attach(target("here"))) else {
        panic!("no endpoint")
    };
    assert_eq!(e.ipv4.to_string(), "10.88.0.3");
    let given = Target { address: Some("10.88.0.2".parse().unwrap()), ..target("given") };
    world.leases.clear();
    assert_eq!(world.get(Request::Attach(given)).unwrap_err().kind, RefusalKind::Conflict);
}

#[test]
fn an_attach_that_meets_a_full_disk_is_taken_back() {
    let mut world = World::ready();
    world.kernel_waits = true;
    let asked = world.ask(Request::Attach(target("leader")));
    world.event(Event::DiskHealth(Some("no space left".into())));
    assert_eq!(world.replies.remove(&asked).unwrap().unwrap_err().kind, RefusalKind::Unavailable);
    assert!(world.core.desired().networks.is_empty());
    world.event(Event::DiskHealth(None));
    world.kernel_waits = false;
    world.settle();
    assert!(world.leases.is_empty());
}

#[test]
fn without_a_state_file_no_lease_of_this_host_is_given_back() {
    let mut world = World::ready();
    world.core = Core::new(identity(false), State::default(), false, world.now);
    world.applied = 0;
    world.publish_networks();
    world.get(Request::Attach(target("leader"))).unwrap();
    world.leases.insert((1, "10.88.0.77".parse().unwrap()), "unknown here".into());
    world.event(Event::Networks(Networks { revision: 1, list: Vec::new(), next_id: 0 }));
    world.publish_networks();
    world.pass(RECONCILE_INTERVAL + RECONCILE_AFTER);
    assert_eq!(world.leases.len(), 2, "it may belong to a container that runs");
}
