//! The documents for operators are real: their commands parse, their settings exist, their links
//! lead somewhere, what they quote is in the code. Nothing of them is carried out, but for firewall
//! rules, in a network namespace of their own. Needs root, `nft` and `iptables`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod commands;
mod firewalls;
mod links;
mod markdown;
mod quotes;

use std::fs;
use std::path::{Path, PathBuf};

use markdown::Document;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// README, SECURITY, and all of docs/.
fn documents() -> Vec<Document> {
    let mut files: Vec<PathBuf> = vec!["README.md".into(), "SECURITY.md".into()];
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            files.push(Path::new("docs").join(name));
        }
    }
    files.sort();
    assert!(files.len() > 10, "{files:?}");
    files.into_iter().map(|file| Document::read(root(), &file)).collect()
}

fn document(path: &str) -> Document {
    Document::read(root(), Path::new(path))
}

/// Every complaint at once: a document is mended in one go.
#[track_caller]
fn none_of(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// The project's own code, tests left out, one text.
fn code() -> String {
    let mut text = String::new();
    for member in ["agent", "gossip", "ipam", "ovlctl", "packet", "vxlan"] {
        gather(&root().join(member).join("src"), &mut text);
    }
    text
}

/// Every Rust file below a folder.
fn gather(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}
