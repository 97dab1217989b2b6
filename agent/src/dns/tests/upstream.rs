//! Small resolvers of the host, for the tests: real sockets on the host's loopback, and answers
//! made by the test.
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use super::super::Transport;

/// Messages to send back for a query, in this order; none: silence.
type Behaviour = dyn Fn(&[u8], Transport) -> Vec<Vec<u8>> + Send + Sync;

/// A resolver on port 53 of an address of the host's; gone when dropped.
pub(super) struct Upstream {
    asked: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Upstream {
    pub(super) async fn start(
        address: Ipv4Addr,
        behaviour: impl Fn(&[u8], Transport) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) -> Upstream {
        let udp = UdpSocket::bind((address, 53)).await.unwrap();
        let tcp = TcpListener::bind((address, 53)).await.unwrap();
        Upstream::over(udp, tcp, behaviour)
    }

    /// The same over sockets that were made elsewhere.
    pub(super) fn over(
        udp: UdpSocket,
        tcp: TcpListener,
        behaviour: impl Fn(&[u8], Transport) -> Vec<Vec<u8>> + Send + Sync + 'static,
    ) -> Upstream {
        let behaviour: Arc<Behaviour> = Arc::new(behaviour);
        let asked = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, behaviour.clone(), asked.clone()));
        tasks.spawn(serve_tcp(tcp, behaviour, asked.clone()));
        Upstream { asked, tasks }
    }

    /// Never answers.
    pub(super) async fn silent(address: Ipv4Addr) -> Upstream {
        Upstream::start(address, |_, _| Vec::new()).await
    }

    /// Ends it; when this returns, its sockets are closed.
    pub(super) async fn stop(mut self) {
        self.tasks.shutdown().await;
    }

    /// Queries so far, over UDP and TCP.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn serve_udp(socket: UdpSocket, behaviour: Arc<Behaviour>, asked: Arc<AtomicUsize>) {
    let mut buffer = [0; 4096];
    loop {
        let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
        asked.fetch_add(1, Ordering::Relaxed);
        for reply in behaviour(&buffer[..length], Transport::Udp) {
            socket.send_to(&reply, client).await.unwrap();
        }
    }
}

async fn serve_tcp(listener: TcpListener, behaviour: Arc<Behaviour>, asked: Arc<AtomicUsize>) {
    loop {
        let (mut stream, _client) = listener.accept().await.unwrap();
        let Ok(length) = stream.read_u16().await else {
            continue;
        };
        let mut message = vec![0; length.into()];
        let Ok(_) = stream.read_exact(&mut message).await else {
            continue;
        };
        asked.fetch_add(1, Ordering::Relaxed);
        for reply in behaviour(&message, Transport::Tcp) {
            stream.write_u16(reply.len().try_into().unwrap()).await.unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    }
}

/// The empty reply to a query.
pub(super) fn reply(query: &[u8], code: ResponseCode) -> Message {
    let query = Message::from_vec(query).unwrap();
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.response_code = code;
    reply.metadata.recursion_available = true;
    reply.add_queries(query.queries.clone());
    if let Some(edns) = query.edns {
        reply.set_edns(edns);
    }
    reply
}

/// A reply with these answers, under the question's name.
pub(super) fn answered(query: &[u8], answers: Vec<RData>) -> Message {
    let mut reply = reply(query, ResponseCode::NoError);
    let name: Name = reply.queries[0].name().clone();
    reply.add_answers(answers.into_iter().map(|data| Record::from_rdata(name.clone(), 300, data)));
    reply
}

/// The bytes of one message, as a behaviour gives them.
pub(super) fn one(message: &Message) -> Vec<Vec<u8>> {
    vec![message.to_vec().unwrap()]
}

/// A `resolv.conf` with these servers, in a folder that goes with the handle.
pub(super) fn resolv_conf(servers: &[Ipv4Addr]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    std::fs::write(&path, lines(servers)).unwrap();
    (dir, path)
}

/// Its text.
pub(super) fn lines(servers: &[Ipv4Addr]) -> String {
    servers.iter().map(|server| format!("nameserver {server}\n")).collect()
}
