//! A whole lab: up, open, down.
use std::time::Duration;

use crate::folder::{Folder, HostRecord, Lock, Record};
use crate::host::Host;
use crate::kvstore::Kvstore;
use crate::process::Process;
use crate::sandbox::Sandbox;
use crate::underlay::Underlay;
use crate::{Container, LabError, LabName, LabSpec, NodeName, StoreKind, machine, spec, wait};

/// How long the agents get to see each other.
const CONVERGE_LIMIT: Duration = Duration::from_secs(60);

/// A lab that is up, wholly or in part.
///
/// It stays when this value goes: see [`Lab::down`].
#[derive(Clone, Debug)]
pub struct Lab {
    folder: Folder,
    record: Record,
}

impl Lab {
    /// Builds a lab and waits until its agents see each other; whatever is left of an earlier lab
    /// of the name is taken down first. `progress` hears one line per step.
    ///
    /// # Errors
    /// Any [`LabError`]; what was built so far stays, for a look at the logs, until `down`.
    pub fn up(spec: &LabSpec, progress: &mut dyn FnMut(&str)) -> Result<Self, LabError> {
        require_root()?;
        let folder = Folder::of(&spec.name);
        let lock = folder.lock()?;
        if folder.exists() {
            progress(&format!("taking down what is left of lab {}", spec.name));
            take_down(&folder)?;
        }
        let lab = Self { folder, record: record_of(spec) };
        lab.folder.create(&lab.record)?;
        lab.build(&lock, progress)?;
        if spec.agents {
            lab.start_agents(progress)?;
        }
        drop(lock);
        Ok(lab)
    }

    /// A lab that is up.
    ///
    /// # Errors
    /// [`LabError::NotUp`].
    pub fn open(name: &LabName) -> Result<Self, LabError> {
        require_root()?;
        let folder = Folder::of(name);
        let record = folder.record().ok_or_else(|| LabError::NotUp(name.to_string()))?;
        Ok(Self { folder, record })
    }

