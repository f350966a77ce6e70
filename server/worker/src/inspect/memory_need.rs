//! How much memory a model is expected to need on the host.
//!
//! On a CPU the sum of
//! - the weights in the data type that they have in memory,
//! - what is needed for a while to quantize or read them, and to merge adapters into them,
//! - the key-value cache: `2 × kv_heads × head_size × bytes of a number` for each layer and token, for one sequence
//!   of the full context (rounded up to the engine's steps of 512 tokens; a layer with a window keeps no more than that),
//!   since requests take turns; where the spec asks for the context, with the copies that the engine makes of it as it grows
//!   ([`SequenceNeed`]), else the context is cut to what memory allows,
//! - the tables of positions, which the engine makes for the length that the model was made for: six bytes
//!   for each of a head's numbers, while they are made,
//! - working space: for up to 1,024 tokens of a prompt, `4 × (hidden + intermediate)` numbers of 4 bytes
//!   each, and the scores of the vocabulary; longer prompts are computed at once as far as memory allows
//!   ([`SequenceNeed`]),
//! - for a model that takes a text as a whole, no cache, working space for all of its context, and the masks
//!   of its attention, which have an entry for each pair of tokens,
//! - the tokenizer, at eight times the size of its file,
//! - what images need where the model takes them,
//! - a fixed 64 MiB for the process.
//!
//! Beside a GPU, which holds all of that, what is needed for a while to quantize, the tokenizer, and a fixed
//! 1 GiB for the process with the driver's and the libraries' own memory. All of it is estimated.

use super::model_config::Shape;
use crate::{device::TargetDevice, media::DECODING_BYTES};

/// Tokens by which the engine lets a cache grow.
const CACHE_STEP: u64 = 512;

/// Tokens of a prompt that are computed at a time.
const CHUNK: u64 = 1024;

/// What a process needs without a model.
const PROCESS: u64 = 64 << 20;

/// What a process that uses a GPU needs without a model.
const PROCESS_WITH_GPU: u64 = 1 << 30;

/// What a model's need of memory is made of.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MemoryNeed {
    /// Bytes of the weights in memory.
    pub(super) weights: u64,
    /// Bytes beyond that while they are quantized or read.
    pub(super) quantizing: u64,
    /// Bytes beyond that while adapters are merged into them.
    pub(super) merging: u64,
    /// Sizes of the model.
    pub(super) shape: Shape,
    /// Bytes of a number in the cache.
    pub(super) bytes_per_element: u64,
    /// Bytes of a number while a prompt is computed.
    pub(super) bytes_while_computed: u64,
    /// Longest sequence in tokens.
    pub(super) context: u64,
    /// Whether the spec asks for that length.
    pub(super) context_is_requested: bool,
    /// Longest sequence that the model was made for, in tokens.
    pub(super) trained_context: u64,
    /// Tokens of the vocabulary.
    pub(super) vocabulary: u64,
    /// Bytes of the tokenizer's file.
    pub(super) tokenizer: u64,
    /// Bytes of masks for each pair of tokens, if a text is taken as a whole and nothing of it kept.
    pub(super) mask_bytes_per_pair: Option<u64>,
    /// Bytes to compute images and to keep them. Zero where the model takes none.
    pub(super) images: u64,
}

/// What a sequence takes on a CPU beyond what the worker holds without it.
///
/// While a prompt is computed:
/// - for each token `4 × intermediate + 16 × hidden` numbers (measured with wide and with deep Llamas in F32 and F16: a fifth to
///   a third less), and for each pair of tokens a number of the mask, a byte to make it, and the same in F32, as attention takes it,
/// - the keys and values of a cache that grows in steps, once and a half; at the first step after that, when nothing else is
///   left, two and a half times, as the engine copies them.
///
/// While an answer grows, the engine holds the cache twice, and half of that of the prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SequenceNeed {
    /// Bytes for each token of a prompt that is computed at once.
    pub(crate) per_token: u64,
    /// Bytes for each pair of them.
    pub(crate) per_pair: u64,
    /// Keys and values.
    pub(crate) kept: KeptNeed,
}

/// What the keys and values of a sequence take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct KeptNeed {
    /// Bytes for each token.
    pub(crate) per_token: u64,
    /// Bytes for each token in layers that keep the last ones only.
    pub(crate) per_token_in_window: u64,
    /// How many those keep.
    pub(crate) window: u64,
}

impl KeptNeed {
    /// Bytes of a cache for so many tokens.
    pub(crate) fn bytes(&self, tokens: u64) -> u64 {
        let room = tokens.div_ceil(CACHE_STEP).saturating_mul(CACHE_STEP);
        let in_window = room.min(self.window);
        let kept = room.saturating_mul(self.per_token);
        kept.saturating_add(in_window.saturating_mul(self.per_token_in_window))
    }

    /// Bytes while a sequence grows to so many tokens, the first of which were computed at once.
    pub(crate) fn while_it_grows(&self, tokens: u64, first: u64) -> u64 {
        let prompt = self.bytes(first.min(tokens)) / 2;
        let twice = self.bytes(tokens).saturating_mul(2);
        twice.saturating_add(prompt)
    }
}

