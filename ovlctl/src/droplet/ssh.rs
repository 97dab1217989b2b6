//! The user's own ssh client, with their configuration, agent and keys: to run a script on a droplet, to
//! copy a file there, to lead a port there.
//!
//! | file | task |
//! |---|---|
//! | `ssh.rs` | [`Shell`]: a connection, and what is done over it |
//! | `config` | configurations for a cluster's droplets, by name |
//! | `known` | which host keys are theirs |
mod config;
mod known;

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use openssh::{ControlPersist, ForwardType, KnownHosts, Session, SessionBuilder, Socket, Stdio};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use super::record::RecordError;
use crate::output::bounded;

pub(crate) use self::config::{Place, Target, USER, text as config_text};
pub(crate) use self::known::{FIRST_BOOT, Known, forget_all, new_host_key, public_keys};

/// For a connection, the key exchange included.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// For all that comes before the first command, whatever the user's configuration does in it.
const LET_IN_WITHIN: Duration = Duration::from_secs(60);
/// For a file that is copied.
const UPLOAD_WITHIN: Duration = Duration::from_secs(900);
/// Characters that are repeated of what others said.
const WORDS_MAX: usize = 500;
/// A droplet that says nothing for three times as long is gone.
const ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Seconds that a connection stays which nobody uses, if this program ends without closing it.
const IDLE_SECONDS: NonZeroUsize = NonZeroUsize::new(120).unwrap();
/// For a script that asks or does one thing.
const OUTPUT_WITHIN: Duration = Duration::from_secs(90);
/// Bytes of a line of output; the rest is left out.
const LINE_MAX: u64 = 4096;
/// Bytes of output that are kept of a script.
const OUTPUT_MAX: u64 = 4 << 20;

/// As root, or by sudo without a password.
const AS_ROOT: &str = r#"if [ "$(id -u)" = 0 ]; then exec sh -s; else exec sudo -n sh -s; fi"#;

/// Why something did not work over ssh.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SshError {
    /// The program.
    #[error("there is no ssh client here: install openssh-client")]
    NoClient,
    /// For the connection's socket.
    #[error(
        "cannot make a folder for the connection to {name}: {source}; TMPDIR names another place for it"
    )]
    NoFolder { name: String, source: std::io::Error },
    /// The configuration.
    #[error(transparent)]
    Config(#[from] RecordError),
    /// It answers with another key than the one that is known.
    #[error("{name} answers with another host key than the one that is known ({}): if that is right, remove that file; it is not connected to until then", known.display())]
    WrongHostKey { name: String, known: std::path::PathBuf },
    /// A jump host of the user's own configuration, whose key that has to know.
    #[error(
        "a host on the way to {name} is not known to your ssh client, or answers with another key: {why}; connect to it once with ssh"
    )]
    OnTheWay { name: String, why: String },
    /// The droplet does not take any of the user's keys.
    #[error(
        "{name} takes none of your SSH keys: {why}; is the right key in your ssh agent, or named by your ssh configuration?"
    )]
    Denied { name: String, why: String },
    /// Nobody there, yet or any more.
    #[error("{name} is not reached by ssh: {why}")]
    Unreachable { name: String, why: String },
    /// In the middle.
    #[error("the connection to {name} broke off: {why}")]
    Lost { name: String, why: String },
    /// What was run there failed.
    #[error("{what} on {name}: {why}")]
    Failed { name: String, what: String, why: String },
    /// A port or address of this machine is taken, or the like.
    #[error("cannot lead {spec} to {name}: {why}")]
    Forward { name: String, spec: String, why: String },
    /// A file of this machine.
    #[error("cannot read {}: {source}", path.display())]
    File { path: std::path::PathBuf, source: std::io::Error },
}

impl SshError {
    /// It may go better in a moment: droplets boot, and boot again.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, SshError::Unreachable { .. } | SshError::Lost { .. })
    }
}

