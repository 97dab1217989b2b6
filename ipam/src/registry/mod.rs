//! Read, decide, commit; on a conflict again. Deciding is done by the pure modules.

mod addresses;
mod look;
mod node;
mod removal;
mod tries;

use std::sync::Arc;
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};

use self::tries::{Tries, entropy};
use crate::errors::{CreateNetworkError, DocumentError, OpenError};
use crate::keys;
use crate::network::{Network, Networks};
use crate::networks::Document;
use crate::pool::Pool;
use crate::spec::{Defaults, NetworkSpec};
use crate::store::{
    ConsulStore, Entry, Operation, Outcome, SqliteStore, Store, StoreError, revision,
};
use crate::url::StoreUrl;

pub use self::look::Look;
pub use self::tries::MAX_TRIES;

/// Handle on the registry; cheap to clone. Every call is bounded by the deadline given at
/// [`Registry::open`].
///
/// Cancel-safety: dropping a call leaves the store as a lost answer would: what it was about may
/// have been done or not, nothing is half done that the next call would not put right.
#[derive(Clone, Debug)]
pub struct Registry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    /// For errors.
    url: String,
    defaults: Defaults,
    deadline: Duration,
}

/// The document as it was read.
#[derive(Clone, Debug)]
struct Read {
    document: Document,
    revision: u64,
}

impl Registry {
    /// Opens the store, creates what is missing, and reads the networks once, so that a store
    /// that does not answer or that a newer version wrote is known now.
    ///
    /// `deadline` holds for this call and for every later one.
    ///
    /// # Errors
    /// [`OpenError`]; with a Consul store nothing was written.
    pub async fn open(
        url: &StoreUrl,
        defaults: Defaults,
        deadline: Duration,
    ) -> Result<Registry, OpenError> {
        let store: Arc<dyn Store> = match url {
            StoreUrl::Sqlite(path) => Arc::new(SqliteStore::open(path, deadline).await?),
            StoreUrl::Consul { .. } => Arc::new(ConsulStore::open(url, deadline)?),
        };
        let registry = Registry::with_store(store, url.to_string(), defaults, deadline);
        registry.networks().await?;
        Ok(registry)
    }

    /// The same over a store that is open already; `url` is what errors call it.
    #[must_use]
    pub fn with_store(
        store: Arc<dyn Store>,
        url: String,
        defaults: Defaults,
        deadline: Duration,
    ) -> Registry {
        Registry { inner: Arc::new(Inner { store, url, defaults, deadline }) }
    }

    /// The same registry, with other choices for networks that leave them open.
    #[must_use]
    pub fn with_defaults(&self, defaults: Defaults) -> Registry {
        let Inner { store, url, deadline, .. } = &*self.inner;
        Registry::with_store(store.clone(), url.clone(), defaults, *deadline)
    }

    /// Takes the token and the certificates that are in their files now, for every handle on this
    /// registry, after trying them: what worked is not given up for what the store refuses. When
    /// it answers to neither, what is in the files now counts. Takes at most a deadline.
    ///
    /// # Errors
    /// [`OpenError`]; the former ones stay in use.
    pub async fn renew(&self) -> Result<(), OpenError> {
        self.inner.store.renew().await
    }

