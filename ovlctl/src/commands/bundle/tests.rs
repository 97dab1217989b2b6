//! What stands in an archive, read by another hand than wrote it.
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;

use flate2::read::GzDecoder;
use serde_json::Value;

use super::*;

const PASSWORD: &str = "correct-horse";

fn here() -> Here {
    let password = (OsString::from("OVL_PASSWORD"), OsString::from(PASSWORD));
    Here {
        host_name: "bee-1".to_owned(),
        argv: Vec::new(),
        variables: vec![password],
        config_file: "/etc/ovl/agent.toml".into(),
        config_text: None,
        state_dir: "/var/lib/ovl".into(),
    }
}

fn unpacked(file: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(file).unwrap()));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().mode().unwrap(), 0o600);
        let path = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (path, text)
    });
    entries.collect()
}

#[test]
fn an_archive_holds_every_part_without_secrets_and_a_list_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("b.tar.gz");
    let parts = vec![
        collect::Collected::new("agent/status.json", Ok(format!("ü {PASSWORD}\n")), true),
        collect::Collected::new("logs/x.txt", Err(format!("no {PASSWORD}")), false),
    ];
    let made = Timestamp::from_second(1_764_000_000).unwrap();
    let written = write(create(&file).unwrap(), "top", made, &here(), parts).unwrap();
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    let files = unpacked(&file);
    assert_eq!(files["top/agent/status.json"], "ü [removed]\n");
    assert_eq!(files["top/logs/x.txt.missing.txt"], "no [removed]\n");
    let manifest: Value = serde_json::from_str(&files["top/manifest.json"]).unwrap();
    assert_eq!(manifest["made"], "2025-11-24T16:00:00Z");
    assert_eq!(manifest["host"], "bee-1");
    assert_eq!(
        manifest["parts"],
        serde_json::json!([
            {"path": "agent/status.json", "bytes": 13, "error": null, "cut": true},
            {"path": "logs/x.txt.missing.txt", "bytes": 13, "error": "no [removed]", "cut": false},
        ])
    );
    assert_eq!(files.len(), 3);

    let (bytes, parts) = written;
    assert_eq!(bytes, std::fs::metadata(&file).unwrap().len());
    let words = in_words(&Written { file: "b.tar.gz".into(), bytes, parts });
    assert!(words.contains("1 parts (agent, logs)"), "{words}");
    assert!(words.contains("1 could not be had, and say why: logs/x.txt.missing.txt"), "{words}");
    assert!(words.contains("tar -xzf b.tar.gz"), "{words}");
}

#[test]
fn a_file_that_is_there_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("precious");
    std::fs::write(&file, "x").unwrap();
    let error = create(&file).unwrap_err();
    assert_eq!(error.exit_code(), crate::error::EXIT_USAGE);
    assert!(error.to_string().contains("exists already"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "x");
}

#[test]
fn sizes_are_in_units() {
    assert_eq!(size(10_239), "10239 bytes");
    assert_eq!(size(10_240), "10 KiB");
    assert_eq!(size(20 << 20), "20 MiB");
}
