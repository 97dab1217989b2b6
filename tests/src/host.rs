//! A host of the lab: its files, its agent, its link.
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::exec::{self, Outcome};
use crate::folder::{self, Folder, HostRecord, Lock, Record};
use crate::process::{Activity, Process};
use crate::programs::Programs;
use crate::sandbox::{self, Sandbox};
use crate::underlay::{INTERFACE, Underlay, host_port};
use crate::{Container, LabError, StoreKind, docker, node, spec, wait};

/// How long an agent gets to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// How long an agent gets to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long `ovlctl` gets: longer than its own limit, so that its own words are seen.
const CTL_LIMIT: Duration = Duration::from_secs(60);
/// How many other hosts an agent is told to join.
const SEEDS: usize = 3;

/// A host of a lab.
#[derive(Clone, Debug)]
pub struct Host {
    lab: Folder,
    record: Record,
    index: usize,
    sandbox: Sandbox,
}

impl Host {
    /// Makes the host's namespaces and files, and its interface on the underlay.
    ///
    /// # Errors
    /// Any of [`LabError`]'s about commands and files.
    pub fn create(
        lab: &Folder,
        record: &Record,
        index: usize,
        underlay: &Underlay,
        lock: &Lock,
    ) -> Result<Self, LabError> {
        let HostRecord { name, address } = &record.hosts[index];
        let sandbox = node::create(lab, record, name, lock)?;
        underlay.plug(&host_port(index), &sandbox, *address)?;
        Ok(Self { lab: lab.clone(), record: record.clone(), index, sandbox })
    }

    /// What a power cut and a boot do: everything that runs in it ends at once, its namespaces,
    /// interfaces and /run are gone; /etc and /var/lib stay. Nothing is started in it.
    ///
    /// # Errors
    /// [`LabError::Timeout`], and any of [`LabError`]'s about commands and files.
    pub fn reboot(&self) -> Result<Self, LabError> {
        let lock = self.lab.lock()?;
        self.sandbox.end()?;
        docker::remove_groups_of(self);
        for gone in ["run", "containers"] {
            let path = self.folder().join(gone);
            fs::remove_dir_all(&path).map_err(folder::failed("remove", &path))?;
        }
        let underlay = self.underlay()?;
        underlay.unplug(&host_port(self.index))?;
        let host = Self::create(&self.lab, &self.record, self.index, &underlay, &lock)?;
        host.wait_for_cable(true)?;
        Ok(host)
    }

    /// A host of a lab that is up.
    ///
    /// # Errors
    /// [`LabError::NoSuchHost`], [`LabError::HostGone`].
    pub fn open(lab: &Folder, record: &Record, name: &str) -> Result<Self, LabError> {
        let index = record.hosts.iter().position(|host| host.name.as_str() == name);
        let index = index.ok_or_else(|| LabError::NoSuchHost {
            lab: record.name.to_string(),
            host: name.to_owned(),
            known: names(record),
        })?;
        let sandbox = Sandbox::load(&lab.join(name).join("holder"));
        let sandbox = sandbox.ok_or_else(|| LabError::HostGone {
            lab: record.name.to_string(),
            host: name.to_owned(),
        })?;
        Ok(Self { lab: lab.clone(), record: record.clone(), index, sandbox })
    }

    /// The folder of its lab.
    #[must_use]
    pub fn lab(&self) -> &Folder {
        &self.lab
    }

