//! Images out of the machine's own programs: no registry can be reached from a lab.
use super::{COMMAND_LIMIT, Dockerd};
use crate::LabError;
use crate::exec;
use crate::programs::Programs;

/// The image of every daemon: busybox.
pub const IMAGE: &str = "busybox";
/// Redis, with its libraries and busybox.
pub const REDIS_IMAGE: &str = "redis";

/// `$1` docker, `$2` a folder for the image's files, `$3` the image's name, `$4` busybox, then
/// programs that go into /bin with the libraries that they ask for.
const IMPORT: &str = r#"
docker=$1 files=$2 name=$3 busybox=$4; shift 4
rm -rf "$files"
mkdir -p "$files/bin" "$files/etc" "$files/tmp" "$files/data"
cp "$busybox" "$files/bin/busybox"
"$files/bin/busybox" --install -s "$files/bin"
for link in "$files"/bin/*; do
    if [ -L "$link" ]; then ln -sf busybox "$link"; fi
done
for program; do
    cp -L "$program" "$files/bin/"
    ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$files${library%/*}"
        cp -L "$library" "$files$library"
    done
done
tar -C "$files" -c . | "$docker" import - "$name"
rm -rf "$files"
"#;

pub(super) fn import_busybox(daemon: &Dockerd) -> Result<(), LabError> {
    import(daemon, IMAGE, &[])
}

pub(super) fn import_redis(daemon: &Dockerd) -> Result<(), LabError> {
    import(daemon, REDIS_IMAGE, &["redis-server", "redis-cli"])
}

/// Makes an image, unless the daemon has it from an earlier start.
fn import(daemon: &Dockerd, name: &str, programs: &[&str]) -> Result<(), LabError> {
    if daemon.docker(&["image", "inspect", name])?.ok() {
        return Ok(());
    }
    let all = Programs::find()?;
    let files = daemon.host().folder().join("image").display().to_string();
    let mut command = daemon.program("sh");
    command.args(["-euc", IMPORT, "sh", &daemon.options.edition.client(), &files, name]);
    command.arg(all.tool("busybox")?);
    for program in programs {
        command.arg(all.tool(program)?);
    }
    exec::run(&mut command, COMMAND_LIMIT)?.require().map(drop)
}
