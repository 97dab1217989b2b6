//! Taking back all that a node holds, for a host that is gone for good.

use super::Registry;
use super::addresses::{Leaf, parse};
use crate::ids::NetworkId;
use crate::keys;
use crate::network::Lease;
use crate::store::{MAX_OPERATIONS, Operation, Outcome, StoreError};

/// Networks whose leases are looked through at once: a thousand networks take a thousand reads,
/// and the call has one deadline for them all.
const AT_ONCE: usize = 8;

impl Registry {
    /// Gives back every lease that `node` holds, in all networks; returns how many that were.
    ///
    /// Only leases as they are read go: an address that the node holds anew since, or gets in
    /// the meantime, stays. So it does no harm to a node that is not gone after all, except
    /// that it has to look what it still holds.
    ///
    /// # Errors
    /// [`StoreError`]; those given back until then stay so: call again for the rest. A lease
    /// that cannot be read is passed over and logged, as nobody knows whose it is.
    pub async fn release_node(&self, node: &str) -> Result<usize, StoreError> {
        self.bounded("release the addresses of a node", self.give_back_all(node)).await
    }

    async fn give_back_all(&self, node: &str) -> Result<usize, StoreError> {
        let mut left = self.read().await?.document.networks.into_iter();
        // Dropped with this call, which ends them.
        let mut tasks = tokio::task::JoinSet::new();
        let mut released = 0;
        loop {
            while tasks.len() < AT_ONCE
                && let Some(network) = left.next()
            {
                let (registry, node) = (self.clone(), node.to_owned());
                tasks.spawn(async move { registry.give_back_in(network.id, &node).await });
            }
            match tasks.join_next().await {
                Some(Ok(done)) => released += done?,
                Some(Err(error)) => return Err(self.died(&error)),
                None => return Ok(released),
            }
        }
    }

    async fn give_back_in(&self, network: NetworkId, node: &str) -> Result<usize, StoreError> {
        let leases = self.held_by(network, node).await?;
        let mut released = 0;
        for batch in leases.chunks(MAX_OPERATIONS) {
            let delete = |lease: &Lease| Operation::Delete {
                key: keys::lease(network, lease.address),
                revision: lease.generation,
            };
            let deletes: Vec<Operation> = batch.iter().map(delete).collect();
            if self.inner.store.commit(&deletes).await? != Outcome::Conflict {
                released += batch.len();
                continue;
            }
            // One of them is not what it was: each by itself.
            for lease in batch {
                let same = |now: &Lease| now.generation == lease.generation;
                let gone = self.give_back(network, lease.address, same).await?;
                released += usize::from(gone);
            }
        }
        Ok(released)
    }

    async fn held_by(&self, network: NetworkId, node: &str) -> Result<Vec<Lease>, StoreError> {
        let prefix = keys::leases(network);
        let mut leases = Vec::new();
        for entry in self.inner.store.list(&prefix).await? {
            let Leaf::Address(address) = parse(&prefix, &entry) else {
                continue;
            };
            match self.lease(network, address, &entry) {
                Ok(lease) if lease.holder.node == node => leases.push(lease),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "a lease that is nobody's is left"),
            }
        }
        Ok(leases)
    }

    /// A task of ours ended without an answer: the runtime is going down.
    fn died(&self, error: &tokio::task::JoinError) -> StoreError {
        StoreError::Failed {
            store: self.inner.url.clone(),
            doing: "release the addresses of a node",
            reason: error.to_string(),
        }
    }
}
