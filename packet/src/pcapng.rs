//! Writes frames to a file in the pcapng format (draft-ietf-opsawg-pcapng), as Wireshark reads it: one
//! section, one interface, time in nanoseconds.
//!
//! Little-endian. Text is UTF-8; what is longer than a field can say is cut.

use std::io::{self, Write};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use crate::tap::{Direction, Frame};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const INTERFACE: u32 = 1;
const NAMES: u32 = 4;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;

/// LINKTYPE_ETHERNET.
const ETHERNET: u16 = 1;

/// Names in one block; more go into further blocks. Readers refuse blocks that are too large.
const NAMES_IN_BLOCK: usize = 1024;

/// Longest text of one option or name, in bytes; the rest is left out.
const TEXT_MAX: usize = 1024;

/// Where frames come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface<'a> {
    /// The interface's name.
    pub name: &'a str,
    /// Of which host it is, for a person.
    pub description: &'a str,
    /// What was kept of each frame, in bytes.
    pub snaplen: u32,
    /// What was let through, in words.
    pub filter: &'a str,
}

/// What came of it. All are counts of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// That were written.
    pub written: u64,
    /// That passed the filter, and found no room in the kernel's buffer.
    pub dropped: u64,
}

/// A file that is being written. Every call writes whole blocks: a file that ends early is still good.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Begins the file; `application` says what writes it.
    pub fn new(out: W, application: &str, interface: &Interface<'_>) -> io::Result<Writer<W>> {
        let mut writer = Writer { out };
        let mut section = Vec::new();
        section.extend(BYTE_ORDER_MAGIC.to_le_bytes());
        section.extend([1, 0, 0, 0]);
        // The section's length: not said.
        section.extend(u64::MAX.to_le_bytes());
        text_option(&mut section, 4, application);
        end_of_options(&mut section);
        writer.block(SECTION_HEADER, &section)?;
        let mut body = Vec::new();
        body.extend(ETHERNET.to_le_bytes());
        body.extend([0, 0]);
        body.extend(interface.snaplen.to_le_bytes());
        text_option(&mut body, 2, interface.name);
        text_option(&mut body, 3, interface.description);
        // Ten to the minus nine.
        option(&mut body, 9, &[9]);
        let filter = cut(interface.filter);
        option(&mut body, 11, &[&[0], filter.as_bytes()].concat());
        end_of_options(&mut body);
        writer.block(INTERFACE, &body)?;
        Ok(writer)
    }

    /// Names of addresses, for readers to show.
    pub fn names(&mut self, names: &[(IpAddr, &str)]) -> io::Result<()> {
        for names in names.chunks(NAMES_IN_BLOCK) {
            let mut body = Vec::new();
            for (address, name) in names {
                let mut record = match address {
                    IpAddr::V4(v4) => v4.octets().to_vec(),
                    IpAddr::V6(v6) => v6.octets().to_vec(),
                };
                record.extend(cut(name).bytes().filter(|byte| *byte != 0));
                record.push(0);
                option(&mut body, if address.is_ipv4() { 1 } else { 2 }, &record);
            }
            end_of_options(&mut body);
            self.block(NAMES, &body)?;
        }
        Ok(())
    }

    /// One frame.
    pub fn frame(&mut self, frame: &Frame) -> io::Result<()> {
        let mut body = Vec::with_capacity(frame.bytes.len() + 48);
        body.extend(0u32.to_le_bytes());
        body.extend(time(frame.at));
        for length in [frame.bytes.len(), frame.length] {
            body.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        }
        padded(&mut body, &frame.bytes);
        let direction: u32 = match frame.direction {
            Direction::In => 1,
            Direction::Out => 2,
            Direction::Other => 0,
        };
        option(&mut body, 2, &direction.to_le_bytes());
        end_of_options(&mut body);
        self.block(PACKET, &body)
    }

    /// The counts, at the end.
    pub fn statistics(&mut self, at: SystemTime, statistics: &Statistics) -> io::Result<()> {
        let Statistics { written, dropped } = *statistics;
        let mut body = Vec::new();
        body.extend(0u32.to_le_bytes());
        body.extend(time(at));
        // Accepted by the filter, delivered, dropped by the system; "dropped by the interface" is what
        // Wireshark shows as dropped.
        for (code, count) in
            [(5, dropped), (6, written.saturating_add(dropped)), (7, dropped), (8, written)]
        {
            option(&mut body, code, &count.to_le_bytes());
        }
        end_of_options(&mut body);
        self.block(STATISTICS, &body)
    }

    /// Hands everything on to where it goes.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// What it was made from.
    pub fn into_inner(self) -> W {
        self.out
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len() + 12)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "too large for a block"))?
            .to_le_bytes();
        self.out.write_all(&[&kind.to_le_bytes(), &length, body, &length].concat())
    }
}

/// An option, or a record of the names' block: code, length, value, padding.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_le_bytes());
    body.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
    padded(body, value);
}

fn text_option(body: &mut Vec<u8>, code: u16, text: &str) {
    if !text.is_empty() {
        option(body, code, cut(text).as_bytes());
    }
}

fn end_of_options(body: &mut Vec<u8>) {
    option(body, 0, &[]);
}

/// To a multiple of four bytes.
fn padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend(bytes);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Nanoseconds since 1970, the upper half first; good until the year 2554.
fn time(at: SystemTime) -> impl Iterator<Item = u8> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    let [upper, lower] = [(nanos >> 32) as u32, nanos as u32];
    upper.to_le_bytes().into_iter().chain(lower.to_le_bytes())
}

#[cfg(test)]
#[path = "pcapng_tests.rs"]
mod tests;
