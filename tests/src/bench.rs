//! The figures of BENCHMARKS.md: `lab bench`.
//!
//! Everything is measured side by side in one run, rounds interleaved, and shown as medians with
//! the ratio to the underlay path of the same run: absolute figures of a shared machine mean little.
//!
//! - `path`: TCP throughput and round trip between two containers on two hosts.
//! - `attach`: from the request to an endpoint that answers by name from another host.
//! - `memory`: what an agent holds with four hosts and a hundred endpoints.
//! - `start`: from the start of an agent to ready.
//! - `diagnose`: how long `ovlctl`'s commands take that find a fault, and what a capture costs.
//! - `docker`: `docker run` on ovl, on Docker's classic overlay and on Swarm's.

mod attach;
mod diagnose;
mod docker;
mod memory;
mod path;
mod start;

use clap::ValueEnum;

use crate::{Lab, LabError, LabName, LabSpec, NodeName, StoreKind};

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Figure {
    /// TCP throughput and round trip against the underlay
    Path,
    /// From an attach to an answer by name from another host
    Attach,
    /// Memory of an agent
    Memory,
    /// From the start of an agent to ready
    Start,
    /// The commands that find a fault, and captures beside tcpdump
    Diagnose,
    /// `docker run` on ovl and on Docker's own overlays
    Docker,
}

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Interleaved rounds of `path`.
    pub rounds: usize,
    /// Attaches to measure.
    pub attaches: usize,
    /// `docker run`s of each kind.
    pub runs: usize,
    /// Where the agents keep networks and addresses.
    pub store: StoreKind,
}

/// Measures and prints; each figure in a lab of its own that is down afterwards.
///
/// # Errors
/// Any of the lab's, and of the tools that measure.
pub fn run(figures: &[Figure], plan: Plan) -> Result<(), LabError> {
    for figure in figures {
        with_lab(*figure, plan)?;
    }
    Ok(())
}

impl Figure {
    fn hosts(self) -> &'static [&'static str] {
        let all = &["queenbee", "workerbee-1", "workerbee-2", "workerbee-3"];
        match self {
            Figure::Path | Figure::Start => &all[..2],
            Figure::Attach => &all[..3],
            Figure::Memory | Figure::Diagnose => all,
            Figure::Docker => docker::hosts(),
        }
    }

    fn measure(self, lab: &Lab, plan: Plan) -> Result<(), LabError> {
        match self {
            Figure::Path => path::measure(lab, plan),
            Figure::Attach => attach::measure(lab, plan),
            Figure::Memory => memory::measure(lab),
            Figure::Start => start::measure(lab, plan.runs),
            Figure::Diagnose => diagnose::measure(lab, plan),
            Figure::Docker => docker::measure(lab, plan),
        }
    }
}

fn with_lab(figure: Figure, plan: Plan) -> Result<(), LabError> {
    let name: LabName = format!("bench-{}", std::process::id()).parse()?;
    let hosts = figure.hosts().iter().map(|host| host.parse());
    let hosts = hosts.collect::<Result<Vec<NodeName>, _>>()?;
    let mut spec = LabSpec::new(name.clone(), hosts, plan.store)?;
    spec.owned = true;
    // Docker's own overlays gossip on the agents' port: their hosts have no agent.
    spec.agents = figure != Figure::Docker;
    let lab = Lab::up(&spec, &mut |line| eprintln!("{line}"));
    let measured = lab.and_then(|lab| {
        if spec.agents {
            let create = ["network", "create", "bench", "--subnet", "10.88.0.0/16"];
            lab.host("queenbee")?.ctl_ok(&create)?;
        }
        figure.measure(&lab, plan)
    });
    Lab::down(&name)?;
    measured
}

/// The middle one; of an even number the higher of the two.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn ms(value: f64) -> String {
    format!("{value:.1}")
}

fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index of a short list"
    )]
    let at = ((values.len().saturating_sub(1)) as f64 * part).round() as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}

fn missing(what: &str, outcome: &crate::Outcome) -> LabError {
    LabError::BadAnswer {
        command: outcome.command.clone(),
        answer: format!("no {what} in: {}", outcome.stdout),
    }
}
