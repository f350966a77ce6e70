//! Models that the configuration file declares.

use std::{fs, path::PathBuf};

use hangar_client::v1::{ListModelsRequest, ModelOrigin};

use super::*;

/// A data directory and a configuration file.
struct ConfiguredServer {
    fixtures: Fixtures,
    directory: tempfile::TempDir,
}

impl ConfiguredServer {
    fn new() -> Result<Self> {
        Ok(Self {
            fixtures: Fixtures::new()?,
            directory: tempfile::tempdir()?,
        })
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("hangar.toml")
    }

    async fn start(&self, text: &str) -> Result<(TestServer, Catalog)> {
        fs::write(self.file(), text)?;
        let options = TestServer::scripted()
            .fixtures(&self.fixtures)
            .data_in(&self.directory.path().join("data"))
            .argument("--config")
            .argument(self.file());
        let server = options.start().await?;
        let catalog = catalog(&server).await?;
        Ok((server, catalog))
    }
}

async fn list(catalog: &mut Catalog) -> Result<Vec<Model>> {
    let page = catalog.list_models(ListModelsRequest::default()).await?;
    Ok(page.into_inner().models)
}

#[hangar_tests::test]
async fn declared_models_follow_the_file_at_each_start() -> Result<()> {
    let configured = ConfiguredServer::new()?;
    let text = "[[models]]\nid = \"A\"\naliases = [\"x\"]\nsource = \"demo\"\nlabels = { Team = \"a\" }\n\
                [[models]]\nid = \"b\"\nsource = \"demo\"\n";
    let (server, mut catalog) = configured.start(text).await?;
    create(&mut catalog, "api").await?;
    let first = get(&mut catalog, "x").await?;
    assert_eq!((&*first.model_id, first.origin()), ("A", ModelOrigin::File));
    let labels = first.spec.clone().unwrap_or_default().labels;
    assert_eq!(labels["Team"], "a");
    server.terminate().await?;

    let text = "[[models]]\nid = \"A\"\nsource = \"demo\"\ndisplay_name = \"new\"\n\
                [[models]]\nid = \"api\"\naliases = [\"x\"]\nsource = \"demo\"\ndisplay_name = \"api\"\n";
    let (server, mut catalog) = configured.start(text).await?;
    let models = list(&mut catalog).await?;
    let ids: Vec<_> = models.iter().map(|model| model.model_id.as_str()).collect();
    assert_eq!(ids, ["A", "api"]);
    assert_eq!((&models[0].uid, models[0].version), (&first.uid, 2));
    assert_eq!(
        (models[1].origin(), models[1].version),
        (ModelOrigin::File, 1)
    );
    assert_eq!(get(&mut catalog, "x").await?.model_id, "api");
    server.terminate().await?;

    let (_hangar, mut catalog) = configured.start("").await?;
    assert_eq!(list(&mut catalog).await?, []);
    Ok(())
}

#[hangar_tests::test]
async fn a_switch_of_a_declared_alias_outlives_a_restart() -> Result<()> {
    let configured = ConfiguredServer::new()?;
    let text = "[[models]]\nid = \"a\"\naliases = [\"x\"]\nsource = \"demo\"\n";
    let (server, mut catalog) = configured.start(text).await?;
    create(&mut catalog, "api").await?;
    server.connect().await?.switch("x", "api").wait().await?;
    server.terminate().await?;
    let (_hangar, mut catalog) = configured.start(text).await?;
    assert_eq!(get(&mut catalog, "x").await?.model_id, "api");
    Ok(())
}

#[hangar_tests::test]
async fn declared_models_are_not_changed_by_calls() -> Result<()> {
    let configured = ConfiguredServer::new()?;
    let (_hangar, mut catalog) = configured
        .start("[[models]]\nid = \"m\"\nsource = \"demo\"")
        .await?;
    let model = get(&mut catalog, "m").await?;
    let code = Code::FailedPrecondition;
    let update = catalog.update_model(renamed(&model, "new")).await;
    refusal(update, code, ErrorReason::ModelDeclared);
    for force in [false, true] {
        let request = DeleteModelRequest {
            model_id: "m".to_owned(),
            force,
            ..DeleteModelRequest::default()
        };
        let refused = catalog.delete_model(request).await;
        refusal(refused, code, ErrorReason::ModelDeclared);
    }
    let create = catalog.create_model(new("m")).await;
    refusal(create, Code::AlreadyExists, ErrorReason::ModelExists);
    assert_eq!(get(&mut catalog, "m").await?, model);
    Ok(())
}

#[hangar_tests::test]
async fn a_wrong_declaration_is_refused_with_the_model_and_the_key() -> Result<()> {
    let configured = ConfiguredServer::new()?;
    let (server, mut catalog) = configured.start("").await?;
    catalog.create_model(aliased("api", &["x"])).await?;
    server.terminate().await?;
    let outside = configured.fixtures.outside();
    let outside = format!("source = {{ path = {:?} }}", outside.display().to_string());
    let demo = "source = \"demo\"".to_owned();
    for (model, lines, part) in [
        ("m", format!("{demo}\npriority = 5000"), "priority: must be"),
        ("m", format!("{demo}\ncolour = 1"), "colour"),
        ("m", "kind = \"text\"".to_owned(), "source"),
        ("m", outside, "model roots"),
        ("m", format!("{demo}\naliases = [\"m\"]"), "aliases[0]"),
        ("x", demo.clone(), "the name x is taken by the model api"),
        (
            "m",
            format!("{demo}\naliases = [\"api\"]"),
            "the name api is taken",
        ),
    ] {
        let text = format!("[[models]]\nid = {model:?}\n{lines}");
        let started = configured.start(&text).await;
        let error = started.err().context("the server started")?;
        let text = format!("{error:#}");
        assert!(text.contains("models: "), "{text}");
        assert!(text.contains(part), "{part:?} not in {text}");
    }
    Ok(())
}
