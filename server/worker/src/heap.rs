//! Memory that the allocator holds back for later use.
//!
//! glibc keeps what is freed below something that is not. A load leaves tens of MiB there, which nobody else
//! could use.

/// Gives what is free back to the system. Blocks for some milliseconds; what is allocated next costs page faults.
pub(crate) fn trim() {
    // SAFETY: it takes any number of bytes to keep, and locks what it looks at.
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)]
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
#[cfg(target_env = "gnu")]
mod tests {
    use super::*;

    /// Anonymous memory of this process in KiB.
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("the status");
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.and_then(|it| it.parse().ok()).expect("a number")
    }

    #[bounded::test]
    fn what_was_freed_below_something_else_goes_back() {
        let mut blocks: Vec<Vec<u8>> = (0..4096).map(|_| vec![1; 32 << 10]).collect();
        let above = blocks.pop();
        let full = resident();
        drop(blocks);
        trim();
        let freed = full.saturating_sub(resident());
        // Of 128 MiB; other tests allocate meanwhile.
        assert!(freed > 64 << 10, "{freed} KiB went back");
        drop(above);
    }
}
