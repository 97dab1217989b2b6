//! Draws the model as the view asks for it.
use ovl_gossip::MemberState;
use ratatui::Frame;
use ratatui::layout::{Constraint, Flex, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Borders, Cell, Clear, Paragraph, Row, Table, TableState, Wrap};

use super::format::{amount, round_trip};
use super::model::{HostRow, Model, NetworkRow};
use super::view::{Pane, View};
use crate::commands::cluster::duration;
use crate::output::{printable, word};

/// What there must be at least to draw on.
const SMALLEST: (u16, u16) = (40, 12);

const HELP: &str = "\
tab, ← →     another pane
↑ ↓          another row; page up, page down, home, end
s            sort the pane by another column
p, space     pause, and go on
?            this help
q, esc       end

Networks: bytes and packets a second of the network's
device on this host; drops since the device was made.
Hosts: round trip over the underlay, every 5 seconds.";

const KEYS: &str = "q quit  tab pane  s sort  p pause  ? help";

/// Whether there are colours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    pub(super) colour: bool,
}

impl Theme {
    fn coloured(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn bad(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn state(self, state: MemberState) -> Style {
        match state {
            MemberState::Alive => self.coloured(Color::Green),
            MemberState::Suspect => self.coloured(Color::Yellow),
            MemberState::Down => self.bad(),
            MemberState::Left => Style::new().add_modifier(Modifier::DIM),
        }
    }
}

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, view: &mut View, theme: Theme) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let (width, height) = SMALLEST;
        let text = format!("this terminal is too small: {width} columns and {height} lines");
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
        return;
    }
    let [head, top, middle, bottom, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Fill(7),
        Constraint::Fill(8),
        Constraint::Fill(7),
        Constraint::Length(1),
    ])
    .areas(area);
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(64), Constraint::Fill(1)]).spacing(1).areas(top);
    frame.render_widget(header(model, view, theme), head);
    hosts(frame, left, model, view, theme);
    problems(frame, right, model, view, theme);
    networks(frame, middle, model, view, theme);
    endpoints(frame, bottom, model, view);
    frame.render_widget(Line::from(KEYS).style(Modifier::DIM), foot);
    if view.help {
        help(frame, area);
    }
}

fn header(model: &Model, view: &View, theme: Theme) -> Line<'static> {
    let mut spans = vec![Span::styled("ovl ", Modifier::BOLD)];
    match model.status() {
        None => spans.push(Span::raw("asking the agent …")),
        Some(status) => spans.push(Span::raw(printable(&format!(
            "{} ({}), agent {}, up {}",
            status.node,
            status.address,
            status.version,
            duration(status.uptime_seconds)
        )))),
    }
    if view.paused {
        spans.push(Span::styled("  PAUSED", Modifier::REVERSED));
    }
    if let Some(why) = model.away() {
        let since =
            if model.status().is_some() { "  AWAY, below is what it said last: " } else { "  " };
        spans.push(Span::styled(format!("{since}{}", printable(why)), theme.bad()));
    }
    Line::from(spans)
}

/// The frame of a pane, with how much is in it; the chosen one stands out.
fn block(pane: Pane, view: &View, title: String) -> Block<'static> {
    let style = match view.pane == pane {
        true => Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD),
        false => Style::new().add_modifier(Modifier::BOLD),
    };
    Block::new().borders(Borders::TOP).title(Span::styled(format!(" {title} "), style))
}

