//! Other programs of the host, asked within bounds.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

/// Bytes of a program's output that are read; the rest is left out.
const OUTPUT_MAX: u64 = 4 << 20;

/// Where programs of the system are; a service may have a shorter list.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a program said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Output {
    /// It ended with exit code 0.
    pub(super) success: bool,
    /// Standard output, what is not UTF-8 replaced, cut after 4 MiB.
    pub(super) stdout: String,
    /// Standard error, likewise.
    pub(super) stderr: String,
}

/// Why a program said nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CommandError {
    /// It is not installed.
    #[error("there is no program {0}")]
    Missing(String),
    /// It could not be started or read.
    #[error("{program} could not be run: {why}")]
    Failed {
        /// Its name.
        program: String,
        /// What the system said.
        why: String,
    },
    /// It was ended after that time.
    #[error("{program} did not end within {} s", after.as_secs())]
    Slow {
        /// Its name.
        program: String,
        /// How long it had.
        after: Duration,
    },
}

/// Runs a program to its end, in the language of its manual, without input; it is killed when `within` is
/// over, and when this is dropped.
pub(super) async fn run(
    program: &str,
    args: &[&str],
    within: Duration,
) -> Result<Output, CommandError> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => CommandError::Missing(program.to_owned()),
        _ => CommandError::Failed { program: program.to_owned(), why: error.to_string() },
    };
    let mut command = Command::new(program);
    command.args(args).env("PATH", PATH).env("LC_ALL", "C").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ended = async {
        let (stdout, stderr, status) = tokio::join!(all(stdout), all(stderr), child.wait());
        status.map(|status| Output { success: status.success(), stdout, stderr })
    };
    match tokio::time::timeout(within, ended).await {
        Ok(output) => output.map_err(failed),
        Err(_) => Err(CommandError::Slow { program: program.to_owned(), after: within }),
    }
}

/// What is read, up to the bound; the rest is read and left out, so that the program can end.
async fn all(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else {
        return String::new();
    };
    let mut bytes = Vec::new();
    // A broken pipe is an end like any other.
    let _ = (&mut stream).take(OUTPUT_MAX).read_to_end(&mut bytes).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_program_says_what_it_says() {
        let output = run("sh", &["-c", "echo out; echo err >&2; exit 3"], SOON).await.unwrap();
        let expected = Output { success: false, stdout: "out\n".into(), stderr: "err\n".into() };
        assert_eq!(output, expected);
    }

    #[tokio::test]
    async fn one_that_is_missing_slow_or_loud_is_bounded() {
        let missing = run("no-such-program-of-ovl", &[], SOON).await.unwrap_err();
        assert_eq!(missing.to_string(), "there is no program no-such-program-of-ovl");
        let slow = run("sleep", &["100"], Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(slow, CommandError::Slow { .. }), "{slow}");
        let loud = run("sh", &["-c", "head -c 8000000 /dev/zero"], SOON).await.unwrap();
        assert_eq!((loud.success, loud.stdout.len() as u64), (true, OUTPUT_MAX));
    }
}
