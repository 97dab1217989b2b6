//! The terminal: opened, drawn to, and given back as it was, however this ends.
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread;
use std::time::Duration;

use crossterm::event::Event;
use nix::sys::signal::{Signal, raise};
use ratatui::DefaultTerminal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

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

/// Keys that wait; more wait in the terminal.
const KEYS_MAX: usize = 16;

/// What is done at the terminal, read by a thread of its own: of a terminal that is closed its reader does not
/// come back, but tries again for ever (crossterm 0.29). The thread ends with the program.
fn keys() -> io::Result<mpsc::Receiver<io::Result<Event>>> {
    let (sender, keys) = mpsc::channel(KEYS_MAX);
    let read = move || {
        loop {
            let event = crossterm::event::read();
            let failed = event.is_err();
            if sender.blocking_send(event).is_err() || failed {
                return;
            }
        }
    };
    thread::Builder::new().spawn(read)?;
    Ok(keys)
}

/// The terminal, watched for its end.
fn watched() -> io::Result<AsyncFd<OwnedFd>> {
    let terminal = io::stdout().as_fd().try_clone_to_owned()?;
    #[expect(
        deprecated,
        reason = "what replaces it is unsafe: the caller promises that the number stays open, as an OwnedFd's does"
    )]
    AsyncFd::with_interest(terminal, Interest::READABLE)
}

/// It was closed: whoever looked at it is gone (epoll_ctl(2), `EPOLLHUP`). Cancel-safe.
async fn closed(terminal: &AsyncFd<OwnedFd>) {
    while let Ok(mut ready) = terminal.ready(Interest::READABLE).await {
        if ready.ready().is_read_closed() {
            return;
        }
        ready.clear_ready();
    }
}

/// Of a terminal that was closed, whatever was done with it last says so (EIO). That is its user's wish.
fn ended_by(error: io::Error) -> Result<(), Error> {
    match error.raw_os_error() == Some(nix::errno::Errno::EIO as i32) {
        true => Ok(()),
        false => Err(Error::Output(error)),
    }
}

/// Shows the agent until the user, a signal, or the end of its terminal ends it.
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
    let (mut keys, terminal) =
        keys().and_then(|keys| Ok((keys, watched()?))).map_err(Error::Runtime)?;
    let (mut model, mut view) = (Model::default(), View::default());
    let theme = Theme { colour };
    loop {
        let drawn = screen.terminal.draw(|frame| draw(frame, &model, &mut view, theme));
        if let Err(error) = drawn {
            return ended_by(error);
        }
        let ended = futures::future::select_all(ends.iter_mut().map(|end| Box::pin(end.recv())));
        tokio::select! {
            _ = ended => return Ok(()),
            () = closed(&terminal) => return Ok(()),
            _ = suspend.recv() => screen.suspend().map_err(Error::Output)?,
            // A resize is drawn like everything else.
            event = keys.recv() => match event {
                Some(Ok(Event::Key(key))) => match view.handle_key(key) {
                    Next::GoOn => {}
                    Next::Suspend => screen.suspend().map_err(Error::Output)?,
                    Next::Quit => return Ok(()),
                },
                Some(Ok(_)) => {}
                Some(Err(error)) => return ended_by(error),
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
