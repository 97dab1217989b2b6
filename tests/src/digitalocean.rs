//! A server of DigitalOcean's API, made for tests.
//!
//! It holds an account with droplets, tags, SSH keys, firewalls and VPCs, and is stricter than the
//! original: a request that the documentation does not provide for is refused, and written down as
//! a violation, which a test asserts that there is none of. It forgets nothing that it was asked, and
//! fails where it is told to. Behind its droplets stands a [`Fleet`]: addresses that are made up,
//! or real machines that a test boots.
//!
//! It listens on 127.0.0.1, on a thread and a runtime of its own, and ends when it is dropped;
//! connections that are open then are closed.
//!
//! | file | task |
//! |---|---|
//! | `serve.rs` | from HTTP to the API and back, with the faults in between |
//! | `api.rs` | which request is answered by whom |
//! | `droplets.rs`, `create.rs`, `actions.rs`, `tags.rs`, `keys.rs`, `firewalls.rs`, `places.rs` | the resources |
//! | `state.rs`, `droplet.rs`, `catalogue.rs` | what there is |
//! | `asked.rs`, `fields.rs`, `rules.rs` | what a request may be |
//! | `answer.rs`, `paging.rs` | what an answer is |
//! | `fault.rs`, `line.rs` | what goes wrong, down to the reset of a connection |

mod actions;
mod answer;
mod api;
mod asked;
mod catalogue;
mod clock;
mod create;
mod droplet;
mod droplets;
mod fault;
mod fields;
mod firewalls;
mod fleet;
mod keys;
mod line;
mod paging;
mod places;
mod rules;
mod serve;
mod settings;
mod state;
mod tags;
#[cfg(test)]
mod tests;

use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use axum::Router;
use tokio::sync::oneshot;

pub use actions::{Action, Progress};
pub use asked::Request;
pub use droplet::{Droplet, Status};
pub use fault::{Fault, How, Retry};
pub use firewalls::Firewall;
pub use fleet::{Address, Addresses, Fleet, MadeUp, Order, Power};
pub use keys::Key;
pub use settings::{Activation, Settings};
pub use state::Vpc;

use line::{Lines, Switch};
use state::State;

