//! Two hosts with an agent and a dockerd each, and short words for what tests do with them.
use std::collections::BTreeSet;
use std::time::Duration;

use ovl_tests::docker::{Dockerd, Edition, IMAGE, Options};
use ovl_tests::{Host, Outcome, StoreKind, exec, spec};
use serde_json::Value;

use super::outside::NameServer;
use crate::ping::Ping;
use crate::support::{TestLab, eventually, holds, text};

/// The network of most tests.
pub(super) const NET: &str = "rethinkdb";
/// How long what one host does may take to show in the other's Docker.
pub(super) const SHOWN: Duration = Duration::from_secs(5);
/// How long a name may take to be known everywhere after `docker run` returned.
pub(super) const NAMED: Duration = Duration::from_secs(10);
/// How long a daemon that came back gets to be as it was.
pub(super) const BACK: Duration = Duration::from_secs(60);
/// How long a resolver in a container gets.
const ANSWER: Duration = Duration::from_secs(15);

/// Two hosts with Docker, numbered 0 and 1.
pub(super) struct Rig {
    /// Each host's Docker.
    pub(super) dockers: Vec<Dockerd>,
    /// The hosts.
    pub(super) hosts: Vec<Host>,
    /// Whom the hosts ask for names of the world outside.
    _outside: NameServer,
    /// Everything ends with it.
    _lab: TestLab,
}

impl Rig {
    /// Two hosts with agents, and dockerds without any flag that is about ovl.
    pub(super) fn up(name: &str) -> Self {
        Self::prepared(name, |_| Options::default())
    }

    /// The same; `prepare` may change a host before its dockerd starts, and says how it starts.
    pub(super) fn prepared(name: &str, prepare: impl Fn(&Host) -> Options) -> Self {
        let lab = TestLab::up(&format!("docker-{name}"), &["bee-1", "bee-2"], StoreKind::Sqlite);
        let hosts = lab.hosts().unwrap();
        for host in &hosts {
            // Without a server in resolv.conf Docker asks public ones, and waits for them.
            let script = format!("echo nameserver {} > /etc/resolv.conf", spec::bridge_address());
            host.run(&["sh", "-c", &script]).unwrap().require().unwrap();
        }
        let outside = NameServer::start(&lab);
        let options: Vec<_> = hosts.iter().map(prepare).collect();
        let dockers = at_once(hosts.iter().zip(options), |(host, options)| {
            let options = Options { edition: Edition::from_env(), ..options };
            Dockerd::start_with(host, options).unwrap_or_else(|e| panic!("{}", e.chain()))
        });
        Self { dockers, hosts, _outside: outside, _lab: lab }
    }

    /// `docker ARGS` on a host, which must succeed; what it printed.
    pub(super) fn ok(&self, at: usize, args: &[&str]) -> String {
        let outcome = self.docker(at, args).require();
        outcome.unwrap_or_else(|error| panic!("{error}")).stdout.trim().to_owned()
    }

    /// `docker ARGS` on a host, which must fail; what it said.
    pub(super) fn refused(&self, at: usize, args: &[&str]) -> String {
        let outcome = self.docker(at, args);
        assert!(!outcome.ok(), "`{}` must be refused", outcome.command);
        outcome.stderr.trim().to_owned()
    }

    /// `docker ARGS` on a host, whatever comes of it.
    pub(super) fn docker(&self, at: usize, args: &[&str]) -> Outcome {
        self.dockers[at].docker(args).unwrap_or_else(|error| panic!("{}", error.chain()))
    }

    /// `docker network create -d ovl --ipam-driver ovl MORE NAME` on the first host, and waits until
    /// both list it.
    pub(super) fn network(&self, name: &str, more: &[&str]) {
        self.ok(0, &create(name, more));
        for at in 0..self.dockers.len() {
            self.lists(at, name);
        }
    }

    /// Waits until a host's Docker lists a network of this name; its `docker network inspect`.
    pub(super) fn lists(&self, at: usize, name: &str) -> Value {
        let what = format!("the Docker of {} listing {name}", self.hosts[at].name());
        eventually(&what, SHOWN, || self.look(at, name).ok_or_else(|| "it does not".to_owned()))
    }

    /// Waits until a host's Docker lists no network of this name.
    pub(super) fn lists_no(&self, at: usize, name: &str) {
        let what = format!("the Docker of {} without {name}", self.hosts[at].name());
        eventually(&what, SHOWN, || match self.look(at, name) {
            None => Ok(()),
            Some(network) => Err(format!("it has it: {network}")),
        });
    }

    /// `docker network inspect NAME`, if there is exactly one.
    fn look(&self, at: usize, name: &str) -> Option<Value> {
        let outcome = self.docker(at, &["network", "inspect", name]);
        outcome.ok().then(|| outcome.json().unwrap()[0].clone())
    }

    /// Starts a container on the network of most tests that does nothing.
    pub(super) fn run(&self, at: usize, name: &str, more: &[&str]) {
        self.run_on(at, NET, name, more);
    }

    /// Starts a container that does nothing.
    pub(super) fn run_on(&self, at: usize, network: &str, name: &str, more: &[&str]) {
        let mut args = vec!["run", "-d", "--net", network, "--name", name];
        args.extend(more);
        args.extend([IMAGE, "sleep", "3600"]);
        self.ok(at, &args);
    }

