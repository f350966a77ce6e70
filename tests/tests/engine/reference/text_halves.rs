//! Directories of models that take images, without a file that says how: they are models of text.

use anyhow::Result;
use hangar_client::v1::{ErrorReason, ModelKind};
use hangar_tests::{
    fixtures::{Fixtures, Reference},
    refusals::refusal,
    server::TestServer,
};
use tonic::Code;

use super::{EXACT, assert_none, differences, exact_spec};

const MODELS: [&str; 2] = ["gemma3-images", "qwen3-images"];

#[hangar_tests::test]
async fn a_directory_without_a_word_on_images_answers_texts_as_the_reference() -> Result<()> {
    let fixtures = Fixtures::new()?;
    let hangar = TestServer::real().fixtures(&fixtures).start().await?;
    let client = hangar.connect().await?;
    let mut wrong = Vec::new();
    for name in MODELS {
        let model = Reference::named(name)?;
        let mut spec = exact_spec(&fixtures, &model)?;
        std::fs::remove_file(fixtures.root().join(name).join("processor_config.json"))?;
        spec.set_kind(ModelKind::Multimodal);
        let refusal = refusal(
            client.load(name).spec(spec.clone()).wait().await,
            Code::FailedPrecondition,
            ErrorReason::ModelUnusable,
        );
        let message = refusal.message();
        assert!(message.contains("preprocessor_config.json"), "{message}");
        for kind in [ModelKind::Unspecified, ModelKind::Text] {
            spec.set_kind(kind);
            let load = client.load(name).spec(spec.clone());
            load.force_reload().wait().await?;
            wrong.extend(differences(&client, name, &model.answers, EXACT).await);
            let info = client.info().model(name).send().await?;
            let metadata = info.models.into_iter().find_map(|model| model.metadata);
            let inputs = metadata.map(|it| (it.kind(), it.input_modalities));
            assert_eq!(inputs, Some((ModelKind::Text, vec!["text".to_owned()])));
        }
    }
    assert_none(&wrong);
    Ok(())
}
