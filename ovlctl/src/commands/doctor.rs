//! `doctor`: the agent examines its host; where no agent answers, this program does.
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::time::Duration;

use ovl_agent::control::api::doctor::{Examination, Finding, Verdict};
use ovl_agent::doctor::{self, Check, Only, Unanswered};
use serde::de::IgnoredAny;

use crate::client::{Client, path, with_query};
use crate::error::Error;
use crate::output::{Output, Tone, printable, wrapped};

/// An examination takes some seconds, and is ended by the agent before this.
const EXAMINE_WITHIN: Duration = Duration::from_secs(60);

/// How long the agent may take to say how it is, before this program looks itself.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Columns before the text of a finding.
const INDENT: usize = 6;

#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// Make these checks only
    ///
    /// Ids as in `kernel.version`, or topics as in `kernel`; --list has them all. Several are separated by
    /// commas.
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    only: Vec<String>,

    /// List the checks, what each looks at and why
    ///
    /// With --only, those alone. No agent is asked.
    #[arg(long)]
    list: bool,

    /// Show what is fine, too
    ///
    /// Without it, how many findings those are.
    #[arg(long, short)]
    verbose: bool,
}

pub(super) async fn run(doctor: Doctor, client: &Client, output: &Output) -> Result<(), Error> {
    let Doctor { only: names, list, verbose } = doctor;
    let only = Only::named(names.iter().map(String::as_str));
    let only = only.map_err(|error| Error::Usage(error.to_string()))?;
    if list {
        let checks: Vec<&Check> = doctor::all().filter(|check| only.wants(check.id)).collect();
        return output.show(&checks, |checks| listed(checks, output));
    }
    let examination = examine(&names, &only, client).await?;
    output.show(&examination, |examination| in_words(examination, verbose, output))?;
    match examination.verdict().exit_code() {
        0 => Ok(()),
        code => Err(Error::Told(code)),
    }
}

/// By the agent, else by this program. Another host only its agent can examine.
pub(super) async fn examine(
    names: &[String],
    only: &Only,
    client: &Client,
) -> Result<Examination, Error> {
    let names = (!names.is_empty()).then(|| names.join(","));
    let target = with_query(path(&["doctor"]), &[("only", names.as_deref())]);
    let patient = client.patient(EXAMINE_WITHIN);
    if client.host().is_some() {
        return patient.get(&target).await;
    }
    let status = client.hasty(ANSWER_WITHIN).get::<IgnoredAny>(&path(&["status"])).await;
    let unanswered = match status {
        Ok(_) => match patient.get(&target).await {
            Ok(examination) => return Ok(examination),
            Err(error) => error,
        },
        Err(error) => error,
    };
    let unanswered = match unanswered {
        Error::Slow { patience, .. } => Unanswered::Silent(patience),
        Error::NoAgent { kind: ErrorKind::NotFound, .. } => Unanswered::NoSocket,
        Error::NoAgent { kind: ErrorKind::ConnectionRefused, .. } => Unanswered::NobodyListens,
        Error::NoAgent { why, .. } => Unanswered::Other(why),
        error => return Err(error),
    };
    Ok(doctor::examine_host(client.socket(), unanswered, only).await)
}

fn listed(checks: &[&Check], output: &Output) -> String {
    let mut text = String::new();
    let width = checks.iter().map(|check| check.id.len()).max().unwrap_or_default() + 2;
    for check in checks {
        let id = output.toned(Tone::Strong, check.id);
        let gap = " ".repeat(width - check.id.len());
        let looks_at = wrapped(check.looks_at, width, width);
        let why = wrapped(check.why, width, width);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{id}{gap}{looks_at}\n{}{why}", " ".repeat(width));
    }
    text
}

/// What the findings come to: the worst first, those of one verdict in the order of the checks.
fn in_words(examination: &Examination, verbose: bool, output: &Output) -> String {
    let mut text = String::new();
    let count = |verdict| examination.findings.iter().filter(|f| f.verdict == verdict).count();
    for verdict in [Verdict::Fail, Verdict::Warn, Verdict::Unchecked, Verdict::Ok] {
        if verdict == Verdict::Ok && !verbose {
            continue;
        }
        let of_it = examination.findings.iter().filter(|finding| finding.verdict == verdict);
        for alike in alike(of_it) {
            text.push_str(&paragraph(&alike, output));
        }
    }
    let fine = count(Verdict::Ok);
    if fine > 0 && !verbose {
        let summary = match fine {
            1 => "1 finding is fine".to_owned(),
            fine => format!("{fine} findings are fine"),
        };
        let _ = writeln!(text, "{}    {summary}", output.toned(Tone::Good, "ok"));
    }
    let (tone, verdict) = conclusion(examination);
    let _ = writeln!(text, "{}", output.toned(tone, &verdict));
    text
}

/// Findings that say the same of several things, together.
fn alike<'a>(findings: impl Iterator<Item = &'a Finding>) -> Vec<Vec<&'a Finding>> {
    let mut groups: Vec<Vec<&Finding>> = Vec::new();
    let said = |finding: &'a Finding| (&finding.summary, &finding.evidence, &finding.fix);
    for finding in findings {
        match groups.iter_mut().find(|group| said(group[0]) == said(finding)) {
            Some(group) => group.push(finding),
            None => groups.push(vec![finding]),
        }
    }
    groups
}

