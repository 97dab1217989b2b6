//! `ovlctl droplet` with real machines behind the provider's API: the user data that it makes is run by
//! cloud-init, and what is done over ssh is done by the user's ssh on their sshd.
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ovl_tests::digitalocean::{self as api, Activation, DigitalOcean, Order, Power, Settings};
use ovl_tests::machine::{self, DropletSeed, Standing};
use ovl_tests::programs::Programs;
use ovl_tests::underlay::Underlay;
use ovl_tests::{Machine, StoreKind, exec, spec};
use serde_json::Value;

use crate::support::{Site, ctl, docker, eventually, holds, newer, ok};

/// From nothing to the last check, and everything else that is done.
const WITHIN: Duration = Duration::from_secs(900);

/// The port of the server that has the agent's package.
const SERVED_AT: u16 = 8080;

/// In a view of its own: the user's home, where ssh looks for it, is `$1`; then ovlctl.
const AS_USER: &str = r#"
home=$1
shift
mkdir -p /root
mount --bind "$home" /root
cd /
exec "$@"
"#;

/// For user data: the first boot of this one fails in the middle, at its firewall's first rule.
const BREAKS_ONCE: (&str, &str) = (
    "workerbee-1",
    r#"
bootcmd:
  - - sh
    - -c
    - |
      cat > /usr/local/sbin/ufw <<'END'
      #!/bin/sh
      if [ "$1" != allow ]; then exec /usr/sbin/ufw "$@"; fi
      rm "$0"
      echo "not now"
      exit 1
      END
      chmod 755 /usr/local/sbin/ufw
"#,
);

/// The machines of a site, as the API's droplets.
struct Behind(Arc<machine::Fleet>);

impl api::Fleet for Behind {
    fn create(&self, order: &Order) {
        let mut user_data = order.user_data.clone().unwrap_or_default();
        if order.name == BREAKS_ONCE.0 {
            user_data += BREAKS_ONCE.1;
        }
        let seed = DropletSeed {
            id: order.id,
            hostname: order.name.clone(),
            region: order.region.clone(),
            user_data,
            public_keys: order.ssh_keys.iter().map(|key| key.trim().to_owned()).collect(),
        };
        self.0.create(seed).unwrap();
    }

    fn addresses(&self, id: u64) -> Option<api::Addresses> {
        let Some(Standing::Active(at) | Standing::Off(at)) = self.0.standing(id) else {
            return None;
        };
        let address = |ip| Some(api::Address { ip, prefix: 24, gateway: None });
        Some(api::Addresses { public: address(at.public), private: address(at.private) })
    }

    fn power(&self, id: u64, power: Power) {
        assert!(matches!(power, Power::Reboot | Power::Cycle), "{power:?}");
        assert!(self.0.reboot(id));
    }

    fn delete(&self, id: u64) {
        assert!(self.0.delete(id));
    }
}

