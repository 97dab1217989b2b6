//! `ovlctl bundle` on a host with secrets in every place where one may stand.
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ovl_tests::programs::Programs;
use ovl_tests::{Host, StoreKind};
use serde_json::Value;

use crate::support::{SPREAD, TestLab, ctl, eventually, text};

/// In a file that the store's URL names.
const TOKEN: &str = "c0ffee00-0000-4000-8000-000000000002";
/// In a variable of the service, and so of the agent.
const VARIABLE: &str = "facade00-0000-4000-8000-000000000004";
/// In the userinfo of a URL, in settings.
const PASSWORD: &str = "hunter22-hunter22";
/// In a line of the log, behind the name of a header.
const LOGGED: &str = "QWxhZGRpbjpvcGVuIHNlc2FtZQ";
const SECRETS: [&str; 4] = [TOKEN, VARIABLE, PASSWORD, LOGGED];

/// Also as somebody might have written it into a log.
const JOURNAL: &str = "#!/bin/sh
echo '2026-01-01 bee-1 ovl-agent: a line of the log'
echo '2026-01-01 bee-1 ovl-agent: sent with token c0ffee00-0000-4000-8000-000000000002'
echo '2026-01-01 bee-1 ovl-agent: {\"password\":\"hunter22-hunter22\"}'
echo '2026-01-01 bee-1 proxy: Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=='
";

#[test]
fn a_bundle_holds_what_is_known_and_no_secret() {
    let lab = TestLab::bare("bundle", &["bee-1"]);
    let host = lab.host("bee-1").unwrap();
    plant(&host);
    let program = Programs::find().unwrap().agent().display().to_string();
    let variable = format!("CONSUL_HTTP_TOKEN={VARIABLE}");
    let (log, record) = (host.agent_log(), host.folder().join("agent"));
    let argv = ["env", &variable, &program, "--advertise=eth1"];
    host.sandbox().spawn("an agent", &argv, &log, &record).unwrap();
    eventually("an answer of the agent", SPREAD, || host.agent_answer().map(drop));

    let (written, files) = bundle(&host, "with-agent");
    for (path, text) in &files {
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} is in {path}: {text}");
        }
    }
    let of =
        |path: &str| files.get(path).unwrap_or_else(|| panic!("no {path}: {:?}", files.keys()));
    assert!(of("logs/ovl-agent.txt").contains("a line of the log"));
    assert!(of("settings/agent.toml").contains("token-file=/etc/ovl/token"), "names of files stay");
    assert!(of("settings/agent.env").contains("CONSUL_HTTP_TOKEN=[removed]"));
    assert!(of("firewall/nft.txt").contains("table inet ovl"));
    assert!(of("kernel/sysctl.txt").contains("/proc/sys/net/ipv4/ip_forward = "));
    let json = |path: &str| -> Value { serde_json::from_str(of(path)).unwrap() };
    assert_eq!(json("agent/status.json")["node"], "bee-1");
    assert!(
        json("doctor/this-host.json")["findings"].as_array().is_some_and(|all| !all.is_empty())
    );
    assert!(json("kernel/links.json").to_string().contains("eth1"));

    // The list is complete, and what could not be had says why.
    let listed: Vec<String> =
        written["parts"].as_array().unwrap().iter().map(|part| text(&part["path"])).collect();
    assert_eq!(listed.len() + 1, files.len());
    assert!(listed.iter().all(|path| files.contains_key(path)));
    assert!(of("settings/daemon.json.missing.txt").contains("daemon.json"));
    let manifest = json("manifest.json");
    assert_eq!(manifest["parts"], written["parts"]);
    assert_eq!(manifest["host"], "bee-1");
}

#[test]
fn a_bundle_is_made_without_an_agent_and_asks_those_of_other_hosts() {
    let lab = TestLab::up("bundles", &["bee-1", "bee-2"], StoreKind::Sqlite);
    let host = lab.host("bee-1").unwrap();
    ctl(&host, &["network", "create", "net"]);
    // What another host says of itself is cleaned by its looks alone: its secrets are not known here.
    let script = "nft add table ip f; nft add chain ip f c '{ type filter hook input priority 0; }'; \
                  nft add rule ip f c udp dport 4789 drop comment '\"password=hunter22-hunter22\"'";
    lab.host("bee-2").unwrap().sandbox().script(script, &[]).unwrap();
    let (_, files) = bundle(&host, "with-agent");
    assert!(files["doctor/of/bee-2.json"].contains("password=[removed]"), "{files:#?}");
    assert!(files.values().all(|text| !text.contains("hunter22")));
    let peer: Value = serde_json::from_str(&files["doctor/of/bee-2.json"]).unwrap();
    assert_eq!(peer["host"], "bee-2");
    assert!(files["agent/networks.json"].contains("net"));
    assert!(
        files["agent/state.json"].contains("\"node\": \"bee-1\""),
        "{}",
        files["agent/state.json"]
    );

    host.stop_agent().unwrap();
    let (_, files) = bundle(&host, "without-agent");
    assert!(files["agent/status.json.missing.txt"].contains("no agent answers"));
    assert!(files["doctor/this-host.json"].contains("kernel.version"));
    assert!(files["agent/state.json"].contains("bee-1"));
    assert!(!files.keys().any(|path| path.starts_with("doctor/of/")));
}

/// What `ovlctl` said, and the archive's files by their path within its folder.
fn bundle(host: &Host, name: &str) -> (Value, BTreeMap<String, String>) {
    let archive = format!("/run/{name}.tar.gz");
    let written = ctl(host, &["bundle", "-o", &archive]);
    assert_eq!(written["file"], archive.as_str());
    let outside = host.folder().join(archive.trim_start_matches('/'));
    let metadata = fs::metadata(&outside).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(written["bytes"], metadata.len());
    let into = format!("/run/{name}");
    let unpack = format!("mkdir {into} && tar -xzf {archive} -C {into} --strip-components=1");
    host.run(&["sh", "-ec", &unpack]).unwrap().require().unwrap();
    let mut files = BTreeMap::new();
    let folder = host.folder().join(into.trim_start_matches('/'));
    read_all(&folder, &folder, &mut files);
    (written, files)
}

fn read_all(top: &Path, folder: &Path, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(top, &path, files);
        } else {
            let name = path.strip_prefix(top).unwrap().display().to_string();
            files.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

/// Secrets in files and variables, and a journal that tells some of them.
fn plant(host: &Host) {
    let settings = format!(
        "# through http://admin:{PASSWORD}@proxy:3128\n\
         store = \"consul://127.0.0.1:1?token-file=/etc/ovl/token\"\n"
    );
    let files = [
        ("token", format!("{TOKEN}\n")),
        ("agent.toml", settings),
        ("agent.env", format!("CONSUL_HTTP_TOKEN={VARIABLE}\nHTTPS_PROXY=http://a:{PASSWORD}@p\n")),
        ("journalctl", JOURNAL.to_owned()),
    ];
    for (name, text) in files {
        let script = "printf '%s' \"$1\" > /etc/ovl/$2 && chmod 0700 /etc/ovl/$2";
        host.sandbox().script(script, &[&text, name]).unwrap();
    }
    // Seen in this host alone.
    host.sandbox().script("mount --bind /etc/ovl/journalctl /usr/bin/journalctl", &[]).unwrap();
}
