//! What every node of a lab is made of, host or kvstore: namespaces, and files of its own laid over
//! the machine's.
use std::fs;
use std::path::Path;

use crate::folder::{self, Folder, Lock, Record};
use crate::sandbox::Sandbox;
use crate::{LabError, NodeName};

/// Folders that are the host's own, in place of the machine's. Mount points that the machine does
/// not have are made in the host's own view of /etc and /var/lib.
const OWN_FOLDERS: [&str; 4] = ["/etc/ovl", "/etc/docker", "/var/lib/ovl", "/var/lib/docker"];

/// A new one at each read.
const RANDOM_UUID: &str = "/proc/sys/kernel/random/uuid";

/// `$1` the host's folder, `$2` its name, then its own folders.
const FURNISH: &str = r#"
folder=$1 name=$2; shift 2
echo "$name" > /proc/sys/kernel/hostname
for part in etc var/lib; do
    mount -t overlay overlay \
        -o "lowerdir=/$part,upperdir=$folder/$part,workdir=$folder/work/$part" "/$part"
done
for own in "$@"; do
    mkdir -p "$own"
    mount --bind "$folder/own$own" "$own"
done
mount --bind "$folder/boot_id" /proc/sys/kernel/random/boot_id
mount --bind /run/ovl-lab "$folder/run/ovl-lab"
mount --rbind "$folder/run" /run
"#;

/// Makes the namespaces of a host, with its own /run, /etc/hosts and so on; or those of a host that
/// has ended, on what it had in /etc and /var/lib.
///
/// # Errors
/// Any of [`LabError`]'s about commands and files.
pub fn create(
    lab: &Folder,
    record: &Record,
    name: &NodeName,
    lock: &Lock,
) -> Result<Sandbox, LabError> {
    let folder = lab.join(name.as_str());
    for part in ["run/ovl-lab", "etc", "var/lib", "work/etc", "work/var/lib", "containers"] {
        folder::make_folder(&folder.join(part))?;
    }
    for own in OWN_FOLDERS {
        folder::make_folder(&folder.join("own").join(&own[1..]))?;
    }
    write_etc(&folder.join("etc"), record, name)?;
    // The machine boots once; its hosts as often as they are made.
    let boot_id =
        fs::read_to_string(RANDOM_UUID).map_err(folder::failed("read", RANDOM_UUID.as_ref()))?;
    folder::write_file(&folder.join("boot_id"), &boot_id)?;
    let sandbox = Sandbox::create(&folder.join("holder"), lock)?;
    let path = folder.display().to_string();
    let args: Vec<&str> = [path.as_str(), name.as_str()].into_iter().chain(OWN_FOLDERS).collect();
    sandbox.script(FURNISH, &args)?;
    Ok(sandbox)
}

/// Files that lie over the machine's, so that names mean the same in every lab.
fn write_etc(etc: &Path, record: &Record, name: &NodeName) -> Result<(), LabError> {
    let mut hosts = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n".to_owned();
    for host in &record.hosts {
        hosts.push_str(&format!("{} {}\n", host.address, host.name));
    }
    folder::write_file(&etc.join("hosts"), &hosts)?;
    folder::write_file(&etc.join("hostname"), &format!("{name}\n"))?;
    folder::write_file(&etc.join("resolv.conf"), "# A lab's host has no resolver to ask.\n")?;
    folder::write_file(
        &etc.join("nsswitch.conf"),
        "passwd: files\ngroup: files\nhosts: files dns\n",
    )
}
