//! Stubs and programs in other languages, made and run as `client/examples/README.md` says.
//!
//! A language whose toolchain is not installed is left out with a word on standard error.

use std::{
    collections::BTreeSet,
    io::{Write, stderr},
};

use anyhow::{Context, Result};
use hangar_client::v1::ErrorReason;
use hangar_tests::{
    fixtures::Fixtures,
    languages::{self, Example, Language},
    refusals::refusal,
    server::{DEADLINE, TestServer},
};
use rstest::rstest;
use tokio::{process::Command, task::spawn_blocking, time::timeout};
use tonic::Code;

/// Whether a language's toolchain is here. Says so if not, past the test harness, which would swallow it.
fn is_here(language: Language) -> Result<bool> {
    let Some(missing) = language.missing() else {
        return Ok(true);
    };
    let name = language.name();
    writeln!(
        stderr(),
        "left out: {name}, since `{missing}` does not work"
    )?;
    Ok(false)
}

/// What each of the programs prints against a fresh server, as the Rust client sees it.
async fn expected(server: &TestServer) -> Result<String> {
    let client = server.connect().await?;
    let answer = client
        .generate("demo")
        .message("user", "What is Hangar?")
        .temperature(0.0)
        .max_tokens(64)
        .text()
        .await?;
    let error = client.info().model("nobody").send().await;
    let refused = refusal(error, Code::NotFound, ErrorReason::ModelNotFound);
    let mut lines = vec!["snapshot complete".to_owned(), "loaded demo".to_owned()];
    for state in ["PENDING", "STARTING", "LOADING", "WARMING", "READY"] {
        lines.push(format!("watched MODEL_STATE_{state}"));
    }
    let usage = answer.done.usage.context("no usage")?;
    lines.push(answer.text.clone());
    lines.push(format!(
        "{}, {} tokens",
        answer.done.finish_reason().as_str_name(),
        usage.completion_tokens
    ));
    lines.push("MODEL_NOT_FOUND hangar.v1".to_owned());
    let metadata = &refused.details().metadata;
    lines.extend(metadata.iter().map(|(key, value)| format!("{key}={value}")));
    Ok(lines.join("\n") + "\n")
}

#[rstest]
#[case(Language::Go)]
#[case(Language::Python)]
#[case(Language::TypeScript)]
#[case(Language::Java)]
#[hangar_tests::test]
async fn a_program_loads_watches_generates_and_reads_errors(
    #[case] language: Language,
) -> Result<()> {
    if !is_here(language)? {
        return Ok(());
    }
    let build = move || Example::build(&hangar_codegen::workspace(), language);
    let example = spawn_blocking(build).await??;
    let server = TestServer::real()
        .fixtures(&Fixtures::new()?)
        .start()
        .await?;
    let mut program = Command::from(example.run(&server.listen().to_string())?);
    program.env("NO_PROXY", "127.0.0.1").kill_on_drop(true);
    let output = timeout(DEADLINE, program.output()).await??;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout)?;
    assert_eq!(text, expected(&server).await?, "{errors}");
    Ok(())
}

#[hangar_tests::test]
fn the_whole_template_makes_stubs_of_the_public_api_and_nothing_else() -> Result<()> {
    for language in Language::ALL {
        if !is_here(language)? {
            return Ok(());
        }
    }
    let root = hangar_codegen::workspace();
    let examples = Language::ALL.map(|language| Example::build(&root, language));
    let examples = examples.into_iter().collect::<Result<Vec<_>>>()?;
    let made = languages::generate(&root, &examples)?;
    let mut folders = BTreeSet::new();
    for path in &made {
        let (folder, _) = path.rsplit_once('/').context("a file lies nowhere")?;
        folders.insert(folder.trim_start_matches("client/examples/"));
    }
    let expected = [
        "go/gen/hangar/v1",
        "java/gen/hangar/v1",
        "python/gen/hangar/v1",
        "typescript/gen/google/rpc",
        "typescript/gen/hangar/v1",
    ];
    assert_eq!(folders, BTreeSet::from(expected));
    Ok(())
}
