use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn pool(subnet: &str, gateway: &str, range: Option<&str>) -> Pool {
    Pool {
        name: "blue".parse().unwrap(),
        subnet: subnet.parse().unwrap(),
        gateway: gateway.parse().unwrap(),
        range: range.map(|r| r.parse().unwrap()),
    }
}

fn snapshot(held: &[(&str, u64)], last: Option<&str>) -> Snapshot {
    Snapshot {
        held: held.iter().map(|(a, g)| (a.parse().unwrap(), *g)).collect(),
        last: last.map(|a| a.parse().unwrap()),
    }
}

fn picked(pool: &Pool, snapshot: &Snapshot, skip: u64) -> String {
    pool.pick(snapshot, skip).unwrap().to_string()
}

#[test]
fn the_first_address_is_the_first_that_is_not_reserved() {
    let none = Snapshot::default();
    assert_eq!(picked(&pool("10.1.0.0/16", "10.1.0.1", None), &none, 0), "10.1.0.2");
    assert_eq!(picked(&pool("10.1.0.0/16", "10.1.255.254", None), &none, 0), "10.1.0.1");
}

#[test]
fn the_next_address_follows_the_one_given_out_last() {
    let pool = pool("10.1.0.0/24", "10.1.0.1", None);
    let held = [("10.1.0.9", 7), ("10.1.0.10", 3), ("10.1.0.40", 5)];
    assert_eq!(picked(&pool, &snapshot(&held, None), 0), "10.1.0.11");
    assert_eq!(picked(&pool, &snapshot(&held, Some("10.1.0.39")), 0), "10.1.0.41");
}

#[test]
fn a_freed_address_comes_again_only_after_all_others() {
    let pool = pool("10.1.0.0/29", "10.1.0.1", None);
    let mut state = Snapshot::default();
    let mut seen = Vec::new();
    for _ in 0..6 {
        let address = pool.pick(&state, 0).unwrap();
        state.last = Some(address);
        seen.push(address.to_string());
    }
    let expected = ["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6", "10.1.0.2"];
    assert_eq!(seen, expected);
}

#[test]
fn a_last_address_outside_the_range_is_no_harm() {
    let pool = pool("10.1.0.0/16", "10.1.0.1", Some("10.1.7.0/30"));
    for last in ["10.1.0.2", "10.1.255.254", "10.1.7.3", "10.1.6.255", "192.0.2.1"] {
        assert_eq!(picked(&pool, &snapshot(&[], Some(last)), 0), "10.1.7.0", "{last}");
    }
    assert_eq!(pool.size(), 4);
}

#[test]
fn racing_hosts_that_meet_at_the_last_address_all_try_that_one() {
    let pool = pool("10.1.0.0/30", "10.1.0.1", None);
    for skip in [0, 1, 5, u64::MAX] {
        assert_eq!(picked(&pool, &Snapshot::default(), skip), "10.1.0.2");
    }
    let full = pool.pick(&snapshot(&[("10.1.0.2", 1)], None), 0).unwrap_err();
    assert_eq!((full.size, full.used), (1, 1));
}

#[test]
fn a_network_larger_than_what_can_be_listed_ends_at_the_bound() {
    let pool = pool("10.0.0.0/8", "10.0.0.1", None);
    let held = (2..).map(|n| (Ipv4Addr::from(0x0a00_0000 + n), 1)).take(MAX_LEASES).collect();
    let full = pool.pick(&Snapshot { held, last: None }, 0).unwrap_err();
    assert_eq!((full.size, full.used), (MAX_LEASES as u64, MAX_LEASES as u64));
}

#[test]
fn the_spread_of_racers_grows_and_has_a_limit() {
    assert_eq!(spread(0, u64::MAX), 0);
    for attempt in 1..100 {
        assert!(spread(attempt, u64::MAX - u64::from(attempt)) < MAX_SPREAD);
    }
    assert!((0..1000).all(|entropy| spread(1, entropy) < 16));
}

/// What one step of a history does.
#[derive(Clone, Debug)]
enum Step {
    /// An allocation whose answer comes.
    Allocate {
        skip: u64,
    },
    /// One whose host dies after the commit: held, and nobody knows.
    Crash {
        skip: u64,
    },
    Release {
        which: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => any::<u64>().prop_map(|skip| Step::Allocate { skip }),
        1 => any::<u64>().prop_map(|skip| Step::Crash { skip }),
        2 => any::<usize>().prop_map(|which| Step::Release { which }),
    ];
    prop::collection::vec(step, 0..120)
}

/// Any legal pool of few addresses: its subnet, its gateway, its range.
fn pools() -> impl Strategy<Value = Pool> {
    (25u8..=30, any::<u32>(), any::<u8>(), any::<u8>(), 0u8..=3).prop_map(
        |(prefix, bits, gateway, start, deeper)| {
            let subnet = Ipv4Net::new(Ipv4Addr::from(bits), prefix).unwrap().trunc();
            let hosts: Vec<Ipv4Addr> = subnet.hosts().collect();
            let inside = hosts[usize::from(start) % hosts.len()];
            let len = (prefix + deeper).min(30);
            Pool {
                name: "blue".parse().unwrap(),
                subnet,
                gateway: hosts[usize::from(gateway) % hosts.len()],
                range: (deeper > 0).then(|| Ipv4Net::new(inside, len).unwrap().trunc()),
            }
        },
    )
}

proptest! {
    #[test]
    fn no_history_gives_one_address_twice_or_a_reserved_one_and_exhaustion_is_exact(
        pool in pools(),
        steps in steps(),
    ) {
        let range = pool.range.unwrap_or(pool.subnet);
        let legal: BTreeSet<Ipv4Addr> = (u32::from(range.network())..=u32::from(range.broadcast()))
            .map(Ipv4Addr::from)
            .filter(|a| *a != pool.subnet.network() && *a != pool.subnet.broadcast())
            .filter(|a| *a != pool.gateway)
            .collect();
        prop_assert_eq!(pool.size(), legal.len() as u64);
        let mut state = Snapshot::default();
        for (generation, step) in (1u64..).zip(steps) {
            match step {
                Step::Allocate { skip } | Step::Crash { skip } => match pool.pick(&state, skip) {
                    Ok(address) => {
                        prop_assert!(legal.contains(&address), "{} is reserved", address);
                        let before = state.held.insert(address, generation);
                        prop_assert_eq!(before, None, "{} was given twice", address);
                        state.last = Some(address);
                    }
                    Err(full) => {
                        prop_assert_eq!(state.held.len(), legal.len());
                        prop_assert_eq!(full.used, full.size);
                    }
                },
                Step::Release { which } => {
                    let held: Vec<Ipv4Addr> = state.held.keys().copied().collect();
                    if !held.is_empty() {
                        state.held.remove(&held[which % held.len()]);
                    }
                }
            }
        }
    }
}
