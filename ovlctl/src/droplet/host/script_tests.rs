//! Steps of the script, run by a real shell on files of a test, with functions in the place of what
//! would change this machine.
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::PROVISION;

const CALL: &str = "provision </dev/null\n";
const SETTINGS: &str =
    "HOST_SETTINGS='store = \"consul://10.124.0.2:8500\"\njoin = [\"10.124.0.3\"]'";

/// A folder that is the machine, and what its programs would say.
struct Machine {
    root: TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { root: TempDir::new().expect("a folder") };
        machine.write("run/said", "");
        machine
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("written");
    }

    /// A program in the place of the machine's own.
    fn program(&self, name: &str, script: &str) {
        let path = format!("bin/{name}");
        self.write(&path, &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(self.path(&path), fs::Permissions::from_mode(0o755)).expect("set");
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).expect("a file")
    }

    /// Runs commands with all functions of the script, and gives what it printed.
    fn run(&self, commands: &str) -> String {
        let functions = PROVISION.strip_suffix(CALL).expect("one call, at the end");
        let work = self.path("run").display().to_string();
        let root = self.root.path().display().to_string();
        let script = format!(
            "{functions}\nPATH='{root}/bin':$PATH work='{work}' HOST_ROOT='{root}' log='{work}/log' agent_toml='{root}/agent.toml'\n\
             wants_mark='{work}/wants' advertise=eth1 step=test HOST_ROLE=node\n{SETTINGS}\n{commands}"
        );
        let output = Command::new("sh").args(["-c", &script]).output().expect("a shell");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said + &String::from_utf8_lossy(&output.stderr)
    }

    /// What a kernel says of itself; `booted` in seconds since 1970.
    fn kernel(&self, controllers: &str, command_line: &str, booted: u64) {
        self.write("sys/fs/cgroup/cgroup.controllers", controllers);
        self.write("proc/cmdline", command_line);
        self.write("proc/stat", &format!("cpu 1\nbtime {booted}\n"));
    }

    fn step_memory(&self) -> String {
        let menu = self.path("boot/grub/grub.cfg").display().to_string();
        let script = format!(
            "mkdir -p \"$(dirname '{menu}')\"; echo 'linux /vmlinuz ro cgroup_enable=memory' >'{menu}'"
        );
        self.step_memory_with(&script)
    }

    fn step_memory_with(&self, update_grub: &str) -> String {
        self.program("update-grub", update_grub);
        self.run("step_memory")
    }

    fn agent_settings(&self) -> String {
        self.run("agent_settings && told agent 'as it was'")
    }
}

#[test]
fn a_script_that_was_cut_off_does_nothing() {
    let whole = PROVISION.strip_suffix(CALL).expect("one call, at the end");
    for end in [whole.len(), whole.len() / 2, whole.len() / 3] {
        let output = Command::new("sh").args(["-c", &whole[..end]]).output().expect("a shell");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    }
}

#[test]
fn the_network_of_an_address_is_found() {
    let table = [
        ("10.124.0.2/20", "10.124.0.0/20"),
        ("10.124.19.200/20", "10.124.16.0/20"),
        ("192.168.7.9/32", "192.168.7.9/32"),
        ("203.0.113.77/25", "203.0.113.0/25"),
        ("10.1.2.3/0", "0.0.0.0/0"),
    ];
    for (address, network) in table {
        assert_eq!(Machine::new().run(&format!("network_of {address}")), format!("{network}\n"));
    }
}

#[test]
fn a_kernel_that_accounts_for_memory_is_left_alone() {
    let machine = Machine::new();
    machine.kernel("cpu memory pids", "quiet", 1000);
    assert!(machine.step_memory().starts_with("= memory: "));
    assert!(!machine.path("etc").exists());
}

#[test]
fn version_1_of_control_groups_must_account_for_swap_too() {
    let machine = Machine::new();
    machine.kernel("", "quiet", 1000);
    fs::remove_file(machine.path("sys/fs/cgroup/cgroup.controllers")).expect("removed");
    machine.write("proc/cgroups", "#subsys_name hierarchy num enabled\nmemory 4 14 1\n");
    assert!(machine.step_memory().contains("\n~ memory: "));
    machine.write("sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", "0");
    assert!(machine.step_memory().starts_with("= memory: "));
    machine.write("proc/cgroups", "memory 4 14 0\n");
    assert!(machine.step_memory().starts_with("~ memory: "));
}

