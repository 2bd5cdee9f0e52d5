//! What `/proc` says of the memory of a process.

/// Megabytes (MiB) of `pid`, or of this process, by the line `name` of its status: `VmRSS` is what is resident now, `VmHWM` the most so far.
pub fn megabytes(pid: Option<u32>, name: &str) -> Option<f64> {
    let process = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
}
