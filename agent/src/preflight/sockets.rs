//! Who holds a port: from /proc/net to inodes to processes (proc(5)).
use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

use super::{Process, Protocol};

/// Most processes named for one port; the rest is left out.
const MOST_NAMED: usize = 8;

/// `::ffff:0:0/96` as /proc/net shows it.
#[cfg(target_endian = "little")]
const MAPPED: &str = "0000000000000000FFFF0000";
#[cfg(target_endian = "big")]
const MAPPED: &str = "00000000000000000000FFFF";

/// The processes whose sockets keep others from binding `address`. Empty: only the kernel, or
/// processes that cannot be seen from here.
pub(super) fn holders(protocol: Protocol, address: SocketAddrV4) -> Vec<Process> {
    processes(&all_inodes(protocol, address))
}

/// Whether any socket keeps others from binding `address`, those of the kernel itself included.
pub(super) fn is_taken(protocol: Protocol, address: SocketAddrV4) -> bool {
    !all_inodes(protocol, address).is_empty()
}

fn all_inodes(protocol: Protocol, address: SocketAddrV4) -> BTreeSet<u64> {
    let files = match protocol {
        Protocol::Udp => ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"],
        Protocol::Tcp => ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"],
    };
    let tables = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    tables.flat_map(|table| inodes(&table, address)).collect()
}

/// Inodes of the sockets in a table that are in the way of `address`. A TCP connection that only
/// waits to be forgotten has inode 0 and is in nobody's way.
fn inodes(table: &str, address: SocketAddrV4) -> Vec<u64> {
    let in_the_way = table.lines().skip(1).filter_map(|row| {
        let mut fields = row.split_ascii_whitespace();
        let (local, port) = fields.nth(1)?.rsplit_once(':')?;
        let inode = fields.nth(7)?.parse().ok()?;
        let same_port = u16::from_str_radix(port, 16).ok()? == address.port();
        (same_port && overlaps(local, *address.ip()) && inode != 0).then_some(inode)
    });
    in_the_way.collect()
}

/// Whether a socket bound to `local`, in the kernel's hexadecimal (each 32-bit word in the
/// host's byte order), and one bound to `wanted` exclude each other.
fn overlaps(local: &str, wanted: Ipv4Addr) -> bool {
    let word = match local.strip_prefix(MAPPED).unwrap_or(local) {
        // `::` takes IPv4 as well, unless the socket was told not to, which is not shown.
        "00000000000000000000000000000000" => "00000000",
        ipv4 => ipv4,
    };
    let Ok(word) = u32::from_str_radix(word, 16) else {
        return false;
    };
    let local = Ipv4Addr::from(word.to_ne_bytes());
    local == wanted || local.is_unspecified() || wanted.is_unspecified()
}

/// The processes that have one of these sockets open.
fn processes(inodes: &BTreeSet<u64>) -> Vec<Process> {
    if inodes.is_empty() {
        return Vec::new();
    }
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| has_open(*pid, inodes)).take(MOST_NAMED).map(process).collect()
}

fn has_open(pid: u32, inodes: &BTreeSet<u64>) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    files.flatten().any(|file| {
        let target = fs::read_link(file.path()).unwrap_or_default();
        socket_inode(&target).is_some_and(|inode| inodes.contains(&inode))
    })
}

/// `socket:[1234]` → 1234.
fn socket_inode(target: &Path) -> Option<u64> {
    let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
    inode.parse().ok()
}

fn process(pid: u32) -> Process {
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Process { pid, command: command.trim_end().to_owned() }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    const TABLE: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 2337: 00000000:12B5 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 18475 2 00000000e670b6f5 0
 2338: 0100007F:12B6 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 17753 2 00000000f7fabf95 0
 2339: 00000000000000000000000000000000:12B5 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000  1000  0 99 2 0000000 0
junk
 1: 00000000:12B5 00000000:0000 06 00000000:00000000 00:00000000 00000000 0 0 0 2 0 0
";

    fn at(text: &str) -> SocketAddrV4 {
        text.parse().unwrap()
    }

    #[test]
    fn only_sockets_in_the_way_are_found() {
        assert_eq!(inodes(TABLE, at("0.0.0.0:4789")), [18475, 99]);
        assert_eq!(inodes(TABLE, at("10.0.0.1:4789")), [18475, 99]);
        assert_eq!(inodes(TABLE, at("127.0.0.1:4790")), [17753]);
        assert_eq!(inodes(TABLE, at("0.0.0.0:4790")), [17753]);
        assert!(inodes(TABLE, at("127.0.0.2:4790")).is_empty());
        assert!(inodes(TABLE, at("0.0.0.0:1")).is_empty());
        assert!(inodes("", at("0.0.0.0:1")).is_empty());
    }

    #[test]
    fn this_process_is_found_by_its_ports() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("[::]:0").unwrap();
        let mapped = UdpSocket::bind("[::ffff:127.0.0.1]:0").unwrap();
        for (protocol, port) in [
            (Protocol::Udp, udp.local_addr().unwrap().port()),
            (Protocol::Tcp, tcp.local_addr().unwrap().port()),
            (Protocol::Udp, mapped.local_addr().unwrap().port()),
        ] {
            let holders = holders(protocol, SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
            let pids: Vec<u32> = holders.iter().map(|process| process.pid).collect();
            assert!(pids.contains(&std::process::id()), "{protocol:?} {port}: {holders:?}");
            assert!(holders.iter().all(|process| !process.command.is_empty()));
        }
    }
}
