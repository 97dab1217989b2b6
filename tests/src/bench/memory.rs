//! What an agent holds in memory with four hosts and a hundred endpoints.

use super::median;
use crate::{Lab, LabError, table, wait};
use std::time::Duration;

const ENDPOINTS: usize = 100;
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn measure(lab: &Lab) -> Result<(), LabError> {
    let hosts = lab.hosts()?;
    for number in 0..ENDPOINTS {
        let host = &hosts[number % hosts.len()];
        lab.attach(host.name(), "bench", &format!("e{number}"))?;
    }
    let mut rows = Vec::new();
    let (mut resident, mut private) = (Vec::new(), Vec::new());
    for host in &hosts {
        wait::until(&format!("{} knowing {ENDPOINTS} endpoints", host.name()), LIMIT, || {
            let status = host.agent_answer()?;
            let total = status["endpoints"]["total"].as_u64().and_then(|n| usize::try_from(n).ok());
            if total == Some(ENDPOINTS) { Ok(()) } else { Err(format!("{total:?} endpoints")) }
        })?;
        let agent = host.agent().ok_or_else(|| LabError::BadAnswer {
            command: host.name().into(),
            answer: "no agent".into(),
        })?;
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap_or_default();
        let (rss, own) = (kilobytes(&status, "VmRSS:"), kilobytes(&status, "RssAnon:"));
        resident.push(rss);
        private.push(own);
        rows.push(vec![host.name().to_owned(), mb(rss), mb(own)]);
    }
    rows.push(vec!["median".to_owned(), mb(median(&mut resident)), mb(median(&mut private))]);
    println!("{}", table::render(&["agent's memory, MB", "resident", "of that anonymous"], &rows));
    Ok(())
}

pub(super) fn kilobytes(status: &str, key: &str) -> f64 {
    let line = status.lines().find(|line| line.starts_with(key));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(f64::NAN)
}

fn mb(kilobytes: f64) -> String {
    format!("{:.1}", kilobytes * 1024.0 / 1e6)
}
