//! The KV cache of a model on a GPU, which the engine takes as a whole when it loads and deals out in blocks.
//!
//! A block holds the keys and values of [`BLOCK`] tokens in all layers:
//! `BLOCK × 2 × layers × kv_heads × head_size × bytes of a number`. The engine wants the size in MiB, makes as
//! many blocks as fit, and keeps the first for itself. A sequence takes the blocks of its tokens and one more,
//! for the token that it computes beyond its end.

use hangar_client::v1::{KvCache, kv_cache::Size};

use super::model_config::Shape;
use crate::{
    failure::Failure,
    kv_blocks::{BLOCK, RESERVED_BLOCKS, blocks_of, tokens_in},
};

/// Sizes of heads that the engine's kernel for paged attention has.
const HEAD_SIZES: [u64; 8] = [64, 80, 96, 112, 128, 192, 256, 512];

const MIB: u64 = 1 << 20;

/// The cache that a load is to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KvPlan {
    /// Its size in MiB.
    pub(crate) mib: u64,
    /// Longest sequence in tokens that fits, where that is less than the model allows.
    pub(crate) context: Option<u32>,
}

/// What the size of a cache follows from.
#[derive(Debug, Clone, Copy)]
pub(super) struct KvRequest {
    /// From the spec.
    pub(super) size: Option<KvCache>,
    /// Sizes of the model.
    pub(super) shape: Shape,
    /// Bytes of a number.
    pub(super) bytes_per_element: u64,
    /// Longest sequence in tokens; zero where it is not known.
    pub(super) context: u64,
    /// Whether the spec asks for that length.
    pub(super) context_is_requested: bool,
    /// Requests that run at the same time.
    pub(super) concurrency: u64,
    /// Memory of the device in bytes.
    pub(super) memory: u64,
}

impl KvPlan {
    /// The size in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.mib.saturating_mul(MIB)
    }
}

impl KvRequest {
    /// The cache to make. `None` for a model that the engine cannot compute with paged attention: its cache
    /// grows with each request, and its size cannot be asked for.
    pub(super) fn plan(&self) -> Result<Option<KvPlan>, Failure> {
        let block = self.block_bytes();
        if !HEAD_SIZES.contains(&self.shape.head_size) || block == 0 || self.context == 0 {
            return match self.size {
                None => Ok(None),
                Some(_) => Err(Failure::unusable(format!(
                    "The size of the KV cache cannot be chosen for this model: the engine has no paged \
                     attention for heads of {} numbers. Leave kv_cache out.",
                    self.shape.head_size
                ))),
            };
        }
        let Some(bytes) = self.requested_bytes() else {
            let sequence = blocks_of(self.context);
            let blocks = sequence
                .saturating_mul(self.concurrency)
                .saturating_add(RESERVED_BLOCKS);
            return Ok(Some(KvPlan {
                mib: blocks.saturating_mul(block).div_ceil(MIB),
                context: None,
            }));
        };
        let mib = bytes / MIB;
        let fits = tokens_in(mib.saturating_mul(MIB) / block);
        if fits < self.context && (self.context_is_requested || fits == 0) {
            return Err(self.too_small(bytes, fits, block));
        }
        let context = u32::try_from(fits).unwrap_or(u32::MAX);
        Ok(Some(KvPlan {
            mib,
            context: (fits < self.context).then_some(context),
        }))
    }

    /// Bytes of one block.
    pub(super) fn block_bytes(&self) -> u64 {
        [
            BLOCK,
            2,
            self.shape.layers,
            self.shape.kv_heads,
            self.shape.head_size,
            self.bytes_per_element,
        ]
        .into_iter()
        .fold(1, u64::saturating_mul)
    }

    fn requested_bytes(&self) -> Option<u64> {
        match self.size?.size? {
            Size::Bytes(bytes) => Some(bytes),
            // Exact enough, and never more than the whole.
            Size::MemoryShare(share) => {
                let bytes = self.memory as f64 * f64::from(share.clamp(0.0, 1.0));
                Some(bytes as u64)
            }
        }
    }

