//! A cluster at the provider and in the record: what all commands work on.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::digitalocean::{ApiError, DigitalOcean, Droplet};
use super::names::{Cluster, OURS, is_droplet_name};
use super::record::{Book, CONFIG, Entry, Folder, RECORD, Record, RecordError, Request};
use super::ssh::{Known, Place, SshError, Target, USER, config_text, forget_all, public_keys};

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
    /// The command line asks for what cannot be.
    #[error("{0}")]
    Usage(String),
    /// In words of its own: complete sentences.
    #[error("{0}")]
    Said(String),
    /// The same, and it may go better later.
    #[error("{0}")]
    Later(String),
}

impl DropletError {
    /// Nothing but the command line is wrong.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, DropletError::Usage(_) | DropletError::Api(ApiError::BadUrl { .. }))
    }

    pub(crate) fn is_passing(&self) -> bool {
        match self {
            DropletError::Api(error) => error.is_passing(),
            DropletError::Record(error) => matches!(error, RecordError::Busy { .. }),
            DropletError::Ssh(error) => error.is_passing(),
            DropletError::Usage(_) | DropletError::Said(_) => false,
            DropletError::Later(_) => true,
        }
    }

    /// The same words for another droplet that fails by it.
    pub(crate) fn again(&self) -> DropletError {
        match self.is_passing() {
            true => DropletError::Later(self.to_string()),
            false => DropletError::Said(self.to_string()),
        }
    }
}

/// The droplets of a cluster, and what has become of those that are recorded.
#[derive(Default)]
pub(crate) struct Sight {
    /// None that lacks our tags; also those that lists do not show yet.
    pub(crate) droplets: Vec<Droplet>,
    /// Recorded ones that are there and have lost our tags, by their names here: not to be touched.
    pub(crate) untagged: BTreeMap<String, Droplet>,
    /// Recorded ones that are not there, or were never made.
    pub(crate) gone: BTreeSet<String>,
}

/// See the module.
pub(crate) struct Site {
    pub(crate) api: DigitalOcean,
    pub(crate) cluster: Cluster,
    /// Who to be on droplets.
    pub(crate) user: String,
    folder: Folder,
    book: Mutex<Book>,
    /// Those that ssh was last told of.
    places: Mutex<Vec<Place>>,
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
        Ok(Site { api, cluster, user, folder, book: Mutex::new(book), places: Mutex::default() })
    }

    /// Never held over an await.
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn record(&self) -> Record {
        self.book().record.clone()
    }

    /// Changes what is recorded, and writes it.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Record)) -> Result<(), RecordError> {
        let mut book = self.book();
        change(&mut book.record);
        book.save()
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

    /// Nothing is recorded of it any more, nor which host keys it had.
    pub(crate) fn forget(&self, name: &str) -> Result<(), RecordError> {
        forget_all(&self.folder, name)?;
        self.change(|record| {
            record.droplets.remove(name);
            for names in record.creating.values_mut() {
                names.remove(name);
            }
            record.creating.retain(|_, names| !names.is_empty());
        })
    }

    pub(crate) fn known<'a>(&'a self, name: &'a str, id: u64) -> Known<'a> {
        Known::of(&self.folder, name, id)
    }

    /// What ssh has to know of a droplet; `None` while it has no address.
    pub(crate) fn target(&self, droplet: &Droplet) -> Option<Target> {
        target(&self.folder, droplet, &self.places(), &self.user)
    }

    /// Writes ssh's configuration for these.
    pub(crate) fn write_config(&self, droplets: &[Droplet]) -> Result<(), RecordError> {
        let places = introduced(&self.folder, droplets)?;
        write_config(&self.folder, &places)?;
        *self.places() = places;
        Ok(())
    }

    fn places(&self) -> MutexGuard<'_, Vec<Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is now.
    pub(crate) async fn look(&self) -> Result<Sight, ApiError> {
        look(&self.api, &self.cluster, &self.record()).await
    }

    /// The cluster's droplets.
    pub(crate) async fn droplets(&self) -> Result<Vec<Droplet>, ApiError> {
        Ok(self.look().await?.droplets)
    }
}

fn is_ours(droplet: &Droplet, cluster: &Cluster) -> bool {
    droplet.has_tag(OURS) && droplet.has_tag(&cluster.tag())
}

/// Who was renamed elsewhere is still who it was here.
fn named_as_recorded(mut droplet: Droplet, record: &Record) -> Droplet {
    let recorded = record.droplets.iter().find(|(_, entry)| entry.id == Some(droplet.id));
    if let Some((name, _)) = recorded {
        droplet.name.clone_from(name);
    } else if !is_droplet_name(&droplet.name) {
        // As it is called it could be nobody's host name, nor a file's.
        droplet.name = format!("droplet-{}", droplet.id);
    }
    droplet
}

