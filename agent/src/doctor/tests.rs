//! The frame: what becomes of groups that are late, broken, silent or loud, and which checks are wanted.

use super::settings::Settings;
use super::*;
use crate::control::api::doctor::Verdict;

const fn check(id: &'static str) -> Check {
    Check { id, title: "t", looks_at: "l", why: "w" }
}

const WITHIN_TEST: Duration = Duration::from_millis(50);

static FINE: Group = Group {
    checks: &[check("a.fine"), check("a.silent")],
    within: WITHIN_TEST,
    look: Look::Host(|_| Box::pin(async { vec![Finding::ok("a.fine", "so it is")] })),
};

static LATE: Group = Group {
    checks: &[check("a.late")],
    within: WITHIN_TEST,
    look: Look::Host(|_| Box::pin(std::future::pending())),
};

static BROKEN: Group = Group {
    checks: &[check("a.broken")],
    within: WITHIN_TEST,
    look: Look::Host(|_| Box::pin(async { panic!("a bug") })),
};

static OF_AGENT: Group = Group {
    checks: &[check("a.agent"), check("a.agent-too")],
    within: WITHIN_TEST,
    look: Look::Agent(|_, _| Box::pin(async { vec![Finding::fail("a.agent", "never said")] })),
};

static OF_SETTINGS: Group = Group {
    checks: &[check("a.settings")],
    within: WITHIN_TEST,
    look: Look::Settings(|_, _| {
        Box::pin(async { vec![Finding::fail("a.settings", "never said")] })
    }),
};

fn host() -> Host {
    let settings = Settings { config: Err(vec!["gossip-port: no".into()]), token: None };
    Host::without_agent(settings, None, Only::all())
}

#[tokio::test]
async fn what_is_late_broken_silent_or_without_what_it_needs_is_unchecked_and_says_why() {
    let groups = [&FINE, &LATE, &BROKEN, &OF_AGENT, &OF_SETTINGS];
    let mut findings = look_at_all(&host(), &groups).await;
    findings.sort_by(|a, b| a.check.cmp(&b.check));
    let told: Vec<_> = findings.iter().map(|f| (f.check.as_str(), f.verdict)).collect();
    let unchecked = Verdict::Unchecked;
    assert_eq!(
        told,
        [
            ("a.agent", unchecked),
            ("a.agent-too", unchecked),
            ("a.broken", unchecked),
            ("a.fine", Verdict::Ok),
            ("a.late", unchecked),
            ("a.settings", unchecked),
            ("a.silent", unchecked),
        ]
    );
    for (check, word) in [
        ("a.agent", "no agent answers"),
        ("a.broken", "panicked"),
        ("a.late", "longer than"),
        ("a.settings", "configuration has mistakes"),
        ("a.silent", "said nothing"),
    ] {
        let found = findings.iter().find(|finding| finding.check == check).unwrap();
        assert!(found.summary.contains(word), "{found:?}");
    }
}

#[test]
fn of_many_findings_the_worst_are_told_and_how_many_are_left_out() {
    let findings: Vec<_> = (0..100)
        .map(|n| {
            let found = Finding::ok("a.b", "s").about(format!("{n:03}"));
            Finding { verdict: if n % 10 == 0 { Verdict::Fail } else { Verdict::Warn }, ..found }
        })
        .collect();
    let told = bounded("a.b", findings);
    assert_eq!(told.len(), FINDINGS_MAX + 1);
    let fails = told.iter().filter(|finding| finding.verdict == Verdict::Fail).count();
    assert_eq!(fails, 10);
    let last = told.last().unwrap();
    assert!(last.summary.contains("36 more"), "{last:?}");
    assert_eq!(last.verdict, Verdict::Warn);
}

#[test]
fn every_check_has_a_dotted_id_of_its_own_and_words_for_people() {
    let mut ids: Vec<_> = all().map(|check| check.id).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
    for check in all() {
        let (topic, rest) = check.id.split_once('.').unwrap();
        let plain = |c: char| c.is_ascii_lowercase() || c == '-';
        assert!(
            !rest.is_empty() && topic.chars().all(plain) && rest.chars().all(plain),
            "{}",
            check.id
        );
        for words in [check.title, check.looks_at, check.why] {
            assert!(!words.is_empty() && !words.ends_with('.'), "{}: {words}", check.id);
        }
    }
}

#[test]
fn checks_are_named_by_id_or_topic_and_an_unknown_name_names_the_known() {
    let ids = |names: &[&str]| {
        let only = Only::named(names.iter().copied()).unwrap();
        all().map(|check| check.id).filter(|id| only.wants(id)).collect::<Vec<_>>()
    };
    assert_eq!(ids(&["kernel.version"]), ["kernel.version"]);
    assert_eq!(ids(&["ports"]), ["ports.gossip-udp", "ports.gossip-tcp", "ports.vxlan"]);
    assert_eq!(ids(&["ports."]), ids(&["ports"]));
    assert_eq!(ids(&["kernel.version", " ports.vxlan "]).len(), 2);
    assert_eq!(ids(&[]).len(), all().count());
    assert_eq!(ids(&["", ","[1..].trim()]).len(), all().count());
    for unknown in ["port", "kernel.versio", "kernel.version.x", "*", "é"] {
        let error = Only::named([unknown]).unwrap_err().to_string();
        assert!(error.contains(unknown) && error.contains("kernel.version, "), "{error}");
    }
    assert!(Only::named([&*"x".repeat(10_000)]).unwrap_err().given.len() < 100);
}
