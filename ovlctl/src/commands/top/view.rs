//! What the user chose: the pane, its order, how far it is scrolled. Pure.
use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// A part of the screen, in the order of the tab key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pane {
    #[default]
    Hosts,
    Problems,
    Networks,
    Endpoints,
}

impl Pane {
    pub(super) const ALL: [Pane; 4] =
        [Pane::Hosts, Pane::Problems, Pane::Networks, Pane::Endpoints];

    fn stepped(self, steps: usize) -> Pane {
        let at = Pane::ALL.iter().position(|pane| *pane == self).unwrap_or_default();
        Pane::ALL[(at + steps) % Pane::ALL.len()]
    }
}

/// By what hosts are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum HostOrder {
    #[default]
    Name,
    State,
    RoundTrip,
    Endpoints,
}

/// By what networks are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum NetworkOrder {
    #[default]
    Name,
    Received,
    Sent,
    Drops,
    Endpoints,
}

/// By what endpoints are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum EndpointOrder {
    #[default]
    Name,
    Network,
    Address,
}

impl HostOrder {
    pub(super) fn name(self) -> &'static str {
        match self {
            HostOrder::Name => "name",
            HostOrder::State => "state",
            HostOrder::RoundTrip => "round trip",
            HostOrder::Endpoints => "endpoints",
        }
    }

    fn next(self) -> HostOrder {
        match self {
            HostOrder::Name => HostOrder::State,
            HostOrder::State => HostOrder::RoundTrip,
            HostOrder::RoundTrip => HostOrder::Endpoints,
            HostOrder::Endpoints => HostOrder::Name,
        }
    }
}

impl NetworkOrder {
    pub(super) fn name(self) -> &'static str {
        match self {
            NetworkOrder::Name => "name",
            NetworkOrder::Received => "received",
            NetworkOrder::Sent => "sent",
            NetworkOrder::Drops => "drops",
            NetworkOrder::Endpoints => "endpoints",
        }
    }

    fn next(self) -> NetworkOrder {
        match self {
            NetworkOrder::Name => NetworkOrder::Received,
            NetworkOrder::Received => NetworkOrder::Sent,
            NetworkOrder::Sent => NetworkOrder::Drops,
            NetworkOrder::Drops => NetworkOrder::Endpoints,
            NetworkOrder::Endpoints => NetworkOrder::Name,
        }
    }
}

impl EndpointOrder {
    pub(super) fn name(self) -> &'static str {
        match self {
            EndpointOrder::Name => "name",
            EndpointOrder::Network => "network",
            EndpointOrder::Address => "address",
        }
    }

    fn next(self) -> EndpointOrder {
        match self {
            EndpointOrder::Name => EndpointOrder::Network,
            EndpointOrder::Network => EndpointOrder::Address,
            EndpointOrder::Address => EndpointOrder::Name,
        }
    }
}

/// How the model is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    pub(super) pane: Pane,
    pub(super) hosts: HostOrder,
    pub(super) networks: NetworkOrder,
    pub(super) endpoints: EndpointOrder,
    /// The row that is marked, of each pane; beyond the end: the last one.
    rows: [usize; Pane::ALL.len()],
    pub(super) paused: bool,
    pub(super) help: bool,
}

/// What becomes of the program after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    /// Stop until the shell goes on with it.
    Suspend,
    Quit,
}

/// Rows of a page key.
const PAGE: usize = 10;

impl View {
    pub(super) fn handle_key(&mut self, key: KeyEvent) -> Next {
        if key.kind == KeyEventKind::Release {
            return Next::GoOn;
        }
        // What a terminal makes signals of, when it is not drawn to; others are not ours.
        if key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) {
            return match key.code {
                KeyCode::Char('c' | 'd') => Next::Quit,
                KeyCode::Char('z') => Next::Suspend,
                _ => Next::GoOn,
            };
        }
        if self.help {
            self.help = false;
            return if key.code == KeyCode::Char('q') { Next::Quit } else { Next::GoOn };
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Next::Quit,
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('s') => self.sort(),
            KeyCode::Tab | KeyCode::Right => self.pane = self.pane.stepped(1),
            KeyCode::BackTab | KeyCode::Left => self.pane = self.pane.stepped(Pane::ALL.len() - 1),
            KeyCode::Down => self.scroll(|row| row.saturating_add(1)),
            KeyCode::Up => self.scroll(|row| row.saturating_sub(1)),
            KeyCode::PageDown => self.scroll(|row| row.saturating_add(PAGE)),
            KeyCode::PageUp => self.scroll(|row| row.saturating_sub(PAGE)),
            KeyCode::Home => self.scroll(|_| 0),
            KeyCode::End => self.scroll(|_| usize::MAX),
            _ => {}
        }
        Next::GoOn
    }

    fn sort(&mut self) {
        match self.pane {
            Pane::Hosts => self.hosts = self.hosts.next(),
            Pane::Networks => self.networks = self.networks.next(),
            Pane::Endpoints => self.endpoints = self.endpoints.next(),
            Pane::Problems => {}
        }
    }

    fn scroll(&mut self, to: impl Fn(usize) -> usize) {
        let row = &mut self.rows[self.pane as usize];
        *row = to(*row);
    }

    /// The row that is marked, of as many as there are. What is beyond the end is forgotten.
    pub(super) fn row(&mut self, pane: Pane, rows: usize) -> usize {
        let row = &mut self.rows[pane as usize];
        *row = (*row).min(rows.saturating_sub(1));
        *row
    }
}
