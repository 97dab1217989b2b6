//! From the request of an attach to an endpoint that answers by name from another host.
//!
//! A container on another host asks for the name until it gets an address, and sends to that
//! address until it gets an answer. The clock starts before `ovlctl` is started and stops at that
//! answer, so it holds everything: the command, the store, the kernel, the gossip, the other
//! host's kernel, the name.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Plan, median, ms, quantile};
use crate::wait::Deadline;
use crate::{Container, Lab, LabError, NodeName, names, table};

/// The echo service of the new endpoint (RFC 862).
const ECHO: u16 = 7;
const STEP: Duration = Duration::from_millis(1);
const LIMIT: Duration = Duration::from_secs(20);

pub(super) fn measure(lab: &Lab, plan: Plan) -> Result<(), LabError> {
    let asker = lab.attach("workerbee-1", "bench", "asker")?;
    let host = lab.host("queenbee")?;
    let (mut whole, mut command) = (Vec::new(), Vec::new());
    for round in 0..plan.attaches {
        let name: NodeName = format!("new-{round}").parse()?;
        let container = Container::create(&host, &name)?;
        let watch = Deadline::after(LIMIT);
        let stop = AtomicBool::new(false);
        let (asked, took) = std::thread::scope(|scope| {
            let echo = scope.spawn(|| container.sandbox().inside_network(|| echo(&stop)));
            let asking = scope.spawn(|| reached(&asker, name.as_str(), &watch));
            let attached = container.join("bench", &[]).map(|()| watch.elapsed());
            let asked =
                asking.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")));
            stop.store(true, Ordering::Relaxed);
            let _ = echo.join();
            (asked, attached)
        });
        let asked = asked.map_err(|e| LabError::BadAnswer {
            command: format!("reaching {name}"),
            answer: e.to_string(),
        })?;
        whole.push(asked.as_secs_f64() * 1e3);
        command.push(took?.as_secs_f64() * 1e3);
        container.detach()?;
    }
    let (first, last) = (quantile(&mut whole, 0.05), quantile(&mut whole, 0.95));
    let rows = [
        vec![
            "reached by name from another host".to_owned(),
            ms(median(&mut whole)),
            ms(first),
            ms(last),
        ],
        vec![
            "ovlctl endpoint attach returned".to_owned(),
            ms(median(&mut command)),
            ms(quantile(&mut command, 0.05)),
            ms(quantile(&mut command, 0.95)),
        ],
    ];
    println!("{}", table::render(&["attach, ms after the request", "median", "p5", "p95"], &rows));
    Ok(())
}

/// How long until `name` has an address and something there answers.
fn reached(asker: &Container, name: &str, watch: &Deadline) -> io::Result<Duration> {
    let address = loop {
        match names::resolve(asker, name) {
            Ok((address, _)) => break address,
            Err(error) if watch.passed() => return Err(error),
            Err(_) => std::thread::sleep(STEP),
        }
    };
    asker.sandbox().inside_network(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(SocketAddr::from((address, ECHO)))?;
        socket.set_read_timeout(Some(STEP * 5))?;
        loop {
            // A refusal comes back before the echo service is there; both are tried again.
            let answered = socket.send(b"?").and_then(|_| socket.recv(&mut [0; 8]));
            match answered {
                Ok(_) => return Ok(watch.elapsed()),
                Err(error) if watch.passed() => return Err(error),
                Err(_) => {}
            }
        }
    })
}

fn echo(stop: &AtomicBool) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, ECHO))?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    let mut buffer = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // Who does not hear it asks again.
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
    Ok(())
}
