//! What the reading of the file promises.
use proptest::prelude::*;

use super::lines;
use crate::config::*;

fn with_file(text: &str) -> Sources {
    let file = FileText { path: "/f".into(), text: text.into() };
    Sources { host_name: Some("host".into()), file: Some(file), ..Sources::default() }
}

proptest! {
    #[test]
    fn no_file_text_panics_and_its_problems_are_single_lines(text in "\\PC*|[a-z=\\[\\]\"'#\n,. 0-9-]{0,80}") {
        if let Err(problems) = parse(&with_file(&text)) {
            for problem in problems {
                let line = problem.to_string();
                prop_assert!(!line.contains('\n'), "{}", line);
            }
        }
    }
}

#[test]
fn unknown_keys_of_the_file_are_reported_with_line_and_the_key_that_was_meant() {
    let text =
        "log = \"info\"\n\ngosip-port = 7\nnode_name = \"x\"\nbogus = [1]\n[network]\nx = 1\n";
    assert_eq!(
        lines(&with_file(text)),
        [
            "/f:3: gosip-port: unknown key; did you mean gossip-port?",
            "/f:4: node_name: unknown key; did you mean node-name?",
            "/f:5: bogus: unknown key; `ovl-agent --help` lists them; remove it",
            "/f:6: network: unknown section; the keys stand at the top of the file, without sections",
        ]
    );
}

#[test]
fn a_mistake_in_the_files_syntax_does_not_hide_the_others() {
    let lines = lines(&with_file("gossip-port = = 1\nlog = \"loud\"\nstore = \"x\n"));
    let found = |what: &str| lines.iter().filter(|line| line.starts_with(what)).count();
    assert!(found("/f:1: not TOML: ") > 0, "{lines:?}");
    assert!(found("/f:2: log = \"loud\": expected a level") == 1, "{lines:?}");
    assert!(found("/f:3: not TOML: ") > 0, "{lines:?}");
}

#[test]
fn a_key_given_twice_in_the_file_is_reported() {
    let lines = lines(&with_file("log = \"info\"\nlog = \"warn\"\n"));
    assert!(
        lines.iter().any(|line| line.starts_with("/f:2: ") && line.contains("duplicate")),
        "{lines:?}"
    );
}

#[test]
fn numbers_and_lists_of_the_file_are_taken_where_they_fit() {
    let text = "gossip-port = 7000\nvxlan-port = \"8000\"\njoin = [\"a\", \"b:1\"]\n";
    let (config, _) = parse(&with_file(text)).unwrap();
    assert_eq!((config.gossip_port, config.vxlan_port), (7000, 8000));
    assert_eq!(config.join, ["a:7000", "b:1"]);
    let lines = lines(&with_file(
        "gossip-port = 1.5\nlog = true\nstore = []\njoin = [1]\nvxlan-port = 0x10\n",
    ));
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert_eq!(
        lines[0],
        "/f:1: gossip-port = \"1.5\": a TOML float here; expected a port, 1 to 65535"
    );
}
