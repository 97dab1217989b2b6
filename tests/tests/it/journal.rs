//! The log as journald gets it: a socket in journald's place keeps what arrives.
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;

use ovl_tests::Host;

use crate::support::{SPREAD, TestLab, eventually};

/// What systemd does for a service: names the file that standard error is. `$0` is that file.
const AS_A_SERVICE: &str = r#"JOURNAL_STREAM=$(stat -Lc %d:%i "$0") exec "$@""#;

#[test]
fn in_a_service_each_value_is_a_field_of_the_journal() {
    let lab = TestLab::bare("journal", &["bee-1"]);
    let host = lab.host("bee-1").unwrap();
    let socket = host.folder().join("run/systemd/journal/socket");
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let journal = UnixDatagram::bind(&socket).unwrap();
    journal.set_read_timeout(Some(SPREAD)).unwrap();
    start_as_a_service(&host);
    let mut entries = std::iter::from_fn(|| Some(next(&journal)));
    // The first one tries whether anybody listens.
    let starting = entries.find(|entry| !entry.is_empty()).unwrap();
    let field = |name: &str| starting.get(name).map(String::as_str).unwrap_or_default();
    let message = format!("starting node=bee-1 address={}", host.address());
    assert!(field("MESSAGE").starts_with(&message), "{starting:?}");
    assert_eq!(field("OVL_NODE"), "bee-1", "{starting:?}");
    assert_eq!(field("OVL_ADDRESS"), host.address().to_string(), "{starting:?}");
    assert_eq!(field("SYSLOG_IDENTIFIER"), "ovl-agent", "{starting:?}");
    assert_eq!(field("PRIORITY"), "6", "{starting:?}");
    assert_eq!(fs::read_to_string(log(&host)).unwrap(), "", "it is not logged twice");
}

#[test]
fn without_a_journal_the_log_goes_to_standard_error_and_says_so() {
    let lab = TestLab::bare("no-journal", &["bee-1"]);
    let host = lab.host("bee-1").unwrap();
    start_as_a_service(&host);
    eventually("the log on standard error", SPREAD, || {
        let text = fs::read_to_string(log(&host)).map_err(|error| error.to_string())?;
        let told = text.contains("journald cannot be reached") && text.contains("starting");
        if told { Ok(()) } else { Err(text) }
    });
}

fn log(host: &Host) -> std::path::PathBuf {
    host.folder().join("service.log")
}

fn start_as_a_service(host: &Host) {
    let log = log(host).display().to_string();
    let agent = host.agent_argv().unwrap();
    let mut argv = vec!["sh", "-euc", AS_A_SERVICE, log.as_str()];
    argv.extend(agent.iter().map(String::as_str));
    let record = host.folder().join("service");
    host.sandbox().spawn("an agent", &argv, log.as_ref(), &record).unwrap();
}

/// The next entry, in journald's own protocol: `NAME=value`, or `NAME`, the value's length in eight
/// bytes, and the value.
fn next(journal: &UnixDatagram) -> BTreeMap<String, String> {
    let mut buffer = vec![0; 64 * 1024];
    let length = journal.recv(&mut buffer).unwrap();
    let mut rest = &buffer[..length];
    let mut entry = BTreeMap::new();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 1..];
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => {
                let length = u64::from_le_bytes(rest[..8].try_into().unwrap());
                let (value, after) = rest[8..].split_at(usize::try_from(length).unwrap());
                rest = &after[1..];
                (line, String::from_utf8_lossy(value).into_owned())
            }
        };
        entry.insert(name, value);
    }
    entry
}
