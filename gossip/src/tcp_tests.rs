//! Real sockets on loopback addresses.

use std::sync::atomic::AtomicU32;

use super::*;
use crate::{Config, Gossip};

#[tokio::test]
async fn a_want_of_file_descriptors_is_waited_out() {
    let listener = TcpListener::bind("127.72.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (listener, tries) = (&listener, &AtomicU32::new(0));
    let accept = || async move {
        match tries.fetch_add(1, Ordering::Relaxed) {
            0..3 => Err(io::Error::from(nix::errno::Errno::EMFILE)),
            _ => listener.accept().await,
        }
    };
    let begun = Instant::now();
    let (client, (_stream, from)) = tokio::join!(TcpStream::connect(at), accepted(accept));
    assert_eq!(client.unwrap().local_addr().unwrap(), from);
    assert!(begun.elapsed() >= 3 * ACCEPT_PAUSE);
    assert_eq!(tries.load(Ordering::Relaxed), 4);
}

async fn start(address: &str) -> Gossip {
    let config = Config {
        name: "a".parse().unwrap(),
        advertise: address.parse().unwrap(),
        seeds: Vec::new(),
        known: Vec::new(),
        epoch: 1,
        endpoints: Vec::new(),
    };
    Gossip::start(config).await.unwrap()
}

/// A stream from that address, with some bytes sent.
async fn open(from: [u8; 4], to: &str, bytes: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((from, 0))).unwrap();
    let mut stream = socket.connect(to.parse().unwrap()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// True once the stream was closed without a word.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let read = timeout(FRAME, stream.read(&mut [0])).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn streams_that_say_nothing_keep_nobody_else_out_and_are_counted() {
    let at = "127.72.1.1:17946";
    let gossip = start(at).await;
    let mut silent = Vec::new();
    for n in 0..MAX_INBOUND {
        let half = if n % 2 == 0 { &[][..] } else { &[0, 0, 1, 0, b'O', b'V'] };
        silent.push(open([127, 72, 1, 9], at, half).await);
    }
    // Of another address one is heard while they stand.
    let request = crate::wire::seal(crate::wire::Kind::Pull, &crate::wire::Pull { want: vec![] });
    let mut other = open([127, 72, 1, 2], at, &[]).await;
    write_frame(&mut other, &request).await.unwrap();
    let answer = read_frame(&mut other, MAX_FRAME, BEGIN / 2).await.unwrap();
    assert!(crate::wire::open(&answer).is_ok());
    for stream in &mut silent {
        assert!(is_closed(stream).await);
    }
    let counted = async {
        let each = MAX_INBOUND_EACH as u64;
        loop {
            let stats = gossip.stats();
            if (stats.streams_silent, stats.streams_refused) == (each, MAX_INBOUND as u64 - each) {
                return;
            }
            // The figures are renewed with whatever the task does next.
            let _ = open([127, 72, 1, 2], at, b"GET / HTTP/1.1").await;
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(FRAME, counted).await.expect("they are counted");
}