/// A connection to a droplet.
pub(crate) struct Shell {
    name: String,
    session: Session,
}

/// What a script left.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Shell {
    /// A host key that is not `known` is trusted this once, known from then on, and told to `told`.
    ///
    /// # Errors
    /// All but `Lost`, `Failed` and `Forward`.
    pub(crate) async fn connect(
        target: &Target,
        known: &Known<'_>,
        told: impl Fn(&str),
    ) -> Result<Shell, SshError> {
        Self::met(target, known, ControlPersist::IdleFor(IDLE_SECONDS), told).await
    }

    /// The same, for what is led over it without a command that runs.
    ///
    /// # Errors
    /// As [`Shell::connect`].
    pub(crate) async fn connect_to_lead(
        target: &Target,
        known: &Known<'_>,
        told: impl Fn(&str),
    ) -> Result<Shell, SshError> {
        Self::met(target, known, ControlPersist::Forever, told).await
    }

    /// ssh learns a host key before it is let in: it is told also where it is not.
    async fn met(
        target: &Target,
        known: &Known<'_>,
        persist: ControlPersist,
        told: impl Fn(&str),
    ) -> Result<Shell, SshError> {
        let was_pinned = known.is_pinned();
        let shell = Self::open(target, was_pinned, persist).await;
        if !was_pinned && known.is_pinned() {
            told(&known.trusted());
        }
        shell
    }

    async fn open(
        target: &Target,
        pinned: bool,
        persist: ControlPersist,
    ) -> Result<Shell, SshError> {
        let config = target.config()?;
        let mut builder = SessionBuilder::default();
        builder
            .known_hosts_check(if pinned { KnownHosts::Strict } else { KnownHosts::Add })
            .connect_timeout(CONNECT_WITHIN)
            .control_persist(persist)
            .server_alive_interval(ALIVE_INTERVAL)
            .control_directory(std::env::temp_dir())
            .config_file(&config);
        match tokio::time::timeout(LET_IN_WITHIN, builder.connect(&target.name)).await {
            Ok(Ok(session)) => Ok(Shell { name: target.name.clone(), session }),
            Ok(Err(error)) => Err(why_not(target, error)),
            Err(_) => Err(SshError::Unreachable {
                name: target.name.clone(),
                why: format!("it lets nobody in within {} s", LET_IN_WITHIN.as_secs()),
            }),
        }
    }

    /// Runs a script as root; `heard` gets each line of its output as it comes.
    ///
    /// # Errors
    /// [`SshError::Lost`]; what the script itself says of its success is in [`Ran`].
    pub(crate) async fn run(
        &self,
        script: &str,
        mut heard: impl FnMut(&str),
    ) -> Result<Ran, SshError> {
        let mut command = self.session.raw_command(AS_ROOT);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().await.map_err(|error| self.lost(&error))?;
        let (stdin, stdout, stderr) =
            (child.stdin().take(), child.stdout().take(), child.stderr().take());
        let write = async {
            if let Some(mut stdin) = stdin {
                // A script that ends before it is read whole says why by its exit code.
                let _ = stdin.write_all(script.as_bytes()).await;
                let _ = stdin.shutdown().await;
            }
        };
        let mut out = String::new();
        let read = async {
            let Some(stdout) = stdout else { return };
            let mut lines = BufReader::new(stdout);
            while let Some(line) = next_line(&mut lines).await {
                heard(&line);
                if (out.len() as u64) < OUTPUT_MAX {
                    out.push_str(&line);
                    out.push('\n');
                }
            }
        };
        let mut err = Vec::new();
        let complaints = async {
            if let Some(mut stderr) = stderr {
                let _ = (&mut stderr).take(OUTPUT_MAX).read_to_end(&mut err).await;
                let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
            }
        };
        futures::join!(write, read, complaints);
        let status = child.wait().await.map_err(|error| self.lost(&error))?;
        let err = String::from_utf8_lossy(&err).into_owned();
        Ok(Ran { code: status.code(), out, err })
    }

    /// The output of a script that has to succeed. `what` it does, in words.
    ///
    /// # Errors
    /// [`SshError::Lost`], [`SshError::Failed`].
    pub(crate) async fn output(&self, what: &str, script: &str) -> Result<String, SshError> {
        let ran = self.ran(what, script).await?;
        match ran.code {
            Some(0) => Ok(ran.out),
            _ => Err(self.failed(what, &ran)),
        }
    }

    /// What a short script left. `what` it does, in words.
    ///
    /// # Errors
    /// [`SshError::Lost`].
    pub(crate) async fn ran(&self, what: &str, script: &str) -> Result<Ran, SshError> {
        let late = |_| SshError::Lost {
            name: self.name.clone(),
            why: format!("{what} takes longer than {} s", OUTPUT_WITHIN.as_secs()),
        };
        tokio::time::timeout(OUTPUT_WITHIN, self.run(script, |_| ())).await.map_err(late)?
    }

    /// A failure in the script's own last words.
    pub(crate) fn failed(&self, what: &str, ran: &Ran) -> SshError {
        let said = ran.err.lines().chain(ran.out.lines()).rfind(|line| !line.trim().is_empty());
        let why = match (said, ran.code) {
            (Some(said), _) => bounded(said.trim(), WORDS_MAX),
            (None, Some(code)) => format!("exit code {code}"),
            (None, None) => "ended by a signal".to_owned(),
        };
        SshError::Failed { name: self.name.clone(), what: what.to_owned(), why }
    }

    /// Copies a file of this machine to a path of the droplet, whole or not at all.
    ///
    /// # Errors
    /// [`SshError::File`], [`SshError::Lost`], [`SshError::Failed`].
    pub(crate) async fn upload(&self, file: &Path, to: &str) -> Result<(), SshError> {
        let late = |_| SshError::Lost {
            name: self.name.clone(),
            why: format!("copying takes longer than {} min", UPLOAD_WITHIN.as_secs() / 60),
        };
        tokio::time::timeout(UPLOAD_WITHIN, self.copied(file, to)).await.map_err(late)?
    }

    async fn copied(&self, file: &Path, to: &str) -> Result<(), SshError> {
        let failed = |source| SshError::File { path: file.to_owned(), source };
        let mut from = tokio::fs::File::open(file).await.map_err(failed)?;
        // The path is one of ours: letters, digits, `/`, `.`, `_` and `-`.
        let script = format!(
            r#"t='{to}'; c='mkdir -p "${{1%/*}}" && cat > "$1.new" && mv "$1.new" "$1"'
if [ "$(id -u)" = 0 ]; then exec sh -c "$c" sh "$t"; else exec sudo -n sh -c "$c" sh "$t"; fi"#
        );
        let mut command = self.session.raw_command(script);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().await.map_err(|error| self.lost(&error))?;
        let mut sent = Ok(0);
        if let Some(mut stdin) = child.stdin().take() {
            sent = tokio::io::copy(&mut from, &mut stdin).await;
            let _ = stdin.shutdown().await;
        }
        let output = child.wait_with_output().await.map_err(|error| self.lost(&error))?;
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            let ran = Ran { code: output.status.code(), out: String::new(), err };
            return Err(self.failed("copying the package", &ran));
        }
        let broke = |error: std::io::Error| SshError::Lost {
            name: self.name.clone(),
            why: error.to_string(),
        };
        sent.map(drop).map_err(broke)
    }

    /// Leads connections to `listen` of this machine to `to`, as the droplet sees it.
    ///
    /// # Errors
    /// [`SshError::Forward`].
    pub(crate) async fn forward(
        &self,
        listen: (&str, u16),
        to: (&str, u16),
    ) -> Result<(), SshError> {
        let socket = |(host, port): (&str, u16)| Socket::new(host.to_owned(), port);
        let (from, target) = (socket(listen), socket(to));
        let forwarded = self.session.request_port_forward(ForwardType::Local, from, target).await;
        forwarded.map_err(|error| SshError::Forward {
            name: self.name.clone(),
            spec: format!("{}:{}", listen.0, listen.1),
            why: chain(&error),
        })
    }

    /// Whether it still stands.
    pub(crate) async fn stands(&self) -> bool {
        self.session.check().await.is_ok()
    }

    /// Ends it in order.
    pub(crate) async fn close(self) {
        // What is broken is closed.
        let _ = self.session.close().await;
    }

    fn lost(&self, error: &openssh::Error) -> SshError {
        SshError::Lost { name: self.name.clone(), why: chain(error) }
    }
}

