//! One question to a container's DNS server, with the time that the answer took.
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::Container;
use crate::wait::timed;

/// The agents' DNS server, inside every container.
const SERVER: ([u8; 4], u16) = ([169, 254, 53, 53], 53);
const LIMIT: Duration = Duration::from_secs(2);
/// RFC 1035 section 4.2.1: the longest answer over UDP without EDNS.
const LONGEST_ANSWER: usize = 512;
const HEADER: usize = 12;
const A_IN: [u8; 4] = [0, 1, 0, 1];

/// Asks for the address of `name`, as a program in the container would.
///
/// # Errors
/// No answer in time, or one without an address.
pub fn resolve(container: &Container, name: &str) -> io::Result<(Ipv4Addr, Duration)> {
    container.sandbox().inside_network(|| ask(SocketAddr::from(SERVER), name, LIMIT))
}

/// Asks a server for the address of `name`, from the network namespace of the calling thread.
///
/// # Errors
/// No answer within `limit`, or one without an address.
pub fn ask(server: SocketAddr, name: &str, limit: Duration) -> io::Result<(Ipv4Addr, Duration)> {
    let query = query(name);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(limit))?;
    socket.connect(server)?;
    let mut answer = [0; LONGEST_ANSWER];
    let (length, took) = timed(|| {
        socket.send(&query)?;
        socket.recv(&mut answer)
    });
    let address = first_address(&answer[..length?], query.len());
    let none = || io::Error::new(io::ErrorKind::NotFound, "the answer holds no address");
    Ok((address.ok_or_else(none)?, took))
}

/// Asks without waiting; [`received`] looks for the answer.
///
/// # Errors
/// Those of sockets.
pub fn send(server: SocketAddr, name: &str) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(server)?;
    socket.send(&query(name))?;
    Ok(socket)
}

/// The answer to what [`send`] asked: none yet, or its first address if it has one.
///
/// # Errors
/// Those of sockets, a server that is not there among them.
pub fn received(socket: &UdpSocket) -> io::Result<Option<Option<Ipv4Addr>>> {
    let mut answer = [0; LONGEST_ANSWER];
    match socket.recv(&mut answer) {
        Ok(length) => Ok(Some(first_address(&answer[..length], question_end(&answer[..length])))),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the only question of an answer ends.
fn question_end(answer: &[u8]) -> usize {
    let mut end = HEADER;
    while let Some(length) = answer.get(end).filter(|length| **length > 0) {
        end += 1 + usize::from(*length);
    }
    end + 1 + A_IN.len()
}

/// A query with recursion desired (RFC 1035 section 4.1).
fn query(name: &str) -> Vec<u8> {
    let mut query = vec![0x0f, 0x0d, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        // A DNS label is at most 63 bytes, and the lab's names are labels.
        query.push(u8::try_from(label.len()).unwrap_or(63));
        query.extend(label.as_bytes());
    }
    query.push(0);
    query.extend(A_IN);
    query
}

/// The address of the first record, which comes right after the repeated question.
fn first_address(answer: &[u8], question_end: usize) -> Option<Ipv4Addr> {
    let answers = u16::from_be_bytes([*answer.get(6)?, *answer.get(7)?]);
    if answers == 0 || question_end < HEADER {
        return None;
    }
    let mut rest = answer.get(question_end..)?;
    // Its name: labels, or a pointer of two bytes.
    loop {
        let length = usize::from(*rest.first()?);
        let (skip, last) = if length >= 0xc0 { (2, true) } else { (1 + length, length == 0) };
        rest = rest.get(skip..)?;
        if last {
            break;
        }
    }
    // Type and class, then TTL (4) and length (2).
    if rest.get(..4)? != A_IN {
        return None;
    }
    let octets: [u8; 4] = rest.get(10..14)?.try_into().ok()?;
    Some(Ipv4Addr::from(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> (Vec<u8>, usize) {
        let mut bytes = query("leader");
        let end = bytes.len();
        bytes[7] = 1;
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 88, 0, 2]);
        (bytes, end)
    }

    #[test]
    fn the_first_address_is_read() {
        let (bytes, end) = answer();
        assert_eq!(first_address(&bytes, end), Some(Ipv4Addr::new(10, 88, 0, 2)));
    }

    #[test]
    fn the_end_of_the_question_is_found() {
        let (bytes, end) = answer();
        assert_eq!(question_end(&bytes), end);
    }

    #[test]
    fn a_cut_off_answer_has_no_address() {
        let (bytes, end) = answer();
        for length in 0..bytes.len() {
            assert_eq!(first_address(&bytes[..length], end), None, "{length} bytes");
        }
    }
}
