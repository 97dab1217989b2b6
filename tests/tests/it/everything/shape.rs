//! The shape of an answer, as the help of a command writes it: `JSON: [{name, store: {url, error}}]`.
use std::collections::BTreeMap;

use serde_json::Value;

/// What stands where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Any value.
    Any,
    /// An object with these keys. Those of the second map may be missing.
    Object(BTreeMap<String, Shape>, BTreeMap<String, Shape>),
    /// A list of such.
    List(Box<Shape>),
}

impl Shape {
    /// The one that follows `JSON`; with a flag, the one that the flag's own words show.
    pub(super) fn of_help(help: &str, flag: Option<&str>) -> Option<Shape> {
        let words: Vec<&str> = help.split_whitespace().collect();
        let help = words.join(" ");
        let from = match flag {
            None => help.find("JSON: ").or_else(|| help.find("JSON, an object a line: "))?,
            Some(flag) => {
                let own = help.find(&format!("with {flag} "));
                let of_flag = || {
                    let at = help.rfind(&format!(" {flag} "))?;
                    Some(at + help[at..].find("JSON: ")?)
                };
                own.or_else(of_flag)?
            }
        };
        let rest = &help[from..];
        let mut text = Text { rest: &rest[rest.find(['{', '['])?..] };
        let mut shape = text.value()?;
        // `{seq, kind}, and where it applies host, network`.
        if let Some(more) = text.rest.strip_prefix(", and where it applies ")
            && let Shape::Object(_, optional) = &mut shape
        {
            let more = more.split([';', '.']).next()?;
            optional.extend(more.split(',').map(|name| (name.trim().to_owned(), Shape::Any)));
        }
        Some(shape)
    }

    /// Whether a value is like this; else where it is not.
    pub(super) fn takes(&self, value: &Value) -> Result<(), String> {
        match (self, value) {
            (Shape::Any, _) | (_, Value::Null) => Ok(()),
            (Shape::List(of), Value::Array(values)) => {
                values.iter().try_for_each(|value| of.takes(value))
            }
            (Shape::Object(keys, optional), Value::Object(members)) => {
                if let Some(missing) = keys.keys().find(|key| !members.contains_key(*key)) {
                    return Err(format!("{missing} is missing"));
                }
                for (name, value) in members {
                    let shape = keys.get(name).or_else(|| optional.get(name));
                    let shape = shape.ok_or_else(|| format!("{name} is in no help"))?;
                    shape.takes(value).map_err(|why| format!("{name}: {why}"))?;
                }
                Ok(())
            }
            (shape, value) => Err(format!("{value} is not {shape:?}")),
        }
    }
}

struct Text<'a> {
    rest: &'a str,
}

impl Text<'_> {
    fn value(&mut self) -> Option<Shape> {
        match self.rest.chars().next()? {
            '{' => self.object(),
            '[' => {
                self.skip(1);
                let of = self.value()?;
                // `[name, …]`
                self.skip(self.rest.find(']')? + 1);
                Some(Shape::List(Box::new(of)))
            }
            _ => {
                self.skip(self.rest.find([',', '}', ']']).unwrap_or(self.rest.len()));
                Some(Shape::Any)
            }
        }
    }

    fn object(&mut self) -> Option<Shape> {
        self.skip(1);
        if let Some(rest) = self.rest.strip_prefix("…}") {
            self.rest = rest;
            return Some(Shape::Any);
        }
        let mut keys = BTreeMap::new();
        loop {
            let end = self.rest.find([',', '}', ':'])?;
            let name = self.rest[..end].trim().to_owned();
            self.skip(end);
            let mut shape = Shape::Any;
            if self.rest.starts_with(':') {
                self.skip(1);
                self.rest = self.rest.trim_start();
                shape = self.value()?;
            }
            keys.insert(name, shape);
            let end = self.rest.starts_with('}');
            self.skip(1);
            if end {
                return Some(Shape::Object(keys, BTreeMap::new()));
            }
        }
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }
}

#[test]
fn a_shape_is_read_and_held_against_values() {
    let help = "Shows. JSON: [{name, of: {a, b: [{…}]}, list: [x, …]}], and so on.";
    let shape = Shape::of_help(help, None).unwrap();
    let fine = serde_json::json!([{"name": 1, "of": {"a": null, "b": [{"c": 1}]}, "list": ["y"]}]);
    assert_eq!(shape.takes(&fine), Ok(()));
    let more = serde_json::json!([{"name": 1, "of": {"a": 1, "b": [], "z": 1}, "list": []}]);
    assert_eq!(shape.takes(&more), Err("of: z is in no help".to_owned()));
    let less = serde_json::json!([{"name": 1, "list": []}]);
    assert_eq!(shape.takes(&less), Err("of is missing".to_owned()));
}
