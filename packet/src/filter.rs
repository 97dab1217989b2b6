//! Which frames reach a tap, decided in the kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::bpf::{
    AND, IF_ANY_BIT, IF_EQUAL, Instruction, LOAD_BYTE, LOAD_BYTE_X, LOAD_HALF, LOAD_HALF_X,
    LOAD_WORD_X, LOAD_X_IP_LENGTH, PASS, REFUSE, SKIP, plain, test,
};

/// Inner addresses that one filter looks for, at most; more are refused. The kernel bounds the memory
/// of a program (`net.core.optmem_max`): so many IPv6 addresses fit with its old default, 20 KiB (tried).
pub const ADDRESSES_MAX: usize = 16;

/// EtherTypes (IEEE 802).
pub(crate) const ARP: u16 = 0x0806;
pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const IPV6: u16 = 0x86dd;

/// Protocol numbers of IP (IANA).
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

/// Lengths of headers in bytes: Ethernet (no VLAN tag: the kernel takes the outer one off, and puts
/// none on inside), UDP, VXLAN (RFC 7348), IPv6.
const ETHERNET: u32 = 14;
const UDP_HEADER: u32 = 8;
const VXLAN: u32 = 8;
const IPV6_HEADER: u32 = 40;

/// Where headers begin behind an outer IPv4 header, counted without its length, which is in X.
const OUTER_UDP: u32 = ETHERNET;
const VXLAN_HEADER: u32 = OUTER_UDP + UDP_HEADER;
const INNER: u32 = VXLAN_HEADER + VXLAN;

/// A program of the kernel's classic BPF. What does not pass it is never copied for the tap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(Vec<Instruction>);

/// More than [`ADDRESSES_MAX`] addresses to look for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} addresses to look for, at most {ADDRESSES_MAX} fit into one filter")]
pub struct TooManyAddresses(pub usize);

impl Filter {
    /// Lets every frame pass.
    pub fn everything() -> Filter {
        Filter(vec![PASS])
    }

    /// Frames of one EtherType, without a VLAN tag.
    pub fn ethertype(ethertype: u16) -> Filter {
        let mut filter = Filter(Vec::new());
        filter.require(&[plain(LOAD_HALF, 12)], ethertype.into());
        filter.0.push(PASS);
        filter
    }

    /// VXLAN over IPv4 to a UDP port, in both directions: both ends send to that port.
    ///
    /// With a VNI, of that one only. With addresses, only frames that have one of them inside: as
    /// source or destination of IP, as sender or target of ARP, as target of a neighbour solicitation
    /// or advertisement (without extension headers).
    ///
    /// Of an outer packet in fragments only the first is seen, as the others carry no port.
    pub fn vxlan(
        port: u16,
        vni: Option<u32>,
        addresses: &[IpAddr],
    ) -> Result<Filter, TooManyAddresses> {
        if addresses.len() > ADDRESSES_MAX {
            return Err(TooManyAddresses(addresses.len()));
        }
        let mut filter = Filter(Vec::new());
        filter.require(&[plain(LOAD_HALF, 12)], IPV4.into());
        filter.require(&[plain(LOAD_BYTE, ETHERNET + 9)], UDP.into());
        // Neither the flags nor the offset of a first fragment, or of a whole packet, have these bits.
        filter.0.push(plain(LOAD_HALF, ETHERNET + 6));
        filter.0.push(test(IF_ANY_BIT, 0x1fff, 0, 1));
        filter.0.push(REFUSE);
        filter.0.push(plain(LOAD_X_IP_LENGTH, ETHERNET));
        filter.require(&[plain(LOAD_HALF_X, OUTER_UDP + 2)], port.into());
        if let Some(vni) = vni {
            let number = [plain(LOAD_WORD_X, VXLAN_HEADER + 4), plain(AND, 0xffff_ff00)];
            filter.require(&number, vni << 8);
        }
        if addresses.is_empty() {
            filter.0.push(PASS);
        } else {
            filter.require_address(INNER, addresses);
        }
        Ok(filter)
    }

    /// Frames that have one of the addresses, as inside of [`Filter::vxlan`], without a VLAN tag. None
    /// of no addresses.
    pub fn addresses(addresses: &[IpAddr]) -> Result<Filter, TooManyAddresses> {
        if addresses.len() > ADDRESSES_MAX {
            return Err(TooManyAddresses(addresses.len()));
        }
        let mut filter = Filter(Vec::new());
        // X is 0 where a program begins.
        filter.require_address(0, addresses);
        Ok(filter)
    }

