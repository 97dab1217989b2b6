//! What documents say of the code is in the code: sentences, limits, tests.
use std::path::Path;

use crate::{code, document, gather, none_of, root};

/// Stands for what differs.
const GAP: char = '…';

#[test]
fn every_sentence_of_troubleshooting_is_one_that_the_programs_say() {
    // Docker's own sentences are marked so.
    let of_ours = |cells: &[String]| (!cells[0].contains("(Docker)")).then(|| cells[0].clone());
    are_said("docs/troubleshooting.md", of_ours, 60);
}

#[test]
fn every_sentence_of_doctor_is_one_that_it_says() {
    let of_faults = |cells: &[String]| match cells {
        [_, check, says] if check.starts_with('`') && !says.contains("it fails") => {
            Some(says.clone())
        }
        _ => None,
    };
    are_said("docs/doctor.md", of_faults, 25);
}

/// The code, as its sentences are read.
fn said() -> String {
    let code = code();
    // A literal that goes over lines, and quotes inside of one.
    let mut said = String::new();
    for part in code.split("\\\n") {
        said.push_str(part.trim_start());
    }
    said.replace("\\\"", "\"")
}

/// The sentences in those cells of a page, at least so many, are in the code.
fn are_said(page: &str, cell: impl Fn(&[String]) -> Option<String>, least: usize) {
    let said = said();
    let mut complaints = Vec::new();
    let mut seen = 0;
    for (line, cells) in document(page).rows() {
        let Some(cell) = cell(&cells) else { continue };
        let spans = cell.split('`').skip(1).step_by(2).filter(|span| is_sentence(span));
        for span in spans {
            seen += 1;
            let missing = span.split(GAP).map(str::trim).find(|part| !said.contains(part));
            complaints.extend(missing.map(|part| format!("line {line}: nobody says `{part}`")));
        }
    }
    assert!(seen >= least, "only {seen} sentences were found");
    none_of(complaints);
}

#[test]
fn every_check_of_doctor_has_its_row() {
    let page = document("docs/doctor.md");
    let first = page.rows().into_iter().map(|(_, cells)| cells[0].clone());
    let rows: String = first.collect::<Vec<_>>().join(" ");
    let named: Vec<&str> =
        rows.split('`').skip(1).step_by(2).filter(|id| id.contains('.')).collect();
    let checks: Vec<&str> = ovl_agent::doctor::all().map(|check| check.id).collect();
    let missing =
        checks.iter().filter(|id| !named.contains(id)).map(|id| format!("{id} has no row"));
    let unknown =
        named.iter().filter(|id| !checks.contains(id)).map(|id| format!("{id} is no check"));
    none_of(missing.chain(unknown).collect());
}

#[test]
fn every_hop_and_every_sentence_of_a_trace_is_one_that_the_agent_says() {
    let said = said();
    let mut complaints = Vec::new();
    let mut seen = 0;
    for (line, cells) in document("docs/trace.md").rows() {
        let spans = |cell: &str| -> Vec<String> {
            cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
        };
        let (hops, sentences) = match cells.as_slice() {
            [hops, _, _] if hops.starts_with('`') => (spans(hops), Vec::new()),
            [fault, hops, sentences] if !fault.starts_with('`') => (spans(hops), spans(sentences)),
            _ => continue,
        };
        let ids = hops.iter().map(|hop| format!("\"{hop}\""));
        for expected in ids.chain(sentences) {
            seen += 1;
            if !said.contains(&expected) {
                complaints.push(format!("line {line}: nobody says `{expected}`"));
            }
        }
    }
    assert!(seen > 60, "only {seen} were found");
    none_of(complaints);
}

fn is_sentence(span: &str) -> bool {
    let command = |word: &str| ["ovlctl", "docker", "ovl-agent", "ip"].contains(&word);
    let first = span.split(' ').next().unwrap_or_default();
    span.contains(' ') && (!command(first) || span.contains(GAP))
}

