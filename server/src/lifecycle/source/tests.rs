//! Which paths and repositories may be loaded, and what is said of the others.

use std::os::unix::fs::symlink;

use super::*;

const EVER: Duration = Duration::from_secs(3600);

async fn find(roots: &ModelRoots, source: Source) -> Result<ModelLocation, SourceError> {
    let found = roots.find(&Spec::of(source), TimeLimit::new(EVER)).await?;
    Ok(found.0)
}

async fn locate(roots: &ModelRoots, path: PathBuf) -> Result<ModelLocation, SourceError> {
    find(roots, Source::Path(path)).await
}

#[bounded::test]
async fn only_what_lies_below_a_root_is_allowed() {
    let dir = tempfile::tempdir().expect("a directory");
    let base = dir.path().canonicalize().expect("a path");
    for name in ["models/m", "models-secret/m"] {
        std::fs::create_dir_all(base.join(name)).expect("a directory");
    }
    symlink(base.join("models-secret/m"), base.join("models/leaves")).expect("a link");
    symlink(base.join("models/m"), base.join("models/stays")).expect("a link");
    let roots = ModelRoots::resolve(&[base.join("models")]).expect("a root");

    let inside = base.join("models/m");
    assert_eq!(
        locate(&roots, inside.clone()).await.ok(),
        Some(ModelLocation::Path(inside.clone()))
    );
    assert_eq!(
        locate(&roots, base.join("models/stays")).await.ok(),
        Some(ModelLocation::Path(inside))
    );
    for outside in [
        "models-secret/m",
        "models/leaves",
        "models/../models-secret/m",
        "models-secret/none",
    ] {
        let refused = locate(&roots, base.join(outside)).await;
        assert!(
            matches!(refused, Err(SourceError::NotAllowed { .. })),
            "{outside}"
        );
    }
    symlink(base.join("models-secret"), base.join("models/m/weights")).expect("a link");
    let refused = locate(&roots, base.join("models/m")).await;
    assert!(matches!(refused, Err(SourceError::NotAllowed { .. })));
    let missing = locate(&roots, base.join("models/none/at/all")).await;
    assert!(matches!(missing, Err(SourceError::Unreadable { .. })));
}

#[bounded::test]
async fn a_tokenizer_is_looked_up_like_a_model() {
    let dir = tempfile::tempdir().expect("a directory");
    let base = dir.path().canonicalize().expect("a path");
    std::fs::create_dir_all(base.join("models/m")).expect("a directory");
    std::fs::write(base.join("tokenizer.json"), "{}").expect("a file");
    std::fs::write(base.join("models/tokenizer.json"), "{}").expect("a file");
    let roots = ModelRoots::resolve(&[base.join("models")]).expect("a root");
    let check = async |source: &str, tokenizer: &str| {
        let mut spec = Spec::of(Source::Path(base.join(source)));
        spec.tokenizer = Some(base.join(tokenizer));
        roots.check(&spec, EVER).await
    };
    assert!(check("models/m", "models/tokenizer.json").await.is_ok());
    let none = check("models/m", "models/none.json").await;
    assert!(matches!(none, Err(SourceError::Unreadable { .. })));
    for source in ["models/m", "models/none"] {
        let outside = check(source, "tokenizer.json").await;
        assert!(matches!(outside, Err(SourceError::NotAllowed { .. })));
    }
}

#[bounded::test]
async fn adapters_are_looked_up_like_a_model() {
    let dir = tempfile::tempdir().expect("a directory");
    let base = dir.path().canonicalize().expect("a path");
    std::fs::create_dir_all(base.join("models/a")).expect("a directory");
    std::fs::create_dir_all(base.join("outside")).expect("a directory");
    symlink(base.join("models/a"), base.join("models/link")).expect("a link");
    let roots = ModelRoots::resolve(&[base.join("models")]).expect("a root");
    let check = async |path: &str| {
        let mut spec = Spec::of(Source::Path(base.join("models/none")));
        spec.adapters = vec![Adapter::at("a", base.join(path))];
        roots.check(&spec, EVER).await
    };
    for (path, allowed) in [("models/a", true), ("outside", false)] {
        let missing = matches!(check(path).await, Err(SourceError::Unreadable { .. }));
        assert_eq!(missing, allowed, "{path}");
    }
    let mut spec = Spec::of(Source::Demo);
    spec.adapters = vec![Adapter::at("a", base.join("models/link"))];
    let found = roots.find(&spec, TimeLimit::new(EVER)).await;
    let (_, spec) = found.expect("a link");
    assert_eq!(spec.adapters[0].path(), Some(&*base.join("models/a")));
    assert_eq!(spec.tokenizer, None);
}

#[bounded::test]
async fn an_adapter_that_hangs_is_held_against_its_own_path() {
    let dir = tempfile::tempdir().expect("a directory");
    let base = dir.path().canonicalize().expect("a path");
    let [model, adapter] = ["models/m", "adapters/a"].map(|name| base.join(name));
    for path in [&model, &adapter] {
        std::fs::create_dir_all(path).expect("a directory");
    }
    let roots = [base.join("models"), base.join("adapters")];
    let roots = ModelRoots::resolve(&roots).expect("roots");
    let (hold, held) = std::sync::mpsc::sync_channel::<()>(0);
    let hang = move || {
        let _ = held.recv();
    };
    let limit = TimeLimit::new(Duration::ZERO);
    let systems = roots.file_systems();
    let hung = systems.run(FsAccess::Validate, &adapter, limit, hang).await;
    assert!(hung.is_err());
    let plain = Spec::of(Source::Path(model));
    let mut adapted = plain.clone();
    adapted.adapters = vec![Adapter::at("a", adapter.clone())];
    match roots.check(&adapted, Duration::from_secs(1)).await {
        Err(SourceError::Unresponsive(error)) => assert_eq!(error.path, adapter),
        other => panic!("{other:?}"),
    }
    assert!(roots.check(&plain, EVER).await.is_ok());
    drop(hold);
    assert!(roots.check(&adapted, EVER).await.is_ok());
}

#[bounded::test]
async fn without_a_root_only_the_demo_is_allowed() {
    let roots = ModelRoots::default();
    assert!(find(&roots, Source::Demo).await.is_ok());
    assert!(matches!(
        locate(&roots, "/".into()).await,
        Err(SourceError::NotAllowed { .. })
    ));
}

#[bounded::test]
async fn only_repositories_that_are_listed_are_allowed() {
    let hub = |repository: &str| {
        Source::HuggingFace(HubSource {
            repository: repository.parse().expect("a name"),
            revision: "main".to_owned(),
            files: vec![],
        })
    };
    let roots = ModelRoots::default();
    let refused = find(&roots, hub("a/b")).await;
    assert!(matches!(
        refused,
        Err(SourceError::RepositoryNotAllowed { .. })
    ));
    let roots = roots.with_repositories(Repositories::new(vec!["a/*".to_owned()]));
    assert_eq!(
        find(&roots, hub("a/b")).await.ok(),
        Some(ModelLocation::Hub)
    );
    assert!(find(&roots, hub("b/a")).await.is_err());
}
