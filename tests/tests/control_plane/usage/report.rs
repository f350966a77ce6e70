//! `hangarctl report`.

use anyhow::{Context, Result};
use hangar_client::v1::ModelInfo;
use hangar_tests::server::{DEADLINE, binary};
use serde_json::Value;
use tokio::{process::Command, time::timeout};

use super::{
    UsedServer,
    history::{hurried, sums},
};

async fn hangarctl(used: &UsedServer, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(binary("hangarctl")?);
    let command = command
        .args(arguments)
        .env("HANGAR_SERVER", used.url())
        .kill_on_drop(true);
    let output = timeout(DEADLINE, command.output()).await??;
    anyhow::ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

#[hangar_tests::test]
async fn the_report_sums_up_what_a_model_did() -> Result<()> {
    let mut used = UsedServer::start(hurried).await?;
    used.ask("What is Hangar?", 64).await?;
    used.ask("What is 17 + 25?", 64).await?;
    let whole = |model: &ModelInfo| (sums(&model.history).0 == 2).then_some(());
    used.when("demo", whole).await?;
    let table = hangarctl(&used, &["report", "demo"]).await?;
    let all = table.lines().last().context("a last line")?;
    let cells: Vec<_> = all
        .split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .collect();
    let sent = used.sent;
    let expected = ["2", "100 %", "0"].map(str::to_owned);
    assert_eq!(
        (cells[0], &cells[2..5]),
        ("all", &expected.each_ref().map(String::as_str)[..]),
        "{table}"
    );
    let tokens = [
        sent.prompt_tokens.to_string(),
        sent.completion_tokens.to_string(),
    ];
    assert_eq!(cells[5..7], tokens, "{table}");

    let minutes = hangarctl(&used, &["report", "demo", "--minutes"]).await?;
    assert!(minutes.lines().count() >= 3, "{minutes}");
    let json = hangarctl(&used, &["report", "demo", "--output", "json"]).await?;
    let json: Value = serde_json::from_str(&json)?;
    let reported: u64 = json["history"]
        .as_array()
        .context("a history")?
        .iter()
        .filter_map(|sample| sample["completionTokens"].as_str()?.parse::<u64>().ok())
        .sum();
    assert_eq!(reported, sent.completion_tokens);
    let info = hangarctl(&used, &["info", "demo"]).await?;
    assert!(info.contains("2 requests, 0 failed, 0 cancelled"), "{info}");
    Ok(())
}

#[hangar_tests::test]
async fn an_empty_report_says_so() -> Result<()> {
    let used = UsedServer::start(|options| options).await?;
    let text = hangarctl(&used, &["report", "demo"]).await?;
    assert!(text.contains("neither loaded nor used"), "{text}");
    Ok(())
}
