//! Whether a dockerd was started with a cluster store: it tells no driver, but its driver's
//! networks must be of global scope then. And which name servers it gives to containers.
//!
//! Read from outside: its command line, and its configuration file as it sees it. Whatever is
//! unclear of a store counts as no. [`Arguments`], [`names_store`] and [`listed_servers`] decide; the
//! rest reads.
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use serde_json::Value;

/// Largest command line that is read, in bytes; a longer one counts for its start.
const MAX_CMDLINE: u64 = 128 << 10;

/// Largest configuration file that is read, in bytes; a larger one is not looked at.
const MAX_CONFIG: u64 = 1 << 20;

/// Longest wait for the disk that has the configuration file.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where dockerd looks when it is not told otherwise.
const CONFIG: &str = "/etc/docker/daemon.json";

/// Whether the process `pid` is a dockerd with a cluster store; false when that cannot be seen.
pub(super) async fn has_cluster_store(pid: Option<i32>) -> bool {
    let Some(pid) = pid else {
        tracing::debug!("the process that asks is not seen: taken for one without a cluster store");
        return false;
    };
    let look = tokio::task::spawn_blocking(move || look(Path::new(&format!("/proc/{pid}"))));
    match tokio::time::timeout(PATIENCE, look).await {
        Ok(Ok(Ok(found))) => found,
        Ok(Ok(Err(error))) => {
            tracing::debug!(pid, %error, "taken for a dockerd without a cluster store");
            false
        }
        Ok(Err(fault)) => {
            tracing::warn!(pid, %fault, "taken for a dockerd without a cluster store");
            false
        }
        Err(_) => {
            tracing::warn!(pid, "its settings cannot be read: taken for one without cluster store");
            false
        }
    }
}

/// The name servers that the dockerd of this process gives to containers by its own settings (`dns`); not
/// the host's. May wait for a disk.
pub(crate) fn name_servers(pid: i32) -> io::Result<Vec<String>> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let arguments = arguments(&process)?;
    match configuration(&process, arguments.config)? {
        Some(content) => {
            Ok(arguments.servers.into_iter().chain(listed_servers(&content)).collect())
        }
        None => Ok(arguments.servers),
    }
}

/// `process` is a folder such as `/proc/1`.
fn look(process: &Path) -> io::Result<bool> {
    let arguments = arguments(process)?;
    if arguments.store {
        return Ok(true);
    }
    let content = configuration(process, arguments.config)?;
    Ok(content.is_some_and(|content| names_store(&content)))
}

fn arguments(process: &Path) -> io::Result<Arguments> {
    let mut cmdline = Vec::new();
    File::open(process.join("cmdline"))?.take(MAX_CMDLINE).read_to_end(&mut cmdline)?;
    Ok(Arguments::read(&cmdline))
}

/// The content of the file that is named, else of the usual one; `None`: there is none.
fn configuration(process: &Path, named: Option<PathBuf>) -> io::Result<Option<Vec<u8>>> {
    match read_inside(process, &named.unwrap_or_else(|| PathBuf::from(CONFIG))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        content => content.map(Some),
    }
}

/// Reads a file as a process sees it: an absolute link in its root stays in its root.
fn read_inside(process: &Path, path: &Path) -> io::Result<Vec<u8>> {
    if !path.is_absolute() {
        return Err(io::Error::other(format!("{path:?}: not an absolute path")));
    }
    let root = open(&process.join("root"), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    // A pipe in the way must not block.
    let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC);
    let how = how.resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file: OwnedFd = openat2(&root, path, how)?;
    let file = File::from(file);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(format!("{path:?}: not a file")));
    }
    let mut content = Vec::new();
    file.take(MAX_CONFIG + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_CONFIG {
        return Err(io::Error::other(format!("{path:?}: larger than {MAX_CONFIG} bytes")));
    }
    Ok(content)
}

