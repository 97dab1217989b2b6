//! Namespaces, and the processes in them.
//!
//! Process 1 of a sandbox does nothing but hold it open and reap what its processes leave behind
//! (it ignores SIGCHLD, so the kernel reaps for it). SIGKILL to it makes the kernel end every
//! process of the sandbox, those of nested sandboxes included; then the mounts and interfaces go.
//!
//! `nsenter` and `unshare` are used rather than `ip netns exec`, which mounts /sys anew and thereby
//! hides the control groups that dockerd needs.
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;

use crate::exec::{self, Outcome};
use crate::folder::Lock;
use crate::process::{self, Process};
use crate::programs::{Programs, SYSTEM_PATH};
use crate::{LabError, wait};

/// How long the kernel gets to end a sandbox's processes.
const END_LIMIT: Duration = Duration::from_secs(20);
/// A sandbox's network namespace, as it sees it itself.
pub(crate) const OWN_NETWORK: &str = "/proc/1/ns/net";
/// Mounts that the machine makes or ends later come and go inside as well; never the other way.
const UNSHARE: [&str; 7] = ["-n", "-m", "-u", "-p", "--propagation", "slave", "--"];
/// Keeps process 1 alive and reaping; terminals' signals do not reach it. It is `env` that has the
/// kernel reap: not every shell lets a script ignore CHLD.
const HOLD: &str = "exec env --ignore-signal=CHLD,HUP sleep infinity";
/// Starts process 1 and writes its record, before anything else could be interrupted.
/// `$1` process 1's script, `$2` the record.
const CREATE: &str = r#"setsid sh -c "$1" </dev/null >/dev/null 2>&1 &
read -r stat < "/proc/$!/stat"
echo "$stat" > "$2""#;
/// The same inside another sandbox, where it is known by an inner number only.
const CREATE_NESTED: &str = r#"setsid sh -c "$1" </dev/null >/dev/null 2>&1 & echo $!"#;
/// Starts a daemon that outlives us. `$1` its log, then its command line.
const SPAWN: &str = r#"log=$1; shift
setsid "$@" </dev/null >>"$log" 2>&1 & echo $!"#;

/// First thing in a new sandbox: names of other network namespaces that came along with the mounts
/// would keep those alive from here, and /proc must show its own processes.
const ENTER: &str = r#"
awk '/ - nsfs /{print $5}' /proc/self/mountinfo | while read -r name; do
    umount "$name" 2>/dev/null || true
done
mount -t proc proc /proc
"#;

/// A network, a mount, a UTS and a PID namespace, held open by process 1 of the latter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sandbox {
    holder: Process,
}

impl Sandbox {
    /// Makes a sandbox of which `record` tells, even if we are killed in the middle: what makes it
    /// holds the lab's lock until the record is written.
    ///
    /// # Errors
    /// [`LabError::Command`] when the kernel refuses, [`LabError::BadRecord`].
    pub fn create(record: &Path, lock: &Lock) -> Result<Self, LabError> {
        let mut command = Command::new("unshare");
        command.args(UNSHARE).args(["sh", "-euc", CREATE, "sh", HOLD]);
        command.arg(record).env_clear().env("PATH", SYSTEM_PATH);
        // So that whoever meets it in `ps e` can tell what it is.
        command.env("OVL_LAB_HOLDER", record);
        exec::run_reading(&mut command, lock.to_stdio()?, exec::QUICK)?.require()?;
        let sandbox =
            Self::load(record).ok_or_else(|| LabError::BadRecord { path: record.to_owned() })?;
        sandbox.script(ENTER, &[])?;
        Ok(sandbox)
    }

    /// Makes a sandbox inside this one, with namespaces of its own; it ends with this one.
    ///
    /// # Errors
    /// As [`Sandbox::create`].
    pub fn create_inside(&self, record: &Path) -> Result<Self, LabError> {
        let mut command = self.command("unshare");
        command.args(UNSHARE).args(["sh", "-euc", CREATE_NESTED, "sh", HOLD]);
        let inner = exec::run_ok(&mut command)?;
        // Its own namespace numbers it 1; this sandbox's is one level below the machine's.
        let holder = parse_pid(&inner).and_then(|inner| {
            process::children_of(self.holder.pid())
                .into_iter()
                .find(|child| process::pid_at_depth(child.pid(), 1) == Some(inner))
        });
        let Some(holder) = holder else {
            return Err(LabError::BadAnswer { command: exec::line(&command), answer: inner });
        };
        holder.store(record)?;
        let sandbox = Self { holder };
        sandbox.script(ENTER, &[])?;
        Ok(sandbox)
    }

