//! Droplets by number: made, rebooted and deleted on request, as a provider does it.
//!
//! Each droplet has a thread, which alone changes its machine: it boots it, boots it again when it
//! rebooted by itself, and does what is asked of it. Requests are only begun; [`Fleet::standing`] says
//! how far they are. Dropping the fleet ends the threads, and leaves the machines to
//! [`Lab::down`](crate::Lab::down).
use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Addresses, DropletSeed, Machine};
use crate::folder::Folder;
use crate::{Lab, LabError, NodeName};

/// How often a thread looks whether its machine has ended.
const STEP: Duration = Duration::from_millis(100);
/// Requests of a droplet that wait; one more is refused.
const MOST_REQUESTS: usize = 4;

/// How a droplet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is being made, and has no addresses yet.
    New,
    /// It runs.
    Active(Addresses),
    /// It is off: shut down, or between two boots.
    Off(Addresses),
    /// It could not be made or booted; why.
    Failed(String),
}

/// The droplets of a lab.
#[derive(Debug)]
pub struct Fleet {
    lab: Folder,
    first: usize,
    droplets: Mutex<BTreeMap<u64, Droplet>>,
}

#[derive(Debug)]
struct Droplet {
    index: usize,
    shared: Arc<Mutex<Shared>>,
    requests: SyncSender<Request>,
    thread: Option<JoinHandle<()>>,
}

/// What a thread tells of its machine.
#[derive(Debug)]
struct Shared {
    standing: Standing,
    machine: Option<Machine>,
    boots: usize,
    deleted: bool,
}

#[derive(Clone, Copy, Debug)]
enum Request {
    Reboot,
    Delete,
}

impl Fleet {
    /// None yet. Their places in the lab begin at `first`: those before are for other machines.
    #[must_use]
    pub fn new(lab: &Lab, first: usize) -> Self {
        Self { lab: lab.folder().clone(), first, droplets: Mutex::default() }
    }

    /// Begins to make a droplet with a number that no other has.
    ///
    /// # Errors
    /// [`LabError::BadName`] when one has it.
    pub fn create(&self, seed: DropletSeed) -> Result<(), LabError> {
        let mut droplets = locked(&self.droplets);
        droplets.retain(|_, droplet| !locked(&droplet.shared).deleted);
        let id = seed.id;
        if droplets.contains_key(&id) {
            let value = id.to_string();
            let expected = "each number once";
            return Err(LabError::BadName { what: "number of a droplet", value, expected });
        }
        let taken: Vec<usize> = droplets.values().map(|droplet| droplet.index).collect();
        let free = (self.first..).find(|index| !taken.contains(index));
        let index = free.unwrap_or(self.first);
        let standing = Standing::New;
        let shared = Shared { standing, machine: None, boots: 0, deleted: false };
        let shared = Arc::new(Mutex::new(shared));
        let (requests, receiver) = mpsc::sync_channel(MOST_REQUESTS);
        let keeper = Keeper { lab: self.lab.clone(), index, shared: Arc::clone(&shared) };
        let thread = Some(std::thread::spawn(move || keeper.keep(&seed, &receiver)));
        droplets.insert(id, Droplet { index, shared, requests, thread });
        Ok(())
    }

    /// How a droplet is; None when there is none of this number, or no more.
    #[must_use]
    pub fn standing(&self, id: u64) -> Option<Standing> {
        self.of(id, |shared| shared.standing.clone())
    }

    /// Its machine, as it is now: after a reboot it is another.
    #[must_use]
    pub fn machine(&self, id: u64) -> Option<Machine> {
        self.of(id, |shared| shared.machine.clone()).flatten()
    }

    /// How often it was booted.
    #[must_use]
    pub fn boots(&self, id: u64) -> Option<usize> {
        self.of(id, |shared| shared.boots)
    }

    /// Begins a reboot. Answers whether there is such a droplet, and it takes the request.
    pub fn reboot(&self, id: u64) -> bool {
        self.ask(id, Request::Reboot)
    }

    /// Begins to delete a droplet. Answers as [`Fleet::reboot`].
    pub fn delete(&self, id: u64) -> bool {
        self.ask(id, Request::Delete)
    }

    fn ask(&self, id: u64, request: Request) -> bool {
        let droplets = locked(&self.droplets);
        droplets.get(&id).is_some_and(|droplet| match droplet.requests.try_send(request) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        })
    }

    fn of<T>(&self, id: u64, read: impl FnOnce(&Shared) -> T) -> Option<T> {
        let droplets = locked(&self.droplets);
        let shared = locked(&droplets.get(&id)?.shared);
        (!shared.deleted).then(|| read(&shared))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let droplets = std::mem::take(&mut *locked(&self.droplets));
        let threads: Vec<_> = droplets
            .into_values()
            // Its end of the channel goes here, and with it the thread's reason to go on.
            .filter_map(|Droplet { thread, .. }| thread)
            .collect();
        for thread in threads {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// What a droplet's thread has.
struct Keeper {
    lab: Folder,
    index: usize,
    shared: Arc<Mutex<Shared>>,
}

impl Keeper {
    fn keep(&self, seed: &DropletSeed, requests: &Receiver<Request>) {
        let mut machine = self.start(seed).map_err(|error| error.chain());
        loop {
            self.tell(&machine);
            let request = requests.recv_timeout(STEP);
            if matches!(request, Err(RecvTimeoutError::Disconnected)) {
                return;
            }
            machine = match (machine, request) {
                (Ok(machine), Ok(Request::Delete)) => match machine.destroy() {
                    Ok(()) => return self.tell_deleted(),
                    Err(error) => Err(error.chain()),
                },
                // Nothing of it runs; what it left on disk goes with the lab.
                (Err(_), Ok(Request::Delete)) => return self.tell_deleted(),
                (Ok(machine), Ok(Request::Reboot)) => self.changed(machine, Self::restart),
                (Ok(machine), Err(_)) => self.changed(machine, Machine::revive_if_rebooted),
                (Err(error), Ok(Request::Reboot) | Err(_)) => Err(error),
            };
        }
    }

    fn start(&self, seed: &DropletSeed) -> Result<Machine, LabError> {
        // Names may be given twice, numbers may not.
        let name: NodeName = format!("droplet-{}", seed.id).parse()?;
        let machine = Machine::start_droplet_in(&self.lab, &name, self.index, seed)?;
        locked(&self.shared).boots = 1;
        Ok(machine)
    }

    /// In order if it runs, then in any case a boot.
    fn restart(machine: &mut Machine) -> Result<bool, LabError> {
        if machine.is_on() {
            machine.power_off()?;
        }
        machine.cut_power()?;
        machine.boot().map(|()| true)
    }

    fn changed(
        &self,
        mut machine: Machine,
        change: impl FnOnce(&mut Machine) -> Result<bool, LabError>,
    ) -> Result<Machine, String> {
        let booted = change(&mut machine).map_err(|error| error.chain())?;
        locked(&self.shared).boots += usize::from(booted);
        Ok(machine)
    }

    fn tell(&self, machine: &Result<Machine, String>) {
        let mut shared = locked(&self.shared);
        shared.standing = match machine {
            Ok(machine) if machine.is_on() => Standing::Active(machine.addresses()),
            Ok(machine) => Standing::Off(machine.addresses()),
            Err(why) => Standing::Failed(why.clone()),
        };
        shared.machine = machine.as_ref().ok().cloned();
    }

    fn tell_deleted(&self) {
        let mut shared = locked(&self.shared);
        shared.deleted = true;
        shared.machine = None;
    }
}

/// A thread that panicked left nothing half done that others could not read.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
