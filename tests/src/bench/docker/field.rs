//! The hosts and networks that are compared.
use std::time::Duration;

use crate::docker::{Dockerd, Edition, IMAGE, Options};
use crate::{Host, Lab, LabError, etcd, lab, wait};

/// The later Docker, if `scripts/tools dockers` has unpacked it.
pub(super) const LATE: &str = "28";
const LIMIT: Duration = Duration::from_secs(60);
const OVL: [&str; 4] = ["-d", "ovl", "--ipam-driver", "ovl"];

/// Everything that is compared.
pub(super) struct Field {
    networks: Vec<Network>,
}

/// A network that two dockerds have, or `none`.
pub(super) struct Network {
    label: &'static str,
    name: &'static str,
    pair: Pair,
}

/// Two dockerds of one kind.
#[derive(Clone)]
struct Pair {
    /// Docker's release, and whose it is: `20.10, ovl`.
    label: String,
    dockers: [Dockerd; 2],
}

impl Field {
    /// Starts agents and dockerds, and makes the networks with their residents.
    pub(super) fn build(lab: &Lab) -> Result<Self, LabError> {
        let late = Edition::unpacked(LATE);
        agents(
            lab,
            if late.is_some() {
                &["ovl-1", "ovl-2", "late-1", "late-2"]
            } else {
                &["ovl-1", "ovl-2"]
            },
        )?;
        let ovl = Pair::start(lab, "ovl", &Edition::machine(), None)?;
        let store = etcd::start(&lab.host("classic-1")?)?;
        let classic = Pair::start(lab, "classic", &Edition::machine(), Some(&store))?;
        let mut pairs = vec![ovl.clone()];
        if let Some(edition) = &late {
            pairs.push(Pair::start(lab, "late", edition, None)?);
        }
        shared(&pairs, "bench", &OVL)?;
        shared(&pairs, "inner", &[&OVL[..], &["--internal"]].concat())?;
        shared(std::slice::from_ref(&classic), "bench", &["-d", "overlay"])?;
        let mut field = Self { networks: Vec::new() };
        for pair in pairs {
            field.add(&pair, &[("ovl", "bench"), ("ovl --internal", "inner")])?;
        }
        field.add(&classic, &[("classic overlay", "bench")])?;
        if let Some(edition) = &late {
            let swarm = Pair::start(lab, "swarm", edition, None)?;
            join_swarm(&swarm)?;
            let args = ["network", "create", "-d", "overlay", "--attachable", "bench"];
            swarm.dockers[0].docker(&args)?.require()?;
            field.add(&swarm, &[("Swarm overlay", "bench")])?;
        }
        Ok(field)
    }

    pub(super) fn networks(&self) -> &[Network] {
        &self.networks
    }

    /// The servers' versions.
    pub(super) fn versions(&self) -> Result<Vec<String>, LabError> {
        let all = self.networks.iter().map(|network| network.docker(0).version());
        let mut all = all.collect::<Result<Vec<_>, _>>()?;
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// `none`, and networks that are there, with a resident on each of them.
    fn add(
        &mut self,
        pair: &Pair,
        networks: &[(&'static str, &'static str)],
    ) -> Result<(), LabError> {
        let own = [("none", "none")];
        for &(label, name) in own.iter().chain(networks) {
            self.networks.push(Network { label, name, pair: pair.clone() });
        }
        for (_, name) in networks {
            for docker in &pair.dockers {
                let resident = resident(docker, name);
                let args =
                    ["run", "-d", "--net", name, "--name", &resident, IMAGE, "sleep", "36000"];
                docker.docker(&args)?.require()?;
            }
        }
        Ok(())
    }
}

/// The container that stays on a network, on each of its hosts. The classic overlay takes a name once
/// in all hosts.
fn resident(docker: &Dockerd, network: &str) -> String {
    format!("resident-{network}-{}", docker.host().name())
}

impl Network {
    /// The container that stays on it on a host.
    pub(super) fn resident(&self, at: usize) -> String {
        resident(self.docker(at), self.name)
    }

    /// As Docker knows it.
    pub(super) fn name(&self) -> &str {
        self.name
    }

    /// For a table.
    pub(super) fn title(&self) -> String {
        format!("{}: {}", self.pair.label, self.label)
    }

    pub(super) fn docker(&self, at: usize) -> &Dockerd {
        &self.pair.dockers[at]
    }

    pub(super) fn is_none(&self) -> bool {
        self.name == "none"
    }

    /// Whether it is the `none` of the same dockerds.
    pub(super) fn is_none_of(&self, other: &Self) -> bool {
        self.is_none() && self.pair.label == other.pair.label
    }
}

impl Pair {
    fn start(
        lab: &Lab,
        kind: &str,
        edition: &Edition,
        store: Option<&str>,
    ) -> Result<Self, LabError> {
        let start = |number: u8| {
            let host = lab.host(&format!("{kind}-{number}"))?;
            let flags = store.map(|store| etcd::flags(store, &host)).unwrap_or_default();
            let options = Options { edition: edition.clone(), flags, ..Options::default() };
            Dockerd::start_with(&host, options)
        };
        let dockers = [start(1)?, start(2)?];
        let version = dockers[0].version()?;
        let release: Vec<_> = version.split('.').take(2).collect();
        eprintln!("{kind}: two hosts with Docker {version}");
        Ok(Self { label: format!("{}, {kind}", release.join(".")), dockers })
    }
}

fn agents(lab: &Lab, names: &[&str]) -> Result<(), LabError> {
    let hosts: Vec<Host> = names.iter().map(|name| lab.host(name)).collect::<Result<_, _>>()?;
    for host in &hosts {
        host.spawn_agent()?;
    }
    for host in &hosts {
        let what = format!("{} seeing {} members alive", host.name(), hosts.len());
        wait::until(&what, LIMIT, || lab::sees_alive(host, hosts.len()))?;
    }
    Ok(())
}

/// Makes a network on the first host, and waits until all have it.
fn shared(pairs: &[Pair], name: &str, args: &[&str]) -> Result<(), LabError> {
    let create = [&["network", "create"], args, &[name]].concat();
    pairs[0].dockers[0].docker(&create)?.require()?;
    for docker in pairs.iter().flat_map(|pair| &pair.dockers) {
        let what = format!("the Docker of {} listing {name}", docker.host().name());
        wait::until(&what, LIMIT, || {
            let seen = docker.docker(&["network", "inspect", name]).map_err(|e| e.chain())?;
            if seen.ok() { Ok(()) } else { Err(seen.stderr) }
        })?;
    }
    Ok(())
}

fn join_swarm(pair: &Pair) -> Result<(), LabError> {
    let [manager, worker] = &pair.dockers;
    let address = manager.host().address().to_string();
    manager.docker(&["swarm", "init", "--advertise-addr", &address])?.require()?;
    let token = manager.docker(&["swarm", "join-token", "-q", "worker"])?.require()?.stdout;
    let own = worker.host().address().to_string();
    let join = ["swarm", "join", "--advertise-addr", &own, "--token", token.trim()];
    worker.docker(&[&join[..], &[&format!("{address}:2377")]].concat())?.require()?;
    Ok(())
}
