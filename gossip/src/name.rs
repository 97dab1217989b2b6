//! The name of a node: parsed at the edge, cheap to clone, valid for as long as it lives.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest node name in bytes: one DNS label (RFC 1035, section 2.3.4).
pub const MAX_NODE_NAME: usize = 63;

/// Name of a host in the cluster: 1 to 63 bytes of `[A-Za-z0-9_.-]`, starting with a letter or a digit.
///
/// Two live hosts must not share one; see [`Changes::name_conflict`](crate::Changes::name_conflict).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

/// A text is no node name; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "node name {text:?} is not valid: use 1 to 63 letters, digits, '_', '.' or '-', starting with a letter or digit"
)]
pub struct NameError {
    text: String,
}

impl FromStr for NodeName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let starts_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let fits = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
        if starts_well && fits && text.len() <= MAX_NODE_NAME {
            Ok(Self(text.into()))
        } else {
            // What is shown is bounded: the text may come from a peer.
            let text = text.chars().take(MAX_NODE_NAME + 1).collect();
            Err(NameError { text })
        }
    }
}

impl AsRef<str> for NodeName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for NodeName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NodeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl Visitor<'_> for NameVisitor {
    type Value = NodeName;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a node name")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<NodeName, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_to_sixty_three_plain_characters_are_taken() {
        for text in ["a", "0", "host-1.example_x", &"h".repeat(63)] {
            assert_eq!(text.parse::<NodeName>().unwrap().as_ref(), text);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in ["", "-a", ".a", "_a", "a b", "ä", "a/b", &"h".repeat(64)] {
            assert!(text.parse::<NodeName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_name_is_checked_when_it_arrives_in_a_packet() {
        let good = postcard::to_stdvec("node-1").unwrap();
        let bad = postcard::to_stdvec("node 1").unwrap();
        assert_eq!(postcard::from_bytes::<NodeName>(&good).unwrap().to_string(), "node-1");
        assert!(postcard::from_bytes::<NodeName>(&bad).is_err());
    }
}
