use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Entry, MAX_OPERATIONS, Operation, Outcome, Store, StoreError, revision};

/// A store in this process, for tests: it can refuse, lose answers and pretend conflicts.
///
/// What it holds is gone with it.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    revision: u64,
    entries: BTreeMap<String, (Vec<u8>, u64)>,
    faults: Faults,
}

#[derive(Debug, Default)]
struct Faults {
    down: bool,
    conflicts: u32,
    /// Calls that still go through.
    calls_left: Option<u32>,
    /// The call at which that ends is a commit that is made, and whose answer is lost.
    last_is_made: bool,
}

impl MemoryStore {
    /// Empty, without faults.
    #[must_use]
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// While down, every call is answered with [`StoreError::Unreachable`], at once.
    pub fn set_down(&self, down: bool) {
        let mut state = self.state();
        state.faults.down = down;
        state.faults.calls_left = None;
        drop(state);
        self.changed.send_modify(|_| ());
    }

    /// The next `count` commits are answered with [`Outcome::Conflict`], whatever they are.
    pub fn conflict_next(&self, count: u32) {
        self.state().faults.conflicts = count;
    }

    /// `calls` more calls are answered, then it is down, as seen by a host that dies there. With
    /// `made`, the commit at which that happens is made all the same: only its answer is lost.
    pub fn go_down_after(&self, calls: u32, made: bool) {
        let mut state = self.state();
        state.faults.calls_left = Some(calls);
        state.faults.last_is_made = made;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is made at once, so that a panic of another thread leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn entry(&self, key: &str) -> Option<Entry> {
        let (value, revision) = self.entries.get(key)?;
        Some(Entry { key: key.to_owned(), value: value.clone(), revision: *revision })
    }

    /// An error when this call is not to be answered.
    fn call(&mut self, doing: &'static str) -> Result<(), StoreError> {
        match &mut self.faults.calls_left {
            Some(0) => self.faults.down = true,
            Some(left) => *left -= 1,
            None => {}
        }
        match self.faults.down {
            true => Err(down(doing)),
            false => Ok(()),
        }
    }

    fn commit(&mut self, operations: &[Operation]) -> Outcome {
        if !operations.iter().all(|o| self.holds(o)) {
            return Outcome::Conflict;
        }
        self.revision += 1;
        for operation in operations {
            match operation {
                Operation::Check { .. } => {}
                Operation::Put { key, value, .. } | Operation::Set { key, value } => {
                    self.entries.insert(key.clone(), (value.clone(), self.revision));
                }
                Operation::Delete { key, .. } => {
                    self.entries.remove(key);
                }
            }
        }
        Outcome::Committed { revision: self.revision }
    }

    fn holds(&self, operation: &Operation) -> bool {
        let now = self.entries.get(operation.key()).map_or(0, |(_, revision)| *revision);
        match operation {
            Operation::Check { revision, .. } | Operation::Put { revision, .. } => now == *revision,
            Operation::Delete { revision, .. } => now == *revision && now != 0,
            Operation::Set { .. } => true,
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn read(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let mut state = self.state();
        state.call("read")?;
        Ok(state.entry(key))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>, StoreError> {
        let mut state = self.state();
        state.call("list")?;
        let keys = state.entries.keys().filter(|k| k.starts_with(prefix));
        Ok(keys.filter_map(|k| state.entry(k)).collect())
    }

    async fn commit(&self, operations: &[Operation]) -> Result<Outcome, StoreError> {
        if operations.len() > MAX_OPERATIONS {
            let bound = format!("{MAX_OPERATIONS} operations");
            return Err(StoreError::TooLarge { store: NAME.into(), what: "a transaction", bound });
        }
        let mut state = self.state();
        let last_call = state.faults.calls_left == Some(0) && !state.faults.down;
        let answer = state.call("commit");
        if answer.is_err() && !(last_call && state.faults.last_is_made) {
            return answer.map(|()| Outcome::Conflict);
        }
        if state.faults.conflicts > 0 {
            state.faults.conflicts -= 1;
            return Ok(Outcome::Conflict);
        }
        let outcome = state.commit(operations);
        let now = state.revision;
        drop(state);
        self.changed.send_replace(now);
        answer.map(|()| outcome)
    }

    async fn watch(
        &self,
        key: &str,
        after: u64,
        wait: Duration,
    ) -> Result<Option<Entry>, StoreError> {
        let mut changed = self.changed.subscribe();
        let differs = async {
            loop {
                changed.mark_unchanged();
                let entry = self.read(key).await?;
                if revision(entry.as_ref()) != after || changed.changed().await.is_err() {
                    return Ok(entry);
                }
            }
        };
        match tokio::time::timeout(wait, differs).await {
            Ok(entry) => entry,
            Err(_) => self.read(key).await,
        }
    }
}

const NAME: &str = "memory:";

fn down(doing: &'static str) -> StoreError {
    StoreError::Unreachable { store: NAME.into(), doing, source: "it was told to be down".into() }
}
