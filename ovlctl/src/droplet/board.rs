//! How far each droplet is: a bar for each on a terminal, plain lines elsewhere; on standard error.
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::printable;

/// Between two pictures of a bar that waits.
const TICK: Duration = Duration::from_millis(120);

/// The steps of a droplet, each done in this order; which of them are left out depends on what is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) enum Step {
    Asked = 1,
    Active,
    Reached,
    Booted,
    Provisioned,
    Checked,
}

const STEPS: u64 = Step::Checked as u64;

/// All of them.
pub(crate) struct Board {
    bars: Option<MultiProgress>,
    width: usize,
}

impl Board {
    /// `names`: those that will have a row, for their width.
    pub(crate) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Board {
        let bars = std::io::stderr().is_terminal()
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let bars = bars.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        Board { bars, width: names.map(str::len).max().unwrap_or_default() }
    }

    pub(crate) fn row(&self, name: &str) -> Row {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new(STEPS));
            bar.set_style(style());
            bar.set_prefix(format!("{name:width$}", width = self.width));
            bar.enable_steady_tick(TICK);
            bar
        });
        Row { name: name.to_owned(), bar }
    }
}

fn style() -> ProgressStyle {
    let style = ProgressStyle::with_template("{prefix} [{bar:12}] {spinner} {wide_msg}");
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

fn line(text: &str) {
    use std::io::Write as _;
    // Nobody to tell: fine.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// One of them.
pub(crate) struct Row {
    name: String,
    bar: Option<ProgressBar>,
}

impl Row {
    /// What is going on.
    pub(crate) fn say(&self, text: &str) {
        let text = printable(text);
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None => line(&format!("{}: {text}", self.name)),
        }
    }

    /// A step is done.
    pub(crate) fn done(&self, step: Step) {
        if let Some(bar) = &self.bar {
            bar.set_position(step as u64);
        }
    }

    /// A line that stays.
    pub(crate) fn note(&self, text: &str) {
        let text = format!("{}: {}", self.name, printable(text));
        match &self.bar {
            Some(bar) => bar.println(text),
            None => line(&text),
        }
    }

    /// The last word.
    pub(crate) fn end(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.abandon_with_message(printable(text)),
            None => self.say(text),
        }
    }
}