#[test]
fn every_limit_is_the_codes() {
    let code = code();
    let mut complaints = Vec::new();
    let mut seen = 0;
    for (line, cells) in document("docs/limits.md").rows() {
        let [what, limit, _, name] = cells.as_slice() else { continue };
        seen += 1;
        let name = name.trim_matches('`');
        let wanted = amounts(limit);
        let found: Vec<u64> = values(&code, name);
        if !found.iter().any(|value| wanted.contains(value)) {
            complaints.push(format!("line {line}: {what}: {limit}; {name} is {found:?}"));
        }
    }
    assert!(seen > 30, "only {seen} limits were found");
    none_of(complaints);
}

/// A number with its unit, as it is, and in bytes or milliseconds.
fn amounts(cell: &str) -> Vec<u64> {
    let (number, unit) = cell.split_once(' ').unwrap_or((cell, ""));
    let number: u64 = number.replace(',', "").parse().unwrap();
    let factor = match unit {
        "KiB" => 1024,
        "s" => 1000,
        "h" => 60 * 60 * 1000,
        "" | "bytes" | "ms" => 1,
        other => panic!("an unknown unit: {other}"),
    };
    vec![number, number * factor]
}

/// The values of every constant of a name; times in milliseconds.
fn values(code: &str, name: &str) -> Vec<u64> {
    let begin = format!("const {name}: ");
    let definitions = code.split(&begin).skip(1);
    let texts = definitions.filter_map(|rest| Some(rest.split_once(" = ")?.1.split_once(';')?.0));
    texts.filter_map(value).collect()
}

/// `340 * 1024`, `65_485`, `Duration::from_secs(5)`.
fn value(text: &str) -> Option<u64> {
    let text = text.strip_suffix(')').unwrap_or(text);
    let text = text.trim_start_matches("std::time::");
    let (text, factor) = match text.split_once('(') {
        Some(("Duration::from_secs", inner)) => (inner, 1000),
        Some(("Duration::from_millis", inner)) => (inner, 1),
        Some(_) => return None,
        None => (text, 1),
    };
    let mut factors =
        text.split('*').map(|number| number.trim().replace('_', "").parse::<u64>().ok());
    factors.try_fold(factor, |product, number| Some(product * number?))
}

#[test]
fn every_file_and_test_that_shows_a_defence_is_there() {
    let mut tests = String::new();
    for member in ["agent", "gossip", "ipam", "ovlctl", "packet", "tests", "vxlan"] {
        gather(&root().join(member), &mut tests);
    }
    let mut complaints = Vec::new();
    for (line, span) in document("SECURITY.md").spans() {
        let test =
            span.matches('_').count() > 2 && span.chars().all(|c| c == '_' || c.is_alphanumeric());
        if span.ends_with(".rs") && !root().join(Path::new(&span)).is_file() {
            complaints.push(format!("line {line}: there is no file {span}"));
        } else if test && !tests.contains(&format!("fn {span}(")) {
            complaints.push(format!("line {line}: there is no test {span}"));
        }
    }
    none_of(complaints);
}

#[test]
fn amounts_and_values_are_read() {
    assert_eq!(amounts("1,024 bytes")[1], 1024);
    assert_eq!(amounts("8 KiB"), [8, 8192]);
    assert_eq!(value("8 * 1024"), Some(8192));
    assert_eq!(value("65_485"), Some(65_485));
    assert_eq!(value("Duration::from_secs(24 * 60 * 60)"), Some(86_400_000));
    assert_eq!(value("std::time::Duration::from_millis(1_500)"), Some(1500));
    assert_eq!(value("Other(1)"), None);
}

#[test]
fn every_kind_of_event_is_listed_and_no_other() {
    let first = |(_, cells): (usize, Vec<String>)| cells.into_iter().next().unwrap_or_default();
    let cells: Vec<String> = document("docs/events.md").rows().into_iter().map(first).collect();
    let spans = cells.iter().flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let mut listed: Vec<&str> = spans.filter(|span| !span.contains(' ')).collect();
    let mut known: Vec<&str> = ovl_agent::core::Kind::ALL.iter().map(|kind| kind.name()).collect();
    listed.sort_unstable();
    known.sort_unstable();
    assert_eq!(listed, known);
}