#[test]
fn a_restart_is_asked_for_until_it_came_and_not_again() {
    let machine = Machine::new();
    machine.kernel("cpu", "quiet", 1000);
    let first = machine.step_memory();
    assert!(first.starts_with("+ memory: ") && first.contains("\n~ memory: "), "{first}");
    let file = machine.read("etc/default/grub.d/zz-ovl.cfg");
    assert!(file.contains("cgroup_enable=memory swapaccount=1"), "{file}");
    assert!(machine.path("run/ovl-provision.restart").exists());
    assert!(machine.step_memory().starts_with("~ memory: "));
    // Restarted, but not by that GRUB; then by it, and in vain.
    machine.kernel("cpu", "quiet", 99_999_999_999);
    assert!(machine.step_memory().starts_with("! memory: the machine was restarted"));
    machine.kernel("cpu", "quiet cgroup_enable=memory swapaccount=1", 99_999_999_999);
    assert!(machine.step_memory().starts_with("! memory: the kernel was started with"));
}

#[test]
fn an_update_of_grub_that_did_not_end_is_made_up_for() {
    let machine = Machine::new();
    machine.kernel("cpu", "quiet", 1000);
    machine.write("boot/grub/grub.cfg", "linux /vmlinuz ro quiet\n");
    let full = machine.step_memory_with("echo 'cp: /boot is full'; exit 1");
    assert!(full.contains("! memory: update-grub: cp: /boot is full"), "{full}");
    // The boot comes after the file, but not after what GRUB is to be told by it.
    let age = |path: &str, seconds: u64| {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        File::open(machine.path(path)).and_then(|file| file.set_modified(time)).expect("set");
    };
    machine.kernel("cpu", "quiet", 2000);
    age("etc/default/grub.d/zz-ovl.cfg", 1000);
    for _ in 0..2 {
        assert!(machine.step_memory().starts_with("~ memory: "));
    }
    age("boot/grub/grub.cfg", 3000);
    machine.kernel("cpu", "quiet", 4000);
    assert!(machine.step_memory().starts_with("! memory: the machine was restarted"));
    // It ends well, and changes nothing.
    machine.write("boot/grub/grub.cfg", "linux /vmlinuz ro quiet\n");
    let in_vain = machine.step_memory_with("exit 0");
    assert!(in_vain.starts_with("! memory: update-grub left "), "{in_vain}");
}

#[test]
fn a_new_file_of_settings_holds_what_the_agent_needs_and_stays() {
    let machine = Machine::new();
    assert!(machine.agent_settings().starts_with("+ agent: wrote "));
    assert_eq!(machine.read("run/wants"), "restart\n");
    let table: toml::Table = machine.read("agent.toml").parse().expect("TOML");
    assert_eq!(table["advertise"].as_str(), Some("eth1"));
    assert_eq!(table["store"].as_str(), Some("consul://10.124.0.2:8500"));
    assert_eq!(table["join"].as_array().map(Vec::len), Some(1));
    assert_eq!(machine.agent_settings(), "= agent: as it was\n");
}

#[test]
fn settings_of_the_operator_stay_when_those_of_the_cluster_change() {
    let machine = Machine::new();
    machine.write("agent.toml", "# mine\nlog = \"debug\"\n");
    machine.agent_settings();
    let before = machine.read("agent.toml").replace("\"10.124.0.3\"", "\"10.124.0.9\"");
    machine.write("agent.toml", &before);
    fs::remove_file(machine.path("run/wants")).expect("was wanted");
    fs::set_permissions(machine.path("agent.toml"), fs::Permissions::from_mode(0o600))
        .expect("set");
    let said = machine.agent_settings();
    assert!(said.contains("join = [\"10.124.0.3\"]"), "{said}");
    assert_eq!(machine.read("run/wants"), "reload\n");
    assert_eq!(machine.read("agent.toml.old"), before);
    let after = machine.read("agent.toml");
    assert!(after.ends_with("\n# mine\nlog = \"debug\"\n"), "{after}");
    let mode = fs::metadata(machine.path("agent.toml")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_that_sets_the_same_by_hand_stays_as_it_is() {
    for line in ["join=[\"10.9.9.9\"]", "  \"store\" = \"sqlite:///x\"", "advertise = \"eth0\""] {
        let machine = Machine::new();
        machine.write("agent.toml", line);
        let said = machine.agent_settings();
        assert!(said.starts_with("! agent: ") && said.contains("by hand"), "{said}");
        assert_eq!(machine.read("agent.toml"), line);
    }
}

#[test]
fn a_file_without_its_end_mark_stays_as_it_is() {
    let machine = Machine::new();
    machine.agent_settings();
    let cut = machine.read("agent.toml").replace("# The end mark.\n", "log = \"debug\"\n");
    machine.write("agent.toml", &cut);
    let said = machine.agent_settings();
    assert!(said.starts_with("! agent: ") && said.contains("end mark"), "{said}");
    assert_eq!(machine.read("agent.toml"), cut);
}

#[test]
fn a_rule_that_somebody_made_stays() {
    let ufw = r#"ufw() {
        case $1 in
        show) echo "ufw limit 22/tcp"; echo "ufw deny 80/tcp comment 'no web'"; echo "ufw allow 4431/tcp" ;;
        *) echo "ufw $*" >&3 ;;
        esac
    }
    left_alone=''
    exec 3>&1
    allow 22/tcp; allow 80/tcp; allow 443/tcp
    told firewall "all$left_alone""#;
    let said = Machine::new().run(ufw);
    assert_eq!(said, "ufw allow 443/tcp\n+ firewall: allowed 443/tcp\n");
}

