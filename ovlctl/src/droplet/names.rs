//! Names of clusters and droplets, and the tags that say what is ours.
use std::fmt;
use std::str::FromStr;

/// On everything that is made here. What lacks it is nobody's business.
pub(crate) const OURS: &str = "ovl";

/// The cluster of who names none.
pub(crate) const DEFAULT: &str = "default";

/// A cluster: its droplets, its firewall and its record have this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cluster(String);

impl Cluster {
    /// The tag of its droplets, and of nothing else.
    pub(crate) fn tag(&self) -> String {
        format!("{OURS}:cluster:{}", self.0)
    }

    /// Of its firewall at the provider.
    pub(crate) fn firewall(&self) -> String {
        format!("{OURS}-{}", self.0)
    }

    /// The tag of one request: what was made by it has it, even if the answer was lost.
    pub(crate) fn request_tag(&self) -> std::io::Result<String> {
        use std::io::Read as _;
        let mut random = [0; 8];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        Ok(format!("{}{:016x}", self.requests(), u64::from_ne_bytes(random)))
    }

    /// Whether a tag is one that [`Cluster::request_tag`] made.
    pub(crate) fn is_request_tag(&self, tag: &str) -> bool {
        tag.to_ascii_lowercase().starts_with(&self.requests())
    }

    fn requests(&self) -> String {
        format!("{OURS}:request:{}:", self.0)
    }

    /// `ovlctl droplet`, as it stands in commands that are shown: for this cluster.
    pub(crate) fn command(&self) -> String {
        match self.0.as_str() {
            DEFAULT => "ovlctl droplet".to_owned(),
            name => format!("ovlctl droplet --cluster {name}"),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Cluster {
    type Err = &'static str;

    /// 1 to 32 small letters, digits or `-`.
    fn from_str(text: &str) -> Result<Cluster, Self::Err> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        match (1..=32).contains(&text.len()) && text.bytes().all(fits) && !text.starts_with('-') {
            true => Ok(Cluster(text.to_owned())),
            false => Err("1 to 32 small letters, digits or `-`, with a letter or digit first"),
        }
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Whether a droplet may be called so: it becomes its host's name, a name in the cluster and in ssh's
/// configuration. 1 to 63 small letters, digits or `-`, with a letter or digit first and last.
pub(crate) fn is_droplet_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(fits)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Whether the provider takes it as a tag.
pub(crate) fn is_tag(tag: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b":-_".contains(&b);
    (1..=255).contains(&tag.len()) && tag.bytes().all(fits)
}

/// Names out of a pattern with `{n}`: the first `count` numbers that are not taken. A pattern without
/// `{n}` is one name.
pub(crate) fn numbered(
    pattern: &str,
    count: usize,
    is_taken: impl Fn(&str) -> bool,
) -> Vec<String> {
    if !pattern.contains("{n}") {
        return vec![pattern.to_owned()];
    }
    let names = (1..).map(|n: u32| pattern.replace("{n}", &n.to_string()));
    names.filter(|name| !is_taken(name)).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbered_around_those_that_are_there() {
        let taken = |name: &str| name == "workerbee-2";
        assert_eq!(numbered("workerbee-{n}", 2, taken), ["workerbee-1", "workerbee-3"]);
        assert_eq!(numbered("queenbee", 3, taken), ["queenbee"]);
    }

    #[test]
    fn a_name_is_a_host_name_and_nothing_for_a_shell() {
        for good in ["queenbee", "workerbee-1", "1"] {
            assert!(is_droplet_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a b", "a;b", "a.b", "*", &"a".repeat(64)] {
            assert!(!is_droplet_name(bad), "{bad}");
        }
        let cluster = DEFAULT.parse::<Cluster>().unwrap();
        for bad in ["", "-x", "../x", "A", &"x".repeat(33)] {
            assert!(bad.parse::<Cluster>().is_err(), "{bad}");
        }
        let tag = cluster.request_tag().unwrap();
        let other = "default-2".parse::<Cluster>().unwrap();
        assert!(cluster.is_request_tag(&tag) && is_tag(&tag) && !other.is_request_tag(&tag));
        assert!(!cluster.is_request_tag(&cluster.tag()));
    }
}
