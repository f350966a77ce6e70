//! Blocks of a KV cache on a GPU: how many tokens they hold, and how many a sequence takes.

/// Tokens of a block.
pub(crate) const BLOCK: u64 = 32;

/// Blocks that no sequence gets.
pub(crate) const RESERVED_BLOCKS: u64 = 1;

/// Blocks of a sequence beyond those of its tokens.
const EXTRA_BLOCKS: u64 = 1;

/// Blocks that a sequence of so many tokens takes.
pub(crate) fn blocks_of(tokens: u64) -> u64 {
    tokens.div_ceil(BLOCK).saturating_add(EXTRA_BLOCKS)
}

/// Tokens of the longest sequence that fits into so many blocks.
pub(crate) fn tokens_in(blocks: u64) -> u64 {
    blocks
        .saturating_sub(RESERVED_BLOCKS + EXTRA_BLOCKS)
        .saturating_mul(BLOCK)
}
