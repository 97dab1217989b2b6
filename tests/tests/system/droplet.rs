//! Machines that stand in for droplets: what tests of making hosts at a provider rely on.
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ovl_tests::machine::{DropletSeed, Fleet, Standing};
use ovl_tests::underlay::Underlay;
use ovl_tests::{Machine, Outcome, StoreKind, exec};

use crate::support::{Site, eventually, holds, ok};

/// From the order to the end of cloud-init, packages included.
const MADE: Duration = Duration::from_secs(150);
/// From a request to a machine that runs.
const POWER: Duration = Duration::from_secs(100);

#[test]
fn a_droplet_boots_with_its_user_data_and_lets_its_key_in() {
    let site = Site::bare("droplet", StoreKind::Sqlite);
    let keys = Keys::new("droplet");
    let name = "drone".parse().unwrap();
    let mut seed = keys.seed(4711, "bee-1");
    seed.user_data.push_str(
        "write_files: [{path: /root/written, content: honey}]\n\
         package_update: true\n\
         packages: [jq]\n\
         runcmd: [[sh, -c, echo ran >> /root/ran]]\n",
    );
    let mut drone = Machine::start_droplet(site.lab(), &name, 0, &seed).unwrap();
    done(&drone);
    assert_eq!(ok(&drone, &["cat", "/root/written", "/root/ran"]), "honeyran\n");
    ok(&drone, &["jq", "--version"]);
    let asked = "http://169.254.169.254/metadata/v1/interfaces/private/0/ipv4/address";
    assert_eq!(ok(&drone, &["curl", "-sf", asked]), drone.address().to_string());
    for address in [drone.addresses().public, drone.addresses().private] {
        let said = keys.ssh(&site, &address.to_string(), "hostname; id -un").require().unwrap();
        assert_eq!(said.stdout, "bee-1\nroot\n");
    }
    let stranger = Keys::new("stranger");
    let refused = stranger.ssh(&site, &drone.addresses().public.to_string(), "true");
    assert!(refused.stderr.contains("Host key verification failed"), "{}", refused.stderr);

    drone.reboot().unwrap();
    done(&drone);
    // Who it is was asked again, and what is for the first boot alone was left.
    assert_eq!(ok(&drone, &["cat", "/root/ran"]), "ran\n");
    keys.ssh(&site, &drone.addresses().public.to_string(), "true").require().unwrap();
}

#[test]
fn a_droplet_restarts_itself_once_and_firewall_docker_and_fail2ban_work_in_it() {
    let site = Site::bare("fleet", StoreKind::Sqlite);
    let keys = Keys::new("fleet");
    let fleet = Fleet::new(site.lab(), 3);
    let mut seed = keys.seed(7, "hive");
    seed.user_data.push_str(
        "package_update: true\n\
         packages: [docker.io, ufw, fail2ban, python3-systemd]\n\
         write_files:\n\
         - {path: /etc/fail2ban/jail.d/own.conf, content: \"[sshd]\\nbackend = systemd\\n\"}\n\
         runcmd: [[ufw, allow, ssh], [ufw, --force, enable]]\n\
         power_state: {mode: reboot, condition: true}\n",
    );
    fleet.create(seed).unwrap();
    assert_eq!(fleet.standing(7), Some(Standing::New));
    eventually("one restart", MADE, || holds(fleet.boots(7) == Some(2), fleet.standing(7)));
    let hive = eventually("a droplet that runs", POWER, || {
        let active = matches!(fleet.standing(7), Some(Standing::Active(_)));
        fleet.machine(7).filter(|_| active).ok_or_else(|| format!("{:?}", fleet.standing(7)))
    });
    done(&hive);
    services_work(&site, &keys, &hive);
    assert_eq!(fleet.boots(7), Some(2), "it restarted again");

    assert!(fleet.reboot(7));
    eventually("a reboot", POWER, || holds(fleet.boots(7) == Some(3), fleet.standing(7)));
    assert!(fleet.delete(7));
    eventually("no droplet", POWER, || holds(fleet.standing(7).is_none(), fleet.standing(7)));
    assert!(!hive.is_on() && !fleet.reboot(7));
}

fn services_work(site: &Site, keys: &Keys, hive: &Machine) {
    let firewall = ok(hive, &["ufw", "status", "verbose"]);
    assert!(firewall.contains("Status: active") && firewall.contains("22/tcp"), "{firewall}");
    let jail = ok(hive, &["fail2ban-client", "status", "sshd"]);
    assert!(jail.contains("Currently banned"), "{jail}");
    hive.import_image().unwrap();
    let run = ["run", "--rm", "busybox", "echo", "buzz"];
    assert_eq!(hive.docker(&run).unwrap().require().unwrap().stdout, "buzz\n");
    // What the firewall has no rule for does not come in; ssh does.
    let public = hive.addresses().public.to_string();
    hive.script("busybox nc -ll -p 9999 -e cat >/dev/null 2>&1 &", &[]).unwrap();
    ok(hive, &["busybox", "nc", "-w", "2", &public, "9999"]);
    let underlay = Underlay::open(site.lab().folder()).unwrap();
    let mut knock = underlay.sandbox().network_command("busybox");
    knock.args(["nc", "-w", "2", &public, "9999"]);
    assert!(!exec::run(&mut knock, exec::QUICK).unwrap().ok(), "the firewall lets a stranger in");
    keys.ssh(site, &public, "true").require().unwrap();
}

fn done(machine: &Machine) {
    let status = machine.wait_for_cloud_init(MADE).unwrap();
    let log = || {
        let script = "cloud-init status --long; grep -E 'WARN|ERR|Trace|Error' /var/log/cloud-init.log; \
                      tail -n 60 /var/log/cloud-init-output.log";
        machine.run(&["sh", "-c", script]).unwrap().stdout
    };
    assert_eq!(status, "done", "{}", log());
}

/// A key for the user and one for the host, in a folder that goes with them.
struct Keys {
    folder: PathBuf,
}

impl Keys {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("ovl-keys-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).unwrap();
        for key in ["user", "host"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", key, "-f"]).arg(folder.join(key));
            exec::run_ok(&mut keygen).unwrap();
        }
        Self { folder }
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.join(file)).unwrap()
    }

    /// A droplet with these keys, and nothing else to do yet.
    fn seed(&self, id: u64, hostname: &str) -> DropletSeed {
        let private = self.read("host").replace('\n', "\n    ");
        let user_data = format!(
            "#cloud-config\nssh_keys:\n  ed25519_private: |\n    {}\n  ed25519_public: {}\n",
            private.trim_end(),
            self.read("host.pub").trim()
        );
        DropletSeed {
            id,
            hostname: hostname.to_owned(),
            region: "ams3".to_owned(),
            user_data,
            public_keys: vec![self.read("user.pub").trim().to_owned()],
        }
    }

    /// A command over ssh from beside the bridges, where only this host key is known.
    fn ssh(&self, site: &Site, address: &str, command: &str) -> Outcome {
        let known = self.folder.join("known");
        std::fs::write(&known, format!("{address} {}", self.read("host.pub"))).unwrap();
        let underlay = Underlay::open(site.lab().folder()).unwrap();
        let mut ssh = underlay.sandbox().network_command("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]);
        ssh.args([
            "-o",
            "ConnectTimeout=5",
            "-o",
            &format!("UserKnownHostsFile={}", known.display()),
        ]);
        ssh.arg("-i").arg(Path::new(&self.folder).join("user"));
        ssh.args([&format!("root@{address}"), command]);
        exec::run(&mut ssh, exec::QUICK).unwrap()
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
