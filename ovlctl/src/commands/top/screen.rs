//! The terminal: opened, drawn to, and given back as it was, however this ends.
use std::io;
use std::time::Duration;

use crossterm::event::{Event, EventStream};
use futures::StreamExt as _;
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
        Ok(Screen { terminal: ratatui::try_init()? })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Shows the agent until the user, or a signal, ends it.
pub(super) async fn run(client: &Client, every: Duration, colour: bool) -> Result<(), Error> {
    let mut ends = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()]
        .map(signal)
        .into_iter()
        .collect::<io::Result<Vec<_>>>()
        .map_err(Error::Runtime)?;
    let mut screen = Screen::open().map_err(Error::Output)?;
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
            // A resize is drawn like everything else.
            event = keys.next() => match event {
                Some(Ok(Event::Key(key))) => if view.handle_key(key) == Next::Quit {
                    return Ok(());
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