    /// Its host name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.record.hosts[self.index].name.as_str()
    }

    /// Its address on the underlay.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.record.hosts[self.index].address
    }

    /// Its namespaces.
    #[must_use]
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// The lab's folder of this host, of the same path inside and outside.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.lab.join(self.name())
    }

    /// Standard error of its agent, over all its starts.
    #[must_use]
    pub fn agent_log(&self) -> PathBuf {
        self.folder().join("agent.log")
    }

    /// A program in the host.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        self.sandbox.command(program)
    }

    /// Runs a command line in the host to its end.
    ///
    /// # Errors
    /// As [`exec::run`].
    pub fn run(&self, argv: &[&str]) -> Result<Outcome, LabError> {
        self.sandbox.run(argv, CTL_LIMIT)
    }

    /// `ovlctl` in the host.
    ///
    /// # Errors
    /// [`LabError::NoProgram`].
    pub fn ctl_command(&self) -> Result<Command, LabError> {
        Ok(self.sandbox.command(Programs::find()?.ovlctl()))
    }

    /// Runs `ovlctl` in the host to its end.
    ///
    /// # Errors
    /// As [`exec::run`].
    pub fn ctl(&self, args: &[&str]) -> Result<Outcome, LabError> {
        exec::run(self.ctl_command()?.args(args), CTL_LIMIT)
    }

    /// The same, and it must succeed.
    ///
    /// # Errors
    /// [`LabError::Refused`] with what it said.
    pub fn ctl_ok(&self, args: &[&str]) -> Result<Outcome, LabError> {
        let outcome = self.ctl(args)?;
        if outcome.ok() {
            return Ok(outcome);
        }
        Err(LabError::Refused {
            host: self.name().to_owned(),
            said: exec::last_lines(&outcome.stderr, 3),
        })
    }

    /// What `ovlctl --json ARGS` answers.
    ///
    /// # Errors
    /// [`LabError::Refused`] when it says no, [`LabError::BadAnswer`].
    pub fn ctl_json(&self, args: &[&str]) -> Result<Value, LabError> {
        let all: Vec<&str> = std::iter::once("--json").chain(args.iter().copied()).collect();
        self.ctl_ok(&all)?.json()
    }

    /// Its agent, unless it has ended.
    #[must_use]
    pub fn agent(&self) -> Option<Process> {
        Process::load(&self.agent_record()).filter(Process::is_alive)
    }

    /// What its agent is doing; None before its first start.
    #[must_use]
    pub fn agent_activity(&self) -> Option<Activity> {
        Process::load(&self.agent_record()).map(|agent| agent.activity())
    }

    /// The agent's command line.
    ///
    /// # Errors
    /// [`LabError::NoProgram`].
    pub fn agent_argv(&self) -> Result<Vec<String>, LabError> {
        let agent = Programs::find()?.agent().display().to_string();
        let mut argv = vec![agent, "--advertise".to_owned(), INTERFACE.to_owned()];
        argv.extend(["--store".to_owned(), self.store_url()]);
        let others = self.record.hosts.iter().filter(|host| host.name.as_str() != self.name());
        let seeds: Vec<_> = others.take(SEEDS).map(|host| host.address.to_string()).collect();
        if !seeds.is_empty() {
            argv.extend(["--join".to_owned(), seeds.join(",")]);
        }
        Ok(argv)
    }

    /// Starts its agent, if it does not run, without waiting for it to answer.
    ///
    /// # Errors
    /// [`LabError::EndedAtOnce`].
    pub fn spawn_agent(&self) -> Result<Process, LabError> {
        self.spawn_agent_for(None)
    }

    /// The same, and it tells what goes on on this socket of a service manager (`NOTIFY_SOCKET`,
    /// sd_notify(3)).
    ///
    /// # Errors
    /// [`LabError::EndedAtOnce`].
    pub fn spawn_agent_for(&self, manager: Option<&Path>) -> Result<Process, LabError> {
        let told = manager.map(|socket| format!("NOTIFY_SOCKET={}", socket.display()));
        let wrapper: Vec<&str> = told.iter().flat_map(|told| ["env", told.as_str()]).collect();
        self.spawn_agent_under(&wrapper)
    }

    /// The same, by a program that runs it, as `faketime -f +10s`.
    ///
    /// # Errors
    /// [`LabError::EndedAtOnce`].
    pub fn spawn_agent_under(&self, wrapper: &[&str]) -> Result<Process, LabError> {
        if let Some(agent) = self.agent() {
            return Ok(agent);
        }
        let own = self.agent_argv()?;
        let own = own.iter().map(String::as_str);
        let argv: Vec<&str> = wrapper.iter().copied().chain(own).collect();
        let what = format!("the agent of {}", self.name());
        self.sandbox.spawn(&what, &argv, &self.agent_log(), &self.agent_record())
    }

    /// Starts its agent, and waits until it answers `ovlctl status`.
    ///
    /// # Errors
    /// [`LabError::EndedAtOnce`], [`LabError::Timeout`].
    pub fn start_agent(&self) -> Result<Process, LabError> {
        let agent = self.spawn_agent()?;
        let what = format!("an answer of the agent of {}", self.name());
        wait::until(&what, START_LIMIT, || self.agent_answer().map(drop))?;
        Ok(agent)
    }

    /// What `ovlctl status` answers, or why it does not.
    ///
    /// # Errors
    /// One line: what `ovlctl` said, and the end of the log when the agent has ended.
    pub fn agent_answer(&self) -> Result<Value, String> {
        let answer = self.ctl_json(&["status"]).map_err(|error| error.chain());
        if answer.is_err() && self.agent().is_none() {
            return Err(format!("it has ended; its log: {}", sandbox::log_tail(&self.agent_log())));
        }
        answer
    }

    /// Ends its agent with SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// [`LabError::Timeout`].
    pub fn stop_agent(&self) -> Result<(), LabError> {
        self.end_agent(Signal::SIGTERM)
    }

    /// Ends its agent with SIGKILL.
    ///
    /// # Errors
    /// [`LabError::Timeout`].
    pub fn kill_agent(&self) -> Result<(), LabError> {
        self.end_agent(Signal::SIGKILL)
    }

    /// Stops its agent in its tracks.
    ///
    /// # Errors
    /// [`LabError::NotRunning`], [`LabError::Timeout`].
    pub fn freeze_agent(&self) -> Result<(), LabError> {
        self.running_agent()?.freeze()
    }

    /// Lets its frozen agent go on.
    ///
    /// # Errors
    /// [`LabError::NotRunning`], [`LabError::Timeout`].
    pub fn thaw_agent(&self) -> Result<(), LabError> {
        self.running_agent()?.thaw()
    }

    fn running_agent(&self) -> Result<Process, LabError> {
        self.agent()
            .ok_or_else(|| LabError::NotRunning { what: format!("the agent of {}", self.name()) })
    }

    /// Pulls its cable to the underlay, and waits until the host has noticed.
    ///
    /// # Errors
    /// [`LabError::Command`], [`LabError::Timeout`].
    pub fn cut(&self) -> Result<(), LabError> {
        self.set_cable(false)
    }

    /// Plugs its cable in again, and waits until the host has noticed.
    ///
    /// # Errors
    /// [`LabError::Command`], [`LabError::Timeout`].
    pub fn heal(&self) -> Result<(), LabError> {
        self.set_cable(true)
    }

    /// Whether its cable is plugged in.
    ///
    /// # Errors
    /// [`LabError::Command`].
    pub fn is_linked(&self) -> Result<bool, LabError> {
        self.underlay()?.is_up(&host_port(self.index))
    }

    /// The containers that `attach` made here.
    #[must_use]
    pub fn containers(&self) -> Vec<Container> {
        Container::all_of(self)
    }

    /// Waits until both ends of its cable are as they must be: the kernel takes up to a second to
    /// act on a carrier that comes back.
    ///
    /// # Errors
    /// [`LabError::Timeout`].
    pub fn wait_for_cable(&self, up: bool) -> Result<(), LabError> {
        let (expected, what) = if up { ("UP", "up") } else { ("DOWN", "down") };
        wait::until(&format!("the link of {} being {what}", self.name()), exec::QUICK, || {
            let argv = ["ip", "-j", "link", "show", "dev", INTERFACE];
            let links = self.run(&argv).and_then(|outcome| outcome.require()?.json());
            let state = links.map_err(|error| error.chain())?[0]["operstate"].clone();
            let forwarding = self.is_linked().map_err(|error| error.chain())?;
            if state == expected && forwarding == up { Ok(()) } else { Err(state.to_string()) }
        })
    }

    fn set_cable(&self, up: bool) -> Result<(), LabError> {
        self.underlay()?.set_link(&host_port(self.index), up)?;
        self.wait_for_cable(up)
    }

    fn end_agent(&self, signal: Signal) -> Result<(), LabError> {
        let Some(agent) = self.agent() else {
            return Ok(());
        };
        agent.signal(signal)?;
        agent.wait_gone(&format!("the agent of {}", self.name()), STOP_LIMIT)
    }

    fn underlay(&self) -> Result<Underlay, LabError> {
        Underlay::open(&self.lab).ok_or_else(|| LabError::NotUp(self.record.name.to_string()))
    }

    fn agent_record(&self) -> PathBuf {
        self.folder().join("agent")
    }

    fn store_url(&self) -> String {
        match self.record.store {
            StoreKind::Sqlite => format!("sqlite://{}", self.lab.join("store/ovl.db").display()),
            StoreKind::Consul => format!("consul://{}:8500", spec::kvstore_address()),
        }
    }
}

fn names(record: &Record) -> String {
    let names: Vec<_> = record.hosts.iter().map(|host| host.name.as_str()).collect();
    names.join(", ")
}
