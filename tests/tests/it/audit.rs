//! The kernel held against what it should be, on demand.
use ovl_tests::{Host, StoreKind};
use serde_json::Value;

use crate::support::{FAILURE, TestLab, ctl, endpoint, eventually, holds, text, vni};

#[test]
fn an_audit_names_what_was_changed_by_hand_and_mends_it() {
    let lab = TestLab::up("audit", &["bee-1", "bee-2"], StoreKind::Sqlite);
    let hosts = lab.hosts().unwrap();
    let host = &hosts[0];
    ctl(host, &["network", "create", "net"]);
    let one = lab.attach("bee-1", "net", "one").unwrap();
    lab.attach("bee-2", "net", "two").unwrap();
    eventually("rows for two", FAILURE, || {
        let audit = ctl(host, &["audit"]);
        holds(
            audit["rows"].as_u64() >= Some(2) && audit["differences"] == Value::Array(vec![]),
            audit,
        )
    });
    let device = format!("ovl-{}", vni(host, "net"));
    let two = endpoint(host, "two");
    let (mac, ipv4) = (text(&two["mac"]), text(&two["ipv4"]));
    let vtep = hosts[1].address().to_string();

    let on_host = |argv: &[&str]| host.run(argv).map(drop).map_err(|e| e.chain());
    names(host, &["fdb-missing", &device, &mac, &vtep, "net"], || {
        on_host(&["bridge", "fdb", "del", &mac, "dev", &device])
    });
    names(host, &["neighbour-missing", &device, &ipv4, &mac], || {
        on_host(&["ip", "neigh", "del", &ipv4, "dev", &device])
    });
    names(host, &["device-setting", &device, "mtu", "1400", "1450"], || {
        on_host(&["ip", "link", "set", &device, "mtu", "1400"])
    });
    names(host, &["device-setting", &device, "state", "down"], || {
        on_host(&["ip", "link", "set", &device, "down"])
    });
    names(host, &["interface-setting", "eth0", "one", "down"], || {
        one.run(&["ip", "link", "set", "eth0", "down"]).map(drop).map_err(|e| e.chain())
    });
    assert_eq!(host.ctl(&["audit"]).unwrap().code, Some(0));
    // Of another host, asked through ours.
    assert_eq!(ctl(host, &["--host", "bee-2", "audit"])["differences"], Value::Array(vec![]));
}

/// Breaks it, sees it named with all words, and mends it. The agent's own audit may come in between and
/// mend it first: then it is broken again.
fn names(host: &Host, words: &[&str], break_it: impl Fn() -> Result<(), String>) {
    eventually(&format!("{words:?} being named"), FAILURE, || {
        break_it()?;
        let found = host.ctl(&["--json", "audit"]).map_err(|e| e.chain())?;
        names_it(&found.json().map_err(|e| e.chain())?["differences"], words)?;
        assert_eq!(found.code, Some(4), "something differs");
        Ok(())
    });
    eventually(&format!("{words:?} being mended on demand"), FAILURE, || {
        break_it()?;
        let mended = host.ctl(&["--json", "audit", "--repair"]).map_err(|e| e.chain())?;
        assert_eq!(mended.code, Some(0), "{}", mended.stderr);
        let mended = mended.json().map_err(|e| e.chain())?;
        assert_eq!(mended["repair"]["left"], Value::Array(vec![]), "{mended}");
        names_it(&mended["differences"], words)?;
        holds(mended["repair"]["done"].as_u64() > Some(0), mended)
    });
}

fn names_it(differences: &Value, words: &[&str]) -> Result<(), String> {
    let list = differences.as_array().cloned().unwrap_or_default();
    let named = list.iter().any(|one| words.iter().all(|word| one.to_string().contains(word)));
    holds(named, differences)
}
