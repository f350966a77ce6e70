//! Groups of instructions, and the levels that ask for them.

/// Instructions that programs are built for, as the psABI of x86-64 groups them; each has all that are before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Those that every processor of the architecture has.
    Baseline,
    /// Up to SSE4.2.
    V2,
    /// AVX2, FMA and F16C too. The engine's kernels for quantized types need it to be quick.
    V3,
    /// AVX-512 too.
    V4,
}

/// A group of instructions.
#[derive(Debug)]
pub(super) struct Feature {
    pub(super) name: &'static str,
    /// The level that wants it; `None`: compilers use it, and no level asks for it.
    pub(super) level: Option<Level>,
    /// This program was built for processors that have it.
    pub(super) built: bool,
    /// The processor has it, and the system lets programs use it.
    pub(super) present: bool,
}