    fn too_small(&self, bytes: u64, fits: u64, block: u64) -> Failure {
        let needed = (blocks_of(self.context) + RESERVED_BLOCKS).saturating_mul(block);
        Failure::unusable(format!(
            "A KV cache of {bytes} bytes holds {fits} tokens, and the context of {} tokens takes {needed} \
             bytes. Give kv_cache at least that, or set context_length to at most {fits}.",
            self.context
        ))
    }
}

#[cfg(test)]
mod tests {
    use hangar_worker_protocol::FailureReason;

    use super::*;

    /// A model like Llama 3.1 8B in BF16: 128 KiB a token, 4 MiB a block.
    const REQUEST: KvRequest = KvRequest {
        size: None,
        shape: Shape {
            layers: 32,
            kv_heads: 8,
            head_size: 128,
            hidden_size: 4096,
            intermediate_size: 14_336,
            window_layers: 0,
            window: 0,
        },
        bytes_per_element: 2,
        context: 8192,
        context_is_requested: false,
        concurrency: 1,
        memory: 80 << 30,
    };

    fn sized(size: Size) -> KvRequest {
        let size = Some(KvCache { size: Some(size) });
        KvRequest { size, ..REQUEST }
    }

    fn plan(wanted: &KvRequest) -> KvPlan {
        wanted
            .plan()
            .expect("a good wish")
            .expect("paged attention")
    }

    #[bounded::test]
    fn without_a_size_each_request_gets_its_whole_context() {
        assert_eq!(REQUEST.block_bytes(), 4 * MIB);
        // 256 blocks for its tokens and one beyond, and the one that the engine keeps.
        assert_eq!(plan(&REQUEST).mib, (256 + 1 + 1) * 4);
        let four = KvRequest {
            concurrency: 4,
            ..REQUEST
        };
        assert_eq!(plan(&four).mib, ((256 + 1) * 4 + 1) * 4);
        assert_eq!(plan(&four).context, None);
    }

    #[bounded::test]
    fn what_is_planned_holds_what_it_was_planned_for() {
        for context in [1, 31, 32, 33, 8191, 8192, 131_072] {
            let wanted = KvRequest { context, ..REQUEST };
            let blocks = plan(&wanted).bytes() / wanted.block_bytes();
            assert!(tokens_in(blocks) >= context, "{context}");
            assert!(blocks >= blocks_of(context) + RESERVED_BLOCKS, "{context}");
        }
    }

    #[bounded::test]
    fn a_size_bounds_the_context() {
        let small = sized(Size::Bytes(258 * MIB));
        // 64 blocks, two of which hold no tokens of a sequence.
        assert_eq!(plan(&small).context, Some(62 * 32));
        assert_eq!(plan(&small).bytes(), 258 * MIB);
        let large = sized(Size::Bytes(8 << 30));
        assert_eq!(plan(&large).context, None);
    }

    #[bounded::test]
    fn a_share_is_one_of_the_whole_memory() {
        let quarter = sized(Size::MemoryShare(0.25));
        assert_eq!(plan(&quarter).bytes(), 20 << 30);
    }

    #[bounded::test]
    fn a_context_that_was_asked_for_and_does_not_fit_is_refused_with_the_numbers() {
        let wanted = KvRequest {
            context_is_requested: true,
            ..sized(Size::Bytes(258 * MIB))
        };
        let failure = wanted.plan().expect_err("too small");
        assert_eq!(failure.reason, FailureReason::ModelUnusable);
        let needed = (258 * 4 * MIB).to_string();
        for number in ["270532608", "1984", "8192", &needed] {
            assert!(failure.message.contains(number), "{failure}");
        }
        let nothing = sized(Size::Bytes(MIB));
        assert!(nothing.plan().is_err());
    }

    #[bounded::test]
    fn a_model_without_paged_attention_has_no_cache_size() {
        let shape = Shape {
            head_size: 16,
            ..REQUEST.shape
        };
        let wanted = KvRequest { shape, ..REQUEST };
        assert_eq!(wanted.plan().expect("a good wish"), None);
        let sized = KvRequest {
            shape,
            ..sized(Size::Bytes(1 << 30))
        };
        assert!(sized.plan().is_err());
    }

    #[bounded::test]
    fn absurd_sizes_do_not_wrap() {
        let wanted = KvRequest {
            context: u64::MAX,
            concurrency: 1024,
            ..REQUEST
        };
        assert_eq!(plan(&wanted).bytes(), u64::MAX);
    }
}