    /// The sandbox of a record; None when there is none, or it has ended.
    #[must_use]
    pub fn load(record: &Path) -> Option<Self> {
        let holder = Process::load(record)?;
        holder.is_alive().then_some(Self { holder })
    }

    /// Process 1, as the machine numbers it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.holder.pid()
    }

    /// Path of its network namespace, as the machine's own mount namespace sees it.
    #[must_use]
    pub fn network_path(&self) -> String {
        format!("/proc/{}/ns/net", self.pid())
    }

    /// A program in all its namespaces, with a small environment of its own.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid().to_string(), "-m", "-n", "-u", "-p", "--"]).arg(program);
        // The callers' OVL_* variables would configure the agent, and LISTEN_* and the like leak.
        command.env_clear().env("HOME", "/root").env("LC_ALL", "C.UTF-8");
        if let Some(term) = std::env::var_os("TERM") {
            command.env("TERM", term);
        }
        if let Ok(programs) = Programs::find() {
            command.env("PATH", programs.search_path());
        } else {
            command.env("PATH", SYSTEM_PATH);
        }
        command
    }

    /// A program in its network namespace only, with the machine's own files and process numbers.
    #[must_use]
    pub fn network_command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid().to_string(), "-n", "--", program]);
        command
    }

    /// Runs a shell script that must succeed; `args` are its `$1`, `$2`, …
    ///
    /// # Errors
    /// [`LabError::Command`], [`LabError::CommandTimeout`].
    pub fn script(&self, script: &str, args: &[&str]) -> Result<String, LabError> {
        exec::run_ok(self.command("sh").args(["-euc", script, "sh"]).args(args))
    }

    /// Runs a command line to its end.
    ///
    /// # Errors
    /// As [`exec::run`].
    pub fn run(&self, argv: &[&str], limit: Duration) -> Result<Outcome, LabError> {
        exec::run(self.command(argv[0]).args(&argv[1..]), limit)
    }

    /// Starts a daemon that goes on without us, and ends with the sandbox.
    /// `log` is the path of its log as the sandbox sees it, `record` as we see it.
    ///
    /// # Errors
    /// [`LabError::EndedAtOnce`] when it is gone before it could be found.
    pub fn spawn(
        &self,
        what: &str,
        argv: &[&str],
        log: &Path,
        record: &Path,
    ) -> Result<Process, LabError> {
        let mut command = self.command("sh");
        command.args(["-euc", SPAWN, "sh"]).arg(log).args(argv);
        let inner = exec::run_ok(&mut command)?;
        let daemon = parse_pid(&inner)
            .and_then(|inner| process::child_numbered(self.holder.pid(), inner))
            .ok_or_else(|| LabError::EndedAtOnce {
                what: what.to_owned(),
                log: log.to_owned(),
                tail: log_tail(log),
            })?;
        daemon.store(record)?;
        Ok(daemon)
    }

    /// Ends every process in it, and waits until they are gone.
    ///
    /// # Errors
    /// [`LabError::Signal`], [`LabError::Timeout`].
    pub fn end(&self) -> Result<(), LabError> {
        self.holder.signal(Signal::SIGKILL)?;
        self.holder.wait_gone("a sandbox", END_LIMIT)
    }

    /// Runs `work` on a thread of its own inside the network namespace: sockets made there belong
    /// to it.
    ///
    /// # Errors
    /// Those of `work`, and of entering the namespace.
    pub fn inside_network<T: Send>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        inside(&self.network_path(), work)
    }

    /// The same in the network namespace of a process in the sandbox, which numbers it `pid`.
    ///
    /// # Errors
    /// Those of `work`, and of entering the namespace.
    pub fn inside_network_of<T: Send>(
        &self,
        pid: &str,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        // The /proc of the sandbox numbers processes as the sandbox does.
        inside(&format!("/proc/{}/root/proc/{pid}/ns/net", self.pid()), work)
    }

    /// Waits until a TCP port inside takes connections.
    ///
    /// # Errors
    /// [`LabError::Timeout`].
    pub fn wait_for_port(&self, what: &str, port: u16, limit: Duration) -> Result<(), LabError> {
        let own = format!(":{port:04X}");
        wait::until(&format!("{what} listening on TCP port {port}"), limit, || {
            let tables = self.listening_table();
            if tables.lines().any(|row| is_listening(row, &own)) {
                Ok(())
            } else {
                Err("no such socket".to_owned())
            }
        })
    }

    fn listening_table(&self) -> String {
        ["tcp", "tcp6"]
            .iter()
            .filter_map(|table| {
                std::fs::read_to_string(format!("/proc/{}/net/{table}", self.pid())).ok()
            })
            .collect()
    }
}

