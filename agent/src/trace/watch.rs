//! Sees probes at the interfaces of one host: the endpoint's, the network's device, the underlay's.
//!
//! The kernel lets through only frames of the two addresses; of those only probes of one run count.
//! A watch ends with the value that stands for it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use ovl_packet::decode::{self, Icmp, Payload, Transport};
use ovl_packet::{Direction as Seen, Filter, Frame, Marker, RawTap, Tap, TapError};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::facts::End;
use crate::chain;
use crate::control::api::trace::{ProbeKind, Way};

/// Bytes of a frame that are kept: all headers, those of a packet that an error quotes, and the marker.
const SNAPLEN: usize = 320;

/// Times that a probe of one kind is sent at most; marks of later ones count as somebody else's.
pub(crate) const ATTEMPTS_MAX: u8 = 3;

/// Different MACs that answer "who has"; further ones are not kept.
const MACS_MAX: usize = 8;

/// Which packets are watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// In their markers.
    pub(crate) run: u64,
    /// Where the probes come from.
    pub(crate) from: IpAddr,
    /// Where they go.
    pub(crate) to: IpAddr,
    /// Ports of the UDP probe.
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    /// UDP port of VXLAN on the way, and its VNI.
    pub(crate) vxlan_port: u16,
    pub(crate) vni: u32,
}

/// Where at this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Place {
    Endpoint,
    Device,
    Underlay,
}

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The interfaces that were watched, by name; an interface that could not be is in `troubles`.
    pub(crate) watched: BTreeMap<Place, String>,
    pub(crate) sightings: Vec<Sighting>,
    /// Who answered "who has", in order.
    pub(crate) macs: Vec<String>,
    /// The first answer to each kind.
    pub(crate) answers: BTreeMap<ProbeKind, String>,
    /// The first error that came in place of an answer.
    #[serde(default)]
    pub(crate) errors: BTreeMap<ProbeKind, String>,
    /// What could not be watched, each as a sentence.
    pub(crate) troubles: Vec<String>,
}

/// Packets of one kind, try and way at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sighting {
    pub(crate) place: Place,
    pub(crate) way: Way,
    pub(crate) kind: ProbeKind,
    /// Which try; 0 also for answers that do not repeat the marker.
    pub(crate) attempt: u8,
    pub(crate) count: u16,
    /// When the first one was seen, in microseconds since 1970.
    pub(crate) at: u64,
}

impl Report {
    /// How many of a kind were seen; none: nobody watched there.
    pub(crate) fn count(&self, place: Place, way: Way, kind: ProbeKind) -> Option<u16> {
        self.watched.get(&place)?;
        let of = |s: &&Sighting| s.place == place && s.way == way && s.kind == kind;
        Some(self.sightings.iter().filter(of).map(|s| s.count).fold(0, u16::saturating_add))
    }

    pub(crate) fn is_answered(&self, kind: ProbeKind) -> bool {
        self.count(Place::Endpoint, Way::Back, kind).is_some_and(|count| count > 0)
    }

    /// From a probe to its answer, both at the endpoint.
    pub(crate) fn rtt_us(&self, kind: ProbeKind) -> Option<u64> {
        let at = |way, attempt| {
            let is_it = |s: &&Sighting| {
                (s.place, s.way, s.kind) == (Place::Endpoint, way, kind) && s.attempt == attempt
            };
            self.sightings.iter().find(is_it).map(|s| s.at)
        };
        (0..ATTEMPTS_MAX)
            .find_map(|attempt| at(Way::Back, attempt)?.checked_sub(at(Way::There, attempt)?))
    }
}

/// What the marker of a probe says.
pub(crate) fn marker(run: u64, kind: ProbeKind, attempt: u8) -> Marker {
    let kind = match kind {
        ProbeKind::Arp => 0,
        ProbeKind::Echo => 1,
        ProbeKind::Udp => 2,
    };
    Marker { run, sequence: u16::from_be_bytes([kind, attempt]) }
}

