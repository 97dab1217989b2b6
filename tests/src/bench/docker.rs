//! `docker run` on ovl, next to `--net none`, Docker's classic overlay and Swarm's.
//!
//! Each kind of network has two hosts of its own with a dockerd each, all up at once; runs are
//! interleaved in an order that is shuffled anew each round. On each host a container stays on each
//! network, as on a host that is in use: what the first container costs is not measured.
//!
//! - `docker run --rm` of a container that exits at once; and what it takes beyond `--net none` on
//!   the same dockerd.
//! - From the return of `docker run -d` to the first answer of the new container to one on the other
//!   host, which asks Docker's resolver for its name and sends UDP to a closed port: the refusal is
//!   the answer.
//! - The time of 16 `docker run -d` at once, half of them on each host.
mod field;
mod reach;

use std::process::{Command, Stdio};

use self::field::{Field, Network};
use super::{Plan, median, ms, quantile};
use crate::docker::{Dockerd, Edition, IMAGE};
use crate::wait::timed;
use crate::{Lab, LabError, exec, table, wait};

/// Runs at once.
const AT_ONCE: usize = 16;
/// Rounds of runs at once: a part of those of single runs.
const ROUNDS_PART: usize = 4;

/// The lab's hosts: those with agents first, for agents join the first few.
pub(super) fn hosts() -> &'static [&'static str] {
    let all =
        &["ovl-1", "ovl-2", "late-1", "late-2", "classic-1", "classic-2", "swarm-1", "swarm-2"];
    // Without a later Docker the hosts are there, and idle.
    if Edition::unpacked(field::LATE).is_some() { all } else { &all[..6] }
}

pub(super) fn measure(lab: &Lab, plan: Plan) -> Result<(), LabError> {
    let field = Field::build(lab)?;
    println!("Docker {}\n", field.versions()?.join(", "));
    let mut order = Shuffle::default();
    single(&field, plan, &mut order)?;
    reached(&field, plan, &mut order)?;
    at_once(&field, plan, &mut order)
}

/// Milliseconds, of each network in the field's order.
type Samples = Vec<Vec<f64>>;

fn single(field: &Field, plan: Plan, order: &mut Shuffle) -> Result<(), LabError> {
    let all = field.networks();
    let samples = rounds("run", plan.runs, all.len(), order, |at, _| {
        let (docker, network) = (all[at].docker(0), all[at].name());
        run(&mut docker.command(&["run", "--rm", "--net", network, IMAGE, "true"]))
    })?;
    let mut rows = Vec::new();
    for (network, mut values) in all.iter().zip(samples.clone()) {
        let none = all.iter().position(|other| other.is_none_of(network));
        let none = none.map_or(f64::NAN, |none| median(&mut samples[none].clone()));
        let middle = median(&mut values);
        let beyond = if network.is_none() { String::new() } else { ms(middle - none) };
        let (first, last) = (quantile(&mut values, 0.05), quantile(&mut values, 0.95));
        rows.push(vec![network.title(), ms(middle), beyond, ms(first), ms(last)]);
    }
    let heading = ["docker run --rm, ms", "median", "beyond --net none", "p5", "p95"];
    println!("{}", table::render(&heading, &rows));
    Ok(())
}

fn reached(field: &Field, plan: Plan, order: &mut Shuffle) -> Result<(), LabError> {
    let all: Vec<_> = field.networks().iter().filter(|network| !network.is_none()).collect();
    let samples =
        rounds("reach", plan.runs, all.len(), order, |at, round| reach::after_run(all[at], round))?;
    show("reached by name from the other host, ms after docker run -d returned", &all, samples);
    Ok(())
}

fn at_once(field: &Field, plan: Plan, order: &mut Shuffle) -> Result<(), LabError> {
    let all: Vec<_> = field.networks().iter().filter(|network| !network.is_none()).collect();
    let samples = rounds("at once", plan.runs.div_ceil(ROUNDS_PART), all.len(), order, |at, _| {
        many(all[at])
    })?;
    show("16 docker run -d at once from both hosts, ms", &all, samples);
    Ok(())
}

