//! Real sockets on loopback addresses of their own.

use super::*;
use crate::{Config, Gossip};

async fn start(name: &str, address: &str, seed: Option<&str>) -> Gossip {
    let config = Config {
        name: name.parse().unwrap(),
        advertise: address.parse().unwrap(),
        seeds: seed.iter().map(ToString::to_string).collect(),
        known: Vec::new(),
        epoch: 1,
        endpoints: Vec::new(),
    };
    Gossip::start(config).await.unwrap()
}

async fn meet(one: &Gossip, other: &Gossip) {
    let met = async {
        while one.members().is_empty() || other.members().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), met).await.unwrap();
}

const WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn members_ask_each_other_and_strangers_are_turned_away() {
    let (a, b) = ("127.71.0.1:17946", "127.71.0.2:17946");
    let (one, other) = (start("a", a, None).await, start("b", b, Some(a)).await);
    meet(&one, &other).await;
    let asked = other.clone();
    tokio::spawn(async move {
        loop {
            let ask = asked.asked().await;
            assert_eq!(ask.from, Ipv4Addr::new(127, 71, 0, 1));
            let body = [b"you said ".as_slice(), &ask.body].concat();
            ask.answer(body);
        }
    });
    let told = one.ask(b.parse().unwrap(), b"hello", WITHIN).await.unwrap();
    assert_eq!(told, b"you said hello");
    let large = vec![7; MAX_QUESTION];
    let told = one.ask(b.parse().unwrap(), &large, WITHIN).await.unwrap();
    assert_eq!(told.len(), large.len() + 9);

    let stranger = Ipv4Addr::new(127, 71, 0, 9);
    let refused = ask(stranger, b.parse().unwrap(), b"hello", WITHIN).await;
    assert!(matches!(refused, Err(AskError::Stranger { .. })), "{refused:?}");
}

#[tokio::test]
async fn silence_a_closed_port_and_an_older_agent_are_told_apart() {
    let (a, b) = ("127.71.1.1:17946", "127.71.1.2:17946");
    let (one, other) = (start("a", a, None).await, start("b", b, Some(a)).await);
    meet(&one, &other).await;
    let short = Duration::from_millis(200);
    // Nobody reads the questions.
    let silent = one.ask(b.parse().unwrap(), b"?", short).await;
    assert!(matches!(silent, Err(AskError::Silent { .. })), "{silent:?}");
    let nobody = one.ask("127.71.1.3:17946".parse().unwrap(), b"?", short).await;
    assert!(matches!(nobody, Err(AskError::Connect { .. })), "{nobody:?}");
    // One that does not know a frame's kind hangs up.
    let listener = tokio::net::TcpListener::bind("127.71.1.4:17946").await.unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_frame(&mut stream, MAX_FRAME, WITHIN).await.unwrap();
    });
    let older = one.ask("127.71.1.4:17946".parse().unwrap(), b"?", WITHIN).await;
    assert!(matches!(older, Err(AskError::Older { .. })), "{older:?}");
}

#[tokio::test]
async fn more_questions_than_there_are_places_for_one_host_are_told_so() {
    let (a, b) = ("127.71.2.1:17946", "127.71.2.2:17946");
    let (one, other) = (start("a", a, None).await, start("b", b, Some(a)).await);
    meet(&one, &other).await;
    let mut asks = tokio::task::JoinSet::new();
    for _ in 0..MAX_ASKS_EACH {
        let one = one.clone();
        asks.spawn(async move { one.ask(b.parse().unwrap(), b"?", WITHIN).await });
    }
    let mut held = Vec::new();
    for _ in 0..MAX_ASKS_EACH {
        held.push(other.asked().await);
    }
    let busy = one.ask(b.parse().unwrap(), b"?", WITHIN).await;
    assert!(matches!(busy, Err(AskError::Busy { .. })), "{busy:?}");
    // The gossip itself has places of its own, and the held ones are answered still.
    held.into_iter().for_each(|ask| ask.answer(b"!".to_vec()));
    while let Some(answer) = asks.join_next().await {
        assert_eq!(answer.unwrap().unwrap(), b"!");
    }
}

#[tokio::test]
async fn an_echo_comes_from_whoever_gossips() {
    let address = "127.71.3.1:17946";
    let _one = start("a", address, None).await;
    let own = Ipv4Addr::new(127, 71, 3, 2);
    echo(own, address.parse().unwrap(), WITHIN).await.unwrap();
    let closed = echo(own, "127.71.3.3:17946".parse().unwrap(), WITHIN).await.unwrap_err();
    assert_eq!(closed.kind(), io::ErrorKind::ConnectionRefused);
    let mute = UdpSocket::bind("127.71.3.4:17946").await.unwrap();
    let silent = echo(
        own,
        mute.local_addr().unwrap().to_string().parse().unwrap(),
        Duration::from_millis(50),
    );
    assert_eq!(silent.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
}