/// What there is of a cluster: by its tag, and by the numbers that are recorded.
pub(crate) async fn look(
    api: &DigitalOcean,
    cluster: &Cluster,
    record: &Record,
) -> Result<Sight, ApiError> {
    let mut sight = Sight::default();
    let listed = api.tagged(&cluster.tag()).await?.into_iter().filter(|one| is_ours(one, cluster));
    sight.droplets = listed.map(|one| named_as_recorded(one, record)).collect();
    let mut unlisted = Vec::new();
    for (name, entry) in &record.droplets {
        let found = match entry.id {
            Some(id) if sight.droplets.iter().any(|one| one.id == id) => continue,
            Some(id) => api.droplet(id).await?,
            None => None,
        };
        match found {
            Some(one) if is_ours(&one, cluster) => unlisted.push(named_as_recorded(one, record)),
            Some(one) => drop(sight.untagged.insert(name.clone(), one)),
            // Another one may have taken its place.
            None if sight.droplets.iter().any(|one| one.name == *name) => {}
            None => drop(sight.gone.insert(name.clone())),
        }
    }
    sight.droplets.extend(unlisted);
    let all = &mut sight.droplets;
    all.sort_by(|a, b| natural(&a.name).cmp(&natural(&b.name)).then(a.id.cmp(&b.id)));
    // A list that changes while its pages are read may show one of them twice.
    all.dedup_by_key(|one| one.id);
    Ok(sight)
}

/// A token of another account would show that nothing is left of a cluster. What the record says of its
/// owner holds. Where it says nothing, a token that may not say whose it is will do, as long as it shows one of
/// the droplets that are recorded by number, if any are, or of the SSH keys.
pub(crate) async fn check_owner(
    api: &DigitalOcean,
    cluster: &Cluster,
    folder: &Folder,
    record: &Record,
) -> Result<Option<String>, DropletError> {
    let owner = match api.account().await {
        Ok(account) => Some(account.owner().to_owned()),
        Err(ApiError::Forbidden { .. }) if record.account.is_none() => None,
        Err(error) => return Err(error.into()),
    };
    match &record.account {
        Some(before) if owner.as_ref() != Some(before) => Err(DropletError::Said(format!(
            "DIGITALOCEAN_ACCESS_TOKEN is of another account than the one that cluster {cluster} was made in: use a token of that one, or make another cluster with --cluster"
        ))),
        Some(_) => Ok(owner),
        None if shows_any(api, record).await? => Ok(owner),
        None => Err(DropletError::Said(format!(
            "of the droplets that are recorded of cluster {cluster}, DIGITALOCEAN_ACCESS_TOKEN shows none: is it of another account than the one they were made in? If all of them were removed elsewhere, remove {}",
            folder.join(RECORD).display()
        ))),
    }
}

/// Whether a droplet that is recorded by number is there, or a key; also if no droplet is recorded.
async fn shows_any(api: &DigitalOcean, record: &Record) -> Result<bool, ApiError> {
    let mut ids = record.droplets.values().filter_map(|entry| entry.id).peekable();
    if ids.peek().is_none() {
        return Ok(true);
    }
    for id in ids {
        if api.droplet(id).await?.is_some() {
            return Ok(true);
        }
    }
    let is_recorded = |id: &u64| record.added_keys.contains(id);
    Ok(!record.added_keys.is_empty() && api.keys().await?.iter().any(|key| is_recorded(&key.id)))
}

/// What to do with one that has lost our tags.
pub(crate) fn untagged(droplet: &Droplet, cluster: &Cluster, name: &str) -> String {
    format!(
        "droplet {} has lost the tag {OURS} or {}, and is not touched: give it back, or forget the droplet with `{} rm {name}`",
        droplet.id,
        cluster.tag(),
        cluster.command(),
    )
}

fn place(folder: &Folder, droplet: &Droplet) -> Option<Place> {
    let known_hosts = Known::of(folder, &droplet.name, droplet.id).path();
    droplet.public().map(|address| Place { name: droplet.name.clone(), address, known_hosts })
}

/// `others` may be on the way there.
pub(crate) fn target(
    folder: &Folder,
    droplet: &Droplet,
    others: &[Place],
    user: &str,
) -> Option<Target> {
    place(folder, droplet).map(|place| Target::new(folder, place, others, user))
}

/// Where they are, of those that have an address; their first keys are known.
pub(crate) fn introduced(folder: &Folder, droplets: &[Droplet]) -> Result<Vec<Place>, RecordError> {
    folder.make()?;
    let record = folder.read()?;
    for one in droplets {
        let requests = record.droplets.get(&one.name).map(|entry| entry.requests.as_slice());
        pin_first(&Known::of(folder, &one.name, one.id), one, requests.unwrap_or_default())?;
    }
    Ok(droplets.iter().filter_map(|one| place(folder, one)).collect())
}

/// For scp and others, and never for a connection of ours: who is asked to be by one command is not written.
pub(crate) fn write_config(folder: &Folder, places: &[Place]) -> Result<(), RecordError> {
    folder.write(CONFIG, &config_text(places.iter(), USER))
}

/// Whoever connects to a droplet first knows its key, if it came of one of these requests.
pub(crate) fn pin_first(
    known: &Known<'_>,
    droplet: &Droplet,
    requests: &[Request],
) -> Result<(), RecordError> {
    let Some(request) = requests.iter().find(|request| droplet.has_tag(&request.tag)) else {
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
