//! The registry in Consul's key-value store, for a cluster of hosts.
//!
//! The request types are those of consulrs; what carries them is ours ([`http`]), as its own
//! client has no timeouts, reads answers of any length and takes "no such key" for an error that
//! hides the index to wait at. Writes go through `/v1/txn` only ([`txn`]).
//!
//! The token's policy must grant `write` on the key prefix `ovl/v1/`: Consul leaves keys that a
//! token may not read out of lists without a word.
//!
//! An index only grows while Consul keeps its data. After a restore from an older snapshot
//! leases have generations below those given out since that snapshot was taken.

mod files;
mod http;
mod txn;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use consulrs::api::Features;
use consulrs::api::features::{Blocking, ConsistencyMode};
use consulrs::api::kv::common::KVPair;
use consulrs::api::kv::requests::ReadKeyRequest;
use tokio::time::Instant;

pub use self::files::check_files;

use self::http::{Answer, Http};
use super::{Entry, MAX_OPERATIONS, Operation, Outcome, Store, StoreError, revision};
use crate::errors::OpenError;
use crate::keys;
use crate::url::StoreUrl;

/// Consul waits no longer than this in one request.
const MAX_WAIT: Duration = Duration::from_secs(600);

/// Below this a blocking query is not worth asking; Consul takes 0 for "the longest".
const MIN_WAIT: Duration = Duration::from_millis(10);

const FOREIGN: &str = "check that the store's URL names a Consul server or agent";

/// See the module.
#[derive(Debug)]
pub(crate) struct ConsulStore {
    url: StoreUrl,
    /// With the token and the certificates of the last opening or renewal.
    http: RwLock<Arc<Http>>,
    deadline: Duration,
}

impl ConsulStore {
    /// Reads the token and the certificates that `url` names, and makes a client. Nothing is
    /// sent yet. A token that changes later is seen by [`Store::renew`].
    pub(crate) fn open(url: &StoreUrl, deadline: Duration) -> Result<ConsulStore, OpenError> {
        ConsulStore::open_with(url, deadline, None)
    }

    /// The same with a token in place of the environment's `CONSUL_HTTP_TOKEN`.
    pub(crate) fn open_with(
        url: &StoreUrl,
        deadline: Duration,
        token: Option<&str>,
    ) -> Result<ConsulStore, OpenError> {
        let http = RwLock::new(Arc::new(Http::new(url, deadline, token)?));
        Ok(ConsulStore { url: url.clone(), http, deadline })
    }

    /// A call uses one of them from its beginning to its end.
    fn http(&self) -> Arc<Http> {
        self.http.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn get(
        &self,
        doing: &'static str,
        request: ReadKeyRequest,
        blocking: Option<Blocking>,
        limit: Duration,
    ) -> Result<Page, StoreError> {
        let mode = Some(ConsistencyMode::CONSISTENT);
        let features = Features { blocking, mode, ..Features::default() };
        let http = self.http();
        let answer = http.call(doing, request, Some(features), limit).await?;
        self.page(&http, answer, doing)
    }

    /// One key, with the index to wait at for its next change.
    async fn key(&self, key: &str) -> Result<Page, StoreError> {
        let request = ReadKeyRequest { key: key.to_owned(), ..ReadKeyRequest::default() };
        self.get("read", request, None, self.deadline).await
    }

    /// The same, when the key's index passes `index` or `wait` is over.
    async fn key_after(&self, key: &str, index: u64, wait: Duration) -> Result<Page, StoreError> {
        let request = ReadKeyRequest { key: key.to_owned(), ..ReadKeyRequest::default() };
        let wait = wait.min(MAX_WAIT);
        let asked = Some(format!("{}ms", wait.as_millis()));
        let blocking = Blocking { index: index.max(1), wait: asked };
        // Consul adds up to a sixteenth, so that not all who wait come back at once.
        let limit = wait + wait / 16 + self.deadline;
        self.get("watch", request, Some(blocking), limit).await
    }

    fn page(&self, http: &Http, answer: Answer, doing: &'static str) -> Result<Page, StoreError> {
        let pairs: Vec<KVPair> = match (answer.status, answer.index) {
            (404, Some(_)) => Vec::new(),
            (200, Some(_)) => serde_json::from_slice(&answer.body).map_err(|e| self.foreign(e))?,
            (200 | 404, None) => return Err(self.foreign("it has no X-Consul-Index")),
            _ => return Err(http.refusal(doing, &answer)),
        };
        let entries = pairs.into_iter().map(|p| self.entry(p)).collect::<Result<_, _>>()?;
        Ok(Page { entries, index: answer.index.unwrap_or(0) })
    }

    fn entry(&self, pair: KVPair) -> Result<Entry, StoreError> {
        let value = pair.value.map_or(Ok(Vec::new()), TryInto::try_into);
        let value = value.map_err(|e: consulrs::error::ClientError| self.foreign(e))?;
        Ok(Entry { key: pair.key, value, revision: pair.modify_index })
    }

    fn foreign(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
        StoreError::Corrupt {
            store: self.url.to_string(),
            what: "the answer".into(),
            advice: FOREIGN,
            source: Some(source.into()),
        }
    }
}

/// What Consul answers to a read.
#[derive(Debug)]
struct Page {
    entries: Vec<Entry>,
    index: u64,
}

impl Page {
    fn first(self) -> Option<Entry> {
        self.entries.into_iter().next()
    }
}

#[async_trait]
impl Store for ConsulStore {
    async fn read(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        Ok(self.key(key).await?.first())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        let key = prefix.to_owned();
        let request = ReadKeyRequest { key, recurse: Some(true), ..ReadKeyRequest::default() };
        Ok(self.get("list", request, None, self.deadline).await?.entries)
    }

    async fn commit(&self, operations: &[Operation]) -> Result<Outcome, StoreError> {
        let http = self.http();
        if operations.len() > MAX_OPERATIONS {
            let bound = format!("{MAX_OPERATIONS} operations");
            return Err(http.too_large("a transaction", bound));
        }
        let request = txn::request(operations);
        let answer = http.call("commit", request, None, self.deadline).await?;
        match answer.status {
            200 => txn::committed(&answer.body).map_err(|e| self.foreign(e)),
            409 if txn::is_conflict(&answer.body) => Ok(Outcome::Conflict),
            _ => Err(http.refusal("commit", &answer)),
        }
    }

    async fn watch(
        &self,
        key: &str,
        after: u64,
        wait: Duration,
    ) -> Result<Option<Entry>, StoreError> {
        // Asked without waiting first: the index to wait at is the server's own of now, so that
        // one that went backwards (a restore, another cluster) is not waited for in vain.
        let end = Instant::now() + wait;
        let mut page = self.key(key).await?;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if revision(page.entries.first()) != after || left < MIN_WAIT {
                return Ok(page.first());
            }
            let index = page.index;
            page = self.key_after(key, index, left).await?;
            if page.index < index {
                page = self.key(key).await?;
            }
        }
    }

    async fn renew(&self) -> Result<(), OpenError> {
        let fresh = ConsulStore::open(&self.url, self.deadline)?;
        match tokio::join!(fresh.read(keys::NETWORKS), self.read(keys::NETWORKS)) {
            (Err(error @ StoreError::Refused { .. }), _) | (Err(error), Ok(_)) => {
                return Err(error.into());
            }
            // Both were not answered: nothing is known against the new ones.
            (Ok(_), _) | (Err(_), Err(_)) => {}
        }
        *self.http.write().unwrap_or_else(PoisonError::into_inner) = fresh.http();
        Ok(())
    }
}
