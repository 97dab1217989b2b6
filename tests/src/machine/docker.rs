//! Docker of a machine, with an image out of the machine's own busybox: there is no registry.
use super::Machine;
use crate::{LabError, Outcome};

/// The image: busybox.
pub const IMAGE: &str = "busybox";

/// `$1` the image's name.
const IMPORT: &str = r#"
docker image inspect "$1" >/dev/null 2>&1 && exit 0
files=$(mktemp -d)
mkdir -p "$files/bin" "$files/etc" "$files/tmp"
cp /bin/busybox "$files/bin/"
for applet in $(busybox --list); do
    if [ "$applet" != busybox ]; then ln -s busybox "$files/bin/$applet"; fi
done
tar -C "$files" -c . | docker import - "$1" >/dev/null
rm -rf "$files"
"#;

impl Machine {
    /// Gives its Docker the image, unless it has it.
    ///
    /// # Errors
    /// [`LabError::Command`].
    pub fn import_image(&self) -> Result<(), LabError> {
        self.script(IMPORT, &[IMAGE]).map(drop)
    }

    /// Runs `docker ARGS` to its end.
    ///
    /// # Errors
    /// As [`exec::run`](crate::exec::run).
    pub fn docker(&self, args: &[&str]) -> Result<Outcome, LabError> {
        let argv: Vec<&str> = ["docker"].iter().chain(args).copied().collect();
        self.run(&argv)
    }

    /// What `docker inspect` says by a format.
    ///
    /// # Errors
    /// [`LabError::Command`].
    pub fn inspect(&self, what: &str, format: &str) -> Result<String, LabError> {
        let outcome = self.docker(&["inspect", "-f", format, what])?.require()?;
        Ok(outcome.stdout.trim().to_owned())
    }

    /// A container's address on a network; empty when it has none.
    ///
    /// # Errors
    /// [`LabError::Command`].
    pub fn address_of(&self, container: &str, network: &str) -> Result<String, LabError> {
        let format = format!(
            "{{{{with index .NetworkSettings.Networks {network:?}}}}}{{{{.IPAddress}}}}{{{{end}}}}"
        );
        self.inspect(container, &format)
    }

    /// Path of a running container's network namespace on this machine.
    ///
    /// # Errors
    /// [`LabError::Command`], [`LabError::BadAnswer`] when it does not run.
    pub fn network_path_of_container(&self, container: &str) -> Result<String, LabError> {
        let pid = self.inspect(container, "{{.State.Pid}}")?;
        if pid == "0" || pid.is_empty() {
            let command = format!("docker inspect {container}");
            return Err(LabError::BadAnswer { command, answer: "it does not run".to_owned() });
        }
        Ok(self.network_path_of(&pid))
    }
}
