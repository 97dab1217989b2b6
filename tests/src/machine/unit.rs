//! What systemd of a machine, and its journal, say.
use std::time::Duration;

use serde_json::Value;

use super::Machine;
use crate::{LabError, wait};

/// An entry of the journal.
#[derive(Clone, Debug)]
pub struct Entry(Value);

impl Entry {
    /// A field as text; empty when it has none.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_default()
    }

    /// Whether it has the field.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some()
    }

    /// The names of its fields.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.as_object().into_iter().flatten().map(|(name, _)| name.as_str())
    }

    /// Its text.
    #[must_use]
    pub fn message(&self) -> &str {
        self.field("MESSAGE")
    }

    /// When it was written, on the clock that counts from the machine's boot.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        Duration::from_micros(self.field("__MONOTONIC_TIMESTAMP").parse().unwrap_or_default())
    }
}

impl Machine {
    /// A property of a unit, as `systemctl show` has it.
    ///
    /// # Errors
    /// [`LabError::Command`].
    pub fn property(&self, unit: &str, property: &str) -> Result<String, LabError> {
        let outcome = self.run(&["systemctl", "show", "--value", "-p", property, unit])?;
        Ok(outcome.require()?.stdout.trim().to_owned())
    }

    /// `active`, `activating`, `failed`, … and the line in which the unit says what it is about.
    ///
    /// # Errors
    /// [`LabError::Command`].
    pub fn state(&self, unit: &str) -> Result<(String, String), LabError> {
        Ok((self.property(unit, "ActiveState")?, self.property(unit, "StatusText")?))
    }

    /// Waits until a unit is in this state.
    ///
    /// # Errors
    /// [`LabError::Timeout`] with the state and the status line that were seen last.
    pub fn wait_for_state(&self, unit: &str, state: &str, limit: Duration) -> Result<(), LabError> {
        wait::until(&format!("{unit} of {} being {state}", self.name()), limit, || {
            let (seen, says) = self.state(unit).map_err(|error| error.chain())?;
            if seen == state { Ok(()) } else { Err(format!("{seen}: {says}")) }
        })
    }

    /// The main process of a unit, as the machine numbers it.
    ///
    /// # Errors
    /// [`LabError::BadAnswer`] when it has none.
    pub fn main_pid(&self, unit: &str) -> Result<i32, LabError> {
        let text = self.property(unit, "MainPID")?;
        text.parse().ok().filter(|pid| *pid > 0).ok_or_else(|| LabError::BadAnswer {
            command: format!("systemctl show -p MainPID {unit}"),
            answer: text,
        })
    }

    /// What a unit wrote to the journal since the boot, and systemd about it.
    ///
    /// # Errors
    /// [`LabError::Command`], [`LabError::BadAnswer`].
    pub fn journal(&self, unit: &str) -> Result<Vec<Entry>, LabError> {
        let mut argv =
            vec!["journalctl", "--boot", "--output=json", "--all", "--no-pager", "--quiet"];
        argv.extend(["--unit", unit]);
        let outcome = self.run(&argv)?.require()?;
        outcome
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).map(Entry))
            .collect::<Result<_, _>>()
            .map_err(|_| LabError::BadAnswer {
                command: outcome.command.clone(),
                answer: outcome.stdout.lines().last().unwrap_or_default().to_owned(),
            })
    }

    /// The last lines of a unit in the journal, of all boots, for a person.
    #[must_use]
    pub fn journal_tail(&self, unit: &str, lines: usize) -> String {
        let count = lines.to_string();
        let argv = ["journalctl", "--no-pager", "-o", "short-monotonic", "-n", &count, "-u", unit];
        match self.run(&argv) {
            Ok(outcome) => outcome.stdout + &outcome.stderr,
            Err(error) => error.chain(),
        }
    }
}
