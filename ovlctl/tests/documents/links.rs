//! Links lead to a file, and to a heading in it.
use std::path::{Component, Path, PathBuf};

use crate::markdown::Document;
use crate::{document, documents, none_of, root};

#[test]
fn every_relative_link_leads_somewhere() {
    let mut complaints = Vec::new();
    for document in documents() {
        for target in targets(&document) {
            if let Err(why) = follow(&document, &target) {
                complaints.push(format!("{}: {target}: {why}", document.path.display()));
            }
        }
    }
    none_of(complaints);
}

/// What stands in `](…)`, other sites left out.
fn targets(document: &Document) -> Vec<String> {
    let text: String = document.prose.iter().map(|(_, line)| format!("{line}\n")).collect();
    let links = text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    links.filter(|target| !target.contains("://")).map(str::to_owned).collect()
}

fn follow(from: &Document, target: &str) -> Result<(), String> {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let folder = from.path.parent().unwrap_or(Path::new(""));
    let path = if file.is_empty() { from.path.clone() } else { plain(&folder.join(file)) };
    if !root().join(&path).exists() {
        return Err("there is no such file".to_owned());
    }
    if anchor.is_empty() {
        return Ok(());
    }
    let anchors = document(&path.display().to_string()).anchors();
    match anchors.iter().any(|known| known == anchor) {
        true => Ok(()),
        false => Err(format!("there is no such heading; there are {}", anchors.join(", "))),
    }
}

/// Without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}
