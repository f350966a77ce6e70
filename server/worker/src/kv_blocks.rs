//! Blocks of a KV cache on a GPU: how many tokens they hold, and how many a sequence takes.

/// Tokens of a block.
pub(crate) const BLOCK: u64 = 32;

/// Blocks that no sequence gets.
pub(crate) const KEPT: u64 = 1;

/// Blocks of a sequence beyond those of its tokens.
const BEYOND: u64 = 1;

/// Blocks that a sequence of so many tokens takes.
pub(crate) fn blocks_of(tokens: u64) -> u64 {
    tokens.div_ceil(BLOCK).saturating_add(BEYOND)
}

/// Tokens of the longest sequence that fits into so many blocks.
pub(crate) fn tokens_in(blocks: u64) -> u64 {
    blocks.saturating_sub(KEPT + BEYOND).saturating_mul(BLOCK)
}
