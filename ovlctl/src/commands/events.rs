//! `events`: what happened, and what goes on to happen.
use std::collections::VecDeque;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use ovl_agent::control::api::events as api;
use ovl_agent::core::Kind;
use ovl_agent::events::EVENTS_KEPT;
use tokio::time::Instant;

use crate::client::{Client, path, with_query};
use crate::error::Error;
use crate::output::{Output, Tone, printable};

/// How long one question waits for news; the agent allows no more.
const WAIT: Duration = Duration::from_secs(20);

/// What is shown of the past when the future is followed, unless --since says otherwise.
const PAST: usize = 10;

/// Between two tries to reach an agent that is away, or one that does not wait until it has something.
const RETRY: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(crate) struct Events {
    /// Go on with what happens from now on
    ///
    /// After the last 10 events, or those of --since. An agent that is restarted meanwhile is waited
    /// for; a line on standard error says so.
    #[arg(short, long)]
    follow: bool,

    /// Only what happened within this time: 90s, 10m, 1h30m, 2d
    ///
    /// By the clock of the agent's host. Without it all that the agent keeps: the last 4,096 events
    /// since its start.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Duration>,

    /// Only events of these kinds; repeat it, or separate by commas
    ///
    /// A kind, such as host-down, or what kinds begin with: host, endpoint, network, address, kernel,
    /// store, docker, dns and so on.
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',', hide_possible_values = true)]
    #[arg(value_parser = PossibleValuesParser::new(kinds()))]
    kinds: Vec<String>,
}

/// Every kind, and what they begin with.
fn kinds() -> Vec<&'static str> {
    let names = Kind::ALL.iter().map(|kind| kind.name());
    let groups = names.clone().filter_map(|name| Some(name.split_once('-')?.0));
    let mut all: Vec<_> = names.chain(groups).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn time(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<SignedDuration>().ok().and_then(|time| time.try_into().ok());
    let parsed: Option<Duration> = parsed.or_else(|| days(text));
    let positive = parsed.filter(|time| *time >= Duration::from_secs(1));
    positive.ok_or_else(|| "expected a time such as 90s, 10m, 1h30m or 2d".to_owned())
}

/// A day has 24 hours here, whatever the clocks do.
fn days(text: &str) -> Option<Duration> {
    let days: u32 = text.strip_suffix('d')?.parse().ok()?;
    Some(Duration::from_secs(86_400) * days)
}

pub(crate) async fn run(asked: Events, client: &Client, output: &Output) -> Result<(), Error> {
    let mut reader = Reader { client, since: asked.since, after: 0, started: None };
    let show = Show { output, kinds: asked.kinds };
    // What is there already: all of it, or only its end.
    let bounded = asked.follow && asked.since.is_none();
    let mut past = VecDeque::new();
    let mut read = 0;
    // An agent that has more than agents keep has more for ever.
    while read <= EVENTS_KEPT {
        let page = reader.next(None).await?.page;
        if page.events.is_empty() {
            break;
        }
        read += page.events.len();
        for event in page.events.into_iter().filter(|event| show.wants(event)) {
            if bounded && past.len() == PAST {
                past.pop_front();
            }
            past.push_back(event);
        }
        if !bounded {
            past.drain(..).try_for_each(|event| show.event(&event))?;
        }
    }
    past.iter().try_for_each(|event| show.event(event))?;
    if asked.follow { follow(reader, &show).await } else { Ok(()) }
}

