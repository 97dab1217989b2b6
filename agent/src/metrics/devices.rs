//! Counters of devices, summed. Pure.
//!
//! A device takes its counters along when it goes, and begins at zero when it is made anew. The sum
//! over those that are there would fall then, which reads as a restart, and the whole rest of it as new
//! traffic. So only what each device counted since the last look is added.

use std::collections::BTreeMap;

use ovl_vxlan::{LinkCounters, Passed};

/// What was summed so far, and what each device had counted at the last look.
#[derive(Debug, Default)]
pub struct Tally {
    /// By index of the device. None: there was no look yet.
    last: Option<BTreeMap<u32, LinkCounters>>,
    totals: Totals,
}

/// The sums since the first look: what devices had counted before another run of the agent has told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Devices that are there.
    pub devices: usize,
    /// What came out of the tunnels.
    pub received: Passed,
    /// What went into them.
    pub sent: Passed,
}

impl Tally {
    /// Takes in a look at all devices, and tells the sums.
    pub fn take(&mut self, devices: &[LinkCounters]) -> Totals {
        if let Some(before) = &self.last {
            for now in devices {
                let then = before.get(&now.index).filter(|then| then.vni == now.vni);
                let (rx, tx) = then.map(|then| (then.rx, then.tx)).unwrap_or_default();
                add(&mut self.totals.received, now.rx, rx);
                add(&mut self.totals.sent, now.tx, tx);
            }
        }
        self.last = Some(devices.iter().map(|device| (device.index, device.clone())).collect());
        self.totals.devices = devices.len();
        self.totals
    }
}

fn add(sum: &mut Passed, now: Passed, then: Passed) {
    // A device counts up only: what is less was read before the other.
    let more = |now: u64, then: u64| now.saturating_sub(then);
    sum.packets += more(now.packets, then.packets);
    sum.bytes += more(now.bytes, then.bytes);
    sum.dropped += more(now.dropped, then.dropped);
    sum.errors += more(now.errors, then.errors);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(vni: u32, index: u32, packets: u64) -> LinkCounters {
        let rx = Passed { packets, bytes: packets * 100, ..Passed::default() };
        LinkCounters { vni: Some(vni), index, rx, ..LinkCounters::default() }
    }

    #[test]
    fn the_sum_never_falls_whatever_becomes_of_the_devices() {
        let mut tally = Tally::default();
        let mut sum = |devices: &[LinkCounters]| tally.take(devices).received.packets;
        assert_eq!(sum(&[device(1, 10, 5), device(2, 20, 7)]), 0, "of an earlier run");
        assert_eq!(sum(&[device(1, 10, 6), device(2, 20, 7)]), 1);
        assert_eq!(sum(&[device(2, 20, 9)]), 3, "one went");
        assert_eq!(sum(&[device(1, 30, 4), device(2, 20, 9)]), 7, "it was made anew");
        assert_eq!(sum(&[device(3, 30, 2), device(2, 20, 8)]), 9, "with the index of another");
        assert_eq!(tally.take(&[]).devices, 0);
    }
}