/// A line, without what is beyond [`LINE_MAX`]; `None` at the end.
async fn next_line(lines: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> Option<String> {
    let mut line = Vec::new();
    let read = (&mut *lines).take(LINE_MAX).read_until(b'\n', &mut line).await.ok()?;
    if read == 0 {
        return None;
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Some(String::from_utf8_lossy(&line).into_owned())
}

fn why_not(target: &Target, error: openssh::Error) -> SshError {
    let name = target.name.clone();
    let error = match error {
        openssh::Error::Connect(io) if io.kind() == std::io::ErrorKind::NotFound => {
            return SshError::NoClient;
        }
        openssh::Error::Master(source) => return SshError::NoFolder { name, source },
        error => error,
    };
    let words = chain(&error);
    let (said, why) = (words.to_ascii_lowercase(), bounded(&words, WORDS_MAX));
    let of_droplet = [format!("host key for {name} has changed"), format!("is known for {name} ")];
    if of_droplet.iter().any(|part| said.contains(part)) {
        SshError::WrongHostKey { name, known: target.known_hosts.clone() }
    } else if said.contains("host key verification failed") {
        SshError::OnTheWay { name, why }
    } else if said.contains("permission denied")
        || said.contains("too many authentication failures")
    {
        SshError::Denied { name, why }
    } else {
        SshError::Unreachable { name, why }
    }
}

/// The innermost cause: ssh's own words, on one line.
fn chain(error: &openssh::Error) -> String {
    let mut error: &(dyn std::error::Error + 'static) = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    let text = error.to_string();
    let text: Vec<&str> = text.split_whitespace().collect();
    text.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::droplet::record::Folder;

    const CHANGED: &str = "\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r
Host key for queenbee has changed and you have requested strict checking.\r
Host key verification failed.";

    #[test]
    fn a_key_of_a_host_on_the_way_is_not_the_droplets() {
        let base = tempfile::tempdir().unwrap();
        let folder = Folder::of(&"default".parse().unwrap(), Some(base.path())).unwrap();
        let place = Place {
            name: "queenbee".into(),
            address: std::net::Ipv4Addr::new(192, 0, 2, 1),
            known_hosts: "/known".into(),
        };
        let target = Target::new(&folder, place, &[], USER);
        let why = |said: &str| {
            why_not(&target, openssh::Error::Connect(std::io::Error::other(said.to_owned())))
        };
        let unknown = |host: &str| {
            format!(
                "No ED25519 host key is known for {host} and you have requested strict checking.\r\nHost key verification failed."
            )
        };
        for said in [CHANGED, &unknown("queenbee")] {
            assert!(matches!(why(said), SshError::WrongHostKey { .. }), "{said}");
        }
        let lost = "\r\nConnection closed by UNKNOWN port 65535";
        for said in [
            CHANGED.replace("queenbee", "jump") + lost,
            unknown("jump") + lost,
            "Host key verification failed.\r\nConnection closed by UNKNOWN port 65535".to_owned(),
        ] {
            assert!(matches!(why(&said), SshError::OnTheWay { .. }), "{said}");
        }
    }
}
