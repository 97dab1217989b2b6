//! What settings are held against on this host: its groups, and the files that they name.
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use nix::unistd::{Group, geteuid};
use ovl_ipam::StoreUrl;

use super::Advertise;
use crate::underlay::{address_of, ipv4_of};

/// This host, as far as settings depend on it; tests have hosts of their own.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// The number of the group of this name; `None`: there is none.
    pub group: fn(&str) -> io::Result<Option<u32>>,
    /// Why the files that a store's URL names cannot be used, a sentence each.
    pub store_files: fn(&StoreUrl) -> Vec<String>,
    /// Why nothing can be advertised by this, as far as that is known.
    pub advertise: fn(&Advertise) -> Option<String>,
}

impl Default for Host {
    /// One with no groups, on which every file and address is right.
    fn default() -> Self {
        Host { group: |_| Ok(None), store_files: |_| Vec::new(), advertise: |_| None }
    }
}

impl Host {
    /// The host that this process runs on. Without `all`, files and addresses that settings name are left
    /// for later: who uses them tries again until they are right.
    pub fn this(all: bool) -> Host {
        match all {
            true => Host { group, store_files, advertise: is_here },
            false => Host { group, ..Host::default() },
        }
    }
}

fn group(name: &str) -> io::Result<Option<u32>> {
    Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
}

fn store_files(url: &StoreUrl) -> Vec<String> {
    ovl_ipam::check_files(url).iter().map(|error| crate::chain(error)).collect()
}

/// Why nothing could be advertised by this setting now; `None`: it could, or only the routes know.
fn is_here(advertise: &Advertise) -> Option<String> {
    match advertise {
        Advertise::Auto => None,
        Advertise::Interface(name) => address_of(name).err(),
        Advertise::Address(address) => {
            // Where they cannot be listed, nothing is known against it.
            let here = getifaddrs().ok()?.filter_map(|i| ipv4_of(&i)).any(|own| own == *address);
            (!here).then(|| format!("{address} is not an address of this host"))
        }
    }
}

/// A warning, if somebody else than root or this process's user may write the file or put another
/// one in its place by its own mode. None, too, when it cannot be looked at: who reads it says why.
pub(super) fn writable_by_others(what: &str, path: &Path) -> Option<String> {
    let found = std::fs::metadata(path).ok()?;
    let who = others(found.mode(), found.uid(), found.gid(), geteuid().as_raw())?;
    let path = path.display();
    Some(format!(
        "{what} {path} can be written by {who}: who may write it rules this agent; type: \
         chown root {path} && chmod go-w {path}"
    ))
}

/// Who but root and `me` may write a file.
fn others(mode: u32, owner: u32, group: u32, me: u32) -> Option<String> {
    if mode & 0o002 != 0 {
        return Some("everybody".to_owned());
    }
    if owner != 0 && owner != me {
        return Some(format!("user {owner}"));
    }
    (mode & 0o020 != 0 && group != 0).then(|| format!("group {group}"))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_address_or_interface_that_this_host_lacks_is_named() {
        assert_eq!(is_here(&Advertise::Address(Ipv4Addr::LOCALHOST)), None);
        assert_eq!(is_here(&Advertise::Interface("lo".into())), None);
        let of_nobody = is_here(&Advertise::Address(Ipv4Addr::new(192, 0, 2, 77)));
        assert_eq!(of_nobody.as_deref(), Some("192.0.2.77 is not an address of this host"));
        let missing = is_here(&Advertise::Interface("no-such-eth".into()));
        assert_eq!(missing.as_deref(), Some("there is no interface no-such-eth"));
    }

    #[test]
    fn only_root_and_the_agents_user_may_write() {
        let who = |mode, owner, group| others(mode, owner, group, 7).unwrap_or_default();
        assert_eq!(who(0o100_644, 0, 0), "");
        assert_eq!(who(0o100_600, 7, 7), "");
        assert_eq!(who(0o100_664, 0, 0), "");
        assert_eq!(who(0o100_666, 0, 0), "everybody");
        assert_eq!(who(0o100_600, 1000, 0), "user 1000");
        assert_eq!(who(0o100_660, 0, 50), "group 50");
    }

    #[test]
    fn this_hosts_groups_are_found_by_name() {
        let group = Host::this(false).group;
        assert_eq!(group("root").unwrap(), Some(0));
        assert_eq!(group("no-such-group-of-ovl").unwrap(), None);
    }
}
