//! The end of what goes on: Ctrl-C, a signal to end, or the time that was given.
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::error::Error;

/// See the module. From its making on, signals end nothing by themselves.
pub(crate) struct Stop {
    signals: Vec<Signal>,
    at: Option<Instant>,
}

impl Stop {
    /// `after`: also when this time is over.
    pub(crate) fn new(after: Option<Duration>) -> Result<Stop, Error> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let ignored = ignored(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
        // Who started this one with a signal ignored (nohup) means it.
        let minded = kinds.into_iter().filter(|kind| !is_among(ignored, kind.as_raw_value()));
        let signals = minded.map(signal).collect::<Result<_, _>>().map_err(Error::Runtime)?;
        Ok(Stop { signals, at: after.map(|after| Instant::now() + after) })
    }

    /// Cancel-safe. Once reached, the time is over for good: then only one more signal is.
    pub(crate) async fn reached(&mut self) {
        let at = self.at;
        let over = async move {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let mut signals: Vec<_> =
            self.signals.iter_mut().map(|signal| Box::pin(signal.recv())).collect();
        // Never all of them: there is one at least unless all are ignored.
        let signalled = async {
            match signals.is_empty() {
                true => std::future::pending().await,
                false => drop(futures::future::select_all(signals.iter_mut()).await),
            }
        };
        tokio::select! {
            () = signalled => {}
            () = over => {}
        }
        drop(signals);
        self.at = None;
    }
}

/// The mask `SigIgn` of `/proc/PID/status` (proc_pid_status(5)).
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

fn is_among(mask: u64, signal: i32) -> bool {
    u32::try_from(signal - 1).is_ok_and(|bit| mask.checked_shr(bit).unwrap_or_default() & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_is_ignored_is_seen() {
        let mask = ignored("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0000000180000000\n");
        assert!(is_among(mask, 1) && is_among(mask, 13));
        assert!(!is_among(mask, 2) && !is_among(mask, 0) && !is_among(mask, 999));
        assert_eq!(ignored("no such line"), 0);
    }

    #[tokio::test]
    async fn the_time_is_over_once() {
        let mut stop = Stop::new(Some(Duration::from_millis(1))).unwrap();
        stop.reached().await;
        let again = tokio::time::timeout(Duration::from_millis(50), stop.reached()).await;
        assert!(again.is_err());
    }
}
