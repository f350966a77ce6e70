//! Generates the stubs and descriptor sets of the client and of the worker's protocol from the protos, without protoc.
//!
//! The output is committed, so that nobody who builds Hangar needs a protobuf compiler; the test
//! `generated_code` regenerates it in memory and compares. [`write()`] brings it up to date. Parts of the documentation
//! are held against the code in the same way: [`pages`].

#[cfg(test)]
mod modules;
pub mod pages;
#[cfg(test)]
mod recipes;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod style;

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context, Result};
use prost::Message;
use prost_types::{FileDescriptorSet, source_code_info::Location};
use protox::Compiler;
use tonic_prost_build::Builder;

/// Where generated files live, and nothing else, from the workspace's root.
pub const OUTPUTS: [&str; 2] = [CLIENT, WORKER_PROTOCOL];

const CLIENT: &str = "client/src/gen";

const WORKER_PROTOCOL: &str = "server/worker-protocol/src/gen";

/// Files of the public API, from `proto/`.
const PUBLIC: &[&str] = &[
    "hangar/v1/catalog_service.proto",
    "hangar/v1/error_reason.proto",
    "hangar/v1/inference_service.proto",
    "hangar/v1/model.proto",
    "hangar/v1/model_service.proto",
    "hangar/v1/session_service.proto",
];

/// Files of the Open Inference Protocol, from `proto/`.
const OPEN_INFERENCE: &[&str] = &[
    "inference/grpc_service.proto",
    "inference/model_config.proto",
];

/// Files between the server and its workers.
const PRIVATE: &[&str] = &["hangar/worker/v1/worker_service.proto"];

/// Messages with the id of a session, which `client/src/redacted.rs` shows without it.
const SECRET: &[&str] = &[
    ".hangar.v1.CloseSessionRequest",
    ".hangar.v1.GetSessionRequest",
    ".hangar.v1.KeepAliveRequest",
    ".hangar.v1.LoadModelRequest",
    ".hangar.v1.Session",
    ".hangar.v1.UnloadModelRequest",
];

/// Where protos lie, from the workspace's root: the public ones, the private ones, and Google's.
const ROOTS: &[&str] = &[
    "proto",
    "server/worker-protocol/proto",
    "third_party/googleapis",
];

/// Root of the workspace: of the one that Cargo runs in, since several checkouts may share a build folder.
pub fn workspace() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR");
    let package = package.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let package = PathBuf::from(package);
    let root = package.ancestors().find(|it| it.join("buf.yaml").exists());
    root.unwrap_or(&package).to_path_buf()
}

/// Generates everything in memory: path from the workspace's root to content.
///
/// # Errors
///
/// When a proto does not compile.
pub fn generate() -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for (name, protos) in [("hangar.v1.bin", PUBLIC), ("inference.bin", OPEN_INFERENCE)] {
        let set = descriptor_set(&compile(protos)?);
        files.insert(format!("{CLIENT}/{name}"), set.encode_to_vec());
    }
    let public = [PUBLIC, OPEN_INFERENCE].concat();
    // The server halves of the published stubs are for whoever asks for them.
    let client =
        tonic_prost_build::configure().server_mod_attribute(".", "#[cfg(feature = \"server\")]");
    files.extend(stubs(client, &public, &["hangar.v1", "inference"], CLIENT)?);
    let private = tonic_prost_build::configure().extern_path(".hangar.v1", "::hangar_client::v1");
    files.extend(stubs(
        private,
        PRIVATE,
        &["hangar.worker.v1"],
        WORKER_PROTOCOL,
    )?);
    Ok(files)
}

/// Writes what [`generate()`] gives, and deletes what it does not.
///
/// # Errors
///
/// When a proto does not compile or a file cannot be written.
pub fn write() -> Result<()> {
    let files = generate()?;
    for output in OUTPUTS.map(|output| workspace().join(output)) {
        if output.exists() {
            std::fs::remove_dir_all(&output)?;
        }
        std::fs::create_dir_all(&output)?;
    }
    for (path, content) in files {
        std::fs::write(workspace().join(path), content)?;
    }
    Ok(())
}

fn compile(files: &[&str]) -> Result<FileDescriptorSet> {
    let workspace = workspace();
    let roots = ROOTS.iter().map(|root| workspace.join(root));
    let mut compiler = Compiler::new(roots)?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(files).context("compiling the protos")?;
    Ok(compiler.file_descriptor_set())
}

/// The set that reflection serves. Of where things stand in the source nothing is kept but the comments of our own
/// files and those of the Open Inference Protocol, so that tools that describe the API show what it means.
fn descriptor_set(set: &FileDescriptorSet) -> FileDescriptorSet {
    let mut set = set.clone();
    for file in &mut set.file {
        if file.name().starts_with("google/") {
            file.source_code_info = None;
        }
        if let Some(source) = &mut file.source_code_info {
            source.location.retain(is_commented);
            for location in &mut source.location {
                location.leading_detached_comments.clear();
            }
        }
    }
    set
}

fn is_commented(location: &Location) -> bool {
    location.leading_comments.is_some() || location.trailing_comments.is_some()
}

/// The stubs that `protos` make of these packages, for the folder `output`.
fn stubs(
    builder: Builder,
    protos: &[&str],
    packages: &[&str],
    output: &str,
) -> Result<BTreeMap<String, Vec<u8>>> {
    let out = tempfile::tempdir()?;
    builder
        .out_dir(out.path())
        .build_transport(true)
        .bytes(".")
        // In the order of their keys, so that equal messages have equal bytes.
        .btree_map(".")
        .skip_debug(SECRET)
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .compile_fds(compile(protos)?)
        .context("generating the stubs")?;
    let mut files = BTreeMap::new();
    for package in packages {
        let name = format!("{package}.rs");
        let content = std::fs::read(out.path().join(&name))?;
        files.insert(format!("{output}/{name}"), content);
    }
    Ok(files)
}