fn marked(bytes: &[u8], run: u64) -> Option<(ProbeKind, u8)> {
    let marker = Marker::find(bytes).filter(|marker| marker.run == run)?;
    let [kind, attempt] = marker.sequence.to_be_bytes();
    let kind = match kind {
        0 => ProbeKind::Arp,
        1 => ProbeKind::Echo,
        2 => ProbeKind::Udp,
        _ => return None,
    };
    (attempt < ATTEMPTS_MAX).then_some((kind, attempt))
}

/// What a frame is, of the probes that are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    way: Way,
    kind: ProbeKind,
    attempt: u8,
    /// In words, of an answer.
    answer: Option<String>,
    /// It is an error, and no answer.
    is_error: bool,
    /// Who has the address.
    mac: Option<String>,
}

/// Reads a frame, outside of VXLAN already. None: it is no probe of this run, and no answer to one.
fn known(bytes: &[u8], wanted: &Wanted) -> Option<Known> {
    let frame = decode::ethernet(bytes)?;
    let marked = marked(bytes, wanted.run);
    let there = |(kind, attempt)| Known { kind, attempt, ..Known::THERE };
    let has = |mac: ovl_packet::MacAddr| {
        let mac = mac.to_string();
        let answer = Some(format!("{mac} has it"));
        Known { answer, mac: Some(mac), ..Known::back(ProbeKind::Arp, 0) }
    };
    match frame.payload {
        Payload::Arp(arp) if arp.operation == 2 && IpAddr::V4(arp.sender) == wanted.to => {
            Some(has(arp.sender_mac))
        }
        Payload::Arp(arp) if IpAddr::V4(arp.sender) == wanted.from => marked.map(there),
        Payload::Ip(ip) => match (&ip.transport, marked) {
            (Transport::Icmp(Icmp::NeighbourAdvertisement(found)), _)
                if IpAddr::V6(found.target) == wanted.to =>
            {
                Some(has(found.station.unwrap_or(frame.source)))
            }
            (_, Some(marked)) if ip.source == wanted.from => Some(there(marked)),
            (transport, Some((kind, attempt))) => {
                let answer = Some(in_words(transport, ip.source == wanted.to, &ip.source));
                let is_error = ip.source != wanted.to || !is_answer(kind, transport, &ip.source);
                Some(Known { answer, is_error, ..Known::back(kind, attempt) })
            }
            (Transport::Udp { source, destination, .. }, None)
                if ip.source == wanted.to
                    && (*source, *destination) == (wanted.destination_port, wanted.source_port) =>
            {
                let answer = Some("a program answered".to_owned());
                Some(Known { answer, ..Known::back(ProbeKind::Udp, 0) })
            }
            (_, None) => None,
        },
        Payload::Arp(_) | Payload::Other { .. } | Payload::Cut { .. } => None,
    }
}

impl Known {
    const THERE: Known = Known {
        way: Way::There,
        kind: ProbeKind::Arp,
        attempt: 0,
        answer: None,
        is_error: false,
        mac: None,
    };

    fn back(kind: ProbeKind, attempt: u8) -> Known {
        Known { way: Way::Back, kind, attempt, ..Known::THERE }
    }
}

/// What the kernel there answers by itself. A packet filter that rejects a probe sends another error, or
/// to an echo any at all.
fn is_answer(kind: ProbeKind, transport: &Transport, source: &IpAddr) -> bool {
    match (kind, transport) {
        (ProbeKind::Echo, Transport::Icmp(Icmp::EchoReply { .. })) => true,
        (ProbeKind::Udp, Transport::Icmp(Icmp::Unreachable { code })) => {
            is_port_unreachable(source, *code)
        }
        (ProbeKind::Udp, Transport::Icmp(_)) | (ProbeKind::Echo | ProbeKind::Arp, _) => false,
        (ProbeKind::Udp, _) => true,
    }
}

