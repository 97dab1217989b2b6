//! `trace`: the way from one container to another, hop by hop.
use std::fmt::Write as _;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use ovl_agent::control::api::trace::{
    Direction, Hop, Point, Probe, ProbeKind, Trace, TraceEnd, TraceWay, Verdict,
};

use crate::client::{Client, path};
use crate::complete;
use crate::error::Error;
use crate::output::{Cell, Output, Tone, printable, word};

/// A trace is bounded by its parts: looks at two hosts, and three kinds of probes, each repeated.
const ANSWER_WITHIN: Duration = Duration::from_secs(25);

/// Widest column of hosts and hops; what is longer shifts its own line alone.
const COLUMN_MAX: usize = 64;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the way begins: a container, its name with its network (web.blue), or an address
    #[arg(value_parser = NonEmptyStringValueParser::new(), add = complete::endpoints())]
    from: String,

    /// Where it leads: the same
    #[arg(value_parser = NonEmptyStringValueParser::new(), add = complete::endpoints())]
    to: String,

    /// The network, where both are on several
    ///
    /// Without it the one that both are on.
    #[arg(long, value_name = "NETWORK", value_parser = NonEmptyStringValueParser::new(), add = complete::networks())]
    network: Option<String>,

    /// Bytes of the UDP probe, with its IP header
    ///
    /// 64 to 65000. Without it the network's full MTU.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(64..=65_000))]
    size: Option<u16>,

    /// Send nothing, only look
    ///
    /// What happens between the hosts, and in packet filters, is then not told.
    #[arg(long)]
    no_probe: bool,

    /// Show what was seen at every hop
    ///
    /// Otherwise only at those that are not in order.
    #[arg(short, long)]
    verbose: bool,
}

pub(super) async fn run(args: Args, client: &Client, output: &Output) -> Result<(), Error> {
    let Args { from, to, network, size, no_probe, verbose } = args;
    let way = TraceWay { from, to, network, size, probe: !no_probe, relayed: false };
    let trace: Trace = client.patient(ANSWER_WITHIN).post(&path(&["trace"]), &way).await?;
    output.show(&trace, |trace| in_words(trace, verbose, output))?;
    match trace.verdict {
        Verdict::Ok => Ok(()),
        Verdict::Unknown => Err(Error::Untold(trace.conclusion)),
        Verdict::Broken => Err(Error::Broken(trace.conclusion)),
    }
}

fn in_words(trace: &Trace, verbose: bool, output: &Output) -> String {
    let mut text = format!("{}\n\n", printable(&heading(trace)));
    let width = |of: fn(&Hop) -> &str| {
        let widest = trace.hops.iter().map(|hop| of(hop).len()).max();
        widest.unwrap_or_default().min(COLUMN_MAX)
    };
    let (hosts, hops) = (width(|h| &h.host), width(|h| &h.hop));
    for hop in &trace.hops {
        let (verdict, shade) = verdict(hop.verdict);
        let is_first = trace.broken.as_ref() == Some(&hop.hop);
        let mark = if is_first { ">" } else { " " };
        let _ = writeln!(
            text,
            "{mark} {} {:hosts$}  {:hops$}  {}",
            output.toned(shade, &format!("{verdict:7}")),
            printable(&hop.host),
            printable(&hop.hop),
            printable(&hop.says)
        );
        let indent = " ".repeat(14 + hosts + hops);
        if verbose || hop.verdict != Verdict::Ok {
            for line in &hop.evidence {
                let _ = writeln!(text, "{indent}{}", printable(line));
            }
        }
        if let Some(fix) = &hop.fix {
            let _ = writeln!(text, "{indent}fix: {}", printable(fix));
        }
    }
    text.push('\n');
    text.push_str(&probes(trace, output));
    // One that is not well is said on standard error.
    if trace.verdict == Verdict::Ok {
        let _ = writeln!(text, "{}", output.toned(Tone::Good, &trace.conclusion));
    }
    text
}

