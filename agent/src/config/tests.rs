//! What the settings promise, over all sources together.
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use proptest::prelude::*;

use super::*;

mod file;
mod start;

/// A wrong value for each key.
fn wrong(key: Key) -> &'static str {
    match key {
        Key::NodeName => "-two words",
        Key::Advertise => "10.0.0.300",
        Key::Join => "host:0",
        Key::Store => "redis://x",
        Key::GossipPort => "0",
        Key::VxlanPort => "70000",
        Key::VniRange => "9-1",
        Key::DefaultPool => "10.128.0.1/9",
        Key::StateDir | Key::ResolvConf => "relative/path",
        Key::ControlSocket | Key::PluginSocket => "ovl.sock",
        Key::ControlGroup => "nobody-has-it",
        Key::AnswerPeers => "yes",
        Key::MetricsAddress => "9646",
        Key::DockerHost => "tcp://1.2.3.4:2375",
        Key::DockerScope => "swarm",
        Key::Log => "inof",
    }
}

/// A right value for each key that is not its default.
fn right(key: Key) -> &'static str {
    match key {
        Key::NodeName => "queenbee",
        Key::Advertise => "eth1",
        Key::Join => "queenbee,10.0.0.2:7000",
        Key::Store => "consul://10.0.0.9:8500",
        Key::GossipPort => "7000",
        Key::VxlanPort => "8472",
        Key::VniRange => "5000-6000",
        Key::DefaultPool => "10.96.0.0/11",
        Key::StateDir => "/srv/ovl",
        Key::ControlSocket => "/srv/control.sock",
        Key::ControlGroup => "4711",
        Key::AnswerPeers => "none",
        Key::PluginSocket => "/srv/plugin.sock",
        Key::MetricsAddress => "127.0.0.1:9646",
        Key::DockerHost => "unix:///srv/docker.sock",
        Key::DockerScope => "global",
        Key::ResolvConf => "/srv/resolv.conf",
        Key::Log => "debug",
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    File,
    Env,
    Flag,
}

/// Sources in which each entry is set where it says.
fn sources(entries: &[(Key, From, &str)]) -> Sources {
    let mut sources = Sources { host_name: Some("host".into()), ..Sources::default() };
    let mut text = String::new();
    for (key, from, value) in entries {
        match from {
            From::File => text.push_str(&format!("{key} = {value:?}\n")),
            From::Env => sources.env.push((key.variable().into(), value.into())),
            From::Flag => sources.flags.push((*key, (*value).to_owned())),
        }
    }
    sources.file = Some(FileText { path: "/etc/ovl/agent.toml".into(), text });
    sources
}

fn lines(sources: &Sources) -> Vec<String> {
    let problems = parse(sources).expect_err("these settings are wrong");
    problems.iter().map(ToString::to_string).collect()
}

#[test]
fn with_nothing_set_all_is_default() {
    let (config, origins) =
        parse(&Sources { host_name: Some("Host-1.example".into()), ..Sources::default() }).unwrap();
    assert_eq!(config.node_name.to_string(), "Host-1.example");
    assert_eq!(config.advertise, Advertise::Auto);
    assert!(config.join.is_empty());
    assert_eq!(config.store.to_string(), "sqlite:///var/lib/ovl/ovl.db");
    assert_eq!((config.gossip_port, config.vxlan_port), (7946, 4789));
    assert_eq!(config.control_socket, Path::new("/run/ovl/ovl.sock"));
    assert_eq!(config.plugin_socket, Path::new("/run/docker/plugins/ovl.sock"));
    assert!(Key::ALL.iter().all(|key| *origins.of(*key) == Origin::Default));
    assert!(warnings(&config, &origins).is_empty());
    let table = table(&config, &origins);
    let columns = |row: &str| row.split_whitespace().count();
    assert!(table.lines().all(|row| columns(row) == 3), "{table}");
}

#[test]
fn flags_win_over_variables_and_those_over_the_file() {
    let all = sources(&[
        (Key::GossipPort, From::File, "1001"),
        (Key::GossipPort, From::Env, "1002"),
        (Key::GossipPort, From::Flag, "1003"),
        (Key::VxlanPort, From::File, "2001"),
        (Key::VxlanPort, From::Env, "2002"),
        (Key::Log, From::File, "warn"),
    ]);
    let (config, origins) = parse(&all).unwrap();
    assert_eq!((config.gossip_port, config.vxlan_port), (1003, 2002));
    assert_eq!(config.log, "warn");
    let shown = |key| origins.of(key).to_string();
    assert_eq!(shown(Key::GossipPort), "--gossip-port");
    assert_eq!(shown(Key::VxlanPort), "OVL_VXLAN_PORT");
    assert_eq!(shown(Key::Log), "/etc/ovl/agent.toml:3");
    assert_eq!(shown(Key::Store), "default");
}

