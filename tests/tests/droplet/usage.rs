//! What is wrong with what was asked, said before anything is made.
use crate::rig::Rig;

#[test]
fn what_cannot_be_had_is_said_with_what_can() {
    let rig = Rig::new("wrong-order");
    for (args, parts) in [
        (&["--region", "mars"][..], &["there is no region \"mars\"", "sfo3"][..]),
        (&["--size", "huge"], &["there is no size \"huge\"", "s-1vcpu-1gb"]),
        (&["--image", "debian-1"], &["there is no image \"debian-1\"", "debian-12-x64"]),
        (&["--image", "../account"], &["there is no image"]),
        (&["--image", "ubuntu-24-04-x64"], &["is a Ubuntu", "Debian 12 or 13"]),
        (&["--vpc", "nowhere"], &["there is no VPC \"nowhere\""]),
        (&["--deb", "/etc/hostname"], &["no Debian package"]),
        (&["--deb", "/etc"], &["/etc: Is a directory"]),
        (&["--deb", "/nonexistent.deb"], &["/nonexistent.deb: "]),
        (&["--deb", "https://x/ovl.deb"], &["an agent needs a store"]),
    ] {
        rig.create(args).failed(1, parts);
    }
    for (args, parts) in [
        (&["--name", "a b"][..], &["a droplet's name"][..]),
        (&["--name", "queenbee", "--count", "2"], &["put {n} into --name"]),
        (&["--name", "bee-{n}-{n}"], &["a droplet's name"]),
        (&["--tag", "ovl:cluster:other"], &["begin with ovl:"]),
        (&["--open", "http"], &["a port or a range"]),
        (&["--count", "0"], &["count"]),
        (&["--join", "10.0.0.1"], &["--join is for an agent"]),
        (&["--join", "a\nb"], &["one word"]),
        (&["--store", "consul://10.0.0.1:8500"], &["name its package with --deb"]),
        (&["--deb", "https://a:secret@x/ovl.deb"], &["x/ovl.deb is no URL for a package"]),
        (&["--deb", "https:///ovl.deb"], &["is no URL"]),
        (&["--deb", "https://x/o v l.deb"], &["is no URL"]),
        (&["--deb", "ftp://x/ovl.deb"], &["over https, and not over ftp"]),
        (&["--deb", "http://x/ovl.deb"], &["use https, or give --deb-sha256"]),
        (&["--private-networking=false"], &["unencrypted"]),
    ] {
        rig.create(args).failed(64, parts);
    }
    rig.run(&["--cluster", "../x", "ls"]).failed(64, &["small letters"]);
    assert_eq!(rig.names(), Vec::<String>::new());
    assert_eq!(rig.api.firewalls().len(), 0);
    rig.all_was_proper();
}

#[test]
fn a_password_in_the_url_of_a_package_is_not_shown() {
    let rig = Rig::new("password");
    let shown = |mut command: std::process::Command, code| {
        let done = rig.done(command.output().unwrap());
        assert_eq!(done.code, Some(code), "{done:?}");
        assert!(!done.out.contains("secret") && !done.err.contains("secret"), "{done:?}");
    };
    let digest = "0".repeat(64);
    for scheme in ["http", "https", "ftp"] {
        let url = format!("{scheme}://ci:secret@host/ovl.deb");
        let create = ["create", "--no-provision"];
        shown(rig.command(&[&create[..], &["--deb", &url]].concat()), 64);
        shown(rig.command(&[&create[..], &["--deb", &url, "--deb-sha256", &digest]].concat()), 64);
        shown(rig.command(&[&create[..], &["--deb", &url, "--deb-sha256", "x"]].concat()), 64);
        for (more, code) in [("--no-provision", 64), ("--help", 0)] {
            let mut command = rig.command(&["create", more]);
            command.env("OVL_DEB", &url);
            shown(command, code);
        }
    }
    assert_eq!(rig.names(), Vec::<String>::new());
}

