//! In-situ quantization: the types that the engine makes of weights while it loads them.

use candle_core::{Device, quantized::GgmlDType};
use mistralrs::core::{IsqType, parse_isq_value};

use crate::failure::Failure;

/// Types that the engine makes and computes with on a CPU. It knows more, which need a GPU.
const NAMES: [&str; 10] = [
    "q2k", "q3k", "q4k", "q5k", "q6k", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0",
];

/// Numbers of bits that stand for the type of this size that suits the device best.
const BITS: [&str; 6] = ["2", "3", "4", "5", "6", "8"];

/// Bytes of a number that the engine quantizes from and that it falls back to.
const F32: u64 = 4;

/// A type of quantization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quantization {
    engine: IsqType,
    blocks: GgmlDType,
}

impl Quantization {
    /// The type of this name, for example "q4k", or of this number of bits; case does not matter.
    pub(crate) fn parse(name: &str) -> Result<Self, Failure> {
        let lowered = name.to_ascii_lowercase();
        let known = NAMES.contains(&lowered.as_str()) || BITS.contains(&lowered.as_str());
        known
            .then(|| parse_isq_value(&lowered, Some(&Device::Cpu)).ok())
            .flatten()
            .and_then(|engine| {
                let blocks = GgmlDType::try_from(engine).ok()?;
                Some(Self { engine, blocks })
            })
            .ok_or_else(|| {
                Failure::unusable(format!(
                    "The quantization {name} is not one that weights can be quantized to on a CPU. Set it \
                     to one of {}, or leave it out.",
                    NAMES.join(", ")
                ))
            })
    }

    /// The type in the engine's terms.
    pub(crate) fn engine(self) -> IsqType {
        self.engine
    }

    /// Name for people, for example "Q4K".
    pub(crate) fn name(self) -> String {
        self.engine.to_string().to_ascii_uppercase()
    }

    /// Size in bytes of a tensor with rows of `columns` numbers. Where these do not fill whole blocks the
    /// engine takes a type that is one up in size, and at last F32.
    pub(crate) fn bytes(self, elements: u64, columns: u64) -> u64 {
        let mut blocks = Some(self.blocks);
        while let Some(kind) = blocks {
            let block = kind.block_size() as u64;
            if columns.is_multiple_of(block) {
                return (elements / block).saturating_mul(kind.type_size() as u64);
            }
            blocks = fallback(kind);
        }
        elements.saturating_mul(F32)
    }
}

/// What the engine takes where rows are no multiple of a type's blocks.
fn fallback(kind: GgmlDType) -> Option<GgmlDType> {
    match kind {
        GgmlDType::Q2K | GgmlDType::Q3K => Some(GgmlDType::Q4_0),
        GgmlDType::Q4K => Some(GgmlDType::Q4_1),
        GgmlDType::Q5K => Some(GgmlDType::Q5_0),
        GgmlDType::Q6K => Some(GgmlDType::Q5_1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hangar_worker_protocol::FailureReason;

    use super::*;

    #[bounded::test]
    fn every_name_that_is_offered_is_known_to_the_engine() {
        for name in NAMES.into_iter().chain(BITS) {
            assert!(Quantization::parse(name).is_ok(), "{name}");
        }
        assert_eq!(
            Quantization::parse("Q4K").expect("a type"),
            Quantization::parse("4").expect("a type")
        );
        assert_eq!(Quantization::parse("q8_0").expect("a type").name(), "Q8_0");
    }

    #[bounded::test]
    fn an_unknown_type_is_refused_with_the_list() {
        for name in ["q9", "int4", "afq4", "7"] {
            let error = Quantization::parse(name).expect_err(name);
            assert_eq!(error.reason, FailureReason::ModelUnusable);
            for word in [name, "q4k", "q8_0"] {
                assert!(error.message.contains(word), "{error}");
            }
        }
    }

    #[bounded::test]
    fn rows_that_fill_no_blocks_take_a_larger_type() {
        let q4k = Quantization::parse("q4k").expect("a type");
        assert_eq!(q4k.bytes(512, 256), 2 * 144);
        assert_eq!(q4k.bytes(320, 160), 10 * 20);
        assert_eq!(q4k.bytes(100, 50), 400);
    }
}
