//! `ovlctl` as it is run: the real program against a server on a real unix socket.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod answers;
mod capture;
mod doctor;
mod events;
mod failures;
mod hostile;
mod stand_in;
mod terminal;

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use stand_in::{Answer, Request, StandIn};

fn command(socket: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ovlctl"));
    command.env_remove("OVL_CONTROL_SOCKET").stdin(Stdio::null());
    command.arg("--socket").arg(socket);
    command
}

fn ovlctl(socket: &Path, args: &[impl AsRef<OsStr>]) -> Done {
    Done::from(command(socket).args(args).output().unwrap())
}

/// What a run left.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Done {
        Done {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Done {
    /// It was carried out, and nobody complained; its standard output.
    #[track_caller]
    fn fine(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:?}");
        self.out
    }

    #[track_caller]
    fn json(self) -> Value {
        serde_json::from_str(&self.fine()).unwrap()
    }

    /// It failed with this code, nothing on standard output, and one sentence with these parts.
    #[track_caller]
    fn failed(self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
        assert!(self.err.starts_with("ovlctl: "), "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "`{part}` in {self:?}");
        }
    }
}

/// An agent of a cluster in which all is well.
fn agent() -> StandIn {
    StandIn::new(|request| Answer::Json(200, answer(&request.line)))
}

fn answer(line: &str) -> Value {
    let network = json!({
        "name": "rethinkdb", "vni": 70000, "subnet": "10.88.0.0/16", "subnet6": null, "internal": false, "mtu": 1450
    });
    let mut detail = network.clone();
    detail["gateway"] = json!("10.88.0.1");
    detail["device"] = json!("ovl-70000");
    detail["endpoints"] = json!([endpoint("rethinkdb", "leader", "10.88.0.2")]);
    match line.split('?').next().unwrap() {
        "GET /v1/status" => status(),
        "GET /v1/members" => json!([
            {"name": "queenbee", "address": "10.77.0.2", "state": "alive"},
            {"name": "workerbee-1", "address": "10.77.0.3", "state": "suspect"},
        ]),
        "GET /v1/networks" => json!([network]),
        "POST /v1/networks" | "GET /v1/networks/rethinkdb" => detail,
        "GET /v1/endpoints" => json!([
            endpoint("rethinkdb", "leader", "10.88.0.2"),
            endpoint("rethinkdb", "twin", "10.88.0.3"),
            endpoint("other", "twin", "10.89.0.3"),
        ]),
        "POST /v1/endpoints" => endpoint("rethinkdb", "leader", "10.88.0.2"),
        "GET /v1/resolve" => json!(["10.88.0.2", "10.88.0.3"]),
        delete if delete.starts_with("DELETE /v1/") => json!({}),
        other => panic!("the agent has no {other}"),
    }
}

fn endpoint(network: &str, name: &str, ipv4: &str) -> Value {
    json!({
        "network": network, "name": name, "names": [name, "db"], "ipv4": ipv4,
        "ipv6": null, "mac": "02:42:0a:58:00:02", "host": "queenbee",
    })
}

fn status() -> Value {
    json!({
        "version": "0.1.0", "node": "queenbee", "address": "10.77.0.2", "uptime_seconds": 3700,
        "store": {"url": "consul://10.77.0.9:8500", "error": null},
        "members": {"alive": 3, "suspect": 0, "down": 1, "left": 0},
        "networks": 1, "endpoints": {"local": 1, "total": 3, "held": 0},
        "dataplane": {"repaired": 2, "errors": []},
        "docker": "connected", "problems": ["the moon is full: wait"],
    })
}

fn asked(agent: &StandIn) -> Vec<String> {
    agent.requests().into_iter().map(|Request { line, .. }| line).collect()
}
