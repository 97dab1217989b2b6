//! Docker on this host: its version, how it finds our plugin, and whether its containers find names.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ovl_vxlan::netns;

use super::{Check, Group, Host, Look, blocking};
use crate::config::Config;
use crate::control::api::doctor::Finding;
use crate::core::{RESOLVER, Topic};
use crate::docker::{About, Daemon, name_servers};

const VERSION: &str = "docker.version";
const DNS: &str = "docker.dns";
const LIVE_RESTORE: &str = "docker.live-restore";
const PLUGIN: &str = "docker.plugin";

/// Where Docker looks for sockets of plugins.
const PLUGINS: &str = "/run/docker/plugins";

/// The first release, major and minor, that ovl supports, and the first that it was not tried with.
const FIRST: (u32, u32) = (20, 10);
const UNTRIED: (u32, u32) = (29, 0);

const CHECKS: &[Check] = &[
    Check {
        id: VERSION,
        title: "Docker",
        looks_at: "whether Docker answers at docker-host, and its version",
        why: "names of containers come from its API; before 20.10 its plugins are called otherwise",
    },
    Check {
        id: DNS,
        title: "names in containers",
        looks_at: "whether the kernel can lead containers' DNS to the agent, and dockerd's dns setting",
        why: "else containers do not find names of other hosts",
    },
    Check {
        id: LIVE_RESTORE,
        title: "live-restore",
        looks_at: "live-restore of dockerd",
        why: "without it all containers stop when dockerd is restarted",
    },
    Check {
        id: PLUGIN,
        title: "plugin socket",
        looks_at: "whether dockerd sees the agent's socket, as the same file",
        why: "`docker run` on a network of ovl hangs and fails without it",
    },
];

pub(super) const GROUP: Group = Group {
    checks: CHECKS,
    within: Duration::from_secs(15),
    look: Look::Settings(|host, config| Box::pin(look(host, config))),
};

/// What is known of Docker.
struct Facts {
    /// As in `unix:///var/run/docker.sock`.
    docker_host: String,
    /// What it says of itself, or why it does not answer.
    about: Result<About, String>,
    /// There is something at its socket's path.
    socket: bool,
    dockerd: Option<Dockerd>,
    /// The kernel can lead DNS to the agent; none: that could not be tried.
    redirects: Option<bool>,
    /// What the agent says is wrong with DNS in containers.
    dns: Vec<String>,
    /// Where our socket is to be; whether it is there.
    plugin: PathBuf,
    plugin_is_there: bool,
    /// Docker looks for plugins there.
    plugin_is_looked_for: bool,
    /// An agent runs.
    agent: bool,
}

/// The process.
struct Dockerd {
    pid: i32,
    /// Its setting `dns`, from its command line and file; none: they cannot be read.
    dns: Option<Vec<String>>,
    /// It sees our socket, as the same file as we do; none: that cannot be seen.
    sees_plugin: Option<bool>,
}

async fn look(host: Host, config: Arc<Config>) -> Vec<Finding> {
    // To connect would have systemd start one that was stopped.
    let local = config.docker_host.starts_with("unix://");
    let about = match local && !blocking(|| processes().next().is_some()).await.unwrap_or(true) {
        true => Err("no dockerd runs".to_owned()),
        false => {
            let about = Daemon::new(&config.docker_host, "ovl").about().await;
            about.map_err(|error| crate::chain(&error))
        }
    };
    let redirects = host.probe().await.as_ref().ok().map(|probe| probe.owned_table.is_ok());
    let dns = match host.diagnosis().await {
        Some(diagnosis) => diagnosis.texts(Topic::Dns).collect(),
        None => Vec::new(),
    };
    let agent = host.status().is_some();
    let gathered = blocking(move || {
        let socket = config.docker_host.strip_prefix("unix://").map(PathBuf::from);
        let plugin = config.plugin_socket.clone();
        Facts {
            docker_host: config.docker_host.clone(),
            about,
            socket: socket.is_some_and(|socket| fs::exists(socket).unwrap_or(false)),
            dockerd: dockerd().map(|pid| Dockerd::look(pid, &plugin)),
            redirects,
            dns,
            plugin_is_there: fs::exists(&plugin).unwrap_or(false),
            plugin_is_looked_for: is_looked_for(&plugin),
            plugin,
            agent,
        }
    });
    match gathered.await {
        Ok(facts) => judge(&facts),
        Err(why) => CHECKS.iter().map(|check| Finding::unchecked(check.id, why.clone())).collect(),
    }
}

