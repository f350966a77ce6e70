//! What is reported of a model that takes images, and files of which none can be made.

use std::path::PathBuf;

use anyhow::{Context, Result};
use hangar_client::v1::{ErrorReason, ModelKind};
use hangar_tests::{
    fixtures::{Fixtures, Quantization},
    refusals::refusal,
    server::{TestServer, spec},
};
use serde_json::{Value, json};
use tonic::Code;

use super::{VisionServer, picture, text};

#[hangar_tests::test]
async fn the_kind_and_the_inputs_of_a_model_are_reported() -> Result<()> {
    let server = TestServer::gemma_with(|spec| spec.kind = ModelKind::Multimodal.into()).await?;
    let metadata = server.info().await?.metadata.context("metadata")?;
    assert_eq!(metadata.kind(), ModelKind::Multimodal);
    assert_eq!(metadata.architecture, "Gemma3ForConditionalGeneration");
    assert_eq!(metadata.input_modalities, ["text", "image"]);
    assert_eq!(metadata.output_modalities, ["text"]);
    assert_eq!(
        (metadata.context_length, metadata.vocabulary_size),
        (256, 264)
    );
    assert!(metadata.parameter_count > 100_000);
    Ok(())
}

#[hangar_tests::test]
async fn a_kind_that_the_files_are_not_of_is_refused() -> Result<()> {
    let server = TestServer::gemma().await?;
    for (path, kind, words) in [
        (server.fixtures.gemma3()?, ModelKind::Text, "MULTIMODAL"),
        (server.fixtures.llama()?, ModelKind::Multimodal, "TEXT"),
        (
            server.fixtures.llama_gguf(Quantization::Q8_0)?,
            ModelKind::Multimodal,
            "TEXT",
        ),
    ] {
        let mut spec = spec(&path);
        spec.kind = kind.into();
        let load = server.client.load(format!("other-{words}")).spec(spec);
        let refusal = refusal(
            load.force_reload().wait().await,
            Code::FailedPrecondition,
            ErrorReason::ModelUnusable,
        );
        assert!(refusal.message().contains(words), "{refusal:?}");
        server
            .client
            .delete_model(format!("other-{words}"))
            .send()
            .await?;
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_model_in_half_precision_or_quantized_takes_images_too() -> Result<()> {
    use hangar_client::v1::DataType;
    for quantization in ["", "q8_0"] {
        let server = TestServer::gemma_with(|spec| {
            spec.dtype = DataType::F16.into();
            spec.quantization = quantization.into();
        })
        .await?;
        let one = server.answer_to([picture(1)?, text("What?")]).await?.text;
        let two = server.answer_to([picture(2)?, text("What?")]).await?.text;
        assert_ne!(one, two);
    }
    Ok(())
}

#[hangar_tests::test]
async fn a_chat_template_of_the_spec_is_used() -> Result<()> {
    let template = "{% for m in messages %}{{ m['content'] }}{% endfor %}";
    let own = TestServer::gemma().await?;
    let other = TestServer::gemma_with(|spec| spec.chat_template = template.into()).await?;
    let ask = async |server: &TestServer| {
        let answer = server.answer_to([picture(1)?, text("What?")]).await?;
        anyhow::Ok(super::prompt_tokens(&answer))
    };
    // The line ends and marks of the own template are not there.
    assert_eq!(ask(&other).await?, 10 + 5);
    assert!(ask(&own).await? > 10 + 5);
    Ok(())
}

/// A copy of the model with a changed JSON file; without the file for `None`.
fn changed(fixtures: &Fixtures, file: &str, change: Option<(&str, Value)>) -> Result<PathBuf> {
    let name = format!("changed-{}", fastrand::u64(..));
    let directory = fixtures.directory(&name)?;
    for entry in std::fs::read_dir(fixtures.gemma3()?)? {
        let entry = entry?;
        std::fs::copy(entry.path(), directory.join(entry.file_name()))?;
    }
    let path = directory.join(file);
    let Some((pointer, value)) = change else {
        std::fs::remove_file(path)?;
        return Ok(directory);
    };
    let mut json: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    *json.pointer_mut(pointer).context("the field")? = value;
    std::fs::write(&path, serde_json::to_vec(&json)?)?;
    Ok(directory)
}

/// A file, what is changed in it, and words of the refusal; the file is missing for `None`.
type Broken = (&'static str, Option<(&'static str, Value)>, &'static str);

/// Makes sure that each of these is refused before a load, and that a sound model beside them answers as it did.
async fn assert_refused<const N: usize>(cases: [Broken; N]) -> Result<()> {
    let server = TestServer::gemma().await?;
    let before = server.answer_to([picture(1)?]).await?.text;
    for (n, (file, change, words)) in cases.into_iter().enumerate() {
        let path = changed(&server.fixtures, file, change)?;
        let load = server.client.load(format!("broken-{n}")).spec(spec(&path));
        let refusal = refusal(
            load.wait().await,
            Code::FailedPrecondition,
            ErrorReason::ModelUnusable,
        );
        assert!(refusal.message().contains(words), "{n}: {refusal:?}");
    }
    assert_eq!(server.answer_to([picture(1)?]).await?.text, before);
    Ok(())
}

#[hangar_tests::test]
async fn a_preparation_of_images_that_is_unknown_or_does_not_fit_is_refused() -> Result<()> {
    const FILE: &str = "preprocessor_config.json";
    let changed = |field: &'static str, value: Value| Some((field, value));
    assert_refused([
        (FILE, changed("/do_rescale", json!(null)), "do_rescale"),
        (FILE, changed("/do_resize", json!("yes")), FILE),
        (FILE, changed("/resample", json!(77)), "filter"),
        (FILE, changed("/size/width", json!(64)), "32 x 32"),
        (FILE, changed("/image_mean", json!([0.5])), FILE),
        (
            FILE,
            changed("/do_pan_and_scan", json!(true)),
            "pan and scan",
        ),
    ])
    .await
}

#[hangar_tests::test]
async fn a_processor_that_does_not_say_how_many_tokens_an_image_has_is_refused() -> Result<()> {
    const FILE: &str = "processor_config.json";
    const FIELD: &str = "/image_seq_length";
    assert_refused([
        (FILE, None, "image_seq_length"),
        (FILE, Some((FIELD, json!(9))), "image_seq_length"),
    ])
    .await
}

#[hangar_tests::test]
async fn a_configuration_whose_parts_do_not_belong_together_is_refused() -> Result<()> {
    let changed = |field: &'static str, value: Value| ("config.json", Some((field, value)));
    let other = json!("Idefics2ForConditionalGeneration");
    let cases = [
        (changed("/image_token_index", json!(5)), "image_token_index"),
        (changed("/mm_tokens_per_image", json!(5)), "evenly"),
        (changed("/vision_config/patch_size", json!(0)), "evenly"),
        (
            changed("/vision_config/hidden_size", json!(48)),
            "belong together",
        ),
        (
            changed("/architectures/0", other),
            "Gemma3ForConditionalGeneration",
        ),
    ];
    assert_refused(cases.map(|((file, change), words)| (file, change, words))).await
}

#[hangar_tests::test]
async fn how_images_are_prepared_may_be_in_the_file_of_the_processor() -> Result<()> {
    let server = TestServer::gemma().await?;
    let before = server.answer_to([picture(1)?]).await?.text;
    let path = changed(&server.fixtures, "preprocessor_config.json", None)?;
    let fields = std::fs::read(server.fixtures.gemma3()?.join("preprocessor_config.json"))?;
    let fields: Value = serde_json::from_slice(&fields)?;
    // As transformers 5 writes it.
    let file = path.join("processor_config.json");
    let mut processor: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    processor["image_processor"] = fields;
    std::fs::write(&file, serde_json::to_vec(&processor)?)?;
    let load = server.client.load("m").spec(spec(&path));
    load.force_reload().wait().await?;
    assert_eq!(server.answer_to([picture(1)?]).await?.text, before);
    processor["image_processor"]["resample"] = json!(77);
    std::fs::write(&file, serde_json::to_vec(&processor)?)?;
    let refusal = refusal(
        server.client.load("other").spec(spec(&path)).wait().await,
        Code::FailedPrecondition,
        ErrorReason::ModelUnusable,
    );
    let words = "processor_config.json asks for the filter 77";
    assert!(refusal.message().contains(words), "{refusal}");
    Ok(())
}
