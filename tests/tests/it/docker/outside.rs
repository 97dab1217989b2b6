//! A name server on the underlay, outside of every host: whom the hosts ask.
use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ovl_tests::underlay::Underlay;
use ovl_tests::{Lab, spec};

/// The one name that it knows.
pub(super) const KNOWN: &str = "www.example.org";
/// The address of that name: of a block for documentation (RFC 5737).
pub(super) const ADDRESS: &str = "192.0.2.7";
const OCTETS: [u8; 4] = [192, 0, 2, 7];
/// How often it looks whether it is to end.
const STEP: Duration = Duration::from_millis(50);

/// Answers until it is dropped.
pub(super) struct NameServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl NameServer {
    pub(super) fn start(lab: &Lab) -> Self {
        let underlay = *Underlay::open(lab.folder()).unwrap().sandbox();
        let bind = || UdpSocket::bind((spec::bridge_address(), 53));
        let socket = underlay.inside_network(bind).unwrap();
        socket.set_read_timeout(Some(STEP)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = std::thread::spawn(move || serve(&socket, &flag));
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Its socket keeps the underlay's namespace alive.
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.unwrap().unwrap().unwrap();
        }
    }
}

fn serve(socket: &UdpSocket, stop: &AtomicBool) -> io::Result<()> {
    let mut query = [0; 512];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut query) {
            socket.send_to(&answer(&query[..length]), from)?;
        }
    }
    Ok(())
}

/// RFC 1035 section 4.1: the question again, and what is known of it.
fn answer(query: &[u8]) -> Vec<u8> {
    const HEADER: usize = 12;
    const NAME_ERROR: u8 = 3;
    let name = query[HEADER..].iter().position(|&byte| byte == 0).unwrap();
    let end = HEADER + name + 5;
    let labels = &query[HEADER..HEADER + name];
    let known = KNOWN
        .split('.')
        .flat_map(|label| std::iter::once(u8::try_from(label.len()).unwrap()).chain(label.bytes()));
    let is_known = labels.to_ascii_lowercase() == known.collect::<Vec<_>>();
    let is_a = query[end - 4..end - 2] == [0, 1];
    let mut reply = query[..end].to_vec();
    // A response, recursion desired and available.
    reply[2..4].copy_from_slice(&[0x81, 0x80 | if is_known { 0 } else { NAME_ERROR }]);
    // One question, one answer or none, and none of what an EDNS query adds.
    reply[4..HEADER].copy_from_slice(&[0, 1, 0, u8::from(is_known && is_a), 0, 0, 0, 0]);
    if is_known && is_a {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        reply.extend(OCTETS);
    }
    reply
}