/// In the folder itself, also by another of its names (`/var/run`); or a file says where it is
/// (<https://docs.docker.com/engine/extend/plugin_api/>, "Plugin discovery").
fn is_looked_for(plugin: &Path) -> bool {
    let folder = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if plugin.parent().is_some_and(|parent| folder(parent) == folder(Path::new(PLUGINS))) {
        return true;
    }
    let address = format!("unix://{}", plugin.display());
    ["/etc/docker/plugins", "/usr/lib/docker/plugins"].into_iter().any(|folder| {
        ["ovl.spec", "ovl.json"].into_iter().any(|file| {
            let text = fs::read_to_string(Path::new(folder).join(file));
            text.is_ok_and(|text| text.contains(&address))
        })
    })
}

/// The dockerd of this network namespace; the first, where several are.
fn dockerd() -> Option<i32> {
    let namespace = |pid: &str| netns::identify(Path::new(&format!("/proc/{pid}/ns/net"))).ok();
    let own = namespace("thread-self");
    processes().find(|pid| namespace(&pid.to_string()) == own)
}

/// All of them, also those of other namespaces.
fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|pid: &i32| {
        let command = fs::read_to_string(format!("/proc/{pid}/comm"));
        command.is_ok_and(|command| command.trim_end() == "dockerd")
    })
}

impl Dockerd {
    fn look(pid: i32, plugin: &Path) -> Dockerd {
        let file = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        let theirs = plugin.strip_prefix("/").ok().map(|plugin| root.join(plugin));
        let visible = fs::exists(&root).unwrap_or(false);
        let sees = file(plugin).is_some() && theirs.and_then(|path| file(&path)) == file(plugin);
        Dockerd { pid, dns: name_servers(pid).ok(), sees_plugin: visible.then_some(sees) }
    }
}

fn judge(facts: &Facts) -> Vec<Finding> {
    if facts.about.is_err() && !facts.socket && facts.dockerd.is_none() {
        let none = format!("this host has no Docker at {}", facts.docker_host);
        return CHECKS.iter().map(|check| Finding::ok(check.id, none.clone())).collect();
    }
    let about = match &facts.about {
        Ok(about) => about,
        Err(why) => {
            let mut findings = vec![silent(facts, why)];
            let others = [DNS, LIVE_RESTORE, PLUGIN];
            findings.extend(others.map(|id| {
                Finding::unchecked(id, format!("Docker does not answer: see {VERSION}"))
            }));
            return findings;
        }
    };
    vec![version(about), dns(facts), live_restore(about), plugin(facts)]
}

fn silent(facts: &Facts, why: &str) -> Finding {
    let host = &facts.docker_host;
    match &facts.dockerd {
        Some(dockerd) if !facts.socket => {
            let pid = dockerd.pid;
            let summary = format!(
                "dockerd (process {pid}) runs, and has no socket at {host}: the agent does not hear it"
            );
            Finding::fail(VERSION, summary)
                .seen(why)
                .mend("set docker-host to the socket that dockerd has (its -H)")
        }
        Some(dockerd) => {
            let summary = format!("dockerd (process {}) does not answer at {host}", dockerd.pid);
            Finding::fail(VERSION, summary).seen(why).mend("journalctl -u docker -n 50")
        }
        None => {
            let summary = format!("Docker does not run, though its socket is at {host}");
            Finding::fail(VERSION, summary).seen(why).mend("systemctl start docker")
        }
    }
}

fn version(about: &About) -> Finding {
    let version = &about.version;
    let numbers = crate::preflight::kernel_version(version);
    match numbers {
        Some(numbers) if numbers < FIRST => {
            let summary = format!("Docker {version} is older than ovl supports");
            Finding::warn(VERSION, summary).mend("upgrade Docker to 20.10 or later")
        }
        Some(numbers) if numbers >= UNTRIED => Finding::ok(
            VERSION,
            format!("Docker {version}, newer than those that ovl was tried with"),
        ),
        Some(_) => Finding::ok(VERSION, format!("Docker {version}")),
        None => Finding::unchecked(VERSION, format!("Docker calls its version {version:?}")),
    }
}

