//! `status` and `members`.
use ovl_agent::control::api::{Member, Status};

use crate::client::{Client, path};
use crate::error::Error;
use crate::output::{Output, facts, printable, table, word};

pub(super) async fn status(client: &Client, output: &Output) -> Result<(), Error> {
    let status: Status = client.get(&path(&["status"])).await?;
    output.show(&status, in_words)
}

fn in_words(status: &Status) -> String {
    let Status { members, endpoints, .. } = status;
    let mut text = facts([
        ("host", format!("{} ({})", status.node, status.address)),
        ("agent", format!("{}, up {}", status.version, duration(status.uptime_seconds))),
        ("store", format!("{}, {}", status.store.url, store(status))),
        (
            "members",
            counts(&[
                (members.alive, "alive"),
                (members.suspect, "suspect"),
                (members.down, "down"),
                (members.left, "left"),
            ]),
        ),
        ("networks", status.networks.to_string()),
        (
            "endpoints",
            format!("{} here, {} in all{}", endpoints.local, endpoints.total, held(status)),
        ),
        ("kernel", kernel(status)),
        ("docker", status.docker.clone()),
    ]);
    if !status.problems.is_empty() {
        text.push_str("\nproblems:\n");
        for problem in &status.problems {
            text.push_str(&format!("- {}\n", printable(problem)));
        }
    }
    text
}

fn store(status: &Status) -> String {
    match &status.store.error {
        None => "answers".to_owned(),
        Some(error) => format!("does not answer: {error}"),
    }
}

fn held(status: &Status) -> String {
    match status.endpoints.held {
        0 => String::new(),
        held => format!(", {held} held while their agent is away"),
    }
}

fn kernel(status: &Status) -> String {
    let state = match status.dataplane.errors.as_slice() {
        [] => "as wanted".to_owned(),
        errors => errors.join("; "),
    };
    match status.dataplane.repaired {
        0 => state,
        repaired => format!("{state}; {repaired} changes by others put right"),
    }
}

/// Those that are not zero; the first one always.
fn counts(counts: &[(usize, &str)]) -> String {
    let shown = counts.iter().enumerate().filter(|(index, (count, _))| *index == 0 || *count > 0);
    let shown: Vec<String> = shown.map(|(_, (count, what))| format!("{count} {what}")).collect();
    shown.join(", ")
}

/// The two largest units.
pub(super) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86400 => format!("{hours} h {} min", minutes % 60),
        86400.. => format!("{days} d {} h", hours % 24),
    }
}

pub(super) async fn members(client: &Client, output: &Output) -> Result<(), Error> {
    let members: Vec<Member> = client.get(&path(&["members"])).await?;
    output.list(&members, "no members yet: the agent is starting", |members| {
        let rows = members
            .iter()
            .map(|member| [member.name.clone(), member.address.to_string(), word(&member.state)]);
        table(["NAME", "ADDRESS", "STATE"], rows)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min 0 s"),
            (3_599, "59 min 59 s"),
            (3_600, "1 h 0 min"),
            (86_399, "23 h 59 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