#[test]
fn the_table_has_every_key_with_value_and_source() {
    let (config, origins) = parse(&sources(&[
        (Key::Join, From::Flag, "a,b:1,a:7946"),
        (Key::Log, From::File, "trace"),
    ]))
    .unwrap();
    let table = table(&config, &origins);
    let words: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(words.len(), 1 + Key::ALL.len());
    for key in Key::ALL {
        assert!(words.iter().any(|row| row[0] == key.name() && row.len() == 3), "{key} in {table}");
    }
    assert!(words.contains(&vec!["join", "a:7946,b:1", "--join"]), "{table}");
    assert!(words.contains(&vec!["log", "trace", "/etc/ovl/agent.toml:1"]), "{table}");
}

#[test]
fn every_right_value_is_taken_from_every_source_and_shown_as_given() {
    for from in [From::File, From::Env, From::Flag] {
        let entries: Vec<_> = Key::ALL.map(|key| (key, from, right(key))).to_vec();
        let (config, origins) = parse(&sources(&entries)).unwrap();
        for key in Key::ALL {
            assert_ne!(*origins.of(key), Origin::Default, "{key}");
            if key != Key::Join {
                let table = table(&config, &origins);
                assert!(table.contains(right(key)), "{key}: {table}");
            }
        }
        assert_eq!(config.join, ["queenbee:7000", "10.0.0.2:7000"]);
    }
}

proptest! {
    /// Wherever wrong values stand, and whatever hides them, each is reported, and no right one.
    #[test]
    fn every_wrong_value_of_every_source_is_reported_at_once(
        states in prop::collection::vec(
            (0..Key::ALL.len(), prop::sample::select(vec![From::File, From::Env, From::Flag]), any::<bool>()),
            1..30,
        )
    ) {
        let mut seen = Vec::new();
        let entries: Vec<_> = states.into_iter().filter_map(|(index, from, fine)| {
            let key = Key::ALL[index];
            if seen.contains(&(key, from)) { return None; }
            seen.push((key, from));
            Some((key, from, fine))
        }).collect();
        let given: Vec<_> = entries.iter()
            .map(|(key, from, fine)| (*key, *from, if *fine { right(*key) } else { wrong(*key) }))
            .collect();
        let mut expected: Vec<_> = entries.iter().filter(|(.., fine)| !fine)
            .map(|(key, from, _)| (key.name().to_owned(), *from)).collect();
        expected.sort_by_key(|(name, from)| (name.clone(), *from as u8));
        let mut reported: Vec<_> = match parse(&sources(&given)) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.into_iter().map(|problem| {
                let from = match problem.origin {
                    Origin::File { .. } => From::File,
                    Origin::Env(_) => From::Env,
                    Origin::Flag(_) => From::Flag,
                    Origin::Default => panic!("a default is wrong: {problem}"),
                };
                (problem.key.unwrap(), from)
            }).collect(),
        };
        reported.sort_by_key(|(name, from)| (name.clone(), *from as u8));
        prop_assert_eq!(reported, expected);
    }

    #[test]
    fn no_value_panics(key in prop::sample::select(Key::ALL.to_vec()), value in "\\PC{0,40}|[0-9./:@a-z,=-]{0,40}") {
        let _ = parse(&Sources { flags: vec![(key, value)], ..Sources::default() });
    }
}

#[test]
fn unknown_variables_are_reported_but_not_those_of_scripts_and_tests() {
    let mut sources = Sources { host_name: Some("h".into()), ..Sources::default() };
    for name in [
        "OVL_GOSIP_PORT",
        "OVL_COLOUR",
        "OVL_CONFIG",
        "OVL_BIN_DIR",
        "OVL_LAB_NAME",
        "OVL_TEST_X",
        "PATH",
        "OVLX",
    ] {
        sources.env.push((name.into(), "secret".into()));
    }
    assert_eq!(
        lines(&sources),
        [
            "OVL_COLOUR: unknown variable; `ovl-agent --help` lists them; unset it",
            "OVL_GOSIP_PORT: unknown variable; did you mean OVL_GOSSIP_PORT?",
        ]
    );
}

