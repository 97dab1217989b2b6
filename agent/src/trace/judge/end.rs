//! What is inside a container: its interface, its route to the other end, its programs.

use std::net::IpAddr;

use super::{PUTS_BACK, some};
use crate::tool::quoted;
use crate::trace::facts::{Container, End, Held, Inside, Interface, Route};
use crate::trace::hops::{At, Judged};

/// One end, seen from inside.
pub(super) struct Side<'a> {
    pub(super) name: &'a str,
    /// Its address on the way; none: it has none of that family.
    pub(super) own: Option<IpAddr>,
    /// Length of that address's prefix.
    pub(super) prefix: u8,
    pub(super) mac: String,
    pub(super) other_name: &'a str,
    pub(super) other: IpAddr,
    pub(super) other_mac: String,
    /// Endpoints of the same host, as (MAC, name).
    pub(super) siblings: &'a [(String, String)],
    /// What its interface hangs on is in order.
    pub(super) device_ok: bool,
}

/// What is worth knowing of an endpoint on its host.
pub(super) fn about(held: &Held) -> Vec<String> {
    let netns = held.netns.as_ref().map(|path| format!("its namespace is {}", path.display()));
    let container = match &held.container {
        Container::Docker(id) => {
            Some(format!("it is container {} of Docker", id.get(..12).unwrap_or(id)))
        }
        Container::Attached | Container::Gone | Container::Unheard => None,
    };
    container.into_iter().chain(netns).collect()
}

