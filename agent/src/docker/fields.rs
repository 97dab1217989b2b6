//! One JSON object of a request, read field by field, so that an error names field and value.
//!
//! Go writes and reads these bodies, and so its rules hold: keys match whatever their case (the
//! exact one first), a null is as good as an absent field, unknown fields are left alone.
use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Map, Value};

/// Longest id of a network, endpoint or sandbox, in bytes. Docker's are 64 hexadecimal digits,
/// 25 characters in Swarm mode; longer ones are refused, as the cluster could not carry them.
pub(super) const MAX_ID: usize = 64;

/// Longest id of a pool, in bytes: this driver's own are far shorter.
const MAX_POOL_ID: usize = 255;

/// Longest path, in bytes, as the kernel takes it (`PATH_MAX` without its final zero).
const MAX_PATH: usize = 4095;

/// Longest value that an error repeats, in characters.
const SHOWN: usize = 80;

/// What a field of addresses may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    fn holds(self, net: IpNet) -> bool {
        match self {
            Self::V4 => net.addr().is_ipv4(),
            Self::V6 => net.addr().is_ipv6(),
        }
    }

    fn cidr(self) -> &'static str {
        match self {
            Self::V4 => CIDR4,
            Self::V6 => CIDR6,
        }
    }
}

const CIDR4: &str = "an IPv4 address with a prefix length, such as 10.1.0.0/16";
const CIDR6: &str = "an IPv6 address with a prefix length, such as fd00:1::/64";

/// Why a body was refused. Nothing was done.
#[derive(Debug, thiserror::Error)]
pub(super) enum FieldError {
    /// Not JSON, or nested deeper than 128 levels.
    #[error("the body is not JSON: {0}")]
    NotJson(serde_json::Error),
    /// dockerd repeats a request after a broken connection, but without its body.
    #[error(
        "the body is empty: Docker lost it when it sent this request again after a broken \
         connection; repeat the command"
    )]
    Empty,
    /// Another JSON type.
    #[error("{field}: expected {expected}, found {found}")]
    Type {
        /// Where it stands, as in `IPv4Data[0].Pool`.
        field: String,
        /// What must stand there.
        expected: &'static str,
        /// What does.
        found: &'static str,
    },
    /// A field that this method cannot do without.
    #[error("{field}: missing or empty")]
    Missing {
        /// Where it should stand.
        field: String,
    },
    /// The right type with a wrong value.
    #[error("{field}: {value:?} is not {expected}")]
    Value {
        /// Where it stands.
        field: String,
        /// The value, shortened.
        value: String,
        /// What it must be.
        expected: &'static str,
    },
}

/// A JSON object, with the place where it stands in the body.
#[derive(Debug, Default)]
pub(super) struct Fields {
    place: String,
    map: Map<String, Value>,
}