/// What matters of dockerd's arguments.
#[derive(Debug, Default, PartialEq, Eq)]
struct Arguments {
    /// A cluster store is named.
    store: bool,
    /// Another configuration file than the usual one is.
    config: Option<PathBuf>,
    /// Of `--dns`, in order.
    servers: Vec<String>,
}

impl Arguments {
    /// Reads a command line as the kernel shows it: each argument is followed by a zero. Of a flag
    /// that is given twice the last one counts, as for dockerd.
    fn read(cmdline: &[u8]) -> Self {
        let mut read = Self::default();
        let mut arguments = cmdline.split(|byte| *byte == 0).skip(1);
        while let Some(argument) = arguments.next() {
            if argument == b"--" {
                break;
            }
            let mut parts = argument.splitn(2, |byte| *byte == b'=');
            let (flag, value) = (parts.next(), parts.next());
            let mut value = || value.or_else(|| arguments.next()).unwrap_or_default();
            if flag == Some(b"--cluster-store") {
                read.store = !value().is_empty();
            } else if flag == Some(b"--config-file") {
                read.config = Some(PathBuf::from(OsStr::from_bytes(value())));
            } else if flag == Some(b"--dns") {
                read.servers.push(String::from_utf8_lossy(value()).into_owned());
            }
        }
        read
    }
}

/// Whether dockerd's configuration file names a cluster store.
fn names_store(config: &[u8]) -> bool {
    let config: Option<Value> = serde_json::from_slice(config).ok();
    let store = config.as_ref().and_then(|config| config.get("cluster-store"));
    store.and_then(Value::as_str).is_some_and(|store| !store.is_empty())
}

