//! The API through `buf curl`, which learns all of it by reflection: the lines that people type.

use std::{fs, path::PathBuf, process::Stdio};

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use hangar_tests::{
    scripted::Script,
    server::{DEADLINE, TestServer},
    tools,
};
use prost::Message;
use rstest::rstest;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    task::spawn_blocking,
    time::timeout,
};
use tonic_types::pb::ErrorInfo;

/// Methods of others' services that a server offers; of its own it offers all.
const METHODS_OF_OTHERS: [&str; 4] = [
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Where the protos of the services lie that a server offers, from the root of the repository.
const PROTOS: [&str; 2] = ["proto/hangar/v1", "proto/inference"];

/// The methods that a proto defines, as its text says.
fn methods(proto: &str) -> Vec<String> {
    let word = |line: &str, keyword: &str| {
        let rest = line.trim_start().strip_prefix(keyword)?;
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '.' && c != '_');
        Some(rest[..end.unwrap_or(rest.len())].to_owned())
    };
    let (mut package, mut service, mut methods) = (String::new(), String::new(), Vec::new());
    for line in proto.lines() {
        if let Some(name) = word(line, "package ") {
            package = name;
        } else if let Some(name) = word(line, "service ") {
            service = name;
        } else if let Some(name) = word(line, "rpc ") {
            methods.push(format!("{package}.{service}/{name}"));
        }
    }
    methods
}

/// Everything that a server offers, in order.
fn all_methods() -> Result<Vec<String>> {
    let mut all: Vec<String> = METHODS_OF_OTHERS.map(str::to_owned).into();
    for folder in PROTOS.map(|folder| hangar_codegen::workspace().join(folder)) {
        for file in fs::read_dir(folder)? {
            all.extend(methods(&fs::read_to_string(file?.path())?));
        }
    }
    anyhow::ensure!(all.len() > 30, "{all:?}");
    all.sort();
    Ok(all)
}

/// `buf curl` for a server, by one version of the reflection protocol.
struct Curl {
    buf: PathBuf,
    url: String,
    reflection: &'static str,
}

