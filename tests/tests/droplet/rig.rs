//! A server of the API, a user with a home, and `ovlctl`.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use ovl_tests::digitalocean::{DigitalOcean, Settings};
use ovl_tests::programs::Programs;
use ovl_tests::wait;
use serde_json::Value;

/// Made for one test, and gone with it.
pub(crate) struct Rig {
    pub(crate) api: DigitalOcean,
    home: Home,
}

/// A folder that is removed, however the test ends.
struct Home(PathBuf);

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    /// It went well; its standard output.
    #[track_caller]
    pub(crate) fn fine(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// It failed with this code, and said all of these.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "`{part}` in {self:?}");
        }
    }
}

/// Tries each case on a thread of its own, as most of them wait.
pub(crate) fn each<T: Send>(cases: impl IntoIterator<Item = T>, test: impl Fn(T) + Sync) {
    let test = &test;
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(move || test(case));
        }
    });
}

impl Rig {
    pub(crate) fn new(name: &str) -> Rig {
        Rig::with(name, Settings::default())
    }

    pub(crate) fn with(name: &str, settings: Settings) -> Rig {
        let api = DigitalOcean::start(settings).unwrap();
        let home = std::env::temp_dir().join(format!("ovl-droplet-{name}-{}", std::process::id()));
        fs::create_dir_all(home.join(".ssh")).unwrap();
        let rig = Rig { api, home: Home(home) };
        rig.new_key("id_ed25519");
        rig
    }

    /// Makes a key of the user's; its public part.
    pub(crate) fn new_key(&self, name: &str) -> String {
        let file = self.home().join(".ssh").join(name);
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "bee@hive", "-f"])
            .arg(&file)
            .status();
        assert!(made.unwrap().success());
        fs::read_to_string(file.with_extension("pub")).unwrap()
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home.0
    }

    /// `ovlctl droplet …` of this user.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(Programs::find().unwrap().ovlctl());
        command.env_clear().env("HOME", self.home()).env("PATH", std::env::var_os("PATH").unwrap());
        command.env("DIGITALOCEAN_ACCESS_TOKEN", self.api.token());
        command.env("DIGITALOCEAN_API_URL", self.api.url());
        command.stdin(Stdio::null()).arg("droplet").args(args);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Done {
        self.done(self.command(args).output().unwrap())
    }

    pub(crate) fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Whatever a run says, the token is not in it.
    pub(crate) fn done(&self, output: Output) -> Done {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(output.stdout), text(output.stderr));
        let token = self.api.token();
        assert!(!out.contains(&token) && !err.contains(&token), "the token is shown: {out} {err}");
        Done { code: output.status.code(), out, err }
    }

    /// What is recorded of the cluster.
    pub(crate) fn record(&self) -> Value {
        let file = self.home().join(".local/state/ovl/default/record.json");
        serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
    }

    /// Until what is recorded fits.
    pub(crate) fn wait_for_record(&self, fits: impl Fn(&Value) -> bool) {
        wait::until("the record", Duration::from_secs(20), || match self.record() {
            record if fits(&record) => Ok(()),
            record => Err(record.to_string()),
        })
        .unwrap();
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let all: Vec<&str> = ["--json"].iter().chain(args).copied().collect();
        serde_json::from_str(&self.run(&all).fine()).unwrap()
    }

    /// `create` of droplets that are not set up: their addresses lead nowhere.
    pub(crate) fn create(&self, args: &[&str]) -> Done {
        let all: Vec<&str> = ["create", "--no-provision"].iter().chain(args).copied().collect();
        self.run(&all)
    }

    /// Names at the provider, in the order of their numbers.
    pub(crate) fn names(&self) -> Vec<String> {
        self.api.droplets().into_iter().map(|one| one.order.name).collect()
    }

    /// Name and state, as `ls` says.
    pub(crate) fn listed(&self) -> Vec<(String, String)> {
        let list = self.json(&["ls"]);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        list.as_array()
            .unwrap()
            .iter()
            .map(|one| (text(&one["name"]), text(&one["state"])))
            .collect()
    }

    /// Until every fault has struck.
    pub(crate) fn wait_for_faults(&self) {
        wait::until("the faults", Duration::from_secs(20), || match self.api.unspent() {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        })
        .unwrap();
    }

    /// Names of files that are left in the default cluster's folder.
    pub(crate) fn files(&self) -> Vec<String> {
        let folder = self.home().join(".local/state/ovl/default");
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    /// No request was other than documented, and nothing of the token is on the disk.
    #[track_caller]
    pub(crate) fn all_was_proper(&self) {
        assert_eq!(self.api.violations(), Vec::<String>::new());
        no_secret_below(self.home(), &self.api.token());
    }
}

#[track_caller]
fn no_secret_below(folder: &Path, secret: &str) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            no_secret_below(&path, secret);
        } else {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            assert!(!text.contains(secret), "{}", path.display());
        }
    }
}
