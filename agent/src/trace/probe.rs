//! Sends probes out of an endpoint's own interface, as its own packets would go.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ovl_packet::build::{self, Addresses, Ends};
use ovl_packet::{Filter, MacAddr, Tap};
use ovl_vxlan::Mac;

use super::own_echo::OwnEcho;
use super::watch::{self, ATTEMPTS_MAX, Report, Wanted, Watch, marker};
use crate::control::api::trace::ProbeKind;

/// How long one try waits for its answer.
const ARP_WITHIN: Duration = Duration::from_millis(300);
const ANSWER_WITHIN: Duration = Duration::from_millis(400);

/// How long a second answer to "who has" may take: none should come.
const RIVAL_WITHIN: Duration = Duration::from_millis(50);

/// How long after the last answer the points on the way are given to tell.
const LINGER: Duration = Duration::from_millis(50);

/// Length of the echo, as of `ping`: 56 bytes of data.
const ECHO_SIZE: usize = 84;

/// What is sent, and from where.
pub(crate) struct Volley {
    /// FROM's namespace and interface.
    pub(crate) netns: PathBuf,
    pub(crate) interface: String,
    pub(crate) from: (IpAddr, Mac),
    /// The announced MAC of the other end is used when nobody answers who has its address.
    pub(crate) to: (IpAddr, Mac),
    /// Of the UDP probe, in bytes with the IP header.
    pub(crate) size: usize,
    pub(crate) wanted: Wanted,
}

/// What was sent of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) kind: ProbeKind,
    pub(crate) bytes: usize,
    pub(crate) count: u16,
    /// Why the kernel did not take it.
    pub(crate) refused: Option<String>,
}

impl Volley {
    /// Sends each kind until it is answered, at most some times.
    ///
    /// # Errors
    /// Nothing could be sent: a sentence.
    pub(crate) async fn send(&self, watch: &Watch) -> Result<Vec<Sent>, String> {
        // It passes nothing: this one only sends.
        let filter = Filter::addresses(&[]).map_err(|error| error.to_string())?;
        let tap = watch::inside(self.netns.clone(), self.interface.clone(), filter).await?;
        let Some(addresses) = Addresses::of(self.from.0, self.to.0) else {
            return Err("the two addresses are of different families".to_owned());
        };
        let arp = self.ask(&tap, addresses, watch).await;
        let ends = Ends {
            source_mac: station(self.from.1),
            destination_mac: self.destination(&watch.report()),
            addresses,
        };
        let mut sent = vec![arp, Sent::none(ProbeKind::Echo), Sent::none(ProbeKind::Udp)];
        for attempt in 0..ATTEMPTS_MAX {
            for one in sent.iter_mut().skip(1) {
                if one.refused.is_none() && !watch.report().is_answered(one.kind) {
                    let frame = self.frame(one.kind, &ends, attempt);
                    one.bytes = packet_bytes(&frame);
                    one.note(tap.send(&frame).await);
                }
            }
            let open: Vec<ProbeKind> =
                sent.iter().skip(1).filter(|s| s.refused.is_none()).map(|s| s.kind).collect();
            let all = |report: &Report| open.iter().all(|kind| report.is_answered(*kind));
            if watch.until(ANSWER_WITHIN, all).await {
                break;
            }
        }
        tokio::time::sleep(LINGER).await;
        Ok(sent)
    }

    /// The same echo, for FROM's own kernel to send.
    pub(super) fn own_echo(&self) -> Option<OwnEcho> {
        let addresses = Addresses::of(self.from.0, self.to.0)?;
        let (source_mac, destination_mac) = (station(self.from.1), station(self.to.1));
        let ends = Ends { source_mac, destination_mac, addresses };
        let headers = match addresses {
            Addresses::V4(..) => ETHERNET + 20,
            Addresses::V6(..) => ETHERNET + 40,
        };
        let message = |attempt| self.frame(ProbeKind::Echo, &ends, attempt).split_off(headers);
        Some(OwnEcho {
            netns: self.netns.clone(),
            from: self.from.0,
            to: self.to.0,
            messages: (0..ATTEMPTS_MAX).map(message).collect(),
            run: self.wanted.run,
        })
    }

    /// Who has the other address?
    async fn ask(&self, tap: &Tap, addresses: Addresses, watch: &Watch) -> Sent {
        let mut sent = Sent::none(ProbeKind::Arp);
        let mac = station(self.from.1);
        for attempt in 0..ATTEMPTS_MAX {
            let marker = marker(self.wanted.run, ProbeKind::Arp, attempt);
            let frame = match addresses {
                Addresses::V4(from, to) => build::arp_request(mac, from, to, marker),
                Addresses::V6(from, to) => build::neighbour_solicitation(mac, from, to, marker),
            };
            sent.bytes = frame.len();
            sent.note(tap.send(&frame).await);
            if sent.refused.is_some()
                || watch.until(ARP_WITHIN, |report| report.is_answered(ProbeKind::Arp)).await
            {
                break;
            }
        }
        watch.until(RIVAL_WITHIN, |report| report.macs.len() > 1).await;
        sent
    }

    /// Where the container's own kernel would send.
    fn destination(&self, report: &Report) -> MacAddr {
        let announced = self.to.1;
        let learned = match report.macs.as_slice() {
            [] => None,
            macs if macs.contains(&announced.to_string()) => None,
            [first, ..] => first.parse::<Mac>().ok(),
        };
        station(learned.unwrap_or(announced))
    }

    fn frame(&self, kind: ProbeKind, ends: &Ends, attempt: u8) -> Vec<u8> {
        let marker = marker(self.wanted.run, kind, attempt);
        let Wanted { source_port, destination_port, .. } = self.wanted;
        match kind {
            ProbeKind::Udp => build::udp(ends, source_port, destination_port, self.size, marker),
            ProbeKind::Arp | ProbeKind::Echo => {
                build::echo_request(ends, source_port, attempt.into(), ECHO_SIZE, marker)
            }
        }
    }
}

impl Sent {
    fn none(kind: ProbeKind) -> Sent {
        Sent { kind, bytes: 0, count: 0, refused: None }
    }

    fn note(&mut self, result: std::io::Result<()>) {
        match result {
            Ok(()) => self.count += 1,
            Err(error) => {
                self.refused = Some(match error.raw_os_error() {
                    Some(code) if code == nix::errno::Errno::EMSGSIZE as i32 => {
                        "it is larger than the interface's MTU".to_owned()
                    }
                    _ => error.to_string(),
                });
            }
        }
    }
}

fn station(mac: Mac) -> MacAddr {
    let [a, b, c, d, e, f] = mac.0;
    MacAddr(a, b, c, d, e, f)
}

/// Length of an Ethernet header.
const ETHERNET: usize = 14;

/// Length of a frame without it.
fn packet_bytes(frame: &[u8]) -> usize {
    frame.len().saturating_sub(ETHERNET)
}
