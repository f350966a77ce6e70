//! What processors a program was built for, and whether this one is of them.
//!
//! A program that was built for more than the processor has would end with an illegal instruction somewhere on its
//! way: [`require`] ends it at its start, in words. On processors other than x86-64 there is one level, and only the
//! words.

mod feature;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::fmt;

use feature::Feature;
pub use feature::Level;
#[cfg(target_arch = "x86_64")]
use x86::features;

use crate::ExitCode;

impl Level {
    const ALL: [Self; 4] = [Self::Baseline, Self::V2, Self::V3, Self::V4];

    /// What this program was built for. Every program of a build is built for the same.
    pub fn of_this_build() -> Self {
        Self::of(|feature| feature.built)
    }

    /// What this processor has.
    pub fn of_this_processor() -> Self {
        Self::of(|feature| feature.present)
    }

    /// This level and those below it, best first.
    pub fn and_below(self) -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .rev()
            .filter(move |level| *level <= self)
    }

    /// The highest level all of whose features, and those of the levels below, are had.
    fn of(has: impl Fn(&Feature) -> bool) -> Self {
        let features = features();
        let lacks = |level| features.iter().any(|f| f.level == Some(level) && !has(f));
        let reached = |level: Self| !level.and_below().any(lacks) && !features.is_empty();
        let mut best = Self::ALL.into_iter().rev();
        best.find(|level| reached(*level)).unwrap_or(Self::Baseline)
    }

    /// Its name, for example `x86-64-v3`; of another architecture the architecture's.
    pub fn name(self) -> &'static str {
        if !cfg!(target_arch = "x86_64") {
            return std::env::consts::ARCH;
        }
        match self {
            Self::Baseline => "x86-64",
            Self::V2 => "x86-64-v2",
            Self::V3 => "x86-64-v3",
            Self::V4 => "x86-64-v4",
        }
    }

    /// Whether the engine's kernels for quantized types are quick in a program of this level.
    pub fn suits_quantized(self) -> bool {
        self >= Self::V3 || !cfg!(target_arch = "x86_64")
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Ends the process with [`ExitCode::Processor`] and a word on its standard error if it was built for instructions
/// that this processor does not have. To be called before anything else.
// Not a part of its caller, which may begin with any instruction.
#[inline(never)]
pub fn require() {
    // The check itself may use what is not there.
    handle_illegal_instructions(Some(illegal_instruction));
    let missing: Vec<&str> = features()
        .iter()
        .filter(|feature| feature.built && !feature.present)
        .map(|feature| feature.name)
        .collect();
    if !missing.is_empty() {
        eprintln!("{WRONG_PROCESSOR}\n{MISSING}{}", missing.join(" "));
        std::process::exit(ExitCode::Processor as i32);
    }
    handle_illegal_instructions(None);
}

/// What a program says that was built for another processor.
pub const WRONG_PROCESSOR: &str = "\
This program was built for a processor that can do more than this one. Build it on this machine, or for all machines \
with RUSTFLAGS=\"-C target-cpu=x86-64\".";

/// Before the names of what the processor does not have.
pub const MISSING: &str = "It does not have ";

/// Has `handler` called, which must not return, or what is usual done again.
fn handle_illegal_instructions(handler: Option<extern "C" fn(libc::c_int)>) {
    let action = handler.map_or(libc::SIG_DFL, |handler| handler as *const () as usize);
    // SAFETY: the handler calls nothing but `write` and `_exit`, which signal handlers may.
    #[allow(unsafe_code)]
    unsafe {
        libc::signal(libc::SIGILL, action);
    }
}

extern "C" fn illegal_instruction(_: libc::c_int) {
    // SAFETY: `write` reads the bytes of a constant, `_exit` touches no memory and does not return.
    #[allow(unsafe_code)]
    unsafe {
        libc::write(2, WRONG_PROCESSOR.as_ptr().cast(), WRONG_PROCESSOR.len());
        libc::write(2, b"\n".as_ptr().cast(), 1);
        libc::_exit(ExitCode::Processor as i32);
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<Feature> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[bounded::test]
    fn what_runs_was_built_for_this_processor() {
        require();
        assert!(Level::of_this_build() <= Level::of_this_processor());
    }

    #[bounded::test]
    fn levels_are_tried_from_the_best_down() {
        let tried: Vec<_> = Level::V3.and_below().collect();
        assert_eq!(tried, [Level::V3, Level::V2, Level::Baseline]);
    }

    #[cfg(target_arch = "x86_64")]
    #[bounded::test]
    fn a_level_is_reached_with_all_of_its_features() {
        assert_eq!(Level::of(|_| false), Level::Baseline);
        assert_eq!(Level::of(|_| true), Level::V4);
        assert_eq!(Level::of(|feature| feature.name != "fma"), Level::V2);
        assert_eq!(Level::of(|feature| feature.name != "gfni"), Level::V4);
        assert_eq!(
            Level::of(|feature| feature.name != "sse4.2"),
            Level::Baseline
        );
    }

    /// The standard library knows of what this program was not built for.
    #[cfg(target_arch = "x86_64")]
    #[bounded::test]
    fn features_are_read_as_the_standard_library_reads_them() {
        let present = |name| features().iter().any(|f| f.name == name && f.present);
        assert_eq!(present("sse4.2"), is_x86_feature_detected!("sse4.2"));
        assert_eq!(present("avx2"), is_x86_feature_detected!("avx2"));
        assert_eq!(present("lzcnt"), is_x86_feature_detected!("lzcnt"));
        assert_eq!(present("avx512vl"), is_x86_feature_detected!("avx512vl"));
        assert_eq!(present("avxvnni"), is_x86_feature_detected!("avxvnni"));
    }
}
