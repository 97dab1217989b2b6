//! SSH keys of the account.
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::answer::{Answer, Refusal};
use super::asked::Asked;
use super::clock;
use super::paging;
use super::state::State;

/// An SSH key.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// As it was uploaded.
    pub public_key: String,
    /// MD5 in sixteen pairs of hexadecimal digits, with colons.
    pub fingerprint: String,
}

impl Key {
    fn shown(&self) -> Value {
        json!({
            "id": self.id, "name": self.name, "public_key": self.public_key,
            "fingerprint": self.fingerprint,
        })
    }
}

impl State {
    /// The key of a number or of a fingerprint.
    pub(super) fn key(&self, word: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.fingerprint == word || word.parse() == Ok(key.id))
    }
}

/// `GET /v2/account/keys`.
pub(super) fn list(state: &mut State, asked: &Asked) -> Result<Answer, Refusal> {
    asked.bare(&["page", "per_page"])?;
    limit(state)?;
    let all: Vec<Value> = state.keys.iter().map(Key::shown).collect();
    paging::listed(state, asked, "ssh_keys", &all)
}

/// Lists of keys have a limit of their own.
fn limit(state: &mut State) -> Result<(), Refusal> {
    let Some(most) = state.settings.key_lists_per_minute else { return Ok(()) };
    const MINUTE: Duration = Duration::from_secs(60);
    while state.key_lists.front().is_some_and(|first| first.elapsed() >= MINUTE) {
        state.key_lists.pop_front();
    }
    if state.key_lists.len() >= most {
        let waited = state.key_lists.front().map_or(MINUTE, std::time::Instant::elapsed);
        let left = MINUTE.saturating_sub(waited).as_secs() + 1;
        return Err(Refusal::new(429, "API rate limit exceeded.").with("retry-after", left));
    }
    state.key_lists.push_back(clock::tick());
    Ok(())
}

/// `POST /v2/account/keys`.
pub(super) fn create(state: &mut State, asked: &Asked) -> Result<Answer, Refusal> {
    let mut fields = asked.fields()?;
    let (name, public_key) = (fields.need_text("name")?, fields.need_text("public_key")?);
    fields.end()?;
    if public_key.contains("PRIVATE KEY") {
        return Err(Refusal::broken("public_key is a private key"));
    }
    let invalid =
        || Refusal::unprocessable("Key invalid, key should be of the format `type key [comment]`");
    let fingerprint = fingerprint(&public_key).ok().flatten().ok_or_else(invalid)?;
    if state.key(&fingerprint).is_some() {
        return Err(Refusal::unprocessable("SSH Key is already in use on your account"));
    }
    let key = Key { id: state.number(), name, public_key, fingerprint };
    let shown = key.shown();
    state.keys.push(key);
    Ok(Answer::new(201, json!({ "ssh_key": shown })))
}

/// `GET /v2/account/keys/{id or fingerprint}`.
pub(super) fn show(state: &mut State, asked: &Asked, word: &str) -> Result<Answer, Refusal> {
    asked.bare(&[])?;
    let key = state.key(word).ok_or_else(Refusal::not_found)?;
    Ok(Answer::ok(json!({ "ssh_key": key.shown() })))
}

/// `DELETE /v2/account/keys/{id or fingerprint}`.
pub(super) fn delete(state: &mut State, asked: &Asked, word: &str) -> Result<Answer, Refusal> {
    asked.bare(&[])?;
    let id = state.key(word).ok_or_else(Refusal::not_found)?.id;
    state.keys.retain(|key| key.id != id);
    Ok(Answer::done())
}

/// The fingerprint by `ssh-keygen`, which takes one public key on one line. `None`: it is none.
pub(super) fn fingerprint(public_key: &str) -> io::Result<Option<String>> {
    if public_key.trim().lines().count() != 1 {
        return Ok(None);
    }
    let mut child = Command::new("ssh-keygen")
        .args(["-l", "-E", "md5", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(public_key.trim().as_bytes())?;
        stdin.write_all(b"\n")?;
    }
    let output = child.wait_with_output()?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let md5 = told.split_whitespace().find_map(|word| word.strip_prefix("MD5:"));
    Ok(md5.filter(|_| output.status.success()).map(str::to_owned))
}
