//! Running programs of the machine, each with a limit, and reading what they say.
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::LabError;
use crate::wait::{self, Deadline};

/// Limit of a program that only asks or sets something in the kernel.
pub const QUICK: Duration = Duration::from_secs(20);

/// How a program ended, and what it said.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The command line, for messages.
    pub command: String,
    /// Its exit code; None when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Outcome {
    /// Whether it exited with 0.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// The outcome, if it exited with 0.
    ///
    /// # Errors
    /// [`LabError::Command`] with the last of what it said.
    pub fn require(self) -> Result<Self, LabError> {
        if self.ok() {
            return Ok(self);
        }
        let said = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        Err(LabError::Command {
            status: self.code.map_or("a signal".to_owned(), |code| format!("exit code {code}")),
            stderr: last_lines(said, 3),
            command: self.command,
        })
    }

    /// Its standard output as JSON.
    ///
    /// # Errors
    /// [`LabError::BadAnswer`].
    pub fn json(&self) -> Result<serde_json::Value, LabError> {
        serde_json::from_str(&self.stdout).map_err(|_| LabError::BadAnswer {
            command: self.command.clone(),
            answer: last_lines(&self.stdout, 5),
        })
    }
}

/// Runs a program to its end, without input; kills it at the limit.
///
/// # Errors
/// [`LabError::Spawn`], [`LabError::CommandTimeout`], [`LabError::Interrupted`]. An exit code other than 0 is no error here:
/// see [`Outcome::require`].
pub fn run(command: &mut Command, limit: Duration) -> Result<Outcome, LabError> {
    run_reading(command, Stdio::null(), limit)
}

/// The same with a standard input.
///
/// # Errors
/// As [`run`].
pub fn run_reading(
    command: &mut Command,
    stdin: Stdio,
    limit: Duration,
) -> Result<Outcome, LabError> {
    let line = line(command);
    let mut child =
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(
            |source| LabError::Spawn {
                program: command.get_program().to_string_lossy().into_owned(),
                source,
            },
        )?;
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let deadline = Deadline::after(limit);
    let Some(status) = wait_for(&mut child, deadline) else {
        return Err(give_up(&mut child, line, limit));
    };
    Ok(Outcome {
        command: line,
        code: status.code(),
        stdout: stdout.join().unwrap_or_default(),
        stderr: stderr.join().unwrap_or_default(),
        took: deadline.elapsed(),
    })
}

/// Runs a program that must succeed, and gives its standard output.
///
/// # Errors
/// As [`run`], and [`LabError::Command`] when it fails.
pub fn run_ok(command: &mut Command) -> Result<String, LabError> {
    Ok(run(command, QUICK)?.require()?.stdout)
}

/// The command line as a person would type it, without the namespaces that it enters.
#[must_use]
pub fn line(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    let own = match words.iter().position(|word| word == "--") {
        Some(end) if words[0] == "nsenter" || words[0] == "unshare" => &words[end + 1..],
        Some(_) | None => &words[..],
    };
    own.iter().map(|word| shown(word)).collect::<Vec<_>>().join(" ")
}

/// A word of a command line; of a whole script its first line.
fn shown(word: &str) -> &str {
    match word.trim_start().split_once('\n') {
        Some((first, _)) => first,
        None => word,
    }
}

/// The last `count` lines that are not empty, as one line.
#[must_use]
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return "(it said nothing)".to_owned();
    }
    lines[lines.len().saturating_sub(count)..].join(" / ")
}

fn give_up(child: &mut Child, command: String, limit: Duration) -> LabError {
    // Killing may fail only when it has just ended, and then there is nothing to do.
    let _ = child.kill();
    let _ = child.wait();
    if wait::interrupted() {
        return LabError::Interrupted;
    }
    LabError::CommandTimeout { command, limit }
}

fn wait_for(child: &mut Child, deadline: Deadline) -> Option<ExitStatus> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if deadline.passed() || wait::interrupted() {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // A pipe that breaks has said all that it will say.
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_killed_at_its_limit() {
        let limit = Duration::from_millis(100);
        let error = run(Command::new("sleep").arg("600"), limit).expect_err("600 s are too long");
        assert!(matches!(error, LabError::CommandTimeout { .. }), "{error}");
    }

    #[test]
    fn a_failure_tells_the_code_and_the_last_words() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one >&2; echo two >&2; exit 7"]);
        let error = run(&mut command, QUICK).expect("sh runs").require().expect_err("it failed");
        let text = error.to_string();
        assert!(text.contains("exit code 7") && text.contains("one / two"), "{text}");
    }

    #[test]
    fn the_shown_command_line_leaves_out_the_namespaces() {
        let mut command = Command::new("nsenter");
        command.args(["-t", "1", "-n", "--", "ip", "link"]);
        assert_eq!(line(&command), "ip link");
    }
}
