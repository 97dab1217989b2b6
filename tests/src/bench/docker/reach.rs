//! From the return of `docker run -d` to the first answer by name from the other host.
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::field::Network;
use super::{IMAGE, pid, run};
use crate::wait::Deadline;
use crate::{LabError, names};

/// Docker's resolver in every container that is on a network of its user's.
const RESOLVER: ([u8; 4], u16) = ([127, 0, 0, 11], 53);
/// Nothing listens there: the kernel of the container refuses (ICMP port unreachable).
const CLOSED: u16 = 9;
/// Docker does not answer at all when it knows no name and has nobody to ask: then again, soon.
const ANSWER: Duration = Duration::from_millis(10);
const REFUSAL: Duration = Duration::from_millis(10);
const STEP: Duration = Duration::from_millis(1);
const LIMIT: Duration = Duration::from_secs(20);

/// Starts a container on the first host, and gives the milliseconds until the resident of the
/// second has an answer of it; removes it again.
pub(super) fn after_run(network: &Network, round: usize) -> Result<f64, LabError> {
    let (near, far) = (network.docker(0), network.docker(1));
    // A name that was never there, on whichever hosts the network is.
    let name = &format!("new-{round}-{}-{}", network.name(), near.host().name());
    let asker = pid(far, &network.resident(1))?;
    let args = ["run", "-d", "--net", network.name(), "--name", name, IMAGE, "sleep", "600"];
    run(&mut near.command(&args))?;
    let watch = Deadline::after(LIMIT);
    let sandbox = *far.host().sandbox();
    let took = sandbox.inside_network_of(&asker, || {
        let address = ask(name, &watch)?;
        answer(address, &watch)
    });
    near.docker(&["rm", "-f", name])?.require()?;
    took.map(|took| took.as_secs_f64() * 1e3).map_err(|error| LabError::BadAnswer {
        command: format!("reaching {name} on {}", network.title()),
        answer: error.to_string(),
    })
}

fn ask(name: &str, watch: &Deadline) -> io::Result<Ipv4Addr> {
    loop {
        match names::ask(SocketAddr::from(RESOLVER), name, ANSWER) {
            Ok((address, _)) => return Ok(address),
            Err(error) if watch.passed() => return Err(error),
            Err(_) => std::thread::sleep(STEP),
        }
    }
}

fn answer(address: Ipv4Addr, watch: &Deadline) -> io::Result<Duration> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((address, CLOSED))?;
    socket.set_read_timeout(Some(REFUSAL))?;
    loop {
        let answered = socket.send(b"?").and_then(|_| socket.recv(&mut [0; 8]));
        match answered {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                return Ok(watch.elapsed());
            }
            Err(error) if watch.passed() => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
}
