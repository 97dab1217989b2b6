//! The list of all checks, and which of them are wanted.

use std::collections::BTreeSet;

use super::GROUPS;

/// One check, for `ovlctl doctor --list`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Check {
    /// Dotted: a topic, and what of it.
    pub id: &'static str,
    /// What it is called.
    pub title: &'static str,
    /// What is looked at, for people.
    pub looks_at: &'static str,
    /// Why it matters, in one line.
    pub why: &'static str,
}

/// Every check, in the order in which people are told.
pub fn all() -> impl Iterator<Item = &'static Check> {
    GROUPS.iter().flat_map(|group| group.checks)
}

/// Its place in the list; unknown ones last.
pub(super) fn position(id: &str) -> usize {
    all().position(|check| check.id == id).unwrap_or(usize::MAX)
}

/// There is no such check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no check {given:?}; there are {}", known())]
pub struct UnknownCheck {
    /// What was asked for.
    pub given: String,
}

fn known() -> String {
    all().map(|check| check.id).collect::<Vec<_>>().join(", ")
}

/// Which checks are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Only {
    /// None: all.
    ids: Option<BTreeSet<&'static str>>,
}

impl Only {
    /// Every check.
    #[must_use]
    pub fn all() -> Only {
        Only::default()
    }

    /// Those named by ids (`kernel.version`) and by the topics before the dot (`kernel`). No names:
    /// all of them.
    ///
    /// # Errors
    /// The first name that is of none.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Only, UnknownCheck> {
        let mut ids = BTreeSet::new();
        for name in names.into_iter().map(str::trim).filter(|name| !name.is_empty()) {
            let topic = format!("{}.", name.trim_end_matches('.'));
            let named = |id: &&str| *id == name || id.starts_with(&topic);
            let found: Vec<&str> = all().map(|check| check.id).filter(named).collect();
            if found.is_empty() {
                return Err(UnknownCheck { given: name.chars().take(80).collect() });
            }
            ids.extend(found);
        }
        Ok(Only { ids: (!ids.is_empty()).then_some(ids) })
    }

    /// Whether that check is wanted.
    #[must_use]
    pub fn wants(&self, id: &str) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(id))
    }
}
