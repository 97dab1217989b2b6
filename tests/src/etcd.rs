//! A real etcd in a host: the cluster store of the Dockers that still have one (before 23.0).
use std::time::Duration;

use crate::programs::Programs;
use crate::{Host, LabError};

const PORT: u16 = 2379;
const START_LIMIT: Duration = Duration::from_secs(30);

/// Starts an etcd that serves on the host's underlay address and ends with the host; answers what
/// `dockerd --cluster-store` is to be told.
///
/// # Errors
/// [`LabError::NoProgram`], [`LabError::EndedAtOnce`], [`LabError::Timeout`].
pub fn start(host: &Host) -> Result<String, LabError> {
    let etcd = Programs::find()?.tool("etcd")?.display().to_string();
    let url = format!("http://{}:{PORT}", host.address());
    let data = host.folder().join("etcd-data").display().to_string();
    let argv = [
        etcd.as_str(),
        // Docker speaks version 2 of its API.
        "--enable-v2",
        "--data-dir",
        &data,
        "--listen-client-urls",
        &url,
        "--advertise-client-urls",
        &url,
        "--log-level",
        "warn",
    ];
    let log = host.folder().join("etcd.log");
    host.sandbox().spawn("etcd", &argv, &log, &host.folder().join("etcd"))?;
    host.sandbox().wait_for_port("etcd", PORT, START_LIMIT)?;
    Ok(format!("etcd://{}:{PORT}", host.address()))
}

/// The flags of a dockerd that shares its networks through `store`.
#[must_use]
pub fn flags(store: &str, host: &Host) -> Vec<String> {
    vec![format!("--cluster-store={store}"), format!("--cluster-advertise={}:2376", host.address())]
}
