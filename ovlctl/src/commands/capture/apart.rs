//! Writes beside the loop that minds signals: a reader that stalls, Ctrl-S or a disk that hangs holds up a
//! thread, and not the end.
use std::time::Duration;

use super::sink::Sink;
use crate::error::Error;
use crate::stop::Stop;

/// How long who reads may take for what is left, once the end has come.
const LEFT_WITHIN: Duration = Duration::from_secs(1);

/// A sink, and the end.
pub(super) struct Apart<'a> {
    /// None: a thread has it, and was left behind.
    sink: Option<Sink>,
    stop: &'a mut Stop,
    /// The end has come.
    stopped: bool,
}

impl<'a> Apart<'a> {
    pub(super) fn new(sink: Sink, stop: &'a mut Stop) -> Apart<'a> {
        Apart { sink: Some(sink), stop, stopped: false }
    }

    /// As [`Stop::reached`]; it is remembered.
    pub(super) async fn stopped(&mut self) {
        self.stop.reached().await;
        self.stopped = true;
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Who reads did not take all of it.
    pub(super) fn is_stuck(&self) -> bool {
        self.sink.is_none()
    }

    pub(super) fn wants_names(&self) -> bool {
        self.sink.as_ref().is_some_and(Sink::wants_names)
    }

    /// Writes, for as long as it takes; once the end has come, only that long. Whether it was done is told by
    /// [`Apart::is_stuck`].
    ///
    /// # Errors
    /// Of the writing.
    pub(super) async fn write(
        &mut self,
        write: impl FnOnce(&mut Sink) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let Some(mut sink) = self.sink.take() else { return Ok(()) };
        let mut writing = tokio::task::spawn_blocking(move || {
            let done = write(&mut sink);
            (sink, done)
        });
        let written = tokio::select! {
            biased;
            written = &mut writing => Some(written),
            () = self.stop.reached(), if !self.stopped => None,
            () = tokio::time::sleep(LEFT_WITHIN), if self.stopped => return Ok(()),
        };
        let written = match written {
            Some(written) => written,
            None => {
                self.stopped = true;
                // A reader that is only slow gets all of it.
                tokio::select! {
                    written = writing => written,
                    () = tokio::time::sleep(LEFT_WITHIN) => return Ok(()),
                    () = self.stop.reached() => return Ok(()),
                }
            }
        };
        let (sink, done) = written.map_err(|error| Error::Output(error.into()))?;
        self.sink = Some(sink);
        done
    }
}
