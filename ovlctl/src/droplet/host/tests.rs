//! What goes into the script and into user data comes out again, and cloud-init takes it.
use std::io::Write as _;
use std::process::Command;

use proptest::prelude::*;

use super::*;

const KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjE=\nAAAA\n\
                   -----END OPENSSH PRIVATE KEY-----\n";

fn key() -> HostKey {
    HostKey { private: KEY.to_owned(), public: "ssh-ed25519 AAAAC3 queenbee\n".to_owned() }
}

fn node(package: Package) -> Host {
    let agent = Agent {
        package,
        store: "consul://10.124.0.2:8500".to_owned(),
        join: ["10.124.0.4", "10.124.0.3", "10.124.0.4"].map(str::to_owned).to_vec(),
    };
    Host { role: Role::Node { agent: Some(agent) }, private: Some(Ipv4Addr::new(10, 124, 0, 3)) }
}

fn url() -> Package {
    let url = "https://packages.example/ovl_0.1.0_amd64.deb".to_owned();
    Package::Url { url, sha256: Some("AB12".to_owned()) }
}

fn kvstore() -> Host {
    Host { role: Role::Kvstore, private: None }
}

/// What a variable of the script is in a shell; the script's own part is not run.
fn in_shell(host: &Host, name: &str) -> String {
    let script = host.script();
    let end = script.find("\n# Makes a Debian machine").expect("settings, then the script");
    let settings = &script[..end];
    let command = format!("{settings}\nprintf '%s' \"${name}\"");
    let output = Command::new("sh").args(["-c", &command]).output().expect("a shell");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A value of user data as cloud-init's own reader gives it.
fn in_yaml(text: &str, path: &str) -> String {
    let program =
        format!("import sys, yaml; print(yaml.safe_load(open(sys.argv[1]).read()){path}, end='')");
    let file = file_of(text);
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-X", "utf8", "-c", &program]).arg(file.path());
    let output = command.output().expect("Debian's Python, which cloud-init brings");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn file_of(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

/// Fails where cloud-init is missing: `scripts/tools test` installs it.
fn accepted_by_cloud_init(text: &str) {
    let file = file_of(text);
    let output = Command::new("cloud-init")
        .args(["schema", "--config-file"])
        .arg(file.path())
        .output()
        .expect("cloud-init");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("Valid"), "{said}\n{text}");
}

#[test]
fn cloud_init_accepts_the_user_data_of_each_role() {
    let unset = Host { role: Role::Node { agent: None }, private: None };
    for host in [kvstore(), unset, node(url()), node(Package::Installed)] {
        for key in [None, Some(key())] {
            accepted_by_cloud_init(&host.user_data(key.as_ref()).expect("short enough"));
        }
    }
}

#[test]
fn cloud_init_gets_the_script_and_the_key_byte_by_byte() {
    let host = node(url());
    let text = host.user_data(Some(&key())).expect("short enough");
    assert!(in_yaml(&text, "['write_files'][0]['content']") == host.script());
    assert_eq!(in_yaml(&text, "['ssh_keys']['ed25519_private']"), KEY);
    assert_eq!(in_yaml(&text, "['ssh_keys']['ed25519_public']"), "ssh-ed25519 AAAAC3 queenbee");
    assert_eq!(in_yaml(&text, "['runcmd']"), "[['sh', '/run/ovl-provision.sh']]");
    assert!(text.contains("\n      HOST_ROLE='node'\n"), "a person cannot read it");
}

#[test]
fn cloud_init_gets_odd_characters_as_they_are() {
    for odd in ["\u{85}", "\u{2028}", "\r", "\t", "é", "\u{1f41d}", "\u{7f}", "\u{1}"] {
        let host = node(Package::File(format!("/tmp/a{odd}b.deb")));
        let text = host.user_data(None).expect("short enough");
        assert!(in_yaml(&text, "['write_files'][0]['content']") == host.script(), "{odd:?}");
    }
}

#[test]
fn user_data_that_is_too_long_is_refused() {
    let package = Package::File("x".repeat(64 * 1024));
    let error = node(package).user_data(None).expect_err("too long");
    assert!(error.to_string().contains("at most 65536"), "{error}");
}

#[test]
fn a_host_key_is_not_shown() {
    let shown = format!("{:?}", key());
    assert!(shown.contains("AAAAC3") && !shown.contains("PRIVATE"), "{shown}");
}

#[test]
fn a_kvstore_has_no_agent_and_a_node_joins_in_order() {
    assert_eq!(in_shell(&kvstore(), "HOST_ROLE"), "kvstore");
    assert_eq!(in_shell(&kvstore(), "HOST_PACKAGE$HOST_PRIVATE"), "");
    let settings = in_shell(&node(url()), "HOST_SETTINGS");
    let lines = "store = \"consul://10.124.0.2:8500\"\njoin = [\"10.124.0.3\", \"10.124.0.4\"]";
    assert_eq!(settings, lines);
    assert_eq!(in_shell(&node(url()), "HOST_SHA256"), "ab12");
}

#[test]
fn lines_are_told_apart() {
    assert_eq!(Line::parse("= packages: x\n"), Line::Same("packages: x".to_owned()));
    assert_eq!(Line::parse("+ memory: y\r\n"), Line::Changed("memory: y".to_owned()));
    assert_eq!(Line::parse("~ z"), Line::Restart("z".to_owned()));
    assert_eq!(Line::parse("! no"), Line::Failed("no".to_owned()));
    assert_eq!(Line::parse("sh: what"), Line::Other("sh: what".to_owned()));
    assert_eq!(Line::parse(""), Line::Other(String::new()));
    assert_eq!(Line::parse("! a\u{1b}[2Jb"), Line::Failed("a [2Jb".to_owned()));
    let Line::Other(long) = Line::parse(&"é".repeat(9000)) else { panic!("of no kind") };
    assert_eq!(long.chars().count(), 2000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_baked_in_comes_out_of_the_shell(text in "[^\0]{0,40}") {
        prop_assert_eq!(in_shell(&node(Package::File(text.clone())), "HOST_PACKAGE_FROM"), text);
    }

    #[test]
    fn settings_are_toml_whatever_is_in_them(store in any::<String>(), host in any::<String>()) {
        let agent = Agent { package: Package::Installed, store: store.clone(), join: vec![host.clone()] };
        let table: toml::Table = agent.toml().parse().expect("TOML");
        prop_assert_eq!(table["store"].as_str(), Some(store.as_str()));
        prop_assert_eq!(table["join"][0].as_str(), Some(host.as_str()));
    }

    #[test]
    fn any_line_is_parsed(text in any::<String>()) {
        let (Line::Same(shown) | Line::Changed(shown) | Line::Restart(shown) | Line::Failed(shown)
            | Line::Other(shown)) = Line::parse(&text);
        prop_assert!(!shown.chars().any(char::is_control));
    }
}
