//! Which SSH keys a droplet lets in.
//!
//! Those that are named: by number, fingerprint or name in the account, or as a file with a public key. Or, if
//! none is, those of the user that the account has already; and if it has none, the user's own is added.
use std::path::{Path, PathBuf};

use super::digitalocean::{ApiError, KeyRef, SshKey};
use super::record::NewKey;
use super::site::{DropletError, Site};

/// Public keys of a user, as ssh-keygen names them, the best first (ssh_config(5), `IdentityFile`).
const OWN: [&str; 4] = ["id_ed25519.pub", "id_ecdsa.pub", "id_ed25519_sk.pub", "id_rsa.pub"];
/// Bytes of a public key's file that are read.
const FILE_MAX: u64 = 64 << 10;

/// See the module.
///
/// # Errors
/// A sentence that says which key is not there, and what to do.
pub(crate) async fn choose(site: &Site, named: &[String]) -> Result<Vec<KeyRef>, DropletError> {
    let mut account = owned(site).await?;
    if named.is_empty() {
        return of_the_user(site, &account).await;
    }
    // Looked up before any is added.
    let is_known = |name: &&String| {
        account.iter().any(|key| is_named(key, name)) || Path::new(name.as_str()).is_file()
    };
    if let Some(name) = named.iter().find(|name| !is_known(name)) {
        return Err(DropletError::Said(unknown(name, &account)));
    }
    let mut chosen = Vec::new();
    for name in named {
        let id = match account.iter().find(|key| is_named(key, name)) {
            Some(key) => key.id,
            None => {
                let key = with_file(site, &account, Path::new(name)).await?;
                let id = key.id;
                account.push(key);
                id
            }
        };
        if !chosen.contains(&KeyRef::Number(id)) {
            chosen.push(KeyRef::Number(id));
        }
    }
    Ok(chosen)
}

/// The account's keys. Those that were about to be added when a run was stopped, and are there, are recorded
/// as added.
pub(crate) async fn owned(site: &Site) -> Result<Vec<SshKey>, DropletError> {
    let account = site.api.keys().await?;
    let adding = site.record().adding_keys;
    let is_it = |new: &NewKey, key: &SshKey| {
        key.name == new.name && blob(&key.public_key).as_ref() == Some(&new.key)
    };
    for new in adding {
        if let Some(key) = account.iter().find(|key| is_it(&new, key)) {
            added(site, &new, key.id)?;
        }
    }
    Ok(account)
}

fn added(site: &Site, new: &NewKey, id: u64) -> Result<(), DropletError> {
    Ok(site.change(|record| {
        record.adding_keys.remove(new);
        record.added_keys.insert(id);
    })?)
}

fn is_named(key: &SshKey, name: &str) -> bool {
    key.id.to_string() == name || key.fingerprint == name || key.name == name
}

fn unknown(name: &str, account: &[SshKey]) -> String {
    let have: Vec<String> =
        account.iter().take(10).map(|key| format!("{} ({})", key.name, key.id)).collect();
    let have = if have.is_empty() { "none".to_owned() } else { have.join(", ") };
    format!(
        "no SSH key {name:?}: it is neither a file with a public key nor in the account, which has {have}"
    )
}

async fn of_the_user(site: &Site, account: &[SshKey]) -> Result<Vec<KeyRef>, DropletError> {
    let files = own_files();
    let blobs: Vec<String> = files.iter().filter_map(|file| blob(&read(file).ok()?)).collect();
    let known =
        account.iter().filter(|key| blob(&key.public_key).is_some_and(|b| blobs.contains(&b)));
    let keys: Vec<KeyRef> = known.map(|key| KeyRef::Number(key.id)).collect();
    if !keys.is_empty() {
        return Ok(keys);
    }
    let Some(file) = files.first() else {
        return Err(DropletError::Said(
            "no SSH key to let in: make one with ssh-keygen, or name one of the account's with --ssh-key".to_owned(),
        ));
    };
    Ok(vec![KeyRef::Number(with_file(site, account, file).await?.id)])
}

fn own_files() -> Vec<PathBuf> {
    let Some(home) = std::env::var_os("HOME").map(PathBuf::from) else { return Vec::new() };
    OWN.iter().map(|name| home.join(".ssh").join(name)).filter(|file| file.is_file()).collect()
}

/// A file's key in the account, where it is added if it is not there; what is about to be added is recorded
/// before.
async fn with_file(site: &Site, account: &[SshKey], file: &Path) -> Result<SshKey, DropletError> {
    let text = read(file)
        .map_err(|error| DropletError::Said(format!("cannot read {}: {error}", file.display())))?;
    let wanted = blob(&text).ok_or_else(|| {
        DropletError::Said(format!(
            "{} holds no public SSH key: name the file that ends with .pub",
            file.display()
        ))
    })?;
    let has = |keys: &[SshKey]| {
        keys.iter().find(|key| blob(&key.public_key).as_ref() == Some(&wanted)).cloned()
    };
    if let Some(key) = has(account) {
        return Ok(key);
    }
    let name = format!("ovl-{}", file.file_stem().unwrap_or_default().to_string_lossy());
    let new = NewKey { name, key: wanted.clone() };
    site.change(|record| {
        record.adding_keys.insert(new.clone());
    })?;
    let key = match site.api.add_key(&new.name, text.trim()).await {
        Ok(key) => key,
        // It may have been added: then it is there.
        Err(error @ (ApiError::Unclear { .. } | ApiError::Unprocessable { .. })) => {
            has(&site.api.keys().await?).ok_or(error)?
        }
        Err(error) => {
            if !error.is_passing() {
                site.change(|record| {
                    record.adding_keys.remove(&new);
                })?;
            }
            return Err(error.into());
        }
    };
    added(site, &new, key.id)?;
    Ok(key)
}

fn read(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(file)?;
    std::io::Read::read_to_string(&mut std::io::Read::take(file, FILE_MAX), &mut text)?;
    Ok(text)
}

/// The part of a public key that is the key (RFC 4253, section 6.6), with its type.
fn blob(public: &str) -> Option<String> {
    super::ssh::public_keys(public).into_iter().next()
}
