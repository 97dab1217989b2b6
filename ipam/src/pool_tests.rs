use std::collections::BTreeSet;

use proptest::prelude::*;

use super::Family::{V4, V6};
use super::*;

fn pool(subnet: &str, gateway: &str, range: Option<&str>) -> Pool {
    Pool {
        name: "blue".parse().unwrap(),
        subnet: subnet.parse().unwrap(),
        gateway: gateway.parse().unwrap(),
        range: range.map(|r| r.parse().unwrap()),
        ipv6: None,
        aux: BTreeMap::new(),
    }
}

fn pool6(subnet: &str, gateway: &str, range: Option<&str>) -> Pool {
    let (subnet, gateway) = (subnet.parse().unwrap(), gateway.parse().unwrap());
    let ipv6 = Some(Ipv6 { subnet, gateway, range: range.map(|r| r.parse().unwrap()) });
    Pool { ipv6, ..pool("10.1.0.0/24", "10.1.0.1", None) }
}

fn snapshot(held: &[(&str, u64)], last: Option<&str>) -> Snapshot {
    Snapshot {
        held: held.iter().map(|(a, g)| (a.parse().unwrap(), *g)).collect(),
        last: last.map(|a| (V4, a.parse().unwrap())).into_iter().collect(),
    }
}

fn picked(pool: &Pool, snapshot: &Snapshot, skip: u64) -> String {
    pool.pick(V4, snapshot, skip).unwrap().to_string()
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
        let address = pool.pick(V4, &state, 0).unwrap();
        state.last.insert(V4, address);
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
    assert_eq!(pool.size(V4), 4);
}

#[test]
fn racing_hosts_that_meet_at_the_last_address_all_try_that_one() {
    let pool = pool("10.1.0.0/30", "10.1.0.1", None);
    for skip in [0, 1, 5, u64::MAX] {
        assert_eq!(picked(&pool, &Snapshot::default(), skip), "10.1.0.2");
    }
    let full = pool.pick(V4, &snapshot(&[("10.1.0.2", 1)], None), 0).unwrap_err();
    assert!(matches!(full, NoneLeft::Exhausted { size: 1, used: 1, .. }), "{full:?}");
}

#[test]
fn a_network_larger_than_what_can_be_listed_ends_at_the_bound() {
    let pool = pool("10.0.0.0/8", "10.0.0.1", None);
    let held = (2..).map(|n| (Ipv4Addr::from(0x0a00_0000 + n).into(), 1)).take(MAX_LEASES);
    let full = Snapshot { held: held.collect(), ..Snapshot::default() };
    assert_eq!(pool.pick(V4, &full, 0), Err(NoneLeft::TooMany));
    let pool = pool6("fd00::/64", "fd00::1", None);
    assert_eq!(pool.pick(V6, &full, 0), Err(NoneLeft::TooMany), "both families count");
}

#[test]
fn ipv6_addresses_are_picked_from_the_first_65536_and_go_round() {
    let pool = pool6("fd00::/64", "fd00::1", None);
    assert_eq!(pool.size(V6), 65_534);
    assert_eq!(pool.automatic(V6), "fd00::/112".parse().ok());
    let mut state = Snapshot::default();
    for expected in ["fd00::2", "fd00::3", "fd00::4"] {
        let address = pool.pick(V6, &state, 0).unwrap();
        assert_eq!(address.to_string(), expected);
        state.held.insert(address, 1);
        state.last.insert(V6, address);
    }
    assert_eq!(picked(&pool, &state, 0), "10.1.0.2", "IPv4 has a round of its own");
    for last in ["fd00::ffff", "fd00::1:0", "fd00:0:0:1::", "::"] {
        state.last.insert(V6, last.parse().unwrap());
        assert_eq!(pool.pick(V6, &state, 0).unwrap().to_string(), "fd00::5", "{last}");
    }
    let pool = pool6("fd00::/64", "fd00::1", Some("fd00:0:0:0:8000::/126"));
    assert_eq!((pool.size(V6), pool.automatic(V6)), (4, "fd00:0:0:0:8000::/126".parse().ok()));
    let pool = pool6("fd00::/126", "fd00::1", None);
    assert_eq!(pool.size(V6), 2);
    assert_eq!(pool.check("fd00::3".parse().unwrap()), Ok(()), "IPv6 has no broadcast address");
    let plain = self::pool("10.1.0.0/24", "10.1.0.1", None);
    assert_eq!((plain.size(V6), plain.pick(V6, &state, 0)), (0, Err(NoneLeft::NoIpv6)));
    assert_eq!(plain.check("fd00::2".parse().unwrap()), Err(Unusable::NoIpv6));
}

#[test]
fn a_pool_key_of_before_ipv6_is_read_and_a_new_one_without_it_is_the_same() {
    let old = r#"{"name":"blue","subnet":"10.1.0.0/24","gateway":"10.1.0.1"}"#;
    let read: Pool = serde_json::from_str(old).unwrap();
    assert_eq!(read, pool("10.1.0.0/24", "10.1.0.1", None));
    assert_eq!(serde_json::to_string(&read).unwrap(), old);
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
    let aux = prop::collection::vec(any::<u8>(), 0..4);
    (25u8..=30, any::<u32>(), any::<u8>(), any::<u8>(), 0u8..=3, aux).prop_map(
        |(prefix, bits, gateway, start, deeper, aux)| {
            let aux = aux.into_iter().map(|n| (n.to_string(), usize::from(n)));
            let subnet = Ipv4Net::new(Ipv4Addr::from(bits), prefix).unwrap().trunc();
            let hosts: Vec<Ipv4Addr> = subnet.hosts().collect();
            let inside = hosts[usize::from(start) % hosts.len()];
            let len = (prefix + deeper).min(30);
            let aux = aux.map(|(name, n)| (name, hosts[n % hosts.len()].into())).collect();
            Pool {
                name: "blue".parse().unwrap(),
                subnet,
                gateway: hosts[usize::from(gateway) % hosts.len()],
                range: (deeper > 0).then(|| Ipv4Net::new(inside, len).unwrap().trunc()),
                ipv6: None,
                aux,
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
        let legal: BTreeSet<IpAddr> = (u32::from(range.network())..=u32::from(range.broadcast()))
            .map(Ipv4Addr::from)
            .filter(|a| *a != pool.subnet.network() && *a != pool.subnet.broadcast())
            .filter(|a| *a != pool.gateway)
            .map(IpAddr::V4)
            .filter(|a| !pool.aux.values().any(|aside| aside == a))
            .collect();
        prop_assert_eq!(pool.size(V4), legal.len() as u64);
        let mut state = Snapshot::default();
        for (generation, step) in (1u64..).zip(steps) {
            match step {
                Step::Allocate { skip } | Step::Crash { skip } => match pool.pick(V4, &state, skip) {
                    Ok(address) => {
                        prop_assert!(legal.contains(&address), "{} is reserved", address);
                        let before = state.held.insert(address, generation);
                        prop_assert_eq!(before, None, "{} was given twice", address);
                        state.last.insert(V4, address);
                    }
                    Err(full) => {
                        prop_assert_eq!(state.held.len(), legal.len());
                        let NoneLeft::Exhausted { size, used, .. } = full else {
                            panic!("{full:?}");
                        };
                        prop_assert_eq!(used, size);
                    }
                },
                Step::Release { which } => {
                    let held: Vec<IpAddr> = state.held.keys().copied().collect();
                    if !held.is_empty() {
                        state.held.remove(&held[which % held.len()]);
                    }
                }
            }
        }
    }
}