    /// Takes a lab down, whole or not; a lab that is not there is no error.
    /// Answers whether there was one.
    ///
    /// # Errors
    /// [`LabError::Timeout`] when processes do not end, [`LabError::File`].
    pub fn down(name: &LabName) -> Result<bool, LabError> {
        require_root()?;
        let folder = Folder::of(name);
        if !folder.exists() {
            return Ok(false);
        }
        let lock = folder.lock()?;
        let was_there = folder.exists();
        take_down(&folder)?;
        folder.forget_lock();
        drop(lock);
        Ok(was_there)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &LabName {
        &self.record.name
    }

    /// What its agents keep networks and addresses in.
    #[must_use]
    pub fn store(&self) -> StoreKind {
        self.record.store
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Waits until no other command changes the lab; until the value goes, none does.
    ///
    /// # Errors
    /// [`LabError::Timeout`].
    pub fn lock(&self) -> Result<Lock, LabError> {
        self.folder.lock()
    }

    /// The hosts' names, in the order of their addresses.
    pub fn host_names(&self) -> impl Iterator<Item = &str> {
        self.record.hosts.iter().map(|host| host.name.as_str())
    }

    /// A host.
    ///
    /// # Errors
    /// [`LabError::NoSuchHost`], [`LabError::HostGone`].
    pub fn host(&self, name: &str) -> Result<Host, LabError> {
        Host::open(&self.folder, &self.record, name)
    }

    /// All hosts.
    ///
    /// # Errors
    /// [`LabError::HostGone`].
    pub fn hosts(&self) -> Result<Vec<Host>, LabError> {
        self.host_names().map(|name| self.host(name)).collect()
    }

    /// The Consul server.
    ///
    /// # Errors
    /// [`LabError::NoKvstore`].
    pub fn kvstore(&self) -> Result<Kvstore, LabError> {
        Kvstore::open(&self.folder, &self.record)
    }

    /// Makes a container in a host and attaches it to a network.
    ///
    /// # Errors
    /// [`LabError::ContainerExists`], [`LabError::Refused`] with what `ovlctl` said.
    pub fn attach(&self, host: &str, network: &str, name: &str) -> Result<Container, LabError> {
        let name: NodeName = name.parse()?;
        let host = self.host(host)?;
        if let Ok(there) = self.container(name.as_str()) {
            return Err(LabError::ContainerExists {
                name: name.to_string(),
                host: there.host().name().to_owned(),
            });
        }
        Container::attach(&host, network, &name)
    }

    /// A container, in whichever host.
    ///
    /// # Errors
    /// [`LabError::NoSuchContainer`].
    pub fn container(&self, name: &str) -> Result<Container, LabError> {
        let all = self.containers();
        let known: Vec<_> = all.iter().map(|container| container.name().to_owned()).collect();
        all.into_iter().find(|container| container.name() == name).ok_or_else(|| {
            LabError::NoSuchContainer {
                lab: self.name().to_string(),
                name: name.to_owned(),
                known: if known.is_empty() { "none".to_owned() } else { known.join(", ") },
            }
        })
    }

    /// All containers of all hosts that are there.
    #[must_use]
    pub fn containers(&self) -> Vec<Container> {
        let hosts = self.host_names().filter_map(|name| self.host(name).ok());
        hosts.flat_map(|host| host.containers()).collect()
    }

    /// Starts every agent that does not run, and waits until each sees all hosts alive.
    ///
    /// # Errors
    /// [`LabError::EndedAtOnce`], [`LabError::Timeout`] with what was seen last.
    pub fn start_agents(&self, progress: &mut dyn FnMut(&str)) -> Result<(), LabError> {
        let hosts = self.hosts()?;
        for host in &hosts {
            host.spawn_agent()?;
        }
        progress(&format!("{} agents started, waiting until they see each other", hosts.len()));
        for host in &hosts {
            let what = format!("{} seeing {} members alive", host.name(), hosts.len());
            wait::until(&what, CONVERGE_LIMIT, || sees_alive(host, hosts.len()))?;
            progress(&format!("{} ({}) sees {} members", host.name(), host.address(), hosts.len()));
        }
        Ok(())
    }

    fn build(&self, lock: &Lock, progress: &mut dyn FnMut(&str)) -> Result<(), LabError> {
        let underlay = Underlay::create(&self.folder, lock)?;
        let kvstore = match self.record.store {
            StoreKind::Sqlite => None,
            StoreKind::Consul => {
                Some(Kvstore::create(&self.folder, &self.record, &underlay, lock)?)
            }
        };
        for index in 0..self.record.hosts.len() {
            if wait::interrupted() {
                return Err(LabError::Interrupted);
            }
            Host::create(&self.folder, &self.record, index, &underlay, lock)?;
        }
        for host in self.hosts()? {
            host.wait_for_cable(true)?;
        }
        progress(&format!("{} hosts on one underlay", self.record.hosts.len()));
        if let Some(kvstore) = kvstore {
            kvstore.wait_for_leader()?;
            progress(&format!("Consul serves on {}:8500", kvstore.address()));
        }
        Ok(())
    }
}

/// Whether a host's agent answers and counts `expected` members alive; else, what it says.
///
/// # Errors
/// What was seen instead.
pub fn sees_alive(host: &Host, expected: usize) -> Result<(), String> {
    let status = host.agent_answer()?;
    match status["members"]["alive"].as_u64() {
        Some(alive) if usize::try_from(alive) == Ok(expected) => Ok(()),
        Some(_) | None => Err(format!("members {}", status["members"])),
    }
}

fn record_of(spec: &LabSpec) -> Record {
    let hosts = spec
        .hosts
        .iter()
        .enumerate()
        .map(|(index, name)| HostRecord { name: name.clone(), address: spec::host_address(index) });
    let owner = Process::myself().filter(|_| spec.owned);
    Record {
        name: spec.name.clone(),
        store: spec.store,
        hosts: hosts.collect(),
        owner: owner.map(|me| (me.pid(), me.started())),
    }
}

/// Ends all sandboxes first, and goes on after an error, so that as little as possible is left.
fn take_down(folder: &Folder) -> Result<(), LabError> {
    let mut first_error = None;
    for record in folder.holders() {
        if let Some(Err(error)) = Sandbox::load(&record).map(|sandbox| sandbox.end()) {
            first_error.get_or_insert(error);
        }
    }
    crate::docker::remove_control_groups(folder);
    match first_error {
        // The records are needed to try again.
        Some(error) => Err(error),
        None => machine::remove_disks(folder).and_then(|()| folder.remove()),
    }
}

fn require_root() -> Result<(), LabError> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err(LabError::NotRoot) }
}
