//! Where captured packets go.
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::tz::TimeZone;
use ovl_agent::control::api::captures::{Capture, CapturedFrame, Direction};
use ovl_packet::pcapng::{Interface, Statistics, Writer};
use ovl_packet::{Direction as Way, Frame};

use super::directory::Directory;
use super::record::Record;
use crate::error::Error;
use crate::output::{json_line, print};

/// Standard output.
const STDOUT: &str = "-";

/// Lines, JSON or a file.
pub(super) struct Sink {
    kind: Kind,
    vxlan_port: u16,
    directory: Directory,
    /// A name was missing since the directory was read.
    lacking: bool,
    written: u64,
    /// When the last packet was seen.
    last: SystemTime,
}

enum Kind {
    Lines(TimeZone),
    Json,
    File { path: PathBuf, writer: Writer<Out> },
}

/// Where bytes go.
type Out = Box<dyn Write + Send>;

/// A file, or what is like one, that is open.
pub(super) struct Target {
    path: PathBuf,
    out: Out,
    /// What is to take the place of a file, once there is something to write.
    new: Option<New>,
}

impl Target {
    /// Packets are for their owner alone, and not for a terminal.
    pub(super) fn open(path: &Path) -> Result<Target, Error> {
        let mut new = None;
        let out: Out = if path != Path::new(STDOUT) {
            let file;
            (file, new) = open(path).map_err(|error| failed(path, error))?;
            Box::new(file)
        } else if io::stdout().is_terminal() {
            return Err(Error::Unconfirmed(
                "--write - writes bytes that would garble a terminal: lead them into a file or a pipe",
            ));
        } else {
            Box::new(io::stdout())
        };
        Ok(Target { path: path.to_owned(), out, new })
    }
}

/// A file that takes the place of another, or is gone with this.
struct New(PathBuf);

impl New {
    fn replace(&self, path: &Path) -> io::Result<()> {
        std::fs::rename(&self.0, path)
    }
}

impl Drop for New {
    fn drop(&mut self) {
        // Not there any more when it has taken the place.
        drop(std::fs::remove_file(&self.0));
    }
}

/// A pipe or a device as it is. A file is made anew, to take the old one's place: whoever owns that one,
/// has it open, or made it a link to another gets nothing of this.
fn open(path: &Path) -> io::Result<(File, Option<New>)> {
    if std::fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        return Ok((OpenOptions::new().write(true).open(path)?, None));
    }
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let mut new = name.to_owned();
    new.push(format!(".{}", std::process::id()));
    let new = path.with_file_name(new);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    Ok((file, Some(New(new))))
}

/// What writes does so for as long as its reader takes: not where signals are minded.
impl Sink {
    pub(super) fn open(
        target: Option<Target>,
        json: bool,
        capture: &Capture,
        directory: Directory,
    ) -> Result<Sink, Error> {
        let kind = match target {
            Some(Target { path, out, new }) => {
                let begun = begin(out, capture);
                let writer = begun.and_then(|writer| {
                    new.map_or(Ok(()), |new| new.replace(&path))?;
                    Ok(writer)
                });
                let writer = writer.map_err(|error| failed(&path, error))?;
                Kind::File { path, writer }
            }
            None if json => Kind::Json,
            None => Kind::Lines(TimeZone::system()),
        };
        let (vxlan_port, last) = (capture.vxlan_port, SystemTime::UNIX_EPOCH);
        Ok(Sink { kind, vxlan_port, directory, lacking: false, written: 0, last })
    }

    /// Writes packets, and hands them on before it returns.
    pub(super) fn take(&mut self, frames: Vec<CapturedFrame>) -> Result<(), Error> {
        self.written += frames.len() as u64;
        if let Some(frame) = frames.last() {
            self.last = SystemTime::UNIX_EPOCH + Duration::from_nanos(frame.at);
        }
        let records = frames.iter().map(|f| Record::new(f, self.vxlan_port, &self.directory));
        let records: Vec<Record> = records.collect();
        self.lacking |= records.iter().any(Record::lacks_names);
        match &mut self.kind {
            Kind::Lines(zone) => {
                print(&records.iter().map(|record| record.line(zone)).collect::<String>())
            }
            Kind::Json => print(&records.iter().map(json_line).collect::<Result<String, _>>()?),
            Kind::File { path, writer } => {
                let mut frames = frames.into_iter();
                let written = frames.try_for_each(|frame| writer.frame(&frame_of(frame)));
                written.and_then(|()| writer.flush()).map_err(|error| failed(path, error))
            }
        }
    }

    /// Names were missing, and it is worth asking for them again.
    pub(super) fn wants_names(&self) -> bool {
        self.lacking && self.directory.is_old()
    }

    /// Takes names that were read anew.
    pub(super) fn refresh(&mut self, new: Directory) -> Result<(), Error> {
        let old = self.directory.replace(new);
        self.lacking = false;
        self.write_names(Some(&old))
    }

    /// The names that are known at the start.
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        self.write_names(None)
    }

    /// The end of a file; the others have none.
    pub(super) fn finish(&mut self, dropped: u64) -> Result<(), Error> {
        let Kind::File { path, writer } = &mut self.kind else { return Ok(()) };
        let statistics = Statistics { written: self.written, dropped };
        let done = writer.statistics(self.last, &statistics).and_then(|()| writer.flush());
        done.map_err(|error| failed(path, error))
    }

    fn write_names(&mut self, before: Option<&Directory>) -> Result<(), Error> {
        let Kind::File { path, writer } = &mut self.kind else { return Ok(()) };
        let names = self.directory.beyond(before);
        let names: Vec<_> = names.iter().map(|(address, name)| (*address, name.as_str())).collect();
        writer.names(&names).and_then(|()| writer.flush()).map_err(|error| failed(path, error))
    }
}

fn begin(out: Out, capture: &Capture) -> io::Result<Writer<Out>> {
    let interface = Interface {
        name: &capture.interface,
        description: &format!("of host {}", capture.host),
        snaplen: capture.snaplen,
        filter: &capture.filter,
    };
    let application = format!("ovlctl {}", ovl_agent::VERSION);
    Writer::new(Box::new(BufWriter::new(out)), &application, &interface)
}

fn failed(path: &Path, error: io::Error) -> Error {
    match path == Path::new(STDOUT) {
        true => Error::Output(error),
        false => Error::File { path: path.to_owned(), error },
    }
}

fn frame_of(frame: CapturedFrame) -> Frame {
    Frame {
        bytes: frame.bytes,
        length: usize::try_from(frame.length).unwrap_or(usize::MAX),
        direction: match frame.direction {
            Direction::In => Way::In,
            Direction::Out => Way::Out,
            Direction::Other => Way::Other,
        },
        at: SystemTime::UNIX_EPOCH + Duration::from_nanos(frame.at),
    }
}