#[test]
fn a_variable_that_is_not_utf8_is_reported() {
    let env = vec![("OVL_STATE_DIR".into(), OsString::from_vec(b"/\xff".to_vec()))];
    let lines = lines(&Sources { host_name: Some("h".into()), env, ..Sources::default() });
    assert_eq!(lines, ["OVL_STATE_DIR = \"/\u{fffd}\": not UTF-8; expected an absolute path"]);
}

#[test]
fn a_host_name_that_cannot_be_a_node_name_says_to_set_one() {
    for host_name in [Some("(none)".to_owned()), None] {
        let sources = Sources { host_name, ..Sources::default() };
        let lines = lines(&sources);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("set --node-name"), "{lines:?}");
        let named = Sources { flags: vec![(Key::NodeName, "n".into())], ..sources };
        assert!(parse(&named).is_ok());
    }
}

#[test]
fn settings_that_clash_are_reported() {
    let lines = lines(&sources(&[
        (Key::VxlanPort, From::Env, "7946"),
        (Key::PluginSocket, From::File, "/run/ovl/ovl.sock"),
    ]));
    assert_eq!(
        lines,
        [
            "OVL_VXLAN_PORT: vxlan-port = \"7946\": gossip-port is the same; give each its own",
            "/etc/ovl/agent.toml:1: plugin-socket = \"/run/ovl/ovl.sock\": control-socket is the same; give each its own",
        ]
    );
}

#[test]
fn a_group_is_found_by_its_name_or_taken_by_its_number() {
    let group: fn(&str) -> _ = |name| Ok((name == "watchers").then_some(42));
    let host = Host { group, ..Host::default() };
    let with = |name| Sources { host, ..sources(&[(Key::ControlGroup, From::File, name)]) };
    let (config, _) = parse(&with("watchers")).unwrap();
    assert_eq!(config.control_group, Some(Group { name: "watchers".into(), gid: 42 }));
    let (config, _) = parse(&with("17")).unwrap();
    assert_eq!(config.control_group, Some(Group { name: "17".into(), gid: 17 }));
    assert_eq!(parse(&with("")).unwrap().0.control_group, None);
    assert_eq!(
        lines(&with("ovl")),
        [
            "/etc/ovl/agent.toml:1: control-group = \"ovl\": expected the name or the number of a group of this host: there is no such group; make it with `groupadd --system ovl`"
        ]
    );
    let broken: fn(&str) -> _ = |_| Err(std::io::ErrorKind::TimedOut.into());
    let told = lines(&Sources { host: Host { group: broken, ..host }, ..with("ovl") });
    assert!(told[0].contains("the groups cannot be read"), "{told:?}");
}

#[test]
fn what_is_wrong_with_the_stores_files_is_told_beside_all_else() {
    let store_files: fn(&StoreUrl) -> _ = |_| vec!["the token file /t is open".to_owned()];
    let host = Host { store_files, ..Host::default() };
    let all = [(Key::Store, From::Env, "consul://h?token-file=/t"), (Key::Log, From::Flag, "inof")];
    let lines = lines(&Sources { host, ..sources(&all) });
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(
        lines[1],
        "OVL_STORE: store = \"consul://h:8500?token-file=/t\": the token file /t is open"
    );
}

#[test]
fn an_address_that_the_host_lacks_is_reported_where_it_is_asked() {
    let host = Host { advertise: |_| Some("there is no interface eth7".into()), ..Host::default() };
    let with = Sources { host, ..sources(&[(Key::Advertise, From::File, "eth7")]) };
    assert_eq!(lines(&with), ["/etc/ovl/agent.toml:1: advertise: there is no interface eth7"]);
}

#[test]
fn joining_with_a_registry_of_ones_own_is_warned_of() {
    let (config, origins) = parse(&sources(&[(Key::Join, From::Flag, "a")])).unwrap();
    assert_eq!(warnings(&config, &origins).len(), 1);
    let shared = [(Key::Join, From::Flag, "a"), (Key::Store, From::Flag, "sqlite:///shared.db")];
    let (config, origins) = parse(&sources(&shared)).unwrap();
    assert!(warnings(&config, &origins).is_empty());
}

