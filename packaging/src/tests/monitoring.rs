//! Dashboard and alerts ask for metrics that there are, and Prometheus takes them.
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use ovl_agent::metrics::{FAMILIES, Family, Type};
use serde_json::Value;

use super::{repository, text};

const DASHBOARD: &str = "packaging/monitoring/ovl-dashboard.json";
const ALERTS: &str = "packaging/monitoring/ovl-alerts.yml";

/// What every scraped series has besides its own labels.
const OF_ALL: [&str; 3] = ["instance", "job", "le"];

fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(&text(DASHBOARD)).unwrap();
    dashboard["panels"].as_array().unwrap().clone()
}

/// Every expression of the dashboard.
fn dashboard_expressions() -> Vec<String> {
    let expressions = panels().into_iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(|target| target["expr"].as_str().unwrap().to_owned())
    });
    expressions.collect()
}

/// Every expression of the alerts: what stands behind `expr:`.
fn alert_expressions() -> Vec<String> {
    let alerts = text(ALERTS);
    let lines = alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    lines.map(str::to_owned).collect()
}

/// The families that an expression asks for, each with the labels that it selects by.
fn asked_for(expression: &str) -> Vec<(&'static Family, Vec<String>)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut asked = Vec::new();
    let mut rest = expression;
    while let Some(begin) = rest.find(|c: char| c.is_ascii_alphabetic()) {
        let word = &rest[begin..];
        let end = word.find(|c| !is_part(c)).unwrap_or(word.len());
        let (name, behind) = word.split_at(end);
        rest = behind;
        if !(name.starts_with("ovl_") || name.starts_with("process_")) {
            continue;
        }
        let selector = behind.strip_prefix('{').and_then(|behind| behind.split_once('}'));
        let labels = selector.map(|(labels, _)| labels.split(',').map(label).collect());
        asked.push((family(name), labels.unwrap_or_default()));
        rest = selector.map_or(behind, |(_, behind)| behind);
    }
    asked
}

fn label(matcher: &str) -> String {
    matcher.split(['=', '!', '~']).next().unwrap_or_default().trim().to_owned()
}

/// The family of a series' name.
fn family(name: &str) -> &'static Family {
    let bucket = name.strip_suffix("_bucket");
    let histogram = bucket.and_then(Family::named).filter(|f| f.kind == Type::Histogram);
    let plain = Family::named(name).filter(|f| f.kind != Type::Histogram);
    histogram.or(plain).unwrap_or_else(|| panic!("there is no metric {name}"))
}

#[test]
fn every_expression_asks_for_metrics_and_labels_that_there_are() {
    let expressions = [dashboard_expressions(), alert_expressions()].concat();
    assert!(expressions.len() > 50, "only {} expressions were found", expressions.len());
    for expression in &expressions {
        let asked = asked_for(expression);
        assert!(!asked.is_empty() || expression.contains("up{"), "{expression}");
        for (family, labels) in asked {
            let known: Vec<&str> = family.labels.split_whitespace().chain(OF_ALL).collect();
            for label in labels {
                assert!(
                    known.contains(&label.as_str()),
                    "{expression}: {} has no {label}",
                    family.name
                );
            }
        }
    }
}

#[test]
fn the_dashboard_shows_most_of_what_there_is() {
    let shown: Vec<&str> =
        dashboard_expressions().iter().flat_map(|e| asked_for(e)).map(|(f, _)| f.name).collect();
    let missing: Vec<&str> =
        FAMILIES.iter().map(|family| family.name).filter(|name| !shown.contains(name)).collect();
    assert!(missing.len() < FAMILIES.len() / 2, "{missing:?}");
}

#[test]
fn panels_have_ids_of_their_own_and_do_not_overlap() {
    let panels = panels();
    let number = |value: &Value| value.as_u64().unwrap();
    let place = |panel: &Value| {
        let at = &panel["gridPos"];
        let (x, y) = (number(&at["x"]), number(&at["y"]));
        (x..x + number(&at["w"]), y..y + number(&at["h"]))
    };
    for (index, one) in panels.iter().enumerate() {
        let (x, y) = place(one);
        assert!(x.end <= 24, "{}", one["title"]);
        for other in &panels[index + 1..] {
            assert_ne!(one["id"], other["id"]);
            let (other_x, other_y) = place(other);
            let beside = x.end <= other_x.start || other_x.end <= x.start;
            let above = y.end <= other_y.start || other_y.end <= y.start;
            assert!(beside || above, "{} lies over {}", one["title"], other["title"]);
        }
    }
}

#[test]
fn the_documents_have_every_metric_as_it_is() {
    let page = text("docs/metrics.md");
    let mut rows =
        page.lines().filter(|line| line.starts_with("| `ovl_") || line.starts_with("| `process_"));
    for family in FAMILIES {
        let labels: Vec<String> =
            family.labels.split_whitespace().map(|label| format!("`{label}`")).collect();
        let kind = format!("{:?}", family.kind).to_lowercase();
        let help = family.help;
        let row = format!("| `{}` | {kind} | {} | {help} |", family.name, labels.join(", "));
        assert_eq!(
            rows.next(),
            Some(row.as_str()),
            "docs/metrics.md lacks, or has it elsewhere: {row}"
        );
    }
    assert_eq!(rows.next(), None, "docs/metrics.md has a metric that there is not");
}

#[test]
fn every_alert_fires_in_a_test() {
    let tests = text("packaging/monitoring/ovl-alerts.test.yml");
    for alert in text(ALERTS).lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let in_words = tests.contains(&format!("alertname: {alert}\n        exp_alerts:"));
        let by_number = tests.contains(&format!("alertname=\"{alert}\"}}', value: 1"));
        assert!(in_words || by_number, "{alert}");
    }
}

#[test]
fn promtool_takes_the_alerts_and_they_fire_on_what_they_should() {
    promtool(&["check", "rules", ALERTS]);
    promtool(&["test", "rules", "packaging/monitoring/ovl-alerts.test.yml"]);
}

#[test]
fn promtool_takes_the_dashboards_expressions() {
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (number, expression) in dashboard_expressions().iter().enumerate() {
        let plain = expression.replace("$__rate_interval", "5m").replace("$instance", ".*");
        assert!(!plain.contains('$'), "an unknown variable: {plain}");
        writeln!(rules, "      - record: panel:{number}\n        expr: '{plain}'").unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dashboard.yml");
    std::fs::write(&file, rules).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()]);
}

#[test]
fn every_alert_is_explained_and_no_other() {
    let alerts = text(ALERTS);
    let lines = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let mut named: Vec<String> = lines.map(str::to_owned).collect();
    let page = text("docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `Ovl")?.split_once('`'));
    let mut explained: Vec<String> = rows.map(|(name, _)| format!("Ovl{name}")).collect();
    named.sort();
    explained.sort();
    assert_eq!(explained, named);
}

/// Runs it from the root of the repository; it has to be content.
fn promtool(args: &[&str]) {
    let unpacked = repository().join("tools/promtool");
    let program = if unpacked.exists() { unpacked } else { PathBuf::from("promtool") };
    let output = Command::new(program).args(args).current_dir(repository()).output();
    let output = output.expect("promtool; scripts/tools test fetches it");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&said));
}