async fn follow(mut reader: Reader<'_>, show: &Show<'_>) -> Result<(), Error> {
    reader.since = None;
    let mut is_away = false;
    loop {
        let asked = Instant::now();
        let news = match reader.next(Some(WAIT)).await {
            Ok(news) => news,
            Err(error) if error.is_passing() => {
                if !std::mem::replace(&mut is_away, true) {
                    show.output.complain(&format!("{error}; waiting for it"));
                }
                tokio::time::sleep(RETRY).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        is_away = false;
        if news.restarted {
            let line = format!(
                "the agent was restarted at {}, and its events begin anew",
                local(&news.page.started)
            );
            show.output.complain(&line);
        } else if news.page.lost > 0 {
            let lost = news.page.lost;
            show.output.complain(&format!("{lost} events fell out before they were read"));
        }
        for event in news.page.events.iter().filter(|event| show.wants(event)) {
            show.event(event)?;
        }
        // It has nothing, and did not wait, either.
        if news.page.events.is_empty() && asked.elapsed() < RETRY {
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Reads one page after the other, over restarts of the agent.
struct Reader<'a> {
    client: &'a Client,
    since: Option<Duration>,
    after: u64,
    started: Option<String>,
}

struct News {
    page: api::Events,
    /// It is the first page of another agent than that of the last page.
    restarted: bool,
}

impl Reader<'_> {
    async fn next(&mut self, wait: Option<Duration>) -> Result<News, Error> {
        let mut page = self.ask(wait).await?;
        let restarted = self.started.as_ref().is_some_and(|known| *known != page.started);
        if restarted {
            // Its numbers mean other events than ours.
            self.after = 0;
            page = self.ask(None).await?;
        }
        self.after = page.next;
        self.started = Some(page.started.clone());
        Ok(News { page, restarted })
    }

    async fn ask(&self, wait: Option<Duration>) -> Result<api::Events, Error> {
        let seconds = |time: Duration| time.as_secs().to_string();
        let (after, wait_for) = (self.after.to_string(), wait.map(seconds));
        let since = self.since.map(seconds);
        let parameters = [
            ("after", Some(after.as_str())),
            ("wait", wait_for.as_deref()),
            ("since", since.as_deref()),
        ];
        let target = with_query(path(&["events"]), &parameters);
        let patience = wait.map_or(Duration::ZERO, |wait| wait + wait / 2);
        self.client.patient(patience).get(&target).await
    }
}

/// Prints events.
struct Show<'a> {
    output: &'a Output,
    kinds: Vec<String>,
}

impl Show<'_> {
    fn wants(&self, event: &api::Event) -> bool {
        let group = event.kind.split('-').next().unwrap_or_default();
        self.kinds.is_empty() || self.kinds.iter().any(|kind| *kind == event.kind || kind == group)
    }

    fn event(&self, event: &api::Event) -> Result<(), Error> {
        self.output.line(event, |event| self.in_words(event))
    }

    fn in_words(&self, event: &api::Event) -> String {
        let reason = event.reason.as_ref().map(|reason| format!(": {reason}"));
        let reason = reason.unwrap_or_default();
        // Padded before it is painted: escapes have no width.
        let kind = format!("{:<20}", event.kind);
        let kind = match tone(&event.kind) {
            Some(tone) => self.output.toned(tone, &kind),
            None => printable(&kind),
        };
        let what = printable(&format!("{}{reason}", event.summary));
        let details = event.details.iter().map(|detail| format!("\n    - {}", printable(detail)));
        format!("{}  {kind}  {what}{}\n", local(&event.at), details.collect::<String>())
    }
}

/// What wants a look is red, what is well again green, what is in between yellow. Kinds of later
/// releases are neither.
fn tone(kind: &str) -> Option<Tone> {
    let ends = |ends: &[&str]| ends.iter().any(|end| kind.ends_with(end));
    if ends(&["-lost", "-failed", "-down", "-silent", "-conflict", "-orphaned", "-refused"]) {
        return Some(Tone::Bad);
    }
    if ends(&["-back", "-answers", "-over", "-ready", "-joined"]) {
        return Some(Tone::Good);
    }
    let doubtful = ends(&["-suspected", "-withheld", "-repaired", "-left", "-format"]);
    doubtful.then_some(Tone::Doubtful)
}

/// By the clock on this wall. What is no time is shown as it is.
fn local(at: &str) -> String {
    match at.parse::<Timestamp>() {
        Ok(at) => at.to_zoned(TimeZone::system()).strftime("%F %T").to_string(),
        Err(_) => printable(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("90s", Some(90)),
            ("10m", Some(600)),
            ("1h30m", Some(5_400)),
            ("1h 30m", Some(5_400)),
            ("2d", Some(172_800)),
            ("0s", None),
            ("-5m", None),
            ("10", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(time(text).ok(), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn kinds_are_wanted_by_name_or_by_what_they_begin_with() {
        let output = Output::new(false);
        let wants = |kinds: &[&str], kind: &str| {
            let kinds = kinds.iter().map(ToString::to_string).collect();
            let event = api::Event { kind: kind.to_owned(), ..api::Event::default() };
            Show { output: &output, kinds }.wants(&event)
        };
        assert!(wants(&[], "anything"));
        assert!(wants(&["host"], "host-down") && wants(&["dns", "host-down"], "host-down"));
        assert!(!wants(&["host-down"], "host-back") && !wants(&["address-conflict"], "address"));
        for kind in ["host", "endpoint", "kernel", "host-down", "reloaded"] {
            assert!(kinds().contains(&kind), "{kind}");
        }
    }
}