#[test]
fn a_lock_of_apt_is_waited_for_and_another_failure_is_told() {
    let machine = Machine::new();
    let install = "export work\nsleep() { :; }\napt_get 'packages: x' install x; say went on";
    let lock = "E: Could not get lock /x. It is held by process 1 (apt)";
    let held =
        format!("[ -e \"$work/free\" ] || {{ : >\"$work/free\"; echo '{lock}'; exit 100; }}");
    machine.program("apt-get", &held);
    assert_eq!(machine.run(install), "went on\n");
    assert!(machine.read("run/log").contains(lock));
    machine.program(
        "apt-get",
        "echo noise; echo 'E: Unable to locate package x'; echo more; exit 100",
    );
    assert_eq!(machine.run(install), "! packages: x: Unable to locate package x\n");
}

#[test]
fn an_installation_that_somebody_else_is_at_is_waited_for() {
    let machine = Machine::new();
    let update = "export work\nsleep() { :; }\nupdate; say went on";
    machine.write("var/lib/dpkg/updates/0001", "");
    machine.program("apt-get", "exit 0");
    let lock = "dpkg: error: dpkg frontend lock was locked by another process with pid 7";
    let locked =
        format!("echo '{lock}'; echo 'Note: never remove it'; echo 'See <https://x>.'; exit 2");
    machine
        .program("dpkg", &format!("[ -e \"$work/free\" ] || {{ : >\"$work/free\"; {locked}; }}"));
    assert_eq!(machine.run(update), "went on\n");
    assert!(machine.read("run/log").contains(lock));
    // It never ends: a look at the clock takes 400 s.
    machine.program("dpkg", &locked);
    machine.program("date", "echo >>\"$work/looks\"; echo $(($(wc -l <\"$work/looks\") * 400))");
    assert_eq!(
        machine.run(update),
        "! packages: dpkg --configure -a: dpkg frontend lock was locked by another process with pid 7\n"
    );
    assert_eq!(machine.read("run/looks").len(), 3);
    machine.program(
        "dpkg",
        "echo 'dpkg: error processing package x (--configure):'; echo ' it ended with status 1'\n\
         echo 'Errors were encountered while processing:'; echo ' x'; exit 1",
    );
    assert_eq!(
        machine.run(update),
        "! packages: dpkg --configure -a: error processing package x (--configure): it ended with status 1\n"
    );
}

#[test]
fn a_key_that_is_not_hashicorps_is_not_trusted() {
    let keys = |lines: &str| {
        Machine::new().run(&format!(
            "packages() {{ :; }}\ncurl() {{ :; }}\ngpg() {{ printf '{lines}'; }}\n\
             install() {{ say installed; }}\nupdate() {{ :; }}\nput() {{ :; }}\nhashicorp"
        ))
    };
    let (good, bad) = (
        "pub:-\\nfpr:::::::::D55C0D1AC78A8D8126CB631CFC9CA96ACA026560:\\n",
        "pub:-\\nfpr:::::::::ABC:\\n",
    );
    assert_eq!(keys(&format!("{good}sub:-\\nfpr:::::::::DEF:\\n")), "installed\n");
    for wrong in [bad.to_owned(), format!("{good}{bad}"), String::new()] {
        let said = keys(&wrong);
        assert!(
            said.starts_with("! consul: the key at ") && !said.contains("installed\n"),
            "{said}"
        );
    }
}

/// Fails where there is no Consul: `scripts/tools consul` fetches one.
#[test]
fn consul_accepts_its_settings() {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools").display().to_string();
    let machine = Machine::new();
    let said = machine.run(&format!(
        "PATH='{tools}':$PATH\nprivate=10.124.0.2\nput() {{ cat >\"$work/put\"; }}\nconsul_settings"
    ));
    assert_eq!(said, "");
    let settings: serde_json::Value = serde_json::from_str(&machine.read("run/put")).expect("JSON");
    assert_eq!(settings["client_addr"], "10.124.0.2");
    assert_eq!(settings["bind_addr"], "10.124.0.2");
}
