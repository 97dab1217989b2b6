//! A droplet that runs is made what it is to be, over ssh: first its own host keys, then the package, then
//! the script; and a restart if the script asks for one. Each part can be repeated: a connection that
//! breaks, also by a restart, is made again.
use std::path::Path;
use std::time::Duration;

use ring::digest::{SHA256, digest};

use super::board::{Row, Step};
use super::digitalocean::Droplet;
use super::host::{Agent, Host, Line, Package, Role};
use super::record;
use super::record::Task;
use super::site::{DropletError, Site};
use super::ssh::{FIRST_BOOT, Shell, SshError, Target, public_keys};

/// From the first try to reach it: it boots meanwhile.
const REACH_WITHIN: Duration = Duration::from_secs(240);
/// Keys are put in late in the first boot: until then it denies.
const DENIED_WITHIN: Duration = Duration::from_secs(60);
/// Between two tries.
const REACH_STEP: Duration = Duration::from_secs(2);
/// For the first boot's own work, packages and all.
const BOOT_WITHIN: Duration = Duration::from_secs(900);
/// For the script.
const SCRIPT_WITHIN: Duration = Duration::from_secs(1200);
/// The script's exit code when somebody ends it: the machine restarts.
const STOPPED: i32 = 130;
/// Changes that are told; a script of ours makes some dozen.
const CHANGES_MAX: usize = 1000;
/// Connections that may break in one provisioning, restarts included.
const BREAKS_MAX: u32 = 5;

/// Ends when cloud-init has done all that it does at a boot, or is not there. What went wrong is its
/// last word.
const BOOTED: &str = r#"
command -v cloud-init >/dev/null || exit 0
cloud-init status --wait >/dev/null 2>&1
code=$?
# 2: done, with something to complain about.
[ $code = 0 ] || [ $code = 2 ] && exit 0
cloud-init status --long 2>/dev/null | sed -n 's/^detail: *//p;s/^  *- //p' | head -n 3 | tr '\n' ' '
exit 1
"#;

/// New host keys beside the old ones; prints them.
const NEW_KEYS: &str = r#"
set -e
umask 077
d=/etc/ssh/ovl-new
mkdir -p $d
for t in ed25519 ecdsa rsa; do
    f=$d/ssh_host_${t}_key
    [ -s $f.pub ] || { rm -f $f; ssh-keygen -q -t $t -N '' -C "root@$(hostname)" -f $f </dev/null; }
