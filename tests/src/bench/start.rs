//! From the start of an agent to its `READY`, as systemd hears it.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::{median, ms, quantile};
use crate::wait::Deadline;
use crate::{Host, Lab, LabError, folder, table, wait};

const ENDPOINTS: usize = 100;
const LIMIT: Duration = Duration::from_secs(60);

/// Cold: a host that has nothing on disk, and joins another. Warm: the same host with a hundred
/// endpoints of its own, after a kill.
pub(super) fn measure(lab: &Lab, runs: usize) -> Result<(), LabError> {
    let host = lab.host("workerbee-1")?;
    let mut cold = Vec::new();
    for _ in 0..runs {
        host.stop_agent()?;
        host.run(&["sh", "-c", "rm -rf /var/lib/ovl/*"])?.require()?;
        cold.push(ready(&host)?);
    }
    for number in 0..ENDPOINTS {
        lab.attach(host.name(), "bench", &format!("e{number}"))?;
    }
    let mut warm = Vec::new();
    for _ in 0..runs {
        host.kill_agent()?;
        warm.push(ready(&host)?);
        let what = format!("{} endpoints", host.name());
        wait::until(&what, LIMIT, || {
            let local = host.agent_answer()?["endpoints"]["local"].clone();
            if local == ENDPOINTS { Ok(()) } else { Err(local.to_string()) }
        })?;
    }
    let row = |what: &str, values: &mut Vec<f64>| {
        vec![
            what.to_owned(),
            ms(median(values)),
            ms(quantile(values, 0.05)),
            ms(quantile(values, 0.95)),
        ]
    };
    let rows = [row("cold", &mut cold), row("with 100 endpoints, after a kill", &mut warm)];
    println!("{}", table::render(&["start to ready, ms", "median", "p5", "p95"], &rows));
    Ok(())
}

/// Milliseconds from before the agent's process is made to its `READY=1`.
fn ready(host: &Host) -> Result<f64, LabError> {
    let path = host.folder().join("notify");
    // Of the run before.
    let _ = std::fs::remove_file(&path);
    let failed = |what| folder::failed(what, &path);
    let socket = UnixDatagram::bind(&path).map_err(failed("bind"))?;
    socket.set_read_timeout(Some(LIMIT)).map_err(failed("bind"))?;
    let watch = Deadline::after(LIMIT);
    let heard = std::thread::spawn(move || {
        let mut message = [0; 4096];
        loop {
            let length = socket.recv(&mut message)?;
            let text = String::from_utf8_lossy(&message[..length]);
            if text.lines().any(|line| line == "READY=1") {
                return Ok(watch.elapsed());
            }
        }
    });
    host.spawn_agent_for(Some(&path))?;
    let heard = heard.join().unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into()));
    Ok(heard.map_err(failed("hear on"))?.as_secs_f64() * 1000.0)
}
