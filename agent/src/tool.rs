//! Runs programs of the host that only tell something, and bounds them: in time, in what they may
//! write, and in where they are looked for. Never through a shell.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

/// Where programs are looked for, whatever the environment says: as root one must not be led
/// elsewhere. The last two are for what was installed by hand.
pub const PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin";

/// A word as a shell takes it for one, whatever it is: for commands that people are told to type. Words come
/// from other hosts, too.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.:/@%+=,-".contains(c);
    match !word.is_empty() && !word.starts_with('-') && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// Bytes of standard error that are kept; of more, the beginning.
const COMPLAINT_MAX: u64 = 64 << 10;

/// Characters of a complaint in a message.
const QUOTE_MAX: usize = 300;

/// How much a program may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// After this long it is killed.
    pub time: Duration,
    /// Bytes of standard output; a program that writes more is killed.
    pub output: usize,
}

/// What a program said, and how it ended.
#[derive(Clone, Debug)]
pub struct Said {
    /// Standard output; text of another encoding with replacement characters.
    pub text: String,
    /// It stopped writing here, because there was more than the limit.
    pub cut: bool,
    /// Its last words on standard error, on one line; empty: none.
    pub complaint: String,
}

/// Why a program said nothing that counts.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is not installed, at least not in [`PATH`].
    #[error("there is no `{0}` on this host (looked for in {PATH})")]
    Missing(String),
    /// It could not be started or read.
    #[error("`{program}` could not be run: {source}")]
    Failed {
        /// Its command line.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It was killed.
    #[error("`{program}` took longer than {} s", limit.as_secs_f64())]
    Late {
        /// Its command line.
        program: String,
        /// How long it had.
        limit: Duration,
    },
    /// It ended with an error.
    #[error("`{program}` failed: {}", if said.is_empty() { status } else { said })]
    Refused {
        /// Its command line.
        program: String,
        /// How it ended.
        status: String,
        /// What it said.
        said: String,
    },
}

/// Runs a program to its end; what it writes beyond the limit is left out and said so.
///
/// # Errors
/// [`ToolError`]; also when it exits with another code than 0. Cancel-safe: a program whose call is
/// dropped is killed.
pub async fn run(argv: &[&str], limits: Limits) -> Result<Said, ToolError> {
    let program = argv.join(" ");
    let failed = |source| ToolError::Failed { program: program.clone(), source };
    let Some((name, arguments)) = argv.split_first() else {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    };
    let mut command = Command::new(name);
    // Looked for in this PATH, not in the caller's.
    command.args(arguments).env_clear().env("PATH", PATH).env("LC_ALL", "C.UTF-8");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ToolError::Missing((*name).to_owned()),
        _ => failed(error),
    })?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let all = async {
        let output = u64::try_from(limits.output).unwrap_or(u64::MAX);
        let said = async {
            let said = read(stdout, output.saturating_add(1)).await?;
            // One that goes on would wait for a reader for ever.
            if said.len() > limits.output {
                child.start_kill()?;
            }
            Ok(said)
        };
        let (said, complaint) = tokio::try_join!(said, complaint(stderr))?;
        Ok((said, complaint, child.wait().await?))
    };
    let Ok(done) = tokio::time::timeout(limits.time, all).await else {
        return Err(ToolError::Late { program, limit: limits.time });
    };
    let (mut said, complaint, status) = done.map_err(failed)?;
    let cut = said.len() > limits.output;
    said.truncate(limits.output);
    let complaint = one_line(&complaint);
    if !cut && !status.success() {
        return Err(ToolError::Refused { program, status: ended(status), said: complaint });
    }
    Ok(Said { text: String::from_utf8_lossy(&said).into_owned(), cut, complaint })
}

/// The beginning of it; the rest is read, too, as the program would wait for that.
async fn complaint(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let Some(mut pipe) = pipe else {
        return Ok(Vec::new());
    };
    let beginning = read(Some(&mut pipe), COMPLAINT_MAX).await?;
    tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    Ok(beginning)
}

async fn read(pipe: Option<impl AsyncRead + Unpin>, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(most).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

fn ended(status: ExitStatus) -> String {
    status.code().map_or_else(|| "a signal ended it".to_owned(), |code| format!("exit code {code}"))
}

fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().filter(|c| !c.is_control()).take(QUOTE_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { time: Duration::from_secs(10), output: 1000 };

    #[tokio::test]
    async fn what_a_program_says_is_read_without_the_callers_environment() {
        let said = run(&["env"], LIMITS).await.unwrap();
        assert_eq!(said.text, format!("LC_ALL=C.UTF-8\nPATH={PATH}\n"));
        assert!(!said.cut);
    }

    #[test]
    fn a_word_that_would_be_more_to_a_shell_is_quoted() {
        for (word, expected) in [
            ("web-1.blue", "web-1.blue"),
            ("/run/netns/x", "/run/netns/x"),
            ("$(reboot)", "'$(reboot)'"),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("-rf", "'-rf'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }

    #[tokio::test]
    async fn a_program_that_is_missing_or_fails_is_told_in_a_sentence() {
        let missing = run(&["no-such-tool"], LIMITS).await.unwrap_err();
        assert!(matches!(&missing, ToolError::Missing(name) if name == "no-such-tool"));
        let refused = run(&["ls", "/nowhere"], LIMITS).await.unwrap_err().to_string();
        assert!(refused.contains("`ls /nowhere` failed: ls: cannot access"), "{refused}");
        let silent = run(&["false"], LIMITS).await.unwrap_err().to_string();
        assert_eq!(silent, "`false` failed: exit code 1");
    }

    #[tokio::test]
    async fn time_and_output_are_bounded() {
        let limits = Limits { time: Duration::from_millis(50), output: 10 };
        let late = run(&["sleep", "600"], limits).await.unwrap_err();
        assert!(matches!(late, ToolError::Late { .. }), "{late}");
        let endless = run(&["yes"], LIMITS).await.unwrap();
        assert!(endless.cut && endless.text.len() == 1000);
        // More complaints than fit into a pipe do not hold it up.
        let loud = run(&["sh", "-c", "yes | head -c 1000000 >&2; echo done"], LIMITS).await;
        assert_eq!(loud.unwrap().text, "done\n");
    }
}