/// A provider with machines, and a user.
struct Cloud {
    api: DigitalOcean,
    fleet: Arc<machine::Fleet>,
    site: Site,
    home: PathBuf,
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

impl Cloud {
    fn new(name: &str) -> Cloud {
        let site = Site::bare(name, StoreKind::Sqlite);
        let fleet = Arc::new(machine::Fleet::new(site.lab(), 0));
        let range =
            format!("{}/24", spec::host_address(0)).parse::<ipnet::Ipv4Net>().unwrap().trunc();
        let settings = Settings {
            activation: Activation::After(Duration::ZERO),
            vpc_ranges: [("sfo3".to_owned(), range)].into(),
            ..Settings::default()
        };
        let api = DigitalOcean::with_fleet(settings, Box::new(Behind(Arc::clone(&fleet)))).unwrap();
        let home = std::env::temp_dir().join(format!("ovl-cloud-{name}-{}", std::process::id()));
        std::fs::create_dir_all(home.join(".ssh")).unwrap();
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(home.join(".ssh/id_ed25519"));
        exec::run_ok(&mut keygen).unwrap();
        // The user's own configuration leads to the machines' network: they are reached through it or not at all.
        let underlay = Underlay::open(site.lab().folder()).unwrap();
        let lead = format!(
            "Host *\n  ProxyCommand nsenter --net={} busybox nc %h %p\n",
            underlay.sandbox().network_path()
        );
        std::fs::write(home.join(".ssh/config"), lead).unwrap();
        std::fs::copy(Programs::find().unwrap().ovlctl(), home.join("ovlctl")).unwrap();
        Cloud { api, fleet, site, home }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-euc", AS_USER, "sh"])
            .arg(&self.home)
            .args(["/root/ovlctl", "droplet"])
            .args(args);
        command.env_clear().env("HOME", "/root").env("PATH", std::env::var_os("PATH").unwrap());
        command
            .env("DIGITALOCEAN_ACCESS_TOKEN", self.api.token())
            .env("DIGITALOCEAN_API_URL", self.api.url());
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> exec::Outcome {
        exec::run(&mut self.command(args), WITHIN).unwrap()
    }

    fn fine(&self, args: &[&str]) -> String {
        let outcome = self.run(args);
        assert!(outcome.ok(), "{outcome:#?}\n{}", self.first_boots());
        outcome.stdout
    }

    fn json(&self, args: &[&str]) -> Value {
        let all: Vec<&str> = ["--json"].iter().chain(args).copied().collect();
        serde_json::from_str(&self.fine(&all)).unwrap()
    }

    fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// What the first boots said, for who looks why a test failed.
    fn first_boots(&self) -> String {
        let logs = self.api.droplets().into_iter().filter_map(|one| {
            let log = self.fleet.machine(one.order.id)?.run(&[
                "tail",
                "-n",
                "40",
                "/var/log/cloud-init-output.log",
            ]);
            Some(format!("---- {}\n{}\n", one.order.name, log.ok()?.stdout))
        });
        logs.collect()
    }

    /// Where the machines get the file from.
    fn serve(&self, file: &Path) -> String {
        let folder = self.site.lab().folder().join("served");
        std::fs::create_dir(&folder).unwrap();
        std::fs::copy(file, folder.join("ovl.deb")).unwrap();
        let at = format!("{}:{SERVED_AT}", spec::bridge_address());
        let log = self.site.lab().folder().join("served.log");
        let record = self.site.lab().folder().join("served.process");
        let argv = ["busybox", "httpd", "-f", "-p", &at, "-h", folder.to_str().unwrap()];
        let underlay = Underlay::open(self.site.lab().folder()).unwrap();
        underlay.sandbox().spawn("the server of packages", &argv, &log, &record).unwrap();
        underlay.sandbox().wait_for_port("the server of packages", SERVED_AT, exec::QUICK).unwrap();
        format!("http://{at}/ovl.deb")
    }

    fn machine(&self, name: &str) -> Machine {
        self.fleet.machine(self.api.droplet(name).unwrap().order.id).unwrap()
    }

    fn host_keys(&self, name: &str) -> String {
        let id = self.api.droplet(name).unwrap().order.id;
        let file = self.home.join(format!(".local/state/ovl/default/known_hosts.{name}.{id}"));
        std::fs::read_to_string(file).unwrap()
    }
}

#[test]
fn a_cluster_comes_up_from_a_token_and_goes_without_a_trace() {
    let cloud = Cloud::new("cloud");
    let deb = newer().display().to_string();
    let up = ["cluster", "up", "--workers", "1", "--deb", deb.as_str()];
    let said = cloud.run(&up);
    assert!(said.ok(), "{said:#?}\n{}", cloud.first_boots());
    for name in ["kvstore", "queenbee", "workerbee-1"] {
        let mut of_it = said.stdout.lines().filter(|line| line.starts_with(name));
        assert!(of_it.next().is_some_and(|line| line.contains("ready")), "{said:#?}");
        let was_broken = said.stderr.lines().any(|line| {
            line.starts_with(name) && line.contains("the first boot") && line.contains("done again")
        });
        assert_eq!(was_broken, name == BREAKS_ONCE.0, "{said:#?}\n{}", cloud.first_boots());
    }
    assert!(said.stdout.contains("docker network create -d ovl"), "{said:#?}");
    the_store_is_on_the_private_address_alone(&cloud.machine("kvstore"));
    hosts_are_closed_but_for_what_is_meant(&cloud);
    containers_reach_each_other(&cloud);
    host_keys_are_their_own(&cloud);
    again_changes_nothing(&cloud, &up);
    what_was_broken_is_mended_and_shown(&cloud);
    commands_run_there(&cloud);
    a_tunnel_leads_to_what_is_not_published(&cloud);
    one_restarts(&cloud);
    one_goes_and_leaves_the_cluster(&cloud);
    a_package_from_a_url_is_the_one_that_was_named(&cloud);
    a_registry_that_is_named_is_not_kvstores(&cloud);
    let said = cloud.fine(&["cluster", "down", "--yes"]);
    assert!(said.contains("removed droplet kvstore") && said.contains("cloud firewall"), "{said}");
    assert_eq!(
        (cloud.api.droplets().len(), cloud.api.firewalls().len(), cloud.api.keys().len()),
        (0, 0, 0)
    );
    assert_eq!(cloud.api.tags(), Vec::<String>::new());
    assert_eq!(cloud.api.violations(), Vec::<String>::new());
}

fn the_store_is_on_the_private_address_alone(kvstore: &Machine) {
    let listening = ok(kvstore, &["ss", "-Hltnp"]);
    let private = kvstore.addresses().private.to_string();
    let consul: Vec<&str> = listening.lines().filter(|line| line.contains("consul")).collect();
    assert!(consul.iter().any(|line| line.contains(&format!("{private}:8500"))), "{listening}");
    for line in consul {
        let local = line.split_whitespace().nth(3).unwrap();
        assert!(local.starts_with(&private), "{listening}");
    }
    let rules = ok(kvstore, &["ufw", "status"]);
    assert!(rules.contains("8500") && !rules.contains("2376"), "{rules}");
}

fn hosts_are_closed_but_for_what_is_meant(cloud: &Cloud) {
    let queenbee = cloud.machine("queenbee");
    let rules = ok(&queenbee, &["ufw", "status", "verbose"]);
    assert!(rules.contains("Status: active") && rules.contains("deny (incoming)"), "{rules}");
    for port in ["22/tcp", "80/tcp", "443/tcp", "2376/tcp", "3376/tcp"] {
        assert!(rules.contains(port), "{port} in {rules}");
    }
    for port in ["7946/tcp", "7946/udp", "4789/udp"] {
        let mut of_port = rules.lines().filter(|line| line.starts_with(port)).peekable();
        assert!(of_port.peek().is_some(), "{rules}");
        assert!(of_port.all(|line| line.contains("eth1") && !line.contains("Anywhere")), "{rules}");
    }
    let jail = ok(&queenbee, &["fail2ban-client", "status", "sshd"]);
    assert!(jail.contains("Currently banned"), "{jail}");
    let settings = std::fs::read_to_string(queenbee.path("/etc/ovl/agent.toml")).unwrap();
    let store = format!("consul://{}:8500", cloud.machine("kvstore").addresses().private);
    assert!(settings.contains("advertise = \"eth1\"") && settings.contains(&store), "{settings}");
}

fn containers_reach_each_other(cloud: &Cloud) {
    let (queenbee, worker) = (cloud.machine("queenbee"), cloud.machine("workerbee-1"));
    let members = ctl(&queenbee, &["members"]);
    let alive = members.as_array().unwrap().iter().filter(|one| one["state"] == "alive");
    assert_eq!(alive.count(), 2, "{members}");
    for machine in [&queenbee, &worker] {
        machine.import_image().unwrap();
    }
    docker(&queenbee, &["network", "create", "-d", "ovl", "--ipam-driver", "ovl", "rethinkdb"]);
    let run =
        ["run", "-d", "--net", "rethinkdb", "--name", "rethinkleader", "busybox", "sleep", "1000"];
    docker(&queenbee, &run);
    let ping = [
        "run",
        "--rm",
        "--net",
        "rethinkdb",
        "busybox",
        "ping",
        "-c",
        "1",
        "-W",
        "2",
        "rethinkleader",
    ];
    eventually("a follower that reaches the leader by name", Duration::from_secs(30), || {
        let outcome = worker.docker(&ping).map_err(|error| error.chain())?;
        holds(outcome.ok(), outcome)
    });
    docker(&queenbee, &["rm", "-f", "rethinkleader"]);
}

/// Those of the first boot, which stand in the user data, are nowhere any more.
fn host_keys_are_their_own(cloud: &Cloud) {
    for name in ["kvstore", "queenbee", "workerbee-1"] {
        let known = cloud.host_keys(name);
        assert!(!known.contains("first-boot"), "{known}");
        let script = "cat /etc/ssh/ssh_host_ed25519_key.pub; test ! -e /etc/ssh/ovl-new";
        let own = cloud.machine(name).script(script, &[]).unwrap();
        let blob = own.split_whitespace().nth(1).unwrap();
        assert!(known.contains(blob), "{known} {own}");
        let user_data = cloud.api.droplet(name).unwrap().order.user_data.unwrap();
        assert!(!user_data.contains(blob));
    }
}

fn again_changes_nothing(cloud: &Cloud, up: &[&str]) {
    let outcomes = cloud.json(&["provision"]);
    for one in outcomes.as_array().unwrap() {
        assert_eq!(one["changes"], serde_json::json!([]), "{outcomes}");
        assert_eq!(one["failure"], Value::Null, "{outcomes}");
    }
    let before: Vec<u64> = cloud.api.droplets().iter().map(|one| one.order.id).collect();
    let said = cloud.run(up);
    assert!(said.ok() && said.stderr.contains("nothing had to be changed"), "{said:#?}");
    assert_eq!(cloud.api.droplets().iter().map(|one| one.order.id).collect::<Vec<_>>(), before);
}

fn what_was_broken_is_mended_and_shown(cloud: &Cloud) {
    let queenbee = cloud.machine("queenbee");
    ok(&queenbee, &["ufw", "delete", "allow", "443/tcp"]);
    ok(&queenbee, &["systemctl", "stop", "ovl-agent", "fail2ban"]);
    let outcomes = cloud.json(&["provision", "queenbee"]);
    let changes = outcomes[0]["changes"].as_array().unwrap();
    let each = ["443", "fail2ban", "ovl-agent"];
    assert_eq!(changes.len(), each.len(), "{changes:?}");
    for (change, what) in changes.iter().zip(each) {
        assert!(change.as_str().unwrap().contains(what), "{changes:?}");
    }
    assert!(ok(&queenbee, &["ufw", "status"]).contains("443"));
}

fn commands_run_there(cloud: &Cloud) {
    let said = cloud.run(&["ssh", "queenbee", "--", "hostname; exit 7"]);
    assert_eq!((said.code, said.stdout.trim()), (Some(7), "queenbee"), "{said:#?}");
    // Another key than the known one is refused, by every command.
    let id = cloud.api.droplet("queenbee").unwrap().order.id;
    let file = cloud.home.join(format!(".local/state/ovl/default/known_hosts.queenbee.{id}"));
    let known = std::fs::read_to_string(&file).unwrap();
    let other = std::fs::read_to_string(cloud.home.join(".ssh/id_ed25519.pub")).unwrap();
    std::fs::write(&file, format!("queenbee {other}")).unwrap();
    let refused = cloud.run(&["ssh", "queenbee", "--", "true"]);
    assert!(
        !refused.ok() && refused.stderr.contains("HOST IDENTIFICATION HAS CHANGED"),
        "{refused:#?}"
    );
    let refused = cloud.run(&["provision", "queenbee"]);
    assert!(!refused.ok() && refused.stderr.contains("another host key"), "{refused:#?}");
    // One that is not known is trusted once, said so, and known from then on; also where the user is not let in.
    std::fs::remove_file(&file).unwrap();
    let (key, away) = (cloud.home.join(".ssh/id_ed25519"), cloud.home.join("away"));
    std::fs::rename(&key, &away).unwrap();
    let denied = cloud.run(&["ssh", "queenbee", "--", "true"]);
    assert!(
        !denied.ok()
            && denied.stderr.contains("trusted this once")
            && denied.stderr.contains("Permission denied"),
        "{denied:#?}"
    );
    std::fs::rename(&away, &key).unwrap();
    std::fs::remove_file(&file).unwrap();
    let trusted = cloud.run(&["provision", "queenbee"]);
    assert!(
        trusted.ok()
            && trusted.stderr.contains("trusted this once")
            && trusted.stderr.contains("SHA256:"),
        "{trusted:#?}"
    );
    let now = std::fs::read_to_string(&file).unwrap();
    assert!(now.lines().any(|line| known.contains(line.split(' ').nth(2).unwrap())), "{now}");
}

fn a_tunnel_leads_to_what_is_not_published(cloud: &Cloud) {
    let private = cloud.machine("kvstore").addresses().private;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let refused = cloud.run(&["tunnel", "kvstore", &format!("{port}:{private}:8500")]);
    assert!(!refused.ok() && refused.stderr.contains("take another port"), "{refused:#?}");
    drop(taken);
    let child = cloud.start(&["tunnel", "kvstore", &format!("{port}:{private}:8500")]);
    let mut curl = Command::new("curl");
    let url = format!("http://127.0.0.1:{port}/v1/status/leader");
    curl.args(["-s", "--max-time", "2", &url]);
    eventually("Consul's leader through the tunnel", Duration::from_secs(30), || {
        let said = exec::run(&mut curl, exec::QUICK).map_err(|error| error.chain())?;
        holds(said.stdout.contains(":8300"), said)
    });
    let said = interrupted(child);
    assert!(said.status.success(), "{said:?}");
    let after = exec::run(&mut curl, exec::QUICK).unwrap();
    assert!(!after.ok(), "the tunnel outlives its program: {after:#?}");
}

fn interrupted(child: Child) -> Output {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    child.wait_with_output().unwrap()
}

fn one_restarts(cloud: &Cloud) {
    let id = cloud.api.droplet("workerbee-1").unwrap().order.id;
    let boots = cloud.fleet.boots(id).unwrap();
    cloud.fine(&["restart", "workerbee-1"]);
    assert_eq!(cloud.fleet.boots(id), Some(boots + 1));
    let queenbee = cloud.machine("queenbee");
    eventually("the worker in the cluster again", Duration::from_secs(60), || {
        let members = ctl(&queenbee, &["members"]);
        holds(members.as_array().unwrap().iter().all(|one| one["state"] == "alive"), members)
    });
}

fn one_goes_and_leaves_the_cluster(cloud: &Cloud) {
    let said = cloud.fine(&["rm", "--yes", "workerbee-1"]);
    assert!(said.contains("removed droplet workerbee-1"), "{said}");
    let members = ctl(&cloud.machine("queenbee"), &["members"]);
    let worker = members.as_array().unwrap().iter().find(|one| one["name"] == "workerbee-1");
    assert!(worker.is_none_or(|one| one["state"] == "left"), "{members}");
}

/// The first try asks for another package than the server has; the second goes on with what is there.
fn a_package_from_a_url_is_the_one_that_was_named(cloud: &Cloud) {
    let deb = newer();
    let url = cloud.serve(&deb);
    let digest = exec::run_ok(Command::new("sha256sum").arg(&deb)).unwrap();
    let digest = digest.split(' ').next().unwrap();
    let other = "0".repeat(64);
    let create = |digest| ["create", "--name", "drone", "--deb", &url, "--deb-sha256", digest];
    let refused = cloud.run(&create(&other));
    assert!(
        !refused.ok() && refused.stderr.contains("is not the package with the SHA-256"),
        "{refused:#?}\n{}",
        cloud.first_boots()
    );
    let id = cloud.api.droplet("drone").unwrap().order.id;
    let drone = cloud.machine("drone");
    let installed = drone.run(&["dpkg-query", "-W", "ovl"]).unwrap();
    assert!(!installed.ok(), "{installed:#?}");
    let said = cloud.run(&create(digest));
    assert!(said.ok() && said.stderr.contains("going on with drone"), "{said:#?}");
    assert_eq!(cloud.api.droplet("drone").unwrap().order.id, id);
    let members = ctl(&cloud.machine("queenbee"), &["members"]);
    let mut alive = members.as_array().unwrap().iter().filter(|one| one["state"] == "alive");
    assert!(alive.any(|one| one["name"] == "drone"), "{members}");
}

/// Named by its address, kvstore's registry is like any other: it is the same, so nothing changes, and hosts leave
/// it when they go.
fn a_registry_that_is_named_is_not_kvstores(cloud: &Cloud) {
    let own = format!("consul://{}:8500", cloud.machine("kvstore").addresses().private);
    let outcomes = cloud.json(&["provision", "--store", &own]);
    for one in outcomes.as_array().unwrap() {
        let said = (&one["changes"], &one["failure"]);
        assert_eq!(said, (&serde_json::json!([]), &Value::Null), "{outcomes}");
    }
    cloud.fine(&["rm", "--yes", "drone"]);
    let members = ctl(&cloud.machine("queenbee"), &["members"]);
    let drone = members.as_array().unwrap().iter().find(|one| one["name"] == "drone");
    assert!(drone.is_none_or(|one| one["state"] == "left"), "{members}");
}
