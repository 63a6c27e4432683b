//! How the allocator treats memory that was freed.

/// What happens to freed buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreedMemory {
    /// The process keeps them for the next use: the kernel clears fresh memory page by page, which costs as much as
    /// copying into it. For a command, which ends soon.
    Kept,
    /// Large ones go back to the system at once, so that a daemon that once made a large commit does not stay large.
    /// Left alone, the allocator learns from the first large buffer to keep such memory.
    Returned,
}

/// Tells the allocator how to treat freed memory; the last call counts. A refusal costs speed or memory only. Does
/// nothing where the allocator is not glibc's.
pub fn tune_allocator(freed: FreedMemory) {
    #[cfg(target_env = "gnu")]
    {
        /// Freed buffers of up to this many bytes in all stay with the process.
        const KEPT_BYTES: libc::c_int = 64 << 20;
        /// The largest threshold that the allocator takes.
        const MAX_THRESHOLD_BYTES: libc::c_int = 32 << 20;
        const LARGE_BYTES: libc::c_int = 1 << 20;
        /// Each arena keeps free memory of its own; by default there are eight for each processor.
        const DAEMON_ARENAS: libc::c_int = 4;
        // Buffers above the threshold are mapped, and unmapped when they are freed.
        let options: &[(libc::c_int, libc::c_int)] = match freed {
            FreedMemory::Kept => {
                &[(libc::M_MMAP_THRESHOLD, MAX_THRESHOLD_BYTES), (libc::M_TRIM_THRESHOLD, KEPT_BYTES)]
            }
            FreedMemory::Returned => &[
                (libc::M_MMAP_THRESHOLD, LARGE_BYTES),
                (libc::M_TRIM_THRESHOLD, KEPT_BYTES),
                (libc::M_ARENA_MAX, DAEMON_ARENAS),
            ],
        };
        for (option, value) in options {
            // SAFETY: sets a parameter of the allocator, under its own lock.
            unsafe { libc::mallopt(*option, *value) };
        }
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = freed;
}