/// RFC 792, "Destination Unreachable Message"; RFC 4443, section 3.1.
fn is_port_unreachable(source: &IpAddr, code: u8) -> bool {
    matches!((source, code), (IpAddr::V4(_), 3) | (IpAddr::V6(_), 4))
}

fn in_words(transport: &Transport, from_there: bool, source: &IpAddr) -> String {
    let what = match transport {
        Transport::Icmp(Icmp::EchoReply { .. }) => "echo reply".to_owned(),
        Transport::Icmp(Icmp::Unreachable { code }) => match is_port_unreachable(source, *code) {
            true => "port unreachable".to_owned(),
            false => format!("unreachable, code {code}"),
        },
        Transport::Icmp(Icmp::TooBig { mtu }) => format!("too big, at most {mtu} bytes"),
        _ => "an answer".to_owned(),
    };
    if from_there { what } else { format!("{what} (from {source})") }
}

/// The interfaces to watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    /// In its namespace.
    pub(crate) endpoint: Option<(PathBuf, String)>,
    pub(crate) device: Option<String>,
    pub(crate) underlay: Option<String>,
}

impl Places {
    /// Of one end, as it was seen.
    pub(crate) fn of(end: &End) -> Places {
        let inside = end.inside.as_ref().and_then(|inside| inside.as_ref().ok());
        let interface = inside.and_then(|inside| inside.interface.as_ref());
        let netns = end.held.as_ref().and_then(|held| held.netns.clone());
        let outer = end.outer.as_ref().and_then(|outer| outer.as_ref().ok());
        let by =
            outer.and_then(|outer| outer.route.as_ref().ok()).map(|route| route.device.clone());
        Places {
            endpoint: netns.zip(interface).map(|(netns, i)| (netns, i.name.clone())),
            device: end.device.as_ref().ok().and_then(Option::as_ref).map(|d| d.name.clone()),
            underlay: by.or_else(|| outer.and_then(|outer| outer.holder.clone())),
        }
    }
}

/// A watch at work. Dropped, it ends.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    _taps: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    report: Mutex<Report>,
    news: Notify,
}

impl Watch {
    /// Begins. `is_far`: at the end that the probes go to.
    pub(crate) async fn begin(wanted: Wanted, places: Places, is_far: bool) -> Watch {
        let shared = Arc::new(Shared::default());
        let mut taps = JoinSet::new();
        for (place, interface, tap) in open(&wanted, places).await {
            match tap {
                Ok(tap) => {
                    shared.change(|report| drop(report.watched.insert(place, interface)));
                    taps.spawn(follow(tap, place, wanted, is_far, shared.clone()));
                }
                Err(error) => shared.change(|report| {
                    report.troubles.push(format!("{interface} was not watched: {error}"));
                }),
            }
        }
        Watch { shared, _taps: taps }
    }

    /// Waits until what was seen so far is enough, at most so long. Whether it was.
    pub(crate) async fn until(&self, within: Duration, enough: impl Fn(&Report) -> bool) -> bool {
        let wait = async {
            loop {
                let news = self.shared.news.notified();
                if enough(&self.report()) {
                    return;
                }
                news.await;
            }
        };
        tokio::time::timeout(within, wait).await.is_ok()
    }

    /// What was seen so far.
    pub(crate) fn report(&self) -> Report {
        self.shared.report.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.report.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        self.news.notify_waiters();
    }
}

/// A tap at each place.
async fn open(wanted: &Wanted, places: Places) -> Vec<(Place, String, Result<Tap, String>)> {
    let addresses = [wanted.from, wanted.to];
    let mut taps = Vec::new();
    if let Some((netns, interface)) = places.endpoint {
        let filter = Filter::addresses(&addresses).map_err(|error| error.to_string());
        let tap = match filter {
            Ok(filter) => inside(netns, interface.clone(), filter).await,
            Err(why) => Err(why),
        };
        taps.push((Place::Endpoint, interface, tap));
    }
    if let Some(interface) = places.device {
        let filter = Filter::addresses(&addresses);
        taps.push((Place::Device, interface.clone(), here(&interface, filter)));
    }
    if let Some(interface) = places.underlay {
        let filter = Filter::vxlan(wanted.vxlan_port, Some(wanted.vni), &addresses);
        taps.push((Place::Underlay, interface.clone(), here(&interface, filter)));
    }
    taps
}

