//! The demo: Redis with three replicas, on four hosts, by names alone.
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::exec::Outcome;
use crate::wait::timed;
use crate::{
    Container, Lab, LabError, LabName, LabSpec, NodeName, StoreKind, names, output, table, wait,
};

/// The demo's network.
pub const NETWORK: &str = "rethinkdb";
/// The container that the others follow.
pub const LEADER: &str = "rethinkleader";
/// The hosts of the demo, and of a lab that names none.
pub const HOSTS: [&str; 4] = ["queenbee", "workerbee-1", "workerbee-2", "workerbee-3"];
/// Host and container, the leader first.
const PLACES: [(&str, &str); 4] = [
    ("workerbee-1", LEADER),
    ("queenbee", "follower-1"),
    ("workerbee-2", "follower-2"),
    ("workerbee-3", "follower-3"),
];
/// How long the followers get to find their leader.
const REDIS_LIMIT: Duration = Duration::from_secs(30);
/// How long a new name gets to be known on the other hosts.
const REACH_LIMIT: Duration = Duration::from_secs(10);
/// An ephemeral Redis server: nothing is written to disk, and a new follower need not wait.
const REDIS: [&str; 13] = [
    "redis-server",
    "--bind",
    "0.0.0.0",
    "--protected-mode",
    "no",
    "--save",
    "",
    "--appendonly",
    "no",
    "--dir",
    "/run",
    "--repl-diskless-sync-delay",
    "0",
];

/// The hosts' names, parsed.
///
/// # Errors
/// None: the names are labels.
pub fn default_hosts() -> Result<Vec<NodeName>, LabError> {
    HOSTS.iter().map(|host| host.parse()).collect()
}

/// Brings up a lab, shows what the overlay does, and takes the lab down unless `keep` is set.
///
/// # Errors
/// [`LabError::DemoMissed`] when something did not work, and any error on the way.
pub fn run(name: &LabName, store: StoreKind, keep: bool) -> Result<(), LabError> {
    let shown = show(name, store, keep);
    if keep && !wait::interrupted() {
        // What was missed can be looked at, too.
        explore(name);
        return shown;
    }
    // What follows must not be cut short by the Ctrl-C that led here.
    wait::clear_interruption();
    let taken_down = Lab::down(name);
    match &taken_down {
        Ok(_) => say("everything is taken down"),
        Err(error) => say(&format!("the lab could not be taken down: {}", error.chain())),
    }
    shown.and(taken_down.map(drop))
}

fn show(name: &LabName, store: StoreKind, keep: bool) -> Result<(), LabError> {
    let mut spec = LabSpec::new(name.clone(), default_hosts()?, store)?;
    spec.owned = !keep;
    let (lab, took) = timed(|| Lab::up(&spec, &mut say));
    let lab = lab?;
    say(&format!(
        "{} hosts with an agent each, {} as the store, in {}",
        HOSTS.len(),
        store,
        ms(took)
    ));
    create_network(&lab)?;
    let containers = attach_all(&lab)?;
    let missed = reach_all(&containers)?;
    let replicated = replicate(&containers)?;
    if missed > 0 {
        return Err(LabError::DemoMissed(format!("{missed} of 12 ways between containers")));
    }
    if !replicated {
        return Err(LabError::DemoMissed(
            "what was written to the leader, on a follower".to_owned(),
        ));
    }
    Ok(())
}

fn create_network(lab: &Lab) -> Result<(), LabError> {
    let queenbee = lab.host(HOSTS[0])?;
    let created = queenbee.ctl_ok(&["network", "create", NETWORK])?;
    let networks = queenbee.ctl_json(&["network", "ls"])?;
    let ours = networks.as_array().into_iter().flatten().find(|network| network["name"] == NETWORK);
    let missed = || LabError::DemoMissed(format!("network {NETWORK} in `ovlctl network ls`"));
    let network = ours.ok_or_else(missed)?;
    say(&format!(
        "network {NETWORK}: subnet {}, VNI {}, MTU {}, in {}",
        network["subnet"].as_str().unwrap_or("?"),
        network["vni"],
        network["mtu"],
        ms(created.took)
    ));
    Ok(())
}

fn attach_all(lab: &Lab) -> Result<Vec<Container>, LabError> {
    let mut containers = Vec::new();
    for (host, name) in PLACES {
        let (container, took) = timed(|| lab.attach(host, NETWORK, name));
        say(&format!("{name} attached on {host} in {}", ms(took)));
        containers.push(container?);
    }
    Ok(containers)
}

/// Pings every container from every other by name, shows the table, and counts what was missed.
fn reach_all(containers: &[Container]) -> Result<usize, LabError> {
    say("each container pings each other by name");
    let mut rows = Vec::new();
    let mut missed = 0;
    for from in containers {
        for to in containers.iter().filter(|to| to.name() != from.name()) {
            let way = reach(from, to.name());
            missed += usize::from(way.is_err());
            if matches!(way, Err(LabError::Interrupted)) {
                return Err(LabError::Interrupted);
            }
            rows.push(row(from, to, &way));
        }
    }
    let heading = ["FROM", "ON", "TO", "ON", "ADDRESS", "RESOLVED IN", "PING"];
    output::show(&table::render(&heading, &rows));
    Ok(missed)
}

