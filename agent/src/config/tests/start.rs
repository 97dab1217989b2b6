//! What the command line and the finding of the file promise.
use std::cell::Cell;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use crate::config::*;

fn run(argv: &[&str], env: &[(&str, &str)], file: io::Result<&str>) -> Start {
    let argv = std::iter::once("ovl-agent").chain(argv.iter().copied()).map(OsString::from);
    let env = env.iter().map(|(name, value)| (name.into(), value.into())).collect();
    start(argv, env, Some("host".into()), |_| file.map(str::to_owned))
}

fn missing<T>() -> io::Result<T> {
    Err(io::ErrorKind::NotFound.into())
}

fn refused(start: Start) -> Vec<String> {
    match start {
        Start::Refuse(text) => text.lines().map(str::to_owned).collect(),
        Start::Run(..) | Start::Show(_) => panic!("not refused: {start:?}"),
    }
}

#[test]
fn a_missing_default_file_is_fine_and_a_missing_named_one_is_not() {
    assert!(matches!(run(&[], &[], missing()), Start::Run(..)));
    let by_flag = refused(run(&["--config", "/x"], &[], missing()));
    assert!(
        by_flag[0].starts_with("ovl-agent: --config: config = \"/x\": the file cannot be read"),
        "{by_flag:?}"
    );
    let by_variable = refused(run(&[], &[("OVL_CONFIG", "/x")], missing()));
    assert!(by_variable[0].starts_with("ovl-agent: OVL_CONFIG: "), "{by_variable:?}");
    let denied = refused(run(&[], &[], Err(io::ErrorKind::PermissionDenied.into())));
    assert!(denied[0].contains("/etc/ovl/agent.toml"), "{denied:?}");
}

#[test]
fn the_flag_names_the_file_before_the_variable_does() {
    let read = Cell::new(None);
    let argv = ["ovl-agent", "--config=/flag"].map(OsString::from);
    start(argv, vec![("OVL_CONFIG".into(), "/env".into())], Some("h".into()), |path| {
        read.set(Some(path.to_owned()));
        Ok(String::new())
    });
    assert_eq!(read.take().as_deref(), Some(Path::new("/flag")));
}

#[test]
fn wrong_flags_variables_and_file_are_all_reported_together() {
    let argv = [
        "--gosip-port",
        "1",
        "--log",
        "loud",
        "stray",
        "--state-dir=x",
        "--join",
        "a:b",
        "--store",
    ];
    let lines =
        refused(run(&argv, &[("OVL_VXLAN_PORT", "x"), ("OVL_JION", "a")], Ok("bogus = 1\n")));
    for part in [
        "--gosip-port: unknown flag; did you mean --gossip-port?",
        "stray: unknown",
        "--store: a value is missing; expected `consul://",
        "--log: log = \"loud\"",
        "--state-dir: state-dir = \"x\"",
        "--join: join = \"a:b\"",
        "OVL_VXLAN_PORT: vxlan-port = \"x\"",
        "OVL_JION: unknown variable; did you mean OVL_JOIN?",
        "/etc/ovl/agent.toml:1: bogus",
    ] {
        assert_eq!(
            lines.iter().filter(|line| line.contains(part)).count(),
            1,
            "{part} in {lines:#?}"
        );
    }
    assert_eq!(lines.len(), 9, "{lines:#?}");
}

#[test]
fn odd_command_lines_end_with_a_problem() {
    for argv in [
        &["--print-config=yes"][..],
        &["-x"],
        &["-xyz"],
        &["--"],
        &["--", "x"],
        &["--=", "="],
        &["--config"],
    ] {
        match run(argv, &[], missing()) {
            Start::Refuse(text) => assert!(!text.trim().is_empty()),
            Start::Run(..) => assert_eq!(argv, ["--"]),
            Start::Show(text) => panic!("{argv:?}: {text}"),
        }
    }
    let argv = ["ovl-agent".into(), "--log".into(), OsString::from_vec(vec![0xff])];
    let bytes = start(argv, vec![], Some("h".into()), |_| missing());
    assert!(refused(bytes)[0].contains("not UTF-8"));
}