done
cat $d/*.pub
"#;

/// The new keys in the place of the old.
const USE_KEYS: &str = r#"
set -e
d=/etc/ssh/ovl-new
[ ! -d $d ] || { mv -f $d/ssh_host_* /etc/ssh/; rmdir $d; }
chmod 644 /etc/ssh/ssh_host_*_key.pub
systemctl reload ssh 2>/dev/null || systemctl reload sshd
"#;

/// What was done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    /// Each thing that was changed, in words.
    pub(crate) changes: Vec<String>,
    pub(crate) restarted: bool,
}

/// What to make of a droplet; without one, what its first boot can do, before addresses are known.
pub(crate) fn host(task: &Task, droplet: Option<&Droplet>, package_at: Option<&str>) -> Host {
    let private = droplet.and_then(Droplet::private);
    match task {
        Task::Kvstore => Host { role: Role::Kvstore, private },
        Task::Node { store, join, package } => {
            let package = match (package, package_at) {
                (record::Package::Url { url, sha256 }, _) => {
                    Some(Package::Url { url: url.clone(), sha256: sha256.clone() })
                }
                (record::Package::File(_), Some(path)) => Some(Package::File(path.to_owned())),
                (record::Package::None, _) => Some(Package::Installed),
                (record::Package::File(_), None) => None,
            };
            let agent = package.zip(store.clone()).map(|(package, store)| Agent {
                package,
                store,
                join: join.clone(),
            });
            Host { role: Role::Node { agent }, private }
        }
    }
}

/// See the module. `ready` is awaited before the script: what it needs of others.
pub(crate) async fn provision(
    site: &Site,
    droplet: &Droplet,
    task: &Task,
    row: &Row,
    ready: impl Future<Output = Result<(), DropletError>>,
) -> Result<Done, DropletError> {
    let target = site
        .target(droplet)
        .ok_or_else(|| DropletError::Said("it has no public address yet".to_owned()))?;
    let mut ready = Some(ready);
    let mut done = Done::default();
    let mut breaks = 0;
    loop {
        match attempt(site, droplet, &target, task, row, &mut ready, &mut done).await {
            Ok(None) => break,
            // Looked at again: the restart was for something.
            Ok(Some(_)) if done.restarted => {
                return Err(DropletError::Said(
                    "it was restarted, and asks for a restart once more".to_owned(),
                ));
            }
            Ok(Some(boot_id)) => {
                row.say("restarting, once");
                done.restarted = true;
                restarted(site, droplet, &target, &boot_id).await?;
            }
            Err(DropletError::Ssh(SshError::Lost { .. })) => {
                row.say("the connection broke off: once more");
            }
            Err(error) => return Err(error),
        }
        breaks += 1;
        if breaks > BREAKS_MAX {
            return Err(DropletError::Later(format!(
                "it was begun {BREAKS_MAX} times, and never came to an end"
            )));
        }
    }
    row.done(Step::Provisioned);
    site.note(&droplet.name, |entry| {
        entry.ready = true;
        entry.failure = None;
    })?;
    Ok(done)
}

/// All of it. `Some`: a restart is needed, of the boot with this number.
async fn attempt(
    site: &Site,
    droplet: &Droplet,
    target: &Target,
    task: &Task,
    row: &Row,
    ready: &mut Option<impl Future<Output = Result<(), DropletError>>>,
    done: &mut Done,
) -> Result<Option<String>, DropletError> {
    row.say(&format!("waiting for ssh, at most {} min", REACH_WITHIN.as_secs() / 60));
    let shell = booted(site, droplet, target, row).await?;
    let shell = own_keys(site, droplet, target, shell, row).await?;
    row.done(Step::Booted);
    shell.close().await;
    if let Some(ready) = ready.take() {
        ready.await?;
    }
    match task {
        Task::Node { store: None, package, .. } if *package != record::Package::None => {
            Err(DropletError::Later("its agent needs a store, and the cluster has none".to_owned()))
        }
        task => once(site, droplet, target, task, row, done).await,
    }
}

/// A connection, as soon as it takes one. A host key that was not known is told to `told`.
pub(crate) async fn reach(
    site: &Site,
    droplet: &Droplet,
    target: &Target,
    within: Duration,
    told: impl Fn(&str),
) -> Result<Shell, DropletError> {
    let begun = tokio::time::Instant::now();
    let known = site.known(&droplet.name, droplet.id);
    loop {
        let error = match Shell::connect(target, &known, &told).await {
            Ok(shell) => return Ok(shell),
            Err(error) => error,
        };
        let within = match &error {
            SshError::Denied { .. } => DENIED_WITHIN.min(within),
            error if error.is_passing() => within,
            _ => return Err(error.into()),
        };
        if begun.elapsed() > within {
            return Err(error.into());
        }
        tokio::time::sleep(REACH_STEP).await;
    }
}

/// A connection after the first boot's own work.
async fn booted(
    site: &Site,
    droplet: &Droplet,
    target: &Target,
    row: &Row,
) -> Result<Shell, DropletError> {
    let wait = async {
        loop {
            let told = |text: &str| row.note(text);
            let shell = reach(site, droplet, target, REACH_WITHIN, told).await?;
            row.done(Step::Reached);
            row.say("first boot: packages, firewall");
            match shell.run(BOOTED, |_| ()).await {
                Ok(ran) if ran.code == Some(0) => return Ok(shell),
                Ok(ran) if ran.code == Some(1) => {
                    // What it left undone is done now: the script looks at everything.
                    row.note(&format!(
                        "{}; it is done again",
                        shell.failed("the first boot", &ran)
                    ));
                    return Ok(shell);
                }
                // It restarts; that belongs to it.
                Ok(_) => {}
                Err(error) if error.is_passing() => {}
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(REACH_STEP).await;
        }
    };
    let late = || {
        DropletError::Later(format!(
            "its first boot does not come to an end within {} min: `{} ssh {} -- cloud-init status --long` says more",
            BOOT_WITHIN.as_secs() / 60,
            site.cluster.command(),
            droplet.name
        ))
    };
    tokio::time::timeout(BOOT_WITHIN, wait).await.unwrap_or_else(|_| Err(late()))
}

/// The host key of the first boot is known to whoever can read the user data: keys of its own take its
/// place, and are known before they are in use.
async fn own_keys(
    site: &Site,
    droplet: &Droplet,
    target: &Target,
    shell: Shell,
    row: &Row,
) -> Result<Shell, DropletError> {
    let known = site.known(&droplet.name, droplet.id);
    // What is known here may be of another machine's making: the droplet itself says it, too.
    let first = known.first_key();
    if first.is_none() {
        let marked = format!("grep -qs ' {FIRST_BOOT}$' /etc/ssh/ssh_host_*_key.pub && echo yes");
        let marked = shell.output("looking at its host keys", &(marked + " || true")).await?;
        if marked.trim() != "yes" {
            return Ok(shell);
        }
    }
    let printed = shell.output("making host keys", NEW_KEYS).await?;
    let keys = public_keys(&printed);
    if keys.is_empty() {
        return Err(DropletError::Said("its new host keys cannot be read".to_owned()));
    }
    // Those of a rotation that broke off are known until this one is through.
    let before = known.own_keys();
    let all = before.iter().chain(&keys).map(String::as_str);
    match &first {
        Some(first) => known.pin_with_first(all, first)?,
        None => known.pin(all)?,
    }
    shell.output("putting its host keys in place", USE_KEYS).await?;
    shell.close().await;
    known.pin(keys.iter().map(String::as_str))?;
    reach(site, droplet, target, REACH_WITHIN, |text| row.note(text)).await
}

/// The package and the script. `Some`: a restart is needed, of the boot with this number.
async fn once(
    site: &Site,
    droplet: &Droplet,
    target: &Target,
    task: &Task,
    row: &Row,
    done: &mut Done,
) -> Result<Option<String>, DropletError> {
    let shell = reach(site, droplet, target, REACH_WITHIN, |text| row.note(text)).await?;
    let package_at = match task {
        Task::Node { package: record::Package::File(file), store: Some(_), .. } => {
            Some(uploaded(&shell, file, row).await?)
        }
        Task::Node { .. } | Task::Kvstore => None,
    };
    let script = host(task, Some(droplet), package_at.as_deref()).script();
    let mut restart = false;
    let mut failure = None;
    let heard = |line: &str| match Line::parse(line) {
        Line::Same(what) => row.say(&what),
        Line::Changed(what) => {
            if done.changes.len() < CHANGES_MAX {
                row.note(&format!("changed: {what}"));
                done.changes.push(what);
            }
        }
        Line::Restart(why) => {
            row.note(&why);
            restart = true;
        }
        Line::Failed(why) => failure = Some(why),
        Line::Other(_) => {}
    };
    let ran = tokio::time::timeout(SCRIPT_WITHIN, shell.run(&script, heard)).await;
    let late = |_| {
        DropletError::Later(format!(
            "the script does not come to an end within {} min",
            SCRIPT_WITHIN.as_secs() / 60
        ))
    };
    let ran = ran.map_err(late)??;
    if let Some(why) = failure.filter(|_| ran.code != Some(STOPPED)) {
        return Err(DropletError::Said(why));
    }
    match ran.code {
        Some(0) if restart => {
            let boot_id = boot_id(&shell).await?;
            // The connection may break before it is answered.
            let _ = shell.output("restarting", "systemctl reboot").await;
            Ok(Some(boot_id))
        }
        Some(0) => {
            shell.close().await;
            Ok(None)
        }
        code if code == Some(STOPPED) || !shell.stands().await => Err(SshError::Lost {
            name: droplet.name.clone(),
            why: "in the middle of the script".to_owned(),
        }
        .into()),
        _ => Err(shell.failed("the script", &ran).into()),
    }
}

/// Puts a package there, unless it is there already; its path.
async fn uploaded(shell: &Shell, file: &Path, row: &Row) -> Result<String, DropletError> {
    let sum = {
        let bytes = std::fs::read(file)
            .map_err(|source| SshError::File { path: file.to_owned(), source })?;
        digest(&SHA256, &bytes)
    };
    let sum: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let to = format!("/var/cache/ovl/ovl-{}.deb", &sum[..16]);
    let have = format!("sha256sum {to} 2>/dev/null | cut -d ' ' -f 1");
    if shell.output("looking for the package", &have).await?.trim() != sum {
        row.say("copying the package");
        shell.upload(file, &to).await?;
    }
    Ok(to)
}

/// The number of the boot that it is in.
pub(crate) async fn boot_id(shell: &Shell) -> Result<String, SshError> {
    shell.output("looking at its boot", "cat /proc/sys/kernel/random/boot_id").await
}

/// Waits for another boot than this one.
pub(crate) async fn restarted(
    site: &Site,
    droplet: &Droplet,
    target: &Target,
    before: &str,
) -> Result<(), DropletError> {
    let again = async {
        loop {
            tokio::time::sleep(REACH_STEP).await;
            let now = match reach(site, droplet, target, REACH_WITHIN, |_| ()).await {
                Ok(shell) => boot_id(&shell).await.map_err(DropletError::from),
                Err(error) => Err(error),
            };
            match now {
                Ok(now) if now != before => return Ok(()),
                Err(error) if !error.is_passing() => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
    };
    let late = |_| DropletError::Later("it does not come back from its restart".to_owned());
    tokio::time::timeout(REACH_WITHIN, again).await.map_err(late)?
}