fn dns(facts: &Facts) -> Finding {
    let resolver = RESOLVER.to_string();
    let servers = facts.dockerd.as_ref().and_then(|dockerd| dockerd.dns.as_ref());
    let set = servers.map(|servers| servers.contains(&resolver));
    let shown = servers.map(|servers| format!("dns of dockerd: {}", servers.join(", ")));
    let finding = match (facts.redirects, set) {
        (None, _) => Finding::unchecked(DNS, "whether DNS can be redirected could not be tried")
            .mend("run it as root"),
        (Some(true), Some(true)) => {
            let summary = format!(
                "dockerd gives all containers {resolver} for DNS, which this kernel does not need: `docker build` and \
                 containers on other networks ask there, and nobody answers"
            );
            Finding::warn(DNS, summary).mend(
                "take it out of dns in /etc/docker/daemon.json, then: systemctl restart docker",
            )
        }
        (Some(true), _) if !facts.dns.is_empty() => {
            Finding::fail(DNS, "containers do not find names of other hosts")
                .all_seen(facts.dns.iter().cloned())
                .mend("do what the agent says of it")
        }
        (Some(true), _) => Finding::ok(
            DNS,
            "nothing has to be set: the kernel leads DNS of containers to the agent",
        ),
        (Some(false), Some(true)) => Finding::ok(
            DNS,
            format!("dockerd gives containers {resolver} for DNS, as this kernel needs it"),
        ),
        (Some(false), Some(false)) => {
            let summary = "containers do not find names of other hosts: this kernel cannot lead their DNS to the agent, \
                           and dockerd has no setting for it";
            Finding::fail(DNS, summary)
                .all_seen(facts.dns.iter().cloned())
                .mend(format!(
                    "set {{\"dns\": [\"{resolver}\"]}} in /etc/docker/daemon.json, then: systemctl restart docker; \
                     or run Linux 5.12 or later with nf_tables"
                ))
        }
        (Some(false), None) => {
            Finding::unchecked(DNS, "this kernel needs dockerd's dns setting, which cannot be read")
                .mend("run it as root")
        }
    };
    finding.all_seen(shown)
}

fn live_restore(about: &About) -> Finding {
    let summary = match about.live_restore {
        true => "containers go on while dockerd is restarted",
        false => {
            "containers stop when dockerd is restarted: \"live-restore\": true in daemon.json keeps them"
        }
    };
    Finding::ok(LIVE_RESTORE, summary)
}

