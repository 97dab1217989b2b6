//! Which host keys are a droplet's: one file for each, that nobody else's key can get into.
//!
//! A droplet that is made here boots with a host key that is made here, for that boot alone: whoever can
//! read its user data (every program on the droplet) would have it. Over that first connection it makes
//! keys of its own, and those are known from then on. A droplet that was made elsewhere is trusted once.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::host::HostKey;
use super::super::record::{Folder, KNOWN_HOSTS, RecordError};

/// Marks the key of a first boot, in the file here and by its comment on the droplet.
pub(crate) const FIRST_BOOT: &str = "ovl-first-boot";

/// Lines of an answer that are taken for keys.
const KEYS_MAX: usize = 8;

/// Forgets the keys of all droplets that were ever called so.
pub(crate) fn forget_all(folder: &Folder, name: &str) -> Result<(), RecordError> {
    let of_it = |file: &str| {
        let number = file.strip_prefix(KNOWN_HOSTS).and_then(|rest| rest.strip_prefix(name));
        let number = number.and_then(|rest| rest.strip_prefix('.'));
        number.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
    };
    folder.remove(of_it)
}

/// The known keys of one droplet.
pub(crate) struct Known<'a> {
    folder: &'a Folder,
    name: &'a str,
    file: String,
}

impl<'a> Known<'a> {
    /// Another droplet of the same name has another file.
    pub(crate) fn of(folder: &'a Folder, name: &'a str, id: u64) -> Known<'a> {
        Known { folder, name, file: format!("{KNOWN_HOSTS}{name}.{id}") }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join(&self.file)
    }

    /// Some key is known.
    pub(crate) fn is_pinned(&self) -> bool {
        fs::metadata(self.path()).is_ok_and(|file| file.len() > 0)
    }

    /// These and no others are its keys, each as `type base64`.
    pub(crate) fn pin<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k str>,
    ) -> Result<(), RecordError> {
        let lines: String = keys.into_iter().map(|key| format!("{} {key}\n", self.name)).collect();
        self.folder.write(&self.file, &lines)
    }

    /// The key of its first boot is its key until it has its own, and these beside it.
    pub(crate) fn pin_with_first<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k str>,
        first: &str,
    ) -> Result<(), RecordError> {
        let first = format!("{first} {FIRST_BOOT}");
        let keys: Vec<&str> = keys.into_iter().collect();
        self.pin(keys.into_iter().chain([first.as_str()]))
    }

    /// Those that are known, but for that of its first boot.
    pub(crate) fn own_keys(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path()).unwrap_or_default();
        let own = text.lines().filter(|line| !line.ends_with(FIRST_BOOT));
        let own = own.filter_map(|line| line.split_once(' ').map(|(_, key)| key.to_owned() + "\n"));
        public_keys(&own.collect::<String>())
    }

    /// That of its first boot, while it is known.
    pub(crate) fn first_key(&self) -> Option<String> {
        let text = fs::read_to_string(self.path()).ok()?;
        let line = text.lines().find(|line| line.ends_with(FIRST_BOOT))?;
        let mut words = line.split(' ').skip(1);
        Some(format!("{} {}", words.next()?, words.next()?))
    }

    /// What to say of a key that was not known, now that it is.
    pub(crate) fn trusted(&self) -> String {
        let keys = self.fingerprints().join(" ");
        format!("its host key was not known, is trusted this once, and known from now on: {keys}")
    }

    /// The same of one that ssh itself will learn.
    pub(crate) fn to_be_trusted(&self) -> String {
        format!(
            "its host key is not known, is trusted this once, and known from now on: `ssh-keygen -l -f {}` shows it",
            self.path().display()
        )
    }

    pub(crate) fn forget(&self) -> Result<(), RecordError> {
        self.folder.remove(|file| file == self.file)
    }

    /// In the form that people compare: `SHA256:…`.
    pub(crate) fn fingerprints(&self) -> Vec<String> {
        let shown = Command::new("ssh-keygen").arg("-l").arg("-f").arg(self.path()).output();
        let text = shown
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default();
        let word = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
        text.lines().filter_map(word).filter(|word| word.starts_with("SHA256:")).collect()
    }
}

/// The public keys in the output of a droplet, each as `type base64`; what is none is left out.
pub(crate) fn public_keys(output: &str) -> Vec<String> {
    let key = |line: &str| {
        let (kind, rest) = line.split_once(' ')?;
        let blob = rest.split_whitespace().next()?;
        let is_kind = (kind.starts_with("ssh-") || kind.starts_with("ecdsa-")) && plain(kind, "-");
        (is_kind && blob.len() >= 32 && blob.len() <= 4096 && plain(blob, "+/="))
            .then(|| format!("{kind} {blob}"))
    };
    output.lines().filter_map(key).take(KEYS_MAX).collect()
}

fn plain(text: &str, also: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
}

/// A host key for a first boot, by the user's own ssh-keygen.
pub(crate) fn new_host_key() -> std::io::Result<HostKey> {
    // Removed with what is in it.
    let folder = tempfile::Builder::new().prefix("ovl-").tempdir()?;
    let file = folder.path().join("key");
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", FIRST_BOOT, "-f"]).arg(&file);
    let made = command.output()?;
    if !made.status.success() {
        let why = String::from_utf8_lossy(&made.stderr).trim().to_owned();
        return Err(std::io::Error::other(format!("ssh-keygen: {why}")));
    }
    let read = |path: &Path| fs::read_to_string(path);
    let public = public_keys(&read(&file.with_extension("pub"))?).into_iter().next();
    let public = public.ok_or_else(|| std::io::Error::other("ssh-keygen made no public key"))?;
    Ok(HostKey { private: read(&file)?, public: format!("{public} {FIRST_BOOT}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_are_taken_for_keys() {
        let blob = "A".repeat(68);
        let text = format!(
            "warning: x\nssh-ed25519 {blob} root@x\nssh-rsa short\nssh-x; {blob}\necdsa-sha2-nistp256 {blob}\n"
        );
        assert_eq!(
            public_keys(&text),
            [format!("ssh-ed25519 {blob}"), format!("ecdsa-sha2-nistp256 {blob}")]
        );
    }

    #[test]
    fn a_key_for_a_first_boot_is_one_that_ssh_knows() {
        let base = tempfile::tempdir().unwrap();
        let folder = Folder::of(&"default".parse().unwrap(), Some(base.path())).unwrap();
        folder.make().unwrap();
        let key = new_host_key().unwrap();
        assert!(key.private.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"));
        let known = Known::of(&folder, "queenbee", 7);
        assert!(!known.is_pinned());
        known.pin([key.public.as_str()]).unwrap();
        assert!(known.is_pinned());
        assert_eq!(known.fingerprints().len(), 1);
        known.forget().unwrap();
        assert!(!known.is_pinned());
        let other = Known::of(&folder, "queenbee-2", 9);
        for one in [&known, &Known::of(&folder, "queenbee", 8), &other] {
            one.pin([key.public.as_str()]).unwrap();
        }
        forget_all(&folder, "queenbee").unwrap();
        assert!(!known.is_pinned() && other.is_pinned());
    }
}