struct Columns<const N: usize> {
    header: [&'static str; N],
    widths: [Constraint; N],
    /// Those of numbers, from the right.
    numbers: usize,
}

/// A table that shows the marked row, whichever it is.
fn table<const N: usize>(
    frame: &mut Frame<'_>,
    area: Rect,
    block: Block<'static>,
    columns: &Columns<N>,
    rows: Vec<[(String, Style); N]>,
    (view, pane, stale): (&mut View, Pane, bool),
) {
    let count = rows.len();
    let cell = |(at, (text, style)): (usize, (String, Style))| {
        let text = Text::from(printable(&text)).style(style);
        let right = at + columns.numbers >= N;
        Cell::from(if right { text.right_aligned() } else { text })
    };
    let header = columns.header.map(|name| (name.to_owned(), Style::new()));
    let cells = |row: [(String, Style); N]| Row::new(row.into_iter().enumerate().map(cell));
    let mut table = Table::new(rows.into_iter().map(cells), columns.widths)
        .header(cells(header).style(Modifier::DIM))
        .column_spacing(1)
        .block(block);
    if stale {
        table = table.style(Modifier::DIM);
    }
    if view.pane == pane {
        table = table.row_highlight_style(Modifier::REVERSED);
    }
    let row = view.row(pane, count);
    let mut state = TableState::new().with_selected((count > 0).then_some(row));
    frame.render_stateful_widget(table, area, &mut state);
}

fn hosts(frame: &mut Frame<'_>, area: Rect, model: &Model, view: &mut View, theme: Theme) {
    let rows = model.hosts(view.hosts);
    let alive = rows.iter().filter(|row| row.state == MemberState::Alive).count();
    let title = format!("hosts: {alive} of {} alive, by {}", rows.len(), view.hosts.name());
    let columns = Columns {
        header: ["NAME", "ADDRESS", "STATE", "TRIP", "ENDP"],
        widths: [
            Constraint::Fill(1),
            Constraint::Length(15),
            Constraint::Length(7),
            Constraint::Length(7),
            Constraint::Length(4),
        ],
        numbers: 2,
    };
    let plain = |text: String| (text, Style::new());
    let row = |HostRow { name, address, state, round_trip_us, endpoints }: HostRow| {
        [
            plain(name),
            plain(address.to_string()),
            (word(&state), theme.state(state)),
            plain(round_trip_us.map_or_else(|| "-".to_owned(), round_trip)),
            plain(endpoints.to_string()),
        ]
    };
    let block = block(Pane::Hosts, view, title);
    let stale = model.away().is_some();
    table(
        frame,
        area,
        block,
        &columns,
        rows.into_iter().map(row).collect(),
        (view, Pane::Hosts, stale),
    );
}

fn networks(frame: &mut Frame<'_>, area: Rect, model: &Model, view: &mut View, theme: Theme) {
    let rows = model.networks(view.networks);
    let count = rows.iter().filter(|row| row.vni.is_some()).count();
    let title = format!("networks: {count}, by {}", view.networks.name());
    let columns = Columns {
        header: ["NETWORK", "HERE/ALL", "IN B/s", "OUT B/s", "IN pkt/s", "OUT pkt/s", "DROPS"],
        widths: [
            Constraint::Fill(1),
            Constraint::Length(11),
            Constraint::Length(8),
            Constraint::Length(8),
            Constraint::Length(8),
            Constraint::Length(9),
            Constraint::Length(8),
        ],
        numbers: 6,
    };
    let row = |row: NetworkRow| {
        let number = |of: fn(super::model::Rate) -> f64| {
            (row.rate.map_or_else(|| "-".to_owned(), |rate| amount(of(rate))), Style::new())
        };
        let dropping = row.rate.is_some_and(|rate| rate.drops > 0.0);
        let drops = if dropping { theme.bad() } else { Style::new() };
        let name =
            if row.vni.is_some() { row.name.clone() } else { format!("{} (underlay)", row.name) };
        let endpoints = match row.vni {
            Some(_) => format!("{}/{}", row.endpoints_here, row.endpoints),
            None => String::new(),
        };
        [
            (name, Style::new()),
            (endpoints, Style::new()),
            number(|rate| rate.rx_bytes),
            number(|rate| rate.tx_bytes),
            number(|rate| rate.rx_packets),
            number(|rate| rate.tx_packets),
            (amount(row.drops as f64), drops),
        ]
    };
    let block = block(Pane::Networks, view, title);
    let stale = model.away().is_some();
    table(
        frame,
        area,
        block,
        &columns,
        rows.into_iter().map(row).collect(),
        (view, Pane::Networks, stale),
    );
}

fn endpoints(frame: &mut Frame<'_>, area: Rect, model: &Model, view: &mut View) {
    let rows = model.endpoints(view.endpoints);
    let title = format!("endpoints of this host: {}, by {}", rows.len(), view.endpoints.name());
    let columns = Columns {
        header: ["NAME", "NETWORK", "ADDRESS", "ALIASES"],
        widths: [
            Constraint::Fill(2),
            Constraint::Fill(1),
            Constraint::Length(15),
            Constraint::Fill(2),
        ],
        numbers: 0,
    };
    let rows = rows.into_iter().map(|row| {
        [row.name, row.network, row.ipv4.to_string(), row.aliases.join(", ")]
            .map(|text| (text, Style::new()))
    });
    let block = block(Pane::Endpoints, view, title);
    let stale = model.away().is_some();
    table(frame, area, block, &columns, rows.collect(), (view, Pane::Endpoints, stale));
}

fn problems(frame: &mut Frame<'_>, area: Rect, model: &Model, view: &mut View, theme: Theme) {
    let all = model.problems();
    let block = block(Pane::Problems, view, format!("problems: {}", all.len()));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    // A problem is several lines: the chosen one stands first.
    let first = view.row(Pane::Problems, all.len());
    let text: Vec<Line<'_>> = match all.is_empty() {
        true => vec![Line::from("none known").style(Modifier::DIM)],
        false => {
            all.iter().skip(first).map(|one| Line::from(format!("- {}", printable(one)))).collect()
        }
    };
    let style = if all.is_empty() { Style::new() } else { theme.coloured(Color::Yellow) };
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }).style(style), inner);
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let text = Text::from(HELP);
    let (width, height) = (text.width() + 4, text.height() + 2);
    let length = |cells: usize| Constraint::Length(u16::try_from(cells).unwrap_or(u16::MAX));
    let [area] = Layout::horizontal([length(width)]).flex(Flex::Center).areas(area);
    let [area] = Layout::vertical([length(height)]).flex(Flex::Center).areas(area);
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(text).block(Block::bordered().title(" keys ")), area);
}