#[test]
fn settings_come_from_the_environment_and_flags_win() {
    let rig = Rig::new("environment");
    let environment = [
        ("DIGITALOCEAN_REGION", "fra1"),
        ("DIGITALOCEAN_IMAGE", "debian-13-x64"),
        ("DIGITALOCEAN_SIZE", "s-2vcpu-4gb"),
        ("DIGITALOCEAN_PRIVATE_NETWORKING", "true"),
    ];
    let args = ["create", "--no-provision", "--image", "debian-12-x64"];
    rig.done(rig.command(&args).envs(environment).output().unwrap()).fine();
    let order = rig.api.droplets()[0].order.clone();
    assert_eq!((order.region.as_str(), order.size.as_str()), ("fra1", "s-2vcpu-4gb"));
    assert_eq!(order.image, "debian-12-x64");
    rig.all_was_proper();
}

#[test]
fn a_variable_that_is_empty_is_as_one_that_is_not_set() {
    let rig = Rig::new("empty");
    let environment = [
        "DIGITALOCEAN_REGION",
        "DIGITALOCEAN_IMAGE",
        "DIGITALOCEAN_SIZE",
        "DIGITALOCEAN_PRIVATE_NETWORKING",
        "OVL_DEB",
        "OVL_CLUSTER",
        "OVL_DROPLET_STATE",
    ]
    .map(|name| (name, ""));
    let args = ["create", "--no-provision"];
    rig.done(rig.command(&args).envs(environment).output().unwrap()).fine();
    assert_eq!(rig.api.droplets()[0].order.region, "sfo3");
    // As shells and the walkthroughs of others write it.
    for (value, code) in [("1", 0), ("yes", 0), ("0", 64), ("perhaps", 64)] {
        let mut command = rig.command(&args);
        command.env("DIGITALOCEAN_PRIVATE_NETWORKING", value);
        assert_eq!(rig.done(command.output().unwrap()).code, Some(code), "{value}");
    }
    rig.create(&["--region", ""]).failed(64, &["--region"]);
    rig.all_was_proper();
}

#[test]
fn no_token_is_one_sentence() {
    let rig = Rig::new("no-token");
    for (token, part) in [
        (None, "set DIGITALOCEAN_ACCESS_TOKEN"),
        (Some(""), "no token"),
        (Some("a b"), "characters"),
    ] {
        let mut command = rig.command(&["ls"]);
        match token {
            Some(token) => command.env("DIGITALOCEAN_ACCESS_TOKEN", token),
            None => command.env_remove("DIGITALOCEAN_ACCESS_TOKEN"),
        };
        let done = rig.done(command.output().unwrap());
        assert_eq!(done.err.trim().lines().count(), 1, "{done:?}");
        done.failed(1, &[part]);
    }
    assert!(rig.api.requests().is_empty());
}

#[test]
fn a_token_does_not_leave_in_clear_text() {
    let rig = Rig::new("clear");
    rig.run(&["--api-url", "http://192.0.2.1", "ls"]).failed(64, &["clear text"]);
}

#[test]
fn a_dry_run_shows_the_user_data_and_asks_nobody() {
    let rig = Rig::new("dry");
    let mut command = rig.command(&["create", "--dry-run", "--count", "2"]);
    let shown = rig.done(command.env_remove("DIGITALOCEAN_ACCESS_TOKEN").output().unwrap()).fine();
    assert!(shown.contains("would make workerbee-1, workerbee-2"), "{shown}");
    assert!(shown.contains("#cloud-config") && shown.contains("docker.io"), "{shown}");
    assert!(rig.api.requests().is_empty());
    let json = rig.json(&["create", "--dry-run", "--name", "kvstore"]);
    assert_eq!(json["names"], serde_json::json!(["kvstore"]));
    assert!(json["user_data"].as_str().unwrap().contains("consul"));
}

#[test]
fn a_droplet_that_is_not_there_is_said_with_those_that_are() {
    let rig = Rig::new("unknown");
    rig.create(&["--name", "queenbee"]).fine();
    for command in [
        &["ip", "drone"][..],
        &["ssh", "drone"],
        &["restart", "drone"],
        &["provision", "drone"],
        &["tunnel", "drone", "8080:localhost:80"],
    ] {
        rig.run(command).failed(1, &["no droplet drone in cluster default; there are: queenbee"]);
    }
    rig.run(&["tunnel", "queenbee", "x"]).failed(64, &["PORT:HOST:PORT"]);
}