impl SequenceNeed {
    /// Bytes for a prompt of so many tokens that is computed at once.
    pub(crate) fn at_once(&self, tokens: u64) -> u64 {
        let pairs = tokens.saturating_mul(tokens).saturating_mul(self.per_pair);
        let computed = tokens.saturating_mul(self.per_token).saturating_add(pairs);
        let half = self.kept.bytes(tokens) / 2;
        let reading = half.saturating_mul(3).saturating_add(computed);
        reading.max(half.saturating_mul(5))
    }
}

impl MemoryNeed {
    /// What sequences take on that device; `None` where it is no matter of the host's, or a text is taken as a whole anyway.
    pub(super) fn sequence(&self, device: &TargetDevice) -> Option<SequenceNeed> {
        if *device != TargetDevice::Cpu || self.mask_bytes_per_pair.is_some() {
            return None;
        }
        let Shape {
            kv_heads,
            head_size,
            hidden_size,
            intermediate_size,
            ..
        } = self.shape;
        let width = hidden_size.max(kv_heads.saturating_mul(head_size));
        let numbers = intermediate_size
            .saturating_mul(4)
            .saturating_add(width.saturating_mul(16));
        Some(SequenceNeed {
            per_token: numbers.saturating_mul(self.bytes_while_computed),
            per_pair: self.bytes_while_computed + 1 + 4,
            kept: self.kept(),
        })
    }

    /// The need in bytes on a CPU. Absurd sizes give `u64::MAX` and not a wrong sum.
    fn bytes(&self) -> u64 {
        self.weights
            .saturating_add(self.quantizing)
            .saturating_add(self.merging)
            .saturating_add(self.cache_on_a_cpu())
            .saturating_add(self.positions())
            .saturating_add(self.working_space())
            .saturating_add(self.tokenizer.saturating_mul(8))
            .saturating_add(self.images)
            .saturating_add(self.decoding())
            .saturating_add(PROCESS)
    }

    /// As [`Self::on_the_host`], with room for the longest sequence in any case.
    pub(super) fn on_the_host_with_room(&self, device: &TargetDevice) -> u64 {
        let all = Self {
            context_is_requested: true,
            ..*self
        };
        all.on_the_host(device)
    }

    /// The need in bytes on the host, of a model that is on that device.
    pub(super) fn on_the_host(&self, device: &TargetDevice) -> u64 {
        match device {
            TargetDevice::Cpu => self.bytes(),
            TargetDevice::Gpu(_) => self.bytes_beside_gpu(),
        }
    }

    fn bytes_beside_gpu(&self) -> u64 {
        self.quantizing
            .saturating_add(self.merging)
            .saturating_add(self.tokenizer.saturating_mul(8))
            .saturating_add(self.decoding())
            .saturating_add(PROCESS_WITH_GPU)
    }

    /// Bytes to decode an image.
    fn decoding(&self) -> u64 {
        match self.images {
            0 => 0,
            _ => DECODING_BYTES,
        }
    }

    /// The cache of one sequence that grows as it needs.
    pub(super) fn cache(&self) -> u64 {
        if self.mask_bytes_per_pair.is_some() {
            return 0;
        }
        self.kept().bytes(self.context)
    }

    /// The same with the engine's copies, where all of the context is to be had.
    fn cache_on_a_cpu(&self) -> u64 {
        let is_kept = self.mask_bytes_per_pair.is_none();
        match self.context_is_requested && is_kept {
            true => self.kept().while_it_grows(self.context, self.context),
            false => self.cache(),
        }
    }

    fn kept(&self) -> KeptNeed {
        let Shape {
            layers,
            window_layers,
            window,
            kv_heads,
            head_size,
            ..
        } = self.shape;
        let in_a_layer = [2, kv_heads, head_size, self.bytes_per_element]
            .into_iter()
            .fold(1, u64::saturating_mul);
        let window_layers = window_layers.min(layers);
        KeptNeed {
            per_token: in_a_layer.saturating_mul(layers - window_layers),
            per_token_in_window: in_a_layer.saturating_mul(window_layers),
            window,
        }
    }

    /// Whether the cache of a whole context is no larger than the weights.
    pub(super) fn has_small_cache(&self) -> bool {
        self.cache() <= self.weights
    }

    pub(super) fn positions(&self) -> u64 {
        self.trained_context
            .saturating_mul(self.shape.head_size)
            .saturating_mul(6)
    }