/// The name servers that dockerd's configuration file lists.
fn listed_servers(config: &[u8]) -> Vec<String> {
    let config: Option<Value> = serde_json::from_slice(config).ok();
    let servers = config.as_ref().and_then(|config| config.get("dns")).and_then(Value::as_array);
    servers.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::{Command, Stdio};

    use super::*;

    fn arguments(line: &[&str]) -> Arguments {
        let cmdline: Vec<u8> = line.iter().flat_map(|a| [a.as_bytes(), b"\0"].concat()).collect();
        Arguments::read(&cmdline)
    }

    #[test]
    fn a_store_on_the_command_line_is_seen_in_both_forms() {
        for (line, store) in [
            (&["dockerd"][..], false),
            (&["dockerd", "-H", "unix:///x", "--debug"], false),
            (&["dockerd", "--cluster-store", "consul://c:8500/x"], true),
            (&["dockerd", "--debug", "--cluster-store=etcd://e:2379", "-D"], true),
            (&["dockerd", "--cluster-store="], false),
            (&["dockerd", "--cluster-store"], false),
            (&["dockerd", "--cluster-store", ""], false),
            (&["dockerd", "--cluster-store=a", "--cluster-store="], false),
            (&["dockerd", "--cluster-store-opt", "kv.path=x"], false),
            (&["dockerd", "--cluster-advertise=eth0:2376"], false),
            (&["dockerd", "--", "--cluster-store=a"], false),
            (&["--cluster-store=a"], false),
            (&[], false),
        ] {
            assert_eq!(arguments(line), Arguments { store, ..Arguments::default() }, "{line:?}");
        }
    }

    #[test]
    fn another_configuration_file_is_seen_in_both_forms() {
        let config = Some(PathBuf::from("/srv/d.json"));
        for line in
            [&["dockerd", "--config-file", "/srv/d.json"][..], &["d", "--config-file=/srv/d.json"]]
        {
            assert_eq!(arguments(line).config, config, "{line:?}");
        }
    }

    #[test]
    fn name_servers_are_read_from_the_command_line_and_the_file() {
        let line = ["dockerd", "--dns", "1.1.1.1", "--dns=8.8.8.8", "--dns-search", "x", "--dns"];
        assert_eq!(arguments(&line).servers, ["1.1.1.1", "8.8.8.8", ""]);
        for (config, expected) in [
            (r#"{"dns":["169.254.53.53","1.1.1.1"]}"#, &["169.254.53.53", "1.1.1.1"][..]),
            (r#"{"dns":[]}"#, &[]),
            (r#"{"dns":"1.1.1.1"}"#, &[]),
            (r#"{"dns":[1,"a"]}"#, &["a"]),
            ("", &[]),
        ] {
            assert_eq!(listed_servers(config.as_bytes()), expected, "{config}");
        }
    }

    #[test]
    fn a_command_line_of_any_bytes_is_read() {
        for line in
            [&b""[..], b"\0\0\0", b"d\0--cluster-store=\xff\0", b"d\0=\0", b"d\0--config-file"]
        {
            Arguments::read(line);
        }
    }

    #[test]
    fn a_store_in_the_file_is_seen_and_nothing_else_is_one() {
        for (config, store) in [
            (r#"{"cluster-store":"consul://c:8500"}"#, true),
            (r#"{"debug":true,"cluster-store":"zk://z"}"#, true),
            (r#"{"cluster-store":""}"#, false),
            (r#"{"cluster-store":null}"#, false),
            (r#"{"cluster-store":true}"#, false),
            (r#"{"cluster-store-opts":{"a":"b"}}"#, false),
            (r#"["cluster-store"]"#, false),
            (r#"{"cluster-store":"x""#, false),
            ("", false),
        ] {
            assert_eq!(names_store(config.as_bytes()), store, "{config}");
        }
        assert!(!names_store(b"\xff\xfe"));
    }

    /// A folder that looks like one of `/proc`.
    fn process(cmdline: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("cmdline"), cmdline).unwrap();
        std::fs::create_dir_all(directory.path().join("fs/etc/docker")).unwrap();
        symlink(directory.path().join("fs"), directory.path().join("root")).unwrap();
        directory
    }

    #[test]
    fn the_file_is_read_in_the_root_of_the_process_links_included() {
        let process = process("dockerd\0");
        let inside = |path: &str| process.path().join("fs").join(path);
        assert!(!look(process.path()).unwrap(), "without a file");
        std::fs::write(inside("real.json"), r#"{"cluster-store":"consul://c"}"#).unwrap();
        symlink("/real.json", inside("etc/docker/daemon.json")).unwrap();
        assert!(look(process.path()).unwrap());
        std::fs::write(process.path().join("cmdline"), "dockerd\0--config-file=/other.json\0")
            .unwrap();
        assert!(!look(process.path()).unwrap());
        std::fs::write(inside("other.json"), r#"{"cluster-store":"consul://c"}"#).unwrap();
        assert!(look(process.path()).unwrap());
    }

    #[test]
    fn what_is_unclear_is_not_read() {
        let pipe = process("dockerd\0--config-file\0/pipe\0");
        nix::unistd::mkfifo(&pipe.path().join("fs/pipe"), Mode::S_IRWXU).unwrap();
        look(pipe.path()).unwrap_err();
        let relative = process("dockerd\0--config-file\0daemon.json\0");
        look(relative.path()).unwrap_err();
        let folder = process("dockerd\0--config-file=/etc\0");
        look(folder.path()).unwrap_err();
        let large = process("dockerd\0--config-file=/large\0");
        let content = format!(r#"{{"cluster-store":"{}"}}"#, "x".repeat(1 << 20));
        std::fs::write(large.path().join("fs/large"), content).unwrap();
        look(large.path()).unwrap_err();
    }

    #[tokio::test]
    async fn a_process_that_runs_is_looked_at_and_one_that_does_not_has_no_store() {
        assert!(!has_cluster_store(None).await);
        assert!(!has_cluster_store(Some(i32::MAX)).await);
        let mut child = Command::new("sh")
            .args(["-c", "echo; read x", "dockerd", "--cluster-store", "consul://127.0.0.1:8500"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Once it has written, its arguments are its own.
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let found = has_cluster_store(i32::try_from(child.id()).ok()).await;
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(found);
    }
}
