//! The fields of a JSON object, taken out one by one: what is left at the end is unknown.
use serde_json::{Map, Value};

use super::answer::Refusal;

/// An object whose fields are being checked.
pub(super) struct Fields {
    left: Map<String, Value>,
    place: String,
}

impl Fields {
    /// The fields of an object; `place` is its name in messages.
    pub(super) fn of(value: Value, place: impl Into<String>) -> Result<Self, Refusal> {
        let place = place.into();
        match value {
            Value::Object(left) => Ok(Self { left, place }),
            _ => Err(Refusal::broken(format!("{place} is not an object"))),
        }
    }

    /// Takes a field of any type.
    pub(super) fn any(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name)
    }

    /// Takes a string.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.left.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "a string")),
        }
    }

    /// Takes a string that has to be there, and not be empty.
    pub(super) fn need_text(&mut self, name: &str) -> Result<String, Refusal> {
        match self.text(name)? {
            Some(text) if !text.is_empty() => Ok(text),
            Some(_) => Err(self.wrong(name, "a string that is not empty")),
            None => Err(Refusal::broken(format!("{}: {name} is required", self.place))),
        }
    }

    /// Takes a boolean.
    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.left.remove(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(self.wrong(name, "a boolean")),
        }
    }

    /// Takes an array.
    pub(super) fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, Refusal> {
        match self.left.remove(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(_) => Err(self.wrong(name, "an array")),
        }
    }

    /// Takes an array for which the documentation lets `null` stand too.
    pub(super) fn list_or_null(&mut self, name: &str) -> Result<Option<Vec<Value>>, Refusal> {
        if self.left.get(name).is_some_and(Value::is_null) {
            self.left.remove(name);
        }
        self.list(name)
    }

    /// Takes an array of strings, or `null`.
    pub(super) fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>, Refusal> {
        let Some(list) = self.list_or_null(name)? else { return Ok(None) };
        let texts = list.iter().map(|v| v.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
        texts.map(Some).ok_or_else(|| self.wrong(name, "an array of strings"))
    }

    /// Takes an array of numbers of droplets, or `null`.
    pub(super) fn numbers(&mut self, name: &str) -> Result<Option<Vec<u64>>, Refusal> {
        let Some(list) = self.list_or_null(name)? else { return Ok(None) };
        let numbers = list.iter().map(Value::as_u64).collect::<Option<Vec<_>>>();
        numbers.map(Some).ok_or_else(|| self.wrong(name, "an array of integers"))
    }

    /// Whether there is such a field still.
    pub(super) fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), Refusal> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(name) => Err(Refusal::broken(format!("{}: unknown field {name}", self.place))),
        }
    }

    fn wrong(&self, name: &str, expected: &str) -> Refusal {
        Refusal::broken(format!("{}: {name} is not {expected}", self.place))
    }
}
