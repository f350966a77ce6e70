//! The Open Inference Protocol through Triton's own Python client.

use std::process::Stdio;

use anyhow::Result;
use hangar_tests::{
    fixtures::{Embedding, Fixtures},
    server::{DEADLINE, TestServer, spec},
    tools,
    workspace::workspace,
};
use rstest::rstest;
use tokio::{process::Command, task::spawn_blocking, time::timeout};

#[rstest]
#[case::triton_loads_calls_and_unloads_a_model("life")]
#[case::the_demo_model_answers("infer")]
#[case::a_stream_answers_many("stream")]
#[case::an_embedding_model_gives_vectors("embed")]
#[case::errors_have_their_codes("errors")]
#[case::the_wire_format_is_the_published_one("descriptors")]
#[hangar_tests::test]
async fn tritons_python_client_gets_what_it_asks_for(#[case] check: &str) -> Result<()> {
    let workspace = workspace();
    let python = spawn_blocking(tools::tritonclient).await??;
    let fixtures = Fixtures::new()?;
    let server = TestServer::real().fixtures(&fixtures).start().await?;
    if check == "embed" {
        let spec = spec(&fixtures.embedding(Embedding::Qwen3)?);
        let client = server.connect().await?;
        client.create_model("e", spec).send().await?;
    }
    let output = Command::new(python)
        // Leaves no compiled files behind.
        .arg("-B")
        .arg(tools::conformance().join("check_tritonclient.py"))
        .args([check, &server.listen().to_string()])
        .arg(workspace.join("server/worker/demo/answers.json"))
        .arg(workspace.join("client/src/gen/inference.bin"))
        .env("NO_PROXY", "127.0.0.1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(DEADLINE, output).await??;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(output.stdout, b"ok\n", "{errors}");
    Ok(())
}
