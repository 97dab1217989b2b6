//! The command line and the variables of an agent, from outside of it: those of a process that runs, and those
//! of the service's file. They may hold secrets.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Variables for the service, one `NAME=VALUE` a line.
pub const ENVIRONMENT_FILE: &str = "/etc/ovl/agent.env";

/// Bytes of a command line, an environment or a file that are read.
const READ_MAX: u64 = 1 << 20;

/// Names and values.
pub type Variables = Vec<(OsString, OsString)>;

/// The command line of a process (`/proc/PID/cmdline`). `None`: it cannot be read.
pub fn command_line(pid: u32) -> Option<Vec<OsString>> {
    let line = read(Path::new(&format!("/proc/{pid}/cmdline")))?;
    Some(words(&line).collect())
}

/// The variables with which a process was started (`/proc/PID/environ`). `None`: they cannot be read.
pub fn environment(pid: u32) -> Option<Variables> {
    let environment = read(Path::new(&format!("/proc/{pid}/environ")))?;
    Some(words(&environment).filter_map(|word| pair(word.as_bytes())).collect())
}

/// Those of a file, as systemd reads it (systemd.exec(5), `EnvironmentFile=`), but for lines that go on in
/// the next one. Empty: there is no such file.
pub fn variables_of(file: &Path) -> Variables {
    read(file).map(|text| assignments(&text).collect()).unwrap_or_default()
}

/// Those of some words `NAME=VALUE`, as systemd shows them.
pub fn variables_in(words: &str) -> Variables {
    words.split_whitespace().filter_map(|word| pair(word.as_bytes())).collect()
}

/// Opens a file to read it, and nothing else: whoever opens a pipe waits for its writer, and a device may do
/// something. A link is followed.
///
/// # Errors
/// It cannot be opened (open(2)), or is no regular file.
pub fn open_regular(path: &Path) -> io::Result<fs::File> {
    let regular = |metadata: &fs::Metadata| match metadata.is_file() {
        true => Ok(()),
        false => Err(io::Error::other("it is not a regular file")),
    };
    regular(&fs::metadata(path)?)?;
    // It may have become another one since.
    let flags = nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_NOCTTY;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    regular(&file.metadata()?)?;
    Ok(file)
}

/// The text of a regular file; of a long one the beginning.
///
/// # Errors
/// As of [`open_regular`]; also when it is no UTF-8 (`InvalidData`).
pub fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open_regular(path)?.take(READ_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path).ok()?.take(READ_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Each is followed by a zero, but for the last, perhaps, when a process has written over it.
fn words(bytes: &[u8]) -> impl Iterator<Item = OsString> {
    let words = bytes.split_inclusive(|byte| *byte == 0);
    words.map(|word| OsStr::from_bytes(word.strip_suffix(b"\0").unwrap_or(word)).to_owned())
}

fn assignments(text: &[u8]) -> impl Iterator<Item = (OsString, OsString)> {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let line = line.trim_ascii();
        let comment = line.first().is_none_or(|first| matches!(first, b'#' | b';'));
        let (name, value) = pair(line).filter(|_| !comment)?;
        let bytes = value.as_bytes().trim_ascii();
        let quoted = |quote: u8| bytes.strip_prefix(&[quote])?.strip_suffix(&[quote]);
        let bare = quoted(b'"').or_else(|| quoted(b'\'')).unwrap_or(bytes);
        Some((name, OsStr::from_bytes(bare).to_owned()))
    })
}

fn pair(assignment: &[u8]) -> Option<(OsString, OsString)> {
    let equals = assignment.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (&assignment[..equals], &assignment[equals + 1..]);
    let owned = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    (!name.is_empty()).then(|| (owned(name.trim_ascii()), owned(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_variables_is_read_as_the_service_manager_reads_it() {
        let text =
            b"# a comment\n; another\nOVL_A=1\n OVL_B = \"two words\" \nC='x'\nD=\njunk\n=x\nE=a=b";
        let read: Vec<(String, String)> = assignments(text)
            .map(|(name, value)| (name.into_string().unwrap(), value.into_string().unwrap()))
            .collect();
        let expected =
            [("OVL_A", "1"), ("OVL_B", "two words"), ("C", "x"), ("D", ""), ("E", "a=b")];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(variables_of(Path::new("/nowhere")), []);
        // It would be read for ever.
        assert_eq!(variables_of(Path::new("/dev/zero")), []);
    }

    #[test]
    fn words_may_be_empty_and_a_process_that_has_ended_has_none() {
        for (bytes, expected) in [
            (&b""[..], &[][..]),
            (b"\0", &[""]),
            (b"a\0\0b\0", &["a", "", "b"]),
            (b"a\0b", &["a", "b"]),
        ] {
            assert_eq!(words(bytes).collect::<Vec<_>>(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn this_process_has_a_command_line_and_an_environment() {
        let pid = std::process::id();
        assert_eq!(command_line(pid).unwrap().len(), std::env::args_os().count());
        assert!(environment(pid).unwrap().iter().any(|(name, _)| name == "PATH"));
    }
}
