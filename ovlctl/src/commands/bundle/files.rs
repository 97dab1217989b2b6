//! Reads files for an archive: regular ones alone, so many bytes of each, and without waiting for ever.
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ovl_agent::config::process::open_regular;

/// How long a file is waited for that the archive itself is made from: it may be on a disk or a host that
/// does not answer. Beyond it, it counts as one that cannot be read.
pub(super) const READ_WITHIN: Duration = Duration::from_secs(5);

/// The first `most` bytes as text, and whether there are more.
pub(super) fn read(file: &Path, most: usize) -> io::Result<(String, bool)> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    open_regular(file)?.take(limit).read_to_end(&mut bytes)?;
    let cut = bytes.len() > most;
    bytes.truncate(most);
    Ok((String::from_utf8_lossy(&bytes).into_owned(), cut))
}

/// As [`read`], and not for longer than [`READ_WITHIN`].
pub(super) fn read_within(file: &Path, most: usize) -> io::Result<(String, bool)> {
    let file = file.to_owned();
    within(READ_WITHIN, move || read(&file, most))
        .unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
}

/// What comes of it, if that comes within this time. What hangs is left to itself.
pub(super) fn within<T: Send + 'static>(
    time: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, result) = mpsc::sync_channel(1);
    thread::spawn(move || done.send(work()));
    result.recv_timeout(time).ok()
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn what_is_no_regular_file_is_told_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let [fifo, file] = ["fifo", "file"].map(|name| folder.path().join(name));
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR).unwrap();
        std::fs::write(&file, "abcd").unwrap();
        for place in [&fifo, Path::new("/dev/zero"), Path::new("/dev/tty"), folder.path()] {
            let said = read(place, 10).unwrap_err().to_string();
            assert_eq!(said, "it is not a regular file", "{}", place.display());
        }
        assert_eq!(read(&file, 4).unwrap(), ("abcd".to_owned(), false));
        assert_eq!(read_within(&file, 3).unwrap(), ("abc".to_owned(), true));
        let missing = read_within(&folder.path().join("none"), 3).unwrap_err();
        assert_eq!(
            missing.kind(),
            io::ErrorKind::NotFound,
            "the agent takes its usual settings then"
        );
    }

    #[test]
    fn what_hangs_is_left_to_itself() {
        let (_open, never) = mpsc::channel::<()>();
        assert_eq!(within(Duration::from_millis(20), move || never.recv()), None);
    }
}
