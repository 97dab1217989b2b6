//! What an examination of a host comes to: `GET /v1/doctor`, and `ovlctl doctor`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Lines of evidence that a finding carries; of more, the last line says how many are left out.
pub const EVIDENCE_MAX: usize = 16;

/// Characters of a line of evidence, of a summary and of a fix; of a longer one the end is left out.
pub const LINE_MAX: usize = 600;

/// One look at one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examination {
    /// The node name of the host; none where no agent runs and its settings do not tell.
    pub host: Option<String>,
    /// `major.minor.patch` of the program that looked.
    pub version: String,
    /// When it was done, RFC 3339 in UTC.
    pub at: String,
    /// What was found, each check that was asked for at least once; sorted by check and subject.
    pub findings: Vec<Finding>,
}

impl Examination {
    /// The worst verdict; [`Verdict::Ok`] without findings.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok)
    }
}

/// What one check says of one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The check's id, as in `kernel.version`; `ovlctl doctor --list` has all.
    pub check: String,
    /// What it is about: a peer's name, a network, an interface, a feature. None: the host.
    pub subject: Option<String>,
    /// How it is.
    pub verdict: Verdict,
    /// One sentence for a person: what is so; where something is wrong: what, where and why.
    pub summary: String,
    /// What was seen, a line each, at most [`EVIDENCE_MAX`].
    pub evidence: Vec<String>,
    /// The command that mends it, or what to do.
    pub fix: Option<String>,
}

/// How a thing is, from good to bad. Something that could not be looked at is better than something
/// that is known to be wrong, and worse than something that is known to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It could not be looked at; the summary says why.
    Unchecked,
    /// It works, and may bite later or in part.
    Warn,
    /// This is broken.
    Fail,
}

impl Verdict {
    /// Exit code of `ovlctl doctor` when this is the worst verdict.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Verdict::Ok => 0,
            Verdict::Unchecked => 2,
            Verdict::Warn => 3,
            Verdict::Fail => 4,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Ok => "ok",
            Verdict::Unchecked => "unchecked",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        })
    }
}

/// Made in one go: `Finding::fail(ID, "…").about(peer).seen(line).mend("…")`.
impl Finding {
    /// It is as it should be.
    pub fn ok(check: &str, summary: impl Into<String>) -> Finding {
        Finding::new(check, Verdict::Ok, summary)
    }

    /// It could not be looked at; `why`, as a sentence.
    pub fn unchecked(check: &str, why: impl Into<String>) -> Finding {
        Finding::new(check, Verdict::Unchecked, why)
    }

    /// It works, and may bite.
    pub fn warn(check: &str, summary: impl Into<String>) -> Finding {
        Finding::new(check, Verdict::Warn, summary)
    }

    /// It is broken.
    pub fn fail(check: &str, summary: impl Into<String>) -> Finding {
        Finding::new(check, Verdict::Fail, summary)
    }

    fn new(check: &str, verdict: Verdict, summary: impl Into<String>) -> Finding {
        let (check, summary) = (check.to_owned(), cut(summary.into()));
        Finding { check, subject: None, verdict, summary, evidence: Vec::new(), fix: None }
    }

    /// What it is about.
    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Finding {
        self.subject = Some(cut(subject.into()));
        self
    }

    /// One more line of evidence.
    #[must_use]
    pub fn seen(self, line: impl Into<String>) -> Finding {
        self.all_seen([line.into()])
    }

    /// More lines of evidence, as many as there is room for.
    #[must_use]
    pub fn all_seen(mut self, lines: impl IntoIterator<Item = String>) -> Finding {
        let mut lines = lines.into_iter();
        let room = EVIDENCE_MAX.saturating_sub(self.evidence.len());
        self.evidence.extend(lines.by_ref().take(room).map(cut));
        let more = lines.count();
        if more > 0
            && let Some(last) = self.evidence.last_mut()
        {
            *last = format!("and {} more", more + 1);
        }
        self
    }

    /// What mends it.
    #[must_use]
    pub fn mend(mut self, fix: impl Into<String>) -> Finding {
        self.fix = Some(cut(fix.into()));
        self
    }
}

/// Of bounded length.
fn cut(text: String) -> String {
    match text.char_indices().nth(LINE_MAX) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_words_from_good_to_bad_and_their_exit_codes_grow() {
        let all = [Verdict::Ok, Verdict::Unchecked, Verdict::Warn, Verdict::Fail];
        assert!(all.is_sorted());
        assert!(all.map(Verdict::exit_code).is_sorted());
        for verdict in all {
            assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.to_string());
        }
    }

    #[test]
    fn a_finding_is_bounded_in_lines_and_in_characters() {
        let lines = (0..100).map(|n| format!("{n} {}", "é".repeat(2 * LINE_MAX)));
        let finding = Finding::warn("a.b", "s").seen("first").all_seen(lines);
        assert_eq!(finding.evidence.len(), EVIDENCE_MAX);
        assert_eq!(finding.evidence[0], "first");
        assert_eq!(finding.evidence[EVIDENCE_MAX - 1], "and 86 more");
        assert!(finding.evidence.iter().all(|line| line.chars().count() <= LINE_MAX + 1));
    }
}
