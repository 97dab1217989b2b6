//! The DNS names of a container, out of what Docker knows of it.
//!
//! Until API 1.43 an endpoint has `Aliases`, into which Docker mixes the short id and the host
//! name, but not the container's name; from 1.44 on it also has `DNSNames` with all of them. Both
//! are read, so the version of the API need not be known.
use std::collections::BTreeSet;

/// Names that an endpoint may have, as many as the cluster's endpoint table carries. Of more, the
/// later aliases are left out; the container's name and its short id stay.
pub const MAX_NAMES: usize = 16;

/// Longest name, in bytes, as the cluster's endpoint table carries it. Longer ones are left out.
pub const MAX_NAME: usize = 63;

/// Hexadecimal digits of a container's id that Docker takes for its short form.
const SHORT_ID: usize = 12;

/// What Docker calls a container, on one of its networks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Called<'a> {
    /// 64 hexadecimal digits.
    pub(super) id: &'a str,
    /// With or without the slash that the API puts before it.
    pub(super) name: &'a str,
    /// The user's, or the short id.
    pub(super) hostname: &'a str,
    /// `Aliases` of the endpoint.
    pub(super) aliases: &'a [String],
    /// `DNSNames` of the endpoint.
    pub(super) dns_names: &'a [String],
}

/// All names in the order they are told: name, aliases, host name, short id.
pub(super) fn names(called: Called<'_>) -> Vec<String> {
    let short = dns_name(called.id.get(..SHORT_ID).unwrap_or(called.id));
    let aliases = called.dns_names.iter().chain(called.aliases);
    let mut seen = BTreeSet::new();
    let mut names: Vec<String> = std::iter::once(called.name)
        .chain(aliases.map(String::as_str))
        .chain(std::iter::once(called.hostname))
        .filter_map(dns_name)
        .filter(|name| Some(name) != short.as_ref() && seen.insert(name.clone()))
        .take(MAX_NAMES - 1)
        .collect();
    names.extend(short);
    names
}

/// The name in lower case, if DNS can carry it: labels of 1 to 63 letters, digits, `-` or `_`
/// (which Docker allows and resolvers take), none of which starts or ends with `-`.
pub(super) fn dns_name(name: &str) -> Option<String> {
    let name = name.strip_prefix('/').unwrap_or(name);
    let valid = name.len() <= MAX_NAME && name.split('.').all(is_label);
    valid.then(|| name.to_ascii_lowercase())
}

fn is_label(label: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=63).contains(&label.len())
        && label.bytes().all(allowed)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn before_api_1_44_the_name_comes_from_the_container_and_the_rest_from_the_aliases() {
        let aliases = owned(&["web", "0123456789ab", "box.example"]);
        let called = Called {
            id: ID,
            name: "/Leader",
            hostname: "box.example",
            aliases: &aliases,
            dns_names: &[],
        };
        assert_eq!(names(called), ["leader", "web", "box.example", "0123456789ab"]);
    }

    #[test]
    fn from_api_1_44_on_dns_names_and_aliases_say_the_same_once() {
        let dns_names = owned(&["leader", "web", "0123456789ab", "box"]);
        let aliases = owned(&["web"]);
        let called = Called {
            id: ID,
            name: "/leader",
            hostname: "box",
            aliases: &aliases,
            dns_names: &dns_names,
        };
        assert_eq!(names(called), ["leader", "web", "box", "0123456789ab"]);
    }

    #[test]
    fn a_host_name_that_docker_made_is_only_the_short_id() {
        let called = Called { id: ID, name: "/a", hostname: "0123456789ab", ..Called::default() };
        assert_eq!(names(called), ["a", "0123456789ab"]);
    }

    #[test]
    fn what_dns_cannot_carry_is_left_out() {
        let long = "a".repeat(64);
        for bad in ["", "/", ".", "a..b", "-a", "a-", "a b", "ä", "a.", "a/b", "a\0", &long] {
            assert_eq!(dns_name(bad), None, "{bad:?}");
        }
        for good in ["a", "a_b", "_a", "a-b.c", "9", &long[..63]] {
            assert_eq!(dns_name(good).as_deref(), Some(good));
        }
    }

    #[test]
    fn of_too_many_aliases_the_name_and_the_short_id_stay() {
        let aliases: Vec<String> = (0..100).map(|n| format!("alias{n}")).collect();
        let called = Called { id: ID, name: "/a", aliases: &aliases, ..Called::default() };
        let names = names(called);
        assert_eq!(names.len(), MAX_NAMES);
        assert_eq!(names.first().map(String::as_str), Some("a"));
        assert_eq!(names.last().map(String::as_str), Some("0123456789ab"));
    }
}
