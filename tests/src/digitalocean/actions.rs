//! Actions: what is being done to a droplet.
use serde_json::{Value, json};

use super::answer::{Answer, Refusal};
use super::asked::Asked;
use super::droplet::Status;
use super::droplets;
use super::fleet::Power;
use super::paging;
use super::state::State;
use super::{catalogue, clock};

/// How far an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It is being done.
    InProgress,
    /// It is done.
    Completed,
    /// It failed.
    Errored,
}

/// An action on a droplet.
#[derive(Debug, Clone)]
pub struct Action {
    /// Its number.
    pub id: u64,
    /// The API's word for it, as `create` or `reboot`.
    pub kind: String,
    /// The number of the droplet.
    pub droplet: u64,
    /// How far it is.
    pub progress: Progress,
    region: String,
    started: i64,
    ended: Option<i64>,
    reads: u32,
}

impl Action {
    fn end(&mut self, progress: Progress) {
        self.progress = progress;
        self.ended = Some(clock::now());
    }

    fn shown(&self) -> Value {
        let status = match self.progress {
            Progress::InProgress => "in-progress",
            Progress::Completed => "completed",
            Progress::Errored => "errored",
        };
        json!({
            "id": self.id, "status": status, "type": self.kind,
            "started_at": clock::written(self.started),
            "completed_at": self.ended.map(clock::written),
            "resource_id": self.droplet, "resource_type": "droplet", "region_slug": self.region,
            "region": catalogue::region(&self.region).map(catalogue::Region::shown),
        })
    }
}

impl State {
    /// Starts an action, and gives its number.
    pub(super) fn start(&mut self, droplet: u64, kind: &str) -> u64 {
        let id = self.number();
        let region = self.droplets.get(&droplet).map(|d| d.order.region.clone());
        let action = Action {
            id,
            kind: kind.to_owned(),
            droplet,
            progress: Progress::InProgress,
            region: region.unwrap_or_default(),
            started: clock::now(),
            ended: None,
            reads: 0,
        };
        self.actions.insert(id, action);
        id
    }

    /// A droplet became active: the action that made it is done.
    pub(super) fn complete_creation(&mut self, droplet: u64) {
        let mut all = self.actions.values_mut();
        if let Some(action) = all.find(|a| a.droplet == droplet && a.kind == "create") {
            action.end(Progress::Completed);
        }
    }

    /// Counts a read of an action, which may end by it, and gives what it shows.
    fn look(&mut self, id: u64) -> Option<Value> {
        let (droplet, kind) = self.actions.get(&id).map(|a| (a.droplet, a.kind.clone()))?;
        if kind == "create" {
            self.read(droplet);
        }
        let name = self.droplets.get(&droplet).map(|d| d.order.name.clone()).unwrap_or_default();
        let errs = self.settings.erring.contains(&name);
        let most = self.settings.action_reads;
        let action = self.actions.get_mut(&id)?;
        action.reads = action.reads.saturating_add(1);
        if action.progress == Progress::InProgress && action.reads > most {
            if errs {
                action.end(Progress::Errored);
            } else if kind != "create" {
                action.end(Progress::Completed);
                self.carry_out(droplet, &kind);
            }
        }
        self.actions.get(&id).map(Action::shown)
    }

    fn carry_out(&mut self, droplet: u64, kind: &str) {
        if let Some(droplet) = self.droplets.get_mut(&droplet) {
            droplet.status = match kind {
                "shutdown" | "power_off" => Status::Off,
                _ => Status::Active,
            };
        }
    }
}

/// `GET /v2/actions/{id}`.
pub(super) fn show(state: &mut State, asked: &Asked, id: &str) -> Result<Answer, Refusal> {
    asked.bare(&[])?;
    let id = id.parse().map_err(|_| Refusal::not_found().breaking_rules())?;
    let shown = state.look(id).ok_or_else(Refusal::not_found)?;
    Ok(Answer::ok(json!({ "action": shown })))
}

/// `GET /v2/droplets/{id}/actions`: the newest first.
pub(super) fn list(state: &mut State, asked: &Asked, id: &str) -> Result<Answer, Refusal> {
    asked.bare(&["page", "per_page"])?;
    let droplet = droplets::find(state, id)?.order.id;
    let of_it = state.actions.values().rev().filter(|action| action.droplet == droplet);
    let ids: Vec<u64> = of_it.map(|action| action.id).collect();
    let page = paging::Page::of(state, asked, ids.len())?;
    let shown = page.cut(&ids).iter().filter_map(|id| state.look(*id)).collect();
    Ok(page.answer("actions", shown))
}

/// `POST /v2/droplets/{id}/actions`.
pub(super) fn start(state: &mut State, asked: &Asked, id: &str) -> Result<Answer, Refusal> {
    let mut fields = asked.fields()?;
    let kind = fields.need_text("type")?;
    fields.end()?;
    let power = power(&kind)?;
    let droplet = droplets::find(state, id)?;
    let (droplet, status) = (droplet.order.id, droplet.status);
    let running = |a: &Action| a.progress == Progress::InProgress;
    if state.actions.values().any(|action| action.droplet == droplet && running(action)) {
        return Err(Refusal::unprocessable("Droplet already has a pending event."));
    }
    match (power, status) {
        (Power::On, Status::Active) => {
            let message = "Droplet is currently on. Please power it off to run this event.";
            return Err(Refusal::unprocessable(message));
        }
        (Power::Off | Power::Shutdown | Power::Reboot, Status::Off) => {
            return Err(Refusal::unprocessable("Droplet is already powered off."));
        }
        _ => {}
    }
    state.fleet.power(droplet, power);
    let action = state.start(droplet, &kind);
    let shown = state.actions.get(&action).map(Action::shown);
    Ok(Answer::new(201, json!({ "action": shown })))
}

fn power(kind: &str) -> Result<Power, Refusal> {
    match kind {
        "reboot" => Ok(Power::Reboot),
        "power_cycle" => Ok(Power::Cycle),
        "shutdown" => Ok(Power::Shutdown),
        "power_on" => Ok(Power::On),
        "power_off" => Ok(Power::Off),
        _ => Err(Refusal::broken(format!("type {kind:?} is not an action of this server"))),
    }
}
