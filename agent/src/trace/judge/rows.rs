//! The rows of a network's device, in both directions.

use std::net::{IpAddr, Ipv4Addr};

use super::{PUTS_BACK, Way, some};
use crate::core::trace::Place;
use crate::trace::facts::{Absence, End, Fdb, Row, Rows};
use crate::trace::hops::{At, Judged};

/// Whose rows a hop is about.
struct Other<'a> {
    /// None: it has none of the way's family.
    address: Option<IpAddr>,
    mac: String,
    name: &'a str,
    /// Its host's VTEP, and its host; none: that was not heard of.
    behind: Option<(Ipv4Addr, String)>,
}

impl Way<'_> {
    fn other(&self, at: At, end: &End) -> Other<'_> {
        let (from, near) = (&self.facts.from, &self.facts.near);
        match at {
            At::BackNeighbour | At::BackFdb => Other {
                address: self.from_address,
                mac: from.mac.to_string(),
                name: self.start(),
                behind: end.other.as_ref().map(|_| (near.vtep, near.host.clone())),
            },
            _ => Other {
                address: Some(self.to_address),
                mac: self.to.mac.to_string(),
                name: self.goal(),
                behind: self.vtep.map(|vtep| (vtep, self.to.host.clone())),
            },
        }
    }

    /// What the device would answer to who has the other address.
    pub(super) fn neighbour(&self, at: At, end: &End, device_ok: bool) -> Judged {
        let Other { address, mac, name, .. } = self.other(at, end);
        let (host, device) = (&end.host, format!("ovl-{}", end.vni));
        let Some(address) = address else {
            return Judged::unknown(at, host, format!("{name} has no address of this family"));
        };
        if let Some(judged) = self.unheard(at, end, name).or_else(|| self.withdrawn(at, host)) {
            return judged;
        }
        let row = match usable(at, end, device_ok) {
            Ok(rows) => rows.neighbour.as_ref(),
            Err(unknown) => return *unknown,
        };
        let wrong = match row {
            None => format!(
                "{device} on {host} has no neighbour row for {address}: nobody answers who has it"
            ),
            Some(Row { valid: true, mac: Some(has), permanent }) if *has == mac => {
                let says = format!("{device} answers who has {address}: {mac}, {name}'s");
                let ages = "the row is not permanent: the agent did not write it".to_owned();
                return Judged::ok(at, host, says).saw((!permanent).then_some(ages));
            }
            Some(Row { valid: true, mac: Some(has), .. }) => {
                format!(
                    "{device} on {host} answers that {address} is at {has}, but {name} has {mac}"
                )
            }
            Some(Row { .. }) => {
                format!("the neighbour row of {address} on {device} of {host} leads to nobody")
            }
        };
        Judged::broken(at, host, wrong).saw([PUTS_BACK.to_owned()]).fix(format!(
            "on {host}: ip neigh replace {address} lladdr {mac} dev {device} nud permanent"
        ))
    }

    /// Where the device sends frames to the other MAC.
    pub(super) fn fdb(&self, at: At, end: &End, device_ok: bool) -> Judged {
        let Other { mac, name, behind, .. } = self.other(at, end);
        let (host, device) = (&end.host, format!("ovl-{}", end.vni));
        if let Some(judged) = self.withdrawn(at, host) {
            return judged;
        }
        let rows = match usable(at, end, device_ok) {
            Ok(rows) => rows.fdb.as_slice(),
            Err(unknown) => return *unknown,
        };
        let Some((vtep, whose)) = behind else {
            return Judged::unknown(at, host, format!("{host} has not heard where {name} is"));
        };
        let wrong = match rows {
            [] => format!(
                "{device} on {host} has no FDB row for {mac}, {name}'s: it drops frames to it"
            ),
            [row] if row.vtep == Some(vtep) && row.plain => {
                return Judged::ok(
                    at,
                    host,
                    format!("frames to {mac} go to {vtep}, {whose}'s VTEP"),
                );
            }
            [row] if row.vtep == Some(vtep) => format!(
                "the FDB row for {mac} on {device} leads to {vtep}, but by a port or VNI of its own, or not for good"
            ),
            others => format!(
                "{device} on {host} sends frames to {mac} to {}, but {name} is behind {vtep}, {whose}'s VTEP",
                some(others.iter().map(destination))
            ),
        };
        Judged::broken(at, host, wrong)
            .saw([PUTS_BACK.to_owned()])
            .fix(format!("on {host}: bridge fdb replace {mac} dev {device} dst {vtep}"))
    }

    /// Rows of a host that gives no sign of life are not there, and should not be.
    fn withdrawn(&self, at: At, host: &str) -> Option<Judged> {
        let silent = match &self.to.place {
            Place::There(there) => there.absence == crate::core::Absence::Silent,
            Place::Here(_) => false,
        };
        (silent && matches!(at, At::Neighbour | At::Fdb)).then(|| {
            Judged::unknown(
                at,
                host,
                format!("it was taken back with {}, as name says", self.to.host),
            )
        })
    }

    /// The host has not heard of the other end, or has taken back what it had.
    fn unheard(&self, at: At, end: &End, name: &str) -> Option<Judged> {
        let (host, near) = (&end.host, &self.facts.near);
        if at != At::BackNeighbour {
            return None;
        }
        let Some(other) = &end.other else {
            let says =
                format!("{host} has not heard of {name} on {}, and has no rows for it", near.host);
            return Some(Judged::broken(at, host, says).fix(format!(
                "open TCP and UDP of the gossip between the two; ovlctl members on {host} shows how it sees {}",
                near.host
            )));
        };
        (other.absence == Absence::Silent).then(|| {
            let state = other.state.as_deref().unwrap_or("down");
            let says = format!(
                "{host} takes {} for dead ({state}) and has taken its rows back",
                near.host
            );
            Judged::broken(at, host, says)
                .fix(format!("open TCP and UDP of the gossip from {host} to {}", near.host))
        })
    }

    /// Between two containers of one host.
    pub(super) fn sibling(&self, device_ok: bool) -> Judged {
        let (near, address, mac) = (&self.facts.near, self.to_address, self.to.mac.to_string());
        let (host, name) = (&near.host, self.goal());
        let rows = match usable(At::Sibling, near, device_ok) {
            Ok(rows) => rows,
            Err(unknown) => return *unknown,
        };
        let device = format!("ovl-{}", near.vni);
        let foreign =
            rows.neighbour.as_ref().filter(|row| row.valid && row.mac.as_ref() != Some(&mac));
        if let Some(has) = foreign.and_then(|row| row.mac.as_ref()) {
            let says = format!(
                "{device} answers that {address} is at {has}, but {name} on this host has {mac}"
            );
            return Judged::broken(At::Sibling, host, says)
                .fix(format!("on {host}: ip neigh del {address} dev {device}"))
                .saw([PUTS_BACK.to_owned()]);
        }
        Judged::ok(
            At::Sibling,
            host,
            format!(
                "both are on {host}: {device} hands frames for {mac} straight to {name}; no row and no underlay is needed"
            ),
        )
    }
}

/// The rows, or why they say nothing.
fn usable(at: At, end: &End, device_ok: bool) -> Result<&Rows, Box<Judged>> {
    let device = format!("ovl-{}", end.vni);
    let unknown = |says: String| Box::new(Judged::unknown(at, &end.host, says));
    match &end.rows {
        Some(_) | None if !device_ok => Err(unknown(format!(
            "it depends on {device}, which is not in order; its rows come back with it"
        ))),
        None => Err(unknown(format!("the rows of {device} were not looked at"))),
        Some(Err(why)) => Err(unknown(format!("the rows of {device} could not be read: {why}"))),
        Some(Ok(rows)) => Ok(rows),
    }
}

fn destination(row: &Fdb) -> String {
    row.vtep.map_or_else(|| "nowhere".to_owned(), |vtep| vtep.to_string())
}