fn heading(trace: &Trace) -> String {
    let end = |end: &TraceEnd| {
        let address = end.address.map(|address| address.to_string());
        let facts: Vec<String> =
            address.into_iter().chain(end.host.as_ref().map(|host| format!("on {host}"))).collect();
        if facts.is_empty() {
            end.name.clone()
        } else {
            format!("{} ({})", end.name, facts.join(" "))
        }
    };
    let network = trace.network.as_ref().map_or_else(String::new, |network| {
        format!(", network {}: VNI {}, MTU {}", network.name, network.vni, network.mtu)
    });
    format!("from {} to {}{network}", end(&trace.from), end(&trace.to))
}

fn verdict(verdict: Verdict) -> (&'static str, Tone) {
    match verdict {
        Verdict::Ok => ("ok", Tone::Good),
        Verdict::Unknown => ("unknown", Tone::Doubtful),
        Verdict::Broken => ("BROKEN", Tone::Bad),
    }
}

/// Where each probe was seen, a line for each point of the way.
fn probes(trace: &Trace, output: &Output) -> String {
    if trace.probes.is_empty() {
        let why = trace.unprobed.as_deref().unwrap_or("nothing was sent");
        return format!("{}\n", printable(why));
    }
    let find = |kind| trace.probes.iter().find(|probe| probe.probe == kind);
    let kinds = [find(ProbeKind::Arp), find(ProbeKind::Echo), find(ProbeKind::Udp)];
    // The longest way has all points.
    let longest = trace.probes.iter().max_by_key(|probe| probe.points.len());
    let points = longest.map_or(&[][..], |probe| &probe.points);
    let mut rows = vec![row("sent", kinds, |probe| probe.sent.to_string().into())];
    rows.extend(points.iter().map(|point| {
        row(&named(point), kinds, |probe| {
            let found = probe.points.iter().find(|other| is_same(other, point));
            found.map_or_else(|| String::new().into(), |point| seen(point, probe.sent > 0))
        })
    }));
    rows.push(row("answered", kinds, answered));
    let mut text = output.table(["PROBES", "ARP", "ECHO", "UDP"], rows);
    text.push('\n');
    for probe in &trace.probes {
        let _ = writeln!(text, "{}", printable(&told(probe)));
    }
    for trouble in &trace.unwatched {
        let _ = writeln!(text, "not watched: {}", printable(trouble));
    }
    text.push('\n');
    text
}

fn row(name: &str, kinds: [Option<&Probe>; 3], cell: impl Fn(&Probe) -> Cell) -> [Cell; 4] {
    let [arp, echo, udp] = kinds.map(|probe| probe.map_or_else(|| String::new().into(), &cell));
    [name.to_owned().into(), arp, echo, udp]
}

fn is_same(a: &Point, b: &Point) -> bool {
    (&a.host, &a.interface, &a.container, a.direction, a.way)
        == (&b.host, &b.interface, &b.container, b.direction, b.way)
}

/// `bee-1 eth1 out`.
fn named(point: &Point) -> String {
    let direction = match point.direction {
        Direction::Out => "out",
        Direction::In => "in",
    };
    let container = point.container.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let interface = if point.interface.is_empty() { "?" } else { &point.interface };
    format!("{}{container} {interface} {direction} ({})", point.host, word(&point.way))
}

fn seen(point: &Point, is_sent: bool) -> Cell {
    match point.seen {
        _ if !is_sent => String::new().into(),
        None => Cell::toned(Tone::Doubtful, "not watched"),
        Some(0) => Cell::toned(Tone::Bad, "0"),
        Some(seen) => Cell::toned(Tone::Good, seen.to_string()),
    }
}

