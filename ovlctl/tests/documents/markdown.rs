//! As much of Markdown as the documents use: fenced blocks, code spans, links, headings, tables.
use std::fs;
use std::path::{Path, PathBuf};

/// A file, and where its parts stand.
pub(crate) struct Document {
    /// Relative to the project's root.
    pub(crate) path: PathBuf,
    pub(crate) blocks: Vec<Block>,
    /// Everything outside of blocks, with the number of each line.
    pub(crate) prose: Vec<(usize, String)>,
}

/// What stands between two fences.
pub(crate) struct Block {
    /// Where its first line stands: `docs/install.md:12`.
    pub(crate) at: String,
    /// The word behind the fence; none: commands.
    pub(crate) kind: String,
    pub(crate) text: String,
}

impl Document {
    pub(crate) fn read(root: &Path, path: &Path) -> Document {
        let text = fs::read_to_string(root.join(path)).unwrap();
        let mut document =
            Document { path: path.to_owned(), blocks: Vec::new(), prose: Vec::new() };
        let mut open: Option<(usize, Block)> = None;
        for (number, line) in (1..).zip(text.lines()) {
            let fence = line.trim_start().strip_prefix("```");
            open = match (open, fence) {
                (None, Some(kind)) => {
                    let at = format!("{}:{}", path.display(), number + 1);
                    let indent = line.len() - line.trim_start().len();
                    let block = Block { at, kind: kind.trim().to_owned(), text: String::new() };
                    Some((indent, block))
                }
                (None, None) => {
                    document.prose.push((number, line.to_owned()));
                    None
                }
                (Some((_, block)), Some(_)) => {
                    document.blocks.push(block);
                    None
                }
                (Some((indent, mut block)), None) => {
                    block.text.push_str(line.get(indent..).unwrap_or_default());
                    block.text.push('\n');
                    Some((indent, block))
                }
            };
        }
        assert!(open.is_none(), "{}: a block does not end", path.display());
        document
    }

    /// Blocks of commands for a shell.
    pub(crate) fn scripts(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter().filter(|block| block.kind.is_empty() || block.kind == "sh")
    }

    pub(crate) fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Block> {
        self.blocks.iter().filter(move |block| block.kind == kind)
    }

    /// Code spans of the prose, also those that go over a line's end.
    pub(crate) fn spans(&self) -> Vec<(usize, String)> {
        let text: String = self.prose.iter().map(|(_, line)| format!("{line}\n")).collect();
        let mut spans = Vec::new();
        let mut line = 0;
        for (index, part) in text.split('`').enumerate() {
            if index % 2 == 1 {
                let at = self.prose.get(line).map_or(0, |(number, _)| *number);
                spans.push((at, part.split_whitespace().collect::<Vec<_>>().join(" ")));
            }
            line += part.matches('\n').count();
        }
        spans
    }

    /// Rows of tables, without their header, as cells.
    pub(crate) fn rows(&self) -> Vec<(usize, Vec<String>)> {
        let row = |line: &str| line.starts_with('|').then(|| cells(line));
        let mut rows = Vec::new();
        let mut inside = false;
        for (number, line) in &self.prose {
            match row(line) {
                None => inside = false,
                Some(cells) if cells.iter().all(|c| c.chars().all(|c| c == '-')) => {
                    inside = cells.iter().all(|c| !c.is_empty());
                }
                Some(cells) if inside => rows.push((*number, cells)),
                Some(_) => {}
            }
        }
        rows
    }

    /// What headings are linked by.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let heading = |line: &String| line.trim_start_matches('#').strip_prefix(' ').map(slug);
        let headings = self.prose.iter().filter(|(_, line)| line.starts_with('#'));
        headings.filter_map(|(_, line)| heading(line)).collect()
    }
}

fn cells(line: &str) -> Vec<String> {
    let inner = line.trim().trim_start_matches('|').trim_end_matches('|');
    let hidden = inner.replace("\\|", "\u{0}");
    hidden.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
}

/// As GitHub makes them.
fn slug(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn a_document_is_taken_apart() {
    let folder = tempfile::tempdir().unwrap();
    let text = "# A `b`: c\n\n| x | y |\n|---|---|\n| `1` | 2 |\n\n- so:\n\n  ```toml\n  a = 1\n  ```\nand `two\nlines`\n";
    fs::write(folder.path().join("a.md"), text).unwrap();
    let document = Document::read(folder.path(), Path::new("a.md"));
    assert_eq!(document.anchors(), ["a-b-c"]);
    assert_eq!(document.rows(), [(5, vec!["`1`".to_owned(), "2".to_owned()])]);
    let block = document.of_kind("toml").next().unwrap();
    assert_eq!((block.at.as_str(), block.text.as_str()), ("a.md:10", "a = 1\n"));
    let spans = [(1, "b".to_owned()), (5, "1".to_owned()), (12, "two lines".to_owned())];
    assert_eq!(document.spans(), spans);
}
