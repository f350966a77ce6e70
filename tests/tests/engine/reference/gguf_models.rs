//! What tiny GGUF files of every architecture and type of tensors answer, against llama.cpp; or the documented refusal.

use anyhow::Result;
use hangar_client::v1::DataType;
use hangar_tests::{
    fixtures::{Fixtures, GgufReference},
    server::{TestServer, spec},
};

use super::{EXACT, HALF, assert_none, differences, is_served};

/// Files that are refused, and what the refusal names.
pub(super) const REFUSED: &[(&str, &str)] = &[
    ("llama-partial", "llama.rope.dimension_count"),
    ("llama-linear", "llama.rope.scaling.factor"),
    ("llama-linear-old", "llama.rope.scale_linear"),
    ("llama-yarn", "llama.rope.scaling.factor"),
    ("llama-frequencies", "rope_freqs.weight"),
    ("llama-bias", "attn_k.bias"),
    ("llama-output-bias", "attn_output.bias"),
    ("llama-mlp-bias", "ffn_down.bias"),
    ("llama-scale", "llama.attention.scale"),
    ("llama-logit-scale", "llama.logit_scale"),
    ("llama-caps", "llama.attn_logit_softcapping"),
    ("llama-no-dimensions", "llama.rope.dimension_count"),
    ("llama-no-kv-heads", "llama.attention.head_count_kv"),
    ("llama-heads-of-layers", "llama.attention.head_count_kv"),
    ("llama-experts", "ffn_down_exps.weight"),
    (
        "mistral3-temperature",
        "mistral3.attention.temperature_scale",
    ),
    ("mistral3-yarn", "mistral3.rope.scaling.factor"),
    ("qwen2-wide-heads", "qwen2.attention.key_length"),
    ("qwen2-output-bias", "attn_output.bias"),
    ("qwen2-yarn", "qwen2.rope.scaling.factor"),
    ("qwen3moe", "qwen3moe"),
    ("phi3", "of the type F32"),
    ("phi3-partial", "phi3.rope.dimension_count"),
    ("phi3-base", "phi3.rope.freq_base"),
    ("phi3-factors", "phi3.rope.scaling.attn_factor"),
    ("phi3-tied", "output.weight"),
    ("starcoder2", "of the type F32"),
    ("starcoder2-no-base", "starcoder2.rope.freq_base"),
    ("starcoder2-partial", "starcoder2.rope.dimension_count"),
    ("starcoder2-tied", "output.weight"),
];

/// By how much a log probability may differ where both sides round what they multiply with blocks.
const QUANTIZED: f32 = 0.3;

#[hangar_tests::test]
async fn gguf_files_answer_as_llama_cpp_or_are_refused_by_name() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let hangar = TestServer::real().fixtures(&fixtures).start().await?;
    let client = hangar.connect().await?;
    let mut wrong = Vec::new();
    for model in GgufReference::all()? {
        let mut spec = spec(&fixtures.gguf_reference(&model)?);
        spec.set_dtype(DataType::F32);
        if is_served(&client, &model.name, spec, REFUSED, &mut wrong).await {
            if model.answers.is_empty() {
                wrong.push(format!("{}: llama.cpp does not load it", model.name));
            }
            let tolerance = match (model.is_quantized(), model.is_half()) {
                (true, _) => QUANTIZED,
                (false, true) => HALF,
                (false, false) => EXACT,
            };
            wrong.extend(differences(&client, &model.name, &model.answers, tolerance).await);
            client.unload(&model.name).send().await?;
        }
    }
    assert_none(&wrong);
    Ok(())
}
