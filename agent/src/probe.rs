//! Probes of the ways to other hosts: the underlay, by UDP echoes of the gossip's port, and VXLAN, by
//! frames over a network of its own.
//!
//! Every host has the device of the probe network ([`PROBE_VNI`]) as soon as it knows another host. The
//! kernel does to a probe what it does to any container's frame: encapsulates it, routes it, takes it
//! out on the other side. There an agent answers. The device has no address, and no host's IP ever
//! sees such a frame: its EtherType is the one for local experiments.
//!
//! - `frame`: what is in a probe.
//! - `station`: who waits for an answer, and what of others was seen.
//! - `paths`: what the way to a host is like.

mod frame;
pub(crate) mod paths;
mod station;

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ovl_packet::{Filter, Tap};
use ovl_vxlan::Mac;
use tokio::sync::{mpsc, oneshot};

use self::frame::{ETHERTYPE, Kind, Probe};
use self::station::Station;

/// The VNI of the probe network, the last one there is (RFC 7348, section 5: 24 bits). `vni-range` does not
/// take it.
pub(crate) const PROBE_VNI: u32 = 0x00FF_FFFF;

/// How often the device is looked for while it is not there.
const RETRY: Duration = Duration::from_secs(1);

/// Frames that wait to be sent. One more is lost, as on any way.
const OUTBOX: usize = 256;

/// Bytes of a frame that are read: of a probe only its head counts.
const SNAPLEN: usize = 128;

/// The MAC to which probes for a host go, and from which its own come.
pub(crate) fn probe_mac(vtep: Ipv4Addr) -> Mac {
    Mac::from_ipv4(vtep)
}

/// Sends probes, and answers those of others; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Prober {
    mac: Mac,
    station: Arc<Mutex<Station>>,
    outbox: mpsc::Sender<Vec<u8>>,
}

/// Why a probe could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotSent {
    #[error(
        "this host has no device for probes (ovl-16777215) yet, or may not open it (CAP_NET_RAW)"
    )]
    NoDevice,
    #[error("too many probes wait already")]
    Busy,
}

impl Prober {
    /// Starts the task; it ends with the last handle.
    pub(crate) fn start(vtep: Ipv4Addr) -> Prober {
        let (outbox, frames) = mpsc::channel(OUTBOX);
        let station = Arc::new(Mutex::new(Station::default()));
        let prober = Prober { mac: probe_mac(vtep), station: station.clone(), outbox };
        tokio::spawn(serve(prober.mac, station, frames));
        prober
    }

    /// Nobody serves it.
    #[cfg(test)]
    pub(crate) fn ended() -> Prober {
        let (outbox, _) = mpsc::channel(1);
        Prober { mac: probe_mac(Ipv4Addr::LOCALHOST), station: Arc::default(), outbox }
    }

    /// Sends one of `packet` bytes (what an IP packet would have) to a host, and waits for the answer:
    /// the round trip; `None`: nothing came within the time.
    pub(crate) async fn probe(
        &self,
        vtep: Ipv4Addr,
        nonce: u64,
        seq: u32,
        packet: u16,
        within: Duration,
    ) -> Result<Option<Duration>, NotSent> {
        let (answered, answer) = oneshot::channel();
        let probe = Probe { kind: Kind::Question, nonce, seq };
        {
            let mut station = self.station();
            if !station.is_open() {
                return Err(NotSent::NoDevice);
            }
            if !station.expect(nonce, seq, answered) {
                return Err(NotSent::Busy);
            }
        }
        // However this ends: the wait may be dropped, too.
        let _waiting = Waiting { prober: self, key: (nonce, seq) };
        let sent = tokio::time::Instant::now();
        let bytes = probe.frame(probe_mac(vtep), self.mac, packet);
        if self.outbox.try_send(bytes).is_err() {
            return Err(NotSent::Busy);
        }
        let heard = tokio::time::timeout(within, answer).await;
        Ok(matches!(heard, Ok(Ok(()))).then(|| sent.elapsed()))
    }

    /// How many probes of that series arrived here.
    pub(crate) fn seen(&self, nonce: u64) -> u32 {
        self.station().seen(nonce)
    }

    fn station(&self) -> MutexGuard<'_, Station> {
        lock(&self.station)
    }
}

/// A probe whose answer is waited for.
struct Waiting<'a> {
    prober: &'a Prober,
    key: (u64, u32),
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.prober.station().forget(self.key.0, self.key.1);
    }
}

fn lock(station: &Mutex<Station>) -> MutexGuard<'_, Station> {
    station.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the device open, as often as it is made anew.
async fn serve(mac: Mac, station: Arc<Mutex<Station>>, mut frames: mpsc::Receiver<Vec<u8>>) {
    let device = format!("ovl-{PROBE_VNI}");
    let filter = Filter::ethertype(ETHERTYPE);
    loop {
        if let Ok(tap) = Tap::open(&device, &filter, SNAPLEN) {
            lock(&station).open(true);
            let over = exchange(&tap, mac, &station, &mut frames).await;
            lock(&station).open(false);
            if over {
                return;
            }
        }
        // What was to be sent is lost with the device.
        loop {
            match tokio::time::timeout(RETRY, frames.recv()).await {
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(_) => break,
            }
        }
    }
}

/// Until the device goes (false), or nobody is left to probe for (true).
async fn exchange(
    tap: &Tap,
    mac: Mac,
    station: &Mutex<Station>,
    frames: &mut mpsc::Receiver<Vec<u8>>,
) -> bool {
    loop {
        tokio::select! {
            bytes = frames.recv() => match bytes {
                // Too large for the device, or no row for it: it is lost, as on any way.
                Some(bytes) => { let _ = tap.send(&bytes).await; }
                None => return true,
            },
            seen = tap.recv() => {
                let Ok(seen) = seen else {
                    return false;
                };
                let Some((from, probe)) = Probe::read(&seen.bytes, mac) else {
                    continue;
                };
                let answer = lock(station).heard(probe);
                if let Some(answer) = answer {
                    let _ = tap.send(&answer.frame(from, mac, 0)).await;
                }
            }
        }
    }
}
