//! A look at the store that leaves nothing behind, for those who ask why it does not work.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Registry;
use crate::errors::OpenError;
use crate::keys;
use crate::spec::Defaults;
use crate::store::{ConsulStore, SqliteStore, Store, StoreError};
use crate::url::StoreUrl;

/// What a look came to.
#[derive(Debug)]
pub struct Look {
    /// How long a read took that the store's servers agree on.
    pub read: Duration,
    /// How long a write took that changes nothing; else why this host may not or cannot write.
    pub write: Result<Duration, StoreError>,
    /// How many networks there are; else why their list cannot be read.
    pub networks: Result<usize, StoreError>,
}

impl Registry {
    /// The registry in the store as it is: no file is made, and nothing is asked yet. `None`: a SQLite
    /// file that is not there. `token` counts in place of the variable `CONSUL_HTTP_TOKEN`, for those who
    /// look on an agent's behalf.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn peek(
        url: &StoreUrl,
        defaults: Defaults,
        deadline: Duration,
        token: Option<&str>,
    ) -> Result<Option<Registry>, OpenError> {
        let store: Arc<dyn Store> = match url {
            StoreUrl::Sqlite(path) => match SqliteStore::peek(path, deadline).await? {
                Some(store) => Arc::new(store),
                None => return Ok(None),
            },
            StoreUrl::Consul { .. } => Arc::new(ConsulStore::open_with(url, deadline, token)?),
        };
        Ok(Some(Registry::with_store(store, url.to_string(), defaults, deadline)))
    }

    /// Reads, and tries to write, so that nothing is changed. Takes at most three deadlines.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn look(&self) -> Result<Look, StoreError> {
        let started = Instant::now();
        self.ping().await?;
        let read = started.elapsed();
        let started = Instant::now();
        let wrote = self.bounded("write", self.inner.store.try_write(keys::PING)).await;
        let write = wrote.map(|_| started.elapsed());
        let networks = self.networks().await.map(|networks| networks.list.len());
        Ok(Look { read, write, networks })
    }
}
