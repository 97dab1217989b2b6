//! `ovlctl doctor` where it is at home: with the unit, its confinement, and a real Docker.

use ovl_tests::Machine;
use ovl_tests::machine::Image;
use serde_json::Value;

use crate::support::{READY, SETTINGS, SPREAD, Site, UNIT, eventually, holds, newer, systemctl};

/// What a machine in namespaces cannot look at: the limits of neighbours are those of the whole system.
const LACKING: [&str; 2] = ["net.neighbours", "net.neighbours"];

/// The findings of an examination.
struct Findings {
    all: Vec<Value>,
    /// The machine has no memory controller: the system that it is on keeps it for itself.
    lacks_memory: bool,
}

impl Findings {
    fn of(machine: &Machine) -> Findings {
        let outcome = machine.run(&["ovlctl", "--json", "doctor"]).unwrap();
        let answer =
            outcome.json().unwrap_or_else(|error| panic!("{}: {outcome:?}", error.chain()));
        let all = answer["findings"].as_array().cloned().unwrap_or_default();
        let controllers = machine.run(&["cat", "/sys/fs/cgroup/cgroup.controllers"]).unwrap();
        let lacks_memory = controllers.ok() && !controllers.stdout.contains("memory");
        let told = all.iter().any(|f| f["check"] == "memory.accounting" && f["verdict"] == "warn");
        assert!(!controllers.ok() || told == lacks_memory, "{answer}");
        Findings { all, lacks_memory }
    }

    fn with(&self, verdict: &str) -> Vec<&str> {
        let of_it = self.all.iter().filter(|finding| finding["verdict"] == verdict);
        of_it.filter_map(|finding| finding["check"].as_str()).collect()
    }

    /// These fail, these warn, and nothing else does but what this system truly lacks; the first has the
    /// words in it.
    fn are(&self, failed: &[&str], warned: &[&str], words: &[&str]) -> Result<(), String> {
        let mut warnings = self.with("warn");
        warnings.retain(|check| !(self.lacks_memory && *check == "memory.accounting"));
        holds(self.with("fail") == failed && warnings == warned, self.amiss())?;
        let first = failed.first().or(warned.first());
        let found = self
            .all
            .iter()
            .find(|f| Some(&f["check"]) == first.map(|id| Value::from(*id)).as_ref());
        let text = found.map(Value::to_string).unwrap_or_default();
        holds(words.iter().all(|word| text.contains(word)), text)
    }

    fn amiss(&self) -> String {
        let amiss = self.all.iter().filter(|finding| finding["verdict"] != "ok");
        amiss.map(|finding| format!("{finding}\n")).collect()
    }
}

#[test]
fn an_installed_agent_looks_at_everything_and_its_unit_is_looked_at() {
    let site = Site::with_containers("doctor", Image::Bookworm, &newer());
    for machine in &*site {
        // Confined as it is, it may look at all that there is.
        eventually(&format!("{} being fine", machine.name()), READY, || {
            let findings = Findings::of(machine);
            findings.are(&[], &[], &[])?;
            holds(findings.with("unchecked") == LACKING, findings.amiss())
        });
    }
    let bee = &site[1];
    let told = |failed: &[&str], warned: &[&str], words: &[&str]| {
        eventually(&format!("{words:?}"), SPREAD, || Findings::of(bee).are(failed, warned, words));
    };
    systemctl(bee, &["disable", UNIT]);
    told(&[], &["systemd.unit"], &["is not enabled", "systemctl enable ovl-agent"]);
    systemctl(bee, &["enable", UNIT]);

    let drop_in = |level: &str| {
        let text = format!("[Service]\nEnvironment=OVL_LOG={level}\n");
        bee.write("/etc/systemd/system/ovl-agent.service.d/log.conf", &text).unwrap();
    };
    drop_in("debug");
    systemctl(bee, &["daemon-reload"]);
    told(&[], &[], &[]);
    drop_in("info");
    told(&[], &["systemd.unit"], &["was changed on disk", "daemon-reload"]);
    systemctl(bee, &["daemon-reload"]);

    systemctl(bee, &["stop", UNIT]);
    told(&["agent.running"], &[], &["the agent is stopped", "systemctl enable --now ovl-agent"]);

    let settings = bee.run(&["cat", SETTINGS]).unwrap().stdout;
    bee.write(SETTINGS, &format!("{settings}\ngossip-prt = 7946\n")).unwrap();
    let start = bee.run(&["systemctl", "start", UNIT]).unwrap();
    assert!(!start.ok(), "it started with mistakes: {start:?}");
    told(&["agent.running"], &[], &["has mistakes", "gossip-port"]);
    bee.write(SETTINGS, &settings).unwrap();
    systemctl(bee, &["start", UNIT]);
    told(&[], &[], &[]);
}
