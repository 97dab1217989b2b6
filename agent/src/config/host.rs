//! What settings are held against on this host: its groups.
use std::io;

use nix::unistd::Group;

/// This host, as far as settings depend on it; tests have hosts of their own.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// The number of the group of this name; `None`: there is none.
    pub group: fn(&str) -> io::Result<Option<u32>>,
}

impl Default for Host {
    /// One with no groups.
    fn default() -> Self {
        Host { group: |_| Ok(None) }
    }
}

impl Host {
    /// The host that this process runs on.
    pub fn this() -> Host {
        Host { group }
    }
}

fn group(name: &str) -> io::Result<Option<u32>> {
    Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_hosts_groups_are_found_by_name() {
        let group = Host::this().group;
        assert_eq!(group("root").unwrap(), Some(0));
        assert_eq!(group("no-such-group-of-ovl").unwrap(), None);
    }
}
