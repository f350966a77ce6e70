//! Names of the files that a model's weights are split into.

/// Number and count of a shard, from its name `model-NUMBER-of-COUNT.safetensors`.
pub fn shard(name: &str) -> Option<(u32, u32)> {
    let numbers = name.strip_prefix("model-")?.strip_suffix(".safetensors")?;
    let (number, count) = numbers.split_once("-of-")?;
    Some((number.parse().ok()?, count.parse().ok()?))
}
