//! How a network goes without taking an address from under anybody.
//!
//! A network gives out addresses exactly while its pool key exists, and each lease is created in
//! a transaction that checks that key. The pool key exists exactly while the network is not
//! `removing`: both change in one transaction. So a removal
//!
//! 1. marks the network as `removing` and deletes the pool key: from here no lease can appear;
//! 2. lists the leases;
//! 3. when there are none, takes the network out of the document; when there are some, takes the
//!    mark back and puts the pool key back.
//!
//! Step 3 goes through only if the document is still the one of step 1: whoever opens the
//! network again in between changes it. A host that dies after step 1 leaves the mark, and the
//! next one that touches the network, for whatever reason, does steps 2 and 3.

use super::addresses::Held;
use super::tries::Tries;
use super::{Read, Registry, put_document, put_pool};
use crate::errors::{AllocateError, DocumentError, RemoveNetworkError};
use crate::family::Family;
use crate::ids::{NetworkId, NetworkName};
use crate::keys;
use crate::network::{Lease, Network};
use crate::networks::Document;
use crate::store::{Operation, Outcome, StoreError, revision};

impl Registry {
    /// Removes a network that nobody uses, and returns what it was.
    ///
    /// # Errors
    /// [`RemoveNetworkError`]; it is refused while an address is held, and says which, by whom.
    pub async fn remove_network(&self, name: &NetworkName) -> Result<Network, RemoveNetworkError> {
        self.bounded("remove the network", self.remove(name)).await
    }

    async fn remove(&self, name: &NetworkName) -> Result<Network, RemoveNetworkError> {
        let mut tries = Tries::new(&self.inner.url, "the list of networks");
        let mut begun: Option<Network> = None;
        loop {
            let read = self.read().await?;
            let found = match &begun {
                Some(network) => read.document.network(network.id),
                None => read.document.networks.iter().find(|n| n.name == *name),
            };
            let Some(network) = found else {
                // Another host may have done the rest of what was begun here.
                return begun.ok_or_else(|| RemoveNetworkError::NotFound(name.to_string()));
            };
            if network.removing {
                match self.settle(&read, network).await? {
                    Settled::Gone => return Ok(unmarked(network)),
                    Settled::Kept(leases) => return Err(in_use(network.name.clone(), leases)),
                    Settled::Changed => begun = Some(unmarked(network)),
                }
            } else {
                begun = self.begin(&read, network).await?;
                if begun.is_some() {
                    continue;
                }
            }
            tries.again().await?;
        }
    }

    /// Step 1 for a network that is not marked; refused without having closed it to others, if
    /// that can be. `None` on a conflict.
    async fn begin(
        &self,
        read: &Read,
        network: &Network,
    ) -> Result<Option<Network>, RemoveNetworkError> {
        let leases = self.held(network.id).await?.leases;
        if !leases.is_empty() {
            return Err(in_use(network.name.clone(), leases));
        }
        let next = read.document.with(network.id, |n| n.removing = true);
        let closed = self.close(read, &next, network.id).await?;
        Ok((closed != Outcome::Conflict).then(|| network.clone()))
    }

    /// Finishes or takes back every removal that was begun; true when there was one, so that
    /// the document has to be read again.
    pub(super) async fn settle_all(&self, read: &Read) -> Result<bool, StoreError> {
        match read.document.networks.iter().find(|n| n.removing) {
            Some(network) => self.settle(read, network).await.map(|_| true),
            None => Ok(false),
        }
    }

    /// For an allocation that met no pool key: settles a removal, and puts a key back that
    /// other hands deleted.
    pub(super) async fn reopen(&self, id: NetworkId) -> Result<(), AllocateError> {
        let read = self.read().await?;
        let Some(network) = read.document.network(id) else {
            return Err(AllocateError::NotFound(id));
        };
        if network.removing {
            return match self.settle(&read, network).await? {
                Settled::Gone => Err(AllocateError::NotFound(id)),
                Settled::Kept(_) | Settled::Changed => Ok(()),
            };
        }
        let unchanged = Operation::Check { key: keys::NETWORKS.into(), revision: read.revision };
        // With a conflict another host did it, or the network changed: either is read anew.
        self.inner.store.commit(&[unchanged, put_pool(network)]).await?;
        Ok(())
    }

    /// Steps 2 and 3.
    async fn settle(&self, read: &Read, network: &Network) -> Result<Settled, StoreError> {
        let held = self.held(network.id).await?;
        let (next, other) = match held.leases.is_empty() {
            true => (read.document.without(network.id), delete_last(network.id, &held)),
            false => {
                let next = read.document.with(network.id, |n| n.removing = false);
                (next, vec![put_pool(network)])
            }
        };
        let value = next.encode().map_err(|e| self.unwritable(e))?;
        let operations: Vec<Operation> =
            [put_document(read, value)].into_iter().chain(other).collect();
        Ok(match self.inner.store.commit(&operations).await? {
            Outcome::Conflict => Settled::Changed,
            Outcome::Committed { .. } if held.leases.is_empty() => Settled::Gone,
            Outcome::Committed { .. } => Settled::Kept(held.leases),
        })
    }

    /// Step 1: writes `next`, in which the network is marked, and deletes its pool key.
    async fn close(
        &self,
        read: &Read,
        next: &Document,
        id: NetworkId,
    ) -> Result<Outcome, StoreError> {
        let key = keys::pool(id);
        let pool = self.inner.store.read(&key).await?;
        let gone = match revision(pool.as_ref()) {
            0 => Operation::Check { key, revision: 0 },
            revision => Operation::Delete { key, revision },
        };
        let value = next.encode().map_err(|e| self.unwritable(e))?;
        let operations = [put_document(read, value), gone];
        self.inner.store.commit(&operations).await
    }

    /// Names, addresses and numbers can always be written; this is for the type.
    fn unwritable(&self, error: DocumentError) -> StoreError {
        StoreError::Failed {
            store: self.inner.url.clone(),
            doing: "write the list of networks",
            reason: error.to_string(),
        }
    }
}

/// What became of a removal that had been begun.
enum Settled {
    /// The network is gone.
    Gone,
    /// It is open again, as these addresses are held.
    Kept(Vec<Lease>),
    /// Another host was quicker: read again.
    Changed,
}

fn delete_last(network: NetworkId, held: &Held) -> Vec<Operation> {
    let delete = |&(family, revision): &(Family, u64)| Operation::Delete {
        key: keys::last(network, family),
        revision,
    };
    held.last.iter().map(delete).collect()
}

fn unmarked(network: &Network) -> Network {
    Network { removing: false, ..network.clone() }
}

fn in_use(network: NetworkName, mut examples: Vec<Lease>) -> RemoveNetworkError {
    let leases = examples.len();
    examples.sort_unstable_by_key(|lease| lease.address);
    examples.truncate(RemoveNetworkError::MAX_EXAMPLES);
    RemoveNetworkError::InUse { network, leases, examples }
}
