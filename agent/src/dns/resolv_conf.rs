//! The host's list of resolvers, as `resolv.conf(5)` has it. No IO.
//!
//! Only `nameserver` lines matter here: search domains and options are applied by the client,
//! inside its container. A sole 127.0.0.53 (systemd-resolved) is as good as any other: the
//! forwarding sockets live in the host's namespace, where it listens.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// How many resolvers are used, as in the C library (MAXNS); more are left out.
pub(crate) const MAX_SERVERS: usize = 3;

/// Port of a resolver (RFC 1035 §4.2).
const DNS_PORT: u16 = 53;

/// The resolvers in their order, each once, at most [`MAX_SERVERS`].
///
/// `own` are addresses this agent answers on itself: forwarding to one of them would be a loop,
/// so they are left out. Lines that make no sense are ignored, as the C library does.
/// `interface_index` gives the index of the interface after `%` in a link-local address.
pub(crate) fn parse(
    text: &str,
    own: &[Ipv4Addr],
    interface_index: impl Fn(&str) -> Option<u32>,
) -> Vec<SocketAddr> {
    let mut servers = Vec::with_capacity(MAX_SERVERS);
    for server in text.lines().filter_map(|line| nameserver(line, &interface_index)) {
        let ours = own.iter().any(|own| server.ip() == IpAddr::V4(*own));
        if !ours && !servers.contains(&server) && servers.len() < MAX_SERVERS {
            servers.push(server);
        }
    }
    servers
}

fn nameserver(line: &str, interface_index: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    let mut words = line.split_ascii_whitespace();
    if words.next()? != "nameserver" {
        return None;
    }
    let address = words.next()?;
    if let Some((address, scope)) = address.split_once('%') {
        let address: Ipv6Addr = address.parse().ok()?;
        let scope = scope.parse().ok().or_else(|| interface_index(scope))?;
        return Some(SocketAddrV6::new(address, DNS_PORT, 0, scope).into());
    }
    Some(SocketAddr::new(address.parse().ok()?, DNS_PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &str) -> Vec<String> {
        let index = |name: &str| (name == "eth0").then_some(7);
        let own = [Ipv4Addr::new(169, 254, 53, 53)];
        parse(text, &own, index).iter().map(|server| server.ip().to_string()).collect()
    }

    #[test]
    fn nameservers_are_taken_in_their_order_each_once_and_three_at_most() {
        let text = "search lan\nnameserver 10.0.0.2\n nameserver\t10.0.0.1 # first\n\
                    nameserver 10.0.0.2\nnameserver 2001:db8::1\nnameserver 10.0.0.4\n";
        assert_eq!(servers(text), ["10.0.0.2", "10.0.0.1", "2001:db8::1"]);
    }

    #[test]
    fn our_own_address_is_left_out_because_it_would_be_a_loop() {
        assert_eq!(servers("nameserver 169.254.53.53\nnameserver 127.0.0.53\n"), ["127.0.0.53"]);
    }

    #[test]
    fn lines_without_sense_are_ignored() {
        let text = "#nameserver 1.1.1.1\n;nameserver 1.1.1.1\nnameserver\nnameserver example.com\n\
                    nameservers 1.1.1.1\nnameserver fe80::1%nope\noptions ndots:1\n";
        assert!(servers(text).is_empty());
    }

    #[test]
    fn a_link_local_server_keeps_its_interface() {
        let index = |name: &str| (name == "eth0").then_some(7);
        let got = parse("nameserver fe80::1%eth0\nnameserver fe80::2%3\n", &[], index);
        assert_eq!(got, ["[fe80::1%7]:53".parse().unwrap(), "[fe80::2%3]:53".parse().unwrap()]);
    }
}
