//! This process, as the kernel sees it: the metrics that every program has, under the names that
//! Prometheus' own libraries give them.

use jiff::Timestamp;
use nix::unistd::{SysconfVar, sysconf};
use rustix::process::{Resource, getrlimit};

use super::page::Page;

/// See the module's documentation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    cpu_seconds: f64,
    threads: u64,
    virtual_bytes: u64,
    resident_bytes: u64,
    open_fds: u64,
    /// None: there is no limit.
    max_fds: Option<u64>,
    started: f64,
}

impl Process {
    /// As it is now. `None`: /proc cannot be read.
    pub fn read(started: Timestamp) -> Option<Process> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let number = |var| sysconf(var).ok().flatten().and_then(|n| u64::try_from(n).ok());
        let (ticks, page) = (number(SysconfVar::CLK_TCK)?, number(SysconfVar::PAGE_SIZE)?);
        // The folder's own descriptor is open while it is read.
        let open_fds = std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64;
        Some(Process {
            open_fds,
            max_fds: getrlimit(Resource::Nofile).current,
            started: started.as_duration().as_secs_f64(),
            ..parse(&stat, ticks, page)?
        })
    }

    pub(super) fn tell(&self, page: &mut Page) {
        page.counter_of("process_cpu_seconds_total", &[], self.cpu_seconds);
        page.gauge("process_resident_memory_bytes", &[], self.resident_bytes as f64);
        page.gauge("process_virtual_memory_bytes", &[], self.virtual_bytes as f64);
        page.gauge("process_open_fds", &[], self.open_fds as f64);
        page.gauge("process_max_fds", &[], self.max_fds.map_or(f64::INFINITY, |n| n as f64));
        page.gauge("process_threads", &[], self.threads as f64);
        page.gauge("process_start_time_seconds", &[], self.started);
    }
}

/// `/proc/PID/stat` (proc(5)); the name of the program may hold anything but a last `)`.
fn parse(stat: &str, ticks: u64, page: u64) -> Option<Process> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // The first one behind the name is the third of all, the state.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Process {
        cpu_seconds: (field(14)? + field(15)?) as f64 / ticks.max(1) as f64,
        threads: field(20)?,
        virtual_bytes: field(23)?,
        resident_bytes: field(24)? * page,
        ..Process::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read_whatever_the_programs_name() {
        let line =
            "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 12345 40960 10 0";
        let process = parse(line, 100, 4096).unwrap();
        assert_eq!((process.cpu_seconds, process.threads), (3.0, 9));
        assert_eq!((process.virtual_bytes, process.resident_bytes), (40_960, 40_960));
        for short in ["", "7 (a", "7 (a) S 1", "7 (a) S x x x x x x x x x x x x x x x x x x x x x"]
        {
            assert_eq!(parse(short, 100, 4096), None, "{short}");
        }
    }

    #[test]
    fn this_process_is_read() {
        let process = Process::read(Timestamp::UNIX_EPOCH).unwrap();
        assert!(process.resident_bytes > 1 << 20 && process.open_fds > 2, "{process:?}");
        assert_eq!(process.started, 0.0);
    }
}
