//! A real Consul server, in a namespace of its own on the underlay.
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::folder::{Folder, Lock, Record};
use crate::process::Process;
use crate::programs::Programs;
use crate::sandbox::{self, Sandbox};
use crate::underlay::Underlay;
use crate::{LabError, NodeName, node, spec, wait};

/// Its name as a node of the lab.
pub const NAME: &str = "kvstore";
/// The bridge's port of it.
pub const PORT: &str = "kvstore";
const HTTP_PORT: u16 = 8500;
/// A single server elects itself within some seconds.
const LEADER_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(20);
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// The lab's Consul server; it keeps its data over a stop and a start.
#[derive(Clone, Debug)]
pub struct Kvstore {
    lab: Folder,
    sandbox: Sandbox,
}

impl Kvstore {
    /// Makes its namespaces and starts Consul, without waiting for it.
    ///
    /// # Errors
    /// [`LabError::NoProgram`] without Consul, and those about commands and files.
    pub fn create(
        lab: &Folder,
        record: &Record,
        underlay: &Underlay,
        lock: &Lock,
    ) -> Result<Self, LabError> {
        let name: NodeName = NAME.parse()?;
        let sandbox = node::create(lab, record, &name, lock)?;
        underlay.plug(PORT, &sandbox, spec::kvstore_address())?;
        let kvstore = Self { lab: lab.clone(), sandbox };
        kvstore.spawn()?;
        Ok(kvstore)
    }

    /// The server of a lab that is up.
    ///
    /// # Errors
    /// [`LabError::NoKvstore`].
    pub fn open(lab: &Folder, record: &Record) -> Result<Self, LabError> {
        let sandbox = Sandbox::load(&lab.join(NAME).join("holder"));
        let sandbox = sandbox.ok_or_else(|| LabError::NoKvstore(record.name.to_string()))?;
        Ok(Self { lab: lab.clone(), sandbox })
    }

    /// Its namespaces.
    #[must_use]
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Its address on the underlay.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        spec::kvstore_address()
    }

    /// Its process, unless it has ended.
    #[must_use]
    pub fn process(&self) -> Option<Process> {
        Process::load(&self.record()).filter(Process::is_alive)
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> std::path::PathBuf {
        self.lab.join(NAME).join("consul.log")
    }

    /// Starts it, if it does not run, and waits until it has a leader.
    ///
    /// # Errors
    /// [`LabError::EndedAtOnce`], [`LabError::Timeout`].
    pub fn start(&self) -> Result<(), LabError> {
        self.spawn()?;
        self.wait_for_leader()
    }

    /// Waits until it has elected itself and serves.
    ///
    /// # Errors
    /// [`LabError::Timeout`].
    pub fn wait_for_leader(&self) -> Result<(), LabError> {
        wait::until("a leader of Consul", LEADER_LIMIT, || {
            if self.process().is_none() {
                return Err(format!("it has ended: {}", sandbox::log_tail(&self.log())));
            }
            let body = self.ask("/v1/status/leader").map_err(|error| error.to_string())?;
            if body.contains(":8300") { Ok(()) } else { Err(format!("it answers {body:?}")) }
        })
    }

    /// Ends it with SIGTERM.
    ///
    /// # Errors
    /// [`LabError::Timeout`].
    pub fn stop(&self) -> Result<(), LabError> {
        self.end(Signal::SIGTERM)
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    /// [`LabError::Timeout`].
    pub fn kill(&self) -> Result<(), LabError> {
        self.end(Signal::SIGKILL)
    }

    /// Stops it in its tracks: a store that neither answers nor refuses.
    ///
    /// # Errors
    /// [`LabError::NotRunning`], [`LabError::Timeout`].
    pub fn freeze(&self) -> Result<(), LabError> {
        self.running()?.freeze()
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// [`LabError::NotRunning`], [`LabError::Timeout`].
    pub fn thaw(&self) -> Result<(), LabError> {
        self.running()?.thaw()
    }

    fn running(&self) -> Result<Process, LabError> {
        self.process().ok_or_else(|| LabError::NotRunning { what: "Consul".to_owned() })
    }

    fn end(&self, signal: Signal) -> Result<(), LabError> {
        let Some(consul) = self.process() else {
            return Ok(());
        };
        consul.signal(signal)?;
        consul.wait_gone("Consul", STOP_LIMIT)
    }

    fn spawn(&self) -> Result<(), LabError> {
        if self.process().is_some() {
            return Ok(());
        }
        let consul = Programs::find()?.tool("consul")?.display().to_string();
        let address = spec::kvstore_address().to_string();
        let data = self.lab.join(NAME).join("data").display().to_string();
        let argv = [
            consul.as_str(),
            "agent",
            "-server",
            "-bootstrap-expect=1",
            "-disable-host-node-id",
            "-hcl=performance { raft_multiplier = 1 } disable_update_check = true leave_on_terminate = false",
            "-data-dir",
            &data,
            "-bind",
            &address,
            "-client",
            &address,
        ];
        self.sandbox.spawn("Consul", &argv, &self.log(), &self.record()).map(drop)
    }

    /// The keys that begin so, as a JSON list.
    ///
    /// # Errors
    /// Those of sockets.
    pub fn keys(&self, prefix: &str) -> std::io::Result<String> {
        self.ask(&format!("/v1/kv/{prefix}?keys"))
    }

    /// The value of a key.
    ///
    /// # Errors
    /// Those of sockets.
    pub fn get(&self, key: &str) -> std::io::Result<String> {
        self.ask(&format!("/v1/kv/{key}?raw"))
    }

    /// Writes a key, whoever may have written it meanwhile.
    ///
    /// # Errors
    /// Those of sockets.
    pub fn put(&self, key: &str, value: &str) -> std::io::Result<()> {
        self.request("PUT", &format!("/v1/kv/{key}"), value).map(drop)
    }

    /// The body of Consul's answer to a GET, asked from inside its namespace.
    fn ask(&self, path: &str) -> std::io::Result<String> {
        self.request("GET", path, "")
    }

    fn request(&self, method: &str, path: &str, body: &str) -> std::io::Result<String> {
        let address = SocketAddr::from((spec::kvstore_address(), HTTP_PORT));
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.sandbox.inside_network(move || {
            let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
            stream.set_read_timeout(Some(ANSWER_LIMIT))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.take(1 << 16).read_to_string(&mut answer)?;
            Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
        })
    }

    fn record(&self) -> std::path::PathBuf {
        self.lab.join(NAME).join("consul")
    }
}
