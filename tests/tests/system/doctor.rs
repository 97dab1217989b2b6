//! `ovlctl doctor` where it is at home: with the unit, its confinement, and a real Docker.

use ovl_tests::Machine;
use ovl_tests::machine::Image;
use serde_json::Value;

use crate::support::{READY, SETTINGS, SPREAD, Site, UNIT, eventually, holds, newer, systemctl};

/// What a machine in namespaces cannot look at: the limits of neighbours are those of the whole system.
const LACKING: [&str; 2] = ["net.neighbours", "net.neighbours"];

/// The findings of an examination.
struct Findings(Vec<Value>);

impl Findings {
    fn of(machine: &Machine) -> Findings {
        let outcome = machine.run(&["ovlctl", "--json", "doctor"]).unwrap();
        let answer =
            outcome.json().unwrap_or_else(|error| panic!("{}: {outcome:?}", error.chain()));
        Findings(answer["findings"].as_array().cloned().unwrap_or_default())
    }

    fn with(&self, verdict: &str) -> Vec<&str> {
        let of_it = self.0.iter().filter(|finding| finding["verdict"] == verdict);
        of_it.filter_map(|finding| finding["check"].as_str()).collect()
    }

    /// These fail, these warn, and nothing else does; the first has the words in it.
    fn are(&self, failed: &[&str], warned: &[&str], words: &[&str]) -> Result<(), String> {
        holds(self.with("fail") == failed && self.with("warn") == warned, self.amiss())?;
        let first = failed.first().or(warned.first());
        let found =
            self.0.iter().find(|f| Some(&f["check"]) == first.map(|id| Value::from(*id)).as_ref());
        let text = found.map(Value::to_string).unwrap_or_default();
        holds(words.iter().all(|word| text.contains(word)), text)
    }

    fn amiss(&self) -> String {
        let amiss = self.0.iter().filter(|finding| finding["verdict"] != "ok");
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

    bee.write(
        "/etc/systemd/system/ovl-agent.service.d/log.conf",
        "[Service]\nEnvironment=OVL_LOG=debug\n",
    )
    .unwrap();
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
