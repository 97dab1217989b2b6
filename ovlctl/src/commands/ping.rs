//! `ping`: the ways between hosts, as they are now.
use std::collections::BTreeSet;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use futures::stream::{self, StreamExt as _};
use ovl_agent::control::api::paths::{
    self, INTERVAL_MAX_MS, INTERVAL_MIN_MS, Ping, PingHosts, Series,
};
use ovl_agent::control::api::{Member, Status};
use serde::Serialize;
use tokio::time::MissedTickBehavior;

use crate::client::{Client, path};
use crate::complete;
use crate::error::Error;
use crate::output::{Cell, Output, Tone, printable};
use crate::stop::Stop;

/// Hosts that ping at one time.
const AT_ONCE: usize = 16;

/// What an agent may take for a round beside its probes: for its turn, and to be reached.
const ANSWER_WITHIN: Duration = Duration::from_secs(6);

/// The longest answer of another host's agent that is waited for.
const ANSWER_MAX: Duration = Duration::from_secs(88);

/// How long the agent waits for one probe, at most.
const PROBE_WITHIN: Duration = Duration::from_millis(600);

/// Lines of pairs without loss that are shown when not all are asked for.
const FINE_MAX: usize = 30;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ping between this host and these, both ways; without a name, between all hosts
    #[arg(value_name = "HOST", value_parser = NonEmptyStringValueParser::new(), add = complete::hosts())]
    hosts: Vec<String>,

    /// Probes of each kind on each way
    ///
    /// 1 to 20.
    #[arg(short, long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=20))]
    count: u32,

    /// Time between two probes, in milliseconds
    ///
    /// 20 to 1000.
    #[arg(long, value_name = "MS", default_value = "100")]
    #[arg(value_parser = clap::value_parser!(u32).range(i64::from(INTERVAL_MIN_MS)..=i64::from(INTERVAL_MAX_MS)))]
    interval: u32,

    /// Bytes of the packets inside VXLAN
    ///
    /// 20 to 9000; what is larger than the underlay takes is lost. Without it the smallest.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(20..=9000))]
    size: Option<u16>,

    /// Show every pair, also where there are many without loss
    ///
    /// Otherwise, of more than 30 such pairs only their number and times are shown.
    #[arg(long)]
    all: bool,

    /// Go on, a round every so many seconds, until Ctrl-C
    ///
    /// Without a number, every 2 seconds. With --json, a list for each round, one a line.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u32).range(1..=3600))]
    watch: Option<u32>,
}

