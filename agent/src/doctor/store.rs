//! Does the store answer, how fast, may this host write, and is what it holds understood?

use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{AccessFlags, access};
use ovl_ipam::{Defaults, Look as Looked, OpenError, Registry, StoreError, StoreUrl};

use super::{Check, Group, Host, Look, blocking};
use crate::config::Config;
use crate::control::api::doctor::Finding;

const REACHABLE: &str = "store.reachable";
const LATENCY: &str = "store.latency";
const RIGHTS: &str = "store.rights";
const SCHEMA: &str = "store.schema";

/// Each of three calls may take this long, as one of the agent's may.
const DEADLINE: Duration = Duration::from_secs(5);

/// An attach takes two or three round trips: from here on people notice.
const SLOW: Duration = Duration::from_millis(500);

pub(super) const GROUP: Group = Group {
    checks: &[
        Check {
            id: REACHABLE,
            title: "store",
            looks_at: "one read from the store that its servers agree on",
            why: "without it no network and no address is given out; what runs goes on",
        },
        Check {
            id: LATENCY,
            title: "store's latency",
            looks_at: "how long that read, and a write, take",
            why: "each new container waits for several of them",
        },
        Check {
            id: RIGHTS,
            title: "store's rights",
            looks_at: "the token's files, and a write that changes nothing",
            why: "a token that may only read lets the agent start, and refuses the first container",
        },
        Check {
            id: SCHEMA,
            title: "store's format",
            looks_at: "the format of what is in the store",
            why: "one of a newer version of ovl is not understood, and not touched",
        },
    ],
    within: Duration::from_secs(18),
    look: Look::Settings(|host, config| Box::pin(look(host, config))),
};

/// What a look came to.
enum Seen {
    /// There is no SQLite file yet; why one cannot be made, if so.
    Absent(Option<String>),
    /// It was not asked, or did not answer.
    Closed(OpenError),
    /// It answered.
    Looked(Looked),
}

async fn look(host: Host, config: Arc<Config>) -> Vec<Finding> {
    let url = config.store.to_string();
    // The agent's own handle where it has one: it has the token that is in use.
    let found = host.agent().ok().and_then(|agent| agent.registry().ok());
    let opened = match found {
        Some(registry) => Ok(Some(registry)),
        None => {
            let defaults = Defaults::default();
            Registry::peek(&config.store, defaults, DEADLINE, host.store_token()).await
        }
    };
    let seen = match opened {
        Ok(Some(registry)) => match registry.look().await {
            Ok(looked) => Seen::Looked(looked),
            Err(error) => Seen::Closed(error.into()),
        },
        Ok(None) => Seen::Absent(blocking(move || cannot_make(&config.store)).await.ok().flatten()),
        Err(error) => Seen::Closed(error),
    };
    judge(&url, &seen)
}

/// Why a file cannot be made in the nearest folder that exists.
fn cannot_make(url: &StoreUrl) -> Option<String> {
    let StoreUrl::Sqlite(path) = url else {
        return None;
    };
    let folder = path.ancestors().skip(1).find(|folder| folder.exists())?;
    let refused = access(folder, AccessFlags::W_OK).err()?;
    Some(format!("{} cannot be written to: {}", folder.display(), refused.desc()))
}

fn judge(url: &str, seen: &Seen) -> Vec<Finding> {
    match seen {
        Seen::Absent(None) => {
            let summary = format!("{url} is made when the agent starts");
            let ok = |id| Finding::ok(id, summary.clone());
            [REACHABLE, LATENCY, RIGHTS, SCHEMA].map(ok).to_vec()
        }
        Seen::Absent(Some(why)) => {
            let failed = Finding::fail(RIGHTS, format!("{url} cannot be made: {why}"));
            let failed = failed
                .mend("run the agent as root; under systemd, name the folder in ReadWritePaths=");
            with_unchecked(failed, &[REACHABLE, LATENCY, SCHEMA])
        }
        Seen::Closed(error) => closed(url, error),
        Seen::Looked(looked) => looked_at(url, looked),
    }
}

/// That one, and the others unchecked for its sake.
fn with_unchecked(failed: Finding, others: &[&str]) -> Vec<Finding> {
    let why = format!("the store was not asked for it: see {}", failed.check);
    let others = others.iter().map(|id| Finding::unchecked(id, why.clone()));
    others.chain([failed]).collect()
}

