//! Captures at the loopback of a network namespace of each test's own.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use ovl_packet::Marker;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::*;
use crate::core::RefusalKind;

const PORT: u16 = 4789;
const VTEP: std::net::Ipv4Addr = std::net::Ipv4Addr::LOCALHOST;

/// No test takes longer, whatever hangs.
const TEST_LIMIT: Duration = Duration::from_secs(60);

/// Runs a test on a thread in a network namespace of its own.
fn on_a_host<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let host = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { timeout(TEST_LIMIT, test()).await.expect("in time") });
    });
    if let Err(panic) = host.join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn captures(unread_for: Duration) -> Arc<Captures> {
    let mut captures = Captures::new("h1".into(), PORT);
    captures.unread_for = unread_for;
    Arc::new(captures)
}

/// For tests that are not about it.
const LONG: Duration = Duration::from_secs(60);

/// Sends VXLAN as another host would, each packet with its number inside.
struct Host(UdpSocket);

impl Host {
    async fn new() -> Host {
        Host(UdpSocket::bind((VTEP, 0)).await.unwrap())
    }

    async fn send(&self, vni: u32, number: u16) {
        let mut packet = vec![8, 0, 0, 0];
        packet.extend((vni << 8).to_be_bytes());
        packet.extend([0xff; 14]);
        packet.extend(Marker { run: 0, sequence: number }.to_bytes());
        packet.resize(1000, 0);
        // Nobody listens there: the kernel tells it, and the next packet goes all the same.
        let _ = self.0.send_to(&packet, (VTEP, PORT)).await;
    }
}

/// The packets of a batch that came in: at the loopback each one is seen twice.
fn numbers(batch: &Batch) -> Vec<u16> {
    let came_in = batch.frames.iter().filter(|frame| frame.direction == Way::In);
    came_in.filter_map(|frame| Marker::find(&frame.bytes)).map(|marker| marker.sequence).collect()
}

/// Reads until nothing comes any more, and says what was got and how many were dropped.
async fn read_all(captures: &Captures, id: &str) -> (Vec<CapturedFrame>, u64) {
    let mut all = Vec::new();
    loop {
        let after = all.last().map_or(0, |frame: &CapturedFrame| frame.number);
        let batch = captures.read(id, ReadCapture { after, wait: 1 }).await.unwrap();
        if batch.frames.is_empty() {
            return (all, batch.dropped);
        }
        all.extend(batch.frames);
    }
}

#[test]
fn frames_are_read_in_their_order_and_only_those_of_the_network() {
    on_a_host(|| async {
        let (captures, host) = (captures(LONG), Host::new().await);
        let network = Some(("blue".to_owned(), 7));
        let wanted = Wanted { network, ..Wanted::default() };
        let capture = captures.start("lo", &wanted, "a test").unwrap();
        assert_eq!((capture.interface.as_str(), capture.host.as_str()), ("lo", "h1"));
        assert_eq!(capture.filter, "VXLAN to UDP port 4789 of network blue (VNI 7)");
        for number in 0..3 {
            host.send(8, 100 + number).await;
            host.send(7, number).await;
        }
        let (frames, dropped) = read_all(&captures, &capture.id).await;
        assert_eq!(numbers(&Batch { frames, ..Batch::default() }), [0, 1, 2]);
        assert_eq!(dropped, 0);
        captures.end(&capture.id).unwrap();
        let gone = captures.read(&capture.id, ReadCapture::default()).await.unwrap_err();
        assert_eq!(gone.kind, RefusalKind::NotFound);
    });
}

#[test]
fn a_reader_waits_for_the_next_frame_and_gets_it_again_when_the_answer_was_lost() {
    on_a_host(|| async {
        let (captures, host) = (captures(LONG), Host::new().await);
        let capture = captures.start("lo", &Wanted::default(), "a test").unwrap();
        let reader = captures.read(&capture.id, ReadCapture { after: 0, wait: 20 });
        let sender = async {
            tokio::task::yield_now().await;
            host.send(7, 5).await;
        };
        let (batch, ()) = tokio::join!(reader, sender);
        let first = batch.unwrap().frames[0].clone();
        let again = captures.read(&capture.id, ReadCapture::default()).await.unwrap();
        assert_eq!(again.frames[0], first);
        let empty = captures.read(&capture.id, ReadCapture { after: u64::MAX, wait: 0 }).await;
        assert_eq!(empty.unwrap(), Batch::default());
    });
}