/// The way from one host to another.
#[derive(Debug, Serialize)]
struct Way {
    from: String,
    #[serde(flatten)]
    of: Towards,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Towards {
    Pinged(Ping),
    /// The agent that was to ping could not be asked.
    Failed {
        host: Option<String>,
        error: String,
    },
}

pub(super) async fn run(args: Args, client: &Client, output: &Output) -> Result<(), Error> {
    let Some(seconds) = args.watch else {
        let ways = round(&args, client).await?;
        output.show(&ways, |ways| in_words(ways, args.all, output))?;
        return verdict(&ways);
    };
    let mut stop = Stop::new(None)?;
    let mut turns = tokio::time::interval(Duration::from_secs(seconds.into()));
    // A round that took long is followed by one, and not by all that were missed.
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_away = false;
    loop {
        let next = async {
            turns.tick().await;
            round(&args, client).await
        };
        let ways = tokio::select! {
            ways = next => ways,
            () = stop.reached() => return Ok(()),
        };
        match ways {
            Ok(ways) => {
                is_away = false;
                tokio::select! {
                    shown = output.again(&ways, |ways| in_words(ways, args.all, output)) => shown?,
                    () = stop.reached() => return Ok(()),
                }
            }
            Err(error) if error.is_passing() => {
                if !std::mem::replace(&mut is_away, true) {
                    output.complain(&format!("{error}; waiting for it"));
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Every way once.
async fn round(args: &Args, client: &Client) -> Result<Vec<Way>, Error> {
    let me: Status = client.get(&path(&["status"])).await?;
    let members: Vec<Member> = client.get(&path(&["members"])).await?;
    if members.len() < 2 {
        return Err(Error::NotFound(format!("host {} knows no other host to ping", me.node)));
    }
    let plan = plan(&me.node, &members, &args.hosts)?;
    let asked = stream::iter(plan).map(|(from, to)| {
        let hosts = if to.is_empty() { members.len() - 1 } else { to.len() };
        let client = client.to(Some(&from)).patient(patience(args, hosts));
        let wanted = PingHosts {
            hosts: to.clone(),
            count: args.count,
            interval_ms: args.interval,
            size: args.size,
        };
        let is_me = from == me.node;
        async move {
            let pings: Result<Vec<Ping>, Error> = client.post(&path(&["ping"]), &wanted).await;
            ways(from, is_me, to, pings)
        }
    });
    let asked: Vec<Result<Vec<Way>, Error>> = asked.buffered(AT_ONCE).collect().await;
    let ways = asked.into_iter().collect::<Result<Vec<_>, _>>()?;
    let down = down(&me.node, &members, &args.hosts);
    Ok(ways.into_iter().flatten().chain(down).collect())
}

/// The ways to hosts that are down, of which nobody asks: so that they are not missing among all.
fn down(me: &str, members: &[Member], hosts: &[String]) -> Vec<Way> {
    let is_down = |member: &&Member| member.state == ovl_gossip::MemberState::Down;
    let all = members.iter().filter(|_| hosts.is_empty()).filter(is_down);
    all.map(|member| Way {
        from: me.to_owned(),
        of: Towards::Failed {
            host: Some(member.name.clone()),
            error: format!("{} is down, as the gossip sees it", member.name),
        },
    })
    .collect()
}

/// As long as it takes when no probe is answered.
fn patience(args: &Args, hosts: usize) -> Duration {
    let batches = u32::try_from(hosts.div_ceil(paths::AT_ONCE)).unwrap_or(u32::MAX);
    let each = Duration::from_millis(args.interval.into()) + PROBE_WITHIN;
    ANSWER_MAX.min(ANSWER_WITHIN + each.saturating_mul(args.count.saturating_mul(batches)))
}

/// Who pings whom; no names: all that the pinging host knows.
fn plan(
    me: &str,
    members: &[Member],
    hosts: &[String],
) -> Result<Vec<(String, Vec<String>)>, Error> {
    use ovl_gossip::MemberState as S;
    if hosts.is_empty() {
        let there = members.iter().filter(|m| matches!(m.state, S::Alive | S::Suspect));
        return Ok(there.map(|m| (m.name.clone(), Vec::new())).collect());
    }
    let others: BTreeSet<String> = hosts.iter().cloned().collect();
    if others.contains(me) {
        let why = format!("{me} is the host that pings: name others, or none for all ways");
        return Err(Error::Usage(why));
    }
    let back: Vec<_> = others.iter().map(|host| (host.clone(), vec![me.to_owned()])).collect();
    Ok(std::iter::once((me.to_owned(), others.into_iter().collect())).chain(back).collect())
}

/// What the agent that is asked says of itself ends it all: a wrong name, an older version. Of another host
/// that does not ping, that is one way more that is not known.
fn ways(
    from: String,
    is_me: bool,
    to: Vec<String>,
    pings: Result<Vec<Ping>, Error>,
) -> Result<Vec<Way>, Error> {
    match pings {
        Ok(pings) => {
            let way = |ping| Way { from: from.clone(), of: Towards::Pinged(ping) };
            Ok(pings.into_iter().map(way).collect())
        }
        Err(error) if !is_me || matches!(error, Error::Refused { later: true, .. }) => {
            let host = to.into_iter().next();
            let error = error.to_string();
            Ok(vec![Way { from, of: Towards::Failed { host, error } }])
        }
        Err(error) => Err(error),
    }
}

fn verdict(ways: &[Way]) -> Result<(), Error> {
    let broken = ways.iter().filter(|way| !way.is_open()).count();
    if broken == 0 {
        return Ok(());
    }
    Err(Error::Broken(format!(
        "{broken} of {} ways are closed, or their host could not be asked: ovlctl doctor says why",
        ways.len()
    )))
}

impl Way {
    fn is_open(&self) -> bool {
        match &self.of {
            Towards::Pinged(ping) => ping.underlay.received > 0 && ping.vxlan.received > 0,
            Towards::Failed { .. } => false,
        }
    }

    fn is_fine(&self) -> bool {
        match &self.of {
            Towards::Pinged(Ping { underlay, vxlan, .. }) => {
                underlay.received == underlay.sent && vxlan.received == vxlan.sent
            }
            Towards::Failed { .. } => false,
        }
    }
}

fn in_words(ways: &[Way], all: bool, output: &Output) -> String {
    let fine = ways.iter().filter(|way| way.is_fine()).count();
    let fold = !all && fine > FINE_MAX;
    let shown = ways.iter().filter(|way| !(fold && way.is_fine()));
    let rows: Vec<_> = shown.map(row).collect();
    let mut text = if rows.is_empty() {
        String::new()
    } else {
        output.table(["FROM", "TO", "UNDERLAY", "LOSS", "VXLAN", "LOSS"], rows)
    };
    if fold {
        text.push_str(&folded(ways, fine));
    }
    for (from, error) in failures(ways) {
        text.push_str(&printable(&format!("{from}: {error}")));
        text.push('\n');
    }
    text
}

/// Each agent that could not be asked, and each host that is down, once.
fn failures(ways: &[Way]) -> BTreeSet<(&str, &str)> {
    let failed = ways.iter().filter_map(|way| match &way.of {
        Towards::Failed { error, .. } => Some((way.from.as_str(), error.as_str())),
        Towards::Pinged(_) => None,
    });
    failed.collect()
}

fn row(way: &Way) -> [Cell; 6] {
    let from = way.from.clone().into();
    let dash = || "-".to_owned();
    match &way.of {
        Towards::Pinged(Ping { host, underlay, vxlan, .. }) => {
            let host = host.clone().into();
            [from, host, time(underlay), loss(underlay), time(vxlan), loss(vxlan)]
        }
        Towards::Failed { host, .. } => {
            let to = host.clone().unwrap_or_else(dash).into();
            let unknown = || Cell::toned(Tone::Bad, "not asked");
            [from, to, dash().into(), unknown(), dash().into(), unknown()]
        }
    }
}

/// The mean round trip, and the longest.
fn time(series: &Series) -> Cell {
    let text = match (series.avg_us, series.max_us) {
        (Some(avg), Some(max)) => {
            format!("{:.2} ms (max {:.2})", avg as f64 / 1000.0, max as f64 / 1000.0)
        }
        _ => "-".to_owned(),
    };
    text.into()
}

fn loss(series: &Series) -> Cell {
    let lost = series.sent.saturating_sub(series.received);
    let percent = 100 * u64::from(lost) / u64::from(series.sent.max(1));
    let tone = match (lost, series.received) {
        (0, _) => Tone::Good,
        (_, 0) => Tone::Bad,
        _ => Tone::Doubtful,
    };
    Cell::toned(tone, format!("{percent} %"))
}

fn folded(ways: &[Way], fine: usize) -> String {
    let mean = |of: fn(&Ping) -> Option<u64>| {
        let mut times: Vec<u64> = ways
            .iter()
            .filter(|way| way.is_fine())
            .filter_map(|way| match &way.of {
                Towards::Pinged(ping) => of(ping),
                Towards::Failed { .. } => None,
            })
            .collect();
        times.sort_unstable();
        times.get(times.len() / 2).map_or(0.0, |us| *us as f64 / 1000.0)
    };
    format!(
        "{fine} ways without loss: median {:.2} ms over the underlay, {:.2} ms through VXLAN (all of them: --all)\n",
        mean(|ping| ping.underlay.avg_us),
        mean(|ping| ping.vxlan.avg_us)
    )
}
