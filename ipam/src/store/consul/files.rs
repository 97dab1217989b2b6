//! The files that a Consul store's URL names: the token, which is a secret, and certificates.
//!
//! The token's file must be closed to everybody but root and this process's user; its group may
//! read. The file that was opened is judged, not its name, so nobody can put another one in its
//! place in between; a symlink counts as the file that it leads to. What systemd's
//! `LoadCredential=` makes fits as it is.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use reqwest_011 as reqwest;

use crate::errors::OpenError;
use crate::url::StoreUrl;

/// At most so many bytes are read: it may be any file.
const MAX_FILE: u64 = 1 << 20;

const TOKEN_VARIABLE: &str = "CONSUL_HTTP_TOKEN";

/// What keeps the files that `url` names from being used, all of it. Nothing is sent or changed.
#[must_use]
pub fn check_files(url: &StoreUrl) -> Vec<OpenError> {
    let StoreUrl::Consul { token_file, ca_file, .. } = url else {
        return Vec::new();
    };
    let token = token(token_file.as_deref(), None).and_then(|t| {
        t.map_or(Ok(()), |token| super::http::sensitive(&token, token_file.as_deref()).map(drop))
    });
    let certificates = ca_file.as_deref().map(certificates);
    token.err().into_iter().chain(certificates.and_then(Result::err)).collect()
}

/// Of the file, or else of the environment, in whose place `variable` counts; an empty one is none.
pub(super) fn token(
    file: Option<&Path>,
    variable: Option<&str>,
) -> Result<Option<String>, OpenError> {
    let text = match file {
        Some(path) => String::from_utf8(secret(path)?).map_err(|_| unusable(file))?,
        None => match variable {
            Some(value) => value.to_owned(),
            None => std::env::var(TOKEN_VARIABLE).unwrap_or_default(),
        },
    };
    let token = text.trim();
    if file.is_some() && token.is_empty() {
        return Err(unusable(file));
    }
    Ok((!token.is_empty()).then(|| token.to_owned()))
}

pub(super) fn unusable(file: Option<&Path>) -> OpenError {
    let what = match file {
        Some(path) => format!("the token in {}", path.display()),
        None => format!("the token in {TOKEN_VARIABLE}"),
    };
    OpenError::Unusable { what, why: "it is empty, or not one line of plain text" }
}

pub(super) fn certificates(path: &Path) -> Result<Vec<reqwest::Certificate>, OpenError> {
    const END: &str = "-----END CERTIFICATE-----";
    let what = || format!("the CA file {}", path.display());
    let bad = || OpenError::Unusable { what: what(), why: "it holds no PEM certificate" };
    let (file, _) = open(path, "the CA file")?;
    let text = String::from_utf8(read(file, path, "the CA file")?).map_err(|_| bad())?;
    let blocks = text.split_inclusive(END).filter(|block| block.contains(END));
    let parsed = blocks.map(|b| reqwest::Certificate::from_pem(b.as_bytes()).map_err(|_| bad()));
    let parsed = parsed.collect::<Result<Vec<_>, _>>()?;
    if parsed.is_empty() { Err(bad()) } else { Ok(parsed) }
}

fn secret(path: &Path) -> Result<Vec<u8>, OpenError> {
    const WHAT: &str = "the token file";
    let (file, found) = open(path, WHAT)?;
    let me = geteuid().as_raw();
    match todo(found.mode(), found.uid(), me, &shell_word(path)) {
        None => read(file, path, WHAT),
        Some(todo) => Err(OpenError::Exposed {
            what: WHAT,
            path: path.display().to_string(),
            mode: found.mode() & 0o7777,
            owner: found.uid(),
            todo,
        }),
    }
}

/// The command that closes a file with a secret, unless it is closed.
fn todo(mode: u32, owner: u32, me: u32, path: &str) -> Option<String> {
    let closed = mode & 0o027 == 0;
    if owner != 0 && owner != me {
        return Some(format!("chown root {path} && chmod 0600 {path}"));
    }
    (!closed).then(|| format!("chmod 0600 {path}"))
}

/// As a shell reads it back.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// A regular file; a pipe or a device would be waited for.
fn open(path: &Path, what: &'static str) -> Result<(File, Metadata), OpenError> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    let found = opened.and_then(|file| Ok((file.metadata()?, file)));
    let (found, file) = found.map_err(|source| unread(path, what, source))?;
    if found.is_file() {
        return Ok((file, found));
    }
    let what = format!("{what} {}", path.display());
    Err(OpenError::Unusable { what, why: "it is no regular file" })
}

fn read(file: File, path: &Path, what: &'static str) -> Result<Vec<u8>, OpenError> {
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE).read_to_end(&mut bytes);
    read.map_err(|source| unread(path, what, source))?;
    Ok(bytes)
}

fn unread(path: &Path, what: &'static str, source: std::io::Error) -> OpenError {
    OpenError::File { what, path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_for_root_and_the_agents_user_and_may_be_read_by_its_group() {
        let me = 7;
        for (mode, owner) in [
            (0o400, 0),
            (0o600, 0),
            (0o640, 0),
            (0o440, 0),
            (0o400, me),
            (0o700, me),
            (0o100_400, me),
        ] {
            assert_eq!(todo(mode, owner, me, "/t"), None, "{mode:o} {owner}");
        }
        for mode in [0o644, 0o604, 0o602, 0o601, 0o620, 0o660, 0o100_666, 0o777] {
            assert_eq!(todo(mode, 0, me, "/t").as_deref(), Some("chmod 0600 /t"), "{mode:o}");
        }
        for mode in [0o400, 0o600, 0o666] {
            let todo = todo(mode, 1000, me, "/t");
            assert_eq!(todo.as_deref(), Some("chown root /t && chmod 0600 /t"), "{mode:o}");
        }
        assert!(todo(0o400, me, 0, "/t").is_some());
    }

    #[test]
    fn a_command_can_be_typed_whatever_the_path() {
        let word = |path: &str| shell_word(Path::new(path));
        assert_eq!(word("/etc/ovl/token-1.txt"), "/etc/ovl/token-1.txt");
        assert_eq!(word("/a b/$(x)"), "'/a b/$(x)'");
        assert_eq!(word("/it's"), r"'/it'\''s'");
    }
}
