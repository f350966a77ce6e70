//! How a worker's process ends by itself.

/// Status that a worker exits with. The server tells it to whoever asks why the worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum ExitCode {
    /// It was asked to.
    Requested = 0,
    /// It was started in a wrong way.
    Usage = 64,
    /// Its model cannot be served: by its files, or for want of a device or of memory.
    Unusable = 65,
    /// Its engine died.
    EngineDied = 70,
    /// The operating system refused something.
    System = 71,
    /// Its server is gone.
    Orphan = 72,
    /// A task that it cannot do without panicked.
    TaskDied = 73,
    /// It was built for a processor that can do more than this one.
    Processor = 74,
}