/// How one container reached another.
struct Way {
    address: Ipv4Addr,
    resolved_in: Duration,
    /// As ping says it, `0.081 ms`.
    ping: String,
}

fn reach(from: &Container, name: &str) -> Result<Way, LabError> {
    let what = format!("{} knowing the name {name}", from.name());
    let (address, resolved_in) = wait::until(&what, REACH_LIMIT, || {
        names::resolve(from, name).map_err(|error| error.to_string())
    })?;
    let pinged = from.run(&["ping", "-n", "-c", "1", "-W", "2", name])?.require()?;
    Ok(Way { address, resolved_in, ping: ping_time(&pinged)? })
}

fn ping_time(pinged: &Outcome) -> Result<String, LabError> {
    let time = pinged.stdout.lines().find_map(|line| line.split_once("time="));
    time.map(|(_, time)| time.to_owned()).ok_or_else(|| LabError::BadAnswer {
        command: pinged.command.clone(),
        answer: pinged.stdout.clone(),
    })
}

fn row(from: &Container, to: &Container, way: &Result<Way, LabError>) -> Vec<String> {
    let mut row = vec![from.name().to_owned(), from.host().name().to_owned()];
    row.extend([to.name().to_owned(), to.host().name().to_owned()]);
    match way {
        Ok(way) => {
            row.extend([way.address.to_string(), ms(way.resolved_in), way.ping.clone()]);
        }
        Err(error) => row.extend(["not reached".to_owned(), error.chain()]),
    }
    row
}

/// Starts Redis everywhere, and answers whether a follower has what was written to the leader.
fn replicate(containers: &[Container]) -> Result<bool, LabError> {
    let leader = &containers[0];
    leader.spawn("redis", &REDIS)?;
    leader.sandbox().wait_for_port("Redis", 6379, REDIS_LIMIT)?;
    say(&format!("Redis runs in {LEADER}, and now in the others with --replicaof {LEADER} 6379"));
    let argv: Vec<&str> = REDIS.into_iter().chain(["--replicaof", LEADER, "6379"]).collect();
    for follower in &containers[1..] {
        follower.spawn("redis", &argv)?;
    }
    let expected = format!("connected_slaves:{}", containers.len() - 1);
    let info = wait::until(&format!("{expected} at {LEADER}"), REDIS_LIMIT, || {
        let info = redis(leader, &["info", "replication"]).map_err(|error| error.chain())?;
        let online = info.matches("state=online").count() == containers.len() - 1;
        if online && info.contains(&expected) { Ok(info) } else { Err(summary(&info)) }
    })?;
    say(&format!("redis-cli info replication, in {LEADER}:"));
    for line in
        info.lines().filter(|line| line.starts_with("connected_") || line.starts_with("slave"))
    {
        output::show(&format!("    {line}\n"));
    }
    written_is_read(leader, &containers[containers.len() - 1])
}

fn written_is_read(leader: &Container, follower: &Container) -> Result<bool, LabError> {
    redis(leader, &["set", "greeting", "hello"])?;
    // Replication is asynchronous: the write may take a moment to arrive.
    let read = wait::until("the write at a follower", REDIS_LIMIT, || {
        let read = redis(follower, &["get", "greeting"]).map_err(|error| error.chain())?;
        if read.trim() == "hello" { Ok(read) } else { Err(format!("{:?}", read.trim())) }
    })?;
    let name = follower.name();
    say(&format!("written to {LEADER}: hello; read from {name}: {}", read.trim()));
    Ok(read.trim() == "hello")
}

fn redis(container: &Container, args: &[&str]) -> Result<String, LabError> {
    let argv: Vec<&str> = std::iter::once("redis-cli").chain(args.iter().copied()).collect();
    Ok(container.run(&argv)?.require()?.stdout.replace('\r', ""))
}

fn summary(info: &str) -> String {
    let count = info.lines().find(|line| line.starts_with("connected_slaves"));
    count.unwrap_or("no answer of Redis").to_owned()
}

fn explore(name: &LabName) {
    output::show("\nThe lab stays up. Some things to try, from the project's folder:\n");
    for command in [
        format!("status --name {name}"),
        format!("ctl --name {name} queenbee -- members"),
        format!("ctl --name {name} queenbee -- endpoint ls"),
        format!("in --name {name} follower-1 -- ping -c 3 {LEADER}"),
        format!("in --name {name} follower-1 -- redis-cli -h {LEADER} info replication"),
        format!("kill --name {name} workerbee-1"),
        format!("start --name {name} workerbee-1"),
        format!("down --name {name}"),
    ] {
        output::show(&format!("    scripts/lab {command}\n"));
    }
}

fn say(line: &str) {
    output::show(&format!("==> {line}\n"));
}

fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}