/// Runs `work` on a thread of its own in a network namespace.
fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let namespace = File::open(namespace)?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET)?;
            work()
        });
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    })
}

/// The last lines of a log, for an error.
#[must_use]
pub fn log_tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    exec::last_lines(&String::from_utf8_lossy(&text), 4)
}

/// A row of /proc/net/tcp: `sl local_address rem_address st …`, where state 0A is LISTEN.
fn is_listening(row: &str, port: &str) -> bool {
    let mut fields = row.split_whitespace();
    let local = fields.nth(1);
    let state = fields.nth(1);
    state == Some("0A") && local.is_some_and(|local| local.ends_with(port))
}

fn parse_pid(text: &str) -> Option<i32> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::Folder;

    struct Held {
        sandbox: Sandbox,
        lab: Folder,
        folder: std::path::PathBuf,
        _lock: Lock,
    }

    impl Held {
        fn new(name: &str) -> Self {
            let name = format!("{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(&name);
            std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
            let lab = Folder::of(&name.parse().expect("a label"));
            let lock = lab.lock().expect("nobody has it");
            let sandbox = Sandbox::create(&folder.join("holder"), &lock);
            Self { sandbox: sandbox.expect("root makes namespaces"), lab, folder, _lock: lock }
        }
    }

    impl Drop for Held {
        fn drop(&mut self) {
            self.sandbox.end().expect("the sandbox ends");
            std::fs::remove_dir_all(&self.folder).expect("the folder can be removed");
            self.lab.forget_lock();
        }
    }

    #[test]
    fn ending_a_sandbox_ends_daemons_and_nested_sandboxes() {
        let held = Held::new("ovl-sandbox-ends");
        let inner = held.sandbox.create_inside(&held.folder.join("inner")).expect("it nests");
        let daemon = ["sleep", "600"];
        let log = Path::new("/dev/null");
        let outer_daemon = held
            .sandbox
            .spawn("sleep", &daemon, log, &held.folder.join("d1"))
            .expect("sleep starts");
        let inner_daemon =
            inner.spawn("sleep", &daemon, log, &held.folder.join("d2")).expect("sleep starts");
        assert!(outer_daemon.is_alive() && inner_daemon.is_alive());
        drop(held);
        assert!(!outer_daemon.is_alive() && !inner_daemon.is_alive());
    }

    #[test]
    fn what_a_daemon_leaves_is_reaped() {
        let held = Held::new("ovl-sandbox-reaps");
        let record = held.folder.join("d");
        let daemon =
            held.sandbox.spawn("sleep", &["sleep", "600"], Path::new("/dev/null"), &record);
        let daemon = daemon.expect("sleep starts");
        daemon.signal(Signal::SIGKILL).expect("it is ours");
        daemon.wait_reaped("sleep", exec::QUICK).expect("process 1 reaps");
    }

    #[test]
    fn exit_codes_pass_through() {
        let held = Held::new("ovl-sandbox-code");
        let outcome = held.sandbox.run(&["sh", "-c", "exit 42"], exec::QUICK).expect("sh runs");
        assert_eq!(outcome.code, Some(42));
    }

    #[test]
    fn a_listening_row_is_told_from_a_connected_one() {
        let listen = "  0: 0100007F:1F0A 00000000:0000 0A 00000000:00000000 00:00000000";
        let other = "  1: 0100007F:1F0A 0100007F:A0C4 01 00000000:00000000 00:00000000";
        assert!(is_listening(listen, ":1F0A"));
        assert!(!is_listening(other, ":1F0A"));
        assert!(!is_listening(listen, ":1F0B"));
    }
}
