//! Which SSH keys a droplet lets in.
//!
//! Those that are named: by number, fingerprint or name in the account, or as a file with a public key. Or, if
//! none is, those of the user that the account has already; and if it has none, the user's own is added.
use std::path::{Path, PathBuf};

use super::digitalocean::{ApiError, DigitalOcean, KeyRef, SshKey};
use super::site::DropletError;

/// Public keys of a user, as ssh-keygen names them, the best first (ssh_config(5), `IdentityFile`).
const OWN: [&str; 4] = ["id_ed25519.pub", "id_ecdsa.pub", "id_ed25519_sk.pub", "id_rsa.pub"];
/// Bytes of a public key's file that are read.
const FILE_MAX: u64 = 64 << 10;

/// What will be let in, and the numbers of keys that were added to the account for it.
#[derive(Default)]
pub(crate) struct Chosen {
    pub(crate) keys: Vec<KeyRef>,
    pub(crate) added: Vec<u64>,
}

/// See the module.
///
/// # Errors
/// A sentence that says which key is not there, and what to do.
pub(crate) async fn choose(api: &DigitalOcean, named: &[String]) -> Result<Chosen, DropletError> {
    let account = api.keys().await?;
    if named.is_empty() {
        return of_the_user(api, &account).await;
    }
    // Looked up before any is added.
    let is_known = |name: &&String| {
        account.iter().any(|key| is_named(key, name)) || Path::new(name.as_str()).is_file()
    };
    if let Some(name) = named.iter().find(|name| !is_known(name)) {
        return Err(DropletError::Said(unknown(name, &account)));
    }
    let mut chosen = Chosen::default();
    for name in named {
        match account.iter().find(|key| is_named(key, name)) {
            Some(key) => chosen.keys.push(KeyRef::Number(key.id)),
            None if Path::new(name).is_file() => {
                let (key, added) = with_file(api, &account, Path::new(name)).await?;
                chosen.keys.push(KeyRef::Number(key));
                chosen.added.extend(added);
            }
            None => return Err(DropletError::Said(unknown(name, &account))),
        }
    }
    Ok(chosen)
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

async fn of_the_user(api: &DigitalOcean, account: &[SshKey]) -> Result<Chosen, DropletError> {
    let files = own_files();
    let blobs: Vec<String> = files.iter().filter_map(|file| blob(&read(file).ok()?)).collect();
    let known =
        account.iter().filter(|key| blob(&key.public_key).is_some_and(|b| blobs.contains(&b)));
    let keys: Vec<KeyRef> = known.map(|key| KeyRef::Number(key.id)).collect();
    if !keys.is_empty() {
        return Ok(Chosen { keys, added: Vec::new() });
    }
    let Some(file) = files.first() else {
        return Err(DropletError::Said(
            "no SSH key to let in: make one with ssh-keygen, or name one of the account's with --ssh-key".to_owned(),
        ));
    };
    let (key, added) = with_file(api, account, file).await?;
    Ok(Chosen { keys: vec![KeyRef::Number(key)], added: added.into_iter().collect() })
}

fn own_files() -> Vec<PathBuf> {
    let Some(home) = std::env::var_os("HOME").map(PathBuf::from) else { return Vec::new() };
    OWN.iter().map(|name| home.join(".ssh").join(name)).filter(|file| file.is_file()).collect()
}

/// The account's number of a file's key, and the same again if it had to be added.
async fn with_file(
    api: &DigitalOcean,
    account: &[SshKey],
    file: &Path,
) -> Result<(u64, Option<u64>), DropletError> {
    let text = read(file)
        .map_err(|error| DropletError::Said(format!("cannot read {}: {error}", file.display())))?;
    let wanted = blob(&text).ok_or_else(|| {
        DropletError::Said(format!(
            "{} holds no public SSH key: name the file that ends with .pub",
            file.display()
        ))
    })?;
    let has = |keys: &[SshKey]| {
        keys.iter().find(|key| blob(&key.public_key).as_ref() == Some(&wanted)).map(|key| key.id)
    };
    if let Some(id) = has(account) {
        return Ok((id, None));
    }
    let name = format!("ovl-{}", file.file_stem().unwrap_or_default().to_string_lossy());
    match api.add_key(&name, text.trim()).await {
        Ok(key) => Ok((key.id, Some(key.id))),
        // It may have been added: then it is there.
        Err(error @ ApiError::Unclear { .. }) => {
            let id = has(&api.keys().await?).ok_or(error)?;
            Ok((id, Some(id)))
        }
        Err(error) => Err(error.into()),
    }
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
