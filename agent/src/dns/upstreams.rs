//! The host's resolvers as they are now, and which of them were silent of late.
use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::RESOLVER_ADDRESS;
use super::resolv_conf;

/// How long a silent resolver goes last. Not skipped: with all of them silent each is still
/// tried, so that one lost packet never makes an outage.
const SILENT_FOR: Duration = Duration::from_secs(5);

/// How often the file is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Bytes of `resolv.conf` that are read; what comes after them is left out.
const MAX_FILE: u64 = 64 * 1024;

/// The resolvers named by a `resolv.conf`, read again whenever the file changes.
#[derive(Debug)]
pub(crate) struct Upstreams {
    path: PathBuf,
    own: Vec<Ipv4Addr>,
    looked: Option<Instant>,
    stamp: Option<Stamp>,
    servers: Vec<Server>,
}

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    silent_until: Option<Instant>,
}

/// A file with another stamp has other contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    length: u64,
    inode: u64,
}

impl Upstreams {
    /// Reads nothing yet.
    pub(crate) fn new(path: PathBuf) -> Upstreams {
        let own = vec![RESOLVER_ADDRESS];
        Upstreams { path, own, looked: None, stamp: None, servers: Vec::new() }
    }

    /// Never forwards to this address again: this agent answers there.
    pub(crate) fn leave_out(&mut self, address: Ipv4Addr) {
        if !self.own.contains(&address) {
            self.own.push(address);
            (self.looked, self.stamp) = (None, None);
        }
    }

    /// Another file from now on; until it was read, the last list stays in force.
    pub(crate) fn read_from(&mut self, path: PathBuf) {
        (self.path, self.looked, self.stamp) = (path, None, None);
    }

    /// Whom to ask, in this order: as the file has it, but those that were silent go last.
    pub(crate) fn order(&mut self, now: Instant) -> Vec<SocketAddr> {
        self.refresh(now);
        let mut order: Vec<&Server> = self.servers.iter().collect();
        order.sort_by_key(|server| server.silent_until.is_some_and(|until| until > now));
        order.iter().map(|server| server.address).collect()
    }

    /// This resolver did not answer, or cannot be reached.
    pub(crate) fn silent(&mut self, address: SocketAddr, now: Instant) {
        self.mark(address, Some(now + SILENT_FOR));
    }

    /// This resolver answered.
    pub(crate) fn answered(&mut self, address: SocketAddr) {
        self.mark(address, None);
    }

    fn mark(&mut self, address: SocketAddr, silent_until: Option<Instant>) {
        for server in self.servers.iter_mut().filter(|server| server.address == address) {
            server.silent_until = silent_until;
        }
    }

    /// A file that cannot be read leaves the last list in force: `resolv.conf` is often replaced
    /// by removing it first.
    fn refresh(&mut self, now: Instant) {
        if self.looked.is_some_and(|looked| now < looked + LOOK_EVERY) {
            return;
        }
        self.looked = Some(now);
        match self.read_if_changed() {
            Ok(Some((stamp, text))) => {
                self.stamp = Some(stamp);
                self.replace(&text);
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(
                path = %self.path.display(), %error,
                "resolv.conf cannot be read; the resolvers known so far stay in use"
            ),
        }
    }

    fn read_if_changed(&self) -> io::Result<Option<(Stamp, String)>> {
        let file = File::open(&self.path)?;
        let metadata = file.metadata()?;
        let stamp =
            Stamp { modified: metadata.modified()?, length: metadata.len(), inode: metadata.ino() };
        if self.stamp == Some(stamp) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok(Some((stamp, String::from_utf8_lossy(&bytes).into_owned())))
    }

    fn replace(&mut self, text: &str) {
        let index = |name: &str| nix::net::if_::if_nametoindex(name).ok();
        let addresses = resolv_conf::parse(text, &self.own, index);
        tracing::info!(path = %self.path.display(), ?addresses, "resolvers of the host");
        let server = |address| Server { address, silent_until: None };
        self.servers = addresses.into_iter().map(server).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn servers(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 53)).collect()
    }

    #[test]
    fn a_silent_server_goes_last_for_some_seconds() {
        let (_dir, path) = file("nameserver 10.0.0.1\nnameserver 10.0.0.2\n");
        let mut upstreams = Upstreams::new(path);
        let now = Instant::now();
        assert_eq!(upstreams.order(now), servers(&["10.0.0.1", "10.0.0.2"]));
        upstreams.silent(servers(&["10.0.0.1"])[0], now);
        assert_eq!(upstreams.order(now), servers(&["10.0.0.2", "10.0.0.1"]));
        assert_eq!(upstreams.order(now + SILENT_FOR), servers(&["10.0.0.1", "10.0.0.2"]));
        upstreams.silent(servers(&["10.0.0.1"])[0], now);
        upstreams.answered(servers(&["10.0.0.1"])[0]);
        assert_eq!(upstreams.order(now), servers(&["10.0.0.1", "10.0.0.2"]));
    }

    #[test]
    fn the_file_is_read_again_when_it_changes_and_kept_in_mind_when_it_vanishes() {
        let (_dir, path) = file("nameserver 10.0.0.1\n");
        let mut upstreams = Upstreams::new(path.clone());
        let now = Instant::now();
        assert_eq!(upstreams.order(now), servers(&["10.0.0.1"]));
        std::fs::write(&path, "nameserver 10.0.0.22\n").unwrap();
        assert_eq!(upstreams.order(now), servers(&["10.0.0.1"]));
        assert_eq!(upstreams.order(now + LOOK_EVERY), servers(&["10.0.0.22"]));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(upstreams.order(now + 2 * LOOK_EVERY), servers(&["10.0.0.22"]));
    }

    #[test]
    fn an_address_we_answer_on_ourselves_is_left_out_at_once() {
        let (_dir, path) = file("nameserver 10.0.0.1\nnameserver 10.0.0.2\n");
        let mut upstreams = Upstreams::new(path);
        let now = Instant::now();
        assert_eq!(upstreams.order(now).len(), 2);
        upstreams.leave_out(Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(upstreams.order(now), servers(&["10.0.0.2"]));
    }

    #[test]
    fn without_a_file_there_is_nobody_to_ask() {
        let mut upstreams = Upstreams::new("/nonexistent/resolv.conf".into());
        assert!(upstreams.order(Instant::now()).is_empty());
    }
}
