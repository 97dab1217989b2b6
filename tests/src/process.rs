//! Processes known by pid and start time, so that a reused pid is never touched.
use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{LabError, wait};

/// How long a process may take to act on a signal that it cannot catch.
const SIGNAL_LIMIT: Duration = Duration::from_secs(10);

/// A process of this machine, as the machine's own PID namespace numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pid: i32,
    /// Clock ticks since boot, field 22 of `/proc/PID/stat`.
    started: u64,
}

/// What the kernel says a process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It runs, sleeps or waits.
    Running,
    /// Stopped by a signal.
    Frozen,
    /// It has ended, or its pid belongs to another process by now.
    Gone,
}

impl Process {
    /// The process that has this pid now.
    #[must_use]
    pub fn observe(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Stat::parse(&stat).map(|stat| stat.process)
    }

    /// This process.
    #[must_use]
    pub fn myself() -> Option<Self> {
        Self::observe(Pid::this().as_raw())
    }

    /// Reads a record: a line in the form of `/proc/PID/stat`, or `PID START`.
    /// None when there is no record, or it is cut off.
    #[must_use]
    pub fn load(record: &Path) -> Option<Self> {
        let text = fs::read_to_string(record).ok()?;
        if let Some(stat) = Stat::parse(&text) {
            return Some(stat.process);
        }
        let (pid, started) = text.trim().split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, started: started.parse().ok()? })
    }

    /// Writes the record that [`Process::load`] reads.
    ///
    /// # Errors
    /// [`LabError::File`].
    pub fn store(&self, record: &Path) -> Result<(), LabError> {
        fs::write(record, format!("{} {}\n", self.pid, self.started))
            .map_err(|source| LabError::File { action: "write", path: record.to_owned(), source })
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Clock ticks from boot to its start.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.started
    }

    /// What it is doing; a zombie counts as gone.
    #[must_use]
    pub fn activity(&self) -> Activity {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok();
        match stat.as_deref().and_then(Stat::parse) {
            Some(stat) if stat.process == *self => match stat.activity {
                // Its first thread is dead, but others still close what they share.
                Activity::Gone if self.threads() > 1 => Activity::Running,
                activity => activity,
            },
            Some(_) | None => Activity::Gone,
        }
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.activity() != Activity::Gone
    }

    fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.pid)).map_or(0, Iterator::count)
    }

    /// Sends a signal; a process that is gone already is left alone.
    ///
    /// # Errors
    /// [`LabError::Signal`].
    pub fn signal(&self, signal: Signal) -> Result<(), LabError> {
        if !self.is_alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
            Err(source) => Err(LabError::Signal { signal: signal.as_str(), pid: self.pid, source }),
        }
    }

    /// Stops it in its tracks, and waits until it has stopped.
    ///
    /// # Errors
    /// [`LabError::Signal`], [`LabError::Timeout`].
    pub fn freeze(&self) -> Result<(), LabError> {
        self.signal_into(Signal::SIGSTOP, Activity::Frozen)
    }

    /// Lets it go on, and waits until it does.
    ///
    /// # Errors
    /// [`LabError::Signal`], [`LabError::Timeout`].
    pub fn thaw(&self) -> Result<(), LabError> {
        self.signal_into(Signal::SIGCONT, Activity::Running)
    }

    /// Signals are acted on a little later than they are sent.
    fn signal_into(&self, signal: Signal, expected: Activity) -> Result<(), LabError> {
        self.signal(signal)?;
        let what = format!("process {} being {expected:?}", self.pid);
        wait::until(&what, SIGNAL_LIMIT, || match self.activity() {
            seen if seen == expected => Ok(()),
            seen => Err(format!("{seen:?}")),
        })
    }

    /// Waits until it has ended and nothing of it is left in /proc: its threads may take longer
    /// than itself, and a daemon that finds the pid of its pidfile there does not start.
    ///
    /// # Errors
    /// [`LabError::Timeout`].
    pub fn wait_reaped(&self, what: &str, limit: Duration) -> Result<(), LabError> {
        wait::until(&format!("the end of {what}"), limit, || match Self::observe(self.pid) {
            Some(process) if process == *self => Err(format!("process {} is there", self.pid)),
            Some(_) | None => Ok(()),
        })
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// [`LabError::Timeout`].
    pub fn wait_gone(&self, what: &str, limit: Duration) -> Result<(), LabError> {
        wait::until(&format!("the end of {what}"), limit, || match self.activity() {
            Activity::Gone => Ok(()),
            Activity::Running => Err(format!("process {} runs", self.pid)),
            Activity::Frozen => Err(format!("process {} is frozen", self.pid)),
        })
    }
}