impl Fields {
    /// Reads a whole body.
    pub(super) fn parse(body: &[u8]) -> Result<Self, FieldError> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Err(FieldError::Empty);
        }
        let value = serde_json::from_slice(body).map_err(FieldError::NotJson)?;
        Self::within("body".to_owned(), String::new(), value)
    }

    fn within(field: String, place: String, value: Value) -> Result<Self, FieldError> {
        match value {
            Value::Object(map) => Ok(Self { place, map }),
            other => Err(mistyped(field, "an object", &other)),
        }
    }

    /// Text, parsed or not; None when absent, null or empty.
    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, FieldError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(mistyped(self.field(key), "text", other)),
        }
    }

    /// Text that must be there.
    pub(super) fn required(&self, key: &str) -> Result<String, FieldError> {
        self.present(key, self.text(key)?.map(str::to_owned))
    }

    /// What was read of a field that must be there.
    pub(super) fn present<T>(&self, key: &str, value: Option<T>) -> Result<T, FieldError> {
        value.ok_or_else(|| FieldError::Missing { field: self.field(key) })
    }

    /// An id: up to [`MAX_ID`] printable ASCII characters.
    pub(super) fn id(&self, key: &str) -> Result<String, FieldError> {
        let id = self.required(key)?;
        if id.len() <= MAX_ID && id.bytes().all(|b| b.is_ascii_graphic()) {
            return Ok(id);
        }
        Err(self.wrong(key, &id, "an id of at most 64 printable ASCII characters"))
    }

    /// A boolean; false when absent or null.
    pub(super) fn flag(&self, key: &str) -> Result<bool, FieldError> {
        match self.value(key) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(mistyped(self.field(key), "true or false", other)),
        }
    }

    /// A pool's id: printable ASCII characters, no more than a pool of this driver can have.
    pub(super) fn pool_id(&self, key: &str) -> Result<String, FieldError> {
        let id = self.required(key)?;
        if id.len() <= MAX_POOL_ID && id.bytes().all(|b| b.is_ascii_graphic()) {
            return Ok(id);
        }
        Err(self.wrong(key, &id, "an id of at most 255 printable ASCII characters"))
    }

    /// A path, not looked at any further.
    pub(super) fn path(&self, key: &str) -> Result<String, FieldError> {
        let path = self.required(key)?;
        if path.len() <= MAX_PATH && !path.contains(char::is_control) {
            return Ok(path);
        }
        Err(self.wrong(key, &path, "a path of at most 4095 bytes without control characters"))
    }

    /// A network or an address with its prefix length; host bits are kept.
    pub(super) fn cidr(&self, key: &str, family: Family) -> Result<Option<IpNet>, FieldError> {
        match self.parsed(key, family.cidr())? {
            Some(net) if !family.holds(net) => {
                Err(self.wrong(key, &net.to_string(), family.cidr()))
            }
            net => Ok(net),
        }
    }

    /// An IPv4 address with its prefix length.
    pub(super) fn cidr4(&self, key: &str) -> Result<Option<Ipv4Net>, FieldError> {
        self.parsed(key, CIDR4)
    }

    /// An IPv6 address with its prefix length.
    pub(super) fn cidr6(&self, key: &str) -> Result<Option<Ipv6Net>, FieldError> {
        self.parsed(key, CIDR6)
    }

    /// An address of either family.
    pub(super) fn address(&self, key: &str) -> Result<Option<IpAddr>, FieldError> {
        self.parsed(key, "an IPv4 or IPv6 address")
    }

    /// A MAC of six octets, as in `02:42:0a:01:00:02`.
    pub(super) fn mac(&self, key: &str) -> Result<Option<[u8; 6]>, FieldError> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        let wrong = || self.wrong(key, text, "a MAC address such as 02:42:0a:01:00:02");
        parse_mac(text).map(Some).ok_or_else(wrong)
    }

    /// An object; an empty one when absent or null.
    pub(super) fn object(&self, key: &str) -> Result<Self, FieldError> {
        let value = self.value(key).cloned();
        let value = value.unwrap_or_else(|| Value::Object(Map::new()));
        Self::within(self.field(key), self.field(key), value)
    }

    /// A list of objects; an empty one when absent or null.
    pub(super) fn list(&self, key: &str) -> Result<Vec<Self>, FieldError> {
        let field = self.field(key);
        match self.value(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => (0..)
                .map(|index| format!("{field}[{index}]"))
                .zip(values.iter().cloned())
                .map(|(place, value)| Self::within(place.clone(), place, value))
                .collect(),
            Some(other) => Err(mistyped(field, "a list", other)),
        }
    }

    /// The fields, each of which must be text (null: empty).
    pub(super) fn texts(&self) -> Result<BTreeMap<String, String>, FieldError> {
        let text = |key: &String| Ok((key.clone(), self.text(key)?.unwrap_or_default().to_owned()));
        self.map.keys().map(text).collect()
    }

    /// Those fields that are text; the others are left alone.
    pub(super) fn only_texts(&self) -> BTreeMap<String, String> {
        let text =
            |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
        self.map.iter().filter_map(text).collect()
    }

    /// The fields, each of which must be an address with a prefix length.
    pub(super) fn cidrs(&self, family: Family) -> Result<BTreeMap<String, IpNet>, FieldError> {
        let present =
            |key: &String| Some(self.cidr(key, family).transpose()?.map(|net| (key.clone(), net)));
        self.map.keys().filter_map(present).collect()
    }

    fn parsed<T: std::str::FromStr>(
        &self,
        key: &str,
        expected: &'static str,
    ) -> Result<Option<T>, FieldError> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        let wrong = |_| self.wrong(key, text, expected);
        text.parse().map(Some).map_err(wrong)
    }

    fn value(&self, key: &str) -> Option<&Value> {
        let alike = || self.map.iter().find(|(k, _)| k.eq_ignore_ascii_case(key));
        let found = self.map.get(key).or_else(|| alike().map(|(_, v)| v));
        found.filter(|value| !value.is_null())
    }

    fn field(&self, key: &str) -> String {
        let key = shown(key).escape_debug().to_string();
        match self.place.as_str() {
            "" => key,
            place => format!("{place}.{key}"),
        }
    }

    fn wrong(&self, key: &str, value: &str, expected: &'static str) -> FieldError {
        FieldError::Value { field: self.field(key), value: shown(value).to_owned(), expected }
    }
}

/// As much of a value as an error repeats.
pub(super) fn shown(value: &str) -> &str {
    value.char_indices().nth(SHOWN).map_or(value, |(end, _)| &value[..end])
}

fn mistyped(field: String, expected: &'static str, found: &Value) -> FieldError {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    FieldError::Type { field, expected, found }
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut octets = text.split(':');
    for byte in &mut mac {
        let octet = octets.next().filter(|o| o.len() == 2)?;
        // `from_str_radix` would also take a sign.
        if !octet.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(octet, 16).ok()?;
    }
    octets.next().is_none().then_some(mac)
}