#[test]
fn the_default_registry_lies_in_the_state_directory() {
    let (config, _) = parse(&sources(&[(Key::StateDir, From::Flag, "/srv/a b%20")])).unwrap();
    assert_eq!(config.store, StoreUrl::Sqlite("/srv/a b%20/ovl.db".into()));
}

#[test]
fn secrets_in_a_wrong_url_are_not_repeated() {
    let wrong = "konsul://user:hunter2@host:8500?token=hunter2&x=1";
    let lines = lines(&sources(&[(Key::Store, From::Flag, wrong)]));
    assert_eq!(lines.len(), 1);
    assert!(!lines[0].contains("hunter2"), "{lines:?}");
    assert!(lines[0].contains("konsul://***@host:8500?token=***&x=1"), "{lines:?}");
}

#[test]
fn odd_values_are_judged_right() {
    let fits = |key, text: &str| {
        parse(&Sources {
            host_name: Some("h".into()),
            flags: vec![(key, text.into())],
            ..Sources::default()
        })
        .is_ok()
    };
    let cases: &[(Key, &[&str], &[&str])] = &[
        (
            Key::Advertise,
            &["auto", "10.0.0.1", "127.0.0.1", "br-lan.7"],
            &[
                "",
                "0.0.0.0",
                "224.0.0.1",
                "::1",
                "10.0.0.1/24",
                "255.255.255.255",
                "0123456789abcdef",
                "a b",
            ],
        ),
        (
            Key::Join,
            &["", "a", "a, b", "a.b.c.:1", "1.2.3.4"],
            &["a:x", ":1", "1.2.3", "a..b", "[::1]:1", "-a", "a:1:2"],
        ),
        (Key::GossipPort, &["1", "65535"], &["", "0", "65536", "+1", "-1", "1 ", "http"]),
        (
            Key::DefaultPool,
            &["10.0.0.0/8", "192.168.0.0/16"],
            &[
                "10.0.0.0",
                "10.0.0.0/7",
                "10.0.0.0/31",
                "127.0.0.0/8",
                "224.0.0.0/8",
                "169.254.0.0/16",
                "168.0.0.0/6",
                "0.0.0.0/8",
            ],
        ),
        (Key::StateDir, &["/", "/a b"], &["", "a", "./a", "~/a", "/a\0b"]),
        (Key::ControlSocket, &["/a"], &["", "a", "/a/"]),
        (Key::ControlGroup, &["", "0", "4711"], &["4294967295", "-1", "a:b", " a", "a\n"]),
        (Key::DockerHost, &["unix:///a"], &["", "/a", "unix://a", "tcp://1.2.3.4:5"]),
        (
            Key::Log,
            &["info", "WARN", "off", "info,ovl_gossip=debug", "ovl_agent::dns=trace,error"],
            &["", "inof", "ovl_gossip", "ovl_gossip=loud", "info,,debug", "a=b=info=="],
        ),
    ];
    for (key, right, wrong) in cases {
        for text in *right {
            assert!(fits(*key, text), "{key} = {text:?} is right");
        }
        for text in *wrong {
            assert!(!fits(*key, text), "{key} = {text:?} is wrong");
        }
    }
    assert!(!fits(Key::ControlSocket, &format!("/{}", "x".repeat(107))));
    assert!(fits(Key::ControlSocket, &format!("/{}", "x".repeat(106))));
}

#[test]
fn metrics_are_served_at_one_address_and_one_port_or_nowhere() {
    let parsed = |text: &str| value::metrics_address(text).ok();
    assert_eq!(parsed(""), Some(None));
    for fine in ["0.0.0.0:9646", "10.132.0.11:9646", "[::1]:9646", "[fd00::11]:80"] {
        assert_eq!(parsed(fine), Some(Some(fine.parse().unwrap())), "{fine}");
    }
    for wrong in ["9646", ":9646", "localhost:9646", "10.0.0.1", "10.0.0.1:0", "224.0.0.1:9646"] {
        assert_eq!(parsed(wrong), None, "{wrong}");
    }
    let flags = vec![(Key::MetricsAddress, "10.0.0.1:7946".to_owned())];
    let problems = parse(&Sources { host_name: Some("h".into()), flags, ..Sources::default() });
    let problems = problems.unwrap_err();
    assert!(problems[0].to_string().contains("gossip-port"), "{problems:?}");
}