fn paragraph(findings: &[&Finding], output: &Output) -> String {
    let Some(first) = findings.first() else {
        return String::new();
    };
    let (mark, tone) = match first.verdict {
        Verdict::Ok => ("ok", Tone::Good),
        Verdict::Unchecked => ("?", Tone::Unknown),
        Verdict::Warn => ("warn", Tone::Doubtful),
        Verdict::Fail => ("FAIL", Tone::Bad),
    };
    let names: Vec<String> = findings.iter().map(|finding| named(finding)).collect();
    let sentence = format!("{}: {}", names.join(", "), first.summary);
    let gap = " ".repeat(INDENT - mark.len());
    let mut text =
        format!("{}{gap}{}\n", output.toned(tone, mark), wrapped(&sentence, INDENT, INDENT));
    for line in &first.evidence {
        let lines = wrapped(line, INDENT + 2, INDENT + 2);
        let _ = writeln!(text, "{}{} {lines}", " ".repeat(INDENT), output.toned(Tone::Faint, "-"));
    }
    if let Some(fix) = &first.fix {
        // Whole, on one line: it is to be typed.
        let fix = printable(fix);
        let _ =
            writeln!(text, "{}{} {fix}", " ".repeat(INDENT), output.toned(Tone::Strong, "fix:"));
    }
    text
}

/// Which check, of what.
fn named(finding: &Finding) -> String {
    match &finding.subject {
        Some(subject) => format!("{} ({subject})", finding.check),
        None => finding.check.clone(),
    }
}

/// The last line.
fn conclusion(examination: &Examination) -> (Tone, String) {
    let count = |verdict| examination.findings.iter().filter(|f| f.verdict == verdict).count();
    let host = match &examination.host {
        Some(host) => format!("host {host}"),
        None => "this host".to_owned(),
    };
    let several = |count: usize, one: &str, more: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        count => Some(format!("{count} {more}")),
    };
    let parts = [
        several(count(Verdict::Fail), "failure", "failures"),
        several(count(Verdict::Warn), "warning", "warnings"),
        several(count(Verdict::Unchecked), "not checked", "not checked"),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    match examination.verdict() {
        Verdict::Ok => (Tone::Good, format!("{host}: all is fine")),
        Verdict::Unchecked => {
            (Tone::Unknown, format!("{host}: nothing is known to be wrong, {}", parts.join(", ")))
        }
        Verdict::Warn => (Tone::Doubtful, format!("{host}: {}", parts.join(", "))),
        Verdict::Fail => (Tone::Bad, format!("{host}: {}", parts.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examination(findings: Vec<Finding>) -> Examination {
        Examination {
            host: Some("bee-1".into()),
            version: "0.1.0".into(),
            at: String::new(),
            findings,
        }
    }

    fn words(findings: Vec<Finding>, verbose: bool) -> String {
        in_words(&examination(findings), verbose, &Output::new(false))
    }

    #[test]
    fn the_worst_comes_first_and_what_is_fine_is_counted() {
        let findings = vec![
            Finding::ok("a.fine", "fine"),
            Finding::ok("a.fine-too", "fine as well"),
            Finding::unchecked("b.x", "no agent answers"),
            Finding::unchecked("b.y", "no agent answers"),
            Finding::warn("c.late", "slow").about("eth1"),
            Finding::fail("d.broken", "it is broken").seen("seen so").mend("mend it"),
        ];
        assert_eq!(
            words(findings, false),
            "FAIL  d.broken: it is broken\n      - seen so\n      fix: mend it\n\
             warn  c.late (eth1): slow\n\
             ?     b.x, b.y: no agent answers\n\
             ok    2 findings are fine\n\
             host bee-1: 1 failure, 1 warning, 2 not checked\n"
        );
    }

    #[test]
    fn a_host_that_is_fine_is_two_lines_and_all_of_it_on_request() {
        let fine = || vec![Finding::ok("a.fine", "fine")];
        assert_eq!(words(fine(), false), "ok    1 finding is fine\nhost bee-1: all is fine\n");
        assert_eq!(words(fine(), true), "ok    a.fine: fine\nhost bee-1: all is fine\n");
        assert_eq!(words(vec![], false), "host bee-1: all is fine\n");
    }

    #[test]
    fn lines_fit_a_terminal_whatever_is_in_them() {
        let long = "日本語 ünïcode\u{1b}[2J\nnext ".repeat(20);
        let findings =
            vec![Finding::fail("a.b", long.clone()).about("ホスト").seen(long.clone()).mend(long)];
        let text = words(findings, false);
        assert!(!text.contains('\u{1b}'), "{text}");
        // A command is to be typed, and stays whole.
        for line in text.lines().filter(|line| !line.trim_start().starts_with("fix: ")) {
            assert!(textwrap::core::display_width(line) <= 80, "{line}");
        }
    }

    #[test]
    fn the_list_fits_a_terminal_and_has_every_check() {
        let checks: Vec<&Check> = doctor::all().collect();
        let text = listed(&checks, &Output::new(false));
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(checks.iter().all(|check| text.contains(check.id)));
    }
}