impl Curl {
    async fn new(server: &TestServer, reflection: &'static str) -> Result<Self> {
        Ok(Self {
            buf: spawn_blocking(tools::buf).await??,
            url: server.url(),
            reflection,
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.buf);
        command
            .args(["curl", "--protocol", "grpc", "--http2-prior-knowledge"])
            .args(["--reflect-protocol", self.reflection])
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// The responses of a call, or the error as it is printed.
    async fn call(&self, method: &str, request: Value) -> Result<Result<Vec<Value>, Value>> {
        let mut command = self.command();
        command.args(["--data", &request.to_string()]);
        let output = command.arg(format!("{}/{method}", self.url)).output();
        let output = timeout(DEADLINE, output).await??;
        let printed = if output.status.success() {
            &output.stdout
        } else {
            &output.stderr
        };
        let values = serde_json::Deserializer::from_slice(printed).into_iter();
        let values: Vec<Value> = values
            .collect::<Result<_, _>>()
            .with_context(|| format!("{method} printed {}", String::from_utf8_lossy(printed)))?;
        Ok(match output.status.success() {
            true => Ok(values),
            false => Err(values.into_iter().next().context("no error")?),
        })
    }

    /// The only response of a call.
    async fn one(&self, method: &str, request: Value) -> Result<Value> {
        let answer = self.call(method, request).await?;
        let values = answer.map_err(|error| anyhow::anyhow!("{method}: {error}"))?;
        anyhow::ensure!(values.len() == 1, "{method}: {values:?}");
        values.into_iter().next().context("no response")
    }

    /// The error of a call: it has to have this code, this reason, and details of these types.
    async fn refused(
        &self,
        method: &str,
        request: Value,
        code: &str,
        reason: &str,
        types: &[&str],
    ) -> Result<()> {
        let Err(error) = self.call(method, request).await? else {
            anyhow::bail!("{method} succeeded")
        };
        assert_eq!(error["code"], code, "{error}");
        let details = error["details"].as_array().context("no details")?;
        let reported: Vec<_> = details
            .iter()
            .filter_map(|detail| detail["type"].as_str())
            .collect();
        assert_eq!(reported, types, "{error}");
        if types.contains(&"google.rpc.ErrorInfo") {
            let value = details[0]["value"].as_str().context("no value")?;
            let info = ErrorInfo::decode(STANDARD_NO_PAD.decode(value)?.as_slice())?;
            assert_eq!(
                (info.reason.as_str(), info.domain.as_str()),
                (reason, "hangar.v1")
            );
        }
        Ok(())
    }
}

#[rstest]
#[hangar_tests::test]
async fn every_method_is_listed(
    #[values("grpc-v1", "grpc-v1alpha")] version: &'static str,
) -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    let curl = Curl::new(&server, version).await?;
    let output = curl.command().arg("--list-methods").arg(&curl.url).output();
    let output = timeout(DEADLINE, output).await??;
    let listed = String::from_utf8(output.stdout)?;
    assert_eq!(listed.lines().collect::<Vec<_>>(), all_methods()?);
    Ok(())
}

fn of_m(mut fields: Value) -> Value {
    fields["model_id"] = "m".into();
    fields
}

#[rstest]
#[hangar_tests::test]
async fn a_model_is_loaded_reported_and_unloaded(
    #[values("grpc-v1", "grpc-v1alpha")] version: &'static str,
) -> Result<()> {
    let server = TestServer::real().start().await?;
    let curl = Curl::new(&server, version).await?;
    let source = json!({"path": server.fixtures.llama()?});
    let load = of_m(json!({"spec": {"source": source}, "wait": true}));
    let loaded = curl.one("hangar.v1.ModelService/LoadModel", load).await?;
    assert_eq!(loaded["loads"][0]["status"]["state"], "MODEL_STATE_READY");
    let info = curl
        .one("hangar.v1.ModelService/GetInfo", json!({}))
        .await?;
    assert_eq!(info["models"][0]["modelId"], "m");
    let health = json!({"service": "model/m"});
    let health = curl.one("grpc.health.v1.Health/Check", health).await?;
    assert_eq!(health["status"], "SERVING");
    let unload = curl
        .one("hangar.v1.ModelService/UnloadModel", of_m(json!({})))
        .await?;
    assert_eq!(
        unload["unloads"][0]["verification"],
        "UNLOAD_VERIFICATION_REAPED"
    );
    Ok(())
}

#[rstest]
#[hangar_tests::test]
async fn a_prompt_is_answered_and_a_text_comes_back_from_its_tokens(
    #[values("grpc-v1", "grpc-v1alpha")] version: &'static str,
) -> Result<()> {
    let server = TestServer::tiny().await?;
    let curl = Curl::new(&server, version).await?;
    let prompt = of_m(json!({"prompt": "hello", "max_tokens": 4, "sampling": {"temperature": 0}}));
    let answer = curl
        .call("hangar.v1.InferenceService/Generate", prompt)
        .await?;
    let answer = answer.map_err(|error| anyhow::anyhow!("{error}"))?;
    let done = &answer.last().context("no answer")?["done"];
    assert_eq!(
        done["usage"],
        json!({"promptTokens": 5, "completionTokens": 4})
    );
    let text = of_m(json!({"text": "hello"}));
    let tokens = curl
        .one("hangar.v1.InferenceService/Tokenize", text)
        .await?;
    let ids = of_m(json!({"token_ids": tokens["tokenIds"]}));
    let text = curl
        .one("hangar.v1.InferenceService/Detokenize", ids)
        .await?;
    assert_eq!(text["text"], "hello");
    Ok(())
}

#[rstest]
#[hangar_tests::test]
async fn reflection_itself_lists_every_service(
    #[values("grpc-v1", "grpc-v1alpha")] version: &'static str,
) -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    let curl = Curl::new(&server, version).await?;
    let version = version.replace("grpc-", "");
    let service = format!("grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
    let services = curl.one(&service, json!({"list_services": ""})).await?;
    let services = services["listServicesResponse"]["service"]
        .as_array()
        .context("no list")?;
    assert_eq!(services.len(), 8);
    Ok(())
}

#[hangar_tests::test]
async fn a_watch_is_printed_as_it_goes() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    let curl = Curl::new(&server, "grpc-v1").await?;
    let mut command = curl.command();
    command.args(["--data", "{}"]).stdout(Stdio::piped());
    let mut child = command
        .arg(format!("{}/hangar.v1.ModelService/WatchStatus", curl.url))
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let mut until = async |wanted: &str| -> Result<()> {
        while let Some(line) = timeout(DEADLINE, lines.next_line()).await?? {
            if line.contains(wanted) {
                return Ok(());
            }
        }
        anyhow::bail!("the output ended before {wanted}")
    };
    until("\"complete\": true").await?;
    server.ready().await?;
    until("\"state\": \"MODEL_STATE_READY\"").await?;
    // With the server the watch ends, and with it the command.
    server.terminate().await?;
    until("\"state\": \"MODEL_STATE_READY\"")
        .await
        .err()
        .context("it goes on")?;
    let status = timeout(DEADLINE, child.wait()).await??;
    assert!(!status.success());
    Ok(())
}

#[hangar_tests::test]
async fn errors_carry_their_details() -> Result<()> {
    const INFO: &str = "google.rpc.ErrorInfo";
    let server = TestServer::scripted()
        .script(&Script::default())
        .start()
        .await?;
    let curl = Curl::new(&server, "grpc-v1").await?;
    let unknown = json!({"model_id": "nope"});
    let method = "hangar.v1.ModelService/GetInfo";
    let types = [INFO, "google.rpc.ResourceInfo"];
    curl.refused(method, unknown, "not_found", "MODEL_NOT_FOUND", &types)
        .await?;
    let method = "hangar.v1.ModelService/LoadModel";
    let types = [INFO, "google.rpc.BadRequest"];
    curl.refused(
        method,
        json!({}),
        "invalid_argument",
        "INVALID_FIELD",
        &types,
    )
    .await?;
    let method = "hangar.v1.ModelService/LoadModel";
    let source = json!({"demo": {}});
    let later = json!({
        "model_id": "later", "spec": {"source": source, "kind": "MODEL_KIND_IMAGE"},
    });
    curl.refused(method, later, "unimplemented", "NOT_IMPLEMENTED", &[INFO])
        .await?;
    let method = "grpc.health.v1.Health/Check";
    let service = json!({"service": "nope"});
    curl.refused(
        method,
        service,
        "not_found",
        "NAME_NOT_FOUND",
        &[INFO, "google.rpc.ResourceInfo"],
    )
    .await
}

#[hangar_tests::test]
async fn reflection_can_be_turned_off() -> Result<()> {
    let server = TestServer::scripted()
        .script(&Script::default())
        .env("HANGAR_REFLECTION", "false")
        .start()
        .await?;
    let curl = Curl::new(&server, "grpc-v1").await?;
    let output = curl
        .command()
        .arg("--list-services")
        .arg(&curl.url)
        .output();
    let output = timeout(DEADLINE, output).await??;
    assert!(!output.status.success());
    // The API itself is there.
    server.ready().await?;
    Ok(())
}