#[test]
fn what_comes_faster_than_it_is_read_is_counted_and_memory_stays_bounded() {
    const SENT: u16 = 2000;
    on_a_host(|| async {
        let (captures, host) = (captures(LONG), Host::new().await);
        let wanted = Wanted { buffer: Some(BUFFER_MIN), ..Wanted::default() };
        let capture = captures.start("lo", &wanted, "a test").unwrap();
        for number in 0..SENT {
            host.send(7, number).await;
        }
        let held = lock(&captures.running)[&capture.id].batch();
        assert!(held.frames.len() * 1000 < 2 * BUFFER_MIN as usize, "{}", held.frames.len());
        let (mut frames, _) = read_all(&captures, &capture.id).await;
        // The next frame tells of those that were dropped before it.
        host.send(7, SENT).await;
        let after = frames.last().unwrap().number;
        let batch = captures.read(&capture.id, ReadCapture { after, wait: 5 }).await.unwrap();
        frames.extend(batch.frames);
        assert!(batch.dropped > 0);
        // The last one is seen going out, and perhaps not yet coming in.
        let all = u64::from(SENT) * 2 + 2;
        let counted = frames.len() as u64 + batch.dropped;
        assert!((all - 1..=all).contains(&counted), "{counted} of {all}");
    });
}

#[test]
fn a_capture_that_nobody_reads_ends() {
    on_a_host(|| async {
        let captures = captures(Duration::from_millis(200));
        let capture = captures.start("lo", &Wanted::default(), "a test").unwrap();
        // A reader that waits longer keeps it.
        let batch = captures.read(&capture.id, ReadCapture { after: 0, wait: 1 }).await.unwrap();
        assert_eq!(batch, Batch::default());
        while lock(&captures.running).contains_key(&capture.id) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let gone = captures.read(&capture.id, ReadCapture::default()).await.unwrap_err();
        assert!(gone.message.contains("that nobody reads"), "{gone:?}");
    });
}

#[test]
fn no_more_than_a_few_run_at_once() {
    on_a_host(|| async {
        let captures = captures(LONG);
        let ids: Vec<String> = (0..CAPTURES_MAX)
            .map(|_| captures.start("lo", &Wanted::default(), "a test").unwrap().id)
            .collect();
        let refused = captures.start("lo", &Wanted::default(), "a test").unwrap_err();
        assert_eq!(refused.kind, RefusalKind::Unavailable);
        captures.end(&ids[0]).unwrap();
        captures.start("lo", &Wanted::default(), "a test").unwrap();
    });
}

#[test]
fn a_reader_is_told_why_there_is_no_more() {
    on_a_host(|| async {
        ip("link add underlay type veth peer name wire");
        ip("address add 192.0.2.1/24 dev underlay");
        ip("link set underlay up");
        let captures = captures(LONG);
        let capture = captures.start("underlay", &Wanted::default(), "a test").unwrap();
        // Down is no reason.
        ip("link set underlay down");
        let batch = captures.read(&capture.id, ReadCapture { after: 0, wait: 1 }).await.unwrap();
        assert_eq!(batch.ended, None);
        ip("link del underlay");
        let batch = captures.read(&capture.id, ReadCapture { after: 0, wait: 20 }).await.unwrap();
        assert_eq!(batch.ended.as_deref(), Some("interface underlay was removed"));
        let refused = captures.start("underlay", &Wanted::default(), "a test").unwrap_err();
        assert!(refused.message.contains("underlay"), "{refused:?}");
    });
}

#[test]
fn who_waits_is_told_that_the_agent_ends() {
    on_a_host(|| async {
        let captures = captures(LONG);
        let capture = captures.start("lo", &Wanted::default(), "a test").unwrap();
        let reader = captures.read(&capture.id, ReadCapture { after: 0, wait: 20 });
        let end = async {
            tokio::task::yield_now().await;
            captures.close();
        };
        let (batch, ()) = tokio::join!(reader, end);
        assert_eq!(batch.unwrap().ended.as_deref(), Some("the agent of its host was stopped"));
    });
}

#[test]
fn a_buffer_of_no_use_is_refused() {
    on_a_host(|| async {
        for buffer in [0, BUFFER_MIN - 1, BUFFER_MAX + 1] {
            let wanted = Wanted { buffer: Some(buffer), ..Wanted::default() };
            let refused = captures(LONG).start("lo", &wanted, "a test").unwrap_err();
            assert_eq!(refused.kind, RefusalKind::Invalid);
        }
    });
}
