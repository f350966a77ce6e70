//! Features of x86-64, as the instruction CPUID tells them.
//!
//! The standard library's detection answers from what the program was built for, where it was, and not from the
//! processor.

use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv, CpuidResult};

use super::feature::{Feature, Level};

/// What CPUID answers.
struct Cpuid {
    basic: CpuidResult,
    structured: CpuidResult,
    structured_1: CpuidResult,
    extended: CpuidResult,
    /// Registers that the system saves when it switches threads; zero where it does not say.
    saved: u64,
}

/// In XCR0: those of SSE and AVX.
const AVX_REGISTERS: u64 = 0b110;
/// In XCR0: those of AVX-512 too.
const AVX512_REGISTERS: u64 = 0b1110_0110;

impl Cpuid {
    fn read() -> Self {
        let basic = __cpuid(1);
        let has_structured = __cpuid(0).eax >= 7;
        let structured = |part| {
            let answer = has_structured.then(|| __cpuid_count(7, part));
            answer.unwrap_or(NOTHING)
        };
        let lists_extended = __cpuid(0x8000_0000).eax >= 0x8000_0001;
        let os_saves = basic.ecx >> 27 & 1 == 1;
        Self {
            basic,
            structured: structured(0),
            structured_1: match structured(0).eax {
                0 => NOTHING,
                _ => structured(1),
            },
            extended: match lists_extended {
                true => __cpuid(0x8000_0001),
                false => NOTHING,
            },
            saved: if os_saves { saved_registers() } else { 0 },
        }
    }

    /// Whether the system saves the registers that a feature of this name works with.
    fn saves_registers_of(&self, name: &str) -> bool {
        let needed = match name {
            _ if name.starts_with("avx512") => AVX512_REGISTERS,
            "avx" | "avx2" | "avxvnni" | "f16c" | "fma" | "vaes" | "vpclmulqdq" => AVX_REGISTERS,
            _ => 0,
        };
        self.saved & needed == needed
    }
}

const NOTHING: CpuidResult = CpuidResult {
    eax: 0,
    ebx: 0,
    ecx: 0,
    edx: 0,
};

/// The register XCR0.
fn saved_registers() -> u64 {
    // SAFETY: CPUID has told that the system has enabled the instruction (OSXSAVE).
    #[allow(unsafe_code)]
    unsafe {
        _xgetbv(0)
    }
}

macro_rules! features {
    ($($name:tt $level:expr, $leaf:ident $register:ident $bit:literal;)*) => {
        /// What compilers make use of by themselves. Not so random numbers, which some systems hide, and saving
        /// registers.
        pub(super) fn features() -> Vec<Feature> {
            let cpuid = Cpuid::read();
            vec![$(Feature {
                name: $name,
                level: $level,
                built: cfg!(target_feature = $name),
                present: cpuid.$leaf.$register >> $bit & 1 == 1 && cpuid.saves_registers_of($name),
            }),*]
        }
    };
}

const V2: Option<Level> = Some(Level::V2);
const V3: Option<Level> = Some(Level::V3);
const V4: Option<Level> = Some(Level::V4);

features! {
    "sse3" V2, basic ecx 0;
    "ssse3" V2, basic ecx 9;
    "cmpxchg16b" V2, basic ecx 13;
    "sse4.1" V2, basic ecx 19;
    "sse4.2" V2, basic ecx 20;
    "popcnt" V2, basic ecx 23;
    "fma" V3, basic ecx 12;
    "movbe" V3, basic ecx 22;
    "avx" V3, basic ecx 28;
    "f16c" V3, basic ecx 29;
    "bmi1" V3, structured ebx 3;
    "avx2" V3, structured ebx 5;
    "bmi2" V3, structured ebx 8;
    "lzcnt" V3, extended ecx 5;
    "avx512f" V4, structured ebx 16;
    "avx512dq" V4, structured ebx 17;
    "avx512cd" V4, structured ebx 28;
    "avx512bw" V4, structured ebx 30;
    "avx512vl" V4, structured ebx 31;
    "pclmulqdq" None, basic ecx 1;
    "aes" None, basic ecx 25;
    "adx" None, structured ebx 19;
    "avx512ifma" None, structured ebx 21;
    "sha" None, structured ebx 29;
    "avx512vbmi" None, structured ecx 1;
    "avx512vbmi2" None, structured ecx 6;
    "gfni" None, structured ecx 8;
    "vaes" None, structured ecx 9;
    "vpclmulqdq" None, structured ecx 10;
    "avx512vnni" None, structured ecx 11;
    "avx512bitalg" None, structured ecx 12;
    "avx512vpopcntdq" None, structured ecx 14;
    "avx512vp2intersect" None, structured edx 8;
    "avx512fp16" None, structured edx 23;
    "avxvnni" None, structured_1 eax 4;
    "avx512bf16" None, structured_1 eax 5;
    "sse4a" None, extended ecx 6;
    "tbm" None, extended ecx 21;
}