/// A running server. It stops when it is dropped.
pub struct DigitalOcean {
    url: String,
    state: Arc<Mutex<State>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl DigitalOcean {
    /// Starts a server whose droplets are not machines.
    pub fn start(settings: Settings) -> io::Result<Self> {
        Self::with_fleet(settings, Box::new(MadeUp::default()))
    }

    /// Starts a server with this fleet behind its droplets.
    pub fn with_fleet(settings: Settings, fleet: Box<dyn Fleet>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let url = format!("http://{}", listener.local_addr()?);
        let state = Arc::new(Mutex::new(State::new(settings, url.clone(), fleet)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let lines = {
            let _inside = runtime.enter();
            Lines(tokio::net::TcpListener::from_std(listener)?)
        };
        let router = Router::new().fallback(serve::handle).with_state(state.clone());
        let service = router.into_make_service_with_connect_info::<Switch>();
        let (stop, stopped) = oneshot::channel();
        let serving = async move {
            tokio::select! {
                _ = axum::serve(lines, service) => {}
                _ = stopped => {}
            }
        };
        let thread = std::thread::Builder::new()
            .name("digitalocean".to_owned())
            .spawn(move || runtime.block_on(serving))?;
        Ok(Self { url, state, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it is reached, as `http://127.0.0.1:40123`; paths begin with `/v2`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The token that it lets in.
    pub fn token(&self) -> String {
        self.state().settings.token.clone()
    }

    /// What clients did that the documentation does not provide for, in sentences.
    pub fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// Every request, in the order of their coming.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// Forgets requests and violations, not resources.
    pub fn forget(&self) {
        let mut state = self.state();
        state.requests.clear();
        state.violations.clear();
    }

    /// Has something go wrong. Of several faults that fit a request, the one told first strikes.
    pub fn fail(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Faults that have not struck as often as they should.
    pub fn unspent(&self) -> Vec<Fault> {
        self.state().faults.iter().filter(|fault| fault.times > 0).cloned().collect()
    }

    /// Nothing goes wrong any more.
    pub fn mend(&self) {
        self.state().faults.clear();
    }

    /// Changes how it behaves from now on. The ranges of VPCs are taken at the start alone.
    pub fn adjust(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.state().settings);
    }

    /// The droplets that were not deleted, by number.
    pub fn droplets(&self) -> Vec<Droplet> {
        self.state().living().cloned().collect()
    }

    /// The droplet of a name, if there is one. Of several, the oldest.
    pub fn droplet(&self, name: &str) -> Option<Droplet> {
        self.state().living().find(|droplet| droplet.order.name == name).cloned()
    }

    /// Every action that was ever started, by number.
    pub fn actions(&self) -> Vec<Action> {
        self.state().actions.values().cloned().collect()
    }

    /// The tags, in the order of their making.
    pub fn tags(&self) -> Vec<String> {
        self.state().tags.clone()
    }

    /// The SSH keys, in the order of their coming.
    pub fn keys(&self) -> Vec<Key> {
        self.state().keys.clone()
    }

    /// The firewalls, in the order of their making.
    pub fn firewalls(&self) -> Vec<Firewall> {
        self.state().firewalls.clone()
    }

    /// The VPCs.
    pub fn vpcs(&self) -> Vec<Vpc> {
        self.state().vpcs.clone()
    }

    /// A droplet that somebody else made in Frankfurt: a small Debian 12, active as soon as its
    /// fleet knows its addresses. Its fleet is told of it as of any other; the limit of droplets is
    /// not asked.
    pub fn add_droplet(&self, name: &str, tags: &[&str]) -> u64 {
        let mut state = self.state();
        let vpc = state.default_vpc("fra1").map(|vpc| (vpc.id.clone(), vpc.range));
        let (vpc_uuid, vpc_range) = vpc.unwrap_or_default();
        let id = state.place(Order {
            id: 0,
            name: name.to_owned(),
            region: "fra1".to_owned(),
            size: "s-1vcpu-1gb".to_owned(),
            image: "debian-12-x64".to_owned(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            user_data: None,
            ssh_keys: Vec::new(),
            vpc_uuid,
            vpc_range,
            ipv6: false,
            backups: false,
            monitoring: false,
            with_droplet_agent: None,
        });
        let addresses = state.fleet.addresses(id);
        if let (Some(addresses), Some(droplet)) = (addresses, state.droplets.get_mut(&id)) {
            droplet.addresses = Some(addresses);
            droplet.status = Status::Active;
        }
        id
    }

    /// Gives a droplet these addresses, whatever its fleet says; a new one becomes active with
    /// them when its time has come.
    pub fn set_addresses(&self, id: u64, addresses: Addresses) {
        if let Some(droplet) = self.state().droplets.get_mut(&id) {
            droplet.addresses = Some(addresses);
        }
    }

    /// Has a droplet be so from now on.
    pub fn set_status(&self, id: u64, status: Status) {
        if let Some(droplet) = self.state().droplets.get_mut(&id) {
            droplet.status = status;
        }
    }

    /// Somebody else deletes a droplet. It shows nowhere any more, and its fleet is told.
    pub fn remove_droplet(&self, id: u64) {
        let mut state = self.state();
        if let Some(droplet) = state.droplets.get_mut(&id) {
            droplet.delete(0);
            state.fleet.delete(id);
        }
    }

    /// Somebody else gives a droplet another name.
    pub fn rename(&self, id: u64, name: &str) {
        if let Some(droplet) = self.state().droplets.get_mut(&id) {
            droplet.order.name = name.to_owned();
        }
    }

    /// Lists show a droplet from now on, if they did not yet.
    pub fn show(&self, id: u64) {
        if let Some(droplet) = self.state().droplets.get_mut(&id) {
            droplet.show();
        }
    }

    /// Somebody else makes a firewall.
    pub fn add_firewall(&self, name: &str, tags: &[&str], droplet_ids: &[u64]) {
        let mut state = self.state();
        let id = state.uuid();
        let mut firewall = Firewall::new(id, name);
        firewall.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        firewall.droplet_ids = droplet_ids.to_vec();
        state.firewalls.push(firewall);
    }

    /// Somebody else takes a tag from a droplet.
    pub fn untag(&self, id: u64, tag: &str) {
        if let Some(droplet) = self.state().droplets.get_mut(&id) {
            droplet.tags.retain(|one| one != tag);
        }
    }

    /// Somebody else uploads a key. `None`: `ssh-keygen` takes it for no public key.
    pub fn add_key(&self, name: &str, public_key: &str) -> io::Result<Option<u64>> {
        let Some(fingerprint) = keys::fingerprint(public_key)? else { return Ok(None) };
        let (name, public_key) = (name.to_owned(), public_key.to_owned());
        let mut state = self.state();
        let id = state.number();
        state.keys.push(Key { id, name, public_key, fingerprint });
        Ok(Some(id))
    }

    /// Somebody else makes a tag.
    pub fn add_tag(&self, name: &str) {
        self.state().make_tags(&[name.to_owned()]);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        serve::lock(&self.state)
    }
}

impl Drop for DigitalOcean {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It fails if the thread has ended already, which is what is wanted.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
