//! The terminal: opened, drawn to, and given back as it was, however this ends.
use std::io;
use std::time::Duration;

use crossterm::event::{Event, EventStream};
use futures::StreamExt as _;
use nix::sys::signal::{Signal, raise};
use ratatui::DefaultTerminal;
use tokio::signal::unix::{SignalKind, signal};

use super::draw::{Theme, draw};
use super::model::Model;
use super::view::{Next, View};
use super::watch::{News, Watch};
use crate::client::Client;
use crate::error::Error;

/// A terminal in raw mode on its other screen. A panic gives it back, too (ratatui's hook).
struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    fn open() -> io::Result<Screen> {
        Ok(Screen { terminal: take()? })
    }

    /// Gives the terminal back and stops, as Ctrl-Z does; then the shell goes on with this.
    fn suspend(&mut self) -> io::Result<()> {
        give_back();
        raise(Signal::SIGSTOP)?;
        self.terminal = take()?;
        self.terminal.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn take() -> io::Result<DefaultTerminal> {
    // It may fail half-way.
    ratatui::try_init().inspect_err(|_| give_back())
}

/// A terminal that is gone takes nothing back, and has nobody to be told.
fn give_back() {
    let _ = ratatui::try_restore();
}

/// Shows the agent until the user, or a signal, ends it.
pub(super) async fn run(client: &Client, every: Duration, colour: bool) -> Result<(), Error> {
    let mut ends = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()]
        .map(signal)
        .into_iter()
        .collect::<io::Result<Vec<_>>>()
        .map_err(Error::Runtime)?;
    let mut screen = Screen::open().map_err(Error::Output)?;
    let mut suspend =
        signal(SignalKind::from_raw(Signal::SIGTSTP as i32)).map_err(Error::Runtime)?;
    let mut watch = Watch::start(client, every);
    let mut keys = EventStream::new();
    let (mut model, mut view) = (Model::default(), View::default());
    let theme = Theme { colour };
    loop {
        let drawn = screen.terminal.draw(|frame| draw(frame, &model, &mut view, theme));
        drawn.map_err(Error::Output)?;
        let ended = futures::future::select_all(ends.iter_mut().map(|end| Box::pin(end.recv())));
        tokio::select! {
            _ = ended => return Ok(()),
            _ = suspend.recv() => screen.suspend().map_err(Error::Output)?,
            // A resize is drawn like everything else.
            event = keys.next() => match event {
                Some(Ok(Event::Key(key))) => match view.handle_key(key) {
                    Next::GoOn => {}
                    Next::Suspend => screen.suspend().map_err(Error::Output)?,
                    Next::Quit => return Ok(()),
                },
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(Error::Output(error)),
                None => return Ok(()),
            },
            Some(news) = watch.next() => if !view.paused {
                match news {
                    News::Sample(sample) => model.handle_sample(*sample),
                    News::Pings(pings) => model.handle_pings(pings),
                    News::Away(why) => model.handle_away(why),
                }
            },
        }
    }
}