fn closed(url: &str, error: &OpenError) -> Vec<Finding> {
    let sentence = crate::chain(error);
    match error {
        OpenError::File { .. } | OpenError::Exposed { .. } | OpenError::Unusable { .. } => {
            let failed = Finding::fail(RIGHTS, sentence);
            let fix = match error {
                OpenError::Exposed { todo, .. } => todo.clone(),
                _ => "mend that file or variable; a running agent then takes it by: ovlctl reload"
                    .to_owned(),
            };
            with_unchecked(failed.mend(fix), &[REACHABLE, LATENCY, SCHEMA])
        }
        OpenError::Client { .. } => {
            with_unchecked(Finding::fail(REACHABLE, sentence), &[LATENCY, RIGHTS, SCHEMA])
        }
        OpenError::Store(StoreError::Refused { advice, .. }) => {
            let mut findings = vec![Finding::ok(REACHABLE, format!("{url} answers"))];
            let failed = Finding::fail(RIGHTS, sentence).mend(*advice);
            findings.extend(with_unchecked(failed, &[LATENCY, SCHEMA]));
            findings
        }
        OpenError::Store(StoreError::Newer { .. } | StoreError::Corrupt { .. }) => {
            let mut findings = vec![Finding::ok(REACHABLE, format!("{url} is there"))];
            findings.extend(with_unchecked(unreadable(sentence), &[LATENCY, RIGHTS]));
            findings
        }
        OpenError::Store(
            StoreError::Unreachable { .. }
            | StoreError::Timeout { .. }
            | StoreError::Failed { .. }
            | StoreError::Replaced { .. }
            | StoreError::TooLarge { .. }
            | StoreError::Contended { .. },
        ) => {
            let failed = Finding::fail(REACHABLE, sentence).mend(fix_reaching(url));
            with_unchecked(failed, &[LATENCY, RIGHTS, SCHEMA])
        }
    }
}

fn unreadable(sentence: String) -> Finding {
    Finding::fail(SCHEMA, sentence).mend(
        "upgrade ovl on this host if the store was written by a newer one; else restore a backup",
    )
}

/// How to see for oneself.
fn fix_reaching(url: &str) -> String {
    let without = url.split('?').next().unwrap_or(url);
    match without
        .strip_prefix("consul+https://")
        .map(|rest| ("https", rest))
        .or_else(|| without.strip_prefix("consul://").map(|rest| ("http", rest)))
    {
        Some((scheme, host)) => {
            format!(
                "start Consul, or open the way to it; try: curl {scheme}://{host}/v1/status/leader"
            )
        }
        None => "see whether its disk is full or slow, and who else holds the file".to_owned(),
    }
}

/// What may hold writes up where reads are answered.
fn fix_writing(url: &str) -> &'static str {
    match url.starts_with("sqlite") {
        true => {
            "see whether its disk is full, its files may be written (ovl.db, ovl.db-wal, ovl.db-shm: ls -l, and lsattr for the mark i), and who else holds it: fuser -v on them"
        }
        false => "see whether its servers have a leader, and room on their disks",
    }
}

fn looked_at(url: &str, looked: &Looked) -> Vec<Finding> {
    let mut findings = vec![Finding::ok(REACHABLE, format!("{url} answers"))];
    let slowest = looked.write.as_ref().map_or(looked.read, |write| looked.read.max(*write));
    findings.push(latency(url, slowest, looked));
    findings.push(match &looked.write {
        Ok(_) => Finding::ok(RIGHTS, "this host may read and write"),
        Err(error @ StoreError::Refused { advice, .. }) => {
            let summary =
                format!("this host may read the store, and not write: {}", crate::chain(error));
            Finding::fail(RIGHTS, summary).mend(*advice)
        }
        // Gone in between.
        Err(error) => Finding::unchecked(RIGHTS, crate::chain(error)),
    });
    findings.push(match &looked.networks {
        Ok(count) => Finding::ok(SCHEMA, format!("what it holds is understood: {count} networks")),
        Err(error @ (StoreError::Newer { .. } | StoreError::Corrupt { .. })) => {
            unreadable(crate::chain(error))
        }
        Err(error) => Finding::unchecked(SCHEMA, crate::chain(error)),
    });
    findings
}

