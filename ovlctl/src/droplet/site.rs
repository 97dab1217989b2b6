//! A cluster at the provider and in the record: what all commands work on.
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::digitalocean::{ApiError, DigitalOcean, Droplet};
use super::names::{Cluster, OURS, is_droplet_name};
use super::record::{Book, Entry, Folder, Record, RecordError, Request};
use super::ssh::{CONFIG, Known, SshError, Target, config_text, public_keys};

/// Why a droplet, or all of them, could not be what was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DropletError {
    /// The provider.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A droplet.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// In words of its own: complete sentences.
    #[error("{0}")]
    Said(String),
    /// The same, and it may go better later.
    #[error("{0}")]
    Later(String),
}

impl DropletError {
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            DropletError::Api(error) => error.is_passing(),
            DropletError::Record(error) => matches!(error, RecordError::Busy { .. }),
            DropletError::Ssh(error) => error.is_passing(),
            DropletError::Said(_) => false,
            DropletError::Later(_) => true,
        }
    }
}

/// See the module.
pub(crate) struct Site {
    pub(crate) api: DigitalOcean,
    pub(crate) cluster: Cluster,
    /// Who to be on droplets.
    pub(crate) user: String,
    folder: Folder,
    book: Mutex<Book>,
}

impl Site {
    /// Holds the record: one program at a time changes a cluster.
    pub(crate) fn open(
        api: DigitalOcean,
        cluster: Cluster,
        folder: Folder,
        user: String,
    ) -> Result<Site, RecordError> {
        let book = Book::open(folder.clone(), &cluster)?;
        Ok(Site { api, cluster, user, folder, book: Mutex::new(book) })
    }

    /// Never held over an await.
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn record(&self) -> Record {
        self.book().record.clone()
    }

    /// Changes what is recorded of a droplet, if anything is, and writes it.
    pub(crate) fn note(
        &self,
        name: &str,
        change: impl FnOnce(&mut Entry),
    ) -> Result<(), RecordError> {
        let mut book = self.book();
        let Some(entry) = book.record.droplets.get_mut(name) else { return Ok(()) };
        change(entry);
        book.save()
    }

    pub(crate) fn known<'a>(&'a self, name: &'a str, id: u64) -> Known<'a> {
        Known::of(&self.folder, name, id)
    }

    /// What ssh has to know of a droplet; `None` while it has no address.
    pub(crate) fn target(&self, droplet: &Droplet) -> Option<Target> {
        target(&self.folder, droplet)
    }

    /// Writes ssh's configuration for these.
    pub(crate) fn write_config(&self, droplets: &[Droplet]) -> Result<PathBuf, RecordError> {
        write_config(&self.folder, droplets, &self.user)
    }

    /// Those at the provider.
    pub(crate) async fn droplets(&self) -> Result<Vec<Droplet>, ApiError> {
        ours(&self.api, &self.cluster).await
    }
}

/// The droplets of a cluster; none that lacks our tags.
pub(crate) async fn ours(api: &DigitalOcean, cluster: &Cluster) -> Result<Vec<Droplet>, ApiError> {
    let tag = cluster.tag();
    let mut all = api.tagged(&tag).await?;
    all.retain(|one| one.has_tag(&tag) && one.has_tag(OURS));
    // One that was renamed is still ours; as it is called it could be nobody's host name, nor a file's.
    for one in all.iter_mut().filter(|one| !is_droplet_name(&one.name)) {
        one.name = format!("droplet-{}", one.id);
    }
    all.sort_by(|a, b| natural(&a.name).cmp(&natural(&b.name)).then(a.id.cmp(&b.id)));
    // A list that changes while its pages are read may show one of them twice.
    all.dedup_by_key(|one| one.id);
    Ok(all)
}

pub(crate) fn target(folder: &Folder, droplet: &Droplet) -> Option<Target> {
    let known_hosts = Known::of(folder, &droplet.name, droplet.id).path();
    let config = folder.join(CONFIG);
    droplet.public().map(|address| Target {
        name: droplet.name.clone(),
        address,
        known_hosts,
        config,
    })
}

pub(crate) fn write_config(
    folder: &Folder,
    droplets: &[Droplet],
    user: &str,
) -> Result<PathBuf, RecordError> {
    folder.make()?;
    let record = folder.read()?;
    for one in droplets {
        let request = record.droplets.get(&one.name).and_then(|entry| entry.request.as_ref());
        pin_first(&Known::of(folder, &one.name, one.id), one, request)?;
    }
    let targets: Vec<Target> = droplets.iter().filter_map(|one| target(folder, one)).collect();
    folder.write(CONFIG, &config_text(targets.iter(), user))?;
    Ok(folder.join(CONFIG))
}

/// Whoever connects to a droplet first knows its key, if it came of this request.
pub(crate) fn pin_first(
    known: &Known<'_>,
    droplet: &Droplet,
    request: Option<&Request>,
) -> Result<(), RecordError> {
    let Some(request) = request.filter(|request| droplet.has_tag(&request.tag)) else {
        return Ok(());
    };
    let key = public_keys(&request.host_key).into_iter().next();
    match key {
        Some(key) if !known.is_pinned() => known.pin_with_first([], &key),
        Some(_) | None => Ok(()),
    }
}

/// kvstore and queenbee first, then by name, numbers by their value.
pub(crate) fn natural(name: &str) -> (u8, &str, u64) {
    let rank = match name {
        "kvstore" => 0,
        "queenbee" => 1,
        _ => 2,
    };
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    (rank, stem, name[stem.len()..].parse().unwrap_or_default())
}