    /// The store below. What is written there past the registry breaks its promises; it is for
    /// tests and for tools that look.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &*self.inner.store
    }

    /// Every network of the cluster, those that are being removed included.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn networks(&self) -> Result<Networks, StoreError> {
        let read = self.bounded("read the networks", self.read()).await?;
        Ok(read.document.into_networks(read.revision))
    }

    /// Returns once the list's revision differs from `after`, or when `wait` is over (same
    /// revision). Takes at most `wait`, a sixteenth of it, and twice the deadline.
    ///
    /// With SQLite a change by another process is seen within 100 ms, with Consul at once.
    ///
    /// # Errors
    /// [`StoreError`]; ask again after a pause.
    pub async fn watch_networks(&self, after: u64, wait: Duration) -> Result<Networks, StoreError> {
        let entry = self.inner.store.watch(keys::NETWORKS, after, wait).await?;
        let read = self.decode(entry)?;
        Ok(read.document.into_networks(read.revision))
    }

    /// Creates a network; what `spec` leaves open is chosen from [`Defaults`].
    ///
    /// # Errors
    /// [`CreateNetworkError`].
    pub async fn create_network(&self, spec: NetworkSpec) -> Result<Network, CreateNetworkError> {
        self.bounded("create the network", self.create(&spec)).await
    }

    /// A free subnet that a [`Registry::create_network`] without one would take now. Nothing is
    /// reserved.
    ///
    /// # Errors
    /// [`CreateNetworkError`].
    pub async fn propose_subnet(&self, avoid: &[Ipv4Net]) -> Result<Ipv4Net, CreateNetworkError> {
        let read = self.bounded("read the networks", self.read()).await?;
        read.document.free_subnet(&self.inner.defaults, avoid)
    }

    /// The same for IPv6: a free /64 of the cluster's own prefix. When the cluster has none yet,
    /// it is drawn and kept, so that the next proposal is of the same prefix.
    ///
    /// # Errors
    /// [`CreateNetworkError`].
    pub async fn propose_subnet6(&self, avoid: &[Ipv6Net]) -> Result<Ipv6Net, CreateNetworkError> {
        self.bounded("propose an IPv6 subnet", self.propose6(avoid)).await
    }

    /// One round trip to the store, with a read that its servers agree on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        let ping = async { self.inner.store.read(keys::PING).await.map(|_| ()) };
        self.bounded("answer", ping).await
    }

    async fn create(&self, spec: &NetworkSpec) -> Result<Network, CreateNetworkError> {
        let mut tries = Tries::new(&self.inner.url, "the list of networks");
        loop {
            let read = self.read().await?;
            if self.settle_all(&read).await? {
                tries.again().await?;
                continue;
            }
            let (next, network) = read.document.create(spec, &self.inner.defaults, entropy())?;
            let document = next.encode_longer().map_err(CreateNetworkError::TooLarge)?;
            let operations = [put_document(&read, document), put_pool(&network)];
            match self.inner.store.commit(&operations).await? {
                Outcome::Committed { .. } => return Ok(network),
                Outcome::Conflict => tries.again().await?,
            }
        }
    }

    async fn propose6(&self, avoid: &[Ipv6Net]) -> Result<Ipv6Net, CreateNetworkError> {
        let mut tries = Tries::new(&self.inner.url, "the list of networks");
        loop {
            let read = self.read().await?;
            if let Some(free) = read.document.free_subnet6(avoid) {
                return free;
            }
            let next = read.document.with_prefix6(entropy());
            let document = next.encode_longer().map_err(CreateNetworkError::TooLarge)?;
            let put = put_document(&read, document);
            if self.inner.store.commit(&[put]).await? == Outcome::Conflict {
                tries.again().await?;
            }
        }
    }

    async fn read(&self) -> Result<Read, StoreError> {
        self.decode(self.inner.store.read(keys::NETWORKS).await?)
    }

    fn decode(&self, entry: Option<Entry>) -> Result<Read, StoreError> {
        let revision = revision(entry.as_ref());
        let document = entry.map_or(Ok(Document::default()), |e| Document::decode(&e.value));
        let document = document.map_err(|e| self.unreadable(e))?;
        Ok(Read { document, revision })
    }

    fn unreadable(&self, error: DocumentError) -> StoreError {
        let store = self.inner.url.clone();
        match error {
            DocumentError::Format { found, known } => {
                StoreError::Newer { store, what: "the list of networks", found, known }
            }
            other @ (DocumentError::Json(_)
            | DocumentError::Broken { .. }
            | DocumentError::Prefix6(_)
            | DocumentError::TooLarge { .. }) => StoreError::Corrupt {
                store,
                what: format!("the list of networks ({})", keys::NETWORKS),
                advice: "restore it from a backup; nothing writes to it until then",
                source: Some(other.into()),
            },
        }
    }

    /// Runs `work` for as long as the deadline allows.
    async fn bounded<T, E: From<StoreError>>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let Inner { deadline, url, .. } = &*self.inner;
        match tokio::time::timeout(*deadline, work).await {
            Ok(done) => done,
            Err(_) => {
                let (store, after) = (url.clone(), *deadline);
                Err(E::from(StoreError::Timeout { store, doing, after }))
            }
        }
    }
}

/// Writes the document in the place of the one that was read.
fn put_document(read: &Read, value: Vec<u8>) -> Operation {
    Operation::Put { key: keys::NETWORKS.into(), revision: read.revision, value }
}

/// Lets a network give out addresses.
fn put_pool(network: &Network) -> Operation {
    // Names, addresses and numbers only: it can always be written.
    let value = serde_json::to_vec(&Pool::from(network)).unwrap_or_default();
    Operation::Put { key: keys::pool(network.id), revision: 0, value }
}