/// The processes whose parent is `parent`.
#[must_use]
pub fn children_of(parent: i32) -> Vec<Process> {
    all_stats().into_iter().filter(|stat| stat.parent == parent).map(|stat| stat.process).collect()
}

/// The children of `ancestor`, their children, and so on.
#[must_use]
pub fn descendants_of(ancestor: i32) -> Vec<Process> {
    let all = all_stats();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![ancestor];
    while let Some(parent) = parents.pop() {
        let children = all.iter().filter(|stat| stat.parent == parent).map(|stat| stat.process);
        let at = found.len();
        found.extend(children);
        parents.extend(found[at..].iter().map(Process::pid));
    }
    found
}

/// The child of `parent` that its own, innermost PID namespace numbers `inner`.
///
/// `NSpid:` of `/proc/PID/status` lists a process's numbers, outermost namespace first.
#[must_use]
pub fn child_numbered(parent: i32, inner: i32) -> Option<Process> {
    children_of(parent).into_iter().find(|child| innermost_pid(child.pid) == Some(inner))
}

/// How many levels below the machine's own a process's namespace is.
#[must_use]
pub fn depth(pid: i32) -> Option<usize> {
    namespace_pids(pid)?.len().checked_sub(1)
}

/// The number of a process in the namespace of `depth` levels below the machine's own.
#[must_use]
pub fn pid_at_depth(pid: i32, depth: usize) -> Option<i32> {
    namespace_pids(pid)?.get(depth).copied()
}

fn innermost_pid(pid: i32) -> Option<i32> {
    namespace_pids(pid)?.last().copied()
}

fn namespace_pids(pid: i32) -> Option<Vec<i32>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().map(|pid| pid.parse().ok()).collect()
}

fn all_stats() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit())
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter_map(|stat| Stat::parse(&stat))
        .collect()
}

/// What is used of `/proc/PID/stat` (proc_pid_stat(5)).
struct Stat {
    process: Process,
    parent: i32,
    activity: Activity,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The command's name stands in parentheses and may hold any byte, parentheses too.
        let (head, tail) = text.rsplit_once(')')?;
        let pid = head.split_once(' ')?.0.parse().ok()?;
        let fields: Vec<&str> = tail.split_whitespace().collect();
        Some(Self {
            process: Process { pid, started: fields.get(19)?.parse().ok()? },
            parent: fields.get(1)?.parse().ok()?,
            activity: match *fields.first()? {
                "Z" | "X" | "x" => Activity::Gone,
                "T" | "t" => Activity::Frozen,
                _ => Activity::Running,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_command_is_called() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 9 10";
        let stat = Stat::parse(line).expect("the line is one of proc(5)");
        assert_eq!((stat.process.pid, stat.process.started), (42, 123_456));
        assert_eq!((stat.parent, stat.activity), (7, Activity::Running));
    }

    #[test]
    fn cut_off_stat_lines_are_no_process() {
        let line = "42 (sleep) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456";
        for length in 0..line.len() - 6 {
            assert!(Stat::parse(&line[..length]).is_none(), "{}", &line[..length]);
        }
    }

    #[test]
    fn a_reused_pid_is_not_the_process() {
        let mut me = Process::myself().expect("this process is in /proc");
        assert!(me.is_alive());
        me.started += 1;
        assert!(!me.is_alive());
        me.signal(Signal::SIGKILL).expect("the signal goes to nobody");
    }

    #[test]
    fn a_record_is_read_back() {
        let file = std::env::temp_dir().join(format!("ovl-lab-record-{}", std::process::id()));
        let me = Process::myself().expect("this process is in /proc");
        me.store(&file).expect("the temporary folder can be written");
        assert_eq!(Process::load(&file), Some(me));
        fs::copy("/proc/self/stat", &file).expect("proc can be read");
        assert_eq!(Process::load(&file), Some(me));
        fs::remove_file(&file).expect("the record can be removed");
        assert_eq!(Process::load(&file), None);
    }
}