    /// A value of `docker inspect --format`.
    pub(super) fn field(&self, at: usize, container: &str, format: &str) -> String {
        self.ok(at, &["inspect", "--format", format, container])
    }

    /// A container's field on a network, as `docker inspect` names it: `IPAddress`, …
    pub(super) fn on_network(
        &self,
        at: usize,
        container: &str,
        network: &str,
        key: &str,
    ) -> String {
        let all = self.field(at, container, "{{json .NetworkSettings.Networks}}");
        let all: Value = serde_json::from_str(&all).unwrap();
        text(&all[network][key])
    }

    /// A container's address on the network of most tests.
    pub(super) fn address(&self, at: usize, container: &str) -> String {
        let address = self.on_network(at, container, NET, "IPAddress");
        assert!(!address.is_empty(), "{container} has no address on {NET}");
        address
    }

    /// Runs a command line in a container.
    pub(super) fn exec(&self, at: usize, container: &str, argv: &[&str]) -> Outcome {
        self.docker(at, &[&["exec", container], argv].concat())
    }

    /// A program of the machine in a container's network namespace.
    fn inside(&self, at: usize, container: &str, argv: &[&str]) -> Outcome {
        let pid = self.field(at, container, "{{.State.Pid}}");
        let mut command = self.hosts[at].command("nsenter");
        command.args(["-t", &pid, "-n", "--"]).args(argv);
        exec::run(&mut command, ANSWER).unwrap_or_else(|error| panic!("{}", error.chain()))
    }

    /// The container reaches a name or an address, soon.
    pub(super) fn reaches(&self, at: usize, from: &str, name: &str) {
        self.reaches_within(at, from, name, NAMED);
    }

    /// The same with a limit of its own.
    pub(super) fn reaches_within(&self, at: usize, from: &str, name: &str, limit: Duration) {
        eventually(&format!("{from} reaching {name}"), limit, || {
            let outcome = self.exec(at, from, &["ping", "-c", "1", "-W", "1", name]);
            holds(outcome.ok(), format!("{} {}", outcome.stdout, outcome.stderr))
        });
    }

    /// The container does not reach a name or an address.
    pub(super) fn does_not_reach(&self, at: usize, from: &str, name: &str) {
        let outcome = self.exec(at, from, &["ping", "-c", "1", "-W", "1", name]);
        assert!(!outcome.ok(), "{from} reaches {name}: {}", outcome.stdout);
    }

    /// What a container's resolver answers to a question of type `kind`: status and addresses.
    pub(super) fn dig(&self, at: usize, from: &str, name: &str, kind: &str) -> Answer {
        // Docker's resolver, as resolv.conf of a container on a network of its user's names it.
        let argv = ["dig", "@127.0.0.11", "+time=5", "+tries=1", name, kind];
        Answer::parse(&self.inside(at, from, &argv), kind)
    }

    /// Waits until a container's resolver answers a name with exactly these addresses.
    pub(super) fn resolves(&self, at: usize, from: &str, name: &str, addresses: &[&str]) {
        let expected: BTreeSet<_> = addresses.iter().map(|&address| address.to_owned()).collect();
        eventually(&format!("{from} resolving {name} to {addresses:?}"), NAMED, || {
            let answer = self.dig(at, from, name, "A");
            holds(!answer.status.is_empty() && answer.addresses == expected, answer)
        });
    }

    /// Waits until a container's resolver has no address for a name.
    pub(super) fn forgets(&self, at: usize, from: &str, name: &str) {
        self.resolves(at, from, name, &[]);
    }

    /// A ping from a container in the background, a hundred a second.
    pub(super) fn ping(&self, at: usize, from: &str, address: &str) -> Ping {
        let pid = self.field(at, from, "{{.State.Pid}}");
        let mut command = self.hosts[at].command("nsenter");
        command.args(["-t", &pid, "-n", "--", "setpriv"]);
        Ping::spawn(command, address)
    }
}

/// What a resolver answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// `NOERROR`, `NXDOMAIN`, …; nothing without an answer.
    pub(super) status: String,
    /// The addresses.
    pub(super) addresses: BTreeSet<String>,
    /// How long it took, dig included.
    pub(super) took: Duration,
}

impl Answer {
    fn parse(dig: &Outcome, kind: &str) -> Self {
        let status = dig.stdout.lines().find_map(|line| line.split_once("status: "));
        let status = status.and_then(|(_, rest)| rest.split(',').next()).unwrap_or_default();
        let rows = dig.stdout.lines().filter(|line| !line.starts_with(';'));
        let rows = rows.map(|line| line.split_whitespace().collect::<Vec<_>>());
        let addresses = rows.filter(|row| row.get(3) == Some(&kind));
        Self {
            status: status.to_owned(),
            addresses: addresses.filter_map(|row| row.get(4).map(|&a| a.to_owned())).collect(),
            took: dig.took,
        }
    }
}

/// The words of `docker network create -d ovl --ipam-driver ovl MORE NAME`.
pub(super) fn create<'a>(name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["network", "create", "-d", "ovl", "--ipam-driver", "ovl"];
    args.extend(more);
    args.push(name);
    args
}

/// Does something for each at the same time; the results are in order.
pub(super) fn at_once<T: Send, R: Send>(
    all: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let work = &work;
    std::thread::scope(|scope| {
        let all: Vec<_> = all.into_iter().map(|one| scope.spawn(move || work(one))).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}