fn plugin(facts: &Facts) -> Finding {
    let path = facts.plugin.display();
    if !facts.agent {
        return Finding::unchecked(PLUGIN, "no agent answers that would serve it");
    }
    if !facts.plugin_is_there {
        let summary =
            format!("the agent's socket {path} was removed: Docker does not find the driver");
        return Finding::fail(PLUGIN, summary).mend("systemctl restart ovl-agent");
    }
    if !facts.plugin_is_looked_for {
        let summary =
            format!("the agent's socket is {path}, and Docker looks for plugins in {PLUGINS}");
        return Finding::warn(PLUGIN, summary)
            .mend(format!("set plugin-socket to {PLUGINS}/ovl.sock"));
    }
    match facts.dockerd.as_ref().map(|dockerd| (dockerd.pid, dockerd.sees_plugin)) {
        Some((_, Some(true))) => Finding::ok(PLUGIN, format!("dockerd sees {path}")),
        Some((pid, Some(false))) => {
            let summary = format!(
                "dockerd (process {pid}) does not see {path}: it has another file system there"
            );
            Finding::fail(PLUGIN, summary)
                .seen(format!("/proc/{pid}/root{path} is another file, or none"))
                .mend("run dockerd and the agent in one mount namespace; restart dockerd if it was started before /run/docker was mounted")
        }
        Some((_, None)) | None => {
            Finding::unchecked(PLUGIN, "the process of dockerd cannot be looked at")
                .mend("run it as root")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::doctor::Verdict;

    fn facts() -> Facts {
        let about = About { version: "28.5.2".into(), live_restore: true };
        let dockerd = Dockerd { pid: 9, dns: Some(Vec::new()), sees_plugin: Some(true) };
        Facts {
            docker_host: "unix:///var/run/docker.sock".into(),
            about: Ok(about),
            socket: true,
            dockerd: Some(dockerd),
            redirects: Some(true),
            dns: Vec::new(),
            plugin: "/run/docker/plugins/ovl.sock".into(),
            plugin_is_there: true,
            plugin_is_looked_for: true,
            agent: true,
        }
    }

    fn with_dns(servers: &[&str]) -> Option<Dockerd> {
        let dns = Some(servers.iter().map(|server| (*server).to_owned()).collect());
        Some(Dockerd { pid: 9, dns, sees_plugin: Some(true) })
    }

    fn verdicts(facts: &Facts) -> [Verdict; 4] {
        let found = judge(facts);
        assert_eq!(found.len(), 4, "{found:?}");
        [0, 1, 2, 3].map(|n| found[n].verdict)
    }

    #[test]
    fn a_host_without_docker_is_fine_and_one_whose_docker_is_silent_is_not() {
        use Verdict::{Fail, Ok as Fine, Unchecked as Not};
        let silent = || Facts { about: Err("no answer".into()), ..facts() };
        for (facts, expected) in [
            (facts(), [Fine; 4]),
            (Facts { socket: false, dockerd: None, ..silent() }, [Fine; 4]),
            (Facts { dockerd: None, ..silent() }, [Fail, Not, Not, Not]),
            (Facts { socket: false, ..silent() }, [Fail, Not, Not, Not]),
            (silent(), [Fail, Not, Not, Not]),
        ] {
            assert_eq!(verdicts(&facts), expected);
        }
    }

    #[test]
    fn names_need_a_redirect_or_the_setting_and_not_both() {
        let ours = &["169.254.53.53"][..];
        let said = || vec!["no DNS in x".to_owned()];
        for (redirects, servers, dns_problems, verdict) in [
            (Some(true), &[][..], vec![], Verdict::Ok),
            (Some(true), &["1.1.1.1"], vec![], Verdict::Ok),
            (Some(true), ours, vec![], Verdict::Warn),
            (Some(true), &[], said(), Verdict::Fail),
            (Some(false), &[], said(), Verdict::Fail),
            (Some(false), &["1.1.1.1"], vec![], Verdict::Fail),
            (Some(false), ours, vec![], Verdict::Ok),
            (None, ours, vec![], Verdict::Unchecked),
        ] {
            let facts =
                Facts { redirects, dockerd: with_dns(servers), dns: dns_problems, ..facts() };
            let found = dns(&facts);
            assert_eq!(found.verdict, verdict, "{redirects:?} {servers:?}: {found:?}");
        }
        let unread = Dockerd { pid: 9, dns: None, sees_plugin: None };
        let facts = Facts { redirects: Some(false), dockerd: Some(unread), ..facts() };
        assert_eq!(dns(&facts).verdict, Verdict::Unchecked);
    }

    #[test]
    fn versions_are_known_by_their_numbers() {
        for (text, verdict) in [
            ("20.10.24", Verdict::Ok),
            ("28.5.2", Verdict::Ok),
            ("29.0.1", Verdict::Ok),
            ("20.10.24+dfsg1", Verdict::Ok),
            ("19.03.15", Verdict::Warn),
            ("1.13.1", Verdict::Warn),
            ("dev", Verdict::Unchecked),
        ] {
            let about = About { version: text.into(), live_restore: false };
            assert_eq!(version(&about).verdict, verdict, "{text}");
        }
    }

    #[test]
    fn the_plugin_is_seen_as_the_same_file_or_it_is_told() {
        let dockerd = |sees_plugin| Some(Dockerd { pid: 9, dns: None, sees_plugin });
        for (facts, verdict) in [
            (facts(), Verdict::Ok),
            (Facts { agent: false, ..facts() }, Verdict::Unchecked),
            (Facts { plugin_is_there: false, ..facts() }, Verdict::Fail),
            (Facts { plugin_is_looked_for: false, ..facts() }, Verdict::Warn),
            (Facts { dockerd: dockerd(Some(false)), ..facts() }, Verdict::Fail),
            (Facts { dockerd: dockerd(None), ..facts() }, Verdict::Unchecked),
            (Facts { dockerd: None, ..facts() }, Verdict::Unchecked),
        ] {
            let found = plugin(&facts);
            assert_eq!(found.verdict, verdict, "{found:?}");
        }
    }
}