fn show(what: &str, all: &[&Network], samples: Samples) {
    let rows = all.iter().zip(samples).map(|(network, mut values)| {
        let (first, last) = (quantile(&mut values, 0.05), quantile(&mut values, 0.95));
        vec![network.title(), ms(median(&mut values)), ms(first), ms(last)]
    });
    println!("{}", table::render(&[what, "median", "p5", "p95"], &rows.collect::<Vec<_>>()));
}

/// Measures each of `count` in each round, in an order of the round's own; `work` is given which,
/// and the round.
fn rounds(
    what: &str,
    rounds: usize,
    count: usize,
    order: &mut Shuffle,
    work: impl Fn(usize, usize) -> Result<f64, LabError>,
) -> Result<Samples, LabError> {
    let mut samples = vec![Vec::new(); count];
    for round in 0..rounds {
        eprintln!("{what}: round {} of {rounds}", round + 1);
        for at in order.next(count) {
            if wait::interrupted() {
                return Err(LabError::Interrupted);
            }
            samples[at].push(work(at, round)?);
        }
    }
    Ok(samples)
}

/// The time of all, from the first start to the last return; they are removed afterwards.
fn many(network: &Network) -> Result<f64, LabError> {
    let names: Vec<_> = (0..AT_ONCE).map(|number| format!("many-{number}")).collect();
    let start = |(number, name): (usize, &String)| {
        let args = ["run", "-d", "--net", network.name(), "--name", name, IMAGE, "sleep", "600"];
        run(&mut network.docker(number % 2).command(&args))
    };
    let (started, took) = timed(|| {
        std::thread::scope(|scope| {
            let threads = names.iter().enumerate().map(|one| scope.spawn(move || start(one)));
            let threads: Vec<_> = threads.collect();
            let ended = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
            ended
                .map(|one| one.unwrap_or(Err(LabError::Interrupted)))
                .collect::<Result<Vec<_>, _>>()
        })
    });
    for at in [0, 1] {
        let ours: Vec<_> = names.iter().skip(at).step_by(2).map(String::as_str).collect();
        network.docker(at).docker(&[&["rm", "-f"], &ours[..]].concat())?;
    }
    started.map(|_| took.as_secs_f64() * 1e3)
}

/// Runs a program that must succeed, and gives its milliseconds. It is waited for by the kernel:
/// polling would add to what is measured.
fn run(command: &mut Command) -> Result<f64, LabError> {
    let line = exec::line(command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let (output, took) = timed(|| command.output());
    let output = output.map_err(|source| LabError::Spawn { program: line.clone(), source })?;
    if output.status.success() {
        return Ok(took.as_secs_f64() * 1e3);
    }
    let stderr = exec::last_lines(&String::from_utf8_lossy(&output.stderr), 3);
    Err(LabError::Command { command: line, status: output.status.to_string(), stderr })
}

/// Orders that differ from round to round, the same in each run of the program.
struct Shuffle(u32);

impl Default for Shuffle {
    fn default() -> Self {
        Self(0x9e37_79b9)
    }
}

impl Shuffle {
    /// 0 to `count - 1`, shuffled (Fisher and Yates).
    fn next(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<_> = (0..count).collect();
        for last in (1..count).rev() {
            // Marsaglia's xorshift.
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 17;
            self.0 ^= self.0 << 5;
            let other = usize::try_from(self.0).unwrap_or_default() % (last + 1);
            order.swap(last, other);
        }
        order
    }
}

/// The pid of a container's first process, as its host numbers it.
fn pid(docker: &Dockerd, container: &str) -> Result<String, LabError> {
    let args = ["inspect", "--format", "{{.State.Pid}}", container];
    Ok(docker.docker(&args)?.require()?.stdout.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_holds_each_once_and_differs_from_the_last() {
        let mut shuffle = Shuffle::default();
        let orders: Vec<_> = (0..4).map(|_| shuffle.next(6)).collect();
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4, 5]);
        }
        assert!(orders.windows(2).any(|two| two[0] != two[1]), "{orders:?}");
    }
}
