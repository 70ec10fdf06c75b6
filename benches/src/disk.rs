//! The sync time of the disk, and the disk space, memory and processor time of a process.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Measures the current sync time of a disk, with a file to which 256 bytes are appended and synced.
pub struct Probe {
    file: File,
    path: PathBuf,
    times: Vec<Duration>,
}

impl Probe {
    /// Creates a probe on the disk of a directory.
    ///
    /// # Errors
    /// If its file cannot be created.
    pub fn new(directory: &Path) -> io::Result<Self> {
        let path = directory.join("sync-probe");
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        Ok(Self { file, path, times: Vec::new() })
    }

    /// Appends and syncs once.
    ///
    /// # Errors
    /// If the system call fails.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.write_all(&[7; 256])?;
        let began = Instant::now();
        self.file.sync_data()?;
        self.times.push(began.elapsed());
        Ok(())
    }

    /// The median of all times so far.
    pub fn median(&mut self) -> Duration {
        percentile(&mut self.times, 50)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // Its directory is removed anyway.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A percentile of some times; zero if there are none.
pub fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(at).copied().unwrap_or_default()
}

/// The bytes that the files of a directory occupy on the disk.
///
/// # Errors
/// If it cannot be read.
pub fn bytes_of(directory: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;

    let mut sum = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let found = entry.metadata()?;
        sum += if found.is_dir() { bytes_of(&entry.path())? } else { found.blocks() * 512 };
    }
    Ok(sum)
}

/// The peak memory of this process so far, in bytes.
///
/// # Errors
/// If the system does not report it.
pub fn peak_memory() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let kilobytes = line.trim().trim_end_matches(" kB").parse::<u64>();
    kilobytes.map(|kilobytes| kilobytes * 1024).map_err(io::Error::other)
}

/// The bytes that the system has written to a disk for this process: whole pages, each counted as often as it was written.
///
/// # Errors
/// If the system does not report it.
pub fn written() -> io::Result<u64> {
    let counts = std::fs::read_to_string("/proc/self/io")?;
    let line = counts.lines().find_map(|line| line.strip_prefix("write_bytes:")).unwrap_or_default();
    line.trim().parse().map_err(io::Error::other)
}

/// The processor time of this process, on all processors. On a busy machine it is more reliable than the wall clock.
#[must_use]
pub fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    // A tick is a hundredth of a second on every Linux that this runs on.
    Duration::from_millis(ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
}

/// The rate per second of `count` in a time.
#[allow(clippy::cast_precision_loss, reason = "it is shown with a few digits")]
#[must_use]
pub fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}