#[test]
fn of_a_repeated_flag_the_last_counts_and_joins_add_up() {
    let Start::Run(config, _) =
        run(&["--log", "warn", "--log", "debug", "--join", "a", "--join", "b,c"], &[], missing())
    else {
        panic!("refused");
    };
    assert_eq!(config.log, "debug");
    assert_eq!(config.join, ["a:7946", "b:7946", "c:7946"]);
}

#[test]
fn help_names_every_flag_its_default_and_variable_and_the_exit_codes() {
    let Start::Show(help) = run(&["--help"], &[], missing()) else { panic!("no help") };
    for key in Key::ALL {
        assert!(help.contains(&format!("--{key} ")), "--{key} in {help}");
        assert!(help.contains(&format!("[variable: {}]", key.variable())), "{key} in {help}");
    }
    for part in
        ["[default: 4789]", "[default: /run/ovl/ovl.sock]", "OVL_CONFIG", "  64  ", "  69  "]
    {
        assert!(help.contains(part), "{part} in {help}");
    }
    assert!(help.contains(DEFAULT_FILE));
    assert!(matches!(run(&["-h"], &[], missing()), Start::Show(_)));
    let Start::Show(version) = run(&["--version"], &[], missing()) else { panic!("no version") };
    assert_eq!(version, format!("ovl-agent {}\n", crate::VERSION));
}

#[test]
fn print_config_shows_the_table_or_the_mistakes() {
    let Start::Show(text) = run(&["--print-config", "--log", "warn"], &[], missing()) else {
        panic!("no table");
    };
    assert!(text.starts_with("KEY"), "{text}");
    refused(run(&["--print-config", "--log", "loud"], &[], missing()));
}

#[test]
fn check_config_says_fine_with_the_warnings_or_lists_every_mistake() {
    let check = |more: &[&str], file| run(&[&["--check-config"], more].concat(), &[], file);
    let shown = |start| match start {
        Start::Show(text) => text,
        Start::Run(..) | Start::Refuse(_) => panic!("not shown: {start:?}"),
    };
    assert_eq!(shown(check(&[], missing())), "configuration is fine\n");
    let warned = shown(check(&["--join", "a"], missing()));
    assert!(warned.starts_with("warning: this host joins others"), "{warned}");
    assert!(warned.ends_with("\nconfiguration is fine\n"), "{warned}");
    let both = shown(check(&["--print-config"], missing()));
    assert!(both.starts_with("KEY") && both.ends_with("configuration is fine\n"), "{both}");

    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "hunter2").unwrap();
    let store = format!(
        "consul+https://h?token-file={}&ca-file={}/none",
        token.display(),
        dir.path().display()
    );
    let file = "control-group = \"no-such-group-of-ovl\"\nlog = \"loud\"\n";
    let lines = refused(check(&["--store", &store], Ok(file)));
    for part in [
        "/etc/ovl/agent.toml:1: control-group = \"no-such-group-of-ovl\"",
        "/etc/ovl/agent.toml:2: log = \"loud\"",
        &format!("; type: chmod 0600 {}", token.display()),
        "none: No such file",
    ] {
        assert_eq!(lines.iter().filter(|l| l.contains(part)).count(), 1, "{part} {lines:#?}");
    }
    assert_eq!(lines.len(), 4, "{lines:#?}");
    assert!(!lines.concat().contains("hunter2"), "{lines:#?}");
    // A start leaves the store's files to the store, which tries again until they are right.
    assert!(matches!(run(&["--store", &store], &[], missing()), Start::Run(..)));
}

#[test]
fn files_that_others_may_write_are_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    std::fs::write(&path, "").unwrap();
    let check = || {
        let argv = ["ovl-agent", "--check-config", "--config", path.to_str().unwrap()];
        let read = |path: &Path| std::fs::read_to_string(path);
        match start(argv.map(OsString::from), Vec::new(), Some("host".into()), read) {
            Start::Show(text) => text,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(check(), "configuration is fine\n");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let text = check();
    assert!(text.starts_with("warning: the file ") && text.contains("go-w"), "{text}");
    assert!(text.ends_with("\nconfiguration is fine\n"), "{text}");
}