fn here<E: std::error::Error>(interface: &str, filter: Result<Filter, E>) -> Result<Tap, String> {
    let filter = filter.map_err(|error| chain(&error))?;
    Tap::open(interface, &filter, SNAPLEN).map_err(|error| chain(&error))
}

/// A tap inside a network namespace.
pub(super) async fn inside(
    netns: PathBuf,
    interface: String,
    filter: Filter,
) -> Result<Tap, String> {
    let open = move || -> Result<RawTap, String> {
        let opened: Result<Result<RawTap, TapError>, _> =
            ovl_vxlan::netns::run(&netns, move || RawTap::open(&interface, &filter, SNAPLEN));
        opened.map_err(|error| chain(&error))?.map_err(|error| chain(&error))
    };
    let raw = tokio::task::spawn_blocking(open).await;
    let raw = raw.map_err(|_| "the namespace could not be entered".to_owned())??;
    raw.register().map_err(|error| error.to_string())
}

async fn follow(tap: Tap, place: Place, wanted: Wanted, is_far: bool, shared: Arc<Shared>) {
    loop {
        match tap.recv().await {
            Ok(frame) => note(&frame, place, &wanted, is_far, &shared),
            // It went down; frames come again when it is up.
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENETDOWN as i32) => {}
            Err(error) => {
                return shared.change(|report| {
                    let interface = report.watched.remove(&place).unwrap_or_default();
                    report.troubles.push(format!("{interface} is not watched any more: {error}"));
                });
            }
        }
    }
}

fn note(frame: &Frame, place: Place, wanted: &Wanted, is_far: bool, shared: &Shared) {
    let inner = match place {
        Place::Endpoint | Place::Device => Some(frame.bytes.as_slice()),
        Place::Underlay => decode::vxlan(&frame.bytes, wanted.vxlan_port)
            .and_then(|tunnel| frame.bytes.get(tunnel.inner_offset..)),
    };
    let Some(known) = inner.and_then(|inner| known(inner, wanted)) else {
        return;
    };
    let leaves = (known.way == Way::There) != is_far;
    // What arrives for a container has the container's MAC, and not the device's.
    let is_expected = match frame.direction {
        Seen::Out => leaves,
        Seen::In => !leaves,
        Seen::Other => !leaves && place == Place::Device,
    };
    if !is_expected {
        return;
    }
    let at = frame.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
    let at = u64::try_from(at).unwrap_or(u64::MAX);
    shared.change(|report| report.add(place, known, at));
}

impl Report {
    fn add(&mut self, place: Place, known: Known, at: u64) {
        let Known { way, kind, attempt, answer, is_error, mac } = known;
        if is_error {
            if place == Place::Endpoint
                && let Some(error) = answer
            {
                self.errors.entry(kind).or_insert(error);
            }
            return;
        }
        let is_it =
            |s: &&mut Sighting| (s.place, s.way, s.kind, s.attempt) == (place, way, kind, attempt);
        // As many at most as there are places, ways, kinds and attempts.
        match self.sightings.iter_mut().find(is_it) {
            Some(sighting) => sighting.count = sighting.count.saturating_add(1),
            None => self.sightings.push(Sighting { place, way, kind, attempt, count: 1, at }),
        }
        if place != Place::Endpoint || way != Way::Back {
            return;
        }
        if let Some(answer) = answer {
            self.answers.entry(kind).or_insert(answer);
        }
        if let Some(mac) = mac.filter(|mac| !self.macs.contains(mac))
            && self.macs.len() < MACS_MAX
        {
            self.macs.push(mac);
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
