//! Writes a .tar.gz of texts in one folder.
use std::fs::File;
use std::io;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use tar::{Builder, EntryType, Header};

pub(super) struct Archive {
    builder: Builder<GzEncoder<File>>,
    folder: String,
    /// Of all files, in seconds since 1970.
    time: u64,
}

impl Archive {
    pub(super) fn new(file: File, folder: &str, made: Timestamp) -> Archive {
        let builder = Builder::new(GzEncoder::new(file, Compression::default()));
        let time = u64::try_from(made.as_second()).unwrap_or_default();
        Archive { builder, folder: folder.to_owned(), time }
    }

    pub(super) fn add(&mut self, path: &str, text: &str) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(u64::try_from(text.len()).unwrap_or(u64::MAX));
        header.set_mode(0o600);
        header.set_mtime(self.time);
        let path = format!("{}/{path}", self.folder);
        self.builder.append_data(&mut header, path, text.as_bytes())
    }

    /// Its size in bytes.
    pub(super) fn finish(self) -> io::Result<u64> {
        let file = self.builder.into_inner()?.finish()?;
        file.sync_all()?;
        Ok(file.metadata()?.len())
    }
}
