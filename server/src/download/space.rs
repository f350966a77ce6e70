//! Room on the disk of the cache.

use std::path::Path;

use bytesize::ByteSize;
use rustix::fs::statvfs;

use super::DownloadError;

/// Makes sure that `missing` bytes can be written below `directory`.
///
/// # Errors
///
/// [`DownloadError::StorageFull`] with the figures.
pub(super) fn check(directory: &Path, missing: u64) -> Result<(), DownloadError> {
    let free = match statvfs(directory) {
        Ok(system) => system.f_bavail.saturating_mul(system.f_frsize),
        Err(error) => return Err(DownloadError::storage(directory, &error.into())),
    };
    if missing <= free {
        return Ok(());
    }
    Err(DownloadError::StorageFull(format!(
        "{} bytes ({}) have to be downloaded, but only {} bytes ({}) are free in {}; free some room, or give \
         another --hub-cache-dir",
        missing,
        ByteSize::b(missing),
        free,
        ByteSize::b(free),
        directory.display()
    )))
}
