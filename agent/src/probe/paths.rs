//! What the way to a host is like: what gets through, how long it takes, how large it may be.

use std::io;
use std::net::SocketAddrV4;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::time::Instant;

use super::{NotSent, Prober};
use crate::control::api::paths::{Path, Reach, Series};
use crate::peers::Peers;

/// How long an answer is waited for. A way that takes longer is as good as none.
const ANSWER_WITHIN: Duration = Duration::from_millis(600);
/// How long a connection is waited for: two lost SYNs (RFC 6298: 1 s, then 2 s) are forgiven.
const CONNECT_WITHIN: Duration = Duration::from_millis(3500);
/// Probes of a kind before a way counts as closed.
const TRIES: u32 = 3;
/// The largest packet is looked for until it is known within so many bytes.
const PRECISION: u16 = 3;
/// Probes by which loss is found, and the time between two of them.
const LOSS_PROBES: u32 = 20;
const LOSS_INTERVAL: Duration = Duration::from_millis(10);
/// Bytes of the smallest packet whose passing is looked for.
const SMALLEST: u16 = 68;

/// How many packets are lost on the way to a host and back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) vxlan: Series,
    /// Where VXLAN loses some.
    pub(crate) underlay: Option<Series>,
}

/// One look at the way to a host, within some seconds.
pub(crate) async fn look(peers: &Peers, prober: &Prober, to: SocketAddrV4) -> Path {
    let nonce = rand::random();
    let (tcp, udp, vxlan) =
        tokio::join!(tcp(peers, to), udp(peers, to), vxlan(prober, to, nonce, 0));
    let mtu = peers.vxlan_mtu;
    let vxlan_full = match &vxlan {
        Reach::Answered { .. } => self::vxlan(prober, to, rand::random(), mtu).await,
        _ => Reach::Untried { why: "not even the smallest gets through".into() },
    };
    let largest = match vxlan_full {
        Reach::Silent => largest(prober, to, mtu).await,
        _ => None,
    };
    Path { tcp, udp, vxlan, vxlan_full, mtu, largest, nonce: format!("{nonce:016x}") }
}

async fn tcp(peers: &Peers, to: SocketAddrV4) -> Reach {
    let began = Instant::now();
    let connect = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddrV4::new(peers.vtep, 0).into())?;
        socket.connect(to.into()).await
    };
    match tokio::time::timeout(CONNECT_WITHIN, connect).await {
        Ok(Ok(_)) => Reach::Answered { rtt_us: micros(began.elapsed()) },
        Ok(Err(error)) => failed(&error),
        Err(_) => Reach::Silent,
    }
}

async fn udp(peers: &Peers, to: SocketAddrV4) -> Reach {
    let mut reach = Reach::Silent;
    for _ in 0..TRIES {
        match ovl_gossip::echo(peers.vtep, to, ANSWER_WITHIN).await {
            Ok(rtt) => return Reach::Answered { rtt_us: micros(rtt) },
            Err(error) => reach = failed(&error),
        }
    }
    reach
}

fn failed(error: &io::Error) -> Reach {
    match error.kind() {
        io::ErrorKind::TimedOut => Reach::Silent,
        io::ErrorKind::ConnectionRefused => Reach::Refused,
        _ => Reach::Failed { why: error.to_string() },
    }
}

async fn vxlan(prober: &Prober, to: SocketAddrV4, nonce: u64, packet: u16) -> Reach {
    for seq in 0..TRIES {
        match prober.probe(*to.ip(), nonce, seq, packet, ANSWER_WITHIN).await {
            Ok(Some(rtt)) => return Reach::Answered { rtt_us: micros(rtt) },
            Ok(None) => {}
            Err(error @ (NotSent::NoDevice | NotSent::Busy)) => {
                return Reach::Untried { why: error.to_string() };
            }
        }
    }
    Reach::Silent
}

/// The largest packet that passes, within [`PRECISION`], below one that does not. Each size is given two
/// tries, so that one lost packet does not count.
async fn largest(prober: &Prober, to: SocketAddrV4, too_large: u16) -> Option<u16> {
    let (mut passes, mut fails) = (None, too_large);
    let mut next = SMALLEST;
    while next < fails && passes.is_none_or(|passes| passes + PRECISION <= next) {
        let mut through = false;
        for seq in 0..2 {
            let answer = prober.probe(*to.ip(), rand::random(), seq, next, ANSWER_WITHIN / 2).await;
            through |= matches!(answer, Ok(Some(_)));
            if through {
                break;
            }
        }
        if through {
            passes = Some(next);
        } else {
            fails = next;
        }
        next = passes? + (fails - passes?) / 2;
    }
    passes
}

/// Of many probes, how many are answered: small ones through VXLAN, and, if some of those are lost, by
/// UDP beside it. Takes at most two seconds.
pub(crate) async fn loss(peers: &Peers, prober: &Prober, to: SocketAddrV4) -> Loss {
    let nonce = rand::random();
    let through = volley(LOSS_PROBES, |seq| async move {
        let answer = prober.probe(*to.ip(), nonce, seq, 0, ANSWER_WITHIN).await;
        answer.map_err(|error| error.to_string())
    });
    let vxlan = through.await;
    if vxlan.error.is_some() || vxlan.received == vxlan.sent {
        return Loss { vxlan, underlay: None };
    }
    let echo = |_| async move {
        match ovl_gossip::echo(peers.vtep, to, ANSWER_WITHIN).await {
            Ok(rtt) => Ok(Some(rtt)),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    };
    let underlay = volley(LOSS_PROBES, echo).await;
    Loss { vxlan, underlay: Some(underlay) }
}

/// Sends some probes, one after the other, and does not wait for an answer before the next one.
async fn volley<F>(count: u32, probe: impl Fn(u32) -> F) -> Series
where
    F: Future<Output = Result<Option<Duration>, String>>,
{
    let probes = (0..count).map(|seq| {
        let probe = &probe;
        async move {
            tokio::time::sleep(LOSS_INTERVAL * seq).await;
            probe(seq).await
        }
    });
    let mut series = Series::default();
    for answer in futures::future::join_all(probes).await {
        match answer {
            Ok(rtt) => series.add(rtt.map(micros)),
            Err(error) => {
                series.add(None);
                series.error = Some(error);
            }
        }
    }
    series
}

/// Pings a host over the underlay and through VXLAN at the same time.
pub(crate) async fn ping(
    peers: &Peers,
    prober: &Prober,
    to: SocketAddrV4,
    count: u32,
    interval: Duration,
    packet: u16,
) -> (Series, Series) {
    let underlay = async {
        let mut series = Series::default();
        for n in 0..count {
            if n > 0 {
                tokio::time::sleep(interval).await;
            }
            match ovl_gossip::echo(peers.vtep, to, ANSWER_WITHIN).await {
                Ok(rtt) => series.add(Some(micros(rtt))),
                Err(error) => {
                    series.add(None);
                    if error.kind() != io::ErrorKind::TimedOut {
                        series.error = Some(error.to_string());
                    }
                }
            }
        }
        series
    };
    let vxlan = async {
        let mut series = Series::default();
        let nonce = rand::random();
        for seq in 0..count {
            if seq > 0 {
                tokio::time::sleep(interval).await;
            }
            match prober.probe(*to.ip(), nonce, seq, packet, ANSWER_WITHIN).await {
                Ok(rtt) => series.add(rtt.map(micros)),
                Err(error) => {
                    series.add(None);
                    series.error = Some(error.to_string());
                }
            }
        }
        series
    };
    tokio::join!(underlay, vxlan)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
