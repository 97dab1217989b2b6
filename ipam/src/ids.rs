//! What identifies a network, parsed once at the edge.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Cluster-wide identity of a network: never given out twice, even when a name comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetworkId(pub u64);

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 24-bit VXLAN network identifier (RFC 7348, section 5), 1..=16777215.
///
/// 0 is left out: much equipment takes it for "no VNI".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

impl Vni {
    /// The largest value of 24 bits.
    pub const MAX: Vni = Vni(0x00ff_ffff);

    /// `None` for 0 and for what does not fit 24 bits.
    #[must_use]
    pub const fn new(value: u32) -> Option<Vni> {
        if value == 0 || value > Vni::MAX.0 {
            return None;
        }
        Some(Vni(value))
    }

    /// The number on the wire.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }

    /// For constants of this crate; outside 1..=16777215 it does not compile.
    pub(crate) const fn constant(value: u32) -> Vni {
        assert!(value > 0 && value <= Vni::MAX.0);
        Vni(value)
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u32> for Vni {
    type Error = ParseVniError;

    fn try_from(value: u32) -> Result<Vni, ParseVniError> {
        Vni::new(value).ok_or_else(|| ParseVniError(value.to_string()))
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> u32 {
        vni.0
    }
}

impl FromStr for Vni {
    type Err = ParseVniError;

    fn from_str(text: &str) -> Result<Vni, ParseVniError> {
        let value = text.trim().parse().ok().and_then(Vni::new);
        value.ok_or_else(|| ParseVniError(text.to_owned()))
    }
}

/// Not a VNI.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a VNI: give a number from 1 to 16777215")]
pub struct ParseVniError(String);

/// `first..=last`, written `4097-65535`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VniRange {
    /// The lowest one, given out first.
    pub first: Vni,
    /// The highest one, given out too. A range whose last is below its first is empty.
    pub last: Vni,
}

impl fmt::Display for VniRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for VniRange {
    type Err = ParseVniRangeError;

    fn from_str(text: &str) -> Result<VniRange, ParseVniRangeError> {
        let error = || ParseVniRangeError(text.to_owned());
        let (first, last) = text.split_once('-').ok_or_else(error)?;
        let first: Vni = first.parse().map_err(|_| error())?;
        let last: Vni = last.parse().map_err(|_| error())?;
        if last < first {
            return Err(error());
        }
        Ok(VniRange { first, last })
    }
}

/// Not a range of VNIs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a range of VNIs: write it as FIRST-LAST, both from 1 to 16777215, the smaller one first"
)]
pub struct ParseVniRangeError(String);

/// Name of a network: 1 to 63 of letters, digits, `_`, `.` and `-`, the first a letter or a digit.
///
/// Case is kept; two names that differ only in case cannot be in one cluster, as a resolver
/// could not tell them apart (RFC 4343).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkName(String);

impl NetworkName {
    /// A label of a domain name holds 63 bytes (RFC 1035, section 2.3.4).
    pub const MAX_LEN: usize = 63;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NetworkName {
    type Err = ParseNetworkNameError;

    fn from_str(text: &str) -> Result<NetworkName, ParseNetworkNameError> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let starts_well = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if !starts_well || text.len() > NetworkName::MAX_LEN || !text.bytes().all(legal) {
            let shown = text.chars().take(NetworkName::MAX_LEN + 1).collect();
            return Err(ParseNetworkNameError(shown));
        }
        Ok(NetworkName(text.to_owned()))
    }
}

impl TryFrom<String> for NetworkName {
    type Error = ParseNetworkNameError;

    fn try_from(text: String) -> Result<NetworkName, ParseNetworkNameError> {
        text.parse()
    }
}

impl From<NetworkName> for String {
    fn from(name: NetworkName) -> String {
        name.0
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl AsRef<str> for NetworkName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for NetworkName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Not a network's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot name a network: take 1 to 63 letters, digits, \"_\", \".\" or \"-\", and start with a letter or a digit"
)]
pub struct ParseNetworkNameError(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vni_has_24_bits_and_is_never_0() {
        assert_eq!(Vni::new(0), None);
        assert_eq!(Vni::new(1).map(Vni::value), Some(1));
        assert_eq!(Vni::new(16_777_215), Some(Vni::MAX));
        assert_eq!(Vni::new(16_777_216), None);
        assert!(serde_json::from_str::<Vni>("0").is_err());
        assert!(serde_json::from_str::<Vni>("16777216").is_err());
    }

    #[test]
    fn a_vni_range_is_shown_as_it_is_read() {
        let range: VniRange = "4097-65535".parse().unwrap();
        assert_eq!((range.first.value(), range.last.value()), (4097, 65535));
        assert_eq!(range.to_string(), "4097-65535");
        assert_eq!("7-7".parse::<VniRange>().unwrap().to_string(), "7-7");
        for bad in ["", "7", "-", "8-7", "0-7", "1-16777216", "1-2-3", "a-b"] {
            assert!(bad.parse::<VniRange>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_network_name_is_safe_in_dns_files_and_urls() {
        for good in ["a", "RethinkDB", "0", "a_b.c-d", &"x".repeat(63)] {
            assert_eq!(good.parse::<NetworkName>().unwrap().as_ref(), good);
        }
        for bad in ["", ".a", "-a", "_a", "a b", "a/b", "ä", "a\n", &"x".repeat(64)] {
            assert!(bad.parse::<NetworkName>().is_err(), "{bad:?} was taken");
            assert!(serde_json::from_value::<NetworkName>(bad.into()).is_err());
        }
    }
}