    fn working_space(&self) -> u64 {
        let width = self
            .shape
            .hidden_size
            .saturating_add(self.shape.intermediate_size);
        let layer = width
            .saturating_mul(4)
            .saturating_mul(match self.mask_bytes_per_pair {
                None => self.context.min(CHUNK),
                Some(_) => self.context,
            });
        let pairs = self.context.saturating_mul(self.context);
        let masks = pairs.saturating_mul(self.mask_bytes_per_pair.unwrap_or(0));
        layer
            .saturating_add(self.vocabulary)
            .saturating_mul(4)
            .saturating_add(masks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        layers: 2,
        kv_heads: 2,
        head_size: 16,
        hidden_size: 64,
        intermediate_size: 128,
        window_layers: 0,
        window: 0,
    };

    #[bounded::test]
    fn the_cache_is_counted_in_whole_steps() {
        let need = MemoryNeed {
            shape: SHAPE,
            bytes_per_element: 2,
            context: 256,
            ..MemoryNeed::default()
        };
        assert_eq!(need.cache(), 2 * 2 * 2 * 16 * 2 * 512);
    }

    #[bounded::test]
    fn weights_are_counted_as_they_are() {
        let need = MemoryNeed {
            weights: 1 << 30,
            ..MemoryNeed::default()
        };
        assert_eq!(need.bytes(), (1 << 30) + PROCESS);
    }

    #[bounded::test]
    fn a_cache_is_small_beside_weights_of_its_size() {
        // Llama 3.1 8B in Q4_K_M, with a cache in F32.
        let with_context = |context| MemoryNeed {
            weights: 4_920_000_000,
            shape: Shape {
                layers: 32,
                kv_heads: 8,
                head_size: 128,
                ..SHAPE
            },
            bytes_per_element: 4,
            context,
            ..MemoryNeed::default()
        };
        assert!(with_context(16_384).has_small_cache());
        assert!(!with_context(131_072).has_small_cache());
    }

    #[bounded::test]
    fn prompts_on_a_cpu_take_what_grows_with_their_length() {
        let need = MemoryNeed {
            shape: SHAPE,
            bytes_per_element: 2,
            bytes_while_computed: 4,
            ..MemoryNeed::default()
        };
        let prefill = need.sequence(&TargetDevice::Cpu).expect("a need");
        let kept = 2 * 2 * 2 * 16 * 2;
        assert_eq!(prefill.kept.per_token, kept);
        let computed = 1000 * (4 * 128 + 16 * 64) * 4 + 1000 * 1000 * 9;
        assert_eq!(prefill.at_once(1000), computed + 1024 * kept * 3 / 2);
        let deep = SequenceNeed {
            kept: KeptNeed {
                per_token: 1 << 20,
                ..prefill.kept
            },
            ..prefill
        };
        assert_eq!(deep.at_once(1), 512 * (5 << 20) / 2);
        let whole = MemoryNeed {
            mask_bytes_per_pair: Some(10),
            ..need
        };
        assert_eq!(whole.sequence(&TargetDevice::Cpu), None);
    }

    #[bounded::test]
    fn layers_with_a_window_keep_no_more_than_that() {
        let with_window = |window_layers| MemoryNeed {
            shape: Shape {
                window_layers,
                window: 600,
                ..SHAPE
            },
            bytes_per_element: 2,
            context: 4096,
            ..MemoryNeed::default()
        };
        let layer = 2 * 2 * 16 * 2;
        assert_eq!(with_window(0).cache(), 2 * layer * 4096);
        assert_eq!(with_window(1).cache(), layer * (4096 + 600));
        assert_eq!(with_window(2).cache(), 2 * layer * 600);
    }

    #[bounded::test]
    fn a_context_that_is_asked_for_is_counted_with_the_copies_of_its_cache() {
        let need = MemoryNeed {
            shape: SHAPE,
            bytes_per_element: 2,
            context: 1000,
            ..MemoryNeed::default()
        };
        let requested = MemoryNeed {
            context_is_requested: true,
            ..need
        };
        let kept = 2 * 2 * 2 * 16 * 2;
        assert_eq!(need.cache_on_a_cpu(), kept * 1024);
        assert_eq!(requested.cache_on_a_cpu(), kept * (2 * 1024 + 512));
        let whole = MemoryNeed {
            mask_bytes_per_pair: Some(10),
            ..requested
        };
        assert_eq!(whole.cache_on_a_cpu(), 0);
    }

    #[bounded::test]
    fn what_takes_a_text_as_a_whole_has_masks_and_no_cache() {
        let need = MemoryNeed {
            shape: SHAPE,
            bytes_per_element: 4,
            context: 2048,
            mask_bytes_per_pair: Some(10),
            ..MemoryNeed::default()
        };
        assert_eq!(need.cache(), 0);
        let layer = 4 * (64 + 128) * 2048 * 4;
        assert_eq!(need.working_space(), layer + 10 * 2048 * 2048);
    }

    #[bounded::test]
    fn beside_a_gpu_the_weights_are_not_on_the_host() {
        let need = MemoryNeed {
            weights: 16 << 30,
            tokenizer: 1 << 20,
            quantizing: 3 << 20,
            ..MemoryNeed::default()
        };
        assert_eq!(
            need.bytes_beside_gpu(),
            PROCESS_WITH_GPU + (8 << 20) + (3 << 20)
        );
    }

    #[bounded::test]
    fn absurd_sizes_do_not_wrap() {
        let need = MemoryNeed {
            shape: Shape {
                layers: u64::MAX,
                ..SHAPE
            },
            bytes_per_element: 4,
            context: u64::MAX - 1000,
            ..MemoryNeed::default()
        };
        assert_eq!(need.bytes(), u64::MAX);
    }
}