impl Side<'_> {
    /// The endpoint's interface: there, up, with the address, MAC and MTU that it should have.
    pub(super) fn interface(&self, at: At, end: &End) -> Judged {
        let (name, host) = (self.name, &end.host);
        let Some(held) = &end.held else {
            let says =
                format!("{host} has no endpoint {name} any more, though others have heard of it");
            return Judged::broken(at, host, says).fix(
                "wait some seconds and try again; if it stays so: ovlctl members on both hosts",
            );
        };
        let Some(inside) = &end.inside else {
            let says = format!("{name} has no namespace on {host}: it is {}", held.phase);
            return Judged::broken(at, host, says).fix(format!("start its container on {host}"));
        };
        let inside = match inside {
            Ok(inside) => inside,
            Err(why) => {
                return Judged::broken(
                    at,
                    host,
                    format!("{name}'s namespace cannot be looked into: {why}"),
                )
                .fix(format!("on {host}: start {name} again"));
            }
        };
        let Some(interface) = &inside.interface else {
            return self.no_interface(at, end, held);
        };
        let place = place(held);
        let seen = [described(interface)];
        // No interface on a device has a larger one than that.
        let of_device = end.device.as_ref().ok().and_then(|device| Some(device.as_ref()?.mtu));
        if of_device.is_some_and(|mtu| mtu < end.mtu.into() && interface.mtu == mtu) {
            let says = format!(
                "{} in {place} has the MTU of its device, which is too small",
                interface.name
            );
            return Judged::unknown(at, host, says).saw(seen);
        }
        let Some((wrong, command)) = self.wrong_with(interface, end.mtu) else {
            let says = format!("{} in {place} is up: {}", interface.name, addresses(interface));
            return Judged::ok(at, host, says).saw(seen);
        };
        let judged = Judged::broken(
            at,
            host,
            format!("{} in {place}, {name}'s interface, {wrong}", interface.name),
        );
        judged
            .fix(format!("on {host}: {}{command}", enter(held)))
            .saw(seen)
            .saw([PUTS_BACK.to_owned()])
            .saw(end.troubles.iter().cloned())
    }

    fn no_interface(&self, at: At, end: &End, held: &Held) -> Judged {
        let (name, host, place) = (self.name, &end.host, place(held));
        if !self.device_ok {
            let says = format!(
                "{name} has no interface in {place}: it goes and comes with the network's device"
            );
            return Judged::unknown(at, host, says);
        }
        let says = format!("{name} has no interface of network device ovl-{} in {place}", end.vni);
        Judged::broken(at, host, says).saw(end.troubles.iter().cloned()).fix(format!(
            "the agent of {host} makes it anew within 10 s; if it does not: ovlctl status on {host}"
        ))
    }

    /// What is wrong, and the command that mends it.
    fn wrong_with(&self, interface: &Interface, mtu: u16) -> Option<(String, String)> {
        let (device, mac) = (quoted(&interface.name), &self.mac);
        if !interface.on_device {
            let wrong = "is not the one that ovl made: it does not hang on the network's device";
            return Some((wrong.to_owned(), format!("ip link set {device} name OTHER")));
        }
        if interface.mac.as_ref() != Some(mac) {
            let has = interface.mac.as_deref().unwrap_or("none");
            let wrong = format!("has MAC {has}, but every host sends to {mac}");
            return Some((wrong, format!("ip link set {device} address {mac}")));
        }
        if !interface.up {
            return Some(("is down".to_owned(), format!("ip link set {device} up")));
        }
        match self.own {
            Some(own) if !interface.addresses.iter().any(|net| net.addr() == own) => {
                let wrong = format!("does not have the address {own}: {}", addresses(interface));
                return Some((wrong, format!("ip address add {own}/{} dev {device}", self.prefix)));
            }
            None => {
                let wrong = format!("has no address of the family of {}", self.other);
                return Some((wrong, format!("ip address show dev {device}")));
            }
            Some(_) => {}
        }
        (interface.mtu != u32::from(mtu)).then(|| {
            let wrong =
                format!("has an MTU of {} bytes, and the network one of {mtu}", interface.mtu);
            (wrong, format!("ip link set {device} mtu {mtu}"))
        })
    }

    /// What the container's own kernel would do with a packet to the other end.
    pub(super) fn route(&self, at: At, end: &End, interface_ok: bool) -> Judged {
        let (name, host, other) = (self.name, &end.host, self.other);
        let (Some(Ok(inside)), Some(held)) = (&end.inside, &end.held) else {
            return Judged::unknown(
                at,
                host,
                format!("not looked at, as {name}'s interface was not"),
            );
        };
        if let [(first, net), ..] = inside.same_address.as_slice() {
            let says = format!(
                "{other}, {}'s address, is set in {name} itself, on {first}: its packets never leave it",
                self.other_name
            );
            return Judged::broken(at, host, says).fix(format!(
                "on {host}: {}ip address del {net} dev {}",
                enter(held),
                quoted(first)
            ));
        }
        let own = inside.interface.as_ref().map_or("", |interface| &interface.name);
        match &inside.route {
            Err(_) | Ok(_) if !interface_ok => {
                Judged::unknown(at, host, format!("it depends on {name}'s interface, which is not in order"))
            }
            Err(why) => Judged::broken(at, host, format!("{name} has no route to {other}: {why}"))
                .fix(format!("on {host}: {}ip route; the network's subnet must lead to {own}", enter(held))),
            Ok(route) => match self.misled(route, own) {
                Some(says) => Judged::broken(at, host, says).fix(format!(
                    "on {host}: {}ip route get {other}; remove the route that leads there, or give the network another subnet",
                    enter(held)
                )),
                None => self.neighbour(at, host, held, inside, route),
            },
        }
    }

    /// Where the route leads, if not straight out of the endpoint's interface.
    fn misled(&self, route: &Route, own: &str) -> Option<String> {
        let (name, other) = (self.name, self.other);
        let via = route.gateway.map(|gateway| format!(" via {gateway}"));
        if route.is_local {
            return Some(format!("{name} takes {other} for its own"));
        }
        (route.device != own || via.is_some()).then(|| {
            format!(
                "packets of {name} to {other} leave by {}{}, and not straight by {own}",
                route.device,
                via.unwrap_or_default()
            )
        })
    }

    /// The route is right; what the container has learned of the other end decides.
    fn neighbour(&self, at: At, host: &str, held: &Held, inside: &Inside, route: &Route) -> Judged {
        let (name, other, device) = (self.name, self.other, &route.device);
        let source = route.source.map(|source| format!(", from {source}")).unwrap_or_default();
        let right = format!("a packet of {name} to {other} leaves by {device}, straight{source}");
        let known = inside.neighbour.as_ref().filter(|row| row.valid);
        let Some(mac) = known.and_then(|row| row.mac.as_ref()) else {
            return Judged::ok(at, host, right).saw([format!("{name} asks who has {other} first")]);
        };
        if *mac == self.other_mac {
            return Judged::ok(at, host, right).saw([format!("{name} knows {other} at {mac}")]);
        }
        let whose = self.siblings.iter().find(|(own, _)| own == mac);
        let whose = whose.map_or_else(String::new, |(_, sibling)| {
            format!(": that is {sibling} on the same host, where the address was set by hand")
        });
        let says = format!(
            "{name} has learned that {other} is at {mac}, but {} has {}{whose}",
            self.other_name, self.other_mac
        );
        Judged::broken(at, host, says).fix(format!(
            "on {host}: {}ip neigh del {other} dev {}",
            enter(held),
            quoted(device)
        ))
    }

    /// Whether anybody is there.
    pub(super) fn container(&self, at: At, end: &End) -> Judged {
        let (name, host) = (self.name, &end.host);
        let inside = end.inside.as_ref().and_then(|inside| inside.as_ref().ok());
        let (Some(held), Some(inside)) = (&end.held, inside) else {
            return Judged::unknown(at, host, format!("{name} could not be looked into"));
        };
        let programs = programs(inside);
        match &held.container {
            Container::Docker(id) => {
                let id = id.get(..12).unwrap_or(id);
                Judged::ok(at, host, format!("Docker runs {name}, container {id}")).saw([programs])
            }
            Container::Attached => {
                Judged::ok(at, host, format!("{name} is {}", place(held))).saw([programs])
            }
            Container::Unheard => {
                let says = format!("{name} has its namespace; Docker has not told whether it runs");
                Judged::ok(at, host, says).saw([programs])
            }
            Container::Gone => {
                Judged::broken(at, host, format!("Docker runs no container {name} on {host}"))
                    .fix(format!("on {host}: docker start {}", quoted(name)))
                    .saw([programs])
            }
        }
    }
}

fn programs(inside: &Inside) -> String {
    match inside.processes {
        0 => "no program runs in it; its kernel answers all the same".to_owned(),
        1 => format!("one program runs in it: {}", some(inside.programs.iter().cloned())),
        all => format!("{all} programs run in it: {}", some(inside.programs.iter().cloned())),
    }
}

fn place(held: &Held) -> String {
    match &held.netns {
        Some(path) => path.display().to_string(),
        None => "no namespace".to_owned(),
    }
}

/// The beginning of a command that acts inside.
fn enter(held: &Held) -> String {
    match &held.netns {
        Some(path) => format!("nsenter --net={} ", quoted(&path.display().to_string())),
        None => String::new(),
    }
}

fn described(interface: &Interface) -> String {
    let up = if interface.up { "up" } else { "down" };
    let mac = interface.mac.as_deref().unwrap_or("no MAC");
    format!("{}: {up}, {mac}, MTU {}, {}", interface.name, interface.mtu, addresses(interface))
}

fn addresses(interface: &Interface) -> String {
    match interface.addresses.as_slice() {
        [] => "no address".to_owned(),
        all => some(all.iter().map(ToString::to_string)),
    }
}
