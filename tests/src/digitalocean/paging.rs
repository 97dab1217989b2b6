//! Lists, a page at a time.
use serde_json::{Map, Value, json};

use super::answer::{Answer, Refusal};
use super::asked::{Asked, encoded};
use super::state::State;

/// Which entries of a list a request is shown, and the links to the others.
pub(super) struct Page {
    from: usize,
    to: usize,
    total: usize,
    links: Value,
}

impl Page {
    /// The page that was asked for, of so many entries.
    pub(super) fn of(state: &State, asked: &Asked, total: usize) -> Result<Self, Refusal> {
        let page = asked.number("page", usize::MAX)?.unwrap_or(1);
        let size =
            asked.number("per_page", 200)?.unwrap_or(20).min(state.settings.page_size).max(1);
        let from = (page - 1).saturating_mul(size).min(total);
        let to = from.saturating_add(size).min(total);
        let last = total.div_ceil(size).max(1);
        Ok(Self { from, to, total, links: links(&state.url, asked, page, last) })
    }

    /// What of the list is on the page.
    pub(super) fn cut<'a, T>(&self, list: &'a [T]) -> &'a [T] {
        list.get(self.from..self.to).unwrap_or_default()
    }

    /// The answer with the page's entries.
    pub(super) fn answer(self, name: &str, entries: Vec<Value>) -> Answer {
        let meta = json!({ "total": self.total });
        Answer::ok(json!({ name: entries, "links": self.links, "meta": meta }))
    }
}

/// The answer to a request that lists what is known in full.
pub(super) fn listed(
    state: &State,
    asked: &Asked,
    name: &str,
    all: &[Value],
) -> Result<Answer, Refusal> {
    let page = Page::of(state, asked, all.len())?;
    let entries = page.cut(all).to_vec();
    Ok(page.answer(name, entries))
}

/// Only the links that make sense; none at all if there is one page.
fn links(url: &str, asked: &Asked, page: usize, last: usize) -> Value {
    let mut pages = Map::new();
    let mut add = |name: &str, to: usize| {
        pages.insert(name.to_owned(), Value::String(address(url, asked, to)));
    };
    if page > 1 {
        add("first", 1);
        add("prev", (page - 1).min(last));
    }
    if page < last {
        add("next", page + 1);
        add("last", last);
    }
    if pages.is_empty() { json!({}) } else { json!({ "pages": pages }) }
}

/// The same request for another page.
fn address(url: &str, asked: &Asked, page: usize) -> String {
    let others = asked.request.query.iter().filter(|(key, _)| key != "page");
    let others = others.map(|(key, value)| format!("&{}={}", encoded(key), encoded(value)));
    format!("{url}{}?page={page}{}", asked.request.path, others.collect::<String>())
}
