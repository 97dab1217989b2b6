//! What a machine has on disk.
//!
//! Below `/var/tmp/ovl-lab/LAB/MACHINE`, not in the lab's folder: /run may be a small part of the
//! memory. `upper` holds what the machine changed of its image. /var/lib/docker is a folder of its
//! own, since Docker lays file systems over it, which cannot be done over one that is laid over
//! another itself.
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::Image;
use crate::folder::{self, Folder};
use crate::sandbox::Sandbox;
use crate::{LabError, NodeName};

/// Of the disks of all labs.
const ROOT: &str = "/var/tmp/ovl-lab";
/// A new one at each read.
const RANDOM_UUID: &str = "/proc/sys/kernel/random/uuid";
/// Folders of the machine that are plain ones of this machine's.
const PLAIN: [&str; 2] = ["/var/lib/docker", "/var/lib/containerd"];

/// `$1` the image, `$2` the machine's disk.
const MOUNT: &str = r#"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
"#;

/// Makes a disk with nothing on it but the machine's name.
pub(super) fn create(lab: &Folder, name: &NodeName, image: Image) -> Result<(), LabError> {
    // A machine that cannot boot leaves no disk.
    image.folder()?;
    let disk = folder_of(lab, name);
    let etc = disk.join("upper/etc");
    for part in ["work", "root"] {
        folder::make_folder(&disk.join(part))?;
    }
    for plain in PLAIN {
        folder::make_folder(&disk.join(&plain[1..]))?;
    }
    folder::make_folder(&etc)?;
    let id =
        fs::read_to_string(RANDOM_UUID).map_err(folder::failed("read", RANDOM_UUID.as_ref()))?;
    folder::write_file(&etc.join("machine-id"), &id.replace('-', ""))?;
    folder::write_file(&etc.join("hostname"), &format!("{name}\n"))?;
    folder::write_file(&etc.join("hosts"), &format!("127.0.0.1 localhost\n127.0.1.1 {name}\n"))?;
    folder::write_file(&etc.join("resolv.conf"), "# A lab's machine has no resolver to ask.\n")
}

/// Writes a file of a machine that has not booted; its folder is made.
pub(super) fn write(
    lab: &Folder,
    name: &NodeName,
    inside: &str,
    text: &str,
) -> Result<(), LabError> {
    let path = folder_of(lab, name).join("upper").join(inside.trim_start_matches('/'));
    folder::make_folder(path.parent().unwrap_or(&path))?;
    folder::write_file(&path, text)
}

/// Makes the machine's root out of its image and its disk, in a sandbox's own view.
pub(super) fn mount(
    lab: &Folder,
    name: &NodeName,
    image: Image,
    sandbox: &Sandbox,
) -> Result<PathBuf, LabError> {
    let disk = folder_of(lab, name);
    let (lower, upper) = (image.folder()?.display().to_string(), disk.display().to_string());
    sandbox.script(MOUNT, &[&lower, &upper])?;
    Ok(disk.join("root"))
}

/// What nspawn is told of the plain folders.
pub(super) fn binds(lab: &Folder, name: &NodeName) -> Vec<String> {
    let disk = folder_of(lab, name);
    PLAIN.iter().map(|plain| format!("--bind={}{plain}:{plain}", disk.display())).collect()
}

/// Removes the disks of a lab, whose machines have ended.
///
/// # Errors
/// [`LabError::File`].
pub(crate) fn remove_all(lab: &Folder) -> Result<(), LabError> {
    let disks = lab_folder(lab);
    match fs::remove_dir_all(&disks) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(folder::failed("remove", &disks)(error))
        }
        Ok(()) | Err(_) => {
            // Goes when it was the last one's.
            let _ = fs::remove_dir(ROOT);
            Ok(())
        }
    }
}

/// Removes the disk of a machine that has ended.
pub(super) fn remove(lab: &Folder, name: &NodeName) -> Result<(), LabError> {
    let disk = folder_of(lab, name);
    fs::remove_dir_all(&disk).map_err(folder::failed("remove", &disk))
}

fn folder_of(lab: &Folder, name: &NodeName) -> PathBuf {
    lab_folder(lab).join(name.as_str())
}

fn lab_folder(lab: &Folder) -> PathBuf {
    Path::new(ROOT).join(lab.path().file_name().unwrap_or_default())
}