fn answered(probe: &Probe) -> Cell {
    let shade = match (probe.sent, probe.answered) {
        (0, _) => Tone::Doubtful,
        (_, 0) => Tone::Bad,
        _ => Tone::Good,
    };
    Cell::toned(shade, probe.answered.to_string())
}

/// `echo of 84 bytes: echo reply after 0.31 ms`.
fn told(probe: &Probe) -> String {
    let what = match probe.probe {
        ProbeKind::Arp => "who has the address",
        ProbeKind::Echo => "echo",
        ProbeKind::Udp => "UDP, not to be fragmented,",
    };
    let answer = probe.answer.as_deref().unwrap_or("no answer");
    let time = match probe.rtt_us {
        Some(us @ 0..1000) => format!(" after {us} µs"),
        Some(us) => format!(" after {}.{:02} ms", us / 1000, us % 1000 / 10),
        None => String::new(),
    };
    format!("{what} of {} bytes: {answer}{time}", probe.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace() -> Trace {
        let hop = |id: &str, verdict, fix: Option<&str>| Hop {
            hop: id.into(),
            host: "bee-1".into(),
            verdict,
            says: format!("says {id}"),
            evidence: vec![format!("saw {id}")],
            fix: fix.map(str::to_owned),
        };
        let end = |name: &str, host: Option<&str>| TraceEnd {
            name: name.into(),
            host: host.map(str::to_owned),
            address: None,
            mac: None,
        };
        let point = |seen| Point {
            host: "bee-1".into(),
            container: Some("web".into()),
            interface: "eth0".into(),
            direction: Direction::Out,
            way: ovl_agent::control::api::trace::Way::There,
            seen,
        };
        Trace {
            from: end("web", Some("bee-1")),
            to: end("db\u{1b}[31m", None),
            network: None,
            verdict: Verdict::Broken,
            broken: Some("fdb".into()),
            conclusion: "it is broken".into(),
            fix: None,
            hops: vec![
                hop("from", Verdict::Ok, None),
                hop("fdb", Verdict::Broken, Some("mend it")),
            ],
            probes: vec![Probe {
                probe: ProbeKind::Echo,
                bytes: 84,
                sent: 3,
                answered: 0,
                answer: None,
                rtt_us: None,
                points: vec![
                    point(Some(3)),
                    Point { way: ovl_agent::control::api::trace::Way::Back, ..point(None) },
                ],
            }],
            unprobed: None,
            unwatched: vec!["eth1: why".into()],
        }
    }

    #[test]
    fn the_first_broken_hop_is_marked_and_says_what_to_do() {
        let text = in_words(&trace(), false, &Output::new(false));
        assert!(text.contains("  ok      bee-1  from  says from\n"), "{text}");
        assert!(text.contains("> BROKEN  bee-1  fdb   says fdb\n"), "{text}");
        assert!(text.contains("fix: mend it"), "{text}");
        assert!(text.contains("saw fdb") && !text.contains("saw from"), "{text}");
        assert!(!text.contains('\u{1b}'), "what others say does not steer the terminal: {text}");
        let verbose = in_words(&trace(), true, &Output::new(false));
        assert!(verbose.contains("saw from"), "{verbose}");
    }

    #[test]
    fn a_name_that_is_absurdly_long_shifts_its_own_line_alone() {
        let mut long = trace();
        long.hops[0].host = "x".repeat(100_000);
        let text = in_words(&long, true, &Output::new(false));
        assert!(text.len() < 110_000, "{}", text.len());
    }

    #[test]
    fn points_that_nobody_watched_are_told_from_those_that_saw_nothing() {
        let text = in_words(&trace(), false, &Output::new(false));
        let line = |begin: &str| {
            text.lines().find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("{text}"))
        };
        assert!(line("bee-1 web eth0 out (there)").ends_with('3'), "{text}");
        assert!(line("bee-1 web eth0 out (back)").ends_with("not watched"), "{text}");
        assert!(line("not watched: eth1: why").ends_with("why"), "{text}");
    }
}
