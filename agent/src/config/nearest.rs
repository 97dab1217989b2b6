//! "Did you mean": the known name that a mistyped one is nearest to.
use super::key::Key;

/// The key whose name is so near to `name` that it is likely the one meant; case, and `_` for
/// `-`, do not count.
pub(super) fn nearest(name: &str) -> Option<Key> {
    let name = name.to_lowercase().replace('_', "-");
    let allowed = |key: &Key| (key.name().len() / 3).clamp(1, 3);
    Key::ALL
        .into_iter()
        .map(|key| (distance(&name, key.name()), key))
        .filter(|(distance, key)| *distance <= allowed(key))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, key)| key)
}

/// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let differs = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + differs);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_miss_names_the_key_that_was_meant() {
        for (miss, meant) in [
            ("gosip-port", Key::GossipPort),
            ("gossip_port", Key::GossipPort),
            ("GossipPort", Key::GossipPort),
            ("vxlanport", Key::VxlanPort),
            ("nodename", Key::NodeName),
            ("jion", Key::Join),
            ("stroe", Key::Store),
            ("LOG", Key::Log),
            ("advertize", Key::Advertise),
            ("resolv.conf", Key::ResolvConf),
        ] {
            assert_eq!(nearest(miss), Some(meant), "{miss}");
        }
    }

    #[test]
    fn a_far_miss_names_nothing() {
        for miss in ["", "x", "colour", "encryption-key", &"z".repeat(10_000)] {
            assert_eq!(nearest(miss), None, "{miss}");
        }
    }
}