    pub(crate) fn instructions(&self) -> &[Instruction] {
        &self.0
    }

    /// Refuses unless what `load` brings into A is `value`.
    fn require(&mut self, load: &[Instruction], value: u32) {
        self.0.extend_from_slice(load);
        self.0.extend([test(IF_EQUAL, value, 1, 0), REFUSE]);
    }

    /// Ends the program: passes what has one of the addresses, the frame beginning at X + `start`.
    fn require_address(&mut self, start: u32, addresses: &[IpAddr]) {
        let v4: Vec<Ipv4Addr> = addresses.iter().filter_map(as_v4).collect();
        let v6: Vec<Ipv6Addr> = addresses.iter().filter_map(as_v6).collect();
        let payload = start + ETHERNET;
        self.0.push(plain(LOAD_HALF_X, start + 12));
        self.only_for(ARP, &one_of_v4(&v4, [payload + 14, payload + 24]));
        self.only_for(IPV4, &one_of_v4(&v4, [payload + 12, payload + 16]));
        let mut block = one_of_v6(&v6, payload + 8);
        block.extend(one_of_v6(&v6, payload + 24));
        block.extend(neighbour_of(payload, &v6));
        self.only_for(IPV6, &block);
        self.0.push(REFUSE);
    }

    /// A block for frames whose EtherType, in A, is this one. It ends the program; other frames find
    /// A as it was behind it.
    fn only_for(&mut self, ethertype: u16, block: &[Instruction]) {
        let behind = u32::try_from(block.len() + 1).unwrap_or(u32::MAX);
        self.0.push(test(IF_EQUAL, ethertype.into(), 1, 0));
        self.0.push(plain(SKIP, behind));
        self.0.extend_from_slice(block);
        self.0.push(REFUSE);
    }
}

fn as_v4(address: &IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    }
}

fn as_v6(address: &IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => Some(*v6),
    }
}

/// Passes when one of the words at X + `offsets` is one of the addresses; else goes on.
fn one_of_v4(addresses: &[Ipv4Addr], offsets: [u32; 2]) -> Vec<Instruction> {
    let mut block = Vec::new();
    for offset in offsets {
        block.push(plain(LOAD_WORD_X, offset));
        for address in addresses {
            block.extend([test(IF_EQUAL, (*address).into(), 0, 1), PASS]);
        }
    }
    block
}

/// Passes when the address at X + `offset` is one of the addresses; else goes on.
fn one_of_v6(addresses: &[Ipv6Addr], offset: u32) -> Vec<Instruction> {
    let mut block = Vec::new();
    for address in addresses {
        let [a, b, c, d] = words(*address);
        block.extend([
            plain(LOAD_WORD_X, offset),
            test(IF_EQUAL, a, 0, 7),
            plain(LOAD_WORD_X, offset + 4),
            test(IF_EQUAL, b, 0, 5),
            plain(LOAD_WORD_X, offset + 8),
            test(IF_EQUAL, c, 0, 3),
            plain(LOAD_WORD_X, offset + 12),
            test(IF_EQUAL, d, 0, 1),
            PASS,
        ]);
    }
    block
}

fn words(address: Ipv6Addr) -> [u32; 4] {
    let bits = address.to_bits();
    // Truncation is meant: the lowest 32 bits of each shift.
    [96, 64, 32, 0].map(|shift| (bits >> shift) as u32)
}

/// Passes neighbour discovery for one of the addresses, refuses all else (RFC 4861, 4.3 and 4.4). The
/// IPv6 header begins at X + `start`.
fn neighbour_of(start: u32, addresses: &[Ipv6Addr]) -> Vec<Instruction> {
    let mut block = vec![
        plain(LOAD_BYTE_X, start + 6),
        test(IF_EQUAL, ICMPV6.into(), 1, 0),
        REFUSE,
        plain(LOAD_BYTE_X, start + IPV6_HEADER),
        test(IF_EQUAL, 135, 2, 0),
        test(IF_EQUAL, 136, 1, 0),
        REFUSE,
    ];
    block.extend(one_of_v6(addresses, start + IPV6_HEADER + 8));
    block
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