fn latency(url: &str, slowest: Duration, looked: &Looked) -> Finding {
    if let Err(
        error @ (StoreError::Timeout { .. }
        | StoreError::Unreachable { .. }
        | StoreError::Failed { .. }),
    ) = &looked.write
    {
        let summary = format!("{url} is read, and does not take a write: {}", crate::chain(error));
        return Finding::fail(LATENCY, summary).mend(fix_writing(url));
    }
    let read = format!("a read took {:.1} ms", looked.read.as_secs_f64() * 1e3);
    let write = looked.write.as_ref().ok();
    let write = write.map(|took| format!("a write took {:.1} ms", took.as_secs_f64() * 1e3));
    let both: Vec<String> = [Some(read), write].into_iter().flatten().collect();
    if slowest < SLOW {
        return Finding::ok(LATENCY, both.join(", "));
    }
    let summary = format!("{url} is slow: each new container waits for several answers of it");
    Finding::warn(LATENCY, summary)
        .all_seen(both)
        .mend("look at the load and the disk of its servers, and at the network to them")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::doctor::Verdict;

    const URL: &str = "consul://10.0.0.2:8500";

    fn looked(read: u64, write: Result<u64, StoreError>) -> Looked {
        let ms = Duration::from_millis;
        Looked { read: ms(read), write: write.map(ms), networks: Ok(3) }
    }

    fn refused() -> StoreError {
        StoreError::Refused {
            store: URL.into(),
            doing: "commit",
            reason: "status 409: Permission denied".into(),
            advice: "give the agent another token",
        }
    }

    fn unreachable() -> StoreError {
        StoreError::Unreachable { store: URL.into(), doing: "read", source: "refused".into() }
    }

    fn newer() -> StoreError {
        StoreError::Newer { store: URL.into(), what: "the list", found: 9, known: 2 }
    }

    /// Verdicts in the order of the checks.
    fn verdicts(seen: &Seen) -> [Verdict; 4] {
        let found = judge(URL, seen);
        assert_eq!(found.len(), 4, "{found:?}");
        [REACHABLE, LATENCY, RIGHTS, SCHEMA]
            .map(|id| found.iter().find(|finding| finding.check == id).unwrap().verdict)
    }

    #[test]
    fn of_a_store_one_thing_is_wrong_at_a_time() {
        use Verdict::{Fail, Ok as Fine, Unchecked as Not, Warn};
        let closed = |error: StoreError| Seen::Closed(error.into());
        for (seen, expected) in [
            (Seen::Looked(looked(1, Ok(2))), [Fine, Fine, Fine, Fine]),
            (Seen::Looked(looked(1, Ok(900))), [Fine, Warn, Fine, Fine]),
            (Seen::Looked(looked(900, Ok(1))), [Fine, Warn, Fine, Fine]),
            (Seen::Looked(looked(1, Err(refused()))), [Fine, Fine, Fail, Fine]),
            (Seen::Looked(looked(1, Err(unreachable()))), [Fine, Fail, Not, Fine]),
            (
                Seen::Looked(Looked { networks: Err(newer()), ..looked(1, Ok(1)) }),
                [Fine, Fine, Fine, Fail],
            ),
            (closed(unreachable()), [Fail, Not, Not, Not]),
            (closed(refused()), [Fine, Not, Fail, Not]),
            (closed(newer()), [Fine, Not, Not, Fail]),
            (
                Seen::Closed(OpenError::Unusable {
                    what: "the token in X".into(),
                    why: "it is empty",
                }),
                [Not, Not, Fail, Not],
            ),
            (Seen::Absent(None), [Fine; 4]),
            (Seen::Absent(Some("no right".into())), [Not, Not, Fail, Not]),
        ] {
            assert_eq!(verdicts(&seen), expected);
        }
    }

    #[test]
    fn what_to_try_is_a_command_of_the_stores_kind() {
        assert!(
            fix_reaching("consul://a:8500?token-file=/x")
                .ends_with("http://a:8500/v1/status/leader")
        );
        assert!(fix_reaching("consul+https://a:8501").ends_with("https://a:8501/v1/status/leader"));
        assert!(fix_reaching("sqlite:///x.db").contains("disk"));
    }
}
